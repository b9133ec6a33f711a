//! Hugging Face's `config.json`: read into a checked [`LlamaConfig`], and written from one.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::checkpoint::config::{Dtype, Llama3Scaling, LlamaConfig};
use crate::error::{Error, Result};
use crate::space::{Gene, Genome, ModelShape};

/// `model_type` of our own remote-code directories.
pub(crate) const REMOTE_MODEL_TYPE: &str = "criadero_llama";

/// The file as it stands. Absent and `null` are the same, as in transformers.
#[derive(Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    sliding_window: Option<usize>,
    quantization_config: Option<Value>,
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    layer_num_attention_heads: Option<Vec<u32>>,
    layer_num_key_value_heads: Option<Vec<u32>>,
    layer_intermediate_size: Option<Vec<u32>>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RawRope>,
    /// transformers 5 joins the two fields above into this one.
    rope_parameters: Option<RawRope>,
    max_position_embeddings: Option<usize>,
    tie_word_embeddings: Option<bool>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
    torch_dtype: Option<String>,
    dtype: Option<String>,
    criadero_quantized: Option<bool>,
}

#[derive(Deserialize)]
struct RawRope {
    rope_type: Option<String>,
    /// The older spelling of `rope_type`.
    #[serde(rename = "type")]
    kind: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    partial_rotary_factor: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

/// Reads the text of a `config.json`. `path` is for error messages only.
///
/// # Errors
/// `Format` for text that is not such JSON, `Mismatch` that lists everything that makes the model no LLaMA we
/// compute: another architecture, biases, other rotary embeddings, impossible sizes.
pub fn parse(path: &Path, text: &str) -> Result<LlamaConfig> {
    let raw: RawConfig =
        serde_json::from_str(text).map_err(|error| Error::format(path, "config.json", error.to_string()))?;
    let mut problems = Vec::new();
    refuse_other_models(&raw, &mut problems);

    let shape = shape(&raw, &mut problems);
    let (rope_theta, rope_scaling) = rope(&raw, &mut problems);
    let dtype = dtype(&raw, &mut problems);
    if !problems.is_empty() {
        let what = "not a LLaMA that can be computed here".into();
        return Err(Error::Mismatch { path: path.into(), what, problems });
    }

    let mut config = LlamaConfig {
        shape,
        genome: Genome::new([]),
        rms_norm_eps: raw.rms_norm_eps.unwrap_or(1e-6),
        rope_theta,
        rope_scaling,
        max_position_embeddings: raw.max_position_embeddings.unwrap_or(2048),
        bos_token_id: raw.bos_token_id,
        eos_token_ids: match raw.eos_token_id {
            None => vec![],
            Some(OneOrMany::One(id)) => vec![id],
            Some(OneOrMany::Many(ids)) => ids,
        },
        dtype,
        quantized: raw.criadero_quantized.unwrap_or(false),
    };
    config.check(path)?;
    config.genome = if raw.model_type.as_deref() == Some(REMOTE_MODEL_TYPE) {
        let absent = Vec::new;
        layer_genes(
            path,
            &config.shape,
            raw.layer_num_attention_heads.unwrap_or_else(absent),
            raw.layer_num_key_value_heads.unwrap_or_else(absent),
            raw.layer_intermediate_size.unwrap_or_else(absent),
        )?
    } else {
        let ModelShape { layers, heads, mlp, .. } = config.shape;
        Genome::uniform(layers, Gene::new(heads as u32, mlp as u32))
    };
    Ok(config)
}

fn shape(raw: &RawConfig, problems: &mut Vec<String>) -> ModelShape {
    let mut required = |name: &str, value: Option<usize>| {
        value.unwrap_or_else(|| {
            problems.push(format!("{name} is missing"));
            1
        })
    };
    let layers = required("num_hidden_layers", raw.num_hidden_layers);
    let hidden = required("hidden_size", raw.hidden_size);
    let heads = required("num_attention_heads", raw.num_attention_heads);
    let mlp = required("intermediate_size", raw.intermediate_size);
    let vocab = required("vocab_size", raw.vocab_size);
    if raw.head_dim.is_none() && hidden.checked_rem(heads) != Some(0) {
        problems.push(format!("head_dim is missing and hidden_size {hidden} is not a multiple of {heads} heads"));
    }
    ModelShape {
        layers,
        hidden,
        heads,
        kv_heads: raw.num_key_value_heads.unwrap_or(heads),
        head_dim: raw.head_dim.unwrap_or(hidden.checked_div(heads).unwrap_or(0)),
        mlp,
        vocab,
        tied: raw.tie_word_embeddings.unwrap_or(false),
    }
}

fn dtype(raw: &RawConfig, problems: &mut Vec<String>) -> Dtype {
    match raw.dtype.as_deref().or(raw.torch_dtype.as_deref()).unwrap_or("float32") {
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        other => {
            problems.push(format!("dtype: found `{other}`, expected float32, float16 or bfloat16"));
            Dtype::F32
        }
    }
}

fn refuse_other_models(raw: &RawConfig, problems: &mut Vec<String>) {
    // Mistral without its window is LLaMA's function; we write it ourselves where transformers' LLaMA refuses
    // head counts that do not divide the hidden size.
    match raw.model_type.as_deref() {
        Some("llama" | REMOTE_MODEL_TYPE) => {}
        Some("mistral") if raw.sliding_window.is_none() => {}
        Some("mistral") => problems.push("sliding_window: found a window, expected null".into()),
        Some(other) => problems.push(format!("model_type: found `{other}`, expected `llama`")),
        None => problems.push("model_type is missing, expected `llama`".into()),
    }
    if let Some(other) = raw.hidden_act.as_deref().filter(|&act| act != "silu") {
        problems.push(format!("hidden_act: found `{other}`, expected `silu`"));
    }
    for (name, flag) in [("attention_bias", raw.attention_bias), ("mlp_bias", raw.mlp_bias)] {
        if flag == Some(true) {
            problems.push(format!("{name}: found true, expected false (biases are not supported)"));
        }
    }
    if raw.quantization_config.is_some() {
        problems.push("quantization_config: expected none (give the unquantized checkpoint, or a GGUF)".into());
    }
}

/// Base of the rotary frequencies, and LLaMA 3's stretching where it is asked for.
fn rope(raw: &RawConfig, problems: &mut Vec<String>) -> (f64, Option<Llama3Scaling>) {
    let rope = raw.rope_parameters.as_ref().or(raw.rope_scaling.as_ref());
    let theta = raw.rope_parameters.as_ref().and_then(|rope| rope.rope_theta).or(raw.rope_theta).unwrap_or(10000.0);
    let Some(rope) = rope else { return (theta, None) };
    if rope.partial_rotary_factor.is_some_and(|part| part != 1.0) {
        problems.push("partial_rotary_factor: expected 1 (whole heads are rotated)".into());
    }
    match rope.rope_type.as_deref().or(rope.kind.as_deref()).unwrap_or("default") {
        "default" => (theta, None),
        "llama3" => {
            let (Some(factor), Some(low_freq_factor), Some(high_freq_factor), Some(original)) =
                (rope.factor, rope.low_freq_factor, rope.high_freq_factor, rope.original_max_position_embeddings)
            else {
                problems.push(
                    "rope scaling llama3: expected factor, low_freq_factor, high_freq_factor and \
                     original_max_position_embeddings"
                        .into(),
                );
                return (theta, None);
            };
            let original_max_position_embeddings = original;
            (theta, Some(Llama3Scaling { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings }))
        }
        other => {
            problems.push(format!("rope type: found `{other}`, expected `default` or `llama3`"));
            (theta, None)
        }
    }
}

/// The genome of per-layer sizes, as our remote-code directories and GGUF files of arch deci give them.
pub(crate) fn layer_genes(
    path: &Path,
    shape: &ModelShape,
    heads: Vec<u32>,
    kv_heads: Vec<u32>,
    mlp: Vec<u32>,
) -> Result<Genome> {
    let mut problems = Vec::new();
    for (what, list) in [("query head counts", &heads), ("key/value head counts", &kv_heads), ("mlp widths", &mlp)] {
        if list.len() != shape.layers {
            problems.push(format!("{what}: found {} values, expected {} (one a layer)", list.len(), shape.layers));
        }
    }
    let group = shape.group();
    for (layer, ((&heads, &kv_heads), &mlp)) in heads.iter().zip(&kv_heads).zip(&mlp).enumerate() {
        if heads as usize > shape.heads || u64::from(heads) != u64::from(kv_heads) * group as u64 {
            problems.push(format!(
                "layer {layer}: found {heads} heads on {kv_heads} key/value heads, expected {group} on each and up to {}",
                shape.heads
            ));
        }
        if mlp as usize > shape.mlp {
            problems.push(format!("layer {layer}: found mlp width {mlp}, expected up to {}", shape.mlp));
        }
        if heads == 0 && mlp == 0 {
            problems.push(format!("layer {layer}: found neither attention nor mlp, expected the layer to be left out"));
        }
    }
    if !problems.is_empty() {
        let what = "per-layer sizes contradict the model's".into();
        return Err(Error::Mismatch { path: path.into(), what, problems });
    }
    Ok(Genome::new(heads.into_iter().zip(mlp).map(|(heads, mlp)| Gene::new(heads, mlp))))
}

/// The `config.json` that transformers 4.57 and 5 load: plain LLaMA when all layers are alike, otherwise our
/// remote code with per-layer lists.
pub fn to_json(config: &LlamaConfig, dtype: Dtype) -> Value {
    let &ModelShape { layers, hidden, heads, kv_heads, head_dim, mlp, vocab, tied } = &config.shape;
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
        "attention_bias": false,
        "mlp_bias": false,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": eos,
        "torch_dtype": dtype,
    });
    if let Some(scaling) = &config.rope_scaling {
        value["rope_scaling"] = json!({
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_max_position_embeddings,
        });
    }
    if config.quantized {
        // Nothing that transformers computes with: whoever quantizes these weights again is told.
        value["criadero_quantized"] = json!(true);
    }
    if let (Value::Object(value), Value::Object(extra)) = (&mut value, model_type(config)) {
        value.extend(extra);
    }
    value
}

