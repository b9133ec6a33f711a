//! The seam between a search and whatever scores networks.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::eval_set::EvalSet;
use crate::error::Result;
use crate::space::Genome;

/// One item's score on one network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ItemScore {
    /// Natural-log likelihood of each request.
    #[serde(rename = "ll")]
    pub log_likelihoods: Vec<f64>,
    /// Whether the network by itself gives the answer, only where the task asks: every scored token was the most likely one, or, where
    /// answers are written, a right one was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub greedy: bool,
    /// Σ over the scored tokens of KL(whole model ‖ network), nats; only where the eval set asks.
    #[serde(rename = "kl", default, skip_serializing_if = "Option::is_none")]
    pub divergence: Option<f64>,
    /// The answer that the network wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// What became of one network on one chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// One score an item of the chunk.
    Scored(Vec<ItemScore>),
    /// The network cannot be scored, with the reason; the search goes on without it.
    Failed(String),
}

impl Outcome {
    /// Why it cannot be that of a chunk of this set.
    pub fn misfit(&self, set: &EvalSet, chunk: usize) -> Option<String> {
        let name = &set.name;
        let Some(packed) = set.chunks.get(chunk) else {
            return Some(format!("chunk {chunk} of `{name}`, which has {}", set.chunks.len()));
        };
        let Outcome::Scored(scores) = self else { return None };
        let items = set.items.get(packed.items.clone()).unwrap_or_default();
        if scores.len() != items.len() {
            return Some(format!("{} scores of the {} items of chunk {chunk} of `{name}`", scores.len(), items.len()));
        }
        items.iter().zip(scores).enumerate().find_map(|(place, (item, score))| {
            let expected = packed.requests.get(place).map_or(item.choice_chars.len(), Vec::len);
            let found = score.log_likelihoods.len();
            let wrong =
                || format!("item {place} of chunk {chunk} of `{name}`: {found} log-likelihoods, expected {expected}");
            (found != expected).then(wrong)
        })
    }
}

/// A chunk of an eval set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChunkId {
    /// Place in [`Evaluator::sets`].
    pub set: usize,
    /// Place in [`EvalSet::chunks`].
    pub chunk: usize,
}

/// Networks to score on one chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// The chunk.
    pub chunk: ChunkId,
    /// The networks, each once.
    pub genomes: Vec<Genome>,
}

/// One network's outcome on one chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Partial {
    /// The chunk.
    pub chunk: ChunkId,
    /// The network.
    pub genome: Genome,
    /// What became of it.
    pub outcome: Outcome,
}

/// A device that failed while it was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostDevice {
    /// Which one, such as `cuda:1, worker 2`.
    pub device: String,
    /// What it said last.
    pub reason: String,
}

impl fmt::Display for LostDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LostDevice { device, reason } = self;
        write!(f, "{device} failed, and what it had left went to those that were there: {reason}")
    }
}

/// Scores networks on chunks. A partial score depends on its chunk and genome alone: not on what else is
/// asked for, nor on the order.
pub trait Evaluator {
    /// The eval sets that chunks are numbered by.
    fn sets(&self) -> &Arc<Vec<EvalSet>>;

    /// Scores all the work, handing each partial score to `sink` as soon as it is known, in any order.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::Error::Interrupted) once the user asked to stop, and whatever `sink` returns; all work
    /// handed over before stays valid.
    fn evaluate(&mut self, work: Vec<Work>, sink: &mut dyn FnMut(Partial) -> Result<()>) -> Result<()>;

    /// So many networks of each chunk will come, in several calls: what is kept for later is to suffice for all of them. Scores do not
    /// depend on it.
    fn expect(&mut self, networks: usize) {
        let _ = networks;
    }

    /// What the user is to know of how it went so far: a line each.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_what_came_of_it_cross_a_wire_with_every_bit() {
        let genomes = ["E@8:4x128@8*2:-:2x64", "4x128*4"].map(|text| text.parse().unwrap()).to_vec();
        let work = Work { chunk: ChunkId { set: 1, chunk: 7 }, genomes };
        let json = serde_json::to_string(&work).unwrap();
        assert_eq!(serde_json::from_str::<Work>(&json).unwrap(), work, "{json}");
        let log_likelihoods = vec![-0.1 - 1e-17, f64::MIN_POSITIVE, -1e300];
        let scored = Outcome::Scored(vec![ItemScore {
            log_likelihoods,
            greedy: true,
            divergence: Some(1.0 / 3.0),
            answer: Some("18\n".into()),
        }]);
        for outcome in [scored, Outcome::Failed("log-probability is \"NaN\"".into())] {
            let partial = Partial { chunk: work.chunk, genome: work.genomes[0].clone(), outcome };
            let json = serde_json::to_string(&partial).unwrap();
            assert_eq!(serde_json::from_str::<Partial>(&json).unwrap(), partial, "{json}");
        }
    }
}
