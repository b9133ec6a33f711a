//! Matrices that write to the residual stream as networks of other widths than the model's own have them, on a device.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::matrix::parts_of;
use crate::checkpoint::{Checkpoint, Corrections, LayerTensor, LlamaConfig, Narrowed, TensorName};
use crate::error::Result;
use crate::space::{Gene, Genome, Matrix, ModelShape};

/// The corrected matrices of a supernet; none of a model that is no supernet or was ranked without a space.
#[derive(Default)]
pub(super) struct Corrected {
    of: Corrections,
    matrices: BTreeMap<Narrowed, Tensor>,
}

impl Corrected {
    /// Loads those of a checkpoint, in the kind of the model's matrices.
    pub(super) fn load(checkpoint: &Checkpoint, device: Device, kind: Kind) -> Result<Corrected> {
        let of = checkpoint.corrections().clone();
        let load = |at: Narrowed| -> Result<_> { Ok((at, of.read(at, kind)?.f_to_device(device)?)) };
        let matrices = of.matrices().map(load).collect::<Result<_>>()?;
        Ok(Corrected { of, matrices })
    }

    /// Handles of the same tensors.
    pub(super) fn share(&self) -> Corrected {
        let matrices = self.matrices.iter().map(|(&at, tensor)| (at, tensor.shallow_clone())).collect();
        Corrected { of: self.of.clone(), matrices }
    }

    /// A matrix of a layer for so many columns, where it is corrected for them: (d, columns).
    pub(super) fn get(&self, layer: usize, tensor: LayerTensor, columns: i64) -> Option<&Tensor> {
        self.matrices.get(&(TensorName::Layer(layer, tensor), columns as usize))
    }

    /// For how many columns a matrix is corrected in a layer of this gene, where it is.
    pub(super) fn columns_of(&self, matrix: Matrix, shape: &ModelShape, gene: Gene) -> Option<usize> {
        if self.matrices.is_empty() {
            return None;
        }
        let &[name] = parts_of(matrix).as_slice() else { return None };
        let &[_, columns] = name.shape(shape, gene).as_slice() else { return None };
        self.matrices.contains_key(&(name, columns)).then_some(columns)
    }

    /// Refuses a network that others would be corrected for and it is not.
    pub(super) fn check(&self, config: &LlamaConfig, genome: &Genome) -> Result<()> {
        self.of.check(config, genome)
    }

    /// How many weights they have together.
    pub(super) fn weights(&self) -> u64 {
        self.of.weights()
    }

    /// Every matrix.
    pub(super) fn all(&self) -> impl Iterator<Item = (Narrowed, &Tensor)> {
        self.matrices.iter().map(|(&at, tensor)| (at, tensor))
    }
}
