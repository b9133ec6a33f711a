//! SwiGLU (Shazeer 2020, equation 6) before the down projection.

use tch::Tensor;

use super::Kernels;
use super::card::Argument::{Long, Tensor as Values};

/// Largest difference of the kernel from [`reference()`], as a share of the value: the reference rounds to bfloat16 before the
/// product and behind it, the kernel once, and its exponential has two more units of float32 in error.
pub const BOUND: f64 = 1.0 / 64.0;

/// Threads of a block.
const THREADS: u32 = 256;

impl Kernels {
    /// `gate · sigmoid(gate) · up`: (t, f) twice to (t, f). The gate may be overwritten.
    pub fn swiglu(&self, gate: Tensor, up: &Tensor) -> Tensor {
        let count = gate.numel() as i64;
        let Some(card) = self.card_for(&[&gate, up]).filter(|_| count % 8 == 0 && count > 0) else {
            return reference(gate, up);
        };
        let blocks = (count / 8) as u64;
        let blocks = u32::try_from(blocks.div_ceil(u64::from(THREADS))).expect("fewer than 2^43 values");
        card.launch("swiglu", [blocks, 1], THREADS, &[Values(&gate), Values(up), Long(count / 8)]);
        gate
    }
}

/// The plain operations.
pub fn reference(mut gate: Tensor, up: &Tensor) -> Tensor {
    // In place where no gradient needs what would be overwritten.
    if gate.requires_grad() { gate.silu() * up } else { gate.silu_().g_mul_(up) }
}
