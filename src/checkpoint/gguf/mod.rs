//! GGUF files, version 3: metadata, tensors, and the tokenizer inside.

pub(crate) mod architecture;
pub(crate) mod config;
pub(crate) mod file;
pub(crate) mod fused;
pub(crate) mod general;
pub(crate) mod metadata;
pub(crate) mod pre_tokenizer;
pub(crate) mod rope;
mod split;
pub(crate) mod tokenizer;
pub(crate) mod tokenizer_writer;
