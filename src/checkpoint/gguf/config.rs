//! Sizes and constants from a GGUF file's keys, and from the tensors that say the rest.
//!
//! Where two keys say one thing, llama.cpp's rule decides and a note says so.

use std::path::Path;

use super::architecture::{Architecture, ArchitectureRow};
use super::metadata::Metadata;
use super::rope::RopeSource;
use crate::checkpoint::config::{Dtype, LlamaConfig};
use crate::checkpoint::family::FAMILIES;
use crate::checkpoint::hf::layer_genes;
use crate::checkpoint::names::{LayerTensor, TensorName};
use crate::checkpoint::raw_tensor::FoundTensors;
use crate::error::{Error, Result};
use crate::space::{Extras, Genome, LAYER, MAX_LAYERS, ModelShape};

/// Says of unquantized weights that they began as blocks.
pub(crate) const QUANTIZED: &str = "criadero.quantized";

const TOKENS: &str = "tokenizer.ggml.tokens";

/// Keys of an architecture that are applied here, or say nothing about the function.
const KNOWN: [&str; 17] = [
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_count",
    "expert_used_count",
    "feed_forward_length",
    "tensor_data_layout",
    "use_parallel_residual",
    "vocab_size",
];

/// Parts of the names of keys that scale, clip, bias, window, normalise or choose: what they say changes the function.
const CHANGING: [&str; 14] = [
    "adapter",
    "alibi",
    "attention",
    "bias",
    "cap",
    "clamp",
    "expert",
    "gate",
    "logit",
    "norm",
    "pooling",
    "residual",
    "scale",
    "shared",
];

/// The keys of one architecture.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'static ArchitectureRow,
}

impl Keys<'_> {
    /// Refuses keys that change the function, and notes those of which nothing is known. llama.cpp's architectures read here
    /// have no windows, scales or experts; a window as long as the context hides nothing.
    fn look_at(&self, notes: &mut Vec<String>) -> Result<()> {
        let prefix = format!("{}.", self.architecture.name);
        let mut unknown = Vec::new();
        for (key, _) in self.metadata.with_prefix(&prefix) {
            let name = &key[prefix.len()..];
            if !KNOWN.contains(&name) && !name.starts_with("rope.") {
                match self.metadata.number(key).unwrap_or_default() {
                    Some(0.0) => {}
                    Some(1.0) if name.ends_with("scale") => {}
                    _ if CHANGING.iter().any(|part| name.contains(part)) => {
                        return Err(self
                            .metadata
                            .wrong(key, "found a key that changes the function and is not applied here"));
                    }
                    _ => unknown.push(key.as_str()),
                }
            }
        }
        if !unknown.is_empty() {
            notes.push(format!("keys that are not known here and not applied: {}", unknown.join(", ")));
        }
        let window = self.metadata.count(&self.key("attention.sliding_window"))?.filter(|&window| window > 0);
        let context = self.required("context_length")?;
        if let Some(window) = window.filter(|&window| window < context) {
            let reason = format!("found a window of {window}, expected none below the context of {context}");
            return Err(self.metadata.wrong(&self.key("attention.sliding_window"), reason));
        }
        for (name, expected) in [("attention.causal", true), ("use_parallel_residual", false)] {
            if self.metadata.flag(&self.key(name))?.is_some_and(|flag| flag != expected) {
                return Err(self.metadata.wrong(&self.key(name), format!("expected {expected}")));
            }
        }
        let experts = self.metadata.count(&self.key("expert_count"))?.filter(|&experts| experts > 0);
        experts.map_or(Ok(()), |experts| {
            Err(self.metadata.wrong(&self.key("expert_count"), format!("found {experts}, expected none")))
        })
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture.name)
    }

    fn missing(&self, name: &str) -> Error {
        self.metadata.wrong(&self.key(name), "missing")
    }

    fn required(&self, name: &str) -> Result<u32> {
        self.metadata.count(&self.key(name))?.ok_or_else(|| self.missing(name))
    }

    fn per_layer(&self, name: &str, layers: usize) -> Result<Vec<u32>> {
        let counts = self.metadata.counts(&self.key(name))?.ok_or_else(|| self.missing(name))?;
        Ok(match (counts.as_slice(), layers) {
            // A scalar holds for every layer; the cap on layers is checked before this list matters.
            ([one], 2..) => vec![*one; layers.min(MAX_LAYERS)],
            _ => counts,
        })
    }

    fn head_dim(&self, implied: usize) -> Result<usize> {
        let said = |name: &str| self.metadata.count(&self.key(name)).map(|count| count.map(|dim| dim as usize));
        let head_dim = said("attention.key_length")?.unwrap_or(implied);
        for name in ["attention.value_length", "rope.dimension_count"] {
            if let Some(other) = said(name)?.filter(|&other| other != head_dim) {
                let problem = format!("found {other}, expected the head size {head_dim}");
                return Err(self.metadata.wrong(&self.key(name), problem));
            }
        }
        Ok(head_dim)
    }
}

