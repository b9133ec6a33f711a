//! Sequences as a model takes them: one forest, and which of its rows predict which tokens.

use tch::Tensor;

use super::Sequence;
use crate::error::Result;
use crate::model::{Llama, TreeBatch, TreeBuilder};

/// Some sequences on a device. Documents see nothing of each other, and their positions begin at 0.
pub struct Batch {
    /// All tokens.
    pub forest: TreeBatch,
    /// Rows that predict a scored token, (r).
    pub rows: Tensor,
    /// Those tokens, (r).
    pub labels: Tensor,
    /// How many tokens.
    pub tokens: usize,
    /// How many of them are predicted.
    pub targets: usize,
}

impl Batch {
    /// The sequences' documents side by side.
    ///
    /// # Errors
    /// When a document is longer than the model's positions or a token is outside its vocabulary.
    pub fn new(model: &Llama, sequences: &[&Sequence]) -> Result<Batch> {
        let mut builder = TreeBuilder::default();
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        for document in sequences.iter().flat_map(|sequence| &sequence.documents) {
            let first = builder.len();
            builder.insert_alone(&document.tokens);
            for (place, (&token, _)) in
                document.tokens.iter().zip(&document.scored).enumerate().skip(1).filter(|(_, (_, scored))| **scored)
            {
                rows.push((first + place - 1) as i64);
                labels.push(i64::from(token));
            }
        }
        let tree = builder.finish().0;
        let (tokens, targets) = (tree.len(), rows.len());
        let on_device = |values: &[i64]| Tensor::from_slice(values).to_device(model.device());
        let (rows, labels) = (on_device(&rows), on_device(&labels));
        Ok(Batch { forest: model.batch(&tree)?, rows, labels, tokens, targets })
    }
}
