//! What an exporter is.

use std::path::{Path, PathBuf};

use super::account::Account;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::config::Dtype;
use crate::error::Result;
use crate::output::Output;
use crate::space::Genome;

/// A network to be exported: what is cut from which parent.
#[derive(Clone, Copy)]
pub struct Network<'a> {
    /// The parent.
    pub parent: &'a Checkpoint,
    /// The network.
    pub genome: &'a Genome,
    /// The type of its weights; by default the format's own choice.
    pub dtype: Option<Dtype>,
    /// What is told of it beside itself.
    pub account: Option<&'a Account>,
}

/// Writes networks in one format.
pub trait Exporter: Sync {
    /// What it is called on the command line, and in a line what it writes.
    fn name(&self) -> (&'static str, &'static str);

    /// The file or directory that is written when the user says `out`.
    fn target(&self, out: &Path) -> PathBuf {
        out.to_path_buf()
    }

    /// Refuses a network that the format cannot hold, from what is known without its weights.
    ///
    /// # Errors
    /// `Mismatch` when the genome does not fit, `Invalid` when the format has no place for layers or a tokenizer like these.
    fn check(&self, network: Network) -> Result<()> {
        network.parent.subnet(network.genome).map(drop)
    }

    /// Where what is written computes the same only within limits, a sentence each.
    fn notes(&self, _network: Network) -> Vec<String> {
        Vec::new()
    }

    /// Writes the network to a target of this output, whole or not at all.
    ///
    /// # Errors
    /// `Mismatch` when the genome does not fit, `Invalid` when a weight overflows the type, what the output refuses, `Io`.
    fn export(&self, network: Network, target: &Path, output: &Output) -> Result<()>;
}
