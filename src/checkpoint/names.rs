//! The one table of tensor names: ours, Hugging Face's and GGUF's, with each tensor's shape.

use crate::space::{Gene, ModelShape};

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

/// A tensor inside a decoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerTensor {
    /// The norm before attention, `(hidden)`.
    InputNorm,
    /// Query projection, `(heads * head_dim, hidden)`.
    Q,
    /// Key projection, `(kv_heads * head_dim, hidden)`.
    K,
    /// Value projection, `(kv_heads * head_dim, hidden)`.
    V,
    /// Attention's output projection, `(hidden, heads * head_dim)`.
    O,
    /// The norm before the MLP, `(hidden)`.
    PostNorm,
    /// The MLP's gate, `(mlp, hidden)`.
    Gate,
    /// The MLP's up projection, `(mlp, hidden)`.
    Up,
    /// The MLP's down projection, `(hidden, mlp)`.
    Down,
}

/// One row a tensor: ours, the name inside a Hugging Face layer, the name inside a GGUF block.
const LAYER_NAMES: [(LayerTensor, &str, &str); 9] = [
    (LayerTensor::InputNorm, "input_layernorm", "attn_norm"),
    (LayerTensor::Q, "self_attn.q_proj", "attn_q"),
    (LayerTensor::K, "self_attn.k_proj", "attn_k"),
    (LayerTensor::V, "self_attn.v_proj", "attn_v"),
    (LayerTensor::O, "self_attn.o_proj", "attn_output"),
    (LayerTensor::PostNorm, "post_attention_layernorm", "ffn_norm"),
    (LayerTensor::Gate, "mlp.gate_proj", "ffn_gate"),
    (LayerTensor::Up, "mlp.up_proj", "ffn_up"),
    (LayerTensor::Down, "mlp.down_proj", "ffn_down"),
];

impl LayerTensor {
    /// Attention's tensors, its norm first.
    pub const ATTENTION: [LayerTensor; 5] =
        [LayerTensor::InputNorm, LayerTensor::Q, LayerTensor::K, LayerTensor::V, LayerTensor::O];
    /// The MLP's tensors, its norm first.
    pub const MLP: [LayerTensor; 4] = [LayerTensor::PostNorm, LayerTensor::Gate, LayerTensor::Up, LayerTensor::Down];

    /// The seven matrices of a layer.
    pub const MATRICES: [LayerTensor; 7] = [
        LayerTensor::Q,
        LayerTensor::K,
        LayerTensor::V,
        LayerTensor::O,
        LayerTensor::Gate,
        LayerTensor::Up,
        LayerTensor::Down,
    ];

    /// The last part of its Hugging Face name, such as `q_proj`.
    pub fn short_name(self) -> &'static str {
        let name = self.row().0;
        name.rsplit_once('.').map_or(name, |(_, last)| last)
    }

    fn row(self) -> (&'static str, &'static str) {
        let (_, hf, gguf) = LAYER_NAMES[self as usize];
        (hf, gguf)
    }
}

impl TensorName {
    /// The name in a Hugging Face checkpoint, such as `model.layers.3.self_attn.q_proj.weight`.
    pub fn hf(&self) -> String {
        match self {
            TensorName::Embedding => "model.embed_tokens.weight".into(),
            TensorName::FinalNorm => "model.norm.weight".into(),
            TensorName::Head => "lm_head.weight".into(),
            TensorName::Layer(layer, tensor) => format!("model.layers.{layer}.{}.weight", tensor.row().0),
        }
    }

    /// The name in a GGUF file, such as `blk.3.attn_q.weight`.
    pub fn gguf(&self) -> String {
        match self {
            TensorName::Embedding => "token_embd.weight".into(),
            TensorName::FinalNorm => "output_norm.weight".into(),
            TensorName::Head => "output.weight".into(),
            TensorName::Layer(layer, tensor) => format!("blk.{layer}.{}.weight", tensor.row().1),
        }
    }

    /// Whether this is a norm's weight: one dimension, kept in 32 bits by GGUF.
    pub fn is_norm(&self) -> bool {
        use LayerTensor::{InputNorm, PostNorm};
        matches!(self, TensorName::FinalNorm | TensorName::Layer(_, InputNorm | PostNorm))
    }

    /// The tensor's shape in a layer of this gene, in the order PyTorch gives it: `(out, in)`.
    /// The gene says nothing about tensors outside the layers.
    pub fn shape(&self, shape: &ModelShape, gene: Gene) -> Vec<usize> {
        let &ModelShape { hidden, head_dim, vocab, .. } = shape;
        let heads = gene.heads as usize;
        let (q, kv) = (heads * head_dim, shape.kv_heads_of(heads) * head_dim);
        let mlp = gene.mlp as usize;
        match self {
            TensorName::Embedding | TensorName::Head => vec![vocab, hidden],
            TensorName::FinalNorm => vec![hidden],
            TensorName::Layer(_, tensor) => match tensor {
                LayerTensor::InputNorm | LayerTensor::PostNorm => vec![hidden],
                LayerTensor::Q => vec![q, hidden],
                LayerTensor::K | LayerTensor::V => vec![kv, hidden],
                LayerTensor::O => vec![hidden, q],
                LayerTensor::Gate | LayerTensor::Up => vec![mlp, hidden],
                LayerTensor::Down => vec![hidden, mlp],
            },
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
            let attention = LayerTensor::ATTENTION.iter().filter(|_| gene.heads > 0);
            let mlp = LayerTensor::MLP.iter().filter(|_| gene.mlp > 0);
            names.extend(attention.chain(mlp).map(|&tensor| TensorName::Layer(layer, tensor)));
        }
        names.push(TensorName::FinalNorm);
        if !tied {
            names.push(TensorName::Head);
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn names_rows_stand_in_the_order_of_the_enum() {
        for (index, (tensor, ..)) in LAYER_NAMES.iter().enumerate() {
            assert_eq!(*tensor as usize, index);
        }
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
        let expected: Vec<_> = LayerTensor::MLP
            .map(|tensor| TensorName::Layer(0, tensor))
            .into_iter()
            .chain(LayerTensor::ATTENTION.map(|tensor| TensorName::Layer(1, tensor)))
            .collect();
        assert_eq!(names[1..names.len() - 1], expected);
        assert_eq!(names.last(), Some(&TensorName::FinalNorm));
    }
}
