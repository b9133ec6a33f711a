//! A LLaMA's weights on a device: loading, sharing, names.
//!
//! Letters: as in `forward.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::corrected::Corrected;
use super::head::Head;
use super::layer::Layer;
use super::low_rank::LowRanks;
use super::quantized::{Quantized, QuantizedMatrices, Source};
use super::token_router::TokenRouter;
use super::token_tree::TokenTree;
use super::tree_batch::{RopeTable, TreeBatch};
use crate::checkpoint::{Adapters, Checkpoint, LlamaConfig, LowRank, Narrowed, TensorName, synthetic};
use crate::error::{Error, Result};
use crate::kernels::{Kernels, stream_kind};
use crate::space::Matrix;

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
    pub(super) corrected: Corrected,
    pub(super) quantized: QuantizedMatrices,
    /// What was loaded, where its values were rounded: blocks are made of the exact ones. Training, which changes what was
    /// loaded, runs unquantized networks alone.
    exact: Option<Arc<Checkpoint>>,
    /// Whether its layers' products are int8, where they are not of quantized matrices.
    pub(super) int8: bool,
    pub(super) row_tile: Option<i64>,
    /// What chooses the widths of MLPs token by token, where something does.
    pub(super) router: Option<TokenRouter>,
    pub(super) kernels: Kernels,
    /// The same model in float32, where it is kept beside.
    float32: Option<Box<Llama>>,
}

