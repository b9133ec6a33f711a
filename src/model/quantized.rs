//! Matrices with the values that blocks can hold, made when a network first needs them and then shared by all threads.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tch::Tensor;

use crate::checkpoint::quantize::rounded;
use crate::error::Result;
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
            Matrix::Qkv(layer) => write!(f, "layers.{layer}.qkv_proj"),
            Matrix::O(layer) => write!(f, "layers.{layer}.o_proj"),
            Matrix::Gate(layer) => write!(f, "layers.{layer}.gate_proj"),
            Matrix::Up(layer) => write!(f, "layers.{layer}.up_proj"),
            Matrix::Down(layer) => write!(f, "layers.{layer}.down_proj"),
        }
    }
}

/// Quantized and back, by matrix and type: as wide as the model's own, so that every narrower width is a prefix here too.
/// A block never crosses the border of a width, which is a whole number of blocks.
///
/// Products are in float32 on these values: on the CPU the file's own weights, bit for bit, but no faster than unquantized
/// ones. On CUDA weights are bfloat16 before they are quantized and after: close to the file's, not the same.
#[derive(Clone, Default)]
pub(super) struct QuantizedMatrices(Arc<Mutex<HashMap<(Matrix, Bits), Tensor>>>);

impl QuantizedMatrices {
    /// `whole` as it is stored in these bits: all of its rows, and as many whole blocks of them as there are.
    pub(super) fn of(&self, matrix: Matrix, whole: &Tensor, bits: Bits) -> Result<Tensor> {
        // A panic elsewhere leaves at worst a matrix less.
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = made.get(&(matrix, bits)) {
            return Ok(found.shallow_clone());
        }
        let block = bits.block_len() as i64;
        let columns = whole.size()[1] / block * block;
        let in_blocks = rounded(&matrix.to_string(), &whole.f_narrow(1, 0, columns)?, bits)?;
        let tensor = in_blocks.f_to_device(whole.device())?.f_to_kind(whole.kind())?;
        made.insert((matrix, bits), tensor.shallow_clone());
        Ok(tensor)
    }

    /// Bytes of all that was made.
    pub(super) fn bytes(&self) -> u64 {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.values().map(|tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64).sum()
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
        assert_eq!(matrices.bytes(), 4 * 4 * (256 + 288));
    }
}