/// What a header says of the model.
pub(crate) struct ReadHeader {
    pub(crate) config: LlamaConfig,
    /// How query and key rows lie, and what tensors are called.
    pub(crate) architecture: &'static ArchitectureRow,
    /// Where keys contradict each other or are not known, and what was made of it.
    pub(crate) notes: Vec<String>,
}

/// Reads the keys of the file's architecture.
pub(crate) fn read(path: &Path, metadata: &Metadata, found: &FoundTensors) -> Result<ReadHeader> {
    let name = metadata.text("general.architecture")?.unwrap_or_default();
    let architecture = Architecture::named(&name)?.row();
    let mut notes = Vec::new();
    let keys = Keys { metadata, architecture };
    keys.look_at(&mut notes)?;
    let (layers, hidden) = (keys.required("block_count")? as usize, keys.required("embedding_length")? as usize);
    let heads = keys.per_layer("attention.head_count", layers)?;
    let kv_heads = if metadata.numbers(&keys.key("attention.head_count_kv"))?.is_some() {
        keys.per_layer("attention.head_count_kv", layers)?
    } else {
        heads.clone()
    };
    let mlp = keys.per_layer("feed_forward_length", layers)?;
    let widest = |counts: &[u32]| counts.iter().copied().max().unwrap_or(0) as usize;
    let implied = heads.first().and_then(|&first| hidden.checked_div(first as usize)).unwrap_or(0);
    let head_dim = keys.head_dim(implied)?;
    let embedding = found.get(&TensorName::Embedding.gguf());
    let queries = found.get(&TensorName::Layer(0, LayerTensor::Q).gguf());
    let vocab = embedding.and_then(|tensor| tensor.shape.first().copied());
    let in_blocks = found.values().any(|tensor| tensor.ty.dtype() == Dtype::Quantized);
    let mut config = LlamaConfig {
        shape: ModelShape {
            layers,
            hidden,
            heads: widest(&heads),
            kv_heads: widest(&kv_heads),
            head_dim,
            mlp: widest(&mlp),
            vocab: vocab.ok_or_else(|| metadata.wrong(&TensorName::Embedding.gguf(), "missing"))?,
            tied: !found.contains_key(&TensorName::Head.gguf()),
            extras: extras(found),
        },
        genome: Genome::new([]),
        rms_norm_eps: metadata
            .number(&keys.key("attention.layer_norm_rms_epsilon"))?
            .ok_or_else(|| keys.missing("attention.layer_norm_rms_epsilon"))?,
        rope_theta: metadata.number(&keys.key("rope.freq_base"))?.unwrap_or(10000.0),
        rope_scaling: None,
        max_position_embeddings: keys.required("context_length")? as usize,
        bos_token_id: metadata.count("tokenizer.ggml.bos_token_id")?,
        eos_token_ids: metadata.count("tokenizer.ggml.eos_token_id")?.into_iter().collect(),
        sliding_window: None,
        // Anything in blocks, or what most weights are stored as; the embedding is often of another type.
        dtype: if in_blocks {
            Dtype::Quantized
        } else {
            queries.or(embedding).map_or(Dtype::F32, |tensor| tensor.ty.dtype())
        },
        quantized: in_blocks || metadata.flag(QUANTIZED)?.unwrap_or(false),
        family: architecture.family,
    };
    config.check(path)?;
    let vocab = config.shape.vocab;
    if let Some(tokens) = metadata.len_of(TOKENS).filter(|&tokens| tokens != vocab as u64) {
        let expected = format!("one for each of the {vocab} rows of {}", TensorName::Embedding.gguf());
        return Err(metadata.wrong(TOKENS, format!("found {tokens} tokens, expected {expected}")));
    }
    if let Some(said) = metadata.count(&keys.key("vocab_size"))?.filter(|&said| said as usize != vocab) {
        notes.push(format!("vocab_size is {said} and the embedding has {vocab} rows: these count, as in llama.cpp"));
    }
    let unread = config.shape.extras.without(architecture.extras);
    if !unread.is_none() {
        let unread = unread.names().join(", ");
        let reason = format!("found {unread} in its layers, which llama.cpp does not read under `{name}`");
        return Err(metadata.wrong("general.architecture", reason));
    }
    let held = FAMILIES.iter().any(|row| config.is_of(row.family));
    if !held {
        let found = config.shape.extras.names().join(", ");
        let reason = format!("found {found} in its layers, which no family that is read here has together");
        return Err(metadata.wrong("general.architecture", reason));
    }
    config.rope_scaling = RopeSource { metadata, found, architecture, config: &config }.scaling(&mut notes)?;
    config.genome = layer_genes(path, &config.shape, heads, kv_heads, mlp)?;
    Ok(ReadHeader { config, architecture, notes })
}

/// What the layers have beyond LLaMA's tensors, by the tensors of the file.
fn extras(found: &FoundTensors) -> Extras {
    let optional = LAYER.iter().filter_map(|row| Some((row.tensor, row.extra?)));
    let there = optional.filter(|&(tensor, _)| {
        let named = TensorName::Layer(0, tensor).gguf();
        let end = named.trim_start_matches("blk.0");
        found.keys().any(|name| name.starts_with("blk.") && name.ends_with(end))
    });
    there.map(|(_, extra)| extra).collect()
}
