//! Loops over rows in the CPU's widest vectors, by as many threads as libtorch has here.
//!
//! What is beside the products of a half layer reads and writes memory more than it computes: one pass over a row, while it is
//! in the cache, does what takes libtorch several. Rows are computed alone and in one order whatever the number of threads, so
//! results are the same bits. Without fused multiply-add, as on x86 before AVX2, there are no loops and the references run.

use half::bf16;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

/// Fewer values than this a thread, and waking it costs more than it gives.
const VALUES_A_THREAD: usize = 1 << 15;

/// Independent sums of a row: as many as fill the vectors that one core adds at a time.
const LANES: usize = 64;

/// A value in memory that is computed with in float32.
pub(super) trait Element: Copy + Send + Sync {
    /// libtorch's name of it.
    const KIND: Kind;
    fn load(self) -> f32;
    /// The nearest value, ties to even.
    fn store(value: f32) -> Self;
}

impl Element for f32 {
    const KIND: Kind = Kind::Float;

    #[inline(always)]
    fn load(self) -> f32 {
        self
    }

    #[inline(always)]
    fn store(value: f32) -> f32 {
        value
    }
}

impl Element for bf16 {
    const KIND: Kind = Kind::BFloat16;

    #[inline(always)]
    fn load(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    // `bf16::from_f32` branches, and would not become vectors.
    #[inline(always)]
    fn store(value: f32) -> bf16 {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let quiet = bits >> 16 | 0x40;
        bf16::from_bits(if value.is_nan() { quiet } else { rounded } as u16)
    }
}

/// Work on some rows. `run` must be inlined, so that it is compiled for each kind of vectors.
pub(super) trait Band: Send {
    fn run(self);
}

/// Whether this CPU has what the loops need.
pub(super) fn has_loops() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(target_arch = "aarch64")]
    return true;
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// How many rows of `width` values one thread takes.
pub(super) fn rows_a_band(rows: usize, width: usize) -> usize {
    let threads = tch::get_num_threads().max(1) as usize;
    let useful = (rows * width / VALUES_A_THREAD).clamp(1, threads);
    rows.div_ceil(useful).max(1)
}

/// Runs all bands, side by side where there are several.
pub(super) fn run<B: Band>(bands: impl Iterator<Item = B>) {
    each(bands, run_here);
}

/// Does all parts of some work, side by side where there are several.
pub(super) fn each<P: Send>(parts: impl Iterator<Item = P>, work: impl Fn(P) + Sync + Send) {
    let parts: Vec<P> = parts.collect();
    if parts.len() > 1 { parts.into_par_iter().for_each(work) } else { parts.into_iter().for_each(work) }
}

/// Whether this CPU has the vectors of 512 bits that the loops are compiled for.
#[cfg(target_arch = "x86_64")]
pub(super) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

fn run_here<B: Band>(band: B) {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512() {
            // SAFETY: the CPU has these instructions.
            unsafe { avx512(band) }
        } else {
            // SAFETY: no band is made where `has_loops` does not find these instructions.
            unsafe { avx2(band) }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    band.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512<B: Band>(band: B) {
    band.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<B: Band>(band: B) {
    band.run();
}

/// Whether the loops can take a tensor: on this CPU, its values side by side, no gradient wanted.
pub(super) fn takes(tensor: &Tensor, kind: Kind) -> bool {
    tensor.device() == Device::Cpu && tensor.kind() == kind && tensor.is_contiguous() && !tensor.requires_grad()
}

/// The values of a tensor that the loops can take.
///
/// # Panics
/// When [`takes`] says no.
pub(super) fn values<E: Element>(tensor: &Tensor) -> &[E] {
    assert!(takes(tensor, E::KIND), "values of {tensor:?} as {:?}", E::KIND);
    match tensor.numel() {
        0 => &[],
        // SAFETY: so many values of this kind lie there side by side, for as long as the tensor lives.
        count => unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast(), count) },
    }
}

/// The same to be written. Nothing else may look at the tensor's memory meanwhile.
///
/// # Panics
/// When [`takes`] says no.
pub(super) fn values_mut<E: Element>(tensor: &mut Tensor) -> &mut [E] {
    assert!(takes(tensor, E::KIND), "values of {tensor:?} as {:?}", E::KIND);
    match tensor.numel() {
        0 => &mut [],
        // SAFETY: as in `values`; the caller has the only handle that is looked at.
        count => unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), count) },
    }
}

/// The sum of `of(value)` over a row, in a fixed order.
#[inline(always)]
pub(super) fn sum<E: Element>(row: &[E], of: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for values in whole {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum = of(*sum, value.load());
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum = of(*sum, value.load());
    }
    pairwise(sums, |a, b| a + b)
}

/// The largest value of a row; −∞ of none. A NaN is passed over.
#[inline(always)]
pub(super) fn largest<E: Element>(row: &[E]) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for values in whole {
        for (most, value) in most.iter_mut().zip(values) {
            *most = if value.load() > *most { value.load() } else { *most };
        }
    }
    for (most, value) in most.iter_mut().zip(rest) {
        *most = if value.load() > *most { value.load() } else { *most };
    }
    pairwise(most, f32::max)
}

#[inline(always)]
fn pairwise(mut values: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut count = LANES;
    while count > 1 {
        count /= 2;
        for place in 0..count {
            values[place] = join(values[place], values[place + count]);
        }
    }
    values[0]
}

/// e to the power of `x`, within 2 units in the last place; outside of −87.3 and 88 that of the nearer end.
///
/// Cody and Waite's reduction to |r| ≤ ln 2 / 2, then the coefficients of Cephes' `expf` (Moshier 1989).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    /// Added to a small number, its integer part is in the last bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.3, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let p = 1.987_569_1e-4_f32
        .mul_add(r, 1.398_199_9e-3)
        .mul_add(r, 8.333_452e-3)
        .mul_add(r, 4.166_579_6e-2)
        .mul_add(r, 1.666_666_6e-1)
        .mul_add(r, 0.5);
    let fraction = p.mul_add(r * r, r + 1.0);
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    fraction * f32::from_bits(n.wrapping_add(127) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_e_are_within_two_units_of_the_last_place() {
        let mut worst = 0.0_f64;
        for step in -873_000..=880_000 {
            let x = step as f32 * 1e-4;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
        }
        assert!(worst < 2.0_f64.powi(-22), "{worst:e}");
        assert_eq!([exp(-200.0), exp(0.0), exp(200.0)], [exp(-87.3), 1.0, exp(88.0)]);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn values_are_rounded_to_bfloat16_as_half_rounds_them() {
        for step in 0..=u32::from(u16::MAX) {
            for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let value = f32::from_bits(step << 16 | low);
                assert_eq!(<bf16 as Element>::store(value).to_bits(), bf16::from_f32(value).to_bits(), "{value:e}");
                let back = bf16::from_bits(step as u16);
                assert!(back.load() == back.to_f32() || back.is_nan());
            }
        }
    }

    #[test]
    fn sums_and_maxima_take_every_value() {
        for count in [0, 1, 63, 64, 65, 200] {
            let row: Vec<f32> = (0..count).map(|place| (place % 7) as f32).collect();
            assert_eq!(sum(&row, |sum, value| sum + value), row.iter().sum::<f32>());
            assert_eq!(largest(&row), row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
