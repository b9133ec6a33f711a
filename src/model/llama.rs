//! The elastic LLaMA, top to bottom in reading order: every width of a forward pass is a prefix of the
//! loaded weights, taken as a view.
//!
//! Letters: `t` tokens, `d` hidden, `h` query heads, `k` key/value heads, `g` query heads in a group
//! (`h / k`), `e` head_dim, `f` MLP width, `v` vocabulary. Mathematics as in `modeling_llama.py` of
//! transformers; norms, logits and log-probabilities are float32 whatever the weights are.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::kv_cache::KvCache;
use super::low_rank::LowRanks;
use super::matrix::{Matrix, by_group};
use super::quantized::{QuantizedMatrices, Source};
use super::stream::Stream;
use super::tree::{Angles, RopeTable, TreeBatch};
use crate::checkpoint::{Adapters, Checkpoint, LayerTensor, LlamaConfig, LowRank, TensorName, synthetic};
use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::kernels::log_probs::Chosen;
use crate::kernels::rotary::Heads;
use crate::space::{Bits, Ends, Gene, Genome, HalfGene};

/// Logits are computed for this many rows at a time, so that a float32 (rows, v) stays small. Part of
/// what makes a score reproducible, so a constant.
pub const HEAD_ROWS: i64 = 256;

/// A LLaMA on a device whose layers can run at any prefix of their widths.
pub struct Llama {
    config: LlamaConfig,
    device: Device,
    kind: Kind,
    /// (v, d)
    embedding: Tensor,
    layers: Vec<Layer>,
    /// (d)
    norm: Tensor,
    /// (v, d); the embedding itself when tied.
    head: Tensor,
    rope: RopeTable,
    low_rank: LowRanks,
    quantized: QuantizedMatrices,
    /// What was loaded, where its values were rounded: blocks are made of the exact ones. Training, which changes what was
    /// loaded, runs unquantized networks alone.
    exact: Option<Arc<Checkpoint>>,
    row_tile: Option<i64>,
    kernels: Kernels,
}

struct Layer {
    attention: Option<Attention>,
    mlp: Option<Mlp>,
}

struct Attention {
    /// (d)
    norm: Tensor,
    /// Queries, keys and values of one KV group after the other, so that one product makes them all and a number of
    /// groups is still a prefix: (k·(g + 2)·e, d).
    qkv: Tensor,
    /// (d, h·e)
    o: Tensor,
}

