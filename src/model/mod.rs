//! The elastic LLaMA: weights, forward, ranking, networks as views.

pub mod device;
mod forward;
pub mod generation;
mod head;
mod kv_cache;
mod low_rank;
mod matrix;
mod network;
mod quantized;
pub mod ranking;
mod stream;
pub mod supernet;
mod targets;
mod token_tree;
mod tree_batch;
mod weights;

pub(crate) use forward::Forward;
pub use head::{HEAD_ROWS, Head, Predictions, Reference};
pub use kv_cache::KvCache;
pub use network::Network;
pub use stream::Stream;
pub use targets::Targets;
pub use token_tree::{TokenTree, TreeBuilder};
pub use tree_batch::TreeBatch;
pub use weights::Llama;
