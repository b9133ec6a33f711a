//! Kernels against the plain operations they replace, on the card itself: how far apart, how much faster.

use std::time::Instant;

use tch::{Cuda, Device, Kind, Tensor};

use super::int8::Int8Matrix;
use super::rotary::Heads;
use super::tree_attention::Sight;
use super::{Kernels, int8, log_probs, rms_norm, rotary, swiglu, tree_attention};

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
    let Sizes { d, k, g, e, f, v, r } = sizes;
    let t = sight.ends.size()[0];
    let random = |size: &[i64]| Tensor::randn(size, (Kind::Float, device)).to_kind(kind);
    let (hidden, delta) = (random(&[t, d]), random(&[t, d]));
    let weight = Tensor::rand([d], (Kind::Float, device));
    let none = Kernels::none();
    let timed = |run: &dyn Fn(&Kernels)| [milliseconds(device, &|| run(kernels)), milliseconds(device, &|| run(&none))];
    let comparison = |name, error: f64, bound: f64, [kernel_ms, plain_ms]: [f64; 2]| {
        // Nothing may differ where the bound is 0.
        let of_bound = if error == 0.0 { 0.0 } else { error / bound };
        Comparison { name, of_bound, kernel_ms, plain_ms }
    };
    let mut all = Vec::new();

    let normed = |kernels: &Kernels| kernels.add_rms_norm(&hidden, &delta, &weight, 1e-5, kind);
    let ((sum, ours), (plain_sum, plain)) = (normed(kernels), normed(&none));
    let error = share(&ours, &plain, &plain).max(if sum == plain_sum { 0.0 } else { f64::INFINITY });
    let times = timed(&|kernels| drop(normed(kernels)));
    all.push(comparison("rms_norm", error, rms_norm::BOUND, times));

    let product = random(&[t, k, g + 2, e]);
    let angles = Tensor::rand([t, 1, 1, e / 2], (Kind::Float, device)) * 6.0;
    let cosines = Tensor::cat(&[angles.cos(), angles.cos()], 3).to_kind(kind);
    let sines = Tensor::cat(&[-angles.sin(), angles.sin()], 3).to_kind(kind);
    let rotated = |kernels: &Kernels| kernels.rotary(product.copy(), &cosines, &sines);
    let (ours, plain) = (rotated(kernels), rotated(&none));
    let halves = product.narrow(2, 0, g + 1).to_kind(Kind::Float).abs().view([t, k, g + 1, 2, e / 2]);
    let pair = halves.sum_dim_intlist([3_i64].as_slice(), false, Kind::Float).repeat([1, 1, 1, 2]);
    let error = share(&ours.query, &plain.query, &pair.narrow(2, 0, g));
    let error = error.max(share(&ours.key, &plain.key, &pair.select(2, g)));
    let again = product.copy();
    let times = timed(&|kernels| drop(kernels.rotary(again.shallow_clone(), &cosines, &sines)));
    all.push(comparison("rotary", error, rotary::BOUND, times));

    // Both from the same rotated heads, the plain operations in float32: what both approximate.
    let context = kernels.tree_attention(&ours, sight);
    let exact = |of: &Tensor| of.to_kind(Kind::Float);
    let heads = Heads { query: exact(&ours.query), key: exact(&ours.key), value: exact(&ours.value), packed: None };
    let error = share(&context, &tree_attention::reference(&heads, &in_float(sight)), &heads.value.abs().max());
    let times = timed(&|kernels| drop(kernels.tree_attention(&ours, sight)));
    all.push(comparison("tree_attention", error, tree_attention::BOUND, times));

    let (gate, up) = (random(&[t, f]), random(&[t, f]));
    let (ours, plain) = (kernels.swiglu(gate.copy(), &up), none.swiglu(gate.copy(), &up));
    let error = share(&ours, &plain, &plain);
    let times = timed(&|kernels| drop(kernels.swiglu(gate.shallow_clone(), &up)));
    all.push(comparison("swiglu", error, swiglu::BOUND, times));

    let logits = random(&[r, v]) * 4.0;
    let rows: Vec<i64> = (0..r).collect();
    let tokens: Vec<i64> = rows.iter().map(|row| row * 7919 % v).collect();
    let chosen = |kernels: &Kernels| kernels.log_probs(&logits, &rows, &tokens, true);
    let (ours, plain) = (chosen(kernels), chosen(&none));
    let error = (ours.log_probs - plain.log_probs).abs().max().double_value(&[]);
    let error = if ours.best == plain.best { error } else { f64::INFINITY };
    let times = timed(&|kernels| drop(chosen(kernels)));
    all.push(comparison("log_probs", error, log_probs::BOUND, times));

    let quants = Tensor::randint_low(-127, 128, [f, d], (Kind::Int8, device));
    let matrix = Int8Matrix { quants, scales: Tensor::rand([f, d / int8::BLOCK], (Kind::Float, device)) };
    let made = |kernels: &Kernels| kernels.dequantized(&matrix, f, d, kind);
    let error = if made(kernels) == made(&none) { 0.0 } else { f64::INFINITY };
    let times = timed(&|kernels| drop(made(kernels)));
    all.push(comparison("int8", error, int8::BOUND, times));
    all
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
    Sight { blocks, ends: sight.ends.shallow_clone(), roots: sight.roots.shallow_clone() }
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

    #[test]
    fn without_kernels_nothing_differs_beyond_rounding() {
        let t: i64 = 12;
        let block = Block { start: 0, len: t, ancestors: None, mask: None };
        let ends = Tensor::from_slice(&vec![t as i32; t as usize]);
        let roots = Tensor::zeros([t], (Kind::Int, Device::Cpu));
        let sight = Sight { blocks: vec![block], ends, roots };
        let sizes = Sizes { d: 64, k: 2, g: 2, e: 16, f: 96, v: 300, r: 5 };
        let all = compare(&Kernels::none(), sizes, &sight, Device::Cpu, Kind::BFloat16);
        assert_eq!(all.len(), 6);
        for one in all {
            assert!(one.of_bound <= 1.0 && one.kernel_ms > 0.0 && one.plain_ms > 0.0, "{one:?}");
            assert!(one.name == "tree_attention" || one.of_bound == 0.0, "{one:?}");
        }
    }
}
