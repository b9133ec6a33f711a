//! A LLaMA's weights on a device: loading, sharing, names.
//!
//! Letters: as in `forward.rs`.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::head::Head;
use super::low_rank::LowRanks;
use super::matrix::by_group;
use super::quantized::{QuantizedMatrices, Source};
use super::token_tree::TokenTree;
use super::tree_batch::{RopeTable, TreeBatch};
use crate::checkpoint::{Adapters, Checkpoint, LayerTensor, LlamaConfig, LowRank, TensorName, synthetic};
use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::space::{Bits, Extra, Matrix};

/// A LLaMA on a device whose layers can run at any prefix of their widths.
pub struct Llama {
    pub(super) config: LlamaConfig,
    pub(super) device: Device,
    pub(super) kind: Kind,
    /// (v, d)
    pub(super) embedding: Tensor,
    pub(super) layers: Vec<Layer>,
    pub(super) head: Head,
    pub(super) rope: RopeTable,
    pub(super) low_rank: LowRanks,
    pub(super) quantized: QuantizedMatrices,
    /// What was loaded, where its values were rounded: blocks are made of the exact ones. Training, which changes what was
    /// loaded, runs unquantized networks alone.
    exact: Option<Arc<Checkpoint>>,
    pub(super) row_tile: Option<i64>,
    pub(super) kernels: Kernels,
}

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

impl Llama {
    /// Loads a checkpoint, one tensor at a time. `kind` is the kind of the matrices; norms are float32.
    pub fn load(checkpoint: &Checkpoint, device: Device, kind: Kind) -> Result<Llama> {
        let read = |name, kind| -> Result<Tensor> { Ok(checkpoint.tensor(name, kind)?.f_to_device(device)?) };
        let exact = (kind != Kind::Float).then(|| Arc::new(checkpoint.clone()));
        Ok(Llama { exact, ..Llama::of(checkpoint.config().clone(), device, kind, &read)? })
    }

    /// The model that `criadero synthesize` writes, made where it runs.
    pub fn synthesize(config: LlamaConfig, seed: u64, device: Device, kind: Kind) -> Result<Llama> {
        let sizes = config.clone();
        let make = |name, kind| {
            let shape = sizes.tensor_shape(name).expect("the model's own tensors are asked for");
            synthetic::tensor(name, &shape, seed, device, kind)
        };
        Llama::of(config, device, kind, &make)
    }

