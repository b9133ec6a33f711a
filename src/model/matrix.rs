//! The matrices of a model as they are multiplied, and the checkpoint's tensors that each is made of.

use tch::Tensor;

use crate::checkpoint::{LayerTensor, TensorName};
use crate::error::Result;

/// A matrix of a model. Queries, keys and values of a layer are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Matrix {
    Embedding,
    Head,
    Qkv(usize),
    O(usize),
    Gate(usize),
    Up(usize),
    Down(usize),
}

impl Matrix {
    /// What the checkpoint calls its parts.
    pub(super) fn tensors(self) -> Vec<TensorName> {
        let (layer, names) = match self {
            Matrix::Embedding => return vec![TensorName::Embedding],
            Matrix::Head => return vec![TensorName::Head],
            Matrix::Qkv(layer) => (layer, &[LayerTensor::Q, LayerTensor::K, LayerTensor::V][..]),
            Matrix::O(layer) => (layer, &[LayerTensor::O][..]),
            Matrix::Gate(layer) => (layer, &[LayerTensor::Gate][..]),
            Matrix::Up(layer) => (layer, &[LayerTensor::Up][..]),
            Matrix::Down(layer) => (layer, &[LayerTensor::Down][..]),
        };
        names.iter().map(|&name| TensorName::Layer(layer, name)).collect()
    }

    /// Whether it belongs to a layer.
    pub(super) fn is_in_layer(self) -> bool {
        !matches!(self, Matrix::Embedding | Matrix::Head)
    }
}

/// The rows of parts with the same number of columns, such as queries (h·e, d), keys and values (k·e, d), KV group by KV group,
/// so that one product makes them all and a number of groups is still a prefix: (k·(g + 2)·e, d). A part alone is itself.
pub(super) fn by_group(parts: &[Tensor], groups: i64) -> Result<Tensor> {
    if let [only] = parts {
        return Ok(only.shallow_clone());
    }
    let columns = parts[0].size()[1];
    let parts: Vec<Tensor> = parts.iter().map(|part| part.view([groups, -1, columns])).collect();
    Ok(Tensor::f_cat(&parts, 1)?.view([-1, columns]))
}
