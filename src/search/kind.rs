//! A search algorithm by name, and what may be said of it when it is begun.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::algorithm::{Algorithm, ClosedForm};
use super::worth::Worth;
use crate::error::{Error, Result};
use crate::space::{Genome, SearchSpace};

/// A search algorithm by name: a row of [`ALGORITHMS`](super::ALGORITHMS), or a user's own.
#[derive(Clone, Copy, Debug)]
pub struct AlgorithmKind {
    /// What it is called on the command line, in `run.json` and in `state.json`.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// Its settings for a population of this size as `run.json` keeps them: whatever decides what it asks for.
    pub frozen: fn(usize) -> Value,
    /// The algorithm at its beginning.
    ///
    /// # Errors
    /// Settings out of range.
    pub begin: fn(Beginning) -> Result<Box<dyn Algorithm>>,
}

/// What an algorithm begins with.
pub struct Beginning<'a> {
    /// The space.
    pub space: &'a SearchSpace,
    /// What is known of genomes without measuring them.
    pub closed_form: &'a ClosedForm,
    /// Genomes that are asked for at a time.
    pub population: usize,
    /// What the model's ranking says that networks keep, where it was ranked.
    pub worth: Option<&'a Worth>,
    /// What is asked for first; a random population where it is empty.
    pub first: Vec<Genome>,
    /// Seed of every random choice.
    pub seed: u64,
}

/// A state of an algorithm's own type.
///
/// # Errors
/// What is no such state.
pub fn restored<S: DeserializeOwned>(algorithm: &str, state: Value) -> Result<S> {
    serde_json::from_value(state).map_err(|error| Error::invalid("state", error, format!("a state of `{algorithm}`")))
}