    fn of(
        config: LlamaConfig,
        device: Device,
        kind: Kind,
        read: &dyn Fn(TensorName, Kind) -> Result<Tensor>,
    ) -> Result<Llama> {
        let embedding = read(TensorName::Embedding, kind)?;
        let mut layers = Vec::with_capacity(config.shape.layers);
        for (layer, gene) in config.genome.genes().iter().enumerate() {
            let weight = |tensor| read(TensorName::Layer(layer, tensor), kind);
            let norm = |tensor| read(TensorName::Layer(layer, tensor), Kind::Float);
            let has = |extra| config.shape.extras.has(extra);
            let when = |extra, tensor| has(extra).then(|| weight(tensor)).transpose();
            let two = |extra, of: [LayerTensor; 2], read: &dyn Fn(LayerTensor) -> Result<Tensor>| {
                has(extra).then(|| Ok::<_, Error>([read(of[0])?, read(of[1])?])).transpose()
            };
            let groups = i64::from(gene.heads) / config.shape.group() as i64;
            let attention = match gene.heads {
                0 => None,
                _ => Some(Attention {
                    norm: norm(LayerTensor::InputNorm)?,
                    qkv: by_group(
                        &[weight(LayerTensor::Q)?, weight(LayerTensor::K)?, weight(LayerTensor::V)?],
                        groups,
                    )?,
                    o: weight(LayerTensor::O)?,
                    qkv_bias: has(Extra::QkvBias)
                        .then(|| {
                            let parts = [LayerTensor::QBias, LayerTensor::KBias, LayerTensor::VBias];
                            let column = |tensor| Ok(weight(tensor)?.unsqueeze(1));
                            let columns = parts.into_iter().map(column).collect::<Result<Vec<_>>>()?;
                            Ok::<_, Error>(by_group(&columns, groups)?.squeeze_dim(1))
                        })
                        .transpose()?,
                    o_bias: when(Extra::OBias, LayerTensor::OBias)?,
                    head_norms: two(Extra::HeadNorms, [LayerTensor::QNorm, LayerTensor::KNorm], &norm)?,
                }),
            };
            let mlp = match gene.mlp {
                0 => None,
                _ => Some(Mlp {
                    norm: norm(LayerTensor::PostNorm)?,
                    gate: weight(LayerTensor::Gate)?,
                    up: weight(LayerTensor::Up)?,
                    down: weight(LayerTensor::Down)?,
                    inner_biases: two(Extra::MlpBias, [LayerTensor::GateBias, LayerTensor::UpBias], &weight)?,
                    down_bias: when(Extra::MlpBias, LayerTensor::DownBias)?,
                }),
            };
            layers.push(Layer { attention, mlp });
        }
        let matrix = if config.shape.tied { embedding.shallow_clone() } else { read(TensorName::Head, kind)? };
        let norm = read(TensorName::FinalNorm, Kind::Float)?;
        let head = Head { norm, matrix, epsilon: config.rms_norm_eps, kernels: Kernels::none() };
        let rope = RopeTable::new(&config, device);
        let (low_rank, quantized) = (LowRanks::default(), QuantizedMatrices::default());
        let (exact, row_tile, kernels) = (None, None, Kernels::none());
        Ok(Llama { config, device, kind, embedding, layers, head, rope, low_rank, quantized, exact, row_tile, kernels })
    }

    /// The same weights for another thread: handles, no copies.
    pub fn share(&self) -> Llama {
        let layers = self.layers.iter().map(Layer::share).collect();
        Llama {
            config: self.config.clone(),
            device: self.device,
            kind: self.kind,
            embedding: self.embedding.shallow_clone(),
            layers,
            head: self.head.share(),
            rope: self.rope.share(),
            low_rank: self.low_rank.share(),
            quantized: self.quantized.clone(),
            exact: self.exact.clone(),
            row_tile: self.row_tile,
            kernels: self.kernels.clone(),
        }
    }

    /// Makes a quantized matrix, unless it was made: of what was loaded, or of the model's own values where those are exact.
    pub(super) fn make(&self, matrix: Matrix, bits: Bits) -> Result<()> {
        let groups = match matrix {
            Matrix::Layer(layer, _) => i64::from(self.config.gene(layer).heads) / self.config.shape.group() as i64,
            Matrix::Embedding | Matrix::Head => 1,
        };
        let read = |name| match &self.exact {
            Some(checkpoint) => checkpoint.tensor(name, Kind::Float),
            None => self.tensor(name),
        };
        let source = Source { read: &read, groups, device: self.device, kind: self.kind, kernels: &self.kernels };
        self.quantized.prepare(matrix, bits, &source)
    }

    /// From now on at most so many rows go through an MLP at a time: slower, in less memory. Sums may be added in another
    /// order. `None`: all at once.
    pub fn set_row_tile(&mut self, rows: Option<i64>) {
        self.row_tile = rows;
    }

    /// How many rows go through an MLP at a time, where that is limited.
    pub fn row_tile(&self) -> Option<i64> {
        self.row_tile
    }

    /// The kernels it runs with.
    pub fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// Runs with these kernels from now on, those of its device and kind, or with none.
    pub fn set_kernels(&mut self, kernels: Kernels) {
        self.head.kernels = kernels.clone();
        self.kernels = kernels;
    }

