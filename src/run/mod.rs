//! A run of an experiment: prepared, frozen, journaled, raced, measured again, picked from.
//!
//! An [`Experiment`] says what is searched, a [`Scorer`] what scores its networks, such as the [`Local`] machine:
//!
#![cfg_attr(feature = "torch", doc = "```")]
#![cfg_attr(not(feature = "torch"), doc = "```ignore")]
//! use criadero::run::{Experiment, Local};
//! use criadero::space::SearchSpace;
//!
//! let dir = tempfile::tempdir()?;
//! let task = dir.path().join("sky.jsonl");
//! let item = |n| format!(r#"{{"context": "Day {n}. The sky is", "choices": [" blue", " full of {n} birds"], "gold": 0}}"#);
//! std::fs::write(&task, (0..40).map(item).collect::<Vec<_>>().join("\n"))?;
//!
//! let objectives = [format!("choice_nll:{}", task.display()), "params".to_string()];
//! let experiment = Experiment::new("tests/goldens/tiny-llama", SearchSpace::open("tiny")?, objectives);
//! let experiment = Experiment { evals: 24, population: 8, ..experiment };
//!
//! let (out, stop) = (dir.path().join("run"), Default::default());
//! let local = Local { workers: Some(1), ..Local::default() };
//! let scorer = local.prepare(&experiment, &out, &stop, &mut |_| ())?;
//! let front = experiment.run(scorer, &out, &mut |progress| eprintln!("{progress:?}"))?;
//! assert_eq!(front.evaluations, 24);
//! assert!(front.points.iter().any(|point| point.value("params") < front.parent.value("params")));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod budgets;
mod command_line;
mod csv_file;
mod evaluations;
mod experiment;
mod finish;
mod forecast;
mod front;
mod goals;
mod headway;
mod journal;
mod limits;
mod mixed_bits;
mod mock;
mod pick;
mod predictions;
mod progress;
mod quantized;
mod race;
mod racing;
#[expect(clippy::module_inception, reason = "a file is named after its type")]
mod run;
mod score_change;
mod scorer;
mod scoring;
mod session;
mod settings;
mod state;
mod timings;
mod values;

#[cfg(feature = "torch")]
mod arithmetic_error;
#[cfg(feature = "torch")]
mod arithmetic_trial;
#[cfg(feature = "torch")]
mod by_ranking;
#[cfg(feature = "torch")]
mod parent;
#[cfg(feature = "torch")]
mod prepare;
#[cfg(feature = "torch")]
mod recorded;
#[cfg(feature = "torch")]
mod requantize;
#[cfg(feature = "torch")]
mod throughput_table;

pub use command_line::{command_line, placeless};
pub use evaluations::{Evaluation, Evaluations};
pub use experiment::Experiment;
pub use front::{Column, Front, FrontPoint, HeldOut, OverBudgets};
pub use headway::Headway;
pub use limits::size_range;
pub use mixed_bits::MixedBits;
pub use mock::{mock_evaluator, mock_scorer};
pub use pick::Pick;
#[cfg(all(test, feature = "torch"))]
pub(crate) use pick::tests::front as front_of_tests;
pub use progress::Progress;
pub use quantized::{Change, QuantizedFront, QuantizedPoint};
pub use racing::Racing;
pub use run::Run;
pub use scorer::Scorer;
pub use settings::{Frozen, RunSettings, RunTask};
pub use values::Values;

#[cfg(feature = "torch")]
pub use {
    by_ranking::best_by_ranking,
    parent::searched_model,
    prepare::{
        CHUNK_TOKENS, Local, MAX_LENGTH, Prepared, check_metrics, cores, never_ranked, quantized_twice, space_of,
        unexported,
    },
    recorded::Recorded,
    requantize::{Place, Requantization},
    throughput_table::{Tables, measure_with_progress},
};
