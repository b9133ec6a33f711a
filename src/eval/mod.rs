//! Tasks, eval sets and evaluators: from question files to scores of networks.

pub mod dataset;
pub mod item;
pub mod question;
pub mod task;
pub mod task_file;
pub mod template;
