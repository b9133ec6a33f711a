//! GGUF files, version 3: metadata, tensors, and the tokenizer inside.

pub(crate) mod file;
pub(crate) mod metadata;
pub(crate) mod pre_tokenizer;
pub(crate) mod tokenizer;
pub(crate) mod tokenizer_writer;
