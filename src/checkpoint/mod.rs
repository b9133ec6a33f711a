//! Checkpoints: the only code that reads or writes weight files.
//!
//! A [`Checkpoint`] is a Hugging Face directory or a GGUF file, opened and checked; its tensors are read one at a
//! time under the names of [`TensorName`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::space::Genome;

mod chat_template;
mod config;
mod corrections;
pub mod export;
mod family;
mod file_kind;
mod ggml;
mod gguf;
pub mod hf;
mod hub;
mod hub_id;
mod lineage;
mod names;
mod origin;
pub(crate) mod peft;
pub mod quantize;
mod raw_tensor;
mod rope;
mod stop_tokens;
pub mod synthetic;
pub(crate) mod tensor_file;
mod tensor_problems;
mod tokenizer;

pub use chat_template::ChatTemplate;
pub use config::{Dtype, LlamaConfig, SlidingWindow};
pub use corrections::{Corrections, Narrowed};
pub use export::{EXPORTERS, Exporter, export, export_to, exporter_named};
pub use family::Family;
pub use hf::TokenizerFiles;
pub use hub::files_in;
pub use lineage::{BaseModel, License, Lineage, Relation};
pub use names::{LayerTensor, TensorName};
pub use origin::open_model;
pub use peft::{Adapters, LowRank};
pub use rope::{Llama3Scaling, LongRopeScaling, RopeScaling, YarnScaling, plain_frequencies};
pub use tokenizer::Tokenizer;

use gguf::file::{self as gguf_file, GgufContent};
use gguf::metadata::Metadata;
use gguf::tokenizer as gguf_tokenizer;
use hf::DirectoryContent;
use raw_tensor::RawTensor;

/// A model's weights and constants on disk, opened and checked: every tensor the configuration asks for is there
/// with its shape.
#[derive(Clone)]
pub struct Checkpoint {
    path: PathBuf,
    config: LlamaConfig,
    tensors: BTreeMap<TensorName, RawTensor>,
    /// Of a GGUF file; `None` for a directory.
    metadata: Option<Metadata>,
    /// Whether query and key rows lie as rotation of neighbours wants them.
    neighbours: bool,
    notes: Vec<String>,
    corrections: Corrections,
    /// [`Checkpoint::weights_digest`], once it was computed.
    digest: Arc<OnceLock<String>>,
}

impl Checkpoint {
    /// Opens a Hugging Face directory, or a GGUF file.
    ///
    /// # Errors
    /// `Missing`, `Format` and `Mismatch`, the last with every contradiction between configuration and tensors.
    pub fn open(path: impl AsRef<Path>) -> Result<Checkpoint> {
        let path = path.as_ref();
        if Error::look(path)?.is_some_and(|found| found.is_file()) {
            if path.extension().is_some_and(|end| end == "safetensors" || end == "json") {
                let found = format!("{}, a file of a Hugging Face directory", path.display());
                return Err(Error::invalid("model", found, "the directory itself, with config.json, or a .gguf file"));
            }
            let GgufContent { config, tensors, metadata, architecture, notes } = gguf_file::open(path)?;
            let (path, neighbours) = (path.into(), architecture.neighbours);
            let (metadata, corrections) = (Some(metadata), Corrections::default());
            let digest = Default::default();
            return Ok(Checkpoint { path, config, tensors, metadata, neighbours, notes, corrections, digest });
        }
        let DirectoryContent { config, tensors, notes } = hf::open(path)?;
        let (metadata, neighbours, corrections) = (None, false, Corrections::default());
        let (path_buf, digest) = (path.into(), Default::default());
        let mut whole =
            Checkpoint { path: path_buf, config, tensors, metadata, neighbours, notes, corrections, digest };
        whole.corrections = Corrections::open(path, &whole.config, &|| whole.weights_digest())?;
        Ok(whole)
    }

    /// Where the files contradict each other or say what is not known here, and what was made of it: a line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The model's sizes and constants.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What people call the model: its name on the hub where it is one of its cache's, else that of the file or directory.
    pub fn name(&self) -> String {
        let by_path = || self.path.file_stem().map_or("criadero".into(), |stem| stem.to_string_lossy().into_owned());
        hub_id::name_in_cache(&self.path).unwrap_or_else(by_path)
    }

    /// Bytes of all weights as they lie in the files.
    pub fn weight_bytes(&self) -> u64 {
        self.tensors.values().map(|raw| raw.len).sum()
    }

    /// Whether bfloat16 holds every matrix and bias as it is.
    pub fn is_bf16(&self) -> bool {
        let norm = |name: &TensorName| match name {
            TensorName::FinalNorm => true,
            TensorName::Layer(_, part) => part.row().kind == crate::space::TensorKind::Norm,
            TensorName::Embedding | TensorName::Head => false,
        };
        self.tensors.iter().all(|(name, raw)| norm(name) || raw.ty == ggml::GgmlType::BF16)
    }

