//! Tasks: from question files to items, split into those that a search scores and those that it never sees.

mod exact_match;
mod item;
mod left_out;
mod row;

#[cfg(feature = "torch")]
mod dataset;
#[cfg(feature = "torch")]
mod gold;
#[cfg(feature = "torch")]
mod json_rows;
#[cfg(feature = "torch")]
mod matcher;
#[cfg(feature = "torch")]
mod question;
#[cfg(feature = "torch")]
mod rendered;
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
#[cfg(feature = "torch")]
mod text_size;

pub use exact_match::{ExactMatch, Take};
pub use item::{Item, Request, Scoring, Split, split, split_items};
pub use left_out::{LeftOut, Reason};
pub use row::{Place, Row, RowNumber};

#[cfg(feature = "torch")]
pub use {
    dataset::{Dataset, default_data_dir},
    matcher::Matcher,
    rendered::Rendered,
    selection::Selection,
    task::Task,
    text_size::TextSize,
};
#[cfg(feature = "torch")]
pub(crate) use {
    json_rows::kind_of,
    task::read_text,
    template::{STEPS, reason},
};