impl Llama {
    /// Loads a checkpoint, one tensor at a time. `kind` is the kind of the matrices and of what is multiplied by them, or int8, which is
    /// bfloat16 but for the products of layers; norms are float32. It runs with the CPU's loops; a card's kernels are for
    /// [`Llama::set_kernels`].
    pub fn load(checkpoint: &Checkpoint, device: Device, kind: Kind) -> Result<Llama> {
        if kind == Kind::Int8 {
            return Ok(Llama::load(checkpoint, device, Kind::BFloat16)?.with_int8(true));
        }
        let read = |name, kind| -> Result<Tensor> { Ok(checkpoint.tensor(name, kind)?.f_to_device(device)?) };
        let exact = (kind != Kind::Float).then(|| Arc::new(checkpoint.clone()));
        let corrected = Corrected::load(checkpoint, device, kind)?;
        Ok(Llama { exact, corrected, ..Llama::of(checkpoint.config().clone(), device, kind, &read)? })
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
        let layers = (0..config.shape.layers).map(|layer| Layer::read(&config, layer, kind, read));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let matrix = if config.shape.tied { embedding.shallow_clone() } else { read(TensorName::Head, kind)? };
        let norm = read(TensorName::FinalNorm, Kind::Float)?;
        let kernels = match device {
            Device::Cpu => Kernels::of_cpu(),
            _ => Kernels::none(),
        };
        let head = Head::new(norm, matrix, config.rms_norm_eps, kernels.clone());
        let rope = RopeTable::new(&config, device)?;
        let (low_rank, corrected, quantized) =
            (LowRanks::default(), Corrected::default(), QuantizedMatrices::default());
        let (exact, int8, row_tile, router, float32) = (None, false, None, None, None);
        Ok(Llama {
            config,
            device,
            kind,
            embedding,
            layers,
            head,
            rope,
            low_rank,
            corrected,
            quantized,
            exact,
            int8,
            row_tile,
            router,
            kernels,
            float32,
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
            head: self.head.share(),
            rope: self.rope.share(),
            low_rank: self.low_rank.share(),
            corrected: self.corrected.share(),
            quantized: self.quantized.clone(),
            exact: self.exact.clone(),
            int8: self.int8,
            row_tile: self.row_tile,
            router: self.router.as_ref().map(TokenRouter::share),
            kernels: self.kernels.clone(),
            float32: self.float32.as_ref().map(|model| Box::new(model.share())),
        }
    }

    /// The model, whose weights are bfloat16 on the CPU, with the products of its layers in int8, or as they are. Their matrices are made
    /// as networks need them.
    ///
    /// # Panics
    /// When int8 is wanted of a model that is not so.
    pub fn with_int8(self, int8: bool) -> Llama {
        assert!(!int8 || (self.device == Device::Cpu && self.kind == Kind::BFloat16), "int8 beside {:?}", self.kind);
        Llama { int8, quantized: QuantizedMatrices::default(), ..self }
    }

    /// Whether products of its layers are int8.
    pub fn is_int8(&self) -> bool {
        self.int8
    }

    /// Of its matrices that networks have asked for in int8: how many would lose too much, and are multiplied in bfloat16, and how many are
    /// int8.
    pub fn unpacked(&self) -> [usize; 2] {
        self.quantized.unpacked()
    }

    /// The model with `float32`, itself in float32 on the same device, beside it: for what must be exact.
    pub fn beside(self, float32: Llama) -> Llama {
        Llama { float32: Some(Box::new(float32)), ..self }
    }

    /// The model with itself in float32 beside it, whose matrices are its own, made float32 for each product: exact where they
    /// were bfloat16 in the checkpoint.
    pub fn beside_its_values(self) -> Llama {
        let layers = self.layers.iter().map(|layer| layer.with_biases(Kind::Float)).collect();
        let quantized = QuantizedMatrices::default();
        let float32 = Llama { kind: Kind::Float, layers, quantized, int8: false, float32: None, ..self.share() };
        self.beside(float32)
    }

    /// The same model in float32, where it is beside it.
    pub fn float32(&self) -> Option<&Llama> {
        self.float32.as_deref()
    }

    /// Makes a quantized matrix, that of so many columns where it is corrected for them, unless it was made: of what was loaded,
    /// or of the model's own values where those are exact.
    pub(super) fn make(&self, (matrix, columns, bits): Quantized) -> Result<()> {
        let groups = match matrix {
            Matrix::Layer(layer, _) => i64::from(self.config.gene(layer).heads) / self.config.shape.group() as i64,
            Matrix::Embedding | Matrix::Head => 1,
        };
        let read = |name| match (&self.exact, columns) {
            (Some(checkpoint), None) => checkpoint.tensor(name, Kind::Float),
            (Some(checkpoint), Some(columns)) => checkpoint.corrections().read((name, columns), Kind::Float),
            (None, None) => self.tensor(name),
            (None, Some(columns)) => self.corrected_tensor((name, columns)),
        };
        let source = Source { read: &read, groups, device: self.device, kind: self.kind, kernels: &self.kernels };
        self.quantized.prepare((matrix, columns, bits), &source)
    }

    /// From now on at most so many rows go through an MLP at a time: slower, in less memory. Sums may be added in another
    /// order. `None`: all at once.
    pub fn set_row_tile(&mut self, rows: Option<i64>) {
        self.row_tile = rows;
        if let Some(float32) = &mut self.float32 {
            float32.set_row_tile(rows);
        }
    }

    /// From now on MLPs of the widths that a router chooses from run at each token's own.
    pub fn set_router(&mut self, router: TokenRouter) {
        if let Some(float32) = &mut self.float32 {
            float32.set_router(router.share());
        }
        self.router = Some(router);
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
        for (layer, own) in self.layers.iter().enumerate() {
            weights.extend(own.named().into_iter().map(|(part, tensor)| (format!("layers.{layer}.{part}"), tensor)));
        }
        weights.extend(self.corrected.all().filter_map(|((name, columns), tensor)| {
            let TensorName::Layer(layer, kind) = name else { return None };
            Some((format!("layers.{layer}.{}@{columns}", kind.short_name()), tensor))
        }));
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
        let weight = self.layers.get(layer).and_then(|own| own.tensor(kind, &self.config.shape)).ok_or_else(missing)?;
        Ok(self.low_rank.merge(layer, kind, weight))
    }

    /// How many weights the corrected matrices have.
    pub fn corrected_weights(&self) -> u64 {
        self.corrected.weights()
    }

    /// The corrected matrices as a checkpoint has them, adapters merged in.
    pub fn corrections(&self) -> BTreeMap<Narrowed, Tensor> {
        self.corrected.all().map(|((name, columns), tensor)| ((name, columns), self.merged(name, tensor))).collect()
    }

    fn corrected_tensor(&self, at: Narrowed) -> Result<Tensor> {
        let found = self.corrected.all().find(|&(other, _)| other == at);
        let missing = || Error::invalid(at.0.hf(), format!("{} columns", at.1), "a width that is corrected");
        found.map(|((name, _), tensor)| self.merged(name, tensor)).ok_or_else(missing)
    }

    /// A tensor, its adapter in it where it has one.
    fn merged(&self, name: TensorName, tensor: &Tensor) -> Tensor {
        match name {
            TensorName::Layer(layer, kind) => self.low_rank.merge(layer, kind, tensor.shallow_clone()),
            _ => tensor.shallow_clone(),
        }
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

    /// The kind of the residual stream and of rotary angles: on the CPU float32, where it costs next to nothing.
    pub fn stream_kind(&self) -> Kind {
        stream_kind(self.device, self.kind)
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
        Ok(TreeBatch::new(tree, &self.rope, &self.config, self.device).to_kinds(self.kind, self.stream_kind()))
    }
}
