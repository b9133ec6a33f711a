//! Export to a plain LLaMA directory at the parent's widths, with zeros where the network has nothing.

use std::path::Path;

use super::cut::{Cut, cut_and_fill, plain_dtype};
use super::exporter::{Exporter, Network};
use super::network_card::model_card;
use crate::checkpoint::hf;
use crate::checkpoint::names::TensorName;
use crate::error::{Error, Result};
use crate::output::{Output, StagedDirectory};
use crate::space::{Gene, Genome};

/// A Hugging Face directory of plain LLaMA, zero-padded to the parent's widths: runs wherever the parent does.
///
/// Dropped layers are gone; everywhere else rows of q, k, v, gate and up and columns of o and down are zeros behind the kept
/// ones. Heads are kept by whole groups from the first on, so that every kept head stays beside the keys it had.
pub struct HfPadded;

impl Exporter for HfPadded {
    fn name(&self) -> (&'static str, &'static str) {
        ("hf-padded", "a Hugging Face directory zero-padded to the parent's sizes")
    }

    fn export(&self, network: Network, target: &Path, output: &Output) -> Result<()> {
        let staged = hf::stage(output, target)?;
        write(network, &staged)?;
        staged.publish()
    }
}

fn write(network: Network, staged: &StagedDirectory) -> Result<()> {
    let Network { parent, genome, dtype, .. } = network;
    let own = parent.subnet(genome)?;
    let kept: Vec<usize> = genome.kept().map(|(layer, _)| layer).collect();
    let parent_shape = &parent.config().shape;
    let full = Gene::new(parent_shape.heads as u32, parent_shape.mlp as u32);
    let padded = own.with_plain_genome(Genome::uniform(kept.len(), full));
    let dtype = plain_dtype(parent, genome, dtype);
    let shape_of = |config: &crate::checkpoint::LlamaConfig, name| {
        let unknown = || Error::invalid("tensor to export", format!("{name:?}"), "one of the network's");
        config.tensor_shape(name).ok_or_else(unknown)
    };
    let tensor = |name| {
        let (in_parent, there) = match name {
            TensorName::Layer(layer, tensor) => {
                let gene = own.gene(layer);
                let there = tensor.row().half.is_in(gene);
                (TensorName::Layer(kept[layer], tensor), there)
            }
            outside => (outside, true),
        };
        let own_shape = shape_of(&own, name)?;
        let cut = Cut { name: in_parent, shape: &own_shape, bits: own.stored(name), kind: dtype.kind() };
        cut_and_fill(parent, cut, there, &shape_of(&padded, name)?)
    };
    hf::write_into(staged, &padded, &tensor, &parent.tokenizer_files()?, dtype)?;
    let how = "Layers are as wide as the parent's, with zeros behind what was kept.";
    model_card(network, Some(how))?.write_into(staged, &padded)
}
