//! The one table of a decoder layer's tensors: names, sizes, halves. Whatever lists, counts, names, moves, narrows or stores
//! them reads it here.

use super::{Bits, Extra, Gene, ModelShape};

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
    /// The norm of each query head.
    QNorm,
    /// The norm of each key head.
    KNorm,
    /// The bias of queries.
    QBias,
    /// The bias of keys.
    KBias,
    /// The bias of values.
    VBias,
    /// The bias of attention's output projection.
    OBias,
    /// The bias of the MLP's gate.
    GateBias,
    /// The bias of its up projection.
    UpBias,
    /// The bias of its down projection.
    DownBias,
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
    /// Scales the residual stream or a head: one dimension, kept in 32 bits by GGUF.
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
    /// One head.
    Head,
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
    /// What a model must have besides, for its layers to have it.
    pub extra: Option<Extra>,
}

/// The layers of a LLaMA and its relatives, in the order of [`LayerTensor`].
pub static LAYER: [LayerRow; 18] = {
    use Half::{Attention, Mlp};
    use LayerTensor::{Down, Gate, InputNorm, K, O, PostNorm, Q, Up, V};
    use LayerTensor::{DownBias, GateBias, KBias, KNorm, OBias, QBias, QNorm, UpBias, VBias};
    use Size::{Channels, Hidden, Keys, Queries};
    let q =
        LayerRow { rotary: true, ..matrix(Q, "self_attn.q_proj", "attn_q", Attention, [Queries, Hidden], Joint::Qkv) };
    let k = LayerRow { rotary: true, ..matrix(K, "self_attn.k_proj", "attn_k", Attention, [Keys, Hidden], Joint::Qkv) };
    let v = matrix(V, "self_attn.v_proj", "attn_v", Attention, [Keys, Hidden], Joint::Qkv);
    let o = matrix(O, "self_attn.o_proj", "attn_output", Attention, [Hidden, Queries], Joint::O);
    let gate = matrix(Gate, "mlp.gate_proj", "ffn_gate", Mlp, [Channels, Hidden], Joint::Gate);
    let up = matrix(Up, "mlp.up_proj", "ffn_up", Mlp, [Channels, Hidden], Joint::Up);
    let down = matrix(Down, "mlp.down_proj", "ffn_down", Mlp, [Hidden, Channels], Joint::Down);
    [
        norm(InputNorm, "input_layernorm", "attn_norm", Attention),
        q,
        k,
        v,
        o,
        norm(PostNorm, "post_attention_layernorm", "ffn_norm", Mlp),
        gate,
        up,
        down,
        head_norm(QNorm, "self_attn.q_norm", "attn_q_norm"),
        head_norm(KNorm, "self_attn.k_norm", "attn_k_norm"),
        bias(QBias, q, Extra::QkvBias),
        bias(KBias, k, Extra::QkvBias),
        bias(VBias, v, Extra::QkvBias),
        bias(OBias, o, Extra::OBias),
        bias(GateBias, gate, Extra::MlpBias),
        bias(UpBias, up, Extra::MlpBias),
        bias(DownBias, down, Extra::MlpBias),
    ]
};

/// The bias of a matrix: called as it is, one value a row.
const fn bias(tensor: LayerTensor, matrix: LayerRow, extra: Extra) -> LayerRow {
    LayerRow { tensor, kind: TensorKind::Bias, columns: None, joint: None, extra: Some(extra), ..matrix }
}

const fn norm(tensor: LayerTensor, hf: &'static str, gguf: &'static str, half: Half) -> LayerRow {
    let (kind, rows) = (TensorKind::Norm, Size::Hidden);
    LayerRow { tensor, hf, gguf, half, kind, rows, columns: None, rotary: false, joint: None, extra: None }
}

const fn head_norm(tensor: LayerTensor, hf: &'static str, gguf: &'static str) -> LayerRow {
    let extra = Some(Extra::HeadNorms);
    LayerRow { rows: Size::Head, extra, ..norm(tensor, hf, gguf, Half::Attention) }
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
    LayerRow { tensor, hf, gguf, half, kind, rows, columns, rotary: false, joint, extra: None }
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

    /// The matrices that write to the residual stream: their rows are its values.
    pub fn writers() -> impl Iterator<Item = LayerTensor> + Clone {
        LAYER.iter().filter(|row| row.columns.is_some() && row.rows == Size::Hidden).map(|row| row.tensor)
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
            Size::Head => shape.head_dim,
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
    /// Whether a layer of this gene has it.
    pub fn is_in(&self, shape: &ModelShape, gene: Gene) -> bool {
        self.half.is_in(gene) && self.extra.is_none_or(|extra| shape.extras.has(extra))
    }

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
        assert_eq!(LayerTensor::writers().collect::<Vec<_>>(), [LayerTensor::O, LayerTensor::Down]);
    }
}
