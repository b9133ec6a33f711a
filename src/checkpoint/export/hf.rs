//! Export to a Hugging Face directory at the network's own sizes.

use std::path::Path;

use crate::checkpoint::config::Dtype;
use crate::checkpoint::export::cut::{Cut, plain_dtype};
use crate::checkpoint::names::TensorName;
use crate::checkpoint::{Checkpoint, hf};
use crate::error::{Error, Result};
use crate::space::Genome;

/// Writes the directory `out`: plain LLaMA where all layers are alike, our remote code where they differ.
pub(super) fn export(parent: &Checkpoint, genome: &Genome, dtype: Option<Dtype>, out: &Path) -> Result<()> {
    let config = parent.config().subnet(genome)?;
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
    hf::write(out, &plain, &tensor, &parent.tokenizer_files()?, dtype)
}
