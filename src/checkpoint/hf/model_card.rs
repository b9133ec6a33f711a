//! `README.md`: a directory's model card, as the Hugging Face hub shows it, and what lies in the directory for its sake.
//!
//! Its last line has a checksum of it and of each such file: what people changed since is theirs, and not replaced unasked.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::config_writer::class_of;
use super::directory::MODEL_CARD_FILE;
use super::front_matter;
use crate::checkpoint::config::LlamaConfig;
use crate::checkpoint::lineage::Lineage;
use crate::error::Result;
use crate::markdown::{code, code_block};
use crate::output::{self, StagedDirectory};
use crate::space::Cost;

/// What the last line begins and ends with.
const SEAL: [&str; 2] = ["<!-- as criadero wrote it: ", " -->\n"];
/// Hexadecimal digits of a checksum.
const DIGITS: usize = 16;

/// What is told of a checkpoint beside its weights.
pub struct ModelCard {
    /// Where it comes from.
    pub lineage: Lineage,
    /// Its heading, in Markdown.
    pub title: String,
    /// What it is and how it was made, in Markdown.
    pub about: String,
    /// What it scored, in Markdown; may be nothing.
    pub results: String,
    /// The pictures in that, by the names of their files.
    pub pictures: BTreeMap<String, Vec<u8>>,
}

impl ModelCard {
    /// Of a checkpoint whose weights were changed, `change` says in a word how; `about` tells it in sentences.
    pub fn of_changed(lineage: Lineage, config: &LlamaConfig, change: &str, about: &str) -> ModelCard {
        let of = match lineage.parents().as_slice() {
            [] => "A checkpoint".to_string(),
            parents => parents.iter().map(|name| code(name)).collect::<Vec<_>>().join(", "),
        };
        let params = Cost::of(&config.shape, &config.genome).params;
        let network = format!("Its genome is {}, its parameters {params}.", code(&config.genome.to_string()));
        let (title, about) = (format!("{of}, {change}"), format!("{about}\n\n{network}\n"));
        ModelCard { lineage, title, about, results: String::new(), pictures: BTreeMap::new() }
    }

    /// Writes the card of a checkpoint of this configuration into its directory, with what the lineage has beside it.
    ///
    /// # Errors
    /// `Io`.
    pub fn write_into(&self, staged: &StagedDirectory, config: &LlamaConfig) -> Result<()> {
        let beside: BTreeMap<&String, &Vec<u8>> = self.lineage.notices.iter().chain(&self.pictures).collect();
        for (name, bytes) in &beside {
            output::write(&staged.path().join(name), bytes)?;
        }
        output::write(&staged.path().join(MODEL_CARD_FILE), sealed(&self.text(config), &beside))
    }

    fn text(&self, config: &LlamaConfig) -> String {
        let ModelCard { lineage, title, about, results, .. } = self;
        let (_, alike) = class_of(config);
        let mut sections = vec![front_matter::write(lineage), format!("# {title}\n"), about.clone(), loading(alike)];
        sections.extend((!results.is_empty()).then(|| results.clone()));
        sections.join("\n")
    }
}

/// How transformers loads it.
fn loading(alike: bool) -> String {
    let (argument, why) = match alike {
        true => ("", ""),
        false => (
            ", trust_remote_code=True",
            "Its layers differ in size, which no class of transformers has: the code is `modeling_criadero.py` beside the weights.\n\n",
        ),
    };
    let snippet = format!(
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
         path = \".\"  # this directory, or the repository that it was uploaded to\n\
         tokenizer = AutoTokenizer.from_pretrained(path)\n\
         model = AutoModelForCausalLM.from_pretrained(path, dtype=\"auto\"{argument})\n\
         inputs = tokenizer(\"Once upon a time\", return_tensors=\"pt\")\n\
         print(tokenizer.decode(model.generate(**inputs, max_new_tokens=40)[0]))"
    );
    format!("## Use\n\n{why}{}", code_block("python", &snippet))
}

/// A card's text with its last line.
fn sealed(text: &str, beside: &BTreeMap<&String, &Vec<u8>>) -> String {
    let text = format!("{}\n\n", text.trim_end());
    let card = format!("{MODEL_CARD_FILE} {}", checksum(text.as_bytes()));
    let others = beside.iter().map(|(name, bytes)| format!("{name} {}", checksum(bytes)));
    let all = std::iter::once(card).chain(others).collect::<Vec<_>>().join(", ");
    let [before, behind] = SEAL;
    format!("{text}{before}{all}{behind}")
}

fn checksum(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().chars().take(DIGITS).collect()
}

/// Whether a file of a directory is its model card, or what lies there for its sake, as they were written.
pub(super) fn is_as_written(path: &Path) -> bool {
    let Some((dir, name)) = path.parent().zip(path.file_name().and_then(|name| name.to_str())) else { return false };
    let Ok(card) = fs::read_to_string(dir.join(MODEL_CARD_FILE)) else { return false };
    let [before, behind] = SEAL;
    let Some((text, seal)) = card.strip_suffix(behind).and_then(|card| card.rsplit_once(before)) else { return false };
    let expected = |name: &str| seal.split(", ").find_map(|entry| entry.strip_prefix(name)?.strip_prefix(' '));
    let is = |name: &str, bytes: &[u8]| expected(name).is_some_and(|expected| expected == checksum(bytes));
    is(MODEL_CARD_FILE, text.as_bytes())
        && (name == MODEL_CARD_FILE || fs::read(path).is_ok_and(|bytes| is(name, &bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::config::tests::small;
    use crate::output::Output;

    fn card() -> ModelCard {
        let notices = BTreeMap::from([("LICENSE".to_string(), b"all of it".to_vec())]);
        let lineage = Lineage { notices, ..Lineage::default() };
        let pictures = BTreeMap::from([("front.png".to_string(), vec![1, 2, 3])]);
        let results = "![The front](front.png)\n".into();
        ModelCard { pictures, results, ..ModelCard::of_changed(lineage, &small(), "changed", "It was changed.") }
    }

    #[test]
    fn a_card_says_what_it_is_and_how_it_is_loaded() {
        let text = card().text(&small());
        for part in [
            "---\n\n# A checkpoint, changed\n\nIt was changed.\n\nIts genome is `6x64*3`,",
            "\n\n## Use\n\n```python\n",
            "```\n\n![The front]",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("trust_remote_code"), "{text}");
        let differing = card().text(&small().with_genome("6x64:3x32:6x64".parse().unwrap()));
        assert!(differing.contains("trust_remote_code=True") && differing.contains("modeling_criadero.py"));
    }

    #[test]
    fn what_people_changed_is_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let staged = Output::of("export").directory(&out, |_| false).unwrap();
        card().write_into(&staged, &small()).unwrap();
        staged.publish().unwrap();
        let ours = || ["README.md", "LICENSE", "front.png", "NOTICE"].map(|name| is_as_written(&out.join(name)));
        assert_eq!(ours(), [true, true, true, false]);
        fs::write(out.join("NOTICE"), "mine").unwrap();
        fs::write(out.join("front.png"), [1, 2]).unwrap();
        assert_eq!(ours(), [true, true, false, false]);
        let text = fs::read_to_string(out.join("README.md")).unwrap();
        fs::write(out.join("README.md"), text.replace("changed", "bettered")).unwrap();
        assert_eq!(ours(), [false; 4]);
        fs::write(out.join("README.md"), format!("{text}More of mine.\n")).unwrap();
        assert_eq!(ours(), [false; 4]);
        fs::write(out.join("README.md"), &text).unwrap();
        assert_eq!(ours(), [true, true, false, false]);
    }
}
