//! What a GGUF file says of where its model comes from (ggml `docs/gguf.md`, general metadata): the keys `general.*`, read and written.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use super::metadata::{Entry, Metadata};
use crate::checkpoint::lineage::{BaseModel, License, Lineage};
use crate::error::Result;

/// The key of the network's genome, by which a file is known to be written here.
pub(crate) const GENOME: &str = "criadero.genome";
/// Base models of one file; merges have a dozen.
const MOST_BASES: u32 = 1 << 10;
/// What the hub calls a model that continues text.
const TASK_TAG: &str = "text-generation";

const LICENSE: &str = "general.license";
const LICENSE_NAME: &str = "general.license.name";
const LICENSE_LINK: &str = "general.license.link";
const LANGUAGES: &str = "general.languages";
const TAGS: &str = "general.tags";
const BASE_MODELS: &str = "general.base_model.count";
/// Where a model is, and before that key was where it was converted from; the last one is of older converters.
const PLACES: [&str; 3] = ["general.repo_url", "general.source.repo_url", "general.source.huggingface.repository"];

/// What is known of a file's model: a network of it was made of the model itself where that has a name on the hub, else of what it was
/// made of, else of what it calls itself. A file that was written here was made of what it says.
pub(crate) fn lineage(metadata: &Metadata) -> Lineage {
    let mut notes = Vec::new();
    let mut known = |found: Result<Option<Vec<String>>>| match found {
        Ok(texts) => texts.unwrap_or_default(),
        Err(error) => {
            notes.push(format!("{error}; it is not known"));
            Vec::new()
        }
    };
    let mut text = |key: &str| {
        let text = known(metadata.text(key).map(|text| text.map(|text| vec![text])));
        text.into_iter().map(|text| text.trim().to_string()).find(|text| !text.is_empty())
    };
    let license =
        License { ids: text(LICENSE).into_iter().collect(), name: text(LICENSE_NAME), link: text(LICENSE_LINK) };
    let count = metadata.count(BASE_MODELS).ok().flatten().unwrap_or_default().min(MOST_BASES);
    let bases: Vec<BaseModel> =
        (0..count).map(|id| base_model(&format!("general.base_model.{id}"), &mut text)).collect();
    let bases: Vec<BaseModel> = bases.into_iter().filter(|base| !base.is_unknown()).collect();
    let mut own = base_model("general", &mut text);
    own.repo_url = PLACES.iter().find_map(|place| text(place)).map(page_of);
    let is_ours = metadata.with_prefix(GENOME).next().is_some();
    let bases = match (own.hub_id(), bases.is_empty()) {
        (Some(_), _) | (None, true) if !is_ours && !own.is_unknown() => vec![own],
        _ => bases,
    };
    let [languages, tags] = [LANGUAGES, TAGS].map(|key| known(metadata.texts(key)));
    Lineage {
        license: (license != License::default()).then_some(license),
        bases,
        languages,
        is_pruned: Lineage::says_pruned(&tags),
        notes,
        ..Lineage::default()
    }
}

/// What a file says of a model under keys that begin so.
fn base_model(prefix: &str, text: &mut impl FnMut(&str) -> Option<String>) -> BaseModel {
    let [name, organization, version, repo_url] =
        ["name", "organization", "version", "repo_url"].map(|part| text(&format!("{prefix}.{part}")));
    BaseModel { name, organization, version, repo_url }
}

/// A place as an address: older converters wrote names on the hub.
fn page_of(place: String) -> String {
    crate::checkpoint::hub_id::HubId::parse(&place).map_or(place, |id| id.page())
}

/// The pairs that say where a model of so many parameters comes from; what is not known has none.
pub(crate) fn entries(lineage: &Lineage, params: u64) -> Vec<(String, Entry)> {
    let mut entries = Vec::new();
    let mut add = |key: &str, entry: Option<Entry>| entries.extend(entry.map(|entry| (key.to_string(), entry)));
    let text = |text: &Option<String>| text.as_deref().map(Entry::string);
    if let Some(License { ids, name, link }) = &lineage.license {
        // The key has one licence or an expression; how several belong together is not known.
        if let [id] = &ids[..] {
            add(LICENSE, Some(Entry::string(id)));
        }
        add(LICENSE_NAME, text(name));
        add(LICENSE_LINK, text(link));
    }
    if !lineage.bases.is_empty() {
        add(BASE_MODELS, u32::try_from(lineage.bases.len()).ok().map(Entry::u32));
    }
    for (id, BaseModel { name, organization, version, repo_url }) in lineage.bases.iter().enumerate() {
        let parts = [("name", name), ("organization", organization), ("version", version), ("repo_url", repo_url)];
        for (part, value) in parts {
            add(&format!("general.base_model.{id}.{part}"), text(value));
        }
    }
    let languages = Some(&lineage.languages).filter(|languages| !languages.is_empty());
    add(LANGUAGES, languages.map(|languages| Entry::strings(languages)));
    add(TAGS, Some(Entry::strings(&[&lineage.tags()[..], &[TASK_TAG]].concat())));
    add("general.size_label", Some(Entry::string(&size_label(params))));
    entries
}

