//! Weights that stay in Q8_0 on a card, made into bfloat16 for each product: libtorch's own int8 products take one scale a row,
//! not one for 32 weights.

use tch::{Device, Kind, Tensor};

use super::Kernels;
use super::card::Argument::{Int, Long, Tensor as Values};
use super::card::Card;

/// Largest difference of the kernel from [`Int8Matrix::reference`]: none; both round one float32 product to bfloat16.
pub const BOUND: f64 = 0.0;

/// Weights that share a scale.
pub const BLOCK: i64 = 32;

/// Threads of a block.
const THREADS: u32 = 256;

/// A matrix in blocks of 32 signed bytes with one scale each (`block_q8_0` of `ggml-common.h`).
pub struct Int8Matrix {
    /// (rows, columns) int8
    pub quants: Tensor,
    /// (rows, columns / 32) float32
    pub scales: Tensor,
}

impl Int8Matrix {
    /// Handles of the same tensors.
    pub fn share(&self) -> Int8Matrix {
        Int8Matrix { quants: self.quants.shallow_clone(), scales: self.scales.shallow_clone() }
    }

    /// The plain operations: the first `rows` by `columns` in `kind`.
    pub fn reference(&self, rows: i64, columns: i64, kind: Kind) -> Tensor {
        let quants = self.quants.narrow(0, 0, rows).narrow(1, 0, columns).to_kind(Kind::Float);
        let scales = self.scales.narrow(0, 0, rows).narrow(1, 0, columns / BLOCK).unsqueeze(2); // (rows, blocks, 1)
        (quants.reshape([rows, columns / BLOCK, BLOCK]) * scales).to_kind(kind).view([rows, columns])
    }
}

impl Kernels {
    /// The values of the first `rows` by `columns`, whole blocks, in `kind`.
    pub fn dequantized(&self, matrix: &Int8Matrix, rows: i64, columns: i64, kind: Kind) -> Tensor {
        let Int8Matrix { quants, scales } = matrix;
        let here = |card: &&Card| quants.device() == Device::Cuda(card.ordinal);
        let Some(card) = self.card().filter(|card| kind == Kind::BFloat16 && rows > 0 && here(card)) else {
            return matrix.reference(rows, columns, kind);
        };
        let weights = Tensor::empty([rows, columns], (kind, quants.device()));
        let stride = quants.size()[1] as i32;
        let blocks =
            u32::try_from((rows * columns / 16).div_euclid(i64::from(THREADS)) + 1).expect("fewer than 2^44 weights");
        let arguments =
            [Values(quants), Values(scales), Values(&weights), Long(rows), Int(columns as i32), Int(stride)];
        card.launch("dequantize_int8", [blocks, 1], THREADS, &arguments);
        weights
    }
}
