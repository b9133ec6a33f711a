//! What whoever publishes a network of a model must hand on: its licence, and what it was made of.

use std::collections::BTreeMap;

use super::config::LlamaConfig;
use super::hub_id::HubId;
use crate::space::Genome;

/// What every checkpoint of ours is found by.
const TAG: &str = "criadero";
/// What a network is found by that lacks something of its parent.
const PRUNED: &str = "pruned";

/// Where a model comes from, as far as its files say it. What they do not say is left open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// Its licence.
    pub license: Option<License>,
    /// The models it was made of: the nearest that are known.
    pub bases: Vec<BaseModel>,
    /// How it was made of them, where the hub has a word for it.
    pub relation: Option<Relation>,
    /// Codes of the languages it speaks.
    pub languages: Vec<String>,
    /// Whether it lacks something of them.
    pub is_pruned: bool,
    /// Licences and notices that lie beside it, by name.
    pub notices: BTreeMap<String, Vec<u8>>,
    /// What its files say and cannot be read.
    pub notes: Vec<String>,
}

/// A licence as a model's author names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct License {
    /// An SPDX identifier or expression, or what the hub has for one, such as `llama3.2` and `other`; several where several are given.
    pub ids: Vec<String>,
    /// What people call it.
    pub name: Option<String>,
    /// Where it is.
    pub link: Option<String>,
}

/// A model that another one was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseModel {
    /// What it is called.
    pub name: Option<String>,
    /// Who made it.
    pub organization: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Where it is.
    pub repo_url: Option<String>,
}

/// How a model was made of another one, in the hub's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Trained on.
    Finetune,
    /// Stored in fewer bits.
    Quantized,
}

impl Relation {
    /// All of them in their order, and the hub's words.
    const WORDS: [(Relation, &str); 2] = [(Relation::Finetune, "finetune"), (Relation::Quantized, "quantized")];

    /// The hub's word.
    pub(super) fn word(self) -> &'static str {
        Relation::WORDS[self as usize].1
    }

    /// What a word of the hub's means; nothing where that is nothing that is made here.
    pub(super) fn of_word(word: &str) -> Option<Relation> {
        Relation::WORDS.iter().find(|(_, known)| *known == word).map(|(relation, _)| *relation)
    }
}

impl BaseModel {
    /// A model on the hub.
    pub(super) fn of_hub(id: &HubId) -> BaseModel {
        let (organization, name) = id.parts();
        let [name, organization, repo_url] = [name, organization, &id.page()].map(|text| Some(text.to_string()));
        BaseModel { name, organization, repo_url, version: None }
    }

    /// Its name on the hub, where it has one.
    pub(super) fn hub_id(&self) -> Option<HubId> {
        HubId::of_page(self.repo_url.as_deref()?)
    }

    /// Whether nothing is known of it.
    pub(super) fn is_unknown(&self) -> bool {
        *self == BaseModel::default()
    }

    /// What people call it: its name on the hub, else its own.
    fn called(&self) -> Option<String> {
        self.hub_id().map(|id| id.as_str().to_string()).or_else(|| self.name.clone())
    }
}

impl Lineage {
    /// What the models that it was made of are called.
    pub fn parents(&self) -> Vec<String> {
        self.bases.iter().filter_map(BaseModel::called).collect()
    }

    /// That of a network which this genome cuts from the model.
    pub fn of_network(self, config: &LlamaConfig, genome: &Genome) -> Lineage {
        let pruned = genome.unquantized() != config.genome.unquantized();
        let relation = match self.relation {
            Some(Relation::Finetune) => Some(Relation::Finetune),
            // The hub has no word for it.
            _ if pruned || self.is_pruned => None,
            _ if genome.is_quantized() => Some(Relation::Quantized),
            other => other,
        };
        Lineage { relation, is_pruned: self.is_pruned || pruned, ..self }
    }

    /// That of the model once it was trained on.
    pub fn trained(self) -> Lineage {
        Lineage { relation: Some(Relation::Finetune), ..self }
    }

    /// The words it is found by.
    pub(super) fn tags(&self) -> Vec<&'static str> {
        [Some(TAG), self.is_pruned.then_some(PRUNED)].into_iter().flatten().collect()
    }

    /// Whether words that a model is found by say that it lacks something.
    pub(super) fn says_pruned(tags: &[String]) -> bool {
        tags.iter().any(|tag| tag == PRUNED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::config::tests::small;

    #[test]
    fn a_network_is_related_as_far_as_the_hub_has_a_word_for_it() {
        let config = small();
        let whole = config.genome.clone();
        let of = |lineage: &Lineage, genome: &str| {
            let child = lineage.clone().of_network(&config, &genome.parse().unwrap());
            (child.relation.map(Relation::word), child.tags())
        };
        let parent = Lineage::default();
        assert_eq!(of(&parent, &whole.to_string()), (None, vec!["criadero"]));
        assert_eq!(of(&parent, "6x64:3x32:6x64"), (None, vec!["criadero", "pruned"]));
        assert_eq!(of(&parent, "6x64@8*3"), (Some("quantized"), vec!["criadero"]));
        assert_eq!(of(&parent, "6x64@8*2:-"), (None, vec!["criadero", "pruned"]));
        assert_eq!(of(&parent.trained(), "6x64@8*2:-"), (Some("finetune"), vec!["criadero", "pruned"]));
        let pruned = Lineage { is_pruned: true, ..Lineage::default() };
        assert_eq!(of(&pruned, &whole.to_string()), (None, vec!["criadero", "pruned"]), "a pruned one's own networks");
        assert_eq!(of(&pruned, "6x64@8*3").0, None);
    }

    #[test]
    fn the_words_of_the_hub_are_read_as_they_are_written() {
        for (relation, word) in Relation::WORDS {
            assert_eq!((relation.word(), Relation::of_word(word)), (word, Some(relation)));
        }
        assert_eq!(Relation::of_word("adapter"), None);
    }

    #[test]
    fn a_model_is_called_by_its_name_on_the_hub_or_its_own() {
        let hub = BaseModel::of_hub(&HubId::parse("org/tiny").unwrap());
        let named = BaseModel { name: Some("Tiny".into()), ..BaseModel::default() };
        let elsewhere = BaseModel { repo_url: Some("https://example.org/tiny".into()), ..named.clone() };
        let lineage = Lineage { bases: vec![hub, named, elsewhere, BaseModel::default()], ..Lineage::default() };
        assert_eq!(lineage.parents(), ["org/tiny", "Tiny", "Tiny"]);
    }
}
