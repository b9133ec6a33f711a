//! Export to a Hugging Face directory at the network's own sizes.

use std::path::Path;

use super::cut::{Cut, plain_dtype};
use super::exporter::{Exporter, Network};
use super::network_card::model_card;
use crate::checkpoint::hf;
use crate::checkpoint::names::TensorName;
use crate::error::{Error, Result};
use crate::output::{Output, StagedDirectory};

/// A Hugging Face directory: plain LLaMA where all layers are alike, our remote code where they differ.
pub struct Hf;

impl Exporter for Hf {
    fn name(&self) -> (&'static str, &'static str) {
        ("hf", "a Hugging Face directory at its own sizes")
    }

    fn export(&self, network: Network, target: &Path, output: &Output) -> Result<()> {
        let staged = hf::stage(output, target)?;
        write(network, &staged)?;
        staged.publish()
    }
}

fn write(network: Network, staged: &StagedDirectory) -> Result<()> {
    let Network { parent, genome, dtype, .. } = network;
    let config = parent.subnet(genome)?;
    let kept: Vec<usize> = genome.kept().map(|(layer, _)| layer).collect();
    let dtype = plain_dtype(parent, genome, dtype);
    let tensor = |name| {
        let shape = config
            .tensor_shape(name)
            .ok_or_else(|| Error::invalid("tensor to export", format!("{name:?}"), "one of the network's"))?;
        let in_parent = match name {
            TensorName::Layer(layer, tensor) => TensorName::Layer(kept[layer], tensor),
            outside => outside,
        };
        Cut { name: in_parent, shape: &shape, bits: config.stored(name), kind: dtype.kind() }.of(parent)
    };
    let plain = config.with_plain_genome(config.genome.unquantized());
    hf::write_into(staged, &plain, &tensor, &parent.tokenizer_files()?, dtype)?;
    model_card(network, None)?.write_into(staged, &plain)
}
