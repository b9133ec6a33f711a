//! A forest of tokens cut into pieces whose attention is computed in one call each.

use std::ops::Range;

use super::token_tree::TokenTree;

/// Subtrees are attended to in one block until they hold this many tokens. A block costs one small
/// attention call; larger blocks compute more masked-out scores. Part of what makes a score
/// reproducible, so a constant.
const BLOCK_TOKENS: usize = 128;

/// A range of tokens whose attention is computed in one call: they see `ancestors` and, inside the
/// range, their own ancestors.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) queries: Range<usize>,
    pub(super) ancestors: Vec<usize>,
}

fn children(tree: &TokenTree, range: Range<usize>) -> Vec<usize> {
    let mut children = Vec::new();
    let mut next = range.start;
    while next < range.end {
        children.push(next);
        next = tree.ends()[next] as usize;
    }
    children
}

/// Cuts the forest into attention blocks: small subtrees side by side share one, a long stem is
/// one of its own.
pub(super) fn blocks(tree: &TokenTree) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut pending = vec![(0..tree.len(), Vec::new())];
    while let Some((range, ancestors)) = pending.pop() {
        let mut open: Option<Range<usize>> = None;
        for child in children(tree, range) {
            let subtree = child..tree.ends()[child] as usize;
            if subtree.len() > BLOCK_TOKENS {
                blocks.extend(open.take().map(|queries| Block { queries, ancestors: ancestors.clone() }));
                let mut stem = child + 1;
                while stem < subtree.end && tree.ends()[stem] as usize == subtree.end {
                    stem += 1;
                }
                blocks.push(Block { queries: child..stem, ancestors: ancestors.clone() });
                if stem < subtree.end {
                    let mut ancestors = ancestors.clone();
                    ancestors.extend(child..stem);
                    pending.push((stem..subtree.end, ancestors));
                }
                continue;
            }
            match &mut open {
                Some(queries) if queries.len() + subtree.len() <= BLOCK_TOKENS => queries.end = subtree.end,
                _ => {
                    blocks.extend(open.replace(subtree).map(|queries| Block { queries, ancestors: ancestors.clone() }))
                }
            }
        }
        blocks.extend(open.map(|queries| Block { queries, ancestors }));
    }
    blocks.sort_by_key(|block| block.queries.start);
    blocks
}

/// The same for tokens that see themselves and the `window − 1` before them: long stems in pieces, each with the ancestors that
/// one of its tokens still sees.
pub(super) fn windowed_blocks(tree: &TokenTree, window: usize) -> Vec<Block> {
    let depth = |node: usize| tree.depths()[node] as usize;
    let pieces = |Block { queries, ancestors }: Block| {
        // Subtrees side by side hold no more tokens than a piece; what is longer is a stem, each token the parent of the next.
        let starts = queries.clone().step_by(BLOCK_TOKENS);
        starts
            .map(move |start| {
                let piece = start..queries.end.min(start + BLOCK_TOKENS);
                let first = piece.clone().map(depth).min().unwrap_or(0);
                let before = ancestors.iter().copied().chain(queries.start..start);
                let seen = before.filter(|&node| first - depth(node) < window);
                Block { queries: piece, ancestors: seen.collect() }
            })
            .collect::<Vec<_>>()
    };
    blocks(tree).into_iter().flat_map(pieces).collect()
}

#[cfg(test)]
mod tests {
    use super::super::token_tree::TreeBuilder;
    use super::*;

    #[test]
    fn cuts_long_stems_and_packs_small_subtrees() {
        let mut builder = TreeBuilder::default();
        let stem: Vec<u32> = (0..200).collect();
        for answer in 0..50 {
            let path: Vec<u32> = stem.iter().copied().chain([1000 + answer, 5, 6]).collect();
            builder.insert(&path);
        }
        builder.insert(&[9, 9]);
        let (tree, _) = builder.finish();
        let blocks = blocks(&tree);
        let covered: Vec<usize> = blocks.iter().flat_map(|block| block.queries.clone()).collect();
        assert_eq!(covered, (0..352).collect::<Vec<_>>(), "every token is in one block");
        assert_eq!(blocks[0], Block { queries: 0..200, ancestors: vec![] });
        assert_eq!(blocks[1].queries, 200..326, "42 answers of 3 tokens fit a block");
        assert_eq!(blocks[1].ancestors, (0..200).collect::<Vec<_>>());
        assert_eq!(blocks.last().unwrap(), &Block { queries: 350..352, ancestors: vec![] });
    }
}
