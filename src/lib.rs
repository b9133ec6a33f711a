//! criadero: evolutionary architecture search for LLaMA checkpoints.
//!
//! `parent -> rank -> supernet -> search(space, tasks) -> results/RUN -> plot, export`
#![deny(missing_docs)]

pub mod atomic_file;
pub mod error;
pub mod space;

pub mod checkpoint;
pub mod model;

pub mod eval;
pub mod search;

pub mod report;

pub use error::{Error, Result};
