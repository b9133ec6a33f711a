//! Hidden states of whole starts of networks, kept between populations: a child begins as one of its parents does.

use std::hash::Hash;

use lru::LruCache;

use crate::space::{Genome, HalfGene};

/// States by place and start, least recently used first to go once they exceed a number of bytes.
///
/// A start is addressed by its content: width and bits of its half layers (heads, MLP, heads, ...). So whichever
/// network computed a state, every network that begins alike finds it.
pub struct PrefixCache<P: Hash + Eq + Copy, S> {
    budget: u64,
    bytes: u64,
    states: LruCache<(P, Box<[HalfGene]>), Entry<S>>,
}

struct Entry<S> {
    state: S,
    bytes: u64,
}

impl<P: Hash + Eq + Copy, S: Clone> PrefixCache<P, S> {
    /// A cache of at most `budget` bytes; 0 keeps nothing.
    pub fn new(budget: u64) -> PrefixCache<P, S> {
        PrefixCache { budget, bytes: 0, states: LruCache::unbounded() }
    }

    /// Bytes held now.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The state after the longest start of `halves` that is held at `place`, and how many half layers it has.
    pub fn longest(&mut self, place: P, halves: &[HalfGene]) -> Option<(usize, S)> {
        if self.states.is_empty() {
            return None;
        }
        (1..=halves.len()).rev().find_map(|level| {
            let entry = self.states.get(&(place, halves[..level].into()))?;
            Some((level, entry.state.clone()))
        })
    }

    /// Keeps a state of `bytes`, unless it alone exceeds the budget.
    pub fn insert(&mut self, place: P, start: &[HalfGene], state: S, bytes: u64) {
        if bytes > self.budget {
            return;
        }
        self.bytes += bytes;
        if let Some((_, replaced)) = self.states.push((place, start.into()), Entry { state, bytes }) {
            self.bytes -= replaced.bytes;
        }
        while self.bytes > self.budget {
            let (_, oldest) = self.states.pop_lru().expect("bytes are held, so is a state");
            self.bytes -= oldest.bytes;
        }
    }

    /// Lets go of everything.
    pub fn clear(&mut self) {
        self.states.clear();
        self.bytes = 0;
    }
}

/// A network's half layers: attention and MLP in turn, of width 0 where there is none.
pub fn half_layers(genome: &Genome) -> Vec<HalfGene> {
    genome.genes().iter().flat_map(|gene| gene.halves()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Bits;

    fn of<const N: usize>(widths: [u32; N]) -> [HalfGene; N] {
        widths.map(|width| HalfGene { width, bits: Bits::F16 })
    }

    #[test]
    fn finds_the_longest_start_whoever_computed_it() {
        let mut cache = PrefixCache::new(100);
        cache.insert(0, &of([4, 8]), "two", 1);
        cache.insert(0, &of([4, 8, 2, 0]), "four", 1);
        assert_eq!(cache.longest(0, &of([4, 8, 2, 0, 3, 3])), Some((4, "four")));
        assert_eq!(cache.longest(0, &of([4, 8, 1, 0, 3, 3])), Some((2, "two")));
        assert_eq!(cache.longest(0, &of([2, 8, 1, 0, 3, 3])), None);
        assert_eq!(cache.longest(1, &of([4, 8, 2, 0, 3, 3])), None, "another chunk");
        let quantized = [HalfGene { width: 4, bits: Bits::Q8_0 }, HalfGene { width: 8, bits: Bits::Q8_0 }];
        assert_eq!(cache.longest(0, &quantized), None, "other bits");
    }

    #[test]
    fn lets_the_least_recently_used_go() {
        let mut cache = PrefixCache::new(10);
        cache.insert(0, &of([1]), 'a', 4);
        cache.insert(0, &of([2]), 'b', 4);
        assert_eq!(cache.longest(0, &of([1, 9])), Some((1, 'a')), "used now");
        cache.insert(0, &of([3]), 'c', 4);
        assert_eq!((cache.bytes(), cache.longest(0, &of([2]))), (8, None));
        cache.insert(0, &of([1]), 'd', 1);
        assert_eq!((cache.bytes(), cache.longest(0, &of([1]))), (5, Some((1, 'd'))), "replaced, not counted twice");
        cache.insert(0, &of([5]), 'e', 11);
        assert_eq!(
            (cache.bytes(), cache.longest(0, &of([5]))),
            (5, None),
            "what exceeds the budget drives nothing out"
        );
        cache.clear();
        assert_eq!((cache.bytes(), cache.longest(0, &of([1]))), (0, None));
    }
}
