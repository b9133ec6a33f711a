//! Kernels against the plain operations they replace, on the card itself: how far apart, how much faster.

use std::time::Instant;

use tch::{Cuda, Device, Kind, Tensor};

use super::int8::Int8Matrix;
use super::rotary::Heads;
use super::tree_attention::Sight;
use super::{Kernels, int8, log_probs, rms_norm, rotary, stream_kind, swiglu, tree_attention};

/// Largest difference in float32, as the operations' own bounds are meant: sums are added in another order.
const FLOAT_BOUND: f64 = 1e-5;

/// Sizes of a model and a chunk, by the letters of `model/llama.rs`.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Hidden size.
    pub d: i64,
    /// Key/value heads.
    pub k: i64,
    /// Query heads in a group.
    pub g: i64,
    /// Size of a head.
    pub e: i64,
    /// MLP width.
    pub f: i64,
    /// Vocabulary.
    pub v: i64,
    /// Rows that predict something.
    pub r: i64,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Its name.
    pub name: &'static str,
    /// The largest difference, as a share of the stated bound; 0 where both are the same.
    pub of_bound: f64,
    /// Milliseconds of the kernel.
    pub kernel_ms: f64,
    /// Milliseconds of the plain operations.
    pub plain_ms: f64,
}

/// Runs every operation with these kernels and without on random values of the tokens that `sight` covers.
pub fn compare(kernels: &Kernels, sizes: Sizes, sight: &Sight, device: Device, kind: Kind) -> Vec<Comparison> {
    tch::manual_seed(1);
    let check = Check { kernels, plain: Kernels::none(), sizes, tokens: sight.ends.size()[0], device, kind };
    let norm = check.rms_norm();
    let (heads, rotation) = check.rotary();
    vec![norm, rotation, check.tree_attention(&heads, sight), check.swiglu(), check.log_probs(), check.int8()]
}

/// One comparison of all operations.
struct Check<'a> {
    kernels: &'a Kernels,
    plain: Kernels,
    sizes: Sizes,
    tokens: i64,
    device: Device,
    kind: Kind,
}

impl Check<'_> {
    fn random(&self, size: &[i64]) -> Tensor {
        Tensor::randn(size, (Kind::Float, self.device)).to_kind(self.kind)
    }

    fn comparison(&self, name: &'static str, error: f64, bound: f64, run: &dyn Fn(&Kernels)) -> Comparison {
        let [kernel_ms, plain_ms] =
            [self.kernels, &self.plain].map(|kernels| milliseconds(self.device, &|| run(kernels)));
        // Bounds are for bfloat16.
        let bound = if self.kind == Kind::Float { FLOAT_BOUND.min(bound) } else { bound };
        // Nothing may differ where the bound is 0.
        let of_bound = if error == 0.0 { 0.0 } else { error / bound };
        Comparison { name, of_bound, kernel_ms, plain_ms }
    }

    fn rms_norm(&self) -> Comparison {
        let size = [self.tokens, self.sizes.d];
        let (hidden, delta) = (self.random(&size).to_kind(stream_kind(self.device, self.kind)), self.random(&size));
        let weight = Tensor::rand([self.sizes.d], (Kind::Float, self.device));
        let normed = |kernels: &Kernels| kernels.add_rms_norm(&hidden, &delta, &weight, 1e-5, self.kind);
        let ((sum, ours), (plain_sum, plain)) = (normed(self.kernels), normed(&self.plain));
        let error = share(&ours, &plain, &plain).max(if sum == plain_sum { 0.0 } else { f64::INFINITY });
        self.comparison("rms_norm", error, rms_norm::BOUND, &|kernels| drop(normed(kernels)))
    }

    /// The kernel's rotated heads, too.
    fn rotary(&self) -> (Heads, Comparison) {
        let Sizes { k, g, e, .. } = self.sizes;
        let product = self.random(&[self.tokens, k, g + 2, e]);
        let angles = Tensor::rand([self.tokens, 1, 1, e / 2], (Kind::Float, self.device)) * 6.0;
        let cosines = Tensor::cat(&[angles.cos(), angles.cos()], 3).to_kind(stream_kind(self.device, self.kind));
        let sines = Tensor::cat(&[-angles.sin(), angles.sin()], 3).to_kind(stream_kind(self.device, self.kind));
        let rotated = |kernels: &Kernels| kernels.rotary(product.copy(), &cosines, &sines);
        let (ours, plain) = (rotated(self.kernels), rotated(&self.plain));
        let halves = product.narrow(2, 0, g + 1).to_kind(Kind::Float).abs().view([self.tokens, k, g + 1, 2, e / 2]);
        let pair = halves.sum_dim_intlist([3_i64].as_slice(), false, Kind::Float).repeat([1, 1, 1, 2]);
        let error = share(&ours.query, &plain.query, &pair.narrow(2, 0, g));
        let error = error.max(share(&ours.key, &plain.key, &pair.select(2, g)));
        let again = product.copy();
        let run = |kernels: &Kernels| drop(kernels.rotary(again.shallow_clone(), &cosines, &sines));
        let comparison = self.comparison("rotary", error, rotary::BOUND, &run);
        (ours, comparison)
    }

    fn tree_attention(&self, heads: &Heads, sight: &Sight) -> Comparison {
        let context = self.kernels.tree_attention(heads, sight);
        // Both from the same rotated heads, the plain operations in float32: what both approximate.
        let exact = |of: &Tensor| of.to_kind(Kind::Float);
        let float =
            Heads { query: exact(&heads.query), key: exact(&heads.key), value: exact(&heads.value), packed: None };
        let plain = tree_attention::reference(&float, &in_float(sight));
        let error = share(&context, &plain, &float.value.abs().max());
        let run = |kernels: &Kernels| drop(kernels.tree_attention(heads, sight));
        self.comparison("tree_attention", error, tree_attention::BOUND, &run)
    }

    fn swiglu(&self) -> Comparison {
        let size = [self.tokens, self.sizes.f];
        let (gate, up) = (self.random(&size), self.random(&size));
        let (ours, plain) = (self.kernels.swiglu(gate.copy(), &up), self.plain.swiglu(gate.copy(), &up));
        let run = |kernels: &Kernels| drop(kernels.swiglu(gate.shallow_clone(), &up));
        self.comparison("swiglu", share(&ours, &plain, &plain), swiglu::BOUND, &run)
    }

    fn log_probs(&self) -> Comparison {
        let Sizes { v, r, .. } = self.sizes;
        let logits = self.random(&[r, v]) * 4.0;
        let rows: Vec<i64> = (0..r).collect();
        let tokens: Vec<i64> = rows.iter().map(|row| row * 7919 % v).collect();
        let chosen = |kernels: &Kernels| kernels.log_probs(&logits, &rows, &tokens, true);
        let (ours, plain) = (chosen(self.kernels), chosen(&self.plain));
        let error = (ours.log_probs - plain.log_probs).abs().max().double_value(&[]);
        let error = if ours.best == plain.best { error } else { f64::INFINITY };
        self.comparison("log_probs", error, log_probs::BOUND, &|kernels| drop(chosen(kernels)))
    }

    fn int8(&self) -> Comparison {
        let Sizes { d, f, .. } = self.sizes;
        let quants = Tensor::randint_low(-127, 128, [f, d], (Kind::Int8, self.device));
        let scales = Tensor::rand([f, d / int8::BLOCK], (Kind::Float, self.device));
        let matrix = Int8Matrix { quants, scales };
        let made = |kernels: &Kernels| kernels.dequantized(&matrix, f, d, self.kind);
        let error = if made(self.kernels) == made(&self.plain) { 0.0 } else { f64::INFINITY };
        self.comparison("int8", error, int8::BOUND, &|kernels| drop(made(kernels)))
    }
}

