//! Which rows of a forward pass predict which tokens.

use serde::{Deserialize, Serialize};

/// Which rows predict which tokens: only these rows reach the output matrix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// Nodes of the forest that predict something, ascending, each once.
    pub rows: Vec<i64>,
    /// (place in `rows`, token to predict), by row ascending.
    pub pairs: Vec<(u32, u32)>,
    /// Whether to say if each token is the most likely one.
    pub greedy: bool,
}
