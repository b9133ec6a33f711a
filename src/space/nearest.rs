//! Members of a space that are close to something: to any genome, or to being uniform.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

use super::{Bits, Cost, Ends, Gene, Genome, LayerChoices, SearchSpace};

impl SearchSpace {
    /// The member of the space nearest to any genome: of all depths with the nearest choice in each
    /// layer, the one that changes least. Distance is the share of the parent's heads plus the share
    /// of its channels that each layer gains or loses; ties go to the greater depth, and in a layer to
    /// the larger choice. A member is its own nearest.
    ///
    /// Layers that the genome lacks are taken whole, layers too many are ignored.
    pub fn repair(&self, genome: &Genome) -> Genome {
        let (heads, mlp) = (self.shape().heads as u32, self.shape().mlp as u32);
        let whole = Gene::new(heads, mlp);
        let wanted = |layer: usize| genome.genes().get(layer).copied().unwrap_or(whole);
        // Both shares over a common denominator, so that ties are exact.
        let distance = |a: Gene, b: Gene| {
            let (heads, mlp) = (u128::from(heads), u128::from(mlp));
            u128::from(a.heads.abs_diff(b.heads)) * mlp + u128::from(a.mlp.abs_diff(b.mlp)) * heads
        };
        let change = |depth: usize| -> u128 {
            let dropped = self.dropped_at(depth).iter().map(|&layer| distance(wanted(layer), Gene::DROPPED));
            let kept = self.kept_at(depth);
            let kept = kept.iter().map(|&layer| distance(wanted(layer), self.layer(layer).nearest(wanted(layer))));
            dropped.chain(kept).sum()
        };
        let depth = *self.depths().iter().rev().min_by_key(|&&depth| change(depth)).expect("a space has a depth");
        self.express(depth, self.ends().nearest(genome.ends()), |layer| self.layer(layer).nearest(wanted(layer)))
    }

    /// Uniform networks, for a first population: at each depth every combination of a head count, a
    /// width and a number of bits that some layer offers, the same in all layers and at the ends. A layer that does not
    /// offer a value takes its nearest, so does an end, and no layer loses a half while it has another choice.
    ///
    /// The first is the widest network. Then come those that step down along one axis (depth, heads,
    /// width or bits), then along two, and so on; large before small within each. So a prefix
    /// of any length is a sensible selection. Of long lists it takes some values, evenly spread with both ends: 4,096 networks at most.
    pub fn uniform_ladder(&self) -> Vec<Genome> {
        let heads = offered(self.layers(), |layer| &layer.heads);
        let mlp = offered(self.layers(), |layer| &layer.mlp);
        let bits: Vec<Bits> =
            self.layers().iter().flat_map(|layer| &layer.bits).copied().collect::<BTreeSet<_>>().into_iter().collect();
        let [d, h, m, b] = thinned([self.depths().len(), heads.len(), mlp.len(), bits.len()]);
        let (depths, heads, mlp, bits) =
            (evenly(self.depths(), d), evenly(&heads, h), evenly(&mlp, m), evenly(&bits, b));
        let halves_kept: Vec<LayerChoices> = self.layers().iter().map(without_zeros).collect();
        let mut rungs = Vec::new();
        for (depth_step, &depth) in depths.iter().rev().enumerate() {
            for (heads_step, &heads) in heads.iter().rev().enumerate() {
                for (mlp_step, &mlp) in mlp.iter().rev().enumerate() {
                    for (bits_step, &bits) in bits.iter().rev().enumerate() {
                        let steps = [depth_step, heads_step, mlp_step, bits_step];
                        let axes = steps.into_iter().filter(|&step| step > 0).count();
                        let ends = self.ends().nearest(Ends::both(bits));
                        let gene = |layer: usize| halves_kept[layer].nearest(Gene { heads, mlp, bits });
                        let genome = self.express(depth, ends, gene);
                        let size = Cost::of(self.shape(), &genome).weight_bytes;
                        rungs.push((axes, Reverse(size), genome));
                    }
                }
            }
        }
        rungs.sort();
        let mut seen = HashSet::new();
        rungs.into_iter().map(|(_, _, genome)| genome).filter(|genome| seen.insert(genome.clone())).collect()
    }
}

/// The most networks of a ladder: a population is smaller, and lists of a few characters can have millions.
const RUNGS: usize = 4096;

/// How many values of each list a ladder takes: all, or of the longest ones so few that it has no more than [`RUNGS`].
fn thinned<const N: usize>(mut counts: [usize; N]) -> [usize; N] {
    while counts.iter().try_fold(1_usize, |rungs, &count| rungs.checked_mul(count)).is_none_or(|rungs| rungs > RUNGS) {
        let longest = counts.iter_mut().max().expect("a ladder has axes");
        *longest = longest.div_ceil(2);
    }
    counts
}

/// So many of some values, evenly spread, both ends among them; a single one is the last.
fn evenly<T: Copy>(values: &[T], taken: usize) -> Vec<T> {
    match taken {
        0 | 1 => values.last().copied().into_iter().collect(),
        _ => (0..taken).map(|step| values[step * (values.len() - 1) / (taken - 1)]).collect(),
    }
}

