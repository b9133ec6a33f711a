//! RMSNorm (Zhang and Sennrich 2019, equation 4), with the addition to the residual stream before it.

use half::bf16;
use tch::{Kind, Tensor};

use super::card::Argument::{Float, Int, Null, Tensor as Values};
use super::cpu::{self, Band, Element};
use super::{Kernels, LoopKind};

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
        let Some(card) = card else {
            return match (self.loop_for(&[hidden, weight], &[]), kind) {
                (Some(LoopKind::F32), Kind::Float) => looped::<f32>(hidden, None, weight, epsilon).1,
                (Some(LoopKind::F32), Kind::BFloat16) => looped::<bf16>(hidden, None, weight, epsilon).1,
                _ => reference(hidden, weight, epsilon, kind),
            };
        };
        let normed = hidden.empty_like();
        let arguments =
            [Values(hidden), Null, Values(weight), Null, Values(&normed), Int(d as i32), Float(epsilon as f32)];
        card.launch("rms_norm", [t as u32, 1], THREADS, &arguments);
        normed
    }

    /// Whether [`Kernels::add_rms_norm`] is one pass for the product of `input` with a matrix, rather than several that might as
    /// well be apart.
    pub fn adds_and_norms(&self, hidden: &Tensor, input: &Tensor, weight: &Tensor) -> bool {
        self.on_card() || self.loop_for(&[input], &[hidden, weight]).is_some()
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
            return match (self.loop_for(&[delta], &[hidden, weight]), kind) {
                (Some(LoopKind::F32), Kind::Float) => looped::<f32>(hidden, Some(delta), weight, epsilon),
                (Some(LoopKind::Bf16), Kind::BFloat16) => looped::<bf16>(hidden, Some(delta), weight, epsilon),
                _ => {
                    let sum = hidden + delta;
                    let normed = reference(&sum, weight, epsilon, kind);
                    (sum, normed)
                }
            };
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

/// The CPU's loop: the sum, which is `hidden` itself where nothing is added, and its norm.
fn looped<E: Element>(hidden: &Tensor, delta: Option<&Tensor>, weight: &Tensor, epsilon: f64) -> (Tensor, Tensor) {
    let (t, d) = hidden.size2().expect("rows of the hidden size");
    let mut sum = if delta.is_some() { hidden.empty_like() } else { hidden.shallow_clone() };
    let mut normed = Tensor::empty([t, d], (E::KIND, hidden.device()));
    let (weight, epsilon) = (cpu::values::<f32>(weight), epsilon as f32);
    let (t, d) = (t as usize, d as usize);
    let size = (cpu::rows_a_band(t, d) * d).max(1);
    let (before, after) = (cpu::values::<f32>(hidden).chunks(size), cpu::values_mut::<E>(&mut normed).chunks_mut(size));
    match delta {
        Some(delta) => {
            let sums = cpu::values_mut::<f32>(&mut sum).chunks_mut(size);
            let parts = before.zip(cpu::values::<E>(delta).chunks(size)).zip(sums).zip(after);
            cpu::run(parts.map(|(((hidden, delta), sum), normed)| AddAndNorm {
                hidden,
                delta,
                sum,
                weight,
                epsilon,
                normed,
            }));
        }
        None => cpu::run(before.zip(after).map(|(hidden, normed)| Norm { hidden, weight, epsilon, normed })),
    }
    (sum, normed)
}

/// Rows that are normed.
struct Norm<'a, E> {
    hidden: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    normed: &'a mut [E],
}

/// Rows that are added, then normed.
struct AddAndNorm<'a, E> {
    hidden: &'a [f32],
    delta: &'a [E],
    sum: &'a mut [f32],
    weight: &'a [f32],
    epsilon: f32,
    normed: &'a mut [E],
}

impl<E: Element> Band for Norm<'_, E> {
    #[inline(always)]
    fn run(self) {
        let d = self.weight.len();
        for (row, normed) in self.hidden.chunks_exact(d).zip(self.normed.chunks_exact_mut(d)) {
            norm_row(row, self.weight, self.epsilon, normed);
        }
    }
}

impl<E: Element> Band for AddAndNorm<'_, E> {
    #[inline(always)]
    fn run(self) {
        let d = self.weight.len();
        let rows = self.hidden.chunks_exact(d).zip(self.delta.chunks_exact(d));
        for ((hidden, delta), (sum, normed)) in
            rows.zip(self.sum.chunks_exact_mut(d).zip(self.normed.chunks_exact_mut(d)))
        {
            for ((sum, hidden), delta) in sum.iter_mut().zip(hidden).zip(delta) {
                *sum = hidden + delta.load();
            }
            norm_row(sum, self.weight, self.epsilon, normed);
        }
    }
}

#[inline(always)]
fn norm_row<E: Element>(row: &[f32], weight: &[f32], epsilon: f32, normed: &mut [E]) {
    let squares = cpu::sum(row, |sum, value| value.mul_add(value, sum));
    let scale = 1.0 / (squares / row.len() as f32 + epsilon).sqrt();
    for ((normed, value), weight) in normed.iter_mut().zip(row).zip(weight) {
        *normed = E::store(value * scale * weight);
    }
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
