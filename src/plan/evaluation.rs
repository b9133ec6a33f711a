//! Peak memory of scoring networks.
//!
//! Letters: as in `model/forward.rs`, `t` tokens of a chunk.

use super::footprint::largest_that_fits;
use super::{Footprint, Numbers};
use crate::arithmetic::Arithmetic;
use crate::checkpoint::LlamaConfig;
use crate::kernels::int8_product::BLOCK;
use crate::model::HEAD_ROWS;
use crate::space::{Bits, BlockWeights, Cost, Extra};

/// Float32 tensors of (rows, v) that a card may have alive together, where no kernel takes the logits: theirs and what their
/// logsumexp needs. The CPU's loops read the logits as they are.
const HEAD_COPIES: u64 = 2;

/// How networks are scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scoring {
    /// Tokens that share a forward pass.
    pub chunk_tokens: usize,
    /// Workers, each with its own chunk.
    pub workers: usize,
    /// Networks scored together: hidden states of every half layer where they may part.
    pub networks: usize,
    /// Budget of the hidden states kept between populations, bytes.
    pub cache: u64,
    /// Weights that are kept in blocks too.
    pub blocks: BlockWeights,
    /// What its numbers take.
    pub numbers: Numbers,
    /// Bytes of the model in float32 beside it.
    pub beside: u64,
    /// Weights of matrices corrected for narrower widths.
    pub corrected: u64,
}

/// What scoring needs of networks of this model.
pub fn footprint(config: &LlamaConfig, scoring: Scoring) -> Footprint {
    let Scoring { chunk_tokens, workers, networks, cache, blocks, numbers, beside, corrected } = scoring;
    let (word, stream) = (numbers.word(), numbers.stream());
    let shape = &config.shape;
    let [t, d, e, v] = [chunk_tokens, shape.hidden, shape.head_dim, shape.vocab].map(|size| size as u64);
    let (q, k, f) = ((shape.heads * shape.head_dim) as u64, shape.kv_heads as u64, shape.mlp as u64);
    // One state for each half layer that others may begin with, and the one at hand.
    let depth = 2 * shape.layers as u64;
    let states = t * d * stream * if networks > 1 { depth + 1 } else { 2 };
    // Attention: the norm's two, the product of queries, keys and values, their norms, what is rotated, and copies for the heads.
    let normed = if shape.extras.has(Extra::HeadNorms) { (q + k * e) + (q + 2 * k * e) } else { 0 };
    let attention = 2 * d + (q + 2 * k * e) + normed + (q + k * e) + 3 * q + q;
    // MLP: the norm's two, gate and up, the result.
    let mlp = 2 * d + 2 * f + d;
    let logits = match numbers {
        Numbers::Cpu(_) => word,
        Numbers::Card => HEAD_COPIES * 4 + word,
    };
    let workers = workers as u64;
    Footprint::new([
        ("weights", weights(config, 0, numbers)),
        ("corrected matrices", corrected * word),
        ("float32 beside", beside),
        ("quantized copies", copies(blocks, numbers)),
        ("layers in int8", packed(config, corrected, numbers)),
        ("one matrix out of int8", workers * out_of_int8(config, blocks, numbers)),
        ("rotary table", rotary(config)),
        ("hidden states", workers * states),
        ("one half layer", workers * t * attention.max(mlp) * word),
        ("logits", workers * HEAD_ROWS as u64 * v * logits),
        ("states between populations", cache),
    ])
}

/// Tokens of the chunks that fill a card are at most so many: a task should still be several chunks, so that a race can end
/// between them.
const MOST_CHUNK_TOKENS: usize = 16_384;

/// Tokens of the largest chunk that fits into `budget` bytes, in steps of 1,024 from there on; 0 where none fits. The number of
/// tokens of `scoring` does not count.
pub fn chunk_that_fills(config: &LlamaConfig, scoring: Scoring, budget: u64) -> usize {
    let of = |chunk_tokens| footprint(config, Scoring { chunk_tokens, ..scoring });
    match largest_that_fits(budget, MOST_CHUNK_TOKENS, of) {
        few if few < 1024 => few,
        tokens => tokens / 1024 * 1024,
    }
}

/// Keys and values of so many tokens of the whole model, bytes: what a worker keeps where networks write.
pub fn keys_and_values(config: &LlamaConfig, tokens: usize, numbers: Numbers) -> u64 {
    let shape = &config.shape;
    (2 * shape.layers * shape.kv_heads * shape.head_dim * tokens) as u64 * numbers.word()
}

/// All weights of a model, those of `corrected` matrices with them, bytes.
pub fn weights(config: &LlamaConfig, corrected: u64, numbers: Numbers) -> u64 {
    (Cost::of(&config.shape, &config.genome).params + corrected) * numbers.word()
}

/// Bytes of a model in float32 beside itself in another arithmetic: all weights, those of `corrected` matrices with them, or where
/// they are bfloat16 in the checkpoint, too, one matrix of a layer and the output matrix, made float32 as they are used.
pub fn beside_float32(config: &LlamaConfig, numbers: Numbers, is_bf16: bool, corrected: u64) -> u64 {
    let shape = &config.shape;
    match numbers {
        Numbers::Cpu(Arithmetic::Bf16 | Arithmetic::Int8) if is_bf16 => {
            4 * (largest_matrix(config) + (shape.vocab * shape.hidden) as u64)
        }
        Numbers::Cpu(Arithmetic::Bf16 | Arithmetic::Int8) => weights(config, corrected, Numbers::Cpu(Arithmetic::F32)),
        Numbers::Cpu(Arithmetic::F32) | Numbers::Card => 0,
    }
}

