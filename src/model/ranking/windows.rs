//! Windows of calibration tokens as batches.

use crate::model::token_tree::{TokenTree, TreeBuilder};

/// Windows that share a forward pass hold at most this many tokens together.
const BATCH_TOKENS: usize = 2048;

/// Each window a sequence of its own.
pub(super) fn forest(windows: &[Vec<u32>]) -> TokenTree {
    let mut builder = TreeBuilder::default();
    for window in windows {
        builder.insert_alone(window);
    }
    builder.finish().0
}

/// Consecutive windows of [`BATCH_TOKENS`] together, at least one each.
pub(super) fn batches(windows: &[Vec<u32>]) -> impl Iterator<Item = &[Vec<u32>]> {
    let mut rest = windows;
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fits = rest.iter().take_while(|window| {
            tokens += window.len();
            tokens <= BATCH_TOKENS
        });
        let count = fits.count().max(1).min(rest.len());
        let (group, others) = rest.split_at(count);
        rest = others;
        (!group.is_empty()).then_some(group)
    })
}
