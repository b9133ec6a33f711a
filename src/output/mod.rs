//! Everything that is written: checked against what is read and what is there, made beside its place, handed to the disk, and put
//! there by one rename.
//!
//! A command says what it reads and asks its [`Output`] for a place: a [`StagedFile`], a [`StagedDirectory`] that is published as
//! a whole, or a [`HeldDirectory`] that it fills bit by bit and nobody else may use meanwhile. [`write`](write()), its kin
//! and [`Log`] write inside such a place. Nothing else in the crate creates, renames or removes files. A [`Seal`] shows damage to
//! a JSON file that is read again.
//!
//! What is being made is called `.criadero-…`, locked by its maker, and goes when that fails, stops, or is told to by
//! [`abandon_all`]. What a killed process left is removed by the next one that writes to the same place.

mod claim;
mod held_directory;
mod inputs;
mod leftovers;
mod lock;
mod log;
mod maker;
#[expect(clippy::module_inception, reason = "a file is named after its type")]
mod output;
mod place;
mod seal;
mod staged_directory;
mod staged_file;
mod temporary;
mod whole_file;

pub use held_directory::HeldDirectory;
pub use leftovers::abandon_all;
pub use log::Log;
pub use maker::MADE_BY;
pub use output::Output;
pub use seal::Seal;
pub use staged_directory::StagedDirectory;
pub use staged_file::StagedFile;
pub use temporary::Temporary;
pub use whole_file::{keep_as, remove, write, write_with};
