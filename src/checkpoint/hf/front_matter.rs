//! The front matter of a model card: YAML between two lines of dashes, whose keys are those of the Hugging Face hub.
//!
//! It is read as text of strangers is: what cannot be read is not known. Every text is written as a JSON string, which YAML has too.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use serde_json::Value;

use crate::checkpoint::hub_id::HubId;
use crate::checkpoint::lineage::{BaseModel, License, Lineage, Relation};

/// The line before it and behind it.
const FENCE: &str = "---";
/// The hub's licence for those that it has no name for.
const OTHER: &str = "other";
/// What is known of base models beside their names on the hub: a key of our own.
const DETAILS: &str = "criadero";
/// The parts of a base model, in the order in which they are written.
const PARTS: [&str; 4] = ["name", "organization", "version", "repo_url"];

/// What a model card says in its front matter; nothing where there is none.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn read(text: &str) -> Result<Lineage, String> {
    let Some(yaml) = between_fences(text) else { return Ok(Lineage::default()) };
    // Front matter has no aliases; what others make of them grows beyond the file. Scores that are no number are not looked at.
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true, // Norwegian is `no`
        reject_non_finite_typeless_float: false,
        budget: serde_saphyr::budget! { max_aliases: 0 },
    };
    let value: Value = serde_saphyr::from_str_with_options(&yaml, options)
        .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_string())?;
    let texts = |key: &str| texts(value.get(key));
    let text = |key: &str| texts(key).into_iter().next();
    let ids = texts("license");
    let license = License { name: text("license_name"), link: text("license_link"), ids };
    let mut bases: Vec<BaseModel> =
        texts("base_model").iter().filter_map(|id| HubId::parse(id)).map(|id| BaseModel::of_hub(&id)).collect();
    let details = value.get(DETAILS).and_then(|own| own.get("base_model")).and_then(Value::as_array);
    for detailed in details.into_iter().flatten().map(base_model).filter(|base| !base.is_unknown()) {
        match bases.iter_mut().find(|base| base.repo_url == detailed.repo_url) {
            Some(base) => *base = detailed,
            // One on the hub that is not among them was taken away by hand.
            None if detailed.hub_id().is_some() => {}
            None => bases.push(detailed),
        }
    }
    Ok(Lineage {
        license: (license != License::default()).then_some(license),
        bases,
        relation: text("base_model_relation").as_deref().and_then(Relation::of_word),
        languages: texts("language"),
        is_pruned: Lineage::says_pruned(&texts("tags")),
        ..Lineage::default()
    })
}

/// The lines between the first line, which is a fence, and the next one.
fn between_fences(text: &str) -> Option<String> {
    let mut lines = text.trim_start_matches('\u{feff}').lines();
    (lines.next()?.trim_end() == FENCE).then_some(())?;
    let mut yaml = String::new();
    for line in lines {
        if line.trim_end() == FENCE {
            return Some(yaml);
        }
        yaml.push_str(line);
        yaml.push('\n');
    }
    None
}

/// A text, or those of a list; of what else is there none.
fn texts(value: Option<&Value>) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(String::from);
    match value {
        Some(Value::Array(values)) => values.iter().filter_map(text).collect(),
        Some(value) => text(value).into_iter().collect(),
        None => Vec::new(),
    }
}

fn base_model(value: &Value) -> BaseModel {
    let [name, organization, version, repo_url] = PARTS.map(|part| texts(value.get(part)).into_iter().next());
    BaseModel { name, organization, version, repo_url }
}

