//! The one table of a decoder layer's tensors: names, sizes, halves. Whatever lists, counts, names, moves, narrows or stores
//! them reads it here.

use super::{Bits, Gene, ModelShape};

/// A tensor inside a decoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerTensor {
    /// The norm before attention.
    InputNorm,
    /// Query projection.
    Q,
    /// Key projection.
    K,
    /// Value projection.
    V,
    /// Attention's output projection.
    O,
    /// The norm before the MLP.
    PostNorm,
    /// The MLP's gate.
    Gate,
    /// The MLP's up projection.
    Up,
    /// The MLP's down projection.
    Down,
}

/// Which half of a layer a tensor belongs to: a layer without the half has none of its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Attention.
    Attention,
    /// The MLP.
    Mlp,
}

/// What a tensor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// Scales the residual stream: one dimension, kept in 32 bits by GGUF.
    Norm,
    /// Is multiplied by: two dimensions, in any bits.
    Matrix,
    /// Is added to what a matrix gives: one dimension, kept in 32 bits by GGUF.
    Bias,
}

/// A size that a tensor's dimension has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// The residual stream.
    Hidden,
    /// All query heads of the layer.
    Queries,
    /// All its key heads, or all its value heads.
    Keys,
    /// Its MLP's channels.
    Channels,
}

/// What the evaluator multiplies by at once: queries, keys and values are one matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Joint {
    /// Queries, keys and values.
    Qkv,
    /// Attention's output projection.
    O,
    /// The MLP's gate.
    Gate,
    /// The MLP's up projection.
    Up,
    /// The MLP's down projection.
    Down,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerRow {
    /// The tensor.
    pub tensor: LayerTensor,
    /// Its name inside a Hugging Face layer, without `.weight`.
    pub hf: &'static str,
    /// Its name inside a GGUF block, without `.weight`.
    pub gguf: &'static str,
    /// The half it belongs to.
    pub half: Half,
    /// What it does.
    pub kind: TensorKind,
    /// Its first dimension, `out`.
    pub rows: Size,
    /// Its second dimension, `in`, where it has two.
    pub columns: Option<Size>,
    /// Whether its rows turn with the position: GGUF keeps the two halves of each head as neighbours.
    pub rotary: bool,
    /// The matrix that it is multiplied in, where it is one.
    pub joint: Option<Joint>,
}

/// The layers of a LLaMA, in the order of [`LayerTensor`]: the order in which a forward pass meets them.
pub static LAYER: [LayerRow; 9] = {
    use Half::{Attention, Mlp};
    use LayerTensor::{Down, Gate, InputNorm, K, O, PostNorm, Q, Up, V};
    use Size::{Channels, Hidden, Keys, Queries};
    [
        norm(InputNorm, "input_layernorm", "attn_norm", Attention),
        LayerRow { rotary: true, ..matrix(Q, "self_attn.q_proj", "attn_q", Attention, [Queries, Hidden], Joint::Qkv) },
        LayerRow { rotary: true, ..matrix(K, "self_attn.k_proj", "attn_k", Attention, [Keys, Hidden], Joint::Qkv) },
        matrix(V, "self_attn.v_proj", "attn_v", Attention, [Keys, Hidden], Joint::Qkv),
        matrix(O, "self_attn.o_proj", "attn_output", Attention, [Hidden, Queries], Joint::O),
        norm(PostNorm, "post_attention_layernorm", "ffn_norm", Mlp),
        matrix(Gate, "mlp.gate_proj", "ffn_gate", Mlp, [Channels, Hidden], Joint::Gate),
        matrix(Up, "mlp.up_proj", "ffn_up", Mlp, [Channels, Hidden], Joint::Up),
        matrix(Down, "mlp.down_proj", "ffn_down", Mlp, [Hidden, Channels], Joint::Down),
    ]
};

const fn norm(tensor: LayerTensor, hf: &'static str, gguf: &'static str, half: Half) -> LayerRow {
    let (kind, rows) = (TensorKind::Norm, Size::Hidden);
    LayerRow { tensor, hf, gguf, half, kind, rows, columns: None, rotary: false, joint: None }
}

