//! The elastic LLaMA, top to bottom in reading order: every width of a forward pass is a prefix of the
//! loaded weights, taken as a view.
//!
//! Letters: `t` tokens, `d` hidden, `h` query heads, `k` key/value heads, `g` query heads in a group
//! (`h / k`), `e` head_dim, `f` MLP width, `v` vocabulary. Mathematics as in `modeling_llama.py` of
//! transformers; norms, logits and log-probabilities are float32 whatever the weights are.

use std::cell::OnceCell;

use tch::Tensor;

use super::context::Context;
use super::head::Head;
use super::layer::{Attention, Layer, Mlp};
use super::quantized::{Prepared, Quantized};
use super::stream::Stream;
use super::tree_batch::{Angles, TreeBatch};
use super::weights::Llama;
use crate::checkpoint::LayerTensor;
use crate::error::{Error, Result};
use crate::kernels::int8_product::Int8Inputs;
use crate::kernels::rms_norm::reference as rms_norm;
use crate::kernels::rotary::Heads;
use crate::space::{Bits, Ends, Gene, Genome, HalfGene, Joint, Matrix, check_genome};

/// Networks of a model whose ends have the same bits: checked, and everything that they multiply by is there. Handles of the
/// model's tensors, no copies.
pub struct Forward {
    model: Llama,
    quantized: Prepared,
}

impl Forward {
    /// Checks the networks, and makes what of their matrices is stored in blocks.
    ///
    /// # Errors
    /// `Mismatch` for a genome that is no set of prefixes of the model, `Invalid` for ends of different bits, for quantized
    /// matrices with adapters beside them, and for a weight that blocks cannot hold.
    pub(crate) fn of(model: &Llama, networks: &[Genome]) -> Result<Forward> {
        let config = &model.config;
        let ends = networks.first().map_or_else(Ends::default, Genome::ends);
        for genome in networks {
            check(model, genome)?;
            if genome.ends() != ends {
                return Err(Error::invalid("networks that run together", genome, "ends of the same bits"));
            }
        }
        let genes = networks.iter().flat_map(Genome::kept);
        let of_layers = genes.flat_map(|(layer, gene)| {
            let columns = move |matrix| model.corrected.columns_of(matrix, &config.shape, gene);
            Matrix::of_gene(&config.shape, layer, gene).map(move |(matrix, bits)| (matrix, columns(matrix), bits))
        });
        let of_ends = Matrix::of_ends(&config.shape, ends).map(|(matrix, bits)| (matrix, None, bits));
        // A tied head is the embedding.
        let own = |(matrix, ..): &(Matrix, _, _)| *matrix != Matrix::Head || !config.shape.tied;
        let all = of_layers.chain(of_ends.into_iter().filter(own));
        // Without a type of blocks for its rows a matrix is stored as it is.
        let stored = all.map(|(matrix, columns, bits)| (matrix, columns, bits.unwrap_or(Bits::F16)));
        let is_kept = |&(matrix, _, bits): &Quantized| !bits.is_full() || model.int8 && !matrix.is_end();
        let mut blocks: Vec<Quantized> = stored.filter(is_kept).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks.iter().try_for_each(|&of| model.make(of))?;
        let quantized = model.quantized.prepared(&blocks);
        let mut model = model.share();
        let [embedding, head] =
            Matrix::of_ends(&config.shape, ends).map(|(_, bits)| bits.filter(|bits| !bits.is_full()));
        let whole = |of: &Tensor| [of.size()[0], of.size()[1]];
        if let Some(bits) = embedding {
            let size = whole(&model.embedding);
            model.embedding = quantized.weight(Matrix::Embedding, bits, size, model.kind, &model.kernels);
        }
        if config.shape.tied {
            model.head = model.head.with_matrix(model.embedding.shallow_clone());
        } else if let Some(bits) = head {
            let size = whole(&model.head.matrix);
            model.head = model.head.with_matrix(quantized.weight(Matrix::Head, bits, size, model.kind, &model.kernels));
        }
        if model.head.matrix().kind() != model.kind {
            model.head = model.head.with_matrix(model.head.matrix().to_kind(model.kind));
        }
        Ok(Forward { model, quantized })
    }

    /// The last norm and the output matrix, as these networks have it.
    pub fn head(&self) -> &Head {
        &self.model.head
    }

    /// The model, its ends as these networks have them.
    pub fn model(&self) -> &Llama {
        &self.model
    }

    /// The first `rows` by `columns` of a matrix with the values they have when they are stored in these bits.
    fn weight(&self, matrix: Matrix, whole: &Tensor, bits: Bits, [rows, columns]: [i64; 2]) -> Tensor {
        match bits.stored(columns as u64) {
            // A bfloat16 checkpoint's own matrix may have to become float32.
            Some(Bits::F16) | None => prefix(&prefix(whole, 0, rows), 1, columns).to_kind(self.model.kind),
            Some(bits) => self.quantized.weight(matrix, bits, [rows, columns], self.model.kind, &self.model.kernels),
        }
    }