    /// One tensor on the CPU, in Hugging Face's layout, converted to `kind`. A tied model's head is its embedding.
    ///
    /// # Errors
    /// `Invalid` when the model has no such tensor.
    pub fn tensor(&self, name: TensorName, kind: tch::Kind) -> Result<tch::Tensor> {
        let name = if name == TensorName::Head && self.config.shape.tied { TensorName::Embedding } else { name };
        let raw = self.tensors.get(&name).ok_or_else(|| {
            let layers = self.config.shape.layers;
            let expected = format!("a tensor of its {layers} layers (a layer may lack attention or mlp)");
            Error::invalid(format!("tensor of {}", self.path.display()), name.hf(), expected)
        })?;
        let tensor = raw.read(kind)?;
        match name {
            TensorName::Layer(_, part) if part.row().rotary && self.neighbours => {
                gguf_file::halves_from_neighbours(&tensor, self.config.shape.head_dim)
            }
            _ => Ok(tensor),
        }
    }

    /// What narrower networks have in place of prefixes of the matrices that write to the residual stream.
    pub fn corrections(&self) -> &Corrections {
        &self.corrections
    }

    /// The first rows and columns of a tensor as a network of these sizes has it: corrected for so many columns, where it is.
    ///
    /// # Errors
    /// As [`Checkpoint::tensor`]; `Torch` for a shape that is larger.
    pub fn part(&self, name: TensorName, shape: &[usize], kind: tch::Kind) -> Result<tch::Tensor> {
        let whole = match shape {
            &[_, columns] if self.corrections.get((name, columns)).is_some() => {
                self.corrections.read((name, columns), kind)?
            }
            _ => self.tensor(name, kind)?,
        };
        let narrow = |tensor: tch::Tensor, (dim, &len): (usize, &usize)| -> Result<tch::Tensor> {
            Ok(tensor.f_narrow(dim as i64, 0, len as i64)?)
        };
        shape.iter().enumerate().try_fold(whole, narrow)
    }

    /// The network that a genome cuts from this checkpoint, as [`LlamaConfig::subnet`] has it.
    ///
    /// # Errors
    /// As there; `Mismatch` with every width that lacks its correction where others have one.
    pub fn subnet(&self, genome: &Genome) -> Result<LlamaConfig> {
        let config = self.config.subnet(genome)?;
        self.corrections.check(&self.config, genome)?;
        Ok(config)
    }

    /// The tokenizer that came with the model.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let tokenizer = Tokenizer::new(&self.path, &self.tokenizer_files()?, &self.config)?;
        let notes = self.metadata.as_ref().map(gguf_tokenizer::notes).transpose()?;
        Ok(tokenizer.with_notes(notes.unwrap_or_default()))
    }

    /// The tokenizer as Hugging Face's files: a directory's own, byte for byte, or built from a GGUF's metadata.
    pub fn tokenizer_files(&self) -> Result<TokenizerFiles> {
        match &self.metadata {
            Some(metadata) => gguf_tokenizer::to_files(metadata, &self.config),
            None => TokenizerFiles::copy_from(&self.path),
        }
    }

    /// Where the model comes from, as far as its files say it.
    ///
    /// # Errors
    /// `Io`.
    pub fn lineage(&self) -> Result<Lineage> {
        match &self.metadata {
            Some(metadata) => Ok(gguf::general::lineage(metadata)),
            None => hf::lineage(&self.path),
        }
    }

    /// How the model writes conversations, where its tokenizer says so.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>> {
        ChatTemplate::find(&self.path, &self.tokenizer_files()?)
    }

    /// BLAKE3 over the constants and all weights as stored, corrections included: which model this is, wherever it lies and
    /// however it is split into files.
    pub fn digest(&self) -> Result<String> {
        let weights = self.weights_digest()?;
        if self.corrections.is_empty() {
            return Ok(weights);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(weights.as_bytes());
        self.corrections.digest(&mut hasher)?;
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// BLAKE3 over names, types, shapes and a sample of the weights as stored: tells the weights of one training from those of
    /// another without reading them all, at most 64 KiB of a tensor. It is the same however they are split into files, whatever program saved them
    /// in the same type, and whatever lies beside them; a change of a few weights may go unseen, which [`Checkpoint::digest`] sees.
    ///
    /// # Errors
    /// `Io`.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        for (name, raw) in &self.tensors {
            hasher.update(format!("\n{} {}", name.hf(), raw.sampled_digest()?).as_bytes());
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// [`Checkpoint::digest`] without corrections.
    pub fn weights_digest(&self) -> Result<String> {
        if let Some(digest) = self.digest.get() {
            return Ok(digest.clone());
        }
        let tensors: Vec<_> = self.tensors.iter().collect();
        let digests: Vec<blake3::Hash> = tensors.par_iter().map(|(_, raw)| raw.digest()).collect::<Result<_>>()?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&serde_json::to_vec(&self.config).expect("a configuration is plain numbers and text"));
        for ((name, _), digest) in tensors.iter().zip(&digests) {
            hasher.update(format!("\n{} {digest}", name.hf()).as_bytes());
        }
        Ok(self.digest.get_or_init(|| hasher.finalize().to_hex().to_string()).clone())
    }
}
