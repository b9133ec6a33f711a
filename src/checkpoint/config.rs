//! What a checkpoint says about its model besides the weights, whatever format it came from.

use std::path::Path;
use std::str::FromStr;

use serde::Serialize;

use crate::checkpoint::family::{FAMILIES, Family};
use crate::checkpoint::names::TensorName;
use crate::checkpoint::rope::RopeScaling;
use crate::error::{Error, Result};
use crate::space::{Bits, Extra, Gene, Genome, ModelShape, genome_problems, misfit};

/// How a checkpoint stores its matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    BF16,
    /// Any of ggml's block formats; read into singles.
    Quantized,
}

impl Dtype {
    /// libtorch's kind for tensors of this type.
    pub fn kind(self) -> tch::Kind {
        match self {
            Dtype::F32 | Dtype::Quantized => tch::Kind::Float,
            Dtype::F16 => tch::Kind::Half,
            Dtype::BF16 => tch::Kind::BFloat16,
        }
    }

    /// What a safetensors file calls it.
    pub(super) fn safetensors(self) -> &'static str {
        match self {
            Dtype::F32 | Dtype::Quantized => "F32",
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
        }
    }

    /// The type to write a derived checkpoint in: the same, or singles where the source was quantized.
    pub fn unquantized(self) -> Dtype {
        if self == Dtype::Quantized { Dtype::F32 } else { self }
    }

    /// The type that holds tensors of a kind: singles for what no type is for.
    pub(super) fn of(kind: tch::Kind) -> Dtype {
        match kind {
            tch::Kind::Half => Dtype::F16,
            tch::Kind::BFloat16 => Dtype::BF16,
            _ => Dtype::F32,
        }
    }

    /// Bytes of one unquantized weight.
    pub(crate) fn bytes(self) -> usize {
        self.kind().elt_size_in_bytes()
    }
}

impl FromStr for Dtype {
    type Err = Error;

    fn from_str(name: &str) -> Result<Dtype> {
        match name {
            "f32" => Ok(Dtype::F32),
            "f16" => Ok(Dtype::F16),
            "bf16" => Ok(Dtype::BF16),
            _ => Err(Error::unknown("dtype", name, ["f32", "f16", "bf16"])),
        }
    }
}

/// Layers whose tokens see themselves and the `width − 1` before them alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlidingWindow {
    /// Tokens that are seen.
    pub width: usize,
    /// Which layers have it.
    pub layers: Vec<bool>,
}

/// A LLaMA's sizes and constants.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LlamaConfig {
    /// The sizes of the widest layer.
    pub shape: ModelShape,
    /// Each layer's own sizes: all alike in an ordinary LLaMA, per layer in our own exports.
    pub genome: Genome,
    /// Added to the mean square inside each norm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How they are stretched, where they are.
    pub rope_scaling: Option<RopeScaling>,
    /// Longest context the model was made for.
    pub max_position_embeddings: usize,
    /// Token that begins a text.
    pub bos_token_id: Option<u32>,
    /// Tokens that end one.
    pub eos_token_ids: Vec<u32>,
    /// The window of attention, where a layer has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<SlidingWindow>,
    /// How the matrices are stored.
    pub dtype: Dtype,
    /// Whether they are values of ggml's blocks, or began as such. No part of which model it is.
    #[serde(skip)]
    pub quantized: bool,
    /// The family it came as, which says what it is exported as. No part of which model it is.
    #[serde(skip)]
    pub family: Family,
}

/// Positions, at most: far above any model's, so that no product of sizes overflows. Contexts of ten million tokens are
/// longer than any other size, so they have a cap of their own.
const MAX_POSITIONS: usize = 1 << 28;

impl LlamaConfig {
    /// One layer's sizes.
    ///
    /// # Panics
    /// When there is no such layer.
    pub fn gene(&self, layer: usize) -> Gene {
        self.genome.genes()[layer]
    }

    /// The family whose classes in transformers have layers like these: its own, or another that is the same function.
    pub(super) fn class_family(&self) -> Family {
        let held = |family: &Family| self.is_of(*family);
        [self.family].into_iter().chain(FAMILIES.iter().map(|row| row.family)).find(held).unwrap_or(self.family)
    }

