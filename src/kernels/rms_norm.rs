//! RMSNorm (Zhang and Sennrich 2019, equation 4), with the addition to the residual stream before it.

use tch::{Kind, Tensor};

use super::Kernels;
use super::card::Argument::{Float, Int, Null, Tensor as Values};

/// Largest difference of the kernel from [`reference()`], as a share of the value: a rounding to bfloat16 that falls on the
/// other side, because squares are added in another order.
pub const BOUND: f64 = 1.0 / 128.0;

/// Threads of a row.
const THREADS: u32 = 256;

impl Kernels {
    /// `hidden / √(mean(hidden²) + epsilon) · weight` of every row, in `kind`: (t, d) to (t, d). The weight is float32, (d), and
    /// so is what is computed.
    pub fn rms_norm(&self, hidden: &Tensor, weight: &Tensor, epsilon: f64, kind: Kind) -> Tensor {
        let (t, d) = hidden.size2().expect("rows of the hidden size");
        let card = self.card_for(&[hidden]).filter(|_| kind == Kind::BFloat16 && fits(d) && !weight.requires_grad());
        let Some(card) = card else { return reference(hidden, weight, epsilon, kind) };
        let normed = hidden.empty_like();
        let arguments =
            [Values(hidden), Null, Values(weight), Null, Values(&normed), Int(d as i32), Float(epsilon as f32)];
        card.launch("rms_norm", [t as u32, 1], THREADS, &arguments);
        normed
    }

    /// `hidden + delta`, and that sum's RMSNorm: two of (t, d). The sum is rounded to the hidden states' kind before it is normed.
    pub fn add_rms_norm(
        &self,
        hidden: &Tensor,
        delta: &Tensor,
        weight: &Tensor,
        epsilon: f64,
        kind: Kind,
    ) -> (Tensor, Tensor) {
        let (t, d) = hidden.size2().expect("rows of the hidden size");
        let card =
            self.card_for(&[hidden, delta]).filter(|_| kind == Kind::BFloat16 && fits(d) && !weight.requires_grad());
        let Some(card) = card else {
            let sum = hidden + delta;
            let normed = reference(&sum, weight, epsilon, kind);
            return (sum, normed);
        };
        let (sum, normed) = (hidden.empty_like(), hidden.empty_like());
        let rest = [Values(&sum), Values(&normed), Int(d as i32), Float(epsilon as f32)];
        let arguments: Vec<_> = [Values(hidden), Values(delta), Values(weight)].into_iter().chain(rest).collect();
        card.launch("rms_norm", [t as u32, 1], THREADS, &arguments);
        (sum, normed)
    }
}

/// Whether the kernel takes rows of this length.
fn fits(d: i64) -> bool {
    d % 8 == 0
}

/// The plain operations, on rows of any number of dimensions: (…, d) to (…, d).
pub fn reference(hidden: &Tensor, weight: &Tensor, epsilon: f64, kind: Kind) -> Tensor {
    let x = hidden.to_kind(Kind::Float); // (…, d)
    // The L2 norm needs no squares of its own: on the CPU six times faster than their mean.
    let mean_square = x.norm_scalaropt_dim(2.0, [-1_i64].as_slice(), true).square() / weight.numel() as f64;
    let scale = (mean_square + epsilon).rsqrt(); // (…, 1)
    let mut normed = x * scale;
    // In place where no gradient needs what would be overwritten.
    let normed = if normed.requires_grad() || weight.requires_grad() { normed * weight } else { normed.g_mul_(weight) };
    normed.to_kind(kind)
}