    /// `inputs` (t, columns) times that matrix, transposed: (t, rows).
    fn product(&self, matrix: Matrix, whole: &Tensor, bits: Bits, rows: i64, inputs: &Inputs) -> Tensor {
        let columns = inputs.values.size()[1];
        let stored = bits.stored(columns as u64).unwrap_or(Bits::F16);
        match self.quantized.packed(matrix, columns).filter(|_| stored.is_full()) {
            Some(packed) => packed.product(inputs.int8(), rows),
            None => inputs.values.matmul(&self.weight(matrix, whole, bits, [rows, columns]).tr()),
        }
    }

    /// Token embeddings: (t, d).
    pub(crate) fn embed(&self, batch: &TreeBatch) -> Tensor {
        self.embed_tokens(&batch.tokens)
    }

    /// Token ids (t) to the residual stream's beginning, (t, d).
    fn embed_tokens(&self, tokens: &Tensor) -> Tensor {
        self.model.embedding.index_select(0, tokens).to_kind(self.model.stream_kind()) // (t, d)
    }

    /// The first half of a layer with its first query heads, residual included. No heads: the input itself.
    pub(crate) fn attend(&self, layer: usize, half: HalfGene, before: &Stream, batch: &TreeBatch) -> Stream {
        match self.attention_input(layer, half, before, batch) {
            None => before.clone(),
            Some(context) => self.attention_output(layer, half, before, &context),
        }
    }

    /// Each head's weighted values, before the output projection, (t, h·e); `None` where there are no heads.
    pub(super) fn attention_input(
        &self,
        layer: usize,
        half: HalfGene,
        before: &Stream,
        batch: &TreeBatch,
    ) -> Option<Tensor> {
        let attention = self.model.layers[layer].attention.as_ref().filter(|_| half.width > 0)?;
        let heads = self.rotated_heads(layer, attention, half, before, &batch.angles);
        Some(self.model.kernels.tree_attention(&heads, batch.sight_of(layer)))
    }

    /// What the heads give, (t, h·e), added to the residual stream.
    pub(super) fn attention_output(&self, layer: usize, half: HalfGene, before: &Stream, context: &Tensor) -> Stream {
        let attention = self.model.layers[layer].attention.as_ref().expect("it gave the context");
        let whole = self.model.corrected.get(layer, LayerTensor::O, context.size()[1]).unwrap_or(&attention.o);
        let last = LastMatrix { joint: Joint::O, whole, bits: half.bits, bias: attention.o_bias.as_ref() };
        self.add_product(layer, last, before, context)
    }

    /// The residual stream and the product of a half layer's last matrix (d, n) with its inputs (t, n).
    fn add_product(&self, layer: usize, last: LastMatrix, before: &Stream, input: &Tensor) -> Stream {
        let LastMatrix { joint, whole, bits, bias } = last;
        let (matrix, is_o) = (Matrix::Layer(layer, joint), joint == Joint::O);
        let next = 2 * layer + if is_o { 1 } else { 2 };
        let (kernels, hidden) = (&self.model.kernels, before.hidden());
        let product = || plus(self.product(matrix, whole, bits, self.hidden_size(), &Inputs::new(input)), bias); // (t, d)
        let in_one = |norm: &&Tensor| kernels.adds_and_norms(hidden, input, norm) && self.model.adapters().is_none();
        match self.norm_of(next).filter(in_one) {
            Some(norm) => {
                let epsilon = self.model.config.rms_norm_eps;
                let (hidden, normed) = kernels.add_rms_norm(hidden, &product(), norm, epsilon, self.model.kind);
                Stream::with_normed(hidden, next, normed)
            }
            None => {
                let hidden = if self.model.kind == hidden.kind() {
                    let weight = self.weight(matrix, whole, bits, [self.hidden_size(), input.size()[1]]);
                    plus(hidden.addmm(input, &weight.tr()), bias)
                } else {
                    hidden + product()
                }; // (t, d)
                let name = if is_o { LayerTensor::O } else { LayerTensor::Down };
                Stream::new(self.model.low_rank.add_inputs(layer, name, hidden, input))
            }
        }
    }

    /// The weight of the norm in front of a half layer, the attention of layer 0 being the first.
    fn norm_of(&self, level: usize) -> Option<&Tensor> {
        let Layer { attention, mlp } = self.model.layers.get(level / 2)?;
        match level % 2 {
            0 => attention.as_ref().map(|attention| &attention.norm),
            _ => mlp.as_ref().map(|mlp| &mlp.norm),
        }
    }