/// Weights as blocks can hold them: their values as any weights, or, where the kernels of a card take them, int8 and a float32
/// scale for each block.
fn copies(blocks: BlockWeights, numbers: Numbers) -> u64 {
    let BlockWeights { layers_q8_0, others } = blocks;
    let int8 = match numbers {
        Numbers::Card => layers_q8_0 + 4 * layers_q8_0 / Bits::Q8_0.block_len(),
        Numbers::Cpu(_) => layers_q8_0 * numbers.word(),
    };
    int8 + others * numbers.word()
}

/// The layers' matrices as products in int8 take them, beside those that they are made of.
pub(super) fn packed(config: &LlamaConfig, corrected: u64, numbers: Numbers) -> u64 {
    if numbers != Numbers::Cpu(Arithmetic::Int8) {
        return 0;
    }
    let shape = &config.shape;
    let ends = (shape.vocab * shape.hidden) as u64 * if shape.tied { 1 } else { 2 };
    let of_layers = Cost::of(shape, &config.genome).params - ends + corrected;
    of_layers + of_layers / BLOCK as u64 * 4
}

/// The largest matrix of a layer, made out of int8 for one product.
fn out_of_int8(config: &LlamaConfig, blocks: BlockWeights, numbers: Numbers) -> u64 {
    if numbers == Numbers::Card && blocks.layers_q8_0 > 0 { largest_matrix(config) * numbers.word() } else { 0 }
}

/// Weights of the largest matrix of a layer.
fn largest_matrix(config: &LlamaConfig) -> u64 {
    let shape = &config.shape;
    let rows = ((shape.heads + 2 * shape.kv_heads) * shape.head_dim).max(shape.mlp);
    (rows * shape.hidden) as u64
}

/// Cosines and sines of every position, float32.
pub(super) fn rotary(config: &LlamaConfig) -> u64 {
    2 * 4 * (config.positions() * config.shape.head_dim) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Dtype, synthetic};
    use crate::space::SearchSpace;

    #[test]
    fn a_chunk_fills_what_the_weights_leave() {
        let config = synthetic::config(*SearchSpace::shipped("llama2-7b").unwrap().shape(), Dtype::BF16);
        // 32 layers, 4,096 numbers of two bytes for each of key and value.
        assert_eq!(keys_and_values(&config, 10, Numbers::Card), 10 * 32 * 2 * 4096 * 2);
        let scoring = Scoring {
            chunk_tokens: 0,
            workers: 1,
            networks: 2,
            cache: 0,
            blocks: BlockWeights::default(),
            numbers: Numbers::Card,
            beside: 0,
            corrected: 0,
        };
        let [small, middle, large] =
            [13_000_000_000, 20_000_000_000, 80_000_000_000].map(|budget| chunk_that_fills(&config, scoring, budget));
        assert_eq!(small, 0, "13.5 GB of weights do not fit into 13");
        assert!(middle > 1024 && middle % 1024 == 0 && middle < large, "{middle}");
        assert_eq!(large, MOST_CHUNK_TOKENS);
        let peak = |chunk_tokens| footprint(&config, Scoring { chunk_tokens, ..scoring }).peak();
        assert!(peak(middle) <= 20_000_000_000 && peak(middle + 1024) > 20_000_000_000);
    }

    #[test]
    fn copies_are_counted_as_they_are_kept() {
        let config = synthetic::config(*SearchSpace::shipped("llama2-7b").unwrap().shape(), Dtype::BF16);
        let bytes = |blocks, numbers| {
            let scoring = Scoring {
                chunk_tokens: 1,
                workers: 1,
                networks: 1,
                cache: 0,
                blocks,
                numbers,
                beside: 0,
                corrected: 0,
            };
            let footprint = footprint(&config, scoring);
            ["quantized copies", "one matrix out of int8", "layers in int8"]
                .map(|name| footprint.parts.iter().find(|part| part.name == name).map_or(0, |part| part.bytes))
        };
        let blocks = BlockWeights { layers_q8_0: 64_000, others: 1_000 };
        assert_eq!(bytes(BlockWeights::default(), Numbers::Card), [0, 0, 0]);
        assert_eq!(bytes(blocks, Numbers::Cpu(Arithmetic::F32)), [4 * 65_000, 0, 0]);
        assert_eq!(bytes(blocks, Numbers::Cpu(Arithmetic::Bf16)), [2 * 65_000, 0, 0]);
        // 32 layers of 202 million weights, and a scale for 256 of them.
        let [copies, 0, int8] = bytes(blocks, Numbers::Cpu(Arithmetic::Int8)) else { panic!("no matrix out of int8") };
        assert_eq!((copies, int8 / 1_000_000), (2 * 65_000, 6_577));
        assert_eq!(bytes(blocks, Numbers::Card), [64_000 + 8_000 + 2_000, 2 * 3 * 4096 * 4096, 0]);
    }
}
