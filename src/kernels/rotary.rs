//! Rotary embedding (Su et al. 2021, equation 34) in the half-split form of Hugging Face checkpoints, and the split of the
//! product into queries, keys and values.

use half::bf16;
use tch::Tensor;

use super::card::Argument::{Int, Tensor as Values};
use super::cpu::{self, Band, Element};
use super::{Kernels, LoopKind};

/// Largest difference of the kernel from [`reference()`], as a share of |x₁| + |x₂|, the pair that is rotated: the reference rounds
/// the first product to bfloat16 and then the sum, the kernel the sum alone.
pub const BOUND: f64 = 1.0 / 128.0;

/// Threads of a block.
const THREADS: u32 = 256;

/// Queries, keys and values of every token, positions applied.
pub struct Heads {
    /// (t, k, g, e)
    pub query: Tensor,
    /// (t, k, e)
    pub key: Tensor,
    /// (t, k, e)
    pub value: Tensor,
    /// All three where they lie in one product, KV group by KV group: (t, k, g + 2, e).
    pub packed: Option<Tensor>,
}

impl Kernels {
    /// Rotates the queries and keys of a product that holds queries, key and value of every KV group: (t, k, g + 2, e). Cosines
    /// and sines are (t, 1, 1, e), the first half of the sines negated. The product may be overwritten.
    pub fn rotary(&self, qkv: Tensor, cosines: &Tensor, sines: &Tensor) -> Heads {
        let (t, k, parts, e) = qkv.size4().expect("queries, key and value of every group");
        let g = parts - 2;
        let Some(card) = self.card_for(&[&qkv, cosines, sines]).filter(|_| e % 16 == 0) else {
            return match self.loop_for(&[&qkv], &[cosines, sines]) {
                Some(LoopKind::F32) => looped::<f32>(qkv, cosines, sines),
                Some(LoopKind::Bf16) => looped::<bf16>(qkv, cosines, sines),
                None => reference(&qkv, cosines, sines),
            };
        };
        let arguments = [Values(&qkv), Values(cosines), Values(sines), Int(k as i32), Int(g as i32), Int(e as i32)];
        let eights = (k * (g + 1) * (e / 16)) as u32;
        card.launch("rotary", [t as u32, eights.div_ceil(THREADS)], THREADS, &arguments);
        heads_of(qkv)
    }
}

/// Queries, keys and values that lie in one product.
fn heads_of(qkv: Tensor) -> Heads {
    let g = qkv.size()[2] - 2;
    let [query, key, value] = [qkv.narrow(2, 0, g), qkv.select(2, g), qkv.select(2, g + 1)];
    Heads { query, key, value, packed: Some(qkv) }
}

/// The CPU's loop, in place, each pair in float32.
fn looped<E: Element>(mut qkv: Tensor, cosines: &Tensor, sines: &Tensor) -> Heads {
    let (t, k, parts, e) = qkv.size4().expect("queries, key and value of every group");
    let [k, parts, e] = [k, parts, e].map(|size| size as usize);
    let rows = cpu::rows_a_band(t as usize, k * parts * e);
    let angles = |of| cpu::values::<f32>(of).chunks((rows * e).max(1));
    let angles = angles(cosines).zip(angles(sines));
    let tokens = cpu::values_mut::<E>(&mut qkv).chunks_mut((rows * k * parts * e).max(1));
    cpu::run(tokens.zip(angles).map(|(tokens, (cosines, sines))| Tokens {
        tokens,
        cosines,
        sines,
        sizes: [k, parts, e],
    }));
    heads_of(qkv)
}

/// Some tokens and their angles.
struct Tokens<'a, E> {
    tokens: &'a mut [E],
    cosines: &'a [f32],
    sines: &'a [f32],
    /// k, g + 2, e
    sizes: [usize; 3],
}

impl<E: Element> Band for Tokens<'_, E> {
    #[inline(always)]
    fn run(self) {
        let [k, parts, e] = self.sizes;
        let angles = self.cosines.chunks_exact(e).zip(self.sines.chunks_exact(e));
        for (token, (cosines, sines)) in self.tokens.chunks_exact_mut(k * parts * e).zip(angles) {
            let (low_cosines, high_cosines) = cosines.split_at(e / 2);
            let (low_sines, high_sines) = sines.split_at(e / 2);
            for group in token.chunks_exact_mut(parts * e) {
                for head in group[..(parts - 1) * e].chunks_exact_mut(e) {
                    let (lows, highs) = head.split_at_mut(e / 2);
                    let of_low = low_cosines.iter().zip(low_sines);
                    let of_high = high_cosines.iter().zip(high_sines);
                    for ((low, high), ((c, s), (c_high, s_high))) in lows.iter_mut().zip(highs).zip(of_low.zip(of_high))
                    {
                        let (x, y) = (low.load(), high.load());
                        *low = E::store(y.mul_add(*s, x * c));
                        *high = E::store(x.mul_add(*s_high, y * c_high));
                    }
                }
            }
        }
    }
}

/// The plain operations.
pub fn reference(qkv: &Tensor, cosines: &Tensor, sines: &Tensor) -> Heads {
    let g = qkv.size()[2] - 2;
    let rotated = rotate(&qkv.narrow(2, 0, g + 1), cosines, sines); // (t, k, g + 1, e)
    Heads { query: rotated.narrow(2, 0, g), key: rotated.select(2, g), value: qkv.select(2, g + 1), packed: None }
}

/// (t, k, n, e) to (t, k, n, e), in the kind of the angles until the end.
fn rotate(x: &Tensor, cosines: &Tensor, sines: &Tensor) -> Tensor {
    let (half, kind) = (x.size()[3] / 2, x.kind());
    let x = x.to_kind(cosines.kind());
    let (low, high) = (x.narrow(3, 0, half), x.narrow(3, half, half)); // (t, k, n, e/2)
    let out = &x * cosines; // (t, k, n, e)
    let _ = out.narrow(3, 0, half).addcmul_(&high, &sines.narrow(3, 0, half));
    let _ = out.narrow(3, half, half).addcmul_(&low, &sines.narrow(3, half, half));
    out.to_kind(kind)
}