/// The keys that say which class of transformers computes it.
fn model_type(config: &LlamaConfig) -> Value {
    let genes = config.genome.genes();
    if config.uniform().is_none() {
        let group = config.shape.group() as u32;
        json!({
            "model_type": REMOTE_MODEL_TYPE,
            "architectures": ["CriaderoForCausalLM"],
            "auto_map": {
                "AutoConfig": "modeling_criadero.CriaderoConfig",
                "AutoModelForCausalLM": "modeling_criadero.CriaderoForCausalLM",
            },
            "layer_num_attention_heads": genes.iter().map(|gene| gene.heads).collect::<Vec<_>>(),
            "layer_num_key_value_heads": genes.iter().map(|gene| gene.heads / group).collect::<Vec<_>>(),
            "layer_intermediate_size": genes.iter().map(|gene| gene.mlp).collect::<Vec<_>>(),
        })
    } else if config.shape.hidden.is_multiple_of(config.shape.heads) {
        json!({ "model_type": "llama", "architectures": ["LlamaForCausalLM"] })
    } else {
        // transformers 5 refuses such head counts for LLaMA; Mistral without a window is the same function.
        json!({ "model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": null })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::config::tests::small;

    fn read(text: &str) -> Result<LlamaConfig> {
        parse(Path::new("config.json"), text)
    }

    /// As published by Meta, SmolLM's authors and transformers 4 and 5, without fields that say nothing here.
    const LLAMA2_7B: &str = r#"{"architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 11008,
        "max_position_embeddings": 4096, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 32, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": null,
        "tie_word_embeddings": false, "torch_dtype": "float16", "use_cache": true, "vocab_size": 32000}"#;
    const LLAMA3_2_1B: &str = r#"{"architectures": ["LlamaForCausalLM"], "attention_bias": false,
        "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu",
        "hidden_size": 2048, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
        "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "rope_theta": 500000.0,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "vocab_size": 128256}"#;
    const SMOLLM2_135M: &str = r#"{"architectures": ["LlamaForCausalLM"], "attention_bias": false,
        "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 576, "intermediate_size": 1536,
        "is_llama_config": true, "max_position_embeddings": 8192, "mlp_bias": false, "model_type": "llama",
        "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3, "pad_token_id": 2,
        "rms_norm_eps": 1e-05, "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "vocab_size": 49152}"#;

    #[test]
    fn reads_llama_2_7b() {
        let config = read(LLAMA2_7B).unwrap();
        let ModelShape { layers, hidden, heads, kv_heads, head_dim, mlp, vocab, tied } = config.shape;
        assert_eq!((layers, hidden, heads, kv_heads), (32, 4096, 32, 32));
        assert_eq!((head_dim, mlp, vocab, tied), (128, 11008, 32000, false));
        assert_eq!((config.rope_theta, config.rope_scaling), (10000.0, None));
        assert_eq!(config.dtype, Dtype::F16);
        assert_eq!(config.genome.to_string(), "32x11008*32");
    }

    #[test]
    fn reads_llama_3_2_with_its_stretched_frequencies() {
        let config = read(LLAMA3_2_1B).unwrap();
        assert_eq!((config.shape.group(), config.shape.head_dim, config.shape.tied), (4, 64, true));
        assert_eq!(config.rope_scaling.map(|scaling| scaling.factor), Some(32.0));
        assert_eq!(config.eos_token_ids, [128001, 128008, 128009]);
        assert_eq!(config.rope_theta, 500000.0);
    }

    #[test]
    fn reads_smollm2_and_its_implied_head_size() {
        let config = read(SMOLLM2_135M).unwrap();
        assert_eq!((config.shape.head_dim, config.shape.group(), config.rope_theta), (64, 3, 100000.0));
        assert_eq!(config.max_position_embeddings, 8192);
    }

    #[test]
    fn reads_rope_parameters_of_transformers_5() {
        let text = LLAMA3_2_1B
            .replace(r#""rope_theta": 500000.0,"#, "")
            .replace(r#""rope_scaling": {"#, r#""rope_parameters": {"rope_theta": 500000.0, "#);
        assert_eq!(read(&text).unwrap(), read(LLAMA3_2_1B).unwrap());
    }

    #[test]
    fn reads_its_own_files() {
        for genome in ["6x64*3", "3x64*3", "6x32:3x64:0x16", "5x64"] {
            let genome: Genome = genome.parse().unwrap();
            let mut config = small();
            if genome.genes()[0].heads == 5 {
                config.shape.kv_heads = 6; // 5 heads of a hidden size of 96: transformers' LLaMA refuses them
            }
            let config = LlamaConfig { quantized: genome.depth() == 1, ..config.with_genome(genome) };
            let text = to_json(&config, config.dtype).to_string();
            assert_eq!(read(&text).unwrap(), config, "{text}");
        }
    }

    #[test]
    fn rejects_models_that_are_not_llama_and_says_why() {
        let cases = [
            (r#""model_type": "llama""#, r#""model_type": "qwen2""#, "model_type: found `qwen2`"),
            (r#""attention_bias": false"#, r#""attention_bias": true"#, "attention_bias: found true"),
            (r#""mlp_bias": false"#, r#""mlp_bias": true"#, "mlp_bias: found true"),
            (r#""hidden_act": "silu""#, r#""hidden_act": "gelu""#, "hidden_act: found `gelu`"),
            (r#""rope_type": "llama3""#, r#""rope_type": "yarn""#, "rope type: found `yarn`"),
            (r#""factor": 32.0, "#, "", "rope scaling llama3: expected factor"),
            (r#""hidden_size": 2048, "#, "", "hidden_size is missing"),
            (
                r#""num_key_value_heads": 8"#,
                r#""num_key_value_heads": 5"#,
                "kv_heads: found 5, which does not divide 32 heads",
            ),
            (r#""num_key_value_heads": 8"#, r#""num_key_value_heads": 0"#, "kv_heads: found 0"),
            (r#""head_dim": 64"#, r#""head_dim": 63"#, "head_dim: found 63"),
            (r#""vocab_size": 128256"#, r#""vocab_size": 99999999999999"#, "vocab: found 99999999999999"),
            (r#""num_hidden_layers": 16"#, r#""num_hidden_layers": 4000000000"#, "layers: found 4000000000"),
            (r#""bos_token_id": 128000"#, r#""bos_token_id": 128256"#, "bos token: found 128256"),
            (r#""torch_dtype": "bfloat16""#, r#""torch_dtype": "int8""#, "dtype: found `int8`"),
            (r#""rms_norm_eps": 1e-05"#, r#""rms_norm_eps": 0"#, "rms_norm_eps: found 0"),
            (r#""vocab_size": 128256"#, r#""vocab_size": -1"#, "not a valid config.json"),
            (r#"{"architectures""#, r#"["architectures""#, "not a valid config.json"),
        ];
        for (plain, hostile, reason) in cases {
            let text = LLAMA3_2_1B.replacen(plain, hostile, 1);
            assert_ne!(text, LLAMA3_2_1B, "{plain}");
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(reason), "`{reason}` is not in: {error}");
        }
    }

    #[test]
    fn rejects_head_counts_that_do_not_share_keys_alike() {
        let config = small().with_genome("6x32:3x64".parse().unwrap());
        let mut value = to_json(&config, Dtype::F32);
        value["layer_num_attention_heads"] = json!([6, 4]);
        value["layer_intermediate_size"] = json!([32]);
        let error = read(&value.to_string()).unwrap_err().to_string();
        assert!(error.contains("layer 0") || error.contains("mlp widths: found 1 values"), "{error}");
    }
}
