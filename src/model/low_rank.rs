//! Low-rank adapters beside the weights of a running model: W + s · B · A (Hu et al. 2021, equation 3), as elastic as the
//! weights. A matrix that is narrowed by outputs takes the first rows of B, one narrowed by inputs the first columns of A.
//!
//! Letters: as in `forward.rs`, and `r` rank.

use tch::{Kind, Tensor};

use crate::checkpoint::{Adapters, LayerTensor, LowRank};

/// The adapters of a model, on its device; none in a model as it was loaded.
#[derive(Default)]
pub(super) struct LowRanks(pub Option<Adapters>);

impl LowRanks {
    /// Handles of the same tensors.
    pub fn share(&self) -> LowRanks {
        LowRanks(self.0.as_ref().map(Adapters::share))
    }

    fn of(&self, layer: usize, tensor: LayerTensor) -> Option<(&LowRank, f64)> {
        let adapters = self.0.as_ref()?;
        Some((adapters.matrices.get(&(layer, tensor))?, adapters.scale()))
    }

    /// `out` (t, n) of inputs (t, d) and what a matrix narrowed to n outputs gives more.
    pub fn add_outputs(&self, layer: usize, tensor: LayerTensor, out: Tensor, input: &Tensor) -> Tensor {
        match self.outputs(layer, tensor, out.size()[1], input) {
            Some(more) => out + more,
            None => out,
        }
    }

    /// `out` (t, d) of inputs (t, n) and what a matrix narrowed to n inputs gives more.
    pub fn add_inputs(&self, layer: usize, tensor: LayerTensor, out: Tensor, input: &Tensor) -> Tensor {
        let Some((LowRank { a, b }, scale)) = self.of(layer, tensor) else { return out };
        let a = a.narrow(1, 0, input.size()[1]); // (r, n)
        out + (input.matmul(&a.tr()) * scale).matmul(&b.tr())
    }

    /// Queries, keys and values side by side, (t, k, g + 2, e), of inputs (t, d), and what their matrices give more.
    pub fn add_qkv(&self, layer: usize, qkv: Tensor, input: &Tensor) -> Tensor {
        let (t, k, heads, e) = qkv.size4().expect("four dimensions");
        let parts = [(LayerTensor::Q, heads - 2), (LayerTensor::K, 1), (LayerTensor::V, 1)];
        if parts.iter().all(|&(tensor, _)| self.of(layer, tensor).is_none()) {
            return qkv;
        }
        let more = parts.map(|(tensor, heads)| {
            let more = self.outputs(layer, tensor, k * heads * e, input);
            let nothing = || Tensor::zeros([t, k * heads * e], (qkv.kind(), qkv.device()));
            more.unwrap_or_else(nothing).view([t, k, heads, e])
        });
        qkv + Tensor::cat(&more, 2) // (t, k, g + 2, e)
    }

    /// A matrix (out, in), or one of its first columns, with its adapter in it.
    pub fn merge(&self, layer: usize, tensor: LayerTensor, weight: Tensor) -> Tensor {
        let Some((LowRank { a, b }, scale)) = self.of(layer, tensor) else { return weight };
        let a = a.narrow(1, 0, weight.size()[1]);
        let product = b.to_kind(Kind::Float).matmul(&a.to_kind(Kind::Float)); // (out, in)
        (weight.to_kind(Kind::Float) + product * scale).to_kind(weight.kind())
    }

    /// The first n outputs of B · A for inputs (t, d), scaled: (t, n).
    fn outputs(&self, layer: usize, tensor: LayerTensor, n: i64, input: &Tensor) -> Option<Tensor> {
        let (LowRank { a, b }, scale) = self.of(layer, tensor)?;
        Some((input.matmul(&a.tr()) * scale).matmul(&b.narrow(0, 0, n).tr()))
    }
}