/// The front matter of a model's card, fences and all.
pub(super) fn write(lineage: &Lineage) -> String {
    let Lineage { license, bases, relation, languages, .. } = lineage;
    let mut yaml = Yaml(format!("{FENCE}\n"));
    if let Some(license) = license {
        let License { ids, name, link } = on_hub(license);
        yaml.texts("license", &ids);
        yaml.texts("license_name", name.as_slice());
        yaml.texts("license_link", link.as_slice());
    }
    let ids: Vec<String> = bases.iter().filter_map(BaseModel::hub_id).map(|id| id.as_str().to_string()).collect();
    yaml.texts("base_model", &ids);
    if let Some(relation) = relation.filter(|_| !ids.is_empty()) {
        yaml.texts("base_model_relation", &[relation.word()]);
    }
    yaml.texts("language", languages);
    yaml.texts("library_name", &["transformers"]);
    yaml.texts("pipeline_tag", &["text-generation"]);
    yaml.list("tags", &lineage.tags());
    let is_more = |base: &&BaseModel| base.hub_id().is_none_or(|id| BaseModel::of_hub(&id) != **base);
    yaml.details(&bases.iter().filter(is_more).collect::<Vec<_>>());
    yaml.0 + FENCE + "\n"
}

/// A licence in the hub's words: its identifiers have no capitals and are no expressions.
fn on_hub(license: &License) -> License {
    let is_id = |id: &String| id.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
    if license.ids.iter().all(is_id) {
        return License { ids: license.ids.iter().map(|id| id.to_ascii_lowercase()).collect(), ..license.clone() };
    }
    let name = license.name.clone().unwrap_or_else(|| license.ids.join(", "));
    License { ids: vec![OTHER.into()], name: Some(name), link: license.link.clone() }
}

/// Lines of YAML.
struct Yaml(String);

impl Yaml {
    /// A key with its text, or a list where it has several; no line where it has none.
    fn texts<T: AsRef<str>>(&mut self, key: &str, texts: &[T]) {
        match texts {
            [] => {}
            [one] => self.0 += &format!("{key}: {}\n", quoted(one.as_ref())),
            many => self.list(key, many),
        }
    }

    fn list<T: AsRef<str>>(&mut self, key: &str, texts: &[T]) {
        self.0 += &format!("{key}:\n");
        texts.iter().for_each(|text| self.0 += &format!("- {}\n", quoted(text.as_ref())));
    }

    /// What is known of base models beside their names on the hub.
    fn details(&mut self, bases: &[&BaseModel]) {
        if bases.is_empty() {
            return;
        }
        self.0 += &format!("{DETAILS}:\n  base_model:\n");
        for BaseModel { name, organization, version, repo_url } in bases {
            let parts = PARTS.into_iter().zip([name, organization, version, repo_url]);
            let known = parts.filter_map(|(part, text)| Some(format!("{part}: {}", quoted(text.as_ref()?))));
            self.0 += &format!("  - {}\n", known.collect::<Vec<_>>().join("\n    "));
        }
    }
}

