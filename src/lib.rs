//! criadero breeds small LLaMAs from a large one.
//!
//! `parent -> rank -> supernet -> search(space, tasks) -> results/RUN -> plot, export`
//!
//! Search algorithms know genomes and numbers only; anything that gives numbers can drive them:
//!
//! ```
//! use criadero::search::{Algorithm, Nsga2, Nsga2Settings, Told};
//! use criadero::space::{Cost, SearchSpace};
//!
//! let space = SearchSpace::open("tiny")?;
//! let mut search = Nsga2::new(&space, Nsga2Settings::new(8), vec![space.largest(), space.smallest()], 1)?;
//! for _ in 0..5 {
//!     let genomes = search.ask();
//!     let cost = genomes.iter().map(|genome| Cost::of(space.shape(), genome));
//!     // As few parameters and as much key/value cache as can be had together: smaller is better.
//!     let told: Vec<Told> = cost.map(|cost| Told::feasible([cost.params as f64, -(cost.kv_bytes as f64)])).collect();
//!     search.tell(&genomes, &told);
//! }
//! assert!(search.survivors().count() > 1);
//! # Ok::<(), criadero::Error>(())
//! ```
//!
//! A whole search is [`run::Experiment`], with an example of one; its objectives are the rows of one table, its
//! algorithms any [`search::AlgorithmKind`]. All that needs libtorch or reads models and data is the feature `torch`, on
//! by default: scoring a model is `eval::LocalEvaluator`, pictures are `report`, the files that other programs load
//! `checkpoint::export`. The binary's subcommands are examples of all of it.
#![deny(missing_docs)]

pub mod arithmetic;
pub mod count;
pub mod differences;
pub mod error;
#[cfg(feature = "torch")]
pub mod freed_memory;
pub mod kendall;
#[cfg(feature = "torch")]
pub mod last_words;
#[cfg(feature = "torch")]
pub mod markdown;
pub mod output;
#[cfg(feature = "torch")]
pub mod prometheus;
#[cfg(feature = "torch")]
pub mod sandbox;
#[cfg(feature = "torch")]
pub mod serve;
pub mod versions;

pub mod pareto;
pub mod space;
pub mod task;

#[cfg(feature = "torch")]
pub mod cache_dir;
#[cfg(feature = "torch")]
pub mod checkpoint;
#[cfg(feature = "torch")]
pub mod kernels;
pub mod model;
#[cfg(feature = "torch")]
pub mod torch;

pub mod throughput;

pub mod eval;
#[cfg(feature = "torch")]
pub mod plan;
#[cfg(feature = "torch")]
pub mod tune;

pub mod search;

pub mod run;

#[cfg(feature = "torch")]
pub mod cascade;
#[cfg(feature = "torch")]
pub mod cluster;
#[cfg(feature = "torch")]
pub mod report;
#[cfg(feature = "torch")]
pub mod route;

pub use error::{Error, Result};