    /// Whether a family's classes in transformers have layers with these extra tensors and windows.
    pub(super) fn is_of(&self, family: Family) -> bool {
        let has = |extra| self.shape.extras.has(extra);
        let attention_bias = [has(Extra::QkvBias), has(Extra::OBias)];
        let biases_alike = attention_bias == [true; 2] || attention_bias == [false; 2];
        let windows = self.sliding_window.as_ref().map(|window| window.layers.iter().all(|&slides| slides));
        match family {
            Family::Llama => windows.is_none() && !has(Extra::HeadNorms) && biases_alike,
            Family::Mistral => windows.unwrap_or(true) && self.shape.extras.is_none(),
            Family::Qwen2 => self.shape.extras == family.row().extras,
            Family::Qwen3 => has(Extra::HeadNorms) && !has(Extra::MlpBias) && biases_alike,
        }
    }

    /// How many tokens a layer's attention sees, where that is limited.
    pub fn window_of(&self, layer: usize) -> Option<usize> {
        self.sliding_window.as_ref().filter(|window| window.layers[layer]).map(|window| window.width)
    }

    /// How long a sequence may be, in tokens: the model's positions, or as many of them as have the angles of a short sequence.
    pub fn positions(&self) -> usize {
        let longest = self.rope_scaling.as_ref().and_then(RopeScaling::longest);
        longest.map_or(self.max_position_embeddings, |longest| longest.min(self.max_position_embeddings))
    }

    /// Every tensor of the model, in the order a forward pass meets them.
    pub fn tensors(&self) -> Vec<TensorName> {
        TensorName::all(&self.shape, self.genome.genes())
    }

    /// The shape of one of its tensors, `(out, in)`; `None` when the model has no such tensor.
    pub fn tensor_shape(&self, name: TensorName) -> Option<Vec<usize>> {
        let gene = match name {
            TensorName::Layer(layer, _) => *self.genome.genes().get(layer)?,
            _ => Gene::DROPPED,
        };
        Some(name.shape(&self.shape, gene))
    }

    /// The type of one of its tensors in a file that quantizes; F16 for what is not in blocks: norms, biases, and rows that hold
    /// no whole ones.
    pub(super) fn stored(&self, name: TensorName) -> Bits {
        let end = |bits: Bits| bits.stored(self.shape.hidden as u64);
        let stored = match name {
            TensorName::Embedding => end(self.genome.ends().embedding),
            TensorName::Head => end(self.genome.ends().head),
            TensorName::Layer(layer, tensor) => tensor.row().stored(&self.shape, self.gene(layer)),
            TensorName::FinalNorm => None,
        };
        stored.unwrap_or(Bits::F16)
    }

    /// The sizes all layers share, where they do and both halves are there.
    pub fn uniform(&self) -> Option<Gene> {
        let (first, rest) = self.genome.genes().split_first()?;
        (first.heads > 0 && first.mlp > 0 && rest.iter().all(|gene| gene == first)).then_some(*first)
    }

    /// The network that `genome` cuts from this model: its kept layers, renumbered.
    ///
    /// # Errors
    /// `Mismatch` that lists every layer whose gene does not fit.
    pub fn subnet(&self, genome: &Genome) -> Result<LlamaConfig> {
        let mut problems = genome_problems(&self.shape, &self.genome, genome);
        if problems.is_empty() && genome.depth() == 0 {
            problems.push("every layer is dropped, expected at least one".into());
        }
        misfit(genome, problems)?;
        let kept: Vec<usize> = genome.kept().map(|(layer, _)| layer).collect();
        let cut = self.with_genome(Genome::new(genome.kept().map(|(_, gene)| gene)).with_ends(genome.ends()));
        Ok(LlamaConfig { sliding_window: self.window_in(&kept), ..cut })
    }

    /// The window of a network that keeps these layers, where one of them has it.
    pub(super) fn window_in(&self, kept: &[usize]) -> Option<SlidingWindow> {
        let SlidingWindow { width, layers } = self.sliding_window.as_ref()?;
        let layers: Vec<bool> = kept.iter().map(|&layer| layers[layer]).collect();
        layers.contains(&true).then_some(SlidingWindow { width: *width, layers })
    }

    /// The network that holds the values of this one's blocks, with layers of these sizes and nothing in blocks.
    pub(super) fn with_plain_genome(&self, genome: Genome) -> LlamaConfig {
        let quantized = self.quantized || self.genome.is_quantized();
        LlamaConfig { quantized, ..self.with_genome(genome) }
    }

