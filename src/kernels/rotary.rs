//! Rotary embedding (Su et al. 2021, equation 34) in the half-split form of Hugging Face checkpoints, and the split of the
//! product into queries, keys and values.

use tch::Tensor;

use super::Kernels;
use super::card::Argument::{Int, Tensor as Values};

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
            return reference(&qkv, cosines, sines);
        };
        let arguments = [Values(&qkv), Values(cosines), Values(sines), Int(k as i32), Int(g as i32), Int(e as i32)];
        let eights = (k * (g + 1) * (e / 16)) as u32;
        card.launch("rotary", [t as u32, eights.div_ceil(THREADS)], THREADS, &arguments);
        let [query, key, value] = [qkv.narrow(2, 0, g), qkv.select(2, g), qkv.select(2, g + 1)];
        Heads { query, key, value, packed: Some(qkv) }
    }
}

/// The plain operations.
pub fn reference(qkv: &Tensor, cosines: &Tensor, sines: &Tensor) -> Heads {
    let g = qkv.size()[2] - 2;
    let rotated = rotate(&qkv.narrow(2, 0, g + 1), cosines, sines); // (t, k, g + 1, e)
    Heads { query: rotated.narrow(2, 0, g), key: rotated.select(2, g), value: qkv.select(2, g + 1), packed: None }
}

/// (t, k, n, e) to (t, k, n, e).
fn rotate(x: &Tensor, cosines: &Tensor, sines: &Tensor) -> Tensor {
    let half = x.size()[3] / 2;
    let (low, high) = (x.narrow(3, 0, half), x.narrow(3, half, half)); // (t, k, n, e/2)
    let out = x * cosines; // (t, k, n, e)
    let _ = out.narrow(3, 0, half).addcmul_(&high, &sines.narrow(3, 0, half));
    let _ = out.narrow(3, half, half).addcmul_(&low, &sines.narrow(3, half, half));
    out
}
