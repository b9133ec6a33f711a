//! Softmax attention over a packed forest of tokens, each of which sees itself and its ancestors.

use tch::Tensor;

use super::Kernels;
use super::card::Argument::{Float, Int, Tensor as Values};
use super::rotary::Heads;

/// Largest difference of the kernel from [`reference()`], as a share of the largest value of the tokens that are seen:
/// probabilities and results are rounded to bfloat16.
pub const BOUND: f64 = 1.0 / 128.0;

/// Queries of a block of the kernel, and its threads.
const QUERIES: i64 = 64;
const THREADS: u32 = 128;

/// Who sees whom in a forest of `t` tokens in depth-first order, on a device.
pub struct Sight {
    /// For the plain operations: the forest in pieces that share a call.
    pub blocks: Vec<Block>,
    /// For the kernel: one past the last descendant of every token, int32, (t).
    pub ends: Tensor,
    /// For the kernel: the first token of every token's tree, int32, (t).
    pub roots: Tensor,
    /// Whether some tokens do not see all of their ancestors: the kernel knows no windows.
    pub windowed: bool,
}

/// A range of tokens whose attention is one call.
pub struct Block {
    /// First query.
    pub start: i64,
    /// Queries.
    pub len: i64,
    /// Keys outside the block that all queries see.
    pub ancestors: Option<Tensor>,
    /// (group · queries, keys) additive; `None` is plainly causal.
    pub mask: Option<Tensor>,
}

impl Kernels {
    /// Each head's weighted values: (t, h·e).
    pub fn tree_attention(&self, heads: &Heads, sight: &Sight) -> Tensor {
        let packed = heads.packed.as_ref().filter(|_| !sight.windowed);
        let packed = packed.and_then(|packed| Some((packed, self.card_for(&[packed])?)));
        let Some((qkv, card)) = packed else { return reference(heads, sight) };
        let (t, k, parts, e) = qkv.size4().expect("queries, key and value of every group");
        let (g, kernel) = match e {
            64 => (parts - 2, "tree_attention_64"),
            128 => (parts - 2, "tree_attention_128"),
            _ => return reference(heads, sight),
        };
        let context = Tensor::empty([t, k * g * e], (qkv.kind(), qkv.device()));
        let scale = 1.0 / (e as f32).sqrt();
        let sizes = [Int(t as i32), Int(k as i32), Int(g as i32), Float(scale)];
        let tensors = [Values(qkv), Values(&sight.ends), Values(&sight.roots), Values(&context)];
        let arguments: Vec<_> = tensors.into_iter().chain(sizes).collect();
        card.launch(kernel, [(t + QUERIES - 1) as u32 / QUERIES as u32, (k * g) as u32], THREADS, &arguments);
        context
    }
}

/// The plain operations: libtorch's attention, block by block.
pub fn reference(heads: &Heads, sight: &Sight) -> Tensor {
    let contexts: Vec<Tensor> = sight.blocks.iter().map(|block| attend(block, heads)).collect();
    match <[Tensor; 1]>::try_from(contexts) {
        Ok([context]) => context,
        Err(contexts) => Tensor::cat(&contexts, 0), // (t, h·e)
    }
}

/// One block: (len, h·e).
fn attend(block: &Block, heads: &Heads) -> Tensor {
    let Heads { query, key, value, .. } = heads;
    let (k, g, e) = (query.size()[1], query.size()[2], query.size()[3]);
    let query = query.narrow(0, block.start, block.len).permute([1, 2, 0, 3]); // (k, g, n, e)
    let seen = |of: &Tensor| {
        let own = of.narrow(0, block.start, block.len);
        let all = match &block.ancestors {
            Some(nodes) => Tensor::cat(&[of.index_select(0, nodes), own], 0),
            None => own,
        };
        all.permute([1, 0, 2]).unsqueeze(0) // (1, k, keys, e)
    };
    let (key, value) = (seen(key), seen(value));
    let (query, mask, causal) = match &block.mask {
        // The heads of a group share keys, so they are stacked as rows: no key is copied.
        Some(mask) => (query.reshape([1, k, g * block.len, e]), Some(mask), false),
        None => (query.reshape([1, k * g, block.len, e]), None, true),
    };
    let expand = |of: Tensor| if g == 1 || !causal { of } else { of.repeat_interleave_self_int(g, 1, None) };
    let (key, value) = (expand(key), expand(value));
    let out = Tensor::scaled_dot_product_attention(&query, &key, &value, mask, 0.0, causal, None, false);
    // Kernels of libtorch's differ in how their results lie.
    out.reshape([k * g, block.len, e]).permute([1, 0, 2]).reshape([block.len, k * g * e])
}
