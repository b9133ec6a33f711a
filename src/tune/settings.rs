//! `tune.json`: everything that is needed to repeat a fine-tuning.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::adamw::AdamW;
use super::curriculum::Curriculum;
use super::schedule::Schedule;
use crate::checkpoint::LayerTensor;
use crate::error::{Error, Result};
use crate::output::{self, HeldDirectory, Output, Seal};
use crate::task::LeftOut;

/// The file's name.
const FILE: &str = "tune.json";
/// The version of the files of a fine-tuning.
const FORMAT: u32 = 1;

/// What is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "train")]
pub enum Trainable {
    /// Every weight.
    Full,
    /// Low-rank adapters (Hu et al. 2021), merged into the weights at the end.
    Lora {
        /// Rank of every product.
        rank: usize,
        /// Its weight is alpha / rank.
        alpha: f64,
        /// The adapted matrices, as in `q_proj`.
        targets: Vec<String>,
    },
}

impl Trainable {
    /// The matrices to adapt; none when every weight is trained.
    ///
    /// # Errors
    /// A matrix that no LLaMA has, a rank of 0.
    pub fn targets(&self) -> Result<Vec<LayerTensor>> {
        let Trainable::Lora { rank, alpha, targets } = self else { return Ok(vec![]) };
        if *rank == 0 || targets.is_empty() || !alpha.is_finite() || *alpha <= 0.0 {
            let found = format!("rank {rank}, alpha {alpha}, {} matrices", targets.len());
            return Err(Error::invalid("LoRA", found, "a rank from 1 on, an alpha above 0 and at least one matrix"));
        }
        let find = |name: &String| LayerTensor::matrices().find(|tensor| tensor.short_name() == name);
        let known = || LayerTensor::matrices().map(LayerTensor::short_name);
        let unknown = |name: &String| Error::unknown("matrix", name, known());
        targets.iter().map(|name| find(name).ok_or_else(|| unknown(name))).collect()
    }
}

/// How a step gathers its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batching {
    /// Tokens of a sequence.
    pub length: usize,
    /// Sequences that share a forward pass.
    pub sequences: usize,
    /// Forward passes whose gradients are added up for a step.
    pub accumulate: usize,
}

/// Everything that is needed to repeat a fine-tuning: the content of `tune.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TuneSettings {
    /// The version of the files.
    pub format: u32,
    /// Versions of criadero and libtorch.
    pub versions: BTreeMap<String, String>,
    /// The supernet as the user named it; only its digest decides whether a run is the same.
    pub model: String,
    /// BLAKE3 of the supernet.
    pub model_digest: String,
    /// BLAKE3 of the model that teaches, where it is another.
    pub teacher_digest: Option<String>,
    /// Who learns what.
    pub curriculum: Curriculum,
    /// What is trained.
    pub trainable: Trainable,
    /// The optimizer.
    pub optimizer: AdamW,
    /// Steps and learning rates.
    pub schedule: Schedule,
    /// Tokens of a step.
    pub batching: Batching,
    /// The training files, as the user named them; only their digest counts.
    pub data: Vec<String>,
    /// BLAKE3 of the packed sequences.
    pub data_digest: String,
    /// The records of these files that were left out.
    #[serde(default, skip_serializing_if = "LeftOut::is_empty")]
    pub left_out: LeftOut,
    /// Held-out sequences that losses are followed on.
    pub held_out: usize,
    /// Steps between two measurements of the held-out loss.
    pub measure_every: usize,
    /// Whether layers are computed a second time instead of keeping their activations.
    pub recompute: bool,
    /// Seed of every random choice.
    pub seed: u64,
    /// Device and kind of the weights.
    pub device: String,
    /// libtorch threads.
    pub threads: usize,
}

impl TuneSettings {
    /// The version that this program writes.
    pub const FORMAT: u32 = FORMAT;

    /// Refuses values that cannot train.
    pub fn check(&self) -> Result<()> {
        self.schedule.check()?;
        self.optimizer.check()?;
        self.trainable.targets()?;
        let Batching { length, sequences, accumulate } = self.batching;
        if length < 2 || sequences == 0 || accumulate == 0 {
            let found = format!("{accumulate} x {sequences} sequences of {length} tokens");
            return Err(Error::invalid("batch", found, "at least one sequence of two tokens"));
        }
        match (self.measure_every, self.held_out) {
            (0, _) => Err(Error::invalid("steps between measurements", 0, "at least one")),
            (_, 0) => Err(Error::invalid("held-out sequences", 0, "at least one, to see what training does")),
            _ => Ok(()),
        }
    }

    /// Holds a directory for a fine-tuning: a new one, or one that a fine-tuning began; `begun` may be in it before.
    ///
    /// # Errors
    /// What [`Output::hold`] refuses.
    pub fn hold(output: &Output, dir: &Path, begun: &[&str]) -> Result<HeldDirectory> {
        output.hold(dir, FILE, begun)
    }

    /// Takes a directory for this fine-tuning: a new one, or one that the same settings began.
    ///
    /// # Errors
    /// `OtherRun` with every setting that differs.
    pub(super) fn claim(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        if Error::is_absent(&path)? {
            let json = serde_json::to_string_pretty(self).expect("settings are plain data");
            return output::write(&path, Seal::put(&(json + "\n")));
        }
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        let json = Seal::open(&path, FILE, &bytes, "put back a copy of it, or tune again with another --out")?;
        let there: TuneSettings =
            serde_json::from_slice(&json).map_err(|error| Error::format(&path, FILE, error.to_string()))?;
        let nameless = |one: &TuneSettings| TuneSettings {
            model: String::new(),
            data: vec![],
            left_out: LeftOut::default(),
            ..one.clone()
        };
        let differences = crate::differences::differences(&nameless(&there), &nameless(self));
        if differences.is_empty() { Ok(()) } else { Err(Error::OtherRun { dir: dir.into(), differences }) }
    }
}
