//! Export to a Hugging Face directory at the network's own sizes.

use std::path::Path;

use crate::checkpoint::config::Dtype;
use crate::checkpoint::export::cut;
use crate::checkpoint::names::TensorName;
use crate::checkpoint::{Checkpoint, hf};
use crate::error::{Error, Result};
use crate::space::Genome;

/// Writes the directory `out`: plain LLaMA where all layers are alike, our remote code where they differ.
pub(super) fn export(parent: &Checkpoint, genome: &Genome, dtype: Option<Dtype>, out: &Path) -> Result<()> {
    let config = parent.config().subnet(genome)?;
    let kept: Vec<usize> = genome.kept().map(|(layer, _)| layer).collect();
    let dtype = dtype.unwrap_or(config.dtype).unquantized();
    let tensor = |name| {
        let shape = config
            .tensor_shape(name)
            .ok_or_else(|| Error::invalid("tensor to export", format!("{name:?}"), "one of the network's"))?;
        let in_parent = match name {
            TensorName::Layer(layer, tensor) => TensorName::Layer(kept[layer], tensor),
            outside => outside,
        };
        cut(parent, in_parent, &shape, dtype.kind())
    };
    hf::write(out, &config, &tensor, &parent.tokenizer_files()?, dtype)
}
