//! The matrices of a model as they are multiplied, and the checkpoint's tensors that each is made of.

use tch::Tensor;

use crate::checkpoint::TensorName;
use crate::error::Result;
use crate::space::Matrix;

/// What the checkpoint calls the parts of a matrix.
pub(super) fn parts_of(matrix: Matrix) -> Vec<TensorName> {
    match matrix {
        Matrix::Embedding => vec![TensorName::Embedding],
        Matrix::Head => vec![TensorName::Head],
        Matrix::Layer(layer, joint) => joint.parts().map(|row| TensorName::Layer(layer, row.tensor)).collect(),
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
