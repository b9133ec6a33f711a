//! Tasks: from question files to items, split into those that a search scores and those that it never sees.

mod item;

#[cfg(feature = "torch")]
mod dataset;
#[cfg(feature = "torch")]
mod question;
#[cfg(feature = "torch")]
mod selection;
#[cfg(feature = "torch")]
mod shipped;
#[cfg(feature = "torch")]
#[expect(clippy::module_inception, reason = "a file is named after its type")]
mod task;
#[cfg(feature = "torch")]
mod task_file;
#[cfg(feature = "torch")]
mod template;

pub use item::{Item, Request, Scoring, Split, split, split_items};

#[cfg(feature = "torch")]
pub use {
    dataset::{Dataset, Row, default_data_dir},
    selection::Selection,
    task::{Task, TextSize},
};
#[cfg(feature = "torch")]
pub(crate) use {task::read_text, template::reason};
