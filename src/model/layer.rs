//! The tensors of one layer on a device.
//!
//! Letters: as in `forward.rs`.

use tch::{Kind, Tensor};

use super::matrix::by_group;
use crate::checkpoint::{LayerTensor, LlamaConfig, TensorName};
use crate::error::{Error, Result};
use crate::space::{Extra, ModelShape};

/// A layer: the halves that it has.
pub(super) struct Layer {
    pub(super) attention: Option<Attention>,
    pub(super) mlp: Option<Mlp>,
}

/// The attention of a layer.
pub(super) struct Attention {
    /// (d)
    pub(super) norm: Tensor,
    /// Queries, keys and values of one KV group after the other, so that one product makes them all and a number of
    /// groups is still a prefix: (k·(g + 2)·e, d).
    pub(super) qkv: Tensor,
    /// (d, h·e)
    pub(super) o: Tensor,
    /// Of queries, keys and values, KV group by KV group as their matrix: (k·(g + 2)·e).
    pub(super) qkv_bias: Option<Tensor>,
    /// (d)
    pub(super) o_bias: Option<Tensor>,
    /// Of each query head and each key head: (e) and (e).
    pub(super) head_norms: Option<[Tensor; 2]>,
}

/// The MLP of a layer.
pub(super) struct Mlp {
    /// (d)
    pub(super) norm: Tensor,
    /// (f, d)
    pub(super) gate: Tensor,
    /// (f, d)
    pub(super) up: Tensor,
    /// (d, f)
    pub(super) down: Tensor,
    /// Of gate and up projection: (f) and (f).
    pub(super) inner_biases: Option<[Tensor; 2]>,
    /// (d)
    pub(super) down_bias: Option<Tensor>,
}

/// Reads a tensor of the model in a kind.
type Read<'a> = &'a dyn Fn(TensorName, Kind) -> Result<Tensor>;

impl Layer {
    /// Reads a layer. `kind` is the kind of matrices and biases; norms are float32.
    pub(super) fn read(config: &LlamaConfig, layer: usize, kind: Kind, read: Read) -> Result<Layer> {
        let gene = config.gene(layer);
        let groups = i64::from(gene.heads) / config.shape.group() as i64;
        let of_kind = |kind| move |tensor| read(TensorName::Layer(layer, tensor), kind);
        let tensors = Tensors { config, weight: &of_kind(kind), norm: &of_kind(Kind::Float) };
        Ok(Layer {
            attention: if gene.heads == 0 { None } else { Some(tensors.attention(groups)?) },
            mlp: if gene.mlp == 0 { None } else { Some(tensors.mlp()?) },
        })
    }

    /// Handles of the same tensors.
    pub(super) fn share(&self) -> Layer {
        let all = |of: &Option<Tensor>| of.as_ref().map(Tensor::shallow_clone);
        let attention = self.attention.as_ref().map(|attention| Attention {
            norm: attention.norm.shallow_clone(),
            qkv: attention.qkv.shallow_clone(),
            o: attention.o.shallow_clone(),
            qkv_bias: all(&attention.qkv_bias),
            o_bias: all(&attention.o_bias),
            head_norms: attention.head_norms.as_ref().map(handles),
        });
        let mlp = self.mlp.as_ref().map(|mlp| Mlp {
            norm: mlp.norm.shallow_clone(),
            gate: mlp.gate.shallow_clone(),
            up: mlp.up.shallow_clone(),
            down: mlp.down.shallow_clone(),
            inner_biases: mlp.inner_biases.as_ref().map(handles),
            down_bias: all(&mlp.down_bias),
        });
        Layer { attention, mlp }
    }

    /// Handles of the same tensors, biases made of this kind.
    pub(super) fn with_biases(&self, kind: Kind) -> Layer {
        let of = |bias: Option<Tensor>| bias.map(|bias| bias.to_kind(kind));
        let Layer { attention, mlp } = self.share();
        let attention = attention.map(|own| Attention { qkv_bias: of(own.qkv_bias), o_bias: of(own.o_bias), ..own });
        let mlp = mlp.map(|own| Mlp {
            inner_biases: own.inner_biases.map(|biases| biases.map(|bias| bias.to_kind(kind))),
            down_bias: of(own.down_bias),
            ..own
        });
        Layer { attention, mlp }
    }

    /// Every tensor with the name that training knows it by.
    pub(super) fn named(&self) -> Vec<(&'static str, &Tensor)> {
        let mut named = Vec::new();
        if let Some(Attention { norm, qkv, o, qkv_bias, o_bias, head_norms }) = &self.attention {
            named.extend([("input_layernorm", norm), ("qkv_proj", qkv), ("o_proj", o)]);
            named.extend(qkv_bias.as_ref().map(|bias| ("qkv_proj.bias", bias)));
            named.extend(o_bias.as_ref().map(|bias| ("o_proj.bias", bias)));
            named.extend(head_norms.iter().flat_map(|[q, k]| [("q_norm", q), ("k_norm", k)]));
        }
        if let Some(Mlp { norm, gate, up, down, inner_biases, down_bias }) = &self.mlp {
            named.extend([
                ("post_attention_layernorm", norm),
                ("gate_proj", gate),
                ("up_proj", up),
                ("down_proj", down),
            ]);
            named.extend(inner_biases.iter().flat_map(|[gate, up]| [("gate_proj.bias", gate), ("up_proj.bias", up)]));
            named.extend(down_bias.as_ref().map(|bias| ("down_proj.bias", bias)));
        }
        named
    }