struct Mlp {
    /// (d)
    norm: Tensor,
    /// (f, d)
    gate: Tensor,
    /// (f, d)
    up: Tensor,
    /// (d, f)
    down: Tensor,
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
            let attention = match gene.heads {
                0 => None,
                _ => Some(Attention {
                    norm: norm(LayerTensor::InputNorm)?,
                    qkv: by_group(
                        &[weight(LayerTensor::Q)?, weight(LayerTensor::K)?, weight(LayerTensor::V)?],
                        i64::from(gene.heads) / config.shape.group() as i64,
                    )?,
                    o: weight(LayerTensor::O)?,
                }),
            };
            let mlp = match gene.mlp {
                0 => None,
                _ => Some(Mlp {
                    norm: norm(LayerTensor::PostNorm)?,
                    gate: weight(LayerTensor::Gate)?,
                    up: weight(LayerTensor::Up)?,
                    down: weight(LayerTensor::Down)?,
                }),
            };
            layers.push(Layer { attention, mlp });
        }
        let head = if config.shape.tied { embedding.shallow_clone() } else { read(TensorName::Head, kind)? };
        let norm = read(TensorName::FinalNorm, Kind::Float)?;
        let rope = rope_table(&config, device);
        let (low_rank, quantized) = (LowRanks::default(), QuantizedMatrices::default());
        let (exact, row_tile, kernels) = (None, None, Kernels::none());
        Ok(Llama {
            config,
            device,
            kind,
            embedding,
            layers,
            norm,
            head,
            rope,
            low_rank,
            quantized,
            exact,
            row_tile,
            kernels,
        })
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
            norm: self.norm.shallow_clone(),
            head: self.head.shallow_clone(),
            rope: RopeTable { cos: self.rope.cos.shallow_clone(), sin: self.rope.sin.shallow_clone() },
            low_rank: self.low_rank.share(),
            quantized: self.quantized.clone(),
            exact: self.exact.clone(),
            row_tile: self.row_tile,
            kernels: self.kernels.clone(),
        }
    }

    /// The same layers between an embedding and an output matrix with the values that these bits store.
    ///
    /// # Errors
    /// `Invalid` when one of them has a weight that blocks cannot hold, or rows that are no whole blocks.
    pub fn with_ends(&self, ends: Ends) -> Result<Llama> {
        if let Some(problem) = self.config.shape.ends_problem(ends) {
            return Err(Error::invalid("genome", problem, "whole blocks, or 16 bits"));
        }
        let mut model = self.share();
        let stored = |bits: Bits| bits.stored(self.config.shape.hidden as u64).filter(|bits| !bits.is_full());
        if let Some(bits) = stored(ends.embedding) {
            model.embedding = self.end(Matrix::Embedding, &self.embedding, bits)?;
        }
        if self.config.shape.tied {
            model.head = model.embedding.shallow_clone();
        } else if let Some(bits) = stored(ends.head) {
            model.head = self.end(Matrix::Head, &self.head, bits)?;
        }
        Ok(model)
    }

    /// The embedding or the output matrix in these bits.
    fn end(&self, matrix: Matrix, whole: &Tensor, bits: Bits) -> Result<Tensor> {
        self.make(matrix, bits, 1)?;
        let (rows, columns) = whole.size2()?;
        Ok(self.quantized.weight(matrix, bits, [rows, columns], self.kind, &self.kernels))
    }

    /// Makes a quantized matrix, unless it was made: of what was loaded, or of the model's own values where those are exact.
    fn make(&self, matrix: Matrix, bits: Bits, groups: i64) -> Result<()> {
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
            if let Some(Attention { norm, qkv, o }) = attention {
                weights.extend([(name("input_layernorm"), norm), (name("qkv_proj"), qkv), (name("o_proj"), o)]);
            }
            if let Some(Mlp { norm, gate, up, down }) = mlp {
                weights.extend([(name("post_attention_layernorm"), norm), (name("gate_proj"), gate)]);
                weights.extend([(name("up_proj"), up), (name("down_proj"), down)]);
            }
        }
        weights.push(("norm".to_string(), &self.norm));
        if !self.config.shape.tied {
            weights.push(("lm_head".to_string(), &self.head));
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
                TensorName::FinalNorm => self.norm.shallow_clone(),
                TensorName::Head => self.head.shallow_clone(),
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
        };
        Ok(self.low_rank.merge(layer, kind, weight))
    }

    /// Some of the g + 2 heads of every KV group: (k·(g + 2)·e, d) to (k·heads·e, d).
    fn of_groups(&self, qkv: &Tensor, first: i64, heads: i64) -> Tensor {
        let (e, g) = (self.config.shape.head_dim as i64, self.config.shape.group() as i64);
        let d = qkv.size()[1];
        qkv.view([-1, (g + 2) * e, d]).narrow(1, first * e, heads * e).reshape([-1, d])
    }

    /// The output matrix, (v, d).
    pub fn head(&self) -> &Tensor {
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
    pub fn batch(&self, tree: &super::TokenTree) -> Result<TreeBatch> {
        let (longest, most) = (tree.longest(), self.config.max_position_embeddings);
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
        Ok(tree.batch(&self.rope, self.config.shape.group(), self.device).to_kind(self.kind))
    }

    /// Refuses a genome that is no set of prefixes of this model.
    pub fn check(&self, genome: &Genome) -> Result<()> {
        let full = self.config.genome.genes();
        if genome.genes().len() != full.len() {
            let expected = format!("{} layers, as the model has", full.len());
            return Err(Error::invalid("genome", format!("{} layers", genome.genes().len()), expected));
        }
        let group = self.config.shape.group() as u32;
        for (layer, (gene, most)) in genome.genes().iter().zip(full).enumerate() {
            if gene.heads > most.heads || gene.mlp > most.mlp || gene.heads % group != 0 {
                let expected = format!("at most {}x{} with heads in steps of {group}", most.heads, most.mlp);
                return Err(Error::invalid(
                    format!("genome, layer {layer}"),
                    format!("{}x{}", gene.heads, gene.mlp),
                    expected,
                ));
            }
            if let Some(problem) = self.config.shape.blocks_problem(*gene) {
                return Err(Error::invalid(format!("genome, layer {layer}"), problem, "whole blocks, or 16 bits"));
            }
        }
        if let Some(problem) = self.config.shape.ends_problem(genome.ends()) {
            return Err(Error::invalid("genome", problem, "whole blocks, or 16 bits"));
        }
        if genome.is_quantized() && self.adapters().is_some() {
            return Err(Error::invalid("genome", "quantized matrices with adapters beside them", "merged adapters"));
        }
        Ok(())
    }

    /// Refuses a genome as [`Llama::check`] does, and makes its quantized matrices.
    ///
    /// # Errors
    /// Also `Invalid` when a weight to quantize is not finite.
    pub fn prepare(&self, genome: &Genome) -> Result<()> {
        self.check(genome)?;
        let d = self.hidden_size();
        for (layer, gene) in genome.kept().filter(|(_, gene)| !gene.bits.is_full()) {
            let whole = &self.layers[layer];
            let (q, f) = (i64::from(gene.heads) * self.config.shape.head_dim as i64, i64::from(gene.mlp));
            let attention = [(Matrix::Qkv(layer), d), (Matrix::O(layer), q)];
            let attention = attention.into_iter().filter(|_| whole.attention.is_some() && q > 0);
            let mlp = [(Matrix::Gate(layer), d), (Matrix::Up(layer), d), (Matrix::Down(layer), f)];
            let mlp = mlp.into_iter().filter(|_| whole.mlp.is_some() && f > 0);
            let groups = i64::from(self.config.gene(layer).heads) / self.config.shape.group() as i64;
            for (matrix, row_len) in attention.chain(mlp) {
                if let Some(bits) = gene.bits.stored(row_len as u64).filter(|bits| !bits.is_full()) {
                    self.make(matrix, bits, groups)?;
                }
            }
        }
        Ok(())
    }

    /// The first `rows` by `columns` of a matrix with the values they have when they are stored in these bits.
    fn weight(&self, matrix: Matrix, whole: &Tensor, bits: Bits, [rows, columns]: [i64; 2]) -> Tensor {
        match bits.stored(columns as u64) {
            Some(Bits::F16) | None => prefix(&prefix(whole, 0, rows), 1, columns),
            Some(bits) => self.quantized.weight(matrix, bits, [rows, columns], self.kind, &self.kernels),
        }
    }

    fn hidden_size(&self) -> i64 {
        self.config.shape.hidden as i64
    }

    /// Token embeddings: (t, d).
    pub fn embed(&self, batch: &TreeBatch) -> Tensor {
        self.embedding.index_select(0, &batch.tokens) // (t, d)
    }

    /// The first half of a layer with its first query heads, residual included. No heads: the input itself.
    ///
    /// # Panics
    /// When quantized matrices were not made by [`Llama::prepare`].
    pub fn attend(&self, layer: usize, half: HalfGene, before: &Stream, batch: &TreeBatch) -> Stream {
        match (&self.layers[layer].attention, half.width) {
            (None, _) | (_, 0) => before.clone(),
            (Some(attention), _) => {
                let context = self.attention_context(layer, attention, half, before, batch); // (t, h·e)
                self.project_out(layer, attention, half, before, &context)
            }
        }
    }

    /// What the heads give, (t, h·e), added to the residual stream.
    fn project_out(
        &self,
        layer: usize,
        attention: &Attention,
        half: HalfGene,
        before: &Stream,
        context: &Tensor,
    ) -> Stream {
        let size = [self.hidden_size(), context.size()[1]];
        let o = self.weight(Matrix::O(layer), &attention.o, half.bits, size); // (d, h·e)
        self.add_product(layer, LayerTensor::O, before, context, &o)
    }

    /// The residual stream and the product of a half layer's last matrix (d, n) with its inputs (t, n).
    fn add_product(&self, layer: usize, name: LayerTensor, before: &Stream, input: &Tensor, weight: &Tensor) -> Stream {
        let next = 2 * layer + if name == LayerTensor::O { 1 } else { 2 };
        match self.norm_of(next).filter(|_| self.kernels.are_there() && self.adapters().is_none()) {
            Some(norm) => {
                let product = input.matmul(&weight.tr()); // (t, d)
                let epsilon = self.config.rms_norm_eps;
                let (hidden, normed) = self.kernels.add_rms_norm(before.hidden(), &product, norm, epsilon, self.kind);
                Stream::with_normed(hidden, next, normed)
            }
            None => {
                let hidden = before.hidden().addmm(input, &weight.tr()); // (t, d)
                Stream::new(self.low_rank.add_inputs(layer, name, hidden, input))
            }
        }
    }

    /// The weight of the norm in front of a half layer, the attention of layer 0 being the first.
    fn norm_of(&self, level: usize) -> Option<&Tensor> {
        let Layer { attention, mlp } = self.layers.get(level / 2)?;
        match level % 2 {
            0 => attention.as_ref().map(|attention| &attention.norm),
            _ => mlp.as_ref().map(|mlp| &mlp.norm),
        }
    }

    /// The residual stream as half layer `level` takes it: (t, d).
    fn normed(&self, level: usize, stream: &Stream, weight: &Tensor) -> Tensor {
        stream.take_normed(level).unwrap_or_else(|| self.rms_norm(stream.hidden(), weight))
    }

    /// Goes on with `b` sequences whose beginning is in the cache: `tokens` (b, n) to the last layer's output (b·n, d). An
    /// empty cache takes any number of tokens, one that is not empty one token a sequence. The genome is the cache's.
    ///
    /// # Errors
    /// `Invalid` when the cache has no room, or for several tokens behind others.
    ///
    /// # Panics
    /// As [`Llama::attend`].
    pub fn extend(&self, genome: &Genome, tokens: &Tensor, cache: &mut KvCache) -> Result<Tensor> {
        let (b, n) = tokens.size2()?;
        let positions = cache.positions(n)?;
        let positions = Tensor::arange_start(positions.start, positions.end, (Kind::Int64, self.device));
        let angles = self.rope.at(&positions.repeat([b])).to_kind(self.kind); // (b·n, 1, 1, e)
        let mut stream = Stream::new(self.embedding.index_select(0, &tokens.view([-1]))); // (b·n, d)
        for (layer, gene) in genome.kept() {
            let [heads, channels] = gene.halves();
            if let (Some(attention), true) = (&self.layers[layer].attention, heads.width > 0) {
                let Heads { query, key, value, .. } = self.rotated_heads(layer, attention, heads, &stream, &angles);
                let context = cache.attend(layer, &query, &key, &value);
                stream = self.project_out(layer, attention, heads, &stream, &context);
            }
            stream = self.feed(layer, channels, &stream);
        }
        cache.advance(n);
        Ok(stream.into_hidden())
    }

    /// The second half of a layer with its first channels, residual included. No channels: the input itself.
    ///
    /// # Panics
    /// When quantized matrices were not made by [`Llama::prepare`].
    pub fn feed(&self, layer: usize, half: HalfGene, before: &Stream) -> Stream {
        let hidden = before.hidden();
        if let Some(rows) = self.row_tile.filter(|&rows| rows < hidden.size()[0] && half.width > 0) {
            let tile = |tile: Tensor| self.feed(layer, half, &Stream::new(tile)).into_hidden();
            let tiles: Vec<Tensor> = hidden.split(rows, 0).into_iter().map(tile).collect();
            return Stream::new(Tensor::cat(&tiles, 0));
        }
        match (&self.layers[layer].mlp, half.width) {
            (None, _) | (_, 0) => before.clone(),
            (Some(mlp), width) => {
                let activation = self.mlp_activation(layer, mlp, half, before); // (t, f)
                let size = [self.hidden_size(), i64::from(width)];
                let down = self.weight(Matrix::Down(layer), &mlp.down, half.bits, size); // (d, f)
                self.add_product(layer, LayerTensor::Down, before, &activation, &down)
            }
        }
    }

    /// Both halves of a layer.
    ///
    /// # Panics
    /// As [`Llama::attend`].
    pub fn layer(&self, layer: usize, gene: Gene, before: &Stream, batch: &TreeBatch) -> Stream {
        let [attention, mlp] = gene.halves();
        self.feed(layer, mlp, &self.attend(layer, attention, before, batch))
    }

    /// Logits, float32: (t, d) to (t, v).
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        self.logits_of_normed(&self.final_norm(hidden))
    }

    /// The last layer's output as the output matrix takes it: (t, d) to (t, d).
    pub fn final_norm(&self, hidden: &Tensor) -> Tensor {
        self.rms_norm(hidden, &self.norm)
    }

    /// Logits of what [`Llama::final_norm`] gave, float32: (t, d) to (t, v).
    pub fn logits_of_normed(&self, normed: &Tensor) -> Tensor {
        self.head_product(normed).to_kind(Kind::Float)
    }

    /// Logits of the kind of the matrices: (t, d) to (t, v).
    fn head_product(&self, normed: &Tensor) -> Tensor {
        normed.matmul(&self.head.tr())
    }

    /// The last layer's output of one network: (t, d).
    ///
    /// # Panics
    /// As [`Llama::attend`].
    pub fn hidden(&self, genome: &Genome, batch: &TreeBatch) -> Tensor {
        let first = Stream::new(self.embed(batch));
        genome.kept().fold(first, |stream, (layer, gene)| self.layer(layer, gene, &stream, batch)).into_hidden()
    }

    /// The whole forward pass of one network: float32 logits of every token, (t, v).
    ///
    /// # Panics
    /// As [`Llama::attend`].
    pub fn forward(&self, genome: &Genome, batch: &TreeBatch) -> Tensor {
        self.logits(&self.hidden(genome, batch))
    }

    /// What a few rows say about the tokens after them, and how far they are from `parent` where it is given.
    /// `hidden` is the last layer's output (t, d).
    pub fn predict(&self, hidden: &Tensor, targets: &Targets, parent: Option<&Reference>) -> Predictions {
        let mut predictions = Predictions::default();
        let rows = hidden.index_select(0, &Tensor::from_slice(&targets.rows).to_device(self.device)); // (r, d)
        let mut pair = 0;
        for first in (0..targets.rows.len() as i64).step_by(HEAD_ROWS as usize) {
            let count = HEAD_ROWS.min(targets.rows.len() as i64 - first);
            let logits = self.head_product(&self.final_norm(&rows.narrow(0, first, count))); // (r, v)
            let end = pair + targets.pairs[pair..].partition_point(|&(row, _)| i64::from(row) < first + count);
            let here = &targets.pairs[pair..end];
            pair = end;
            let row: Vec<i64> = here.iter().map(|&(row, _)| i64::from(row) - first).collect();
            let token: Vec<i64> = here.iter().map(|&(_, token)| i64::from(token)).collect();
            let Chosen { log_probs, best } = self.kernels.log_probs(&logits, &row, &token, targets.greedy);
            predictions.log_probs.extend(Vec::<f32>::try_from(log_probs).expect("a one-dimensional float tensor"));
            if let Some(best) = best {
                predictions.greedy.extend(Vec::<bool>::try_from(best).expect("a one-dimensional bool tensor"));
            }
            if let Some(parent) = parent {
                let log_probs = logits.to_kind(Kind::Float).log_softmax(1, Kind::Float); // (r, v)
                let divergences = parent.divergences(first, &log_probs); // (r)
                predictions.divergences.extend(Vec::<f32>::try_from(divergences).expect("one-dimensional floats"));
            }
        }
        predictions
    }

    /// What this network predicts at the rows of `targets`, to measure others against.
    pub fn reference(&self, hidden: &Tensor, targets: &Targets) -> Reference {
        let rows = hidden.index_select(0, &Tensor::from_slice(&targets.rows).to_device(self.device)); // (r, d)
        let (mut tokens, mut log_probs) = (Vec::new(), Vec::new());
        for first in (0..targets.rows.len() as i64).step_by(HEAD_ROWS as usize) {
            let count = HEAD_ROWS.min(targets.rows.len() as i64 - first);
            let all = self.logits(&rows.narrow(0, first, count)).log_softmax(1, Kind::Float); // (r, v)
            let (values, places) = all.topk(TOP_TOKENS.min(all.size()[1]), 1, true, false); // (r, 64) each
            tokens.push(places);
            log_probs.push(values);
        }
        Reference { tokens: Tensor::cat(&tokens, 0), log_probs: Tensor::cat(&log_probs, 0) }
    }

    /// Each head's weighted values, before the output projection: (t, h·e).
    fn attention_context(
        &self,
        layer: usize,
        attention: &Attention,
        half: HalfGene,
        before: &Stream,
        batch: &TreeBatch,
    ) -> Tensor {
        let heads = self.rotated_heads(layer, attention, half, before, &batch.angles);
        self.kernels.tree_attention(&heads, &batch.sight)
    }

    /// Queries, keys and values of every token, positions applied.
    fn rotated_heads(
        &self,
        layer: usize,
        attention: &Attention,
        half: HalfGene,
        before: &Stream,
        angles: &Angles,
    ) -> Heads {
        let (e, g) = (self.config.shape.head_dim as i64, self.config.shape.group() as i64);
        let k = i64::from(half.width) / g;
        let normed = self.normed(2 * layer, before, &attention.norm); // (t, d)
        let size = [k * (g + 2) * e, self.hidden_size()];
        let weight = self.weight(Matrix::Qkv(layer), &attention.qkv, half.bits, size);
        let qkv = normed.matmul(&weight.tr()).view([-1, k, g + 2, e]); // (t, k, g + 2, e)
        let qkv = self.low_rank.add_qkv(layer, qkv, &normed);
        self.kernels.rotary(qkv, &angles.cos, &angles.sin)
    }

    /// SwiGLU before the down projection: (t, f).
    fn mlp_activation(&self, layer: usize, mlp: &Mlp, half: HalfGene, before: &Stream) -> Tensor {
        let normed = self.normed(2 * layer + 1, before, &mlp.norm); // (t, d)
        let project = |matrix, weight: &Tensor, name| {
            let weight = self.weight(matrix, weight, half.bits, [i64::from(half.width), self.hidden_size()]);
            let out = normed.matmul(&weight.tr()); // (t, f)
            self.low_rank.add_outputs(layer, name, out, &normed)
        };
        let gate = project(Matrix::Gate(layer), &mlp.gate, LayerTensor::Gate);
        let up = project(Matrix::Up(layer), &mlp.up, LayerTensor::Up);
        self.kernels.swiglu(gate, &up)
    }

    fn rms_norm(&self, hidden: &Tensor, weight: &Tensor) -> Tensor {
        self.kernels.rms_norm(hidden, weight, self.config.rms_norm_eps, self.kind)
    }

    /// What each head adds to the residual stream, as the L2 norm over d: (t, h).
    pub(super) fn head_contributions(&self, layer: usize, before: &Stream, batch: &TreeBatch) -> Option<Tensor> {
        let attention = self.layers[layer].attention.as_ref()?;
        let e = self.config.shape.head_dim as i64;
        let [half, _] = self.config.genome.genes()[layer].halves();
        let context = self.attention_context(layer, attention, half, before, batch); // (t, h·e)
        let norms: Vec<Tensor> = (0..i64::from(half.width))
            .map(|head| {
                let added = context.narrow(1, head * e, e).matmul(&attention.o.narrow(1, head * e, e).tr()); // (t, d)
                added.to_kind(Kind::Float).norm_scalaropt_dim(2.0, [1_i64].as_slice(), false) // (t)
            })
            .collect();
        Some(Tensor::stack(&norms, 1)) // (t, h)
    }

    /// What each MLP channel adds to the residual stream, |activation| · ‖its output column‖₂: (t, f).
    pub(super) fn channel_contributions(&self, layer: usize, before: &Stream) -> Option<Tensor> {
        let mlp = self.layers[layer].mlp.as_ref()?;
        let [_, half] = self.config.genome.genes()[layer].halves();
        let activation = self.mlp_activation(layer, mlp, half, before).to_kind(Kind::Float).abs(); // (t, f)
        let columns = mlp.down.to_kind(Kind::Float).norm_scalaropt_dim(2.0, [0_i64].as_slice(), false); // (f)
        Some(activation * columns)
    }
}

