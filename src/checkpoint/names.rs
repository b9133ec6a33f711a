//! What the tensors of a model are called in files, and their shapes. Of a layer's own, the table of `space` says it.

pub use crate::space::LayerTensor;
use crate::space::{Gene, LAYER, ModelShape, TensorKind};

/// A tensor of a LLaMA. Layers count from the input, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorName {
    /// Token embedding, `(vocab, hidden)`.
    Embedding,
    /// The norm before the output matrix, `(hidden)`.
    FinalNorm,
    /// Output matrix, `(vocab, hidden)`; the embedding itself in a tied model.
    Head,
    /// A tensor of one layer.
    Layer(usize, LayerTensor),
}

impl TensorName {
    /// The name in a Hugging Face checkpoint, such as `model.layers.3.self_attn.q_proj.weight`.
    pub fn hf(&self) -> String {
        match self {
            TensorName::Embedding => "model.embed_tokens.weight".into(),
            TensorName::FinalNorm => "model.norm.weight".into(),
            TensorName::Head => "lm_head.weight".into(),
            TensorName::Layer(layer, tensor) => format!("model.layers.{layer}.{}.{}", tensor.row().hf, suffix(*tensor)),
        }
    }

    /// The name in a GGUF file, such as `blk.3.attn_q.weight`.
    pub fn gguf(&self) -> String {
        match self {
            TensorName::Embedding => "token_embd.weight".into(),
            TensorName::FinalNorm => "output_norm.weight".into(),
            TensorName::Head => "output.weight".into(),
            TensorName::Layer(layer, tensor) => format!("blk.{layer}.{}.{}", tensor.row().gguf, suffix(*tensor)),
        }
    }

    /// Whether this is a norm's weight.
    pub fn is_norm(&self) -> bool {
        match self {
            TensorName::FinalNorm => true,
            TensorName::Embedding | TensorName::Head => false,
            TensorName::Layer(_, tensor) => tensor.row().kind == TensorKind::Norm,
        }
    }

    /// Whether this is a norm or a bias: one dimension, kept in 32 bits by GGUF.
    pub fn is_vector(&self) -> bool {
        match self {
            TensorName::FinalNorm => true,
            TensorName::Embedding | TensorName::Head => false,
            TensorName::Layer(_, tensor) => tensor.row().columns.is_none(),
        }
    }

    /// The tensor's shape in a layer of this gene, in the order PyTorch gives it: `(out, in)`.
    /// The gene says nothing about tensors outside the layers.
    pub fn shape(&self, shape: &ModelShape, gene: Gene) -> Vec<usize> {
        match self {
            TensorName::Embedding | TensorName::Head => vec![shape.vocab, shape.hidden],
            TensorName::FinalNorm => vec![shape.hidden],
            TensorName::Layer(_, tensor) => tensor.row().shape(shape, gene),
        }
    }

    /// Every tensor of a model whose layers have these genes, in the order a forward pass meets them. A layer
    /// without attention has no attention norm either, and likewise for the MLP; a tied model has no head.
    pub fn all(shape: &ModelShape, genes: &[Gene]) -> Vec<TensorName> {
        let mut names = vec![TensorName::Embedding];
        for (layer, gene) in genes.iter().enumerate() {
            let own = LAYER.iter().filter(|row| row.is_in(shape, *gene));
            names.extend(own.map(|row| TensorName::Layer(layer, row.tensor)));
        }
        names.push(TensorName::FinalNorm);
        if !shape.tied {
            names.push(TensorName::Head);
        }
        names
    }
}

