//! `criadero merge`: a supernet and its adapters become one checkpoint.

use std::path::PathBuf;

use criadero::checkpoint::hf;
use criadero::model::Llama;
use criadero::output::Output;
use criadero::tune::tuned;
use serde_json::json;
use tch::{Device, Kind};

use super::model;

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
    /// Replace what is there and was not written by this command
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Merge {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let base = model::open(&self.supernet)?;
        let output = Output::of("merge").reading(base.path()).reading(&self.adapter).forced(self.force);
        let staged = hf::stage(&output, &self.out)?;
        let adapters = tuned::read_adapters(&self.adapter, &base)?;
        let mut model = Llama::load(&base, Device::Cpu, Kind::Float)?;
        model.adapt(&adapters);
        tuned::write(&model, &base, &staged)?;
        staged.publish()?;
        if self.json {
            println!("{:#}", json!({ "checkpoint": self.out }));
        } else {
            println!("checkpoint: {}", self.out.display());
        }
        Ok(())
    }
}