/// All values above 0 that some layer offers, ascending; 0 alone where no layer offers more.
fn offered(layers: &[LayerChoices], list: impl Fn(&LayerChoices) -> &Vec<u32>) -> Vec<u32> {
    let values: BTreeSet<u32> = layers.iter().flat_map(list).copied().collect();
    nonzero(&values.into_iter().collect::<Vec<_>>())
}

/// The choices of a layer that keeps the halves it can keep.
fn without_zeros(layer: &LayerChoices) -> LayerChoices {
    LayerChoices { heads: nonzero(&layer.heads), mlp: nonzero(&layer.mlp), bits: layer.bits.clone() }
}

fn nonzero(ascending: &[u32]) -> Vec<u32> {
    match ascending {
        [0, rest @ ..] if !rest.is_empty() => rest.to_vec(),
        all => all.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::count::tests::{enumerate, small_spaces};

    fn space(rest: &str) -> SearchSpace {
        let shape = "shape: { layers: 4, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, mlp: 128, vocab: 512 }\n";
        SearchSpace::from_yaml(&format!("{shape}{rest}")).unwrap()
    }

    #[test]
    fn a_ladder_is_short_however_long_the_lists_are() {
        let shape = "shape: { layers: 64, hidden: 64, heads: 64, kv_heads: 64, head_dim: 8, mlp: 512, vocab: 512 }\n";
        let all =
            |count: usize, step: usize| (1..=count).map(|n| (n * step).to_string()).collect::<Vec<_>>().join(", ");
        let lists = format!("depth: [{}]\nheads: [{}]\nmlp: [{}]\n", all(64, 1), all(64, 1), all(64, 8));
        let space = SearchSpace::from_yaml(&format!("{shape}{lists}")).unwrap();
        let ladder = space.uniform_ladder();
        assert!((1000..=RUNGS).contains(&ladder.len()), "{}", ladder.len());
        assert_eq!((&ladder[0], ladder.last()), (&space.largest(), Some(&space.smallest())));
        assert_eq!(
            (evenly(&[0, 1, 2, 3, 4], 3), evenly(&[0, 1, 2, 3], 4), evenly(&[0, 1, 2], 1), evenly::<i32>(&[], 0)),
            (vec![0, 2, 4], vec![0, 1, 2, 3], vec![2], vec![])
        );
        assert_eq!(thinned([4, 5, 3]), [4, 5, 3], "short lists are taken whole");
    }

    #[test]
    fn leaves_members_alone_and_makes_anything_else_a_member() {
        for space in small_spaces() {
            for network in enumerate(&space).1 {
                assert_eq!(space.repair(&network), network, "{space:?}");
            }
            for stranger in ["9x9@q5_0*3", "-*3", "-:1x1:-", "0x4:4x0:1x1", "4x4", "4294967295x4294967295*9"] {
                let repaired = space.repair(&stranger.parse().unwrap());
                assert!(space.contains(&repaired), "{stranger} became {repaired} in {space:?}");
            }
        }
    }

    #[test]
    fn repairs_to_the_member_that_changes_least() {
        let space = space("depth: [2, 3, 4]\nheads: [2, 4]\nmlp: [64, 128]\nbits: [4, 16]\n")
            .with_drop_order(&[2, 1, 0, 3])
            .unwrap();
        let repaired = |text: &str| space.repair(&text.parse().unwrap()).to_string();
        assert_eq!(repaired("3x70@q5_0*4"), "4x64@4*4");
        assert_eq!(repaired("4x128*2:-:4x128"), "4x128*2:-:4x128");
        // Layer 1 goes second: bringing it back at its narrowest changes less than dropping layer 2 whole.
        assert_eq!(repaired("4x128:-:4x128*2"), "4x128:2x64:4x128*2");
        // A narrow layer 2 is nearer to none than an absent layer 1 is to a narrow one.
        assert_eq!(repaired("4x128:-:2x32:4x128"), "4x128:-*2:4x128");
    }

    #[test]
    fn climbs_down_one_axis_before_two() {
        let space =
            space("depth: [3, 4]\nheads: [0, 2, 4]\nmlp: [64, 128]\nlayers: { 0: { heads: [4], mlp: [128] } }\n");
        let ladder: Vec<String> = space.uniform_ladder().iter().map(ToString::to_string).collect();
        assert_eq!(
            ladder,
            [
                "4x128*4",
                "4x128:2x128*3",
                "4x128:4x64*3",
                "4x128*3:-",
                "4x128:2x128*2:-",
                "4x128:2x64*3",
                "4x128:4x64*2:-",
                "4x128:2x64*2:-",
            ]
        );
    }

    #[test]
    fn builds_its_ladder_of_members_only() {
        for space in small_spaces() {
            let ladder = space.uniform_ladder();
            assert!(ladder.iter().all(|rung| space.contains(rung)), "{space:?}");
            assert_eq!(ladder[0], space.largest());
            assert_eq!(ladder.iter().collect::<HashSet<_>>().len(), ladder.len());
        }
    }
}