/// What the last part of a name is called.
fn suffix(tensor: LayerTensor) -> &'static str {
    match tensor.row().kind {
        TensorKind::Norm | TensorKind::Matrix => "weight",
        TensorKind::Bias => "bias",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::space::shape::tests::SMOLLM2;
    use crate::space::{Bits, Cost, Ends, Extra, Extras, Genome, Half, Matrix, gguf_layers};

    #[test]
    fn names_a_tensor_of_each_format() {
        let q = TensorName::Layer(3, LayerTensor::Q);
        assert_eq!(q.hf(), "model.layers.3.self_attn.q_proj.weight");
        assert_eq!(q.gguf(), "blk.3.attn_q.weight");
    }

    #[test]
    fn narrows_keys_and_values_by_whole_groups() {
        let gene = Gene::new(6, 768);
        let shape = |tensor| TensorName::Layer(0, tensor).shape(&SMOLLM2, gene);
        assert_eq!(shape(LayerTensor::Q), [384, 576]);
        assert_eq!(shape(LayerTensor::K), [128, 576]);
        assert_eq!(shape(LayerTensor::O), [576, 384]);
        assert_eq!(shape(LayerTensor::Gate), [768, 576]);
        assert_eq!(shape(LayerTensor::Down), [576, 768]);
        assert_eq!(shape(LayerTensor::InputNorm), [576]);
        assert_eq!(TensorName::Head.shape(&SMOLLM2, gene), [49152, 576]);
    }

    #[test]
    fn lists_no_tensor_of_a_half_that_is_not_there() {
        let names = TensorName::all(&SMOLLM2, &[Gene::new(0, 64), Gene::new(3, 0)]);
        let half = |layer, half| {
            let rows = LAYER.iter().filter(move |row| row.half == half && row.extra.is_none());
            rows.map(move |row| TensorName::Layer(layer, row.tensor))
        };
        let expected: Vec<_> = half(0, Half::Mlp).chain(half(1, Half::Attention)).collect();
        assert_eq!(names[1..names.len() - 1], expected);
        assert_eq!(names.last(), Some(&TensorName::FinalNorm));
    }
    /// A network of some model: heads of width 32 in groups of 2, everything in steps of 32.
    fn network() -> impl Strategy<Value = (ModelShape, Genome)> {
        let bits = || prop::sample::select(vec![Bits::F16, Bits::Q8_0, Bits::Q4_1, Bits::Q4K]);
        let every = [Extra::QkvBias, Extra::OBias, Extra::MlpBias, Extra::HeadNorms];
        let extras = prop::sample::subsequence(every.to_vec(), 0..=4).prop_map(Extras::from_iter);
        let gene = (0..4u32, 0..5u32, bits()).prop_map(|(kv, mlp, bits)| Gene { heads: 2 * kv, mlp: 32 * mlp, bits });
        let genes = prop::collection::vec(gene, 1..5);
        (genes, 1..9usize, 1..99usize, any::<bool>(), bits(), bits(), extras).prop_map(
            |(genes, hidden, vocab, tied, embedding, head, extras)| {
                let (layers, hidden) = (genes.len(), 32 * hidden);
                let shape =
                    ModelShape { layers, hidden, heads: 6, kv_heads: 3, head_dim: 32, mlp: 128, vocab, tied, extras };
                let ends = Ends { embedding, head: if tied { Bits::F16 } else { head } };
                (shape, Genome::new(genes).with_ends(ends))
            },
        )
    }

    proptest! {
        #[test]
        fn tensors_and_matrices_add_up_to_the_closed_forms((shape, genome) in network()) {
            let cost = Cost::of(&shape, &genome);
            let values = |name: &TensorName, genes: &[Gene]| -> u128 {
                let gene = match name {
                    TensorName::Layer(layer, _) => genes[*layer],
                    _ => Gene::DROPPED,
                };
                name.shape(&shape, gene).iter().map(|&size| size as u128).product()
            };

            let kept: Vec<Gene> = genome.kept().map(|(_, gene)| gene).collect();
            let names = TensorName::all(&shape, &kept);
            prop_assert_eq!(names.iter().map(|name| values(name, &kept)).sum::<u128>(), u128::from(cost.params));
            for of in [TensorName::hf, TensorName::gguf] {
                prop_assert_eq!(names.iter().map(of).collect::<BTreeSet<_>>().len(), names.len());
            }

            // The file: what is in no matrix is a vector of singles, and the matrices are in the types that they say.
            let in_file: Vec<Gene> = gguf_layers(&shape, &genome).into_iter().map(|(_, gene)| gene).collect();
            let names = TensorName::all(&shape, &in_file);
            let vectors = names.iter().filter(|name| name.is_vector()).map(|name| 4 * values(name, &in_file));
            let whole = Genome::new(in_file.clone());
            let of_layers = in_file.iter().enumerate().flat_map(|(layer, &gene)| Matrix::of_gene(&shape, layer, gene));
            let of_ends = Matrix::of_ends(&shape, genome.ends());
            let all = of_layers.chain(of_ends).filter(|(matrix, _)| !(shape.tied && *matrix == Matrix::Head));
            let bytes = |(matrix, bits): (Matrix, Option<Bits>)| {
                bits.unwrap_or(Bits::F16).bytes(matrix.weights(&shape, &whole).into())
            };
            prop_assert_eq!(vectors.chain(all.map(bytes)).sum::<u128>(), u128::from(cost.weight_bytes));
        }
    }
}
