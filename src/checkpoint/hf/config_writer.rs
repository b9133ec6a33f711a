//! Hugging Face's `config.json`, written from a [`LlamaConfig`].

use serde_json::{Map, Value, json};

use super::config::REMOTE_PREFIX;
use super::per_layer;
use super::rope_parameters::rope_scaling;
use crate::checkpoint::config::{Dtype, LlamaConfig};
use crate::checkpoint::family::{Family, FamilyRow};
use crate::space::{Extra, ModelShape};

/// The family whose classes in transformers compute the model, and whether they do so as they are: no class has layers that
/// differ, which is what our remote code is for.
pub(super) fn class_of(config: &LlamaConfig) -> (&'static FamilyRow, bool) {
    let family = config.class_family();
    let ModelShape { hidden, heads, .. } = config.shape;
    let alike = config.uniform().is_some();
    match family {
        // transformers 5 refuses such head counts for LLaMA; Mistral without a window is the same function.
        Family::Llama if !hidden.is_multiple_of(heads) => {
            let as_mistral = alike && config.shape.extras.is_none();
            (if as_mistral { Family::Mistral } else { family }.row(), as_mistral)
        }
        _ => (family.row(), alike),
    }
}

/// The `config.json` that transformers 4.57 and 5 load: the family's own when all layers are alike, otherwise our
/// remote code with per-layer lists.
pub(super) fn to_json(config: &LlamaConfig, dtype: Dtype) -> Value {
    let &ModelShape { layers, hidden, heads, kv_heads, head_dim, mlp, vocab, tied, extras } = &config.shape;
    let dtype = match dtype {
        Dtype::F32 | Dtype::Quantized => "float32",
        Dtype::F16 => "float16",
        Dtype::BF16 => "bfloat16",
    };
    let eos = match config.eos_token_ids.as_slice() {
        [] => Value::Null,
        [one] => json!(one),
        many => json!(many),
    };
    let mut value = json!({
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": tied,
        "attention_bias": extras.has(Extra::OBias),
        "mlp_bias": extras.has(Extra::MlpBias),
        "bos_token_id": config.bos_token_id,
        "eos_token_id": eos,
        "torch_dtype": dtype,
    });
    if let Some(scaling) = rope_scaling(config) {
        value["rope_scaling"] = scaling;
    }
    if config.quantized {
        // Nothing that transformers computes with: whoever quantizes these weights again is told.
        value["criadero_quantized"] = json!(true);
    }
    let (class, alike) = class_of(config);
    let fields = value.as_object_mut().expect("made as an object");
    fields.extend(window(config, class.family));
    fields.extend(if alike { own_class(class) } else { remote_class(config, class) });
    value
}

/// The keys that say which layers have a window.
fn window(config: &LlamaConfig, class: Family) -> Map<String, Value> {
    let window = config.sliding_window.as_ref();
    let keys = match class {
        Family::Llama => json!({}),
        Family::Mistral => json!({ "sliding_window": window.map(|window| window.width) }),
        Family::Qwen2 | Family::Qwen3 => {
            let layers = (0..config.shape.layers).map(|layer| match config.window_of(layer) {
                Some(_) => "sliding_attention",
                None => "full_attention",
            });
            json!({
                "use_sliding_window": window.is_some(),
                "sliding_window": window.map(|window| window.width),
                "layer_types": layers.collect::<Vec<_>>(),
            })
        }
    };
    object(keys)
}

/// The keys of a model that a class of transformers computes.
fn own_class(class: &FamilyRow) -> Map<String, Value> {
    object(json!({ "model_type": class.model_type, "architectures": [format!("{}ForCausalLM", class.class)] }))
}

/// The keys of a model that our remote code computes.
fn remote_class(config: &LlamaConfig, class: &FamilyRow) -> Map<String, Value> {
    let mut keys = object(json!({
        "model_type": format!("{REMOTE_PREFIX}{}", class.model_type),
        "architectures": ["CriaderoForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling_criadero.CriaderoConfig",
            "AutoModelForCausalLM": "modeling_criadero.CriaderoForCausalLM",
        },
    }));
    keys.extend(per_layer::keys(config));
    keys
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => unreachable!("made as an object: {other}"),
    }
}
