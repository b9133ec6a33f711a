//! `state.json`: where a run stands between populations. It is sealed with a checksum, and can be had from the journal again.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::evaluations::Evaluation;
use super::goals::Goals;
use super::settings::RunSettings;
use crate::error::{Error, Result};
use crate::output::{self, Seal};
use crate::search::{Algorithm, Told};
use crate::space::{Genome, check_genome};

/// The file's name.
const FILE: &str = "state.json";

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

    /// Brings an algorithm to where it stood; false where it cannot have stood there, and is as it was.
    ///
    /// # Errors
    /// A state of another algorithm.
    pub(super) fn restore(&self, algorithm: &mut dyn Algorithm, goals: &Goals, evals: usize) -> Result<bool> {
        let name = algorithm.name().to_string();
        let Some(state) = self.algorithm.get(&name) else {
            let found = self.algorithm.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(Error::invalid("algorithm of state.json", format!("`{found}`"), format!("`{name}`")));
        };
        let begun = algorithm.state();
        let told: Vec<Told> = self.evaluations.iter().map(|row| goals.told(row)).collect();
        let genomes: Vec<Genome> = self.evaluations.iter().map(|row| row.genome.clone()).collect();
        let cut = genomes.len() == evals;
        if algorithm.restore(state.clone()).is_ok() && algorithm.can_follow(&genomes, &told, cut) {
            return Ok(true);
        }
        algorithm.restore(begun)?;
        Ok(false)
    }

    /// The state of a run directory; `None` before the first population is complete. A state that is damaged or is not of this run
    /// is none: the run is replayed from its journal. Also what the user is to know of that.
    pub(super) fn read(dir: &Path, settings: &RunSettings) -> Result<(Option<State>, Option<String>)> {
        let path = State::path(dir);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((None, None)),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        let unsealed = format!("{}: of a version that did not seal it; damage to it would not be seen", path.display());
        let (state, note) = match Seal::take(&bytes) {
            (json, Seal::Whole) => (State::parse(&json, settings), None),
            (json, Seal::Missing) => (State::parse(&json, settings), Some(unsealed)),
            (_, Seal::Broken { .. }) => (None, None),
        };
        let replayed = || format!("{}: damaged; the run is replayed from chunks.log", path.display());
        let note = if state.is_none() { Some(replayed()) } else { note };
        Ok((state, note))
    }

    /// A state whose rows can be those of a run with these settings: population after population, with a value for each objective and
    /// task.
    fn parse(bytes: &[u8], settings: &RunSettings) -> Option<State> {
        let state: State = serde_json::from_slice(bytes).ok()?;
        let shape = settings.space.shape();
        let fits = |(place, row): (usize, &Evaluation)| {
            let (objectives, tasks) = match row.failed {
                None => (settings.objectives.len(), settings.tasks.len()),
                Some(_) => (0, 0),
            };
            row.id == place
                && (row.objectives.len(), row.search_accuracy.len()) == (objectives, tasks)
                && check_genome(shape, &shape.parent(), &row.genome).is_ok()
        };
        let rows_fit = state.evaluations.len() <= settings.evals && state.evaluations.iter().enumerate().all(fits);
        let populations: Vec<usize> = state.by_population().filter_map(|rows| Some(rows.first()?.population)).collect();
        (rows_fit && populations.into_iter().eq(0..state.populations)).then_some(state)
    }

    /// The rows, population by population.
    pub(super) fn by_population(&self) -> impl Iterator<Item = &[Evaluation]> {
        self.evaluations.chunk_by(|one, next| one.population == next.population)
    }

    /// Where a run directory has it.
    pub(super) fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    /// Removes it: the run is replayed from the journal.
    pub(super) fn remove(dir: &Path) -> Result<()> {
        output::remove(&State::path(dir))
    }

    /// Writes it, atomically.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_string(self).expect("state is plain data");
        output::write(&State::path(dir), Seal::put(&json))
    }
}
