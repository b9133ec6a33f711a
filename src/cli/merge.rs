//! `criadero merge`: a supernet and its adapters become one checkpoint.

use std::path::PathBuf;

use criadero::model::Llama;
use criadero::tune::tuned;
use tch::{Device, Kind};

use super::model;
use super::train::not_onto;

/// Merge adapters that `criadero tune --lora` trained into the supernet they were trained on
#[derive(clap::Args)]
pub struct Merge {
    /// The supernet
    supernet: PathBuf,
    /// The adapters' directory
    adapter: PathBuf,
    /// Directory of the merged checkpoint
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Merge {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let base = model::open(&self.supernet)?;
        not_onto(&self.out, &[base.path(), self.adapter.as_path()])?;
        let adapters = tuned::read_adapters(&self.adapter, &base)?;
        let mut model = Llama::load(&base, Device::Cpu, Kind::Float)?;
        model.adapt(&adapters);
        tuned::write(&model, &base, &self.out)?;
        println!("checkpoint: {}", self.out.display());
        Ok(())
    }
}
