//! Peak memory of fine-tuning and distillation.
//!
//! Letters: as in `model/llama.rs`, `t` tokens of a batch.

use super::Footprint;
use super::activations::{Trained, kept_bytes};
use super::evaluation::rotary;
use crate::checkpoint::{LayerTensor, LlamaConfig, TensorName};
use crate::space::{Cost, Genome};

/// Rows whose logits are in memory together, as `tune/head_loss.rs` says.
const HEAD_ROWS: u64 = 256;

/// How a model is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// Tokens that share a forward pass.
    pub tokens: usize,
    /// Whether they are of several documents.
    pub documents: bool,
    /// What is trained.
    pub trained: Trained,
    /// Whether networks learn from another's predictions.
    pub taught: bool,
    /// Whether layers are computed twice instead of keeping what their gradients need.
    pub recompute: bool,
    /// Bytes of a weight: 4, or 2 with float32 masters.
    pub word: u64,
}

/// What training needs whose largest network is `genome`, beside a teacher of `teacher` bytes.
pub fn footprint(config: &LlamaConfig, genome: &Genome, training: &Training, teacher: u64) -> Footprint {
    let Training { tokens, documents, trained, taught, recompute, word } = training;
    let shape = &config.shape;
    let [t, d, v] = [*tokens, shape.hidden, shape.vocab].map(|size| size as u64);
    let weights = Cost::of(shape, &config.genome).params;
    let values = match trained {
        Trained::Full => weights,
        Trained::Adapters(rank, targets) => adapter_values(config, *rank as u64, targets),
    };
    let adapters = if *trained == Trained::Full { 0 } else { values * word };
    let masters = if *word == 4 { 0 } else { values * 4 };
    let by_layer = genome.kept().map(|(_, gene)| kept_bytes(shape, gene, trained, *documents, *word));
    let layers = genome.depth() as u64;
    let kept = match recompute {
        // All layers' inputs, and one layer as it runs a second time, with the gradient that goes down.
        true => t * (layers * d * word + by_layer.max().unwrap_or(0) + 2 * d * word),
        false => t * (by_layer.sum::<u64>() + d * word),
    };
    // Log-probabilities and what they were made of; with a teacher, his too, his probabilities and a product.
    let copies = if *taught { 5 } else { 2 };
    let head = if *trained == Trained::Full { v * d * 4 } else { 0 };
    // The rows before the output matrix: as taken from the last layer, three of the norm, their gradients twice.
    let rows = t * d * word * if *taught { 7 } else { 6 };
    Footprint::new([
        ("weights", weights * word),
        ("adapters", adapters),
        ("masters", masters),
        ("gradients", values * word),
        ("moments", 2 * values * 4),
        ("rotary table", rotary(config)),
        ("activations", kept),
        ("rows that predict", rows),
        ("logits", copies * HEAD_ROWS.min(t) * v * 4),
        ("output matrix's gradient", head),
        ("teacher", teacher),
    ])
}

/// Values of A and B of every adapted matrix.
fn adapter_values(config: &LlamaConfig, rank: u64, targets: &[LayerTensor]) -> u64 {
    let places = (0..config.shape.layers).flat_map(|layer| targets.iter().map(move |&tensor| (layer, tensor)));
    let sides = places.filter_map(|(layer, tensor)| config.tensor_shape(TensorName::Layer(layer, tensor)));
    sides
        .filter(|sides| sides.iter().all(|&side| side > 0))
        .map(|sides| rank * sides.iter().sum::<usize>() as u64)
        .sum()
}
