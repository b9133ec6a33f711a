//! From a parent and a genome to files that other runtimes load.

mod cut;
mod gguf;
mod hf;
mod hf_padded;

pub use cut::{ExportFormat, export};
