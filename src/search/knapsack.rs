//! The front of an additive prediction against size, without breeding: a multiple-choice knapsack.
//!
//! Where what is predicted is a sum over layers, the best network of every size follows layer by layer (Sinha and Zoltners, "The
//! multiple-choice knapsack problem", 1979): F(l, s) = min over genes g of F(l − 1, s − size(l, g)) + loss(l, g).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::space::{Ends, Gene, Genome, SearchSpace};

/// Sizes are told apart to this share of the space's range; of two networks nearer than that the better one stays.
const STEPS: u64 = 2048;

/// Networks of which none is predicted to be better and is smaller, the smallest first. Exact where prediction and size are sums over
/// layers, given the depth and the ends, but for sizes that differ by less than a 2048th of the space's range.
pub fn knapsack_front(space: &SearchSpace, predict: &dyn Fn(&Genome) -> f64) -> Vec<Genome> {
    let range = space.size(&space.largest()).saturating_sub(space.size(&space.smallest()));
    let step = (range / STEPS).max(1);
    let mut all: Vec<(u64, f64, Genome)> = Vec::new();
    for &depth in space.depths() {
        for ends in space.ends().all() {
            let networks = Layers { space, predict, depth, ends, step }.front();
            let allowed = networks.into_iter().filter(|genome| space.contains(genome));
            all.extend(allowed.map(|genome| (space.size(&genome), predict(&genome), genome)));
        }
    }
    all.sort_by(|a, b| {
        (a.0, a.1).partial_cmp(&(b.0, b.1)).unwrap_or_else(|| a.0.cmp(&b.0)).then_with(|| a.2.cmp(&b.2))
    });
    let mut best = f64::INFINITY;
    all.retain(|&(_, loss, _)| {
        let better = loss < best;
        best = best.min(loss);
        better
    });
    all.into_iter().map(|(.., genome)| genome).collect()
}

/// Networks of one depth, with the same ends.
struct Layers<'a> {
    space: &'a SearchSpace,
    predict: &'a dyn Fn(&Genome) -> f64,
    depth: usize,
    ends: Ends,
    step: u64,
}

/// A choice of the first layers: what it saves and loses, and how it came about.
struct State {
    saved: u64,
    loss: f64,
    /// Place in the list of one layer less.
    before: usize,
    gene: Gene,
}

impl Layers<'_> {
    fn front(&self) -> Vec<Genome> {
        let whole = self.space.express(self.depth, self.ends, |layer| self.space.layer(layer).largest());
        let (size, loss) = (self.space.size(&whole), (self.predict)(&whole));
        let layers: Vec<usize> = whole.kept().map(|(layer, _)| layer).collect();
        let mut lists = vec![vec![State { saved: 0, loss: 0.0, before: 0, gene: Gene::DROPPED }]];
        for &layer in &layers {
            let options = self.space.layer(layer).genes().into_iter().map(|gene| {
                let one = self.space.express(self.depth, self.ends, |place| {
                    if place == layer { gene } else { self.space.layer(place).largest() }
                });
                (size.saturating_sub(self.space.size(&one)), (self.predict)(&one) - loss, gene)
            });
            let options: Vec<(u64, f64, Gene)> = options.filter(|(_, loss, _)| loss.is_finite()).collect();
            lists.push(self.next(lists.last().expect("there is the first"), &options));
        }
        (0..lists.last().map_or(0, Vec::len)).map(|place| self.network(&lists, &layers, place)).collect()
    }

    /// All sums of a choice so far and an option of one more layer of which none loses less and saves more.
    fn next(&self, list: &[State], options: &[(u64, f64, Gene)]) -> Vec<State> {
        let mut buckets: BTreeMap<u64, State> = BTreeMap::new();
        for (before, state) in list.iter().enumerate() {
            for &(saved, loss, gene) in options {
                let next = State { saved: state.saved + saved, loss: state.loss + loss, before, gene };
                match buckets.entry(next.saved / self.step) {
                    Entry::Vacant(place) => {
                        place.insert(next);
                    }
                    Entry::Occupied(mut place) => {
                        let old = place.get();
                        if (next.loss, old.saved) < (old.loss, next.saved) {
                            place.insert(next);
                        }
                    }
                }
            }
        }
        let mut least = f64::INFINITY;
        let mut kept: Vec<State> = buckets.into_values().rev().collect();
        kept.retain(|state| {
            let better = state.loss < least;
            least = least.min(state.loss);
            better
        });
        kept.reverse();
        kept
    }

    fn network(&self, lists: &[Vec<State>], layers: &[usize], mut place: usize) -> Genome {
        let mut genes = BTreeMap::new();
        for (list, layer) in lists[1..].iter().zip(layers).rev() {
            let State { before, gene, .. } = list[place];
            genes.insert(*layer, gene);
            place = before;
        }
        self.space.express(self.depth, self.ends, |layer| genes.get(&layer).copied().unwrap_or(Gene::DROPPED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> SearchSpace {
        SearchSpace::from_yaml(
            "{ shape: { layers: 4, hidden: 64, heads: 4, kv_heads: 4, head_dim: 16, mlp: 128, vocab: 512 }, \
             depth: [3, 4], heads: [2, 4], mlp: [0, 64, 128] }",
        )
        .unwrap()
    }

    /// A sum over layers of what is missing, each of another worth.
    fn loss(genome: &Genome) -> f64 {
        let of = |(layer, gene): (usize, &Gene)| {
            let worth = [5.0, 1.0, 3.0, 2.0][layer];
            worth * (1.5 * f64::from(4 - gene.heads) + f64::from(128 - gene.mlp).powf(1.3) / 64.0)
        };
        genome.genes().iter().enumerate().map(of).sum()
    }

    #[test]
    fn finds_what_trying_all_networks_finds() {
        let space = space();
        let mut all = Vec::new();
        for &depth in space.depths() {
            for code in 0..6_usize.pow(4) {
                let gene = |layer: usize| {
                    let digit = code / 6_usize.pow(layer as u32) % 6;
                    Gene::new([2, 4][digit % 2], [0, 64, 128][digit / 2])
                };
                all.push(space.express(depth, Ends::default(), gene));
            }
        }
        let front = knapsack_front(&space, &loss);
        for one in &front {
            let better =
                all.iter().find(|other| space.size(other) <= space.size(one) && loss(other) < loss(one) - 1e-9);
            assert!(better.is_none(), "{one} loses to {better:?}");
        }
        let dominated = |genome: &Genome| {
            front.iter().any(|one| space.size(one) <= space.size(genome) && loss(one) <= loss(genome) + 1e-9)
        };
        let missed = all.iter().find(|genome| !dominated(genome));
        assert!(missed.is_none(), "{missed:?} is in front of all of {front:?}");
    }

    #[test]
    fn knows_no_prediction_that_is_no_number() {
        let space = space();
        let only_wide = |genome: &Genome| if genome.genes()[1].mlp == 128 { loss(genome) } else { f64::NAN };
        let front = knapsack_front(&space, &only_wide);
        assert!(!front.is_empty() && front.iter().all(|genome| genome.genes()[1].mlp == 128), "{front:?}");
    }
}
