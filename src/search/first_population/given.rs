//! The given part of a first population: the extremes and what lies between them.

use std::collections::{BTreeSet, HashSet};

use super::ladders::{Kept, greedy_ladder, uniform_ladder};
use crate::space::{Bits, Ends, Genome, SearchSpace};

/// The given part of a first population of `count` by ladders: the parent (the space's largest network), the smallest, and
/// networks of both ladders, spread over their sizes, half of the population together; the largest widths in every other format;
/// and the user's own. Each network once.
pub fn between_extremes(space: &SearchSpace, own: &[Genome], importance: Option<&Kept>, count: usize) -> Vec<Genome> {
    let greedy = importance.map_or_else(Vec::new, |kept| greedy_ladder(space, kept));
    first_networks(space, own, [greedy, uniform_ladder(space, importance)], (count / 2).max(2))
}

/// The parent (the space's largest network), the smallest, and networks of both ladders,
/// spread over their sizes, `count` of them together; the largest widths in every other format; and the user's own. Each network
/// once.
fn first_networks(space: &SearchSpace, own: &[Genome], ladders: [Vec<Genome>; 2], count: usize) -> Vec<Genome> {
    let mut networks = vec![space.largest(), space.smallest()];
    networks.extend(in_every_format(space));
    networks.extend_from_slice(own);
    let room = count.saturating_sub(2);
    let filled = ladders.iter().filter(|ladder| !ladder.is_empty()).count().max(1);
    let shares = if filled < 2 { [room; 2] } else { [room.div_ceil(2), room / 2] };
    for (ladder, share) in ladders.iter().zip(shares) {
        networks.extend(spread_by_size(space, ladder, share));
    }
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
        let networks = first_networks(&space, &[], [vec![], uniform_ladder(&space, None)], 4);
        for text in ["E@8:9x1536@8*30", "E@q4_1:9x1536@q4_1*30", "E@4:9x1536@4*30"] {
            assert!(networks.contains(&text.parse().unwrap()), "{text} in {networks:?}");
        }
    }

    #[test]
    fn first_networks_take_from_the_whole_of_each_ladder() {
        let space = SearchSpace::shipped("smollm2-135m").unwrap();
        let kept = |_: usize, gene: Gene| f64::from(gene.heads) / 9.0 + f64::from(gene.mlp) / 1536.0;
        let ladders = [greedy_ladder(&space, &kept), uniform_ladder(&space, Some(&kept))];
        let networks = first_networks(&space, &[], ladders, 10);
        assert_eq!(networks.len(), 10);
        let (high, low) = (space.size(&networks[0]) as f64, space.size(&networks[1]) as f64);
        for of in [&networks[2..6], &networks[6..]] {
            let sizes: Vec<f64> = of.iter().map(|genome| (space.size(genome) as f64 - low) / (high - low)).collect();
            assert!(sizes[0] > 0.6 && sizes[3] < 0.4, "{sizes:?}");
        }
    }

    #[test]
    fn first_networks_are_distinct_and_keep_the_users_own() {
        let space = SearchSpace::open("tiny").unwrap();
        let shallow = space.express(space.depths()[0], space.ends().largest(), |layer| space.layer(layer).largest());
        let own = [space.smallest(), shallow];
        let ladders = [uniform_ladder(&space, None), uniform_ladder(&space, None)];
        let networks = first_networks(&space, &own, ladders, 4);
        assert_eq!(networks[..2], [space.largest(), space.smallest()]);
        assert!(own.iter().all(|genome| networks.contains(genome)));
        let distinct: HashSet<_> = networks.iter().collect();
        assert_eq!(distinct.len(), networks.len());
    }
}
