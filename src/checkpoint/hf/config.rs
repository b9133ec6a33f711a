//! Hugging Face's `config.json`, read into a checked [`LlamaConfig`].
//!
//! Where two keys say one thing, transformers 5.23's rule decides and a note says so.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::config_keys::look_at;
use super::per_layer::{self, RawLayer};
use super::rope_parameters::{RawRope, RopeKeys};
use super::sliding_window::WindowKeys;
use crate::checkpoint::config::{Dtype, LlamaConfig};
use crate::checkpoint::family::{Family, FamilyRow};
use crate::error::{Error, Result};
use crate::space::{Extra, Extras, Gene, Genome, ModelShape};

/// What `model_type` begins with in our own remote-code directories; the family's name follows.
pub(crate) const REMOTE_PREFIX: &str = "criadero_";

/// A configuration, and what its reader should know.
pub struct ReadConfig {
    /// Sizes and constants.
    pub config: LlamaConfig,
    /// Where the file says a thing twice or says what is not known here, and what was made of it.
    pub notes: Vec<String>,
}

/// The file as it stands. Absent and `null` are the same unless [`Keys`] is asked.
#[derive(Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
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
    per_layer_config: Option<BTreeMap<String, RawLayer>>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RawRope>,
    rope_parameters: Option<RawRope>,
    partial_rotary_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    max_position_embeddings: Option<usize>,
    tie_word_embeddings: Option<bool>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
    torch_dtype: Option<String>,
    dtype: Option<String>,
    criadero_quantized: Option<bool>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Token ids: one, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl OneOrMany {
    pub(crate) fn list(self) -> Vec<u32> {
        match self {
            OneOrMany::One(id) => vec![id],
            OneOrMany::Many(ids) => ids,
        }
    }
}

/// Which keys the file has: some that are `null` mean something else than some that are not there.
struct Keys(serde_json::Map<String, Value>);

impl Keys {
    /// A key's value, or what stands for it where the file does not have the key.
    fn or_absent<T>(&self, key: &str, value: Option<T>, absent: Option<T>) -> Option<T> {
        if self.0.contains_key(key) { value } else { absent }
    }
}

/// Reads the text of a `config.json`. `path` is for error messages only.
///
/// # Errors
/// `Format` for text that is not such JSON, `Mismatch` that lists everything that makes the model none that is computed here:
/// another family, keys that change the function and are not applied, impossible sizes.
pub fn parse(path: &Path, text: &str) -> Result<ReadConfig> {
    let wrong = |error: serde_json::Error| Error::format(path, "config.json", error.to_string());
    let raw: RawConfig = serde_json::from_str(text).map_err(wrong)?;
    let keys = Keys(serde_json::from_str(text).map_err(wrong)?);
    let (mut problems, mut notes) = (Vec::new(), Vec::new());
    let (family, is_ours) = family(&raw, &mut problems);
    refuse_what_is_not_computed(&raw, family.row(), &mut problems);
    look_at(&raw.others, is_ours, &mut problems, &mut notes);

    let shape = shape(&raw, &keys, family.row(), &mut problems);
    let positions = raw.max_position_embeddings.unwrap_or(family.row().defaults.positions);
    let (rope_theta, rope_scaling) = RopeKeys {
        scaling: raw.rope_scaling.as_ref(),
        parameters: raw.rope_parameters.as_ref(),
        theta: raw.rope_theta,
        partial: raw.partial_rotary_factor,
        original: raw.original_max_position_embeddings,
        positions,
    }
    .read(&mut problems, &mut notes);
    let dtype = dtype(&raw, &mut problems, &mut notes);
    let sliding_window = WindowKeys {
        width: keys.or_absent("sliding_window", raw.sliding_window, family.row().defaults.window),
        stated: raw.sliding_window.is_some(),
        used: raw.use_sliding_window,
        first: raw.max_window_layers,
        kinds: raw.layer_types.as_deref(),
        layers: shape.layers,
    }
    .read(family, &mut problems);
    let lists = layer_lists(&raw, is_ours, &shape, &mut problems, &mut notes);
    if !problems.is_empty() {
        let what = "not a model that can be computed here".into();
        return Err(Error::Mismatch { path: path.into(), what, problems });
    }

    let ends = family.row().defaults.ends.map(|ends| ends.map(Some)).unwrap_or_default();
    let fits = |id: Option<u32>| id.filter(|&id| (id as usize) < shape.vocab);
    let eos = keys.or_absent("eos_token_id", raw.eos_token_id, fits(ends[1]).map(OneOrMany::One));
    let mut config = LlamaConfig {
        shape,
        genome: Genome::new([]),
        rms_norm_eps: raw.rms_norm_eps.unwrap_or(1e-6),
        rope_theta,
        rope_scaling,
        max_position_embeddings: positions,
        bos_token_id: keys.or_absent("bos_token_id", raw.bos_token_id, fits(ends[0])),
        eos_token_ids: eos.map_or_else(Vec::new, OneOrMany::list),
        sliding_window,
        dtype,
        quantized: raw.criadero_quantized.unwrap_or(false),
        family,
    };
    config.check(path)?;
    config.genome = match lists {
        Some([heads, kv_heads, mlp]) => layer_genes(path, &config.shape, heads, kv_heads, mlp)?,
        None => {
            let ModelShape { layers, heads, mlp, .. } = config.shape;
            Genome::uniform(layers, Gene::new(heads as u32, mlp as u32))
        }
    };
    Ok(ReadConfig { config, notes })
}

