//! The elastic LLaMA: forward, ranking, subnets.

pub mod device;
pub mod generation;
pub mod kv_cache;
pub mod llama;
mod low_rank;
mod matrix;
mod quantized;
pub mod ranking;
mod stream;
pub mod supernet;
pub mod tree;

pub use llama::{Llama, Predictions, Reference, Targets};
pub use stream::Stream;
pub use tree::{TokenTree, TreeBatch, TreeBuilder};
