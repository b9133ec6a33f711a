//! Networks as leaves of a trie whose levels are half layers: what they have in common from the first layer on is
//! computed once, and what earlier networks had in common with them not at all.

use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::prefix_cache::{PrefixCache, half_layers};
use crate::space::{Genome, HalfGene};

/// Something that computes half layers one by one: a model on a chunk of tokens, or a count of what that costs.
pub trait HalfLayers {
    /// What one half layer hands to the next.
    type State: Clone;

    /// The state before the first half layer.
    fn first(&self) -> Self::State;

    /// The state after half layer `level`, attention at even ones and MLP at odd ones.
    fn after(&self, level: usize, half: HalfGene, before: &Self::State) -> Self::State;
}

/// Where a walk finds states of earlier walks, and leaves its own.
pub struct Kept<'a, P: Hash + Eq + Copy, S> {
    /// The cache, which other walks may share.
    pub cache: &'a Mutex<PrefixCache<P, S>>,
    /// What the states belong to: the chunk.
    pub place: P,
    /// Bytes of a state.
    pub bytes: u64,
    /// A state is left after every so many half layers.
    pub every: usize,
}

impl<P: Hash + Eq + Copy, S: Clone> Kept<'_, P, S> {
    fn open(&self) -> MutexGuard<'_, PrefixCache<P, S>> {
        // A panic elsewhere leaves at worst a state more or less: nothing that a score depends on.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands `on_leaf` the state after the last half layer of every genome, which all have the same number of layers.
/// The trie is walked depth-first, so a state is computed once for all networks below it and at most one new state a
/// level is alive, besides those of earlier walks that these networks begin with. `on_leaf` gets the places in `genomes`
/// of the networks that end there and says whether to go on.
pub fn walk<H: HalfLayers, P: Hash + Eq + Copy>(
    half_layers_of: &H,
    genomes: &[Genome],
    kept: Option<&Kept<'_, P, H::State>>,
    on_leaf: &mut dyn FnMut(&[usize], &H::State) -> bool,
) {
    let mut leaves: Vec<Leaf<H::State>> = genomes
        .iter()
        .enumerate()
        .map(|(place, genome)| {
            let halves = half_layers(genome);
            let known = kept.and_then(|kept| kept.open().longest(kept.place, &halves));
            Leaf { place, halves, known }
        })
        .collect();
    leaves.sort_by(|a, b| a.halves.cmp(&b.halves));
    let mut walk = Walk { half_layers: half_layers_of, kept, on_leaf, stopped: false };
    let first = leaves.iter().any(|leaf| leaf.known.is_none()).then(|| half_layers_of.first());
    walk.descend(0, first, &mut leaves);
}

struct Leaf<S> {
    place: usize,
    halves: Vec<HalfGene>,
    /// The deepest state that an earlier walk left on the way to this leaf, and its level.
    known: Option<(usize, S)>,
}

struct Walk<'a, H: HalfLayers, P: Hash + Eq + Copy> {
    half_layers: &'a H,
    kept: Option<&'a Kept<'a, P, H::State>>,
    on_leaf: &'a mut dyn FnMut(&[usize], &H::State) -> bool,
    stopped: bool,
}

impl<H: HalfLayers, P: Hash + Eq + Copy> Walk<'_, H, P> {
    /// Visits the leaves of `group`, which all have this `state` before half layer `level`. It is there unless
    /// every one of them has a later state from an earlier walk.
    fn descend(&mut self, level: usize, state: Option<H::State>, group: &mut [Leaf<H::State>]) {
        if group.first().is_none_or(|leaf| leaf.halves.len() == level) {
            let places: Vec<usize> = group.iter().map(|leaf| leaf.place).collect();
            if let Some(state) = &state {
                self.stopped |= !places.is_empty() && !(self.on_leaf)(&places, state);
            }
            return;
        }
        // The last branch needs the state no more: it is freed before going down.
        let mut state = state;
        let mut rest = group;
        while !rest.is_empty() && !self.stopped {
            let half = rest[0].halves[level];
            let count = rest.partition_point(|leaf| leaf.halves[level] <= half);
            let (branch, others) = std::mem::take(&mut rest).split_at_mut(count);
            rest = others;
            let after = self.after(level, half, state.as_ref(), branch);
            if rest.is_empty() {
                state = None;
            }
            self.descend(level + 1, after, branch);
        }
    }

    /// The state after half layer `level` of a branch: an earlier walk's, none where nobody needs it, or a new one.
    fn after(
        &mut self,
        level: usize,
        half: HalfGene,
        before: Option<&H::State>,
        branch: &mut [Leaf<H::State>],
    ) -> Option<H::State> {
        let known_here = |leaf: &&mut Leaf<H::State>| leaf.known.as_ref().is_some_and(|known| known.0 == level + 1);
        if let Some(leaf) = branch.iter_mut().find(known_here) {
            return leaf.known.take().map(|known| known.1);
        }
        if branch.iter().all(|leaf| leaf.known.as_ref().is_some_and(|known| known.0 > level)) {
            return None;
        }
        let before = before.expect("kept for every leaf without a later state");
        let after = self.half_layers.after(level, half, before);
        // The last state is of no use to others: a network is asked for once.
        let wanted = |kept: &&Kept<'_, P, H::State>| {
            (level + 1).is_multiple_of(kept.every) && level + 1 < branch[0].halves.len()
        };
        if let Some(kept) = self.kept.filter(wanted) {
            kept.open().insert(kept.place, &branch[0].halves[..=level], after.clone(), kept.bytes);
        }
        Some(after)
    }
}