/// The family, and whether the directory is one of ours, whose layers differ.
fn family(raw: &RawConfig, problems: &mut Vec<String>) -> (Family, bool) {
    let name = raw.model_type.as_deref();
    let base = name.and_then(|name| name.strip_prefix(REMOTE_PREFIX));
    let Some(family) = base.or(name).and_then(Family::of_model_type) else {
        let found = name.map_or("is missing".into(), |name| format!("found `{name}`"));
        problems.push(format!("model_type: {found}, expected one of {}", Family::supported()));
        return (Family::Llama, false);
    };
    (family, base.is_some())
}

fn shape(raw: &RawConfig, keys: &Keys, family: &FamilyRow, problems: &mut Vec<String>) -> ModelShape {
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
    let head_dim = raw.head_dim.or(family.defaults.head_dim);
    if head_dim.is_none() && hidden.checked_rem(heads) != Some(0) {
        problems.push(format!("head_dim is missing and hidden_size {hidden} is not a multiple of {heads} heads"));
    }
    let kv_heads = keys.or_absent("num_key_value_heads", raw.num_key_value_heads, family.defaults.kv_heads);
    ModelShape {
        layers,
        hidden,
        heads,
        kv_heads: kv_heads.unwrap_or(heads),
        head_dim: head_dim.unwrap_or(hidden.checked_div(heads).unwrap_or(0)),
        mlp,
        vocab,
        tied: raw.tie_word_embeddings.unwrap_or(false),
        extras: extras(raw, family),
    }
}

/// Each layer's query heads, key/value heads and MLP width, where the file says so: in our own lists, which go first, or in
/// `per_layer_config`.
fn layer_lists(
    raw: &RawConfig,
    is_ours: bool,
    shape: &ModelShape,
    problems: &mut Vec<String>,
    notes: &mut Vec<String>,
) -> Option<[Vec<u32>; 3]> {
    let entries = raw.per_layer_config.as_ref().filter(|entries| !entries.is_empty());
    let said = entries.map(|entries| per_layer::lists(entries, shape, problems));
    if !is_ours {
        return said;
    }
    let list = |list: &Option<Vec<u32>>| list.clone().unwrap_or_default();
    let ours = [&raw.layer_num_attention_heads, &raw.layer_num_key_value_heads, &raw.layer_intermediate_size].map(list);
    if said.is_some_and(|said| said != ours) {
        notes.push("per_layer_config and the three lists of layers' sizes differ: the lists count".into());
    }
    Some(ours)
}

