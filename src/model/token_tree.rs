//! A forest of tokens: sequences that start alike share their tokens, and attention follows ancestors.

use std::collections::HashMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Subtrees are attended to in one block until they hold this many tokens. A block costs one small
/// attention call; larger blocks compute more masked-out scores. Part of what makes a score
/// reproducible, so a constant.
const BLOCK_TOKENS: usize = 128;

/// No parent: the first token of a sequence.
const ROOT: u32 = u32::MAX;

/// Collects sequences into a trie. Nodes get their final numbers in [`TreeBuilder::finish`].
#[derive(Default)]
pub struct TreeBuilder {
    tokens: Vec<u32>,
    parents: Vec<u32>,
    edges: HashMap<(u32, u32), u32>,
}

impl TreeBuilder {
    /// Adds a sequence, sharing the tokens it has in common with earlier shared ones, and returns its
    /// nodes in order.
    pub fn insert(&mut self, sequence: &[u32]) -> Vec<u32> {
        let mut parent = ROOT;
        sequence
            .iter()
            .map(|&token| {
                let next = self.tokens.len() as u32;
                let node = *self.edges.entry((parent, token)).or_insert(next);
                if node == next {
                    self.tokens.push(token);
                    self.parents.push(parent);
                }
                parent = node;
                node
            })
            .collect()
    }

    /// Adds a sequence that shares nothing: a left-truncated request or a rolling window.
    pub fn insert_alone(&mut self, sequence: &[u32]) -> Vec<u32> {
        let first = self.tokens.len() as u32;
        for (offset, &token) in sequence.iter().enumerate() {
            self.tokens.push(token);
            self.parents.push(if offset == 0 { ROOT } else { first + offset as u32 - 1 });
        }
        (first..first + sequence.len() as u32).collect()
    }

    /// Takes back every insertion since the forest held `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        for node in len..self.tokens.len() {
            let edge = (self.parents[node], self.tokens[node]);
            if self.edges.get(&edge) == Some(&(node as u32)) {
                self.edges.remove(&edge);
            }
        }
        self.tokens.truncate(len);
        self.parents.truncate(len);
    }

    /// How many tokens the forest holds.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether nothing was inserted.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The forest in depth-first order, and for each node that `insert` returned its place there.
    pub fn finish(self) -> (TokenTree, Vec<u32>) {
        let count = self.tokens.len();
        let mut children = vec![Vec::new(); count];
        let mut pending = Vec::new();
        for (node, &parent) in self.parents.iter().enumerate() {
            match parent {
                ROOT => pending.push(node),
                parent => children[parent as usize].push(node),
            }
        }
        pending.reverse();
        let mut tree = TokenTree { tokens: Vec::with_capacity(count), parents: vec![], depths: vec![], ends: vec![] };
        let mut place = vec![0_u32; count];
        while let Some(node) = pending.pop() {
            place[node] = tree.tokens.len() as u32;
            let parent = self.parents[node];
            let (parent, depth) = match parent {
                ROOT => (ROOT, 0),
                parent => (place[parent as usize], tree.depths[place[parent as usize] as usize] + 1),
            };
            tree.tokens.push(self.tokens[node]);
            tree.parents.push(parent);
            tree.depths.push(depth);
            pending.extend(children[node].iter().rev());
        }
        tree.ends = (1..=count as u32).collect();
        for node in (0..count).rev() {
            if tree.parents[node] != ROOT {
                let parent = tree.parents[node] as usize;
                tree.ends[parent] = tree.ends[parent].max(tree.ends[node]);
            }
        }
        (tree, place)
    }
}

/// A forest of tokens in depth-first order: a node's descendants follow it, so a subtree is a range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenTree {
    tokens: Vec<u32>,
    parents: Vec<u32>,
    depths: Vec<u32>,
    ends: Vec<u32>,
}

/// A range of tokens whose attention is computed in one call: they see `ancestors` and, inside the
/// range, their own ancestors.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) queries: Range<usize>,
    pub(super) ancestors: Vec<usize>,
}

impl TokenTree {
    /// One sequence, no branches.
    pub fn chain(tokens: &[u32]) -> TokenTree {
        let mut builder = TreeBuilder::default();
        builder.insert_alone(tokens);
        builder.finish().0
    }

