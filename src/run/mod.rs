//! A run of an experiment: frozen, journaled, raced, measured again, picked from.

mod csv_file;
mod evaluations;
mod finish;
mod front;
mod journal;
mod pick;
mod predictions;
mod quantized;
mod race;
mod racing;
mod run;
mod scoring;
mod settings;

pub use evaluations::{Evaluation, Evaluations};
pub use front::{Column, Front, FrontPoint, HeldOut};
pub use journal::Journal;
pub use pick::Pick;
pub use quantized::{Change, QuantizedFront, QuantizedPoint};
pub use racing::Racing;
pub use run::{Progress, Run};
pub use settings::{Frozen, RunSettings, RunTask};
