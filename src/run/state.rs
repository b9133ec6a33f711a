//! `state.json`: where a run stands between populations.

use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::evaluations::Evaluation;
use crate::atomic_file;
use crate::error::{Error, Result};
use crate::search::Algorithm;

/// What `state.json` holds.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    /// One entry: the algorithm's name, and its own state.
    algorithm: Map<String, Value>,
    pub(super) evaluations: Vec<Evaluation>,
    pub(super) populations: usize,
}

impl State {
    /// Nothing evaluated yet.
    pub(super) fn new(algorithm: &dyn Algorithm) -> State {
        let mut state = State { algorithm: Map::new(), evaluations: Vec::new(), populations: 0 };
        state.keep(algorithm);
        state
    }

    /// Takes over where an algorithm stands.
    pub(super) fn keep(&mut self, algorithm: &dyn Algorithm) {
        self.algorithm = Map::from_iter([(algorithm.name().to_string(), algorithm.state())]);
    }

    /// Brings an algorithm to where it stood.
    ///
    /// # Errors
    /// A state of another algorithm, or one that it cannot have been in.
    pub(super) fn restore(&self, algorithm: &mut dyn Algorithm) -> Result<()> {
        let name = algorithm.name().to_string();
        match self.algorithm.get(&name) {
            Some(state) => algorithm.restore(state.clone()),
            None => {
                let found = self.algorithm.keys().cloned().collect::<Vec<_>>().join(", ");
                Err(Error::invalid("algorithm of state.json", format!("`{found}`"), format!("`{name}`")))
            }
        }
    }

    /// The state of a run directory; `None` before the first population is complete.
    pub(super) fn read(dir: &Path) -> Result<Option<State>> {
        let path = dir.join("state.json");
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| {
                Error::format(&path, "state.json", format!("{error}; remove it to replay chunks.log"))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&path)(error)),
        }
    }

    /// Removes it: the run is replayed from the journal.
    pub(super) fn remove(dir: &Path) -> Result<()> {
        let path = dir.join("state.json");
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io(&path)(error)),
            _ => Ok(()),
        }
    }

    /// Writes it, atomically.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_string(self).expect("state is plain data");
        atomic_file::write(&dir.join("state.json"), json)
    }
}
