//! A run of an experiment: frozen, journaled, raced, measured again, picked from.

mod csv_file;
mod evaluations;
mod finish;
mod front;
mod goals;
mod journal;
mod pick;
mod predictions;
mod progress;
mod quantized;
mod race;
mod racing;
mod run;
mod scoring;
mod session;
mod settings;
mod state;
mod timings;

pub use evaluations::{Evaluation, Evaluations};
pub use front::{Column, Front, FrontPoint, HeldOut};
pub use journal::Journal;
pub use pick::Pick;
pub use progress::Progress;
pub use quantized::{Change, QuantizedFront, QuantizedPoint};
pub use racing::Racing;
pub use run::Run;
pub use settings::{Frozen, RunSettings, RunTask};
