//! A run of an experiment: prepared, frozen, journaled, raced, measured again, picked from.

mod csv_file;
mod evaluations;
mod experiment;
mod finish;
mod front;
mod goals;
mod journal;
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
mod scorer;
mod scoring;
mod session;
mod settings;
mod state;
mod timings;
mod values;

#[cfg(feature = "torch")]
mod parent;
#[cfg(feature = "torch")]
mod prepare;
#[cfg(feature = "torch")]
mod requantize;
#[cfg(feature = "torch")]
mod throughput_table;

pub use evaluations::{Evaluation, Evaluations};
pub use experiment::Experiment;
pub use front::{Column, Front, FrontPoint, HeldOut};
pub use mixed_bits::MixedBits;
pub use mock::mock_scorer;
pub use pick::Pick;
pub use progress::Progress;
pub use quantized::{Change, QuantizedFront, QuantizedPoint};
pub use racing::Racing;
pub use run::Run;
pub use scorer::Scorer;
pub use settings::{Frozen, RunSettings, RunTask};
pub use values::Values;

#[cfg(feature = "torch")]
pub use {
    parent::searched_model,
    prepare::{CHUNK_TOKENS, Local, MAX_LENGTH, cores, never_ranked, quantized_twice, space_of},
    requantize::{Place, Requantization},
    throughput_table::{Tables, measure_with_progress},
};
