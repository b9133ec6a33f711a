//! What streams, subjects and buckets are called.

use super::announcement::RunId;
use crate::error::{Error, Result};

/// The names behind a prefix, which keeps projects on one server apart.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

/// The consumer that workers take tasks from.
pub(super) const WORKERS: &str = "workers";
/// The consumer that the searcher takes scores from.
pub(super) const SEARCHER: &str = "searcher";

impl Names {
    /// Refuses what cannot be part of a stream's name.
    pub(super) fn new(prefix: &str) -> Result<Names> {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
        match !prefix.is_empty() && prefix.len() <= 64 && prefix.chars().all(fits) {
            true => Ok(Names { prefix: prefix.to_string() }),
            false => Err(Error::invalid("prefix", format!("`{prefix}`"), "1 to 64 letters, digits, `-` and `_`")),
        }
    }

    /// The bucket of announcements.
    pub(super) fn runs(&self) -> String {
        format!("{}-runs", self.prefix)
    }

    /// A run's stream.
    pub(super) fn stream(&self, run: &RunId) -> String {
        format!("{}-{run}", self.prefix)
    }

    /// Where a run's tasks are offered.
    pub(super) fn task(&self, run: &RunId) -> String {
        format!("{}.{run}.task", self.prefix)
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
        assert_eq!(names.task(&run), format!("team_1.{run}.task"));
        assert_eq!(names.stream(&run), format!("team_1-{run}"));
    }
}