/// A number of parameters in two digits or more, as llama.cpp's converter writes it (gguf-py, `size_label`).
fn size_label(params: u64) -> String {
    let params = params as f64;
    let units = [(1e12, "T"), (1e9, "B"), (1e6, "M")];
    let (scaled, unit) =
        units.iter().find(|(size, _)| params > *size).map_or((params / 1e3, "K"), |(size, unit)| (params / size, unit));
    let decimals = if scaled.round() >= 10.0 { 0 } else { 1 + usize::from(scaled.round() < 1.0) };
    format!("{scaled:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::checkpoint::hub_id::HubId;

    fn metadata(entries: impl IntoIterator<Item = (impl Into<String>, Entry)>) -> Metadata {
        let mut metadata = Metadata::new(Path::new("m.gguf"));
        entries.into_iter().for_each(|(key, entry)| _ = metadata.insert(key, entry));
        metadata
    }

    fn texts(entries: &[(&str, &str)]) -> Metadata {
        metadata(entries.iter().map(|(key, text)| (*key, Entry::string(text))))
    }

    #[test]
    fn reads_what_it_wrote() {
        let license =
            License { ids: vec!["other".into()], name: Some("Own".into()), link: Some("https://example.org".into()) };
        let named = BaseModel { name: Some("Tiny".into()), version: Some("v2".into()), ..BaseModel::default() };
        let lineage = Lineage {
            license: Some(license),
            bases: vec![BaseModel::of_hub(&HubId::parse("org/Tiny-1b").unwrap()), named],
            languages: vec!["en".into()],
            is_pruned: true,
            ..Lineage::default()
        };
        let mut written = metadata(entries(&lineage, 89_670_000));
        written.insert(GENOME, Entry::string("4x128"));
        written.insert("general.name", Entry::string("small"));
        assert_eq!(super::lineage(&written), lineage);
        assert_eq!(written.text("general.base_model.0.name").unwrap().as_deref(), Some("Tiny-1b"));
        assert_eq!(written.text("general.base_model.0.organization").unwrap().as_deref(), Some("org"));
        let page = "https://huggingface.co/org/Tiny-1b";
        assert_eq!(written.text("general.base_model.0.repo_url").unwrap().as_deref(), Some(page));
        assert_eq!(written.text("general.base_model.0.version").unwrap(), None);
        assert_eq!(written.count(BASE_MODELS).unwrap(), Some(2));
        assert_eq!(written.texts(TAGS).unwrap().unwrap(), ["criadero", "pruned", "text-generation"]);
        assert_eq!(written.text("general.size_label").unwrap().as_deref(), Some("90M"));
    }

    #[test]
    fn what_is_not_known_has_no_key() {
        let written = entries(&Lineage::default(), 1000);
        let keys: Vec<&str> = written.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, [TAGS, "general.size_label"]);
        let several = License { ids: vec!["mit".into(), "apache-2.0".into()], ..License::default() };
        let written = entries(&Lineage { license: Some(several), ..Lineage::default() }, 1000);
        assert!(written.iter().all(|(key, _)| key != LICENSE));
    }

    #[test]
    fn a_network_was_made_of_the_nearest_model_that_is_on_the_hub() {
        let own = [("general.name", "Tiny 1B"), ("general.organization", "Org"), ("general.version", "v1")];
        let of = |more: &[(&str, &str)], count: u32| {
            let mut metadata = texts(&[&own[..], more].concat());
            metadata.insert(BASE_MODELS, Entry::u32(count));
            lineage(&metadata).bases
        };
        let [named] = &of(&[], 0)[..] else { panic!() };
        let found = [&named.name, &named.organization, &named.version].map(|text| text.as_deref().unwrap());
        assert_eq!(found, ["Tiny 1B", "Org", "v1"]);
        let page = "https://huggingface.co/org/first";
        let base = ("general.base_model.0.repo_url", page);
        let ids = |bases: Vec<BaseModel>| bases.iter().map(|base| base.hub_id().unwrap()).collect::<Vec<_>>();
        assert_eq!(ids(of(&[base], 1)), [HubId::parse("org/first").unwrap()]);
        let second = [HubId::parse("org/second").unwrap()];
        for place in PLACES {
            assert_eq!(ids(of(&[base, (place, &second[0].page())], 1)), second, "{place}");
        }
        assert_eq!(ids(of(&[base, ("general.source.huggingface.repository", "org/second")], 1)), second);
        // What was written here is no model of its own.
        let ours = of(&[(GENOME, "4x128"), base, ("general.repo_url", "https://huggingface.co/org/own")], 1);
        assert_eq!(ids(ours), [HubId::parse("org/first").unwrap()]);
        assert_eq!(of(&[(GENOME, "4x128")], 0), []);
    }

    #[test]
    fn values_of_another_type_are_noted_and_not_known() {
        let odd = metadata([
            (LICENSE, Entry::u32(1)),
            (LANGUAGES, Entry::i32s(&[1])),
            (BASE_MODELS, Entry::u32(u32::MAX)),
            ("general.name", Entry::string(" ")),
        ]);
        let found = lineage(&odd);
        assert!(found.notes.len() == 2 && found.notes[0].contains(LICENSE), "{:?}", found.notes);
        assert_eq!(found, Lineage { notes: found.notes.clone(), ..Lineage::default() });
    }

    /// Of gguf-py 0.19, `gguf.size_label(params, 0, 0, 0)`.
    #[test]
    fn sizes_are_labelled_as_the_converter_does() {
        for (params, label) in [
            (134_515_008, "135M"),
            (6_738_415_616, "6.7B"),
            (1_235_814_400, "1.2B"),
            (9_960_000, "10M"),
            (404_544, "405K"),
            (999_600_000, "1000M"),
            (2_000_000_000_000, "2.0T"),
            (1_500, "1.5K"),
            (400, "0.40K"),
        ] {
            assert_eq!(size_label(params), label, "{params}");
        }
    }
}
