//! The given part of a first population: the extremes and what lies between them.

use std::collections::{BTreeSet, HashSet};

use super::ladders::{uniform_ladder, worthiest};
use crate::search::worth::Worth;
use crate::space::{Bits, Ends, Genome, SearchSpace};

/// The given part of a first population of `count`: the parent (the space's largest network) and the smallest; between them, spread
/// over their sizes, the networks that the ranking thinks best, half of the population together, and evenly narrowed and shallower ones,
/// a quarter, or a half where there is no ranking: what text says is best is not what every task does. Also the largest widths in every
/// other format, and the user's own. Each network once.
pub fn given_networks(space: &SearchSpace, own: &[Genome], worth: Option<&Worth>, count: usize) -> Vec<Genome> {
    match worth {
        Some(worth) => {
            let best = spread_by_size(space, &worthiest(space, worth), (count / 2).saturating_sub(2));
            first_networks(space, own, best.into_iter().chain(spread_by_size(space, &uniform_ladder(space), count / 4)))
        }
        None => {
            let even = spread_by_size(space, &uniform_ladder(space), (count / 2).saturating_sub(2));
            first_networks(space, own, even)
        }
    }
}

/// The extremes and networks between them; the largest widths in every other format; and the user's own.
fn first_networks(space: &SearchSpace, own: &[Genome], between: impl IntoIterator<Item = Genome>) -> Vec<Genome> {
    let mut networks = vec![space.largest(), space.smallest()];
    networks.extend(in_every_format(space));
    networks.extend_from_slice(own);
    networks.extend(between);
    let mut seen = HashSet::new();
    networks.retain(|genome| seen.insert(genome.clone()));
    networks
}

/// The largest widths, everything in one format, for each that layers offer.
fn in_every_format(space: &SearchSpace) -> Vec<Genome> {
    let formats: BTreeSet<Bits> = space.layers().iter().flat_map(|layer| layer.bits.iter().copied()).collect();
    let of = |&bits: &Bits| space.repair(&space.largest().in_bits(bits).with_ends(Ends::both(bits)));
    formats.iter().rev().map(of).collect()
}

/// `count` of the networks, in order, as evenly spread by the logarithm of their size as they allow; the size falls along
/// the slice.
fn spread_by_size(space: &SearchSpace, from: &[Genome], count: usize) -> Vec<Genome> {
    let size = |genome: &Genome| (space.size(genome).max(1) as f64).ln();
    let (Some(first), Some(last)) = (from.first(), from.last()) else { return Vec::new() };
    let (high, low) = (size(first), size(last));
    let mut chosen: Vec<Genome> = (0..count)
        .filter_map(|step| {
            let target = high - (high - low) * (step as f64 + 0.5) / count as f64;
            let distance = |genome: &Genome| (size(genome) - target).abs();
            from.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).cloned()
        })
        .collect();
    chosen.dedup();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Gene;

    #[test]
    fn first_networks_hold_the_largest_in_every_format() {
        let space = SearchSpace::shipped("smollm2-135m-mixed").unwrap();
        let networks = given_networks(&space, &[], None, 8);
        for text in ["E@8:9x1536@8*30", "E@q4_1:9x1536@q4_1*30", "E@4:9x1536@4*30"] {
            assert!(networks.contains(&text.parse().unwrap()), "{text} in {networks:?}");
        }
    }

    #[test]
    fn first_networks_are_spread_over_all_sizes() {
        let space = SearchSpace::shipped("smollm2-135m").unwrap();
        let kept = |_: usize, gene: Gene| f64::from(gene.heads) / 9.0 + f64::from(gene.mlp) / 1536.0;
        let worth = Worth::of(&space, kept);
        for worth in [None, Some(&worth)] {
            let networks = given_networks(&space, &[], worth, 16);
            assert_eq!(networks.len(), if worth.is_some() { 12 } else { 8 });
            let (high, low) = (space.size(&networks[0]) as f64, space.size(&networks[1]) as f64);
            // Behind the extremes stand the ranking's own, then the even ones.
            let between = &networks[2..8];
            let sizes: Vec<f64> =
                between.iter().map(|genome| (space.size(genome) as f64 - low) / (high - low)).collect();
            assert!(sizes[0] > 0.6 && sizes[sizes.len() - 1] < 0.4, "{sizes:?}");
        }
    }

    #[test]
    fn first_networks_are_distinct_and_keep_the_users_own() {
        let space = SearchSpace::open("tiny").unwrap();
        let shallow = space.express(space.depths()[0], space.ends().largest(), |layer| space.layer(layer).largest());
        let own = [space.smallest(), shallow];
        let networks = first_networks(&space, &own, uniform_ladder(&space));
        assert_eq!(networks[..2], [space.largest(), space.smallest()]);
        assert!(own.iter().all(|genome| networks.contains(genome)));
        let distinct: HashSet<_> = networks.iter().collect();
        assert_eq!(distinct.len(), networks.len());
    }
}