    /// The same constants around layers of these sizes.
    pub(super) fn with_genome(&self, genome: Genome) -> LlamaConfig {
        let group = self.shape.group();
        // Without any attention the group size still says how heads would share keys.
        let heads = genome.genes().iter().map(|gene| gene.heads as usize).max().unwrap_or(0).max(group);
        let mlp = genome.genes().iter().map(|gene| gene.mlp as usize).max().unwrap_or(0);
        let shape = ModelShape { layers: genome.genes().len(), heads, kv_heads: heads / group, mlp, ..self.shape };
        LlamaConfig { shape, genome, ..self.clone() }
    }

    /// Refuses sizes that no LLaMA has, all of them at once, so that the code after it may multiply freely.
    pub(super) fn check(&self, path: &Path) -> Result<()> {
        let &ModelShape { head_dim, mlp, vocab, .. } = &self.shape;
        // Unlike the parent of a space, an exported network may have no MLP in any layer.
        let sizes = ModelShape { mlp: mlp.max(1), ..self.shape }.problems();
        let mut problems: Vec<String> = sizes.into_iter().map(|(field, reason)| format!("{field}: {reason}")).collect();
        let positions = self.max_position_embeddings;
        if !(1..=MAX_POSITIONS).contains(&positions) {
            problems.push(format!("max_position_embeddings: found {positions}, expected 1 to {MAX_POSITIONS}"));
        }
        if head_dim % 2 != 0 {
            problems.push(format!("head_dim: found {head_dim}, expected an even number"));
        }
        for (what, value) in [("rms_norm_eps", self.rms_norm_eps), ("rope_theta", self.rope_theta)] {
            if !(value.is_finite() && value > 0.0) {
                problems.push(format!("{what}: found {value}, expected a number above 0"));
            }
        }
        problems.extend(self.rope_scaling.as_ref().and_then(|scaling| scaling.problem(head_dim)));
        for (what, id) in
            self.bos_token_id.iter().map(|id| ("bos", id)).chain(self.eos_token_ids.iter().map(|id| ("eos", id)))
        {
            if *id as usize >= vocab {
                problems.push(format!("{what} token: found {id}, expected less than the vocabulary's {vocab}"));
            }
        }
        let what = "the configuration is not a LLaMA's".into();
        if problems.is_empty() { Ok(()) } else { Err(Error::Mismatch { path: path.into(), what, problems }) }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::space::Extras;

    /// A parent of 3 layers, 6 heads in groups of 3, for tests that need no weights.
    pub(crate) fn small() -> LlamaConfig {
        let shape = ModelShape {
            layers: 3,
            hidden: 96,
            heads: 6,
            kv_heads: 2,
            head_dim: 16,
            mlp: 64,
            vocab: 40,
            tied: false,
            extras: Extras::NONE,
        };
        LlamaConfig {
            shape,
            genome: Genome::uniform(3, Gene::new(6, 64)),
            rms_norm_eps: 1e-5,
            rope_theta: 10000.0,
            rope_scaling: None,
            max_position_embeddings: 128,
            bos_token_id: Some(1),
            eos_token_ids: vec![2],
            sliding_window: None,
            dtype: Dtype::F32,
            quantized: false,
            family: Family::Llama,
        }
    }

    #[test]
    fn cuts_and_renumbers_the_kept_layers() {
        let cut = small().subnet(&"3x32:-:0x64".parse().unwrap()).unwrap();
        assert_eq!(cut.genome.to_string(), "3x32:0x64");
        let ModelShape { layers, heads, kv_heads, mlp, .. } = cut.shape;
        assert_eq!((layers, heads, kv_heads, mlp), (2, 3, 1, 64));
        assert_eq!(cut.uniform(), None);
        assert_eq!(small().uniform(), Some(Gene::new(6, 64)));
    }

    #[test]
    fn lists_every_gene_that_does_not_fit() {
        let error = small().subnet(&"4x64:9x64:6x65@4".parse().unwrap()).unwrap_err().to_string();
        for part in ["layer 0: 4 heads", "layer 1: 9 heads", "layer 2: mlp width 65", "layer 2: mlp width 65, for Q4_0"]
        {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
        for genome in ["6x64*2", "-*3"] {
            assert!(small().subnet(&genome.parse().unwrap()).is_err(), "{genome}");
        }
    }
}
