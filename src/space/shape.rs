//! The sizes of a LLaMA, without its weights.

use serde::{Deserialize, Serialize};

use super::{Ends, Extras, Gene, Genome, MAX_LAYERS};

/// Any other size, and the width of all heads together, at most: eight times the widest LLaMA there is.
pub const MAX_SIZE: usize = 1 << 22;

/// The sizes of a LLaMA-architecture parent. `head_dim` is a field of its own: with pruned heads it
/// is not `hidden / heads`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads in a layer.
    pub heads: usize,
    /// Key/value heads in a layer; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Channels of a layer's gated MLP.
    pub mlp: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Whether the output matrix is the embedding.
    #[serde(default)]
    pub tied: bool,
    /// What its layers have beyond LLaMA's tensors.
    #[serde(default, skip_serializing_if = "Extras::is_none")]
    pub extras: Extras,
}

impl ModelShape {
    /// Query heads that share one key/value head: the step in which heads can be removed.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Key/value heads that this many query heads need.
    pub fn kv_heads_of(&self, heads: usize) -> usize {
        heads.div_ceil(self.group())
    }

    /// The parent as a genome: every layer whole.
    pub fn parent(&self) -> Genome {
        Genome::uniform(self.layers, Gene::new(self.heads as u32, self.mlp as u32))
    }

    /// All sizes by name, in the order they are declared.
    pub fn fields(&self) -> [(&'static str, String); 9] {
        let ModelShape { layers, hidden, heads, kv_heads, head_dim, mlp, vocab, tied, extras } = self;
        [
            ("layers", layers.to_string()),
            ("hidden", hidden.to_string()),
            ("heads", heads.to_string()),
            ("kv_heads", kv_heads.to_string()),
            ("head_dim", head_dim.to_string()),
            ("mlp", mlp.to_string()),
            ("vocab", vocab.to_string()),
            ("tied", tied.to_string()),
            ("extras", format!("[{}]", extras.names().join(", "))),
        ]
    }

    /// The sizes that cannot be, as (field, reason): those that are zero or too large, and key/value heads that do not
    /// divide the heads.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let sizes = [
            ("layers", self.layers, MAX_LAYERS),
            ("hidden", self.hidden, MAX_SIZE),
            ("heads", self.heads, MAX_SIZE),
            ("kv_heads", self.kv_heads, MAX_SIZE),
            ("head_dim", self.head_dim, MAX_SIZE),
            ("mlp", self.mlp, MAX_SIZE),
            ("vocab", self.vocab, MAX_SIZE),
        ];
        let impossible = sizes.into_iter().filter(|(_, size, most)| !(1..=*most).contains(size));
        let mut problems: Vec<(&'static str, String)> =
            impossible.map(|(field, size, most)| (field, format!("found {size}, expected 1 to {most}"))).collect();
        if !self.head_dim.is_multiple_of(2) {
            problems.push((
                "head_dim",
                format!("found {}, expected an even number: rotary embeddings turn channels in pairs", self.head_dim),
            ));
        }
        if self.kv_heads > 0 && !self.heads.is_multiple_of(self.kv_heads) {
            let reason = format!("found {}, which does not divide {} heads", self.kv_heads, self.heads);
            problems.push(("kv_heads", reason));
        }
        let width = self.heads.saturating_mul(self.head_dim);
        if problems.is_empty() && width > MAX_SIZE {
            let reason = format!("all heads together are {width} wide, expected {MAX_SIZE} at most");
            problems.push(("head_dim", reason));
        }
        problems
    }

    /// Why a layer's matrices cannot be stored in the gene's bits: the first row length that is no whole number of blocks,
    /// and what is nearest to it.
    pub fn blocks_problem(&self, gene: Gene) -> Option<String> {
        if gene.is_dropped() {
            return None;
        }
        let bits = gene.bits;
        let stores = |row: usize| bits.stored(row as u64).is_some();
        let problem = |what: String, options: Vec<usize>| {
            Some(format!(
                "{what}, for {}, which stores rows of a multiple of {}{}",
                bits.ggml(),
                bits.step(),
                near(&options)
            ))
        };
        let (heads, mlp) = (gene.heads as usize, gene.mlp as usize);
        if !stores(self.hidden) {
            problem(format!("hidden size {}", self.hidden), vec![])
        } else if !stores(heads * self.head_dim) {
            let group = self.group();
            let fits = (group..=self.heads).step_by(group).filter(|&heads| stores(heads * self.head_dim));
            problem(format!("{heads} heads of width {}", self.head_dim), beside(fits, heads))
        } else if !stores(mlp) {
            let fits = (1..=self.mlp).filter(|&width| stores(width));
            problem(format!("mlp width {mlp}"), beside(fits, mlp))
        } else {
            None
        }
    }

