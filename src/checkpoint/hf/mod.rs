//! Hugging Face directories: `config.json`, safetensors, tokenizer files.

mod config;
mod directory;
mod writer;

pub(super) use config::layer_genes;
pub(super) use directory::{open, open_safetensors};
pub use writer::{TokenizerFiles, write};
pub(super) use writer::{pretty, safetensors_header};
