//! A forest of tokens: sequences that start alike share their tokens, and attention follows ancestors.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

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
    pub fn depths(&self) -> &[u32] {
        &self.depths
    }

    /// One past the last descendant of each token.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// The forest of the nodes that `keep` says, with which their parents are kept, in the same order.
    pub fn part(&self, keep: &[bool]) -> TokenTree {
        let kept = || (0..self.len()).filter(|&node| keep[node]);
        // How many nodes before each one are kept: its own place, if it is.
        let mut before = Vec::with_capacity(self.len() + 1);
        before.push(0);
        before.extend(keep.iter().scan(0, |count, &keep| {
            *count += u32::from(keep);
            Some(*count)
        }));
        let parent = |node: usize| self.parent(node).map_or(ROOT, |parent| before[parent]);
        TokenTree {
            tokens: kept().map(|node| self.tokens[node]).collect(),
            parents: kept().map(parent).collect(),
            depths: kept().map(|node| self.depths[node]).collect(),
            ends: kept().map(|node| before[self.ends[node] as usize]).collect(),
        }
    }

    /// The longest sequence, in tokens.
    pub fn longest(&self) -> usize {
        self.depths.iter().max().map_or(0, |&depth| depth as usize + 1)
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
    fn a_part_is_the_forest_of_its_nodes_alone() {
        let (tree, paths) = forest();
        let mut keep = vec![false; tree.len()];
        paths[2].iter().chain(&paths[3]).for_each(|&node| keep[node as usize] = true);
        let mut builder = TreeBuilder::default();
        builder.insert(&[1, 2, 3, 5, 6]);
        builder.insert_alone(&[1, 2]);
        assert_eq!(tree.part(&keep), builder.finish().0);
        assert_eq!(tree.part(&vec![true; tree.len()]), tree);
    }
}
