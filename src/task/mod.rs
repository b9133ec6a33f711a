//! Tasks: from question files to items, split into those that a search scores and those that it never sees.

mod dataset;
mod item;
mod question;
mod selection;
mod shipped;
mod task;
mod task_file;
mod template;

pub use dataset::{Dataset, Row, default_data_dir};
pub use item::{Item, Request, Scoring, Split, split, split_items};
pub use selection::Selection;
pub(crate) use task::read_text;
pub use task::{Task, TextSize};
pub(crate) use template::reason;
