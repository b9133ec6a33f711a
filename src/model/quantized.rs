//! Matrices as blocks can hold them, made when a network first needs them and then shared by all threads.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tch::Tensor;

use crate::checkpoint::quantize::{int8, rounded};
use crate::error::Result;
use crate::kernels::Kernels;
use crate::kernels::int8::Int8Matrix;
use crate::space::Bits;

/// A matrix of a model.
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

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Matrix::Embedding => f.write_str("embed_tokens"),
            Matrix::Head => f.write_str("lm_head"),
            Matrix::Qkv(layer) => write!(f, "q_proj, k_proj or v_proj of layer {layer}"),
            Matrix::O(layer) => write!(f, "layers.{layer}.o_proj"),
            Matrix::Gate(layer) => write!(f, "layers.{layer}.gate_proj"),
            Matrix::Up(layer) => write!(f, "layers.{layer}.up_proj"),
            Matrix::Down(layer) => write!(f, "layers.{layer}.down_proj"),
        }
    }
}

/// Quantized matrices by type: as wide as the model's own, so that every narrower width is a prefix here too. A block never
/// crosses the border of a width, which is a whole number of blocks.
///
/// Most are kept as the values of their blocks, in the kind of the model: on the CPU, in float32, the file's own weights bit for
/// bit. Q8_0 with kernels stays int8 with its scales and is made into bfloat16 for each product. Products are no faster than
/// unquantized ones. On CUDA weights are bfloat16 before they are quantized and after: close to the file's, not the same.
#[derive(Clone, Default)]
pub(super) struct QuantizedMatrices(Arc<Mutex<HashMap<(Matrix, Bits), Stored>>>);

/// How a quantized matrix is kept.
enum Stored {
    Values(Tensor),
    Int8(Int8Matrix),
}

impl QuantizedMatrices {
    /// All of `whole` as it is stored in these bits: all of its rows, and as many whole blocks of them as there are.
    pub(super) fn of(&self, matrix: Matrix, whole: &Tensor, bits: Bits) -> Result<Tensor> {
        let columns = whole.size()[1] / bits.block_len() as i64 * bits.block_len() as i64;
        self.weight(matrix, whole, bits, [whole.size()[0], columns], &Kernels::none())
    }

    /// Makes a matrix, unless it was made.
    pub(super) fn prepare(&self, matrix: Matrix, whole: &Tensor, bits: Bits, kernels: &Kernels) -> Result<()> {
        self.stored(matrix, whole, bits, kernels).map(drop)
    }

    /// A handle of a matrix, which is made first where it was not.
    fn stored(&self, matrix: Matrix, whole: &Tensor, bits: Bits, kernels: &Kernels) -> Result<Stored> {
        // A panic elsewhere leaves at worst a matrix less.
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = made.get(&(matrix, bits)) {
            return Ok(found.share());
        }
        let block = bits.block_len() as i64;
        let whole_blocks = whole.f_narrow(1, 0, whole.size()[1] / block * block)?;
        let stored = match bits {
            Bits::Q8_0 if kernels.are_there() => {
                let (quants, scales) = int8(&matrix.to_string(), &whole_blocks)?;
                let [quants, scales] = [quants.f_to_device(whole.device())?, scales.f_to_device(whole.device())?];
                Stored::Int8(Int8Matrix { quants, scales })
            }
            _ => {
                let values = rounded(&matrix.to_string(), &whole_blocks, bits)?;
                Stored::Values(values.f_to_device(whole.device())?.f_to_kind(whole.kind())?)
            }
        };
        let handle = stored.share();
        made.insert((matrix, bits), stored);
        Ok(handle)
    }

    /// The first `rows` by `columns` of a matrix with the values that blocks hold.
    pub(super) fn weight(
        &self,
        matrix: Matrix,
        whole: &Tensor,
        bits: Bits,
        [rows, columns]: [i64; 2],
        kernels: &Kernels,
    ) -> Result<Tensor> {
        match self.stored(matrix, whole, bits, kernels)? {
            Stored::Values(values) => Ok(values.f_narrow(0, 0, rows)?.f_narrow(1, 0, columns)?),
            Stored::Int8(int8) => Ok(kernels.dequantized(&int8, rows, columns, whole.kind())),
        }
    }
}

impl Stored {
    /// The same tensors.
    fn share(&self) -> Stored {
        match self {
            Stored::Values(values) => Stored::Values(values.shallow_clone()),
            Stored::Int8(int8) => Stored::Int8(int8.share()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn makes_a_matrix_once_and_in_whole_blocks() {
        let whole = Tensor::rand([4, 300], (Kind::Float, Device::Cpu));
        let matrices = QuantizedMatrices::default();
        let shared = matrices.clone();
        let first = matrices.of(Matrix::O(3), &whole, Bits::Q6K).unwrap();
        assert_eq!(first.size(), [4, 256]);
        assert_eq!(shared.of(Matrix::O(3), &whole, Bits::Q6K).unwrap().data_ptr(), first.data_ptr());
        assert_eq!(shared.of(Matrix::O(3), &whole, Bits::Q8_0).unwrap().size(), [4, 288]);
        let part = shared.weight(Matrix::O(3), &whole, Bits::Q8_0, [2, 64], &Kernels::none()).unwrap();
        assert_eq!(part, matrices.of(Matrix::O(3), &whole, Bits::Q8_0).unwrap().narrow(0, 0, 2).narrow(1, 0, 64));
    }
}