    /// How many tokens the forest holds.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether the forest is empty.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The tokens in depth-first order.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The same, to be replaced: the forest's form stays.
    pub fn tokens_mut(&mut self) -> &mut [u32] {
        &mut self.tokens
    }

    /// The node before this one in its sequence.
    pub fn parent(&self, node: usize) -> Option<usize> {
        (self.parents[node] != ROOT).then(|| self.parents[node] as usize)
    }

    /// How many tokens come before each one in its sequence.
    pub(super) fn depths(&self) -> &[u32] {
        &self.depths
    }

    /// One past the last descendant of each token.
    pub(super) fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// The longest sequence, in tokens.
    pub fn longest(&self) -> usize {
        self.depths.iter().max().map_or(0, |&depth| depth as usize + 1)
    }

    fn children(&self, range: Range<usize>) -> Vec<usize> {
        let mut children = Vec::new();
        let mut next = range.start;
        while next < range.end {
            children.push(next);
            next = self.ends[next] as usize;
        }
        children
    }

    /// Cuts the forest into attention blocks: small subtrees side by side share one, a long stem is
    /// one of its own.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut pending = vec![(0..self.len(), Vec::new())];
        while let Some((range, ancestors)) = pending.pop() {
            let mut open: Option<Range<usize>> = None;
            for child in self.children(range) {
                let subtree = child..self.ends[child] as usize;
                if subtree.len() > BLOCK_TOKENS {
                    blocks.extend(open.take().map(|queries| Block { queries, ancestors: ancestors.clone() }));
                    let mut stem = child + 1;
                    while stem < subtree.end && self.ends[stem] as usize == subtree.end {
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
                    _ => blocks
                        .extend(open.replace(subtree).map(|queries| Block { queries, ancestors: ancestors.clone() })),
                }
            }
            blocks.extend(open.map(|queries| Block { queries, ancestors }));
        }
        blocks.sort_by_key(|block| block.queries.start);
        blocks
    }

    /// The first token of every token's tree.
    pub(super) fn roots(&self) -> Vec<u32> {
        let mut root = 0;
        let of = |(node, &parent): (usize, &u32)| {
            root = if parent == ROOT { node as u32 } else { root };
            root
        };
        self.parents.iter().enumerate().map(of).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two questions with a common start: 1 2 (3 4 | 3 5 6) and 1 7.
    pub fn forest() -> (TokenTree, Vec<Vec<u32>>) {
        let mut builder = TreeBuilder::default();
        let paths: Vec<Vec<u32>> =
            [&[1, 2, 3, 4][..], &[1, 7], &[1, 2, 3, 5, 6]].iter().map(|path| builder.insert(path)).collect();
        let alone = builder.insert_alone(&[1, 2]);
        let (tree, place) = builder.finish();
        let renumber = |path: &Vec<u32>| path.iter().map(|&node| place[node as usize]).collect();
        (tree, paths.iter().chain([&alone]).map(renumber).collect())
    }

    #[test]
    fn shares_common_starts_in_depth_first_order() {
        let (tree, paths) = forest();
        assert_eq!(tree.tokens(), [1, 2, 3, 4, 5, 6, 7, 1, 2]);
        assert_eq!(paths, [vec![0, 1, 2, 3], vec![0, 6], vec![0, 1, 2, 4, 5], vec![7, 8]]);
        assert_eq!(tree.depths, [0, 1, 2, 3, 3, 4, 1, 0, 1]);
        assert_eq!(tree.ends, [7, 6, 6, 4, 6, 6, 7, 9, 9]);
        assert_eq!(tree.longest(), 5);
    }

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
        let blocks = tree.blocks();
        let covered: Vec<usize> = blocks.iter().flat_map(|block| block.queries.clone()).collect();
        assert_eq!(covered, (0..352).collect::<Vec<_>>(), "every token is in one block");
        assert_eq!(blocks[0], Block { queries: 0..200, ancestors: vec![] });
        assert_eq!(blocks[1].queries, 200..326, "42 answers of 3 tokens fit a block");
        assert_eq!(blocks[1].ancestors, (0..200).collect::<Vec<_>>());
        assert_eq!(blocks.last().unwrap(), &Block { queries: 350..352, ancestors: vec![] });
    }
}
