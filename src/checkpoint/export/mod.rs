//! From a parent and a genome to files that other runtimes load.

mod account;
mod cut;
mod exporter;
mod gguf;
mod hf;
mod hf_padded;
mod network_card;
mod registry;

pub use account::Account;
pub use exporter::{Exporter, Network};
pub use gguf::Gguf;
pub use hf::Hf;
pub use hf_padded::HfPadded;
pub use registry::{EXPORTERS, export, export_to, exporter_named};
