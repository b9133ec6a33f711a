//! The sizes of a LLaMA, without its weights.

use serde::{Deserialize, Serialize};

/// The sizes of a LLaMA-architecture parent. `head_dim` is a field of its own: with pruned heads it
/// is not `hidden / heads`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads in a layer.
    pub heads: usize,
    /// Key/value heads in a layer; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Channels of a layer's gated MLP.
    pub mlp: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Whether the output matrix is the embedding.
    #[serde(default)]
    pub tied: bool,
}

impl ModelShape {
    /// Query heads that share one key/value head: the step in which heads can be removed.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}
