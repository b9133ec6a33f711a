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

    /// Which prefix of the parent's tensor a layer of this gene keeps: the dimension and the length to
    /// narrow it to. `None` when the tensor is kept whole.
    pub fn prefix(&self, shape: &ModelShape, gene: Gene) -> Option<(usize, usize)> {
        let full = Gene::new(shape.heads as u32, shape.mlp as u32);
        let (whole, kept) = (self.shape(shape, full), self.shape(shape, gene));
        whole.iter().zip(&kept).position(|(whole, kept)| whole != kept).map(|dim| (dim, kept[dim]))
    }

    /// Every tensor of a model whose layers have these genes, in the order a forward pass meets them. A layer
    /// without attention has no attention norm either, and likewise for the MLP; a tied model has no head.
    pub fn all(genes: &[Gene], tied: bool) -> Vec<TensorName> {
        let mut names = vec![TensorName::Embedding];
        for (layer, gene) in genes.iter().enumerate() {
            let own = LAYER.iter().filter(|row| row.half.is_in(*gene));
            names.extend(own.map(|row| TensorName::Layer(layer, row.tensor)));
        }
        names.push(TensorName::FinalNorm);
        if !tied {
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
    use super::*;
    use crate::space::Half;

    /// SmolLM2-135M: 9 query heads in 3 groups.
    const SHAPE: ModelShape = ModelShape {
        layers: 30,
        hidden: 576,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        mlp: 1536,
        vocab: 49152,
        tied: true,
    };

    #[test]
    fn names_a_tensor_of_each_format() {
        let q = TensorName::Layer(3, LayerTensor::Q);
        assert_eq!(q.hf(), "model.layers.3.self_attn.q_proj.weight");
        assert_eq!(q.gguf(), "blk.3.attn_q.weight");
    }

    #[test]
    fn narrows_keys_and_values_by_whole_groups() {
        let gene = Gene::new(6, 768);
        let prefix = |tensor| TensorName::Layer(0, tensor).prefix(&SHAPE, gene);
        assert_eq!(prefix(LayerTensor::Q), Some((0, 384)));
        assert_eq!(prefix(LayerTensor::K), Some((0, 128)));
        assert_eq!(prefix(LayerTensor::O), Some((1, 384)));
        assert_eq!(prefix(LayerTensor::Gate), Some((0, 768)));
        assert_eq!(prefix(LayerTensor::Down), Some((1, 768)));
        assert_eq!(prefix(LayerTensor::InputNorm), None);
        assert_eq!(TensorName::Layer(0, LayerTensor::Q).prefix(&SHAPE, Gene::new(9, 768)), None);
        assert_eq!(TensorName::Head.prefix(&SHAPE, gene), None);
    }

    #[test]
    fn lists_no_tensor_of_a_half_that_is_not_there() {
        let names = TensorName::all(&[Gene::new(0, 64), Gene::new(3, 0)], true);
        let half = |layer, half| {
            let rows = LAYER.iter().filter(move |row| row.half == half);
            rows.map(move |row| TensorName::Layer(layer, row.tensor))
        };
        let expected: Vec<_> = half(0, Half::Mlp).chain(half(1, Half::Attention)).collect();
        assert_eq!(names[1..names.len() - 1], expected);
        assert_eq!(names.last(), Some(&TensorName::FinalNorm));
    }
}