/// A text as a string of JSON, in which nothing is left that YAML takes for the end of a line or does not print.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                quoted += &format!("\\u{:04x}", u32::from(c));
            }
            c if c.is_control() => quoted += &format!("\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A card as people write them.
    const CARD: &str = "---\r
license: other\r
license_name: llama3.2
license_link: https://example.org/LICENSE
base_model:
- org/Tiny-1b  # the first
- 'no name of the hub'
language: [en, no]
tags: [text-generation, pruned]
base_model_relation: finetune
model-index:
- name: tiny
  results: [{metrics: [{value: .nan}]}]
1: 2
---
# Tiny
---
license: mit
";

    #[test]
    fn reads_what_people_write() {
        let read = read(CARD).unwrap();
        let license = License {
            ids: vec!["other".into()],
            name: Some("llama3.2".into()),
            link: Some("https://example.org/LICENSE".into()),
        };
        assert_eq!(read.license, Some(license));
        assert_eq!(read.parents(), ["org/Tiny-1b"]);
        assert_eq!((read.relation, read.is_pruned), (Some(Relation::Finetune), true));
        assert_eq!(read.languages, ["en", "no"]);
    }

    #[test]
    fn what_is_not_said_is_not_known() {
        for text in ["", "# A card\n", "---\nlicense: mit\n", "text\n---\nlicense: mit\n---\n", "---\n---\n"] {
            assert_eq!(read(text), Ok(Lineage::default()), "{text:?}");
        }
        let odd = "---\nlicense: 3\nbase_model: {a: b}\nlanguage: [1, [x]]\ntags: true\ncriadero: [x]\n---\n";
        assert_eq!(read(odd), Ok(Lineage::default()));
    }

    #[test]
    fn rejects_what_is_no_front_matter() {
        let deep = format!("---\na: {}1{}\n---\n", "[".repeat(5000), "]".repeat(5000));
        let aliases = "---\na: &a [x]\nbase_model: [*a, *a]\n---\n";
        for text in ["---\na: [\n---\n", "---\n\t- x: y: z\n---\n", "---\na: 1\na: 2\n---\n", aliases, &deep] {
            let reason = read(text).unwrap_err();
            assert!(!reason.is_empty() && !reason.contains('\n'), "{reason}");
        }
    }

    #[test]
    fn writes_what_the_hub_reads_and_nothing_that_is_not_known() {
        let tags = "library_name: \"transformers\"\npipeline_tag: \"text-generation\"\ntags:\n- \"criadero\"\n";
        assert_eq!(write(&Lineage::default()), format!("---\n{tags}---\n"));
        let hub = BaseModel::of_hub(&HubId::parse("org/Tiny-1b").unwrap());
        let own = BaseModel {
            name: Some("Tiny: \"one\"\n---\nlicense: mit".into()),
            organization: Some("Org".into()),
            ..BaseModel::default()
        };
        let license = License { ids: vec!["Apache-2.0".into()], ..License::default() };
        let lineage = Lineage {
            license: Some(license),
            bases: vec![hub, own],
            relation: Some(Relation::Quantized),
            languages: vec!["en".into(), "no".into()],
            ..Lineage::default()
        };
        let expected = format!(
            "---\nlicense: \"apache-2.0\"\nbase_model: \"org/Tiny-1b\"\nbase_model_relation: \"quantized\"\n\
             language:\n- \"en\"\n- \"no\"\n{tags}criadero:\n  base_model:\n  \
             - name: \"Tiny: \\\"one\\\"\\u000a---\\u000alicense: mit\"\n    organization: \"Org\"\n---\n"
        );
        assert_eq!(write(&lineage), expected);
        let license = License { ids: vec!["apache-2.0".into()], ..License::default() };
        assert_eq!(read(&expected), Ok(Lineage { license: Some(license), ..lineage }));
    }

    #[test]
    fn a_licence_that_the_hub_has_no_word_for_keeps_its_name() {
        let license = License { ids: vec!["MIT OR Apache-2.0".into()], ..License::default() };
        let text = write(&Lineage { license: Some(license), ..Lineage::default() });
        assert!(text.contains("license: \"other\"\nlicense_name: \"MIT OR Apache-2.0\"\n"), "{text}");
    }

    #[test]
    fn a_base_model_that_was_changed_by_hand_is_the_changed_one() {
        let version = BaseModel { version: Some("2".into()), ..BaseModel::of_hub(&HubId::parse("org/one").unwrap()) };
        let text = write(&Lineage { bases: vec![version.clone()], ..Lineage::default() });
        assert_eq!(read(&text).unwrap().bases, [version]);
        let changed = text.replace("base_model: \"org/one\"", "base_model: org/two");
        assert_eq!(read(&changed).unwrap().parents(), ["org/two"]);
    }

    proptest! {
        #[test]
        fn any_text_comes_back_as_it_was_written(texts in prop::collection::vec("\\PC|\\s|.|[\\x00-\\x1f\u{2028}\u{feff}\"\\\\]+", 1..4)) {
            let texts: Vec<String> =
                texts.into_iter().map(|text| text.trim().to_string()).filter(|text| !text.is_empty()).collect();
            let lineage = Lineage { languages: texts, ..Lineage::default() };
            prop_assert_eq!(read(&write(&lineage)).map(|read| read.languages), Ok(lineage.languages));
        }
    }
}