    /// The residual stream as half layer `level` takes it: (t, d).
    fn normed(&self, level: usize, stream: &Stream, weight: &Tensor) -> Tensor {
        stream.take_normed(level).unwrap_or_else(|| self.rms_norm(stream.hidden(), weight))
    }

    /// The second half of a layer with its first channels, residual included; with a router each token at its own width. No channels: the
    /// input itself.
    pub(crate) fn feed(&self, layer: usize, half: HalfGene, before: &Stream) -> Stream {
        let at = |width: u32, part: &Stream| {
            let bits = if width == 0 { Bits::F16 } else { half.bits };
            self.feed_all(layer, HalfGene { width, bits }, part)
        };
        let routed = self.model.router.as_ref().and_then(|router| router.feed(layer, half.width, before, &at));
        routed.unwrap_or_else(|| self.feed_all(layer, half, before))
    }

    /// The same with all tokens at one width.
    pub(super) fn feed_all(&self, layer: usize, half: HalfGene, before: &Stream) -> Stream {
        let hidden = before.hidden();
        if let Some(rows) = self.model.row_tile.filter(|&rows| rows < hidden.size()[0] && half.width > 0) {
            let tile = |tile: Tensor| self.feed_all(layer, half, &Stream::new(tile)).into_hidden();
            let tiles: Vec<Tensor> = hidden.split(rows, 0).into_iter().map(tile).collect();
            return Stream::new(Tensor::cat(&tiles, 0));
        }
        match self.mlp_input(layer, half, before) {
            None => before.clone(),
            Some(activation) => self.mlp_output(layer, half, before, &activation),
        }
    }

    /// SwiGLU before the down projection, (t, f); `None` where there are no channels.
    pub(super) fn mlp_input(&self, layer: usize, half: HalfGene, before: &Stream) -> Option<Tensor> {
        let mlp = self.model.layers[layer].mlp.as_ref().filter(|_| half.width > 0)?;
        Some(self.mlp_activation(layer, mlp, half, before))
    }

    /// What the channels give, (t, f), added to the residual stream.
    pub(super) fn mlp_output(&self, layer: usize, half: HalfGene, before: &Stream, activation: &Tensor) -> Stream {
        let mlp = self.model.layers[layer].mlp.as_ref().expect("it gave the activation");
        let whole = self.model.corrected.get(layer, LayerTensor::Down, activation.size()[1]).unwrap_or(&mlp.down);
        let last = LastMatrix { joint: Joint::Down, whole, bits: half.bits, bias: mlp.down_bias.as_ref() };
        self.add_product(layer, last, before, activation)
    }

    /// Both halves of a layer.
    pub(crate) fn layer(&self, layer: usize, gene: Gene, before: &Stream, batch: &TreeBatch) -> Stream {
        let [attention, mlp] = gene.halves();
        self.feed(layer, mlp, &self.attend(layer, attention, before, batch))
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
        let (e, g) = (self.model.config.shape.head_dim as i64, self.model.config.shape.group() as i64);
        let k = i64::from(half.width) / g;
        let normed = self.normed(2 * layer, before, &attention.norm); // (t, d)
        let rows = k * (g + 2) * e;
        let bias = attention.qkv_bias.as_ref().map(|bias| prefix(bias, 0, rows));
        let (matrix, inputs) = (Matrix::Layer(layer, Joint::Qkv), Inputs::new(&normed));
        let qkv = plus(self.product(matrix, &attention.qkv, half.bits, rows, &inputs), bias.as_ref());
        let qkv = qkv.view([-1, k, g + 2, e]); // (t, k, g + 2, e)
        let qkv = self.model.low_rank.add_qkv(layer, qkv, &normed);
        let qkv = match &attention.head_norms {
            Some(norms) => self.norm_heads(&qkv, norms),
            None => qkv,
        };
        self.model.kernels.rotary(qkv, &angles.cos, &angles.sin)
    }

    /// The norm of each query and each key head: (t, k, g + 2, e) to the same.
    fn norm_heads(&self, qkv: &Tensor, [query, key]: &[Tensor; 2]) -> Tensor {
        let g = qkv.size()[2] - 2;
        let (epsilon, kind) = (self.model.config.rms_norm_eps, self.model.kind);
        let normed = |heads: Tensor, weight: &Tensor| rms_norm(&heads, weight, epsilon, kind);
        let (query, key) = (normed(qkv.narrow(2, 0, g), query), normed(qkv.narrow(2, g, 1), key));
        Tensor::cat(&[query, key, qkv.narrow(2, g + 1, 1)], 2)
    }