/// The largest difference as a share of `scale`, entry by entry.
fn share(ours: &Tensor, plain: &Tensor, scale: &Tensor) -> f64 {
    let difference = (ours.to_kind(Kind::Float) - plain.to_kind(Kind::Float)).abs();
    (difference / scale.to_kind(Kind::Float).abs().clamp_min(1e-6)).max().double_value(&[])
}

fn in_float(sight: &Sight) -> Sight {
    let block = |block: &tree_attention::Block| tree_attention::Block {
        start: block.start,
        len: block.len,
        ancestors: block.ancestors.as_ref().map(Tensor::shallow_clone),
        mask: block.mask.as_ref().map(|mask| mask.to_kind(Kind::Float)),
    };
    let blocks = sight.blocks.iter().map(block).collect();
    Sight { blocks, ends: sight.ends.shallow_clone(), roots: sight.roots.shallow_clone(), ..*sight }
}

/// Waits until a device has done what it was given.
pub fn wait(device: Device) {
    if let Device::Cuda(card) = device {
        Cuda::synchronize(card as i64);
    }
}

/// Milliseconds of one run: the fastest of some series, behind a warm-up.
pub fn milliseconds(device: Device, run: &dyn Fn()) -> f64 {
    let series = |runs: usize| {
        wait(device);
        let start = Instant::now();
        (0..runs).for_each(|_| run());
        wait(device);
        start.elapsed().as_secs_f64() * 1e3 / runs as f64
    };
    // About 20 ms a series: launches hide behind each other as in a forward pass.
    let once = series(2);
    let runs = ((20.0 / once.max(1e-3)) as usize).clamp(1, 200);
    (0..5).map(|_| series(runs)).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::tree_attention::Block;

    fn compare_here(kernels: &Kernels, kind: Kind) -> Vec<Comparison> {
        let t: i64 = 12;
        let block = Block { start: 0, len: t, ancestors: None, mask: None };
        let ends = Tensor::from_slice(&vec![t as i32; t as usize]);
        let roots = Tensor::zeros([t], (Kind::Int, Device::Cpu));
        let sight = Sight { blocks: vec![block], ends, roots, windowed: false };
        let sizes = Sizes { d: 64, k: 2, g: 2, e: 16, f: 96, v: 300, r: 5 };
        compare(kernels, sizes, &sight, Device::Cpu, kind)
    }

    #[test]
    fn without_kernels_nothing_differs_beyond_rounding() {
        let all = compare_here(&Kernels::none(), Kind::BFloat16);
        assert_eq!(all.len(), 6);
        for one in all {
            assert!(one.of_bound <= 1.0 && one.kernel_ms > 0.0 && one.plain_ms > 0.0, "{one:?}");
            assert!(one.name == "tree_attention" || one.of_bound == 0.0, "{one:?}");
        }
    }

    #[test]
    fn the_loops_of_the_cpu_are_within_the_bounds() {
        for kind in [Kind::Float, Kind::BFloat16] {
            for one in compare_here(&Kernels::of_cpu(), kind) {
                assert!(one.of_bound <= 1.0, "{kind:?} {one:?}");
            }
        }
    }
}