    /// Runs with these adapters from now on: with W + scale · B · A for every matrix they name.
    pub fn adapt(&mut self, adapters: &Adapters) {
        let to = |of: &Tensor| of.to_device(self.device).to_kind(self.kind);
        let moved = |one: &LowRank| LowRank { a: to(&one.a), b: to(&one.b) };
        let matrices = adapters.matrices.iter().map(|(&place, one)| (place, moved(one))).collect();
        self.low_rank = LowRanks(Some(Adapters { matrices, ..*adapters }));
    }

    /// The adapters that the model runs with.
    pub fn adapters(&self) -> Option<&Adapters> {
        self.low_rank.0.as_ref()
    }

    /// Every weight with a name, without adapters: what full fine-tuning changes. A tied head is not named again.
    pub fn weights(&self) -> Vec<(String, Tensor)> {
        let mut weights = vec![("embed_tokens".to_string(), &self.embedding)];
        for (layer, Layer { attention, mlp }) in self.layers.iter().enumerate() {
            let name = |part: &str| format!("layers.{layer}.{part}");
            if let Some(Attention { norm, qkv, o, qkv_bias, o_bias, head_norms }) = attention {
                weights.extend([(name("input_layernorm"), norm), (name("qkv_proj"), qkv), (name("o_proj"), o)]);
                weights.extend(qkv_bias.as_ref().map(|bias| (name("qkv_proj.bias"), bias)));
                weights.extend(o_bias.as_ref().map(|bias| (name("o_proj.bias"), bias)));
                weights.extend(head_norms.iter().flat_map(|[q, k]| [(name("q_norm"), q), (name("k_norm"), k)]));
            }
            if let Some(Mlp { norm, gate, up, down, inner_biases, down_bias }) = mlp {
                weights.extend([(name("post_attention_layernorm"), norm), (name("gate_proj"), gate)]);
                weights.extend([(name("up_proj"), up), (name("down_proj"), down)]);
                weights.extend(
                    inner_biases
                        .iter()
                        .flat_map(|[gate, up]| [(name("gate_proj.bias"), gate), (name("up_proj.bias"), up)]),
                );
                weights.extend(down_bias.as_ref().map(|bias| (name("down_proj.bias"), bias)));
            }
        }
        weights.push(("norm".to_string(), &self.head.norm));
        if !self.config.shape.tied {
            weights.push(("lm_head".to_string(), &self.head.matrix));
        }
        weights.into_iter().map(|(name, tensor)| (name, tensor.shallow_clone())).collect()
    }

    /// A tensor as a checkpoint has it, adapters merged in; a view of the model's own where nothing is added.
    ///
    /// # Errors
    /// `Invalid` when the model has no such tensor.
    pub fn tensor(&self, name: TensorName) -> Result<Tensor> {
        let missing = || Error::invalid("tensor of the model", name.hf(), "one that the model has");
        let TensorName::Layer(layer, kind) = name else {
            return Ok(match name {
                TensorName::FinalNorm => self.head.norm.shallow_clone(),
                TensorName::Head => self.head.matrix.shallow_clone(),
                _ => self.embedding.shallow_clone(),
            });
        };
        let Layer { attention, mlp } = self.layers.get(layer).ok_or_else(missing)?;
        let attention = || attention.as_ref().ok_or_else(missing);
        let mlp = || mlp.as_ref().ok_or_else(missing);
        let weight = match kind {
            LayerTensor::InputNorm => attention()?.norm.shallow_clone(),
            LayerTensor::Q => self.of_groups(&attention()?.qkv, 0, self.config.shape.group() as i64),
            LayerTensor::K => self.of_groups(&attention()?.qkv, self.config.shape.group() as i64, 1),
            LayerTensor::V => self.of_groups(&attention()?.qkv, self.config.shape.group() as i64 + 1, 1),
            LayerTensor::O => attention()?.o.shallow_clone(),
            LayerTensor::PostNorm => mlp()?.norm.shallow_clone(),
            LayerTensor::Gate => mlp()?.gate.shallow_clone(),
            LayerTensor::Up => mlp()?.up.shallow_clone(),
            LayerTensor::Down => mlp()?.down.shallow_clone(),
            LayerTensor::QNorm | LayerTensor::KNorm => {
                let which = usize::from(kind == LayerTensor::KNorm);
                attention()?.head_norms.as_ref().ok_or_else(missing)?[which].shallow_clone()
            }
            LayerTensor::QBias | LayerTensor::KBias | LayerTensor::VBias => {
                let bias = attention()?.qkv_bias.as_ref().ok_or_else(missing)?.unsqueeze(1); // (k·(g + 2)·e, 1)
                let g = self.config.shape.group() as i64;
                let (first, heads) = match kind {
                    LayerTensor::QBias => (0, g),
                    LayerTensor::KBias => (g, 1),
                    _ => (g + 1, 1),
                };
                self.of_groups(&bias, first, heads).squeeze_dim(1)
            }
            LayerTensor::OBias => attention()?.o_bias.as_ref().ok_or_else(missing)?.shallow_clone(),
            LayerTensor::GateBias | LayerTensor::UpBias => {
                let which = usize::from(kind == LayerTensor::UpBias);
                mlp()?.inner_biases.as_ref().ok_or_else(missing)?[which].shallow_clone()
            }
            LayerTensor::DownBias => mlp()?.down_bias.as_ref().ok_or_else(missing)?.shallow_clone(),
        };
        Ok(self.low_rank.merge(layer, kind, weight))
    }