const fn matrix(
    tensor: LayerTensor,
    hf: &'static str,
    gguf: &'static str,
    half: Half,
    [rows, columns]: [Size; 2],
    joint: Joint,
) -> LayerRow {
    let (kind, columns, joint) = (TensorKind::Matrix, Some(columns), Some(joint));
    LayerRow { tensor, hf, gguf, half, kind, rows, columns, rotary: false, joint }
}

impl LayerTensor {
    /// Its row of the table.
    pub fn row(self) -> &'static LayerRow {
        &LAYER[self as usize]
    }

    /// The matrices of a layer, in order.
    pub fn matrices() -> impl Iterator<Item = LayerTensor> + Clone {
        LAYER.iter().filter(|row| row.kind == TensorKind::Matrix).map(|row| row.tensor)
    }

    /// The matrices of a half that read its norm: their columns are the residual stream's.
    pub fn readers(half: Half) -> Vec<LayerTensor> {
        let reads = |row: &&LayerRow| row.half == half && row.columns == Some(Size::Hidden);
        LAYER.iter().filter(reads).map(|row| row.tensor).collect()
    }

    /// The last part of its Hugging Face name, such as `q_proj`.
    pub fn short_name(self) -> &'static str {
        let name = self.row().hf;
        name.rsplit_once('.').map_or(name, |(_, last)| last)
    }
}

impl Size {
    /// Its value in a layer of this gene.
    pub fn of(self, shape: &ModelShape, gene: Gene) -> usize {
        let heads = gene.heads as usize;
        match self {
            Size::Hidden => shape.hidden,
            Size::Queries => heads * shape.head_dim,
            Size::Keys => shape.kv_heads_of(heads) * shape.head_dim,
            Size::Channels => gene.mlp as usize,
        }
    }
}

impl Half {
    /// Whether a layer of this gene has it.
    pub fn is_in(self, gene: Gene) -> bool {
        match self {
            Half::Attention => gene.heads > 0,
            Half::Mlp => gene.mlp > 0,
        }
    }
}

impl LayerRow {
    /// The tensor's shape in a layer of this gene, in the order PyTorch gives it: `(out, in)`.
    pub fn shape(&self, shape: &ModelShape, gene: Gene) -> Vec<usize> {
        std::iter::once(self.rows).chain(self.columns).map(|size| size.of(shape, gene)).collect()
    }

    /// How many values it has there.
    pub fn values(&self, shape: &ModelShape, gene: Gene) -> u128 {
        self.shape(shape, gene).iter().map(|&size| size as u128).product()
    }

    /// How it is stored there, given the layer's bits: in those, or as llama.cpp falls back where a row holds no whole blocks;
    /// nothing where there is no type for its rows. Norms and biases are stored in 32 bits, which these do not say.
    pub fn stored(&self, shape: &ModelShape, gene: Gene) -> Option<Bits> {
        gene.bits.stored(self.columns?.of(shape, gene) as u64)
    }

    /// The bytes of that; a matrix whose rows hold no whole blocks, which only a filler can have, stays F16.
    pub fn bytes(&self, shape: &ModelShape, gene: Gene) -> u128 {
        let values = self.values(shape, gene);
        match self.kind {
            TensorKind::Norm | TensorKind::Bias => 4 * values,
            TensorKind::Matrix => self.stored(shape, gene).unwrap_or(Bits::F16).bytes(values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_the_enum() {
        for (index, row) in LAYER.iter().enumerate() {
            assert_eq!(row.tensor as usize, index);
            assert_eq!(row.joint.is_some(), row.kind == TensorKind::Matrix, "{row:?}");
        }
        assert_eq!(LayerTensor::Q.short_name(), "q_proj");
        assert_eq!(LayerTensor::InputNorm.short_name(), "input_layernorm");
        use LayerTensor::{Gate, K, Q, Up, V};
        assert_eq!(LayerTensor::readers(Half::Attention), [Q, K, V]);
        assert_eq!(LayerTensor::readers(Half::Mlp), [Gate, Up]);
    }
}
