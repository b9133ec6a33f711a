//! What autograd keeps of a layer's forward pass until its gradients are due.
//!
//! Letters: as in `model/forward.rs`, and `q = h·e`.

use super::Numbers;
use crate::checkpoint::LayerTensor;
use crate::space::{Extra, Gene, Half, ModelShape};

/// What of a layer is trained: decides which inputs its matrices keep.
#[derive(Clone, Debug, PartialEq)]
pub enum Trained {
    /// Every weight.
    Full,
    /// Adapters of some rank beside these matrices.
    Adapters(usize, Vec<LayerTensor>),
}

impl Trained {
    fn keeps_input_of(&self, tensors: &[LayerTensor]) -> bool {
        match self {
            Trained::Full => true,
            Trained::Adapters(_, targets) => tensors.iter().any(|tensor| targets.contains(tensor)),
        }
    }

    /// Values a token of the narrow side of adapters.
    fn low_rank(&self, tensors: &[LayerTensor]) -> u64 {
        match self {
            Trained::Full => 0,
            Trained::Adapters(rank, targets) => {
                (rank * tensors.iter().filter(|tensor| targets.contains(tensor)).count()) as u64
            }
        }
    }
}

/// Bytes a token that a layer keeps, its input included.
pub fn kept_bytes(shape: &ModelShape, gene: Gene, trained: &Trained, numbers: Numbers) -> u64 {
    let (word, stream) = (numbers.word(), numbers.stream());
    let [attention, mlp] = [Half::Attention, Half::Mlp].map(LayerTensor::readers);
    let of_half = |half| LayerTensor::matrices().filter(move |tensor| tensor.row().half == half).collect::<Vec<_>>();
    let last = |readers: &[LayerTensor], half| {
        of_half(half).into_iter().filter(|tensor| !readers.contains(tensor)).collect::<Vec<_>>()
    };
    let (d, h, e) = (shape.hidden as u64, u64::from(gene.heads), shape.head_dim as u64);
    let (q, f) = (h * e, u64::from(gene.mlp));
    let k = shape.kv_heads_of(gene.heads as usize) as u64;
    // The input, in float32 too where it is not; root mean square and scale; what the norm's weight multiplies, where that
    // is trained; the result where a matrix that reads it is.
    let norm = |readers: &[LayerTensor]| {
        let widened = if stream < 4 { 4 * d } else { 0 };
        let scaled = if *trained == Trained::Full { 4 * d } else { 0 };
        let result = if trained.keeps_input_of(readers) { d * word } else { 0 };
        d * stream + widened + 2 * 4 + scaled + result
    };
    let mut bytes = 0;
    if h > 0 {
        // With grouped queries, copies for every query head; else views of the rotated heads and of all three products.
        let heads = if k < h { 3 * q } else { 2 * q + 3 * q };
        // The documents' contexts, computed apart, are put together for the output projection.
        let together = if trained.keeps_input_of(&last(&attention, Half::Attention)) { q } else { 0 };
        let values = heads + q + together + trained.low_rank(&of_half(Half::Attention));
        bytes += norm(&attention) + values * word + h * 4;
        if shape.extras.has(Extra::HeadNorms) {
            // Their input, which rotation alone would not keep, root mean square and scale of each head, and what is scaled.
            let scaled = if *trained == Trained::Full { 4 * (q + k * e) } else { 0 };
            bytes += (q + 2 * k * e) * word + 2 * 4 * (h + k) + scaled;
        }
    }
    if f > 0 {
        let product = if trained.keeps_input_of(&last(&mlp, Half::Mlp)) { f } else { 0 };
        bytes += norm(&mlp) + (3 * f + product + trained.low_rank(&of_half(Half::Mlp))) * word;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arithmetic::Arithmetic;
    use crate::space::Extras;
    use crate::space::shape::tests::TINY;

    const SHAPE: ModelShape = ModelShape { heads: 4, kv_heads: 2, head_dim: 2, mlp: 16, ..TINY };

    #[test]
    fn counts_what_is_kept_by_hand() {
        let values = |gene, trained: &Trained| kept_bytes(&SHAPE, gene, trained, Numbers::Cpu(Arithmetic::F32)) / 4;
        // Norm 3 · 8 + 2, heads 3 · 8, contexts twice 8 and 4 logarithms of sums; norm 26, gate, its activation, up, product.
        assert_eq!(values(Gene::new(4, 16), &Trained::Full), 26 + 24 + 8 + 4 + 8 + 26 + 4 * 16);
        assert_eq!(values(Gene::new(4, 0), &Trained::Full), 26 + 24 + 8 + 4 + 8);
        assert_eq!(values(Gene::new(0, 4), &Trained::Full), 26 + 4 * 4);
        assert_eq!(values(Gene::DROPPED, &Trained::Full), 0);
        let one = Trained::Adapters(3, vec![LayerTensor::Q]);
        assert_eq!(values(Gene::new(4, 16), &one), (8 + 2 + 8) + 24 + 8 + 4 + 3 + (8 + 2) + 3 * 16);
        // In bfloat16: float32 copies for the norm, everything else in half.
        let half = kept_bytes(&SHAPE, Gene::new(0, 4), &Trained::Full, Numbers::Card);
        assert_eq!(half, 8 * 2 + 8 * 4 + 8 + 8 * 4 + 8 * 2 + 4 * 4 * 2);
    }

    #[test]
    fn norms_of_heads_keep_what_they_read() {
        let plain = ModelShape { extras: Extras::NONE, ..SHAPE };
        let normed = ModelShape { extras: Extras::NONE.with(Extra::HeadNorms), ..SHAPE };
        let gene = Gene::new(4, 16);
        let more = |trained| {
            kept_bytes(&normed, gene, trained, Numbers::Cpu(Arithmetic::F32))
                - kept_bytes(&plain, gene, trained, Numbers::Cpu(Arithmetic::F32))
        };
        // Queries 8, keys and values 4 each; 4 + 2 heads.
        assert_eq!(more(&Trained::Full), 4 * (8 + 2 * 4) + 8 * 6 + 4 * (8 + 4));
    }
}
