//! How text is cut before byte-level BPE: llama.cpp's names and the steps of `tokenizer.json` that cut alike.

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// How text is cut before byte-level BPE, by the names llama.cpp gives in `tokenizer.ggml.pre`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PreTokenizer {
    Gpt2,
    Smollm,
    Llama3,
    /// What llama.cpp does with files that name none.
    Default,
}

/// Names in files, the one we write first among equals.
const PRE_NAMES: [(&str, PreTokenizer); 7] = [
    ("gpt-2", PreTokenizer::Gpt2),
    ("gpt2", PreTokenizer::Gpt2),
    ("smollm", PreTokenizer::Smollm),
    ("llama-bpe", PreTokenizer::Llama3),
    ("llama3", PreTokenizer::Llama3),
    ("llama-v3", PreTokenizer::Llama3),
    ("default", PreTokenizer::Default),
];

const GPT2_PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl PreTokenizer {
    /// The step of `tokenizer.json` that cuts alike.
    pub(crate) fn json(self) -> Value {
        let byte_level = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
        let split = |pattern: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
        let sequence = |steps: Vec<Value>| json!({ "type": "Sequence", "pretokenizers": steps });
        match self {
            PreTokenizer::Gpt2 => byte_level(true),
            PreTokenizer::Smollm => {
                sequence(vec![json!({ "type": "Digits", "individual_digits": true }), byte_level(true)])
            }
            PreTokenizer::Llama3 => sequence(vec![split(LLAMA3_PATTERN), byte_level(false)]),
            PreTokenizer::Default => sequence(vec![
                split(r"[\p{P}\$\+<=>\^~\|]+"),
                split(GPT2_PATTERN),
                split(r"\p{N}+"),
                split("[0-9][0-9][0-9]"),
                byte_level(false),
            ]),
        }
    }

    /// LLaMA 3 takes a whole word that is a token, whatever its merges say, and begins texts with BOS.
    pub(crate) fn is_llama3(self) -> bool {
        self == PreTokenizer::Llama3
    }

    /// The one that llama.cpp knows by this name.
    pub(crate) fn named(name: &str) -> Result<PreTokenizer> {
        let known = PRE_NAMES.iter().find(|(known, _)| *known == name);
        known
            .map(|&(_, kind)| kind)
            .ok_or_else(|| Error::unknown("GGUF pre-tokenizer", name, PRE_NAMES.map(|(name, _)| name)))
    }

    /// llama.cpp's name for a step of `tokenizer.json`, where it has one.
    pub(crate) fn name_of(step: &Value) -> Option<&'static str> {
        let step = without_offsets(step);
        PRE_NAMES.iter().find(|(_, kind)| without_offsets(&kind.json()) == step).map(|&(name, _)| name)
    }
}

/// A pre-tokenizer without the settings that do not change ids.
fn without_offsets(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| *name != "trim_offsets")
            .map(|(name, value)| (name.clone(), without_offsets(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(without_offsets).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_steps_by_name() {
        for (name, kind) in PRE_NAMES {
            assert_eq!(PreTokenizer::named(name).unwrap(), kind);
            let written = PreTokenizer::name_of(&kind.json()).unwrap();
            assert_eq!(PreTokenizer::named(written).unwrap(), kind);
        }
        let whitespace = json!({ "type": "Whitespace" });
        assert_eq!(PreTokenizer::name_of(&whitespace), None);
    }

    #[test]
    fn passes_over_settings_that_do_not_change_ids() {
        let mut step = PreTokenizer::Smollm.json();
        step["pretokenizers"][1]["trim_offsets"] = json!(false);
        assert_eq!(PreTokenizer::name_of(&step), Some("smollm"));
        step["pretokenizers"][0]["individual_digits"] = json!(false);
        assert_eq!(PreTokenizer::name_of(&step), None);
    }
}