    /// A tensor as a checkpoint has it; a view where that is a part of one here.
    pub(super) fn tensor(&self, tensor: LayerTensor, shape: &ModelShape) -> Option<Tensor> {
        let (attention, mlp) = (self.attention.as_ref(), self.mlp.as_ref());
        let g = shape.group() as i64;
        let of_groups = |qkv: &Tensor, first, heads| heads_of_groups(qkv, shape, first, heads);
        let of_bias = |first, heads| {
            let bias = attention?.qkv_bias.as_ref()?.unsqueeze(1); // (k·(g + 2)·e, 1)
            Some(of_groups(&bias, first, heads).squeeze_dim(1))
        };
        Some(match tensor {
            LayerTensor::InputNorm => attention?.norm.shallow_clone(),
            LayerTensor::Q => of_groups(&attention?.qkv, 0, g),
            LayerTensor::K => of_groups(&attention?.qkv, g, 1),
            LayerTensor::V => of_groups(&attention?.qkv, g + 1, 1),
            LayerTensor::O => attention?.o.shallow_clone(),
            LayerTensor::PostNorm => mlp?.norm.shallow_clone(),
            LayerTensor::Gate => mlp?.gate.shallow_clone(),
            LayerTensor::Up => mlp?.up.shallow_clone(),
            LayerTensor::Down => mlp?.down.shallow_clone(),
            LayerTensor::QNorm => attention?.head_norms.as_ref()?[0].shallow_clone(),
            LayerTensor::KNorm => attention?.head_norms.as_ref()?[1].shallow_clone(),
            LayerTensor::QBias => of_bias(0, g)?,
            LayerTensor::KBias => of_bias(g, 1)?,
            LayerTensor::VBias => of_bias(g + 1, 1)?,
            LayerTensor::OBias => attention?.o_bias.as_ref()?.shallow_clone(),
            LayerTensor::GateBias => mlp?.inner_biases.as_ref()?[0].shallow_clone(),
            LayerTensor::UpBias => mlp?.inner_biases.as_ref()?[1].shallow_clone(),
            LayerTensor::DownBias => mlp?.down_bias.as_ref()?.shallow_clone(),
        })
    }
}

/// The tensors of one layer, to be read.
struct Tensors<'a> {
    config: &'a LlamaConfig,
    weight: &'a dyn Fn(LayerTensor) -> Result<Tensor>,
    norm: &'a dyn Fn(LayerTensor) -> Result<Tensor>,
}

impl Tensors<'_> {
    fn attention(&self, groups: i64) -> Result<Attention> {
        use LayerTensor::{InputNorm, K, KBias, KNorm, O, OBias, Q, QBias, QNorm, V, VBias};
        let joint = |parts: [LayerTensor; 3], read: &dyn Fn(LayerTensor) -> Result<Tensor>| {
            by_group(&parts.into_iter().map(read).collect::<Result<Vec<_>>>()?, groups)
        };
        let column = |tensor| Ok((self.weight)(tensor)?.unsqueeze(1));
        let bias = || Ok::<_, Error>(joint([QBias, KBias, VBias], &column)?.squeeze_dim(1));
        Ok(Attention {
            norm: (self.norm)(InputNorm)?,
            qkv: joint([Q, K, V], self.weight)?,
            o: (self.weight)(O)?,
            qkv_bias: self.where_there(Extra::QkvBias, bias)?,
            o_bias: self.where_there(Extra::OBias, || (self.weight)(OBias))?,
            head_norms: self.where_there(Extra::HeadNorms, || Ok([(self.norm)(QNorm)?, (self.norm)(KNorm)?]))?,
        })
    }

    fn mlp(&self) -> Result<Mlp> {
        use LayerTensor::{Down, DownBias, Gate, GateBias, PostNorm, Up, UpBias};
        Ok(Mlp {
            norm: (self.norm)(PostNorm)?,
            gate: (self.weight)(Gate)?,
            up: (self.weight)(Up)?,
            down: (self.weight)(Down)?,
            inner_biases: self
                .where_there(Extra::MlpBias, || Ok([(self.weight)(GateBias)?, (self.weight)(UpBias)?]))?,
            down_bias: self.where_there(Extra::MlpBias, || (self.weight)(DownBias))?,
        })
    }

    fn where_there<T>(&self, extra: Extra, read: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        self.config.shape.extras.has(extra).then(read).transpose()
    }
}

/// Some of the g + 2 heads of every KV group: (k·(g + 2)·e, d) to (k·heads·e, d).
fn heads_of_groups(qkv: &Tensor, shape: &ModelShape, first: i64, heads: i64) -> Tensor {
    let (e, g) = (shape.head_dim as i64, shape.group() as i64);
    let d = qkv.size()[1];
    qkv.view([-1, (g + 2) * e, d]).narrow(1, first * e, heads * e).reshape([-1, d])
}

/// Handles of the same two tensors.
fn handles(of: &[Tensor; 2]) -> [Tensor; 2] {
    of.each_ref().map(Tensor::shallow_clone)
}
