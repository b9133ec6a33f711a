//! Peak memory of fine-tuning and distillation.
//!
//! Letters: as in `model/forward.rs`, `t` tokens of a batch.

use super::activations::{Trained, kept_bytes};
use super::evaluation::{rotary, weights};
use super::{Footprint, Numbers};
use crate::checkpoint::{LayerTensor, LlamaConfig, TensorName};
use crate::model::HEAD_ROWS;
use crate::space::{Cost, Genome};

/// How a model is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// Tokens that share a forward pass.
    pub tokens: usize,
    /// What is trained.
    pub trained: Trained,
    /// Whether networks learn from another's predictions.
    pub taught: bool,
    /// Whether layers are computed twice instead of keeping what their gradients need.
    pub recompute: bool,
    /// What numbers take: where those of weights are not float32, there are masters that are.
    pub numbers: Numbers,
    /// Weights of matrices corrected for narrower widths.
    pub corrected: u64,
}

/// What training needs whose largest network is `genome`, beside a teacher of `teacher` bytes.
pub fn footprint(config: &LlamaConfig, genome: &Genome, training: &Training, teacher: u64) -> Footprint {
    let Training { tokens, trained, taught, recompute, numbers, corrected } = training;
    let (word, stream) = (numbers.word(), numbers.stream());
    let shape = &config.shape;
    let [t, d, v] = [*tokens, shape.hidden, shape.vocab].map(|size| size as u64);
    let values = values(config, trained, *corrected);
    let adapters = if *trained == Trained::Full { 0 } else { values * word };
    let masters = if word == 4 { 0 } else { values * 4 };
    let by_layer = genome.kept().map(|(_, gene)| kept_bytes(shape, gene, trained, *numbers));
    let layers = genome.depth() as u64;
    let kept = if *recompute {
        // All layers' inputs, and one layer as it runs a second time, with the gradient that goes down.
        t * (layers * d * stream + by_layer.max().unwrap_or(0) + 2 * d * stream)
    } else {
        t * (by_layer.sum::<u64>() + d * stream)
    };
    // Log-probabilities and what they were made of; with a teacher, his too, his probabilities and a product.
    let copies = if *taught { 5 } else { 2 };
    let vocabulary = if *trained == Trained::Full { v * d } else { 0 };
    // The rows before the output matrix: as taken from the last layer, three of the norm, their gradients twice.
    let rows = t * d * stream * if *taught { 7 } else { 6 };
    Footprint::new([
        ("weights", weights(config, *corrected, *numbers)),
        ("adapters", adapters),
        ("masters", masters),
        ("gradients", values * word),
        ("moments", 2 * values * 4),
        ("rotary table", rotary(config)),
        ("activations", kept),
        ("rows that predict", rows),
        ("logits", copies * (HEAD_ROWS as u64).min(t) * v * 4),
        ("output matrix's gradient", vocabulary * 4),
        // Autograd makes it whole before it is added. Activations are freed by then, but their holes are smaller than it.
        ("embedding's gradient", vocabulary * word),
        ("teacher", teacher),
    ])
}

/// How many values are trained, those of corrected matrices with them where all weights are.
pub(super) fn values(config: &LlamaConfig, trained: &Trained, corrected: u64) -> u64 {
    match trained {
        Trained::Full => Cost::of(&config.shape, &config.genome).params + corrected,
        Trained::Adapters(rank, targets) => adapter_values(config, *rank as u64, targets),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arithmetic::Arithmetic;
    use crate::checkpoint::Dtype;
    use crate::checkpoint::Family;
    use crate::space::shape::tests::TINY;
    use crate::space::{Gene, ModelShape};

    fn config() -> LlamaConfig {
        let shape = ModelShape { layers: 2, heads: 4, kv_heads: 2, head_dim: 2, mlp: 16, ..TINY };
        LlamaConfig {
            shape,
            genome: shape.parent(),
            rms_norm_eps: 1e-5,
            rope_theta: 1e4,
            rope_scaling: None,
            max_position_embeddings: 10,
            bos_token_id: None,
            eos_token_ids: vec![],
            sliding_window: None,
            dtype: Dtype::F32,
            quantized: false,
            family: Family::Llama,
        }
    }

    fn part(footprint: &Footprint, name: &str) -> u64 {
        footprint.parts.iter().find(|part| part.name == name).map_or(0, |part| part.bytes)
    }

    #[test]
    fn counts_by_hand() {
        let genome = Genome::uniform(2, Gene::new(4, 16));
        let training = Training {
            tokens: 5,
            trained: Trained::Full,
            taught: false,
            recompute: false,
            numbers: Numbers::Cpu(Arithmetic::F32),
            corrected: 0,
        };
        let full = footprint(&config(), &genome, &training, 7);
        // Embedding 72, norms 8 + 4 · 8, attention 2 · (64 + 32 + 32 + 64), MLP 2 · 3 · 128.
        let weights = 72 + 8 + 32 + 2 * 192 + 2 * 384;
        assert_eq!(part(&full, "weights"), 4 * weights);
        assert_eq!((part(&full, "gradients"), part(&full, "moments")), (4 * weights, 8 * weights));
        assert_eq!((part(&full, "masters"), part(&full, "adapters"), part(&full, "teacher")), (0, 0, 7));
        assert_eq!(part(&full, "rotary table"), 2 * 4 * 10 * 2);
        assert_eq!(part(&full, "logits"), 2 * 5 * 9 * 4, "fewer rows than are taken together");
        assert_eq!((part(&full, "output matrix's gradient"), part(&full, "embedding's gradient")), (72 * 4, 72 * 4));
        let layer = kept_bytes(&config().shape, Gene::new(4, 16), &Trained::Full, Numbers::Cpu(Arithmetic::F32));
        assert_eq!(part(&full, "activations"), 5 * (2 * layer + 8 * 4));

        let again = footprint(&config(), &genome, &Training { recompute: true, ..training.clone() }, 0);
        assert_eq!(part(&again, "activations"), 5 * (2 * 8 * 4 + layer + 2 * 8 * 4));

        let half = footprint(&config(), &genome, &Training { numbers: Numbers::Card, ..training.clone() }, 0);
        assert_eq!((part(&half, "weights"), part(&half, "masters")), (2 * weights, 4 * weights));

        let trained = Trained::Adapters(3, vec![LayerTensor::Q, LayerTensor::Down]);
        let adapters = footprint(&config(), &genome, &Training { trained, ..training }, 0);
        // Rank times both sides, in two layers: Q is 8 x 8, down 8 x 16.
        let values = 2 * 3 * (16 + 24);
        assert_eq!((part(&adapters, "adapters"), part(&adapters, "moments")), (4 * values, 8 * values));
        assert_eq!((part(&adapters, "output matrix's gradient"), part(&adapters, "embedding's gradient")), (0, 0));
    }
}