    /// Some of the g + 2 heads of every KV group: (k·(g + 2)·e, d) to (k·heads·e, d).
    fn of_groups(&self, qkv: &Tensor, first: i64, heads: i64) -> Tensor {
        let (e, g) = (self.config.shape.head_dim as i64, self.config.shape.group() as i64);
        let d = qkv.size()[1];
        qkv.view([-1, (g + 2) * e, d]).narrow(1, first * e, heads * e).reshape([-1, d])
    }

    /// The last norm and the output matrix.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The checkpoint's configuration.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The kind of the matrices.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// A forest of tokens, ready for this model.
    ///
    /// # Errors
    /// When a sequence is longer than the model's positions or a token is outside its vocabulary.
    pub fn batch(&self, tree: &TokenTree) -> Result<TreeBatch> {
        let (longest, most) = (tree.longest(), self.config.positions());
        if longest > most {
            return Err(Error::invalid("sequence", format!("{longest} tokens"), format!("at most {most}")));
        }
        if let Some(token) = tree.tokens().iter().find(|&&token| token as usize >= self.config.shape.vocab) {
            return Err(Error::invalid(
                "token",
                token,
                format!("less than the vocabulary's {}", self.config.shape.vocab),
            ));
        }
        Ok(TreeBatch::new(tree, &self.rope, &self.config, self.device).to_kind(self.kind))
    }
}

impl Layer {
    fn share(&self) -> Layer {
        let attention = self.attention.as_ref().map(|attention| Attention {
            norm: attention.norm.shallow_clone(),
            qkv: attention.qkv.shallow_clone(),
            o: attention.o.shallow_clone(),
            qkv_bias: attention.qkv_bias.as_ref().map(Tensor::shallow_clone),
            o_bias: attention.o_bias.as_ref().map(Tensor::shallow_clone),
            head_norms: attention.head_norms.as_ref().map(handles),
        });
        let mlp = self.mlp.as_ref().map(|mlp| Mlp {
            norm: mlp.norm.shallow_clone(),
            gate: mlp.gate.shallow_clone(),
            up: mlp.up.shallow_clone(),
            down: mlp.down.shallow_clone(),
            inner_biases: mlp.inner_biases.as_ref().map(handles),
            down_bias: mlp.down_bias.as_ref().map(Tensor::shallow_clone),
        });
        Layer { attention, mlp }
    }
}

/// Handles of the same two tensors.
fn handles(of: &[Tensor; 2]) -> [Tensor; 2] {
    of.each_ref().map(Tensor::shallow_clone)
}
