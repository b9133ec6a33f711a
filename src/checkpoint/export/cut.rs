//! Parts of a parent's tensors, filled with zeros where a format wants more.

use tch::{Device, Kind, Tensor};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::config::Dtype;
use crate::checkpoint::names::TensorName;
use crate::checkpoint::quantize::rounded;
use crate::error::Result;
use crate::space::{Bits, Genome};

/// A part of a parent's tensor: its first rows and columns, with the values that these bits can store.
#[derive(Clone, Copy)]
pub(super) struct Cut<'a> {
    pub(super) name: TensorName,
    /// Nowhere larger than the parent's tensor.
    pub(super) shape: &'a [usize],
    pub(super) bits: Bits,
    pub(super) kind: Kind,
}

impl Cut<'_> {
    /// The part: a view of the parent's tensor where nothing is rounded.
    pub(super) fn of(self, parent: &Checkpoint) -> Result<Tensor> {
        let Cut { name, shape, bits, kind } = self;
        // Rounded from the most exact values, as a file of blocks is.
        let part = parent.part(name, shape, if bits.is_full() { kind } else { Kind::Float })?;
        Ok(rounded(&name.hf(), &part, bits)?.f_to_kind(kind)?)
    }
}

/// The type of a Hugging Face directory, which has no blocks: one that holds the values of quantized matrices exactly, or
/// the parent's.
pub(super) fn plain_dtype(parent: &Checkpoint, genome: &Genome, wanted: Option<Dtype>) -> Dtype {
    let exact = if genome.is_quantized() { Dtype::F32 } else { parent.config().dtype };
    wanted.unwrap_or(exact).unquantized()
}

/// A part of a parent's tensor filled with zeros to `shape`; without `there` it is all zeros. A norm that neither the cut
/// nor the parent has is all ones: what it scales is multiplied by zeros.
pub(super) fn cut_and_fill(parent: &Checkpoint, cut: Cut, there: bool, shape: &[usize]) -> Result<Tensor> {
    let Cut { name, shape: kept, kind, .. } = cut;
    if name.is_norm() {
        return parent.tensor(name, kind).or_else(|_| filled(shape, 1.0, kind));
    }
    if !there {
        return filled(shape, 0.0, kind);
    }
    let part = cut.of(parent)?;
    if kept == shape {
        return Ok(part);
    }
    let whole = filled(shape, 0.0, kind)?;
    let place = kept
        .iter()
        .enumerate()
        .try_fold(whole.shallow_clone(), |tensor, (dim, &len)| tensor.f_narrow(dim as i64, 0, len as i64));
    place?.f_copy_(&part)?;
    Ok(whole)
}

fn filled(shape: &[usize], value: f64, kind: Kind) -> Result<Tensor> {
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    Ok(Tensor::f_full(shape, value, (kind, Device::Cpu))?)
}
