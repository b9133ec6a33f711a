//! What transformers' tokenizer classes make of `tokenizer.json`. Several classes of transformers 5 take its vocabulary and merges
//! alone and cut text by steps of their own, where transformers 4 followed the file. The model was trained on the file's, so the
//! file counts; where the class would cut otherwise, a note says so.

use serde_json::{Value, json};

use super::config::TokenizerConfig;
use crate::checkpoint::family::Family;
use crate::checkpoint::gguf::pre_tokenizer::PreTokenizer;

/// Classes that follow the file.
const FOLLOWING: [&str; 4] = ["", "PreTrainedTokenizer", "TokenizersBackend", "LlamaTokenizer"];

/// Classes that cut text by steps of their own, by llama.cpp's name of those steps.
const MAKING: [(&str, &str); 4] = [
    ("GPT2Tokenizer", "gpt-2"),
    ("Qwen2Tokenizer", "qwen2"),
    ("GPTNeoXTokenizer", "olmo"),
    ("CohereTokenizer", "command-r"),
];

/// The class that transformers would take: the settings' own, or that of the model's family.
fn class_of(settings: &TokenizerConfig, family: Family) -> &str {
    let by_family = match family {
        Family::Qwen2 | Family::Qwen3 => "Qwen2Tokenizer",
        Family::Llama | Family::Mistral => "",
    };
    settings.tokenizer_class.as_deref().unwrap_or(by_family).trim_end_matches("Fast")
}

/// Changes a `tokenizer.json` as every version of transformers does: no merges are dropped by chance outside training, and the
/// settings' `add_prefix_space` counts for byte-level classes. What users should know of that, and of what is not followed.
pub(super) fn apply(tokenizer: &mut Value, settings: &TokenizerConfig, family: Family) -> Vec<String> {
    let mut notes = Vec::new();
    let class = class_of(settings, family);
    if tokenizer["model"]["dropout"].as_f64().is_some_and(|dropout| dropout > 0.0) {
        tokenizer["model"]["dropout"] = Value::Null;
        notes.push(
            "the tokenizer's dropout of merges is for training: it is left out, so that equal texts have equal tokens"
                .into(),
        );
    }
    let known = MAKING.iter().find(|(known, _)| *known == class);
    let prefix = settings.add_prefix_space.filter(|_| known.is_some());
    if let Some(prefix) = prefix
        && set_prefix_space(&mut tokenizer["pre_tokenizer"], prefix)
    {
        notes.push(format!(
            "add_prefix_space of the settings is {prefix} and of tokenizer.json {}: the settings count",
            !prefix
        ));
    }
    let row = known.and_then(|(_, name)| PreTokenizer::named(name).ok());
    let unlike = match row {
        None => !FOLLOWING.contains(&class),
        Some(row) => {
            let mut expected = json!({ "pre_tokenizer": row.json(), "normalizer": row.normalizer() });
            set_prefix_space(&mut expected["pre_tokenizer"], prefix.unwrap_or(false));
            let ignores = tokenizer["model"]["ignore_merges"] == true;
            let parts = ["pre_tokenizer", "normalizer"];
            let same = |&part: &&str| without_offsets(&tokenizer[part]) == without_offsets(&expected[part]);
            ignores || !parts.iter().all(same)
        }
    };
    if unlike {
        notes.push(format!(
            "tokenizer_class is {class}, of which transformers 5 makes steps of its own; those of tokenizer.json count here, as in \
             transformers 4, and token ids may differ from transformers 5's"
        ));
    }
    notes
}

/// Sets whether byte-level steps put a space before a text; whether one of them had said otherwise.
fn set_prefix_space(step: &mut Value, prefix: bool) -> bool {
    if let Some(steps) = step.get_mut("pretokenizers").and_then(Value::as_array_mut) {
        let changed: Vec<bool> = steps.iter_mut().map(|step| set_prefix_space(step, prefix)).collect();
        return changed.contains(&true);
    }
    let differs = step["type"] == "ByteLevel" && step["add_prefix_space"] != prefix;
    if differs {
        step["add_prefix_space"] = prefix.into();
    }
    differs
}

/// A step without the settings that change no id.
fn without_offsets(step: &Value) -> Value {
    match step {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| *name != "trim_offsets");
            kept.map(|(name, value)| (name.clone(), without_offsets(value))).collect::<serde_json::Map<_, _>>().into()
        }
        Value::Array(steps) => steps.iter().map(without_offsets).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(class: Value, family: Family, name: &str, more: Value) -> (Vec<String>, Value) {
        let row = PreTokenizer::named(name).unwrap();
        let mut tokenizer = json!({ "pre_tokenizer": row.json(), "normalizer": row.normalizer(), "model": more });
        let settings: TokenizerConfig = serde_json::from_value(class).unwrap();
        let notes = apply(&mut tokenizer, &settings, family);
        (notes, tokenizer)
    }

    #[test]
    fn says_where_a_class_of_transformers_5_cuts_otherwise_than_the_file() {
        let class = |class: &str| json!({ "tokenizer_class": class });
        let cases = [
            (class("GPT2Tokenizer"), "gpt-2", false),
            (class("GPT2TokenizerFast"), "smollm", true),
            (class("Qwen2Tokenizer"), "qwen2", false),
            (class("Qwen2Tokenizer"), "gpt-2", true),
            (class("PreTrainedTokenizerFast"), "smollm", false),
            (class("LlamaTokenizer"), "llama-bpe", false),
            (class("GemmaTokenizer"), "llama-bpe", true),
            (json!({}), "smollm", false),
        ];
        for (settings, name, said) in cases {
            let (notes, _) = notes(settings.clone(), Family::Llama, name, json!({}));
            assert_eq!(!notes.is_empty(), said, "{settings} {name}: {notes:?}");
        }
        assert_eq!(notes(json!({}), Family::Qwen3, "gpt-2", json!({})).0.len(), 1, "the family's own class");
        assert_eq!(notes(class("GPT2Tokenizer"), Family::Llama, "gpt-2", json!({ "ignore_merges": true })).0.len(), 1);
    }

    #[test]
    fn takes_out_chance_and_puts_a_space_where_the_settings_say() {
        let (said, tokenizer) = notes(json!({}), Family::Llama, "gpt-2", json!({ "dropout": 0.5 }));
        assert!(said.len() == 1 && said[0].contains("dropout"), "{said:?}");
        assert_eq!(tokenizer["model"]["dropout"], Value::Null);
        let settings = json!({ "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true });
        let (said, tokenizer) = notes(settings, Family::Llama, "gpt-2", json!({}));
        assert_eq!(tokenizer["pre_tokenizer"]["add_prefix_space"], true);
        assert!(said.len() == 1 && said[0].contains("add_prefix_space"), "{said:?}");
    }
}
