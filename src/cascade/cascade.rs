//! The file of a cascade: networks, temperatures, thresholds, and what it was found to be worth.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::answers::Choosing;
use super::bootstrap::Bootstrap;
use super::confidence::Confidence;
use super::costs::Costs;
use super::judgement::Judgement;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::eval::{Answered, Escalation, ItemScore};
use crate::output::Seal;
use crate::space::{Genome, ModelShape, check_genome};

/// The version of the file.
pub(super) const FORMAT: u32 = 1;
/// Networks of a cascade.
const MOST_STAGES: usize = 3;

/// A network of a cascade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Its place on the front of the run.
    pub id: usize,
    /// The network.
    pub genome: Genome,
    /// How its scores become shares.
    #[serde(flatten)]
    pub confidence: Confidence,
    /// The share below which the next network is asked; none for the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

/// The content of a cascade's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cascade {
    /// The version of the file.
    pub format: u32,
    /// BLAKE3 of the model whose networks they are.
    pub model_digest: String,
    /// The run that they were found in, as the user named it.
    pub run: String,
    /// The task of the questions that it was fitted to.
    pub task: String,
    /// What scores are compared as.
    pub choosing: Choosing,
    /// The budget that it was fitted for, such as `macs <= 60000000`.
    pub budget: String,
    /// Its networks, in the order in which they are asked.
    pub stages: Vec<Stage>,
    /// What it is worth on the questions that it was fitted to.
    pub search: Judgement,
    /// What it is worth on others.
    pub held_out: Judgement,
    /// How far that hangs on the questions.
    pub bootstrap: Bootstrap,
}

impl Cascade {
    /// As a file holds it.
    pub fn to_json(&self) -> String {
        Seal::put(&(serde_json::to_string_pretty(self).expect("a cascade is plain data") + "\n"))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// `Io`, `Format` for what is no cascade, and `Mismatch` for one that none can be, such as with a threshold that is no share.
    pub fn read(path: &Path) -> Result<Cascade> {
        const NAME: &str = "cascade";
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let json = Seal::open(path, NAME, &bytes, "make it again with `criadero cascade`")?;
        let wrong = |reason: String| Error::format(path, NAME, reason);
        let cascade: Cascade = serde_json::from_slice(&json).map_err(|error| wrong(error.to_string()))?;
        if cascade.format != FORMAT {
            return Err(wrong(format!("format {}, expected {FORMAT}", cascade.format)));
        }
        match cascade.problems() {
            problems if problems.is_empty() => Ok(cascade),
            problems => Err(Error::Mismatch { path: path.into(), what: "no cascade can be so".into(), problems }),
        }
    }

    /// Whether a file begins as one of these.
    pub fn is_one(path: &Path) -> bool {
        std::fs::read(path).is_ok_and(|bytes| {
            let fields = serde_json::from_slice::<serde_json::Value>(&bytes).unwrap_or_default();
            fields.get("stages").is_some() && fields.get("choosing").is_some()
        })
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let count = self.stages.len();
        if !(1..=MOST_STAGES).contains(&count) {
            problems.push(format!("stages: found {count}, expected 1 to {MOST_STAGES}"));
        }
        for (place, Stage { confidence, threshold, .. }) in self.stages.iter().enumerate() {
            let mut wrong = |what: String| problems.push(format!("stages, {place}, {what}"));
            if !confidence.is_sound() {
                wrong(format!("temperature: found {}, expected 0.01 to 1000", confidence.temperature));
            }
            match (threshold, place + 1 == count) {
                (None, true) => {}
                (Some(share), false) if (0.0..=1.0).contains(share) => {}
                (Some(share), false) => wrong(format!("threshold: found {share}, expected 0 to 1")),
                (None, false) => wrong("threshold: found none, expected one of each but the last".into()),
                (Some(_), true) => wrong("threshold: found one, expected none: no network follows".into()),
            }
        }
        problems
    }

    /// Reads a file, for the networks of this model.
    ///
    /// # Errors
    /// As [`Cascade::read`], and `Mismatch` for that of another model, with both digests, or with genomes that are none of its.
    pub fn read_for(path: &Path, checkpoint: &Checkpoint) -> Result<Cascade> {
        let cascade = Cascade::read(path)?;
        cascade.check(path, checkpoint)?;
        Ok(cascade)
    }

    fn check(&self, path: &Path, checkpoint: &Checkpoint) -> Result<()> {
        let digest = checkpoint.digest()?;
        if digest != self.model_digest {
            let what = format!("it is a cascade of another model than {}", checkpoint.path().display());
            let problems = vec![format!("digest {}, expected {digest}", self.model_digest)];
            return Err(Error::Mismatch { path: path.into(), what, problems });
        }
        let config = checkpoint.config();
        self.genomes().iter().try_for_each(|genome| check_genome(&config.shape, &config.genome, genome))
    }

    /// Its networks.
    pub fn genomes(&self) -> Vec<Genome> {
        self.stages.iter().map(|stage| stage.genome.clone()).collect()
    }

    /// Multiply-accumulates of asking its networks up to each one, a token.
    pub fn macs(&self, shape: &ModelShape) -> Vec<f64> {
        let places: Vec<usize> = (0..self.stages.len()).collect();
        Costs::in_macs(shape, &self.genomes()).up_to(&places)
    }

    /// Whether the question of these scores goes on from a network to the next; `chars` are the characters of its choices.
    pub fn goes_on(&self, stage: usize, score: &ItemScore, chars: &[usize]) -> bool {
        let Stage { confidence, threshold, .. } = &self.stages[stage];
        let share = || confidence.of(&self.choosing.scores(&score.log_likelihoods, chars)).1;
        threshold.is_some_and(|threshold| share() < threshold)
    }

    /// Answers the questions of a chunk with its networks; `chars` says the characters of each item's choices.
    ///
    /// # Errors
    /// What [`Escalation::answer`] refuses.
    pub fn answer<'a>(
        &self,
        networks: &Escalation,
        chunk: &crate::eval::Chunk,
        chars: &dyn Fn(usize) -> &'a [usize],
    ) -> Result<Vec<Answered>> {
        networks.answer(chunk, &mut |stage, item, score| self.goes_on(stage, score, chars(item)))
    }
}
