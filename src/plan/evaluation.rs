//! Peak memory of scoring networks.
//!
//! Letters: as in `model/llama.rs`, `t` tokens of a chunk.

use super::Footprint;
use crate::checkpoint::LlamaConfig;
use crate::model::llama::HEAD_ROWS;
use crate::space::Cost;

/// Tensors of (rows, v) that are alive together: logits and what their logsumexp needs.
const HEAD_COPIES: u64 = 2;

/// How networks are scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scoring {
    /// Tokens that share a forward pass.
    pub chunk_tokens: usize,
    /// Workers, each with its own chunk.
    pub workers: usize,
    /// Networks scored together: hidden states of every half layer where they may part.
    pub networks: usize,
    /// Budget of the hidden states kept between populations, bytes.
    pub cache: u64,
    /// Block types that matrices are quantized to: each keeps a copy with the values of its blocks.
    pub quantized: usize,
    /// Bytes of a weight.
    pub word: u64,
}

/// What scoring needs of networks of this model.
pub fn footprint(config: &LlamaConfig, scoring: Scoring) -> Footprint {
    let Scoring { chunk_tokens, workers, networks, cache, quantized, word } = scoring;
    let shape = &config.shape;
    let [t, d, e, v] = [chunk_tokens, shape.hidden, shape.head_dim, shape.vocab].map(|size| size as u64);
    let (q, k, f) = ((shape.heads * shape.head_dim) as u64, shape.kv_heads as u64, shape.mlp as u64);
    // One state for each half layer that others may begin with, and the one at hand.
    let depth = 2 * shape.layers as u64;
    let states = t * d * word * if networks > 1 { depth + 1 } else { 2 };
    // Attention: the norm's two, the product of queries, keys and values, what is rotated, and copies for the heads.
    let attention = 2 * d + (q + 2 * k * e) + (q + k * e) + 3 * q + q;
    // MLP: the norm's two, gate and up, the result.
    let mlp = 2 * d + 2 * f + d;
    let workers = workers as u64;
    Footprint::new([
        ("weights", weights(config, word)),
        ("quantized copies", quantized as u64 * weights(config, word)),
        ("rotary table", rotary(config)),
        ("hidden states", workers * states),
        ("one half layer", workers * t * attention.max(mlp) * word),
        ("logits", workers * HEAD_COPIES * HEAD_ROWS as u64 * v * 4),
        ("states between populations", cache),
    ])
}

/// All weights of a model, bytes.
pub fn weights(config: &LlamaConfig, word: u64) -> u64 {
    Cost::of(&config.shape, &config.genome).params * word
}

/// Cosines and sines of every position, float32.
pub(super) fn rotary(config: &LlamaConfig) -> u64 {
    2 * 4 * (config.max_position_embeddings * config.shape.head_dim) as u64
}
