//! Keys of a `config.json` that are not applied: which do no harm, and which change the function.

use std::collections::BTreeMap;

use serde_json::Value;

/// Keys that say nothing about the function: names, training, generation, serving.
const HARMLESS: [&str; 78] = [
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "add_cross_attention",
    "allow_global_per_layer_attribute_access",
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "attn_pdrop",
    "bad_words_ids",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "hidden_dropout",
    "id2label",
    "ignore_index",
    "initializer_range",
    "is_composition",
    "is_decoder",
    "is_encoder_decoder",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "max_length",
    "max_sequence_length",
    "min_length",
    "model_max_length",
    "name",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
    "task_specific_params",
    "temperature",
    "tie_encoder_decoder",
    "tie_last_hidden_states",
    "tokenizer_class",
    "tokenizer_model_max_length",
    "tokenizer_padding_side",
    "top_k",
    "top_p",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
];

/// Keys that are true where nothing is said: what they switch off is computed here.
const TRUE_UNLESS_SAID: [&str; 2] = ["causal", "is_causal"];

/// Parts of the names of keys that scale, clip, bias, window, normalise or choose: what they say changes the function.
const CHANGING: [&str; 34] = [
    "act",
    "adapter",
    "alibi",
    "attention",
    "attn",
    "bias",
    "cap",
    "chunk",
    "clamp",
    "clip",
    "conv",
    "dim",
    "expert",
    "factor",
    "gate",
    "latent",
    "logit",
    "lora",
    "moe",
    "mtp",
    "multiplier",
    "norm",
    "num_",
    "parallel",
    "prun",
    "quant",
    "residual",
    "rope",
    "rotary",
    "scale",
    "scaling",
    "size",
    "window",
    "mamba",
];

/// Refuses every key that changes the function, and notes the ones of which nothing is known. `own_code` says that the code beside
/// the checkpoint is ours.
pub(super) fn look_at(
    others: &BTreeMap<String, Value>,
    own_code: bool,
    problems: &mut Vec<String>,
    notes: &mut Vec<String>,
) {
    let mut unknown = Vec::new();
    for (key, value) in others.iter().filter(|(key, _)| !HARMLESS.contains(&key.as_str())) {
        if key == "auto_map" {
            if own_code {
                continue;
            }
            let counts = "the class of its model_type counts";
            notes.push(format!("auto_map: the checkpoint has code of its own, which is not run; {counts}"));
        } else if TRUE_UNLESS_SAID.contains(&key.as_str()) {
            if !matches!(value, Value::Null | Value::Bool(true)) {
                problems.push(format!("{key}: found {value}, expected true"));
            }
        } else if CHANGING.iter().any(|part| key.contains(part)) {
            if !is_neutral(key, value) {
                let remedy = "take it out of config.json if the model does not use it";
                problems.push(format!("{key}: found {value}, which is not applied here ({remedy})"));
            }
        } else if !is_neutral(key, value) {
            unknown.push(key.as_str());
        }
    }
    if !unknown.is_empty() {
        notes.push(format!("keys of config.json that are not known here and not applied: {}", unknown.join(", ")));
    }
}

/// Whether a key says: not at all. One is no scale, zero is no cap, a dropout says nothing outside training.
fn is_neutral(key: &str, value: &Value) -> bool {
    let multiplies = ["scale", "scaling", "multiplier", "factor"].iter().any(|part| key.contains(part));
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) | Value::String(_) => false,
        Value::Number(number) if multiplies => number.as_f64() == Some(1.0),
        Value::Number(number) => number.as_f64() == Some(0.0) || key.contains("dropout"),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn looked_at(others: Value) -> (Vec<String>, Vec<String>) {
        let (mut problems, mut notes) = (vec![], vec![]);
        look_at(&serde_json::from_value(others).unwrap(), false, &mut problems, &mut notes);
        (problems, notes)
    }

    #[test]
    fn refuses_what_changes_the_function_by_name() {
        let changing = json!({
            "logit_scale": 0.0625, "attention_multiplier": 0.015625, "residual_multiplier": 0.22, "embedding_multiplier": 12.0,
            "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0, "clip_qkv": 8.0, "num_local_experts": 8,
            "use_qk_norm": true, "rope_interleaved": true, "no_rope_layers": [1, 0], "query_pre_attn_scalar": 224,
            "attention_chunk_size": 8192, "is_causal": false, "quantization": {"bits": 4}, "mup_enabled": true, "logits_scaling": 8.0, "scale_emb": 12, "dim_model_base": 256,
        });
        let names: Vec<String> = changing.as_object().unwrap().keys().cloned().collect();
        let (problems, notes) = looked_at(changing);
        for name in names {
            let spoken_of = |lines: &[String]| lines.iter().any(|line| line.contains(&name));
            assert!(
                spoken_of(&problems) || (name == "mup_enabled" && spoken_of(&notes)),
                "{name}: {problems:?} {notes:?}"
            );
        }
    }

    #[test]
    fn passes_over_what_says_nothing() {
        let (problems, notes) = looked_at(json!({
            "initializer_range": 0.02, "use_cache": true, "rope_interleaved": false, "logit_scale": 1.0, "attn_logit_softcapping": null,
            "residual_dropout": 0.1, "final_logit_softcapping": 0.0, "pruned_heads": {}, "transformers_version": "5.23.0",
            "allow_global_per_layer_attribute_access": true,
        }));
        assert_eq!((problems, notes), (vec![], vec![]));
    }

    #[test]
    fn notes_what_it_does_not_know() {
        let (problems, notes) =
            looked_at(json!({ "auto_map": { "AutoModel": "x.X" }, "mup_enabled": true, "zeal": 2 }));
        assert_eq!(problems, [""; 0]);
        assert!(notes[0].contains("code of its own") && notes[1].ends_with("mup_enabled, zeal"), "{notes:?}");
    }
}
