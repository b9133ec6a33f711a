//! `state.json`: where a run stands between populations.

use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::evaluations::Evaluation;
use crate::atomic_file;
use crate::error::{Error, Result};
use crate::search::AlgorithmState;

/// What `state.json` holds.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    pub(super) algorithm: AlgorithmState,
    pub(super) evaluations: Vec<Evaluation>,
    pub(super) populations: usize,
}

impl State {
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

    /// Writes it, atomically.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_string(self).expect("state is plain data");
        atomic_file::write(&dir.join("state.json"), json)
    }
}
