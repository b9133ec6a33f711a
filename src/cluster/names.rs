//! What streams, subjects and buckets are called.

use super::announcement::RunId;
use super::numeric_class::ClassId;
use super::word::is_word;
use crate::error::{Error, Result};
use crate::eval::ChunkId;

/// The names behind a prefix, which keeps projects on one server apart.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

/// The lanes of a class of workers in a run. Each has a consumer of its own, and is preferred by some workers: there they find again what they have kept hidden
/// states of. Who finds nothing there takes from any.
pub(super) const LANES: usize = 16;

/// The consumer that workers of a class take a lane's tasks from.
pub(super) fn workers(class: &ClassId, lane: usize) -> String {
    format!("{}{lane}", lanes_of(class))
}

/// What the consumers of all lanes of a class begin with.
pub(super) fn lanes_of(class: &ClassId) -> String {
    format!("workers-{class}-")
}

/// Parts of a chunk that have lanes of their own.
const REGIONS: usize = 4;

/// The lane of a chunk's networks by their place among those of the chunk: children, who begin as their parents, are where these were.
/// Neighbours are in different ones.
pub(super) fn lane_of(ChunkId { set, chunk }: ChunkId, place: f64) -> usize {
    let region = ((REGIONS as f64 * place) as usize).min(REGIONS - 1);
    (set + chunk + region * (LANES / REGIONS + 1)) % LANES
}

/// The lanes in the order in which somebody looks into them: an order of its own for each name (rendezvous hashing).
pub(super) fn lanes_for(name: &str) -> Vec<usize> {
    let rank = |lane: &usize| blake3::hash(format!("{name} {lane}").as_bytes()).to_hex().to_string();
    let mut lanes: Vec<usize> = (0..LANES).collect();
    lanes.sort_by_cached_key(rank);
    lanes
}

/// The consumer that the searcher takes scores from.
pub(super) const SEARCHER: &str = "searcher";

impl Names {
    /// Refuses what cannot be part of a stream's name.
    pub(super) fn new(prefix: &str) -> Result<Names> {
        match is_word(prefix, 64) {
            true => Ok(Names { prefix: prefix.to_string() }),
            false => Err(Error::invalid("prefix", format!("`{prefix}`"), "1 to 64 letters, digits, `-` and `_`")),
        }
    }

    /// The bucket of announcements.
    pub(super) fn runs(&self) -> String {
        format!("{}-runs", self.prefix)
    }

    /// The bucket of shared models' parts.
    pub(super) fn models(&self) -> String {
        format!("{}-models", self.prefix)
    }

    /// A run's stream.
    pub(super) fn stream(&self, run: &RunId) -> String {
        format!("{}-{run}", self.prefix)
    }

    /// Where the tasks of a lane are offered to workers of a class.
    pub(super) fn lane(&self, run: &RunId, class: &ClassId, lane: usize) -> String {
        format!("{}.{run}.task.{class}.{}", self.prefix, lane % LANES)
    }

    /// Where all of a run's tasks are offered.
    pub(super) fn tasks(&self, run: &RunId) -> String {
        format!("{}.{run}.task.*.*", self.prefix)
    }

    /// Where a run's scores go.
    pub(super) fn scores(&self, run: &RunId) -> String {
        format!("{}.{run}.scores", self.prefix)
    }

    /// Where it is said that there are tasks.
    pub(super) fn wake(&self) -> String {
        format!("{}.wake", self.prefix)
    }

    /// Where a worker says how it is.
    pub(super) fn worker(&self, name: &str) -> String {
        format!("{}.worker.{name}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_one_word_of_a_subject() {
        let long = "x".repeat(65);
        for wrong in ["", "a.b", "a b", "*", ">", "ä", &long] {
            let error = Names::new(wrong).unwrap_err().to_string();
            assert!(error.contains("expected 1 to 64 letters"), "{error}");
        }
        let run = RunId::new();
        let names = Names::new("team_1").unwrap();
        let chunk = ChunkId { set: 1, chunk: 17 };
        let class = crate::cluster::numeric_class::tests::class("avx2").id();
        assert_eq!(names.lane(&run, &class, lane_of(chunk, 0.1)), format!("team_1.{run}.task.{class}.2"));
        let lanes: std::collections::BTreeSet<usize> = [0.1, 0.3, 0.6, 1.0].map(|place| lane_of(chunk, place)).into();
        assert_eq!(lanes.len(), 4);
        let (one, other) = (lanes_for("a"), lanes_for("b"));
        assert!(one != other && one.len() == LANES && (0..LANES).all(|lane| one.contains(&lane)));
        assert_eq!(names.stream(&run), format!("team_1-{run}"));
    }
}
