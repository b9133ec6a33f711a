//! Windows of calibration tokens as batches.

use crate::model::token_tree::{TokenTree, TreeBuilder};

/// Windows that share a forward pass hold at most this many tokens together.
const BATCH_TOKENS: usize = 2048;

/// Has the second half of every other pair of windows be its first half once more.
///
/// On plain text little is lost without the heads that look up what stood before what is read now; on text that is read again all is
/// (induction heads: Olsson et al. 2022, "In-context learning and induction heads", which finds them so). Questions about a
/// passage need them.
pub fn read_again(windows: &mut [Vec<u32>]) {
    let pairs = windows.chunks_mut(2).skip(1).step_by(2);
    for window in pairs.flatten() {
        let half = window.len() / 2;
        window.copy_within(..half, half);
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_pair_of_windows_is_read_again() {
        let mut windows =
            vec![vec![1, 2, 3, 4], vec![5, 6, 7], vec![8, 9, 10, 11], vec![12, 13, 14, 15, 16], vec![17, 18], vec![]];
        read_again(&mut windows);
        let expected = [&[1, 2, 3, 4][..], &[5, 6, 7], &[8, 9, 8, 9], &[12, 13, 12, 13, 16], &[17, 18], &[]];
        assert_eq!(windows, expected);
    }
}
