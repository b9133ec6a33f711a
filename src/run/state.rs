//! `state.json`: where a run stands between populations. It is sealed with a checksum, and can be had from the journal again.

use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::evaluations::Evaluation;
use super::settings::RunSettings;
use crate::error::{Error, Result};
use crate::output;
use crate::search::Algorithm;

/// The file's name.
const FILE: &str = "state.json";
/// What comes before a seal.
const SEAL: &str = ",\"seal\":\"";

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

    /// The state of a run directory; `None` before the first population is complete. A state that is damaged or is not of this run
    /// is none: the run is replayed from its journal. Also what the user is to know of that.
    pub(super) fn read(dir: &Path, settings: &RunSettings) -> Result<(Option<State>, Option<String>)> {
        let path = dir.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((None, None)),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        let unsealed = format!("{}: of a version that did not seal it; damage to it would not be seen", path.display());
        let (state, note) = match seal(&bytes) {
            Seal::Whole => (State::parse(&bytes, settings), None),
            Seal::Missing => (State::parse(&bytes, settings), Some(unsealed)),
            Seal::Broken => (None, None),
        };
        let replayed = || format!("{}: damaged; the run is replayed from chunks.log", path.display());
        let note = if state.is_none() { Some(replayed()) } else { note };
        Ok((state, note))
    }

    /// A state whose rows are those of a run with these settings.
    fn parse(bytes: &[u8], settings: &RunSettings) -> Option<State> {
        let state: State = serde_json::from_slice(bytes).ok()?;
        let fits = |(place, row): (usize, &Evaluation)| {
            let scored =
                row.objectives.len() == settings.objectives.len() && row.search_accuracy.len() == settings.tasks.len();
            row.id == place && row.population < state.populations && (row.failed.is_some() || scored)
        };
        state.evaluations.iter().enumerate().all(fits).then_some(state)
    }

    /// Removes it: the run is replayed from the journal.
    pub(super) fn remove(dir: &Path) -> Result<()> {
        output::remove(&dir.join(FILE))
    }

    /// Writes it, atomically.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_string(self).expect("state is plain data");
        output::write(&dir.join(FILE), sealed(&json))
    }
}

/// What a file's last member says of those before it.
#[derive(Debug, PartialEq)]
enum Seal {
    Whole,
    Broken,
    Missing,
}

/// An object with its seal as the last member: the first half of the BLAKE3 of the object without it.
fn sealed(json: &str) -> String {
    let open = json.strip_suffix('}').expect("a state is an object");
    format!("{open}{SEAL}{}\"}}", digest(json.as_bytes()))
}

fn seal(bytes: &[u8]) -> Seal {
    let Some(at) = bytes.windows(SEAL.len()).rposition(|found| found == SEAL.as_bytes()) else { return Seal::Missing };
    let (open, found) = (&bytes[..at], &bytes[at + SEAL.len()..]);
    let expected = format!("{}\"}}", digest(&[open, b"}"].concat()));
    if found == expected.as_bytes() { Seal::Whole } else { Seal::Broken }
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..32].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"algorithm":{"nsga2":{"rng":[1,2]}},"evaluations":[],"populations":0}"#;

    #[test]
    fn no_flipped_bit_goes_unseen_but_in_the_seals_own_name() {
        let whole = sealed(JSON);
        assert_eq!(seal(whole.as_bytes()), Seal::Whole);
        assert_eq!(serde_json::from_str::<State>(&whole).unwrap().populations, 0);
        let name = JSON.len() - 1..JSON.len() - 1 + SEAL.len();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // What comes before the name is as it was then.
            let expected = if name.contains(&(bit / 8)) { Seal::Missing } else { Seal::Broken };
            assert_eq!(seal(&bytes), expected, "bit {bit}");
        }
        for end in 0..whole.len() {
            assert_ne!(seal(&whole.as_bytes()[..end]), Seal::Whole);
        }
        assert_eq!(seal(JSON.as_bytes()), Seal::Missing, "as older versions wrote it");
    }
}