    /// Why the matrices at the ends cannot be stored in these bits.
    pub fn ends_problem(&self, ends: Ends) -> Option<String> {
        if self.tied && !ends.head.is_full() {
            return Some(format!("{} bits for the output matrix, which is the embedding", ends.head));
        }
        let unfit = [ends.embedding, ends.head].into_iter().find(|bits| bits.stored(self.hidden as u64).is_none())?;
        let (name, step) = (unfit.ggml(), unfit.step());
        Some(format!("hidden size {}, for {name}, which stores rows of a multiple of {step}", self.hidden))
    }
}

/// The largest of `values` below one and the smallest above.
fn beside(values: impl Iterator<Item = usize>, one: usize) -> Vec<usize> {
    let (below, above): (Vec<usize>, Vec<usize>) = values.partition(|&value| value < one);
    below.into_iter().max().into_iter().chain(above.into_iter().min()).collect()
}

fn near(options: &[usize]) -> String {
    match options {
        [] => String::new(),
        [only] => format!("; the nearest is {only}"),
        [below, above, ..] => format!("; the nearest are {below} and {above}"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::space::Bits;

    /// SmolLM2-135M.
    pub const SMOLLM2: ModelShape = ModelShape {
        layers: 30,
        hidden: 576,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        mlp: 1536,
        vocab: 49152,
        tied: true,
        extras: Extras::NONE,
    };

    /// The least that has groups of heads; tests change what they are about.
    pub const TINY: ModelShape = ModelShape {
        layers: 1,
        hidden: 8,
        heads: 2,
        kv_heads: 1,
        head_dim: 4,
        mlp: 8,
        vocab: 9,
        tied: true,
        extras: Extras::NONE,
    };

    /// Rows of whole blocks.
    pub const OF_BLOCKS: ModelShape = ModelShape {
        layers: 2,
        hidden: 512,
        heads: 8,
        kv_heads: 2,
        head_dim: 64,
        mlp: 1024,
        vocab: 1000,
        tied: false,
        extras: Extras::NONE,
    };

    /// LLaMA2-7B.
    pub const LLAMA2_7B: ModelShape = ModelShape {
        layers: 32,
        hidden: 4096,
        heads: 32,
        kv_heads: 32,
        head_dim: 128,
        mlp: 11008,
        vocab: 32000,
        tied: false,
        extras: Extras::NONE,
    };

    #[test]
    fn names_the_size_that_cannot_be() {
        assert_eq!(SMOLLM2.problems(), []);
        let field = |shape: ModelShape| match shape.problems()[..] {
            [(field, _)] => field,
            ref others => panic!("{others:?}"),
        };
        assert_eq!(field(ModelShape { vocab: 0, ..SMOLLM2 }), "vocab");
        assert_eq!(field(ModelShape { layers: usize::MAX, ..SMOLLM2 }), "layers");
        assert_eq!(field(ModelShape { kv_heads: 2, ..SMOLLM2 }), "kv_heads");
        assert_eq!(field(ModelShape { kv_heads: 18, ..SMOLLM2 }), "kv_heads");
        assert_eq!(field(ModelShape { heads: 9 << 10, head_dim: 1 << 12, ..SMOLLM2 }), "head_dim");
        let many = ModelShape { heads: usize::MAX, kv_heads: 0, mlp: 0, ..SMOLLM2 }.problems();
        assert_eq!(many.iter().map(|(field, _)| *field).collect::<Vec<_>>(), ["heads", "kv_heads", "mlp"]);
    }

    #[test]
    fn names_the_rows_that_blocks_cannot_hold() {
        let narrow = ModelShape { head_dim: 8, ..SMOLLM2 };
        let problem = narrow.blocks_problem(Gene { heads: 9, mlp: 64, bits: Bits::Q8_0 }).unwrap();
        assert!(problem.starts_with("9 heads of width 8, for Q8_0"), "{problem}");
        assert!(problem.ends_with("a multiple of 32"), "no number of heads in whole groups fits: {problem}");
        let wider = ModelShape { head_dim: 32, ..SMOLLM2 };
        assert_eq!(wider.blocks_problem(Gene { heads: 9, mlp: 64, bits: Bits::Q8_0 }), None);
        let problem = SMOLLM2.blocks_problem(Gene { heads: 9, mlp: 17, bits: Bits::Q8_0 }).unwrap();
        assert!(problem.ends_with("the nearest is 32"), "{problem}");
        assert_eq!(narrow.blocks_problem(Gene { heads: 9, mlp: 17, bits: Bits::F16 }), None);
    }

    #[test]
    fn keeps_whole_groups_of_key_value_heads() {
        assert_eq!([0, 1, 3, 6, 9].map(|heads| SMOLLM2.kv_heads_of(heads)), [0, 1, 1, 2, 3]);
        assert_eq!(SMOLLM2.parent().to_string(), "9x1536*30");
    }
}