    /// SwiGLU before the down projection: (t, f).
    fn mlp_activation(&self, layer: usize, mlp: &Mlp, half: HalfGene, before: &Stream) -> Tensor {
        let normed = self.normed(2 * layer + 1, before, &mlp.norm); // (t, d)
        let (width, inputs) = (i64::from(half.width), Inputs::new(&normed));
        let project = |matrix, weight: &Tensor, bias: Option<&Tensor>, name| {
            let bias = bias.map(|bias| prefix(bias, 0, width));
            let out = plus(self.product(matrix, weight, half.bits, width, &inputs), bias.as_ref()); // (t, f)
            self.model.low_rank.add_outputs(layer, name, out, &normed)
        };
        let [gate_bias, up_bias] = mlp.inner_biases.as_ref().map_or([None, None], |biases| biases.each_ref().map(Some));
        let gate = project(Matrix::Layer(layer, Joint::Gate), &mlp.gate, gate_bias, LayerTensor::Gate);
        let up = project(Matrix::Layer(layer, Joint::Up), &mlp.up, up_bias, LayerTensor::Up);
        self.model.kernels.swiglu(gate, &up)
    }

    fn rms_norm(&self, hidden: &Tensor, weight: &Tensor) -> Tensor {
        self.model.kernels.rms_norm(hidden, weight, self.model.config.rms_norm_eps, self.model.kind)
    }

    fn hidden_size(&self) -> i64 {
        self.model.config.shape.hidden as i64
    }

    /// Goes on with `b` sequences whose beginning is in the cache: `tokens` (b, n) to the last layer's output (b·n, d). An
    /// empty cache takes any number of tokens, one that is not empty one token a sequence. The genome is the cache's.
    ///
    /// # Errors
    /// `Invalid` when the cache has no room, or for several tokens behind others.
    pub(crate) fn extend(&self, genome: &Genome, tokens: &Tensor, cache: &mut dyn Context) -> Result<Tensor> {
        let (b, n) = tokens.size2()?;
        let positions = cache.positions([b, n], self.model.device)?;
        let angles = self.model.rope.at(&positions).to_kind(self.model.stream_kind()); // (b·n, 1, 1, e)
        let mut stream = Stream::new(self.embed_tokens(&tokens.view([-1]))); // (b·n, d)
        for (layer, gene) in genome.kept() {
            let [heads, channels] = gene.halves();
            if let (Some(attention), true) = (&self.model.layers[layer].attention, heads.width > 0) {
                let Heads { query, key, value, .. } = self.rotated_heads(layer, attention, heads, &stream, &angles);
                let window = self.model.config.window_of(layer);
                let context = cache.attend(layer, [&query, &key, &value], window);
                stream = self.attention_output(layer, heads, &stream, &context);
            }
            stream = self.feed(layer, channels, &stream);
        }
        cache.advance(n);
        Ok(stream.into_hidden())
    }
}

/// The matrix that a half layer's results go through on their way to the residual stream.
struct LastMatrix<'a> {
    joint: Joint,
    /// (d, n) at least
    whole: &'a Tensor,
    bits: Bits,
    /// (d)
    bias: Option<&'a Tensor>,
}

/// What is multiplied by matrices, (t, n); rounded to int8 once, where one of them wants that.
struct Inputs<'a> {
    values: &'a Tensor,
    int8: OnceCell<Int8Inputs>,
}

impl<'a> Inputs<'a> {
    fn new(values: &'a Tensor) -> Inputs<'a> {
        Inputs { values, int8: OnceCell::new() }
    }

    fn int8(&self) -> &Int8Inputs {
        self.int8.get_or_init(|| Int8Inputs::of(self.values))
    }
}

/// A product and its bias, where it has one.
fn plus(product: Tensor, bias: Option<&Tensor>) -> Tensor {
    match bias {
        Some(bias) => product + bias,
        None => product,
    }
}

/// Refuses a genome that is no set of prefixes of a model, or that it cannot run with its adapters.
pub(crate) fn check(model: &Llama, genome: &Genome) -> Result<()> {
    check_genome(&model.config.shape, &model.config.genome, genome)?;
    model.corrected.check(&model.config, genome)?;
    if genome.is_quantized() && model.adapters().is_some() {
        return Err(Error::invalid("genome", "quantized matrices with adapters beside them", "merged adapters"));
    }
    if model.router.is_some() && (genome.is_quantized() || model.int8) {
        return Err(match model.int8 {
            true => Error::invalid("arithmetic", "int8 with a router", "f32 or bf16: a router needs every width"),
            false => {
                Error::invalid("genome", "quantized matrices with a router", "16 bits: a router needs every width")
            }
        });
    }
    Ok(())
}

/// The first rows or columns of a weight. The whole one is itself: the gradient of a part is first made in a whole of zeros.
fn prefix(weight: &Tensor, dim: i64, len: i64) -> Tensor {
    if weight.size()[dim as usize] == len { weight.shallow_clone() } else { weight.narrow(dim, 0, len) }
}
