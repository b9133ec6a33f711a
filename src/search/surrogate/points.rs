//! Measured networks as predictors see them.

use super::one_hot::Row;

/// Networks in the order in which they were measured.
#[derive(Clone, Debug, Default)]
pub struct Points {
    /// Their one-hot rows, of equal lengths.
    pub rows: Vec<Row>,
    /// What is above every column.
    pub columns: usize,
    /// What the model's ranking says that each lacks: in layers that are dropped, and in those that are narrower; 0 where there is none.
    pub lacks: Vec<[f64; 2]>,
    /// Networks that were chosen together: so many of them are a population.
    pub population: usize,
}