/// Which rows predict which tokens: only these rows reach the output matrix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// Nodes of the forest that predict something, ascending, each once.
    pub rows: Vec<i64>,
    /// (place in `rows`, token to predict), by row ascending.
    pub pairs: Vec<(u32, u32)>,
    /// Whether to say if each token is the most likely one.
    pub greedy: bool,
}

/// What the parent predicts at the rows of a chunk: its most likely tokens; all others are one bucket.
pub struct Reference {
    /// (r, 64)
    tokens: Tensor,
    /// Natural logarithms, float32, (r, 64)
    log_probs: Tensor,
}

/// Tokens of a [`Reference`].
const TOP_TOKENS: i64 = 64;

impl Reference {
    /// Forward divergence KL(parent ‖ network) of rows from `first` on, nats: (r, v) log-probabilities to (r).
    fn divergences(&self, first: i64, log_probs: &Tensor) -> Tensor {
        let count = log_probs.size()[0];
        let parent = self.log_probs.narrow(0, first, count); // (r, 64)
        let ours = log_probs.gather(1, &self.tokens.narrow(0, first, count), false); // (r, 64)
        let top = (parent.exp() * (&parent - &ours)).sum_dim_intlist([1_i64].as_slice(), false, Kind::Float); // (r)
        // The rest's share is at least the rounding of a sum of float32 probabilities.
        let rest =
            |of: &Tensor| (1.0_f64 - of.exp().sum_dim_intlist([1_i64].as_slice(), false, Kind::Float)).clamp_min(1e-7);
        let (parent, ours) = (rest(&parent), rest(&ours)); // (r)
        top + &parent * (parent.log() - ours.log())
    }
}

