//! The elastic LLaMA: weights, forward, ranking, networks as views.

mod targets;
#[cfg(feature = "torch")]
mod token_router;
mod token_tree;

#[cfg(feature = "torch")]
mod blocks;
#[cfg(feature = "torch")]
mod context;
#[cfg(feature = "torch")]
mod corrected;
#[cfg(feature = "torch")]
mod decode_batch;
#[cfg(feature = "torch")]
pub mod device;
#[cfg(feature = "torch")]
mod forward;
#[cfg(feature = "torch")]
pub mod generation;
#[cfg(feature = "torch")]
mod head;
#[cfg(feature = "torch")]
mod kv_cache;
#[cfg(feature = "torch")]
mod layer;
#[cfg(feature = "torch")]
mod low_rank;
#[cfg(feature = "torch")]
mod matrix;
#[cfg(feature = "torch")]
mod network;
#[cfg(feature = "torch")]
mod quantized;
#[cfg(feature = "torch")]
pub mod ranking;
#[cfg(feature = "torch")]
mod stream;
#[cfg(feature = "torch")]
pub mod supernet;
#[cfg(feature = "torch")]
mod tree_batch;
#[cfg(feature = "torch")]
mod weights;

pub use targets::Targets;
pub use token_tree::{TokenTree, TreeBuilder};

#[cfg(feature = "torch")]
pub(crate) use forward::Forward;
#[cfg(feature = "torch")]
pub use {
    decode_batch::DecodeBatch,
    head::{HEAD_ROWS, Head, Predictions, Reference},
    kv_cache::KvCache,
    network::Network,
    stream::Stream,
    token_router::{LayerRouter, TokenRouter, token_scores},
    tree_batch::TreeBatch,
    weights::Llama,
};
