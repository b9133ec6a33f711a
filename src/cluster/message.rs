//! What searchers and workers send each other: read as what strangers made.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::announcement::RunId;
use super::numeric_class::ClassId;
use crate::error::{Error, Result};
use crate::eval::{ChunkId, EvalSet, Outcome, Partial, Work};
use crate::space::{Genome, SearchSpace};

/// Bytes of a message at most, whatever the server takes.
const LARGEST: usize = 64 << 20;
/// Networks of a task, and of a message of scores, at most.
const MOST: usize = 1 << 20;

/// Networks to score on one chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Who asks; what a searcher that is gone asked for is not done.
    pub searcher: RunId,
    /// The digest of the chunk's eval set.
    pub digest: String,
    /// What to score.
    pub work: Work,
    /// Whose workers it is for.
    pub class: ClassId,
    /// Which of their lanes it is in.
    pub lane: usize,
    /// Networks of each chunk that its worker gets, about: hidden states are kept for all of them.
    pub networks: usize,
    /// Why workers gave it up so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
}

/// What came of a task, or of a part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Who scored.
    pub worker: String,
    /// Its class.
    pub class: ClassId,
    /// Seconds that it took.
    pub seconds: f64,
    /// The digest of the chunk's eval set.
    pub digest: String,
    /// The scores.
    pub partials: Vec<Partial>,
}

impl Task {
    /// Reads a task of a run.
    ///
    /// # Errors
    /// `Invalid` for what is no task of these eval sets, this space, and this class.
    pub fn read(bytes: &[u8], sets: &[EvalSet], space: &SearchSpace, class: &ClassId) -> Result<Task> {
        let task: Task = read("task", bytes)?;
        let wrong = |found: String, expected: &str| Err(Error::invalid("task", found, expected));
        if task.class != *class {
            return wrong(format!("class {}", task.class), "the worker's own");
        }
        let ChunkId { set, chunk } = task.work.chunk;
        let Some(known) = sets.get(set).filter(|known| known.digest == task.digest) else {
            return wrong(format!("eval set {set} with digest {}", task.digest), "an eval set of the run");
        };
        if chunk >= known.chunks.len() {
            return wrong(format!("chunk {chunk}"), "a chunk of its eval set");
        }
        if task.work.genomes.len() > MOST {
            return wrong(format!("{} networks", task.work.genomes.len()), "a million at most");
        }
        if let Some(stranger) = task.work.genomes.iter().find(|genome| !space.contains(genome)) {
            return wrong(stranger.to_string(), "a network of the space");
        }
        Ok(task)
    }
}

impl Scores {
    /// Reads scores of a run.
    ///
    /// # Errors
    /// `Invalid` for what are no scores of these eval sets.
    pub fn read(bytes: &[u8], sets: &[EvalSet]) -> Result<Scores> {
        let scores: Scores = read("scores", bytes)?;
        let wrong = |found: String, expected: &str| Err(Error::invalid("scores", found, expected));
        if scores.partials.len() > MOST {
            return wrong(format!("{} of them", scores.partials.len()), "a million at most");
        }
        for Partial { chunk: ChunkId { set, chunk }, outcome, .. } in &scores.partials {
            let Some(known) = sets.get(*set).filter(|known| known.digest == scores.digest) else {
                return wrong(format!("eval set {set} with digest {}", scores.digest), "an eval set of the run");
            };
            if let Some(problem) = outcome.misfit(known, *chunk) {
                return wrong(problem, "a score for each request of the chunk");
            }
            if let Outcome::Scored(items) = outcome
                && !items.iter().flat_map(|item| &item.log_likelihoods).all(|value| value.is_finite())
            {
                return wrong("a log-likelihood that is no finite number".into(), "finite ones");
            }
        }
        Ok(scores)
    }
}

/// The bytes of a message.
pub(super) fn written<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).expect("messages are plain data")
}

fn read<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    if bytes.len() > LARGEST {
        return Err(Error::invalid(what, format!("{} bytes", bytes.len()), format!("{LARGEST} at most")));
    }
    serde_json::from_slice(bytes).map_err(|error| Error::invalid(what, error, "JSON as this version writes it"))
}

/// The networks of a task, one task each.
pub(super) fn one_by_one(task: &Task) -> impl Iterator<Item = Task> {
    let single = |genome: &Genome| {
        let work = Work { chunk: task.work.chunk, genomes: vec![genome.clone()] };
        Task { work, failures: Vec::new(), ..task.clone() }
    };
    task.work.genomes.iter().map(single)
}