/// One entry a pair of [`Targets`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Natural-log probability of the token.
    pub log_probs: Vec<f32>,
    /// Whether it is the most likely token; empty when not asked for.
    pub greedy: Vec<bool>,
    /// KL(parent ‖ network) in nats, one entry a row of [`Targets`]; empty when not asked for.
    pub divergences: Vec<f32>,
}

impl Layer {
    fn share(&self) -> Layer {
        let attention = self.attention.as_ref().map(|attention| Attention {
            norm: attention.norm.shallow_clone(),
            qkv: attention.qkv.shallow_clone(),
            o: attention.o.shallow_clone(),
        });
        let mlp = self.mlp.as_ref().map(|mlp| Mlp {
            norm: mlp.norm.shallow_clone(),
            gate: mlp.gate.shallow_clone(),
            up: mlp.up.shallow_clone(),
            down: mlp.down.shallow_clone(),
        });
        Layer { attention, mlp }
    }
}

/// The first rows or columns of a weight. The whole one is itself: the gradient of a part is first made in a whole of zeros.
fn prefix(weight: &Tensor, dim: i64, len: i64) -> Tensor {
    if weight.size()[dim as usize] == len { weight.shallow_clone() } else { weight.narrow(dim, 0, len) }
}

/// Angles of every position (Su et al. 2021), with LLaMA 3's frequency scaling where the checkpoint asks
/// for it (`_compute_llama3_parameters` of transformers' `modeling_rope_utils.py`).
fn rope_table(config: &LlamaConfig, device: Device) -> RopeTable {
    let e = config.shape.head_dim;
    let mut frequencies: Vec<f64> =
        (0..e / 2).map(|pair| config.rope_theta.powf(-(2.0 * pair as f64) / e as f64)).collect();
    if let Some(scaling) = &config.rope_scaling {
        for (frequency, divisor) in frequencies.iter_mut().zip(scaling.divisors(e, config.rope_theta)) {
            *frequency /= divisor;
        }
    }
    let frequencies = Tensor::from_slice(&frequencies).to_kind(Kind::Float); // (e/2)
    let positions = Tensor::arange(config.max_position_embeddings as i64, (Kind::Float, Device::Cpu)); // (p)
    let angles = positions.unsqueeze(1) * frequencies.unsqueeze(0); // (p, e/2)
    let angles = Tensor::cat(&[&angles, &angles], 1); // (p, e)
    RopeTable { cos: angles.cos().to_device(device), sin: angles.sin().to_device(device) }
}