/// What the layers have beyond LLaMA's tensors: what the family always has, and the biases that the file asks for.
fn extras(raw: &RawConfig, family: &FamilyRow) -> Extras {
    let mut extras = family.extras;
    if raw.attention_bias == Some(true) {
        extras = extras.with(Extra::QkvBias).with(Extra::OBias);
    }
    if raw.mlp_bias == Some(true) {
        extras = extras.with(Extra::MlpBias);
    }
    extras
}

fn dtype(raw: &RawConfig, problems: &mut Vec<String>, notes: &mut Vec<String>) -> Dtype {
    if let (Some(new), Some(old)) = (&raw.dtype, &raw.torch_dtype)
        && new != old
    {
        notes.push(format!("dtype is `{new}` and torch_dtype `{old}`: dtype counts, as in transformers"));
    }
    match raw
        .dtype
        .as_deref()
        .or(raw.torch_dtype.as_deref())
        .map_or("float32", |name| name.trim_start_matches("torch."))
    {
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        other => {
            problems.push(format!("dtype: found `{other}`, expected float32, float16 or bfloat16"));
            Dtype::F32
        }
    }
}

fn refuse_what_is_not_computed(raw: &RawConfig, family: &FamilyRow, problems: &mut Vec<String>) {
    // `swish` is the older name.
    if let Some(other) = raw.hidden_act.as_deref().filter(|act| !["silu", "swish"].contains(act)) {
        problems.push(format!("hidden_act: found `{other}`, expected `silu`"));
    }
    for (name, flag) in [("attention_bias", raw.attention_bias), ("mlp_bias", raw.mlp_bias)] {
        if flag == Some(true) && !family.bias_keys.contains(&name) {
            problems.push(format!("{name}: found true, expected false ({} has no such key)", family.model_type));
        }
    }
    if raw.quantization_config.is_some() {
        problems.push("quantization_config: expected none (give the unquantized checkpoint, or a GGUF)".into());
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::config_writer::to_json;
    use super::*;
    use crate::checkpoint::config::tests::small;
    use crate::checkpoint::rope::RopeScaling;

    fn read(text: &str) -> Result<LlamaConfig> {
        parse(Path::new("config.json"), text).map(|read| read.config)
    }

    fn notes(text: &str) -> Vec<String> {
        parse(Path::new("config.json"), text).unwrap().notes
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
        let ModelShape { layers, hidden, heads, kv_heads, head_dim, mlp, vocab, tied, .. } = config.shape;
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
        assert!(matches!(config.rope_scaling, Some(RopeScaling::Llama3(scaling)) if scaling.factor == 32.0));
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
            let read = read(&text).unwrap();
            // Heads that do not divide the hidden size are Mistral's, which is the same function.
            let family = if config.shape.heads == 5 { Family::Mistral } else { Family::Llama };
            assert_eq!(read, LlamaConfig { family, ..config }, "{text}");
        }
    }

    #[test]
    fn rejects_models_that_are_not_llama_and_says_why() {
        let cases = [
            (
                r#""model_type": "llama""#,
                r#""model_type": "mixtral""#,
                "model_type: found `mixtral`, expected one of llama",
            ),
            (r#""mlp_bias": false"#, r#""mlp_bias": true, "model_type": "qwen2""#, "not a valid config.json"),
            (r#""mlp_bias": false"#, r#""sliding_window": 4096"#, "sliding_window: found a window"),
            (r#""mlp_bias": false"#, r#""use_sliding_window": true"#, "sliding_window: found a window"),
            (
                r#""rope_type": "llama3""#,
                r#""rope_type": "llama3", "mrope_section": [8, 12, 12]"#,
                "mrope_section: found",
            ),
            (r#""mlp_bias": false"#, r#""partial_rotary_factor": 0.5"#, "partial_rotary_factor: found 0.5"),
            (r#""mlp_bias": false"#, r#""logit_scale": 0.5"#, "logit_scale: found 0.5, which is not applied"),
            (r#""mlp_bias": false"#, r#""layer_types": ["full_attention"]"#, "layer_types: found"),
            (r#""hidden_act": "silu""#, r#""hidden_act": "gelu""#, "hidden_act: found `gelu`"),
            (r#""rope_type": "llama3""#, r#""rope_type": "su""#, "rope type: found `su`, expected default, linear"),
            (
                r#""rope_type": "llama3""#,
                r#""rope_type": "longrope""#,
                "rope scaling longrope: short_factor is missing",
            ),
            (r#""factor": 32.0, "#, "", "rope scaling llama3: factor is missing"),
            (r#""factor": 32.0, "#, r#""factor": -1.0, "#, "rope scaling: found"),
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
    fn says_which_of_two_keys_counts() {
        assert_eq!(notes(LLAMA3_2_1B), [""; 0]);
        for (plain, both, note) in [
            (r#""torch_dtype": "bfloat16""#, r#""torch_dtype": "bfloat16", "dtype": "float32""#, "dtype counts"),
            (
                r#""rope_theta": 500000.0"#,
                r#""rope_theta": 500000.0, "rope_parameters": {"rope_type": "linear", "factor": 2.0}"#,
                "rope_scaling and rope_parameters differ: rope_scaling counts",
            ),
            (r#""rope_type": "llama3""#, r#""rope_type": "llama3", "rope_theta": 7.5"#, "rope_theta is 7.5 among"),
            (r#""rope_type": "llama3""#, r#""rope_type": "llama3", "type": "yarn""#, "rope_type counts"),
            (r#""rope_type": "llama3""#, r#""rope_type": "llama3", "shift": 2"#, "not applied: shift"),
            (r#""mlp_bias": false"#, r#""mystery": 7"#, "not known here and not applied: mystery"),
        ] {
            let found = notes(&LLAMA3_2_1B.replacen(plain, both, 1));
            assert!(found.len() == 1 && found[0].contains(note), "`{note}` is not in {found:?}");
        }
        let theta = |text: &str| read(text).unwrap().rope_theta;
        let inside = LLAMA3_2_1B.replace(r#""rope_type": "llama3""#, r#""rope_type": "llama3", "rope_theta": 7.5"#);
        assert_eq!(theta(&inside), 7.5);
    }

    #[test]
    fn what_a_configuration_leaves_out_is_what_transformers_takes() {
        let bare = |model_type: &str, more: &str| {
            format!(
                r#"{{"model_type": "{model_type}", "hidden_size": 4096, "intermediate_size": 64, "num_hidden_layers": 30,
                    "num_attention_heads": 32, "vocab_size": 99{more}}}"#
            )
        };
        let facts = |text: &str| {
            let config = read(text).unwrap();
            let window =
                config.sliding_window.map(|window| (window.width, window.layers.iter().filter(|&&on| on).count()));
            (config.shape.kv_heads, config.shape.head_dim, config.max_position_embeddings, config.bos_token_id, window)
        };
        // transformers 5.23.0: each family's configuration class.
        assert_eq!(facts(&bare("llama", "")), (32, 128, 2048, Some(1), None));
        assert_eq!(facts(&bare("mistral", "")), (8, 128, 131072, Some(1), Some((4096, 30))));
        assert_eq!(facts(&bare("mistral", r#", "sliding_window": null"#)), (8, 128, 131072, Some(1), None));
        assert_eq!(facts(&bare("qwen2", "")), (32, 128, 32768, None, None));
        assert_eq!(facts(&bare("qwen2", r#", "use_sliding_window": true"#)), (32, 128, 32768, None, Some((4096, 2))));
        assert_eq!(facts(&bare("qwen3", r#", "num_key_value_heads": null"#)), (32, 128, 32768, None, None));
        assert_eq!(facts(&bare("llama", r#", "bos_token_id": null"#)).3, None);
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
