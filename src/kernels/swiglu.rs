//! SwiGLU (Shazeer 2020, equation 6) before the down projection.

use half::bf16;
use tch::Tensor;

use super::card::Argument::{Long, Tensor as Values};
use super::cpu::{self, Band, Element};
use super::{Kernels, LoopKind};

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
            return match self.loop_for(&[&gate, up], &[]) {
                Some(LoopKind::F32) => looped::<f32>(gate, up),
                Some(LoopKind::Bf16) => looped::<bf16>(gate, up),
                None => reference(gate, up),
            };
        };
        let blocks = (count / 8) as u64;
        let blocks = u32::try_from(blocks.div_ceil(u64::from(THREADS))).expect("fewer than 2^43 values");
        card.launch("swiglu", [blocks, 1], THREADS, &[Values(&gate), Values(up), Long(count / 8)]);
        gate
    }
}

/// The CPU's loop, in float32 until the end.
fn looped<E: Element>(mut gate: Tensor, up: &Tensor) -> Tensor {
    let size = cpu::rows_a_band(gate.numel(), 1);
    let parts = cpu::values_mut::<E>(&mut gate).chunks_mut(size).zip(cpu::values::<E>(up).chunks(size));
    cpu::run(parts.map(|(gate, up)| Part { gate, up }));
    gate
}

/// Some of the values.
struct Part<'a, E> {
    gate: &'a mut [E],
    up: &'a [E],
}

impl<E: Element> Band for Part<'_, E> {
    #[inline(always)]
    fn run(self) {
        for (gate, up) in self.gate.iter_mut().zip(self.up) {
            let x = gate.load();
            *gate = E::store(x / (1.0 + cpu::exp(-x)) * up.load());
        }
    }
}

/// The plain operations.
pub fn reference(mut gate: Tensor, up: &Tensor) -> Tensor {
    // In place where no gradient needs what would be overwritten.
    if gate.requires_grad() { gate.silu() * up } else { gate.silu_().g_mul_(up) }
}
