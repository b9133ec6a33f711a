//! Work divided among workers: by chunk, and where that is too coarse along the networks' common starts.
//!
//! What a task costs is tokens times the half layers that its networks have not in common with one before them: a worker walks them as
//! a trie. Two parts of a chunk's networks compute their common starts twice, so a cut is made where least is in common.

use std::collections::BinaryHeap;

use crate::eval::{ChunkId, Work, half_layers};
use crate::space::{Genome, HalfGene};

/// The least share of a task that a cut leaves on either side.
const LEAST_SHARE: f64 = 0.25;
/// All that is computed twice, as a share of everything, at most.
const MOST_LOST: f64 = 0.25;

/// Networks on a chunk that go to one worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// What is to be scored.
    pub work: Work,
    /// Half layers times tokens.
    pub cost: f64,
}

/// Networks on a chunk, those that begin alike beside each other.
#[derive(Debug)]
struct Part {
    chunk: ChunkId,
    tokens: f64,
    networks: Vec<(Vec<HalfGene>, Genome)>,
    cost: f64,
}

impl PartialEq for Part {
    fn eq(&self, other: &Part) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Part {}

impl PartialOrd for Part {
    fn partial_cmp(&self, other: &Part) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Part {
    fn cmp(&self, other: &Part) -> std::cmp::Ordering {
        // Of equals the first chunk, and in it the first networks, so that a division is always the same.
        let place = |part: &Part| (part.chunk, part.networks.first().map(|(_, genome)| genome.clone()));
        self.cost.total_cmp(&other.cost).then_with(|| place(other).cmp(&place(self)))
    }
}

impl Part {
    fn new(chunk: ChunkId, tokens: f64, networks: Vec<(Vec<HalfGene>, Genome)>) -> Part {
        let cost = tokens * (0..networks.len()).map(|place| own(&networks, place) as f64).sum::<f64>();
        Part { chunk, tokens, networks, cost }
    }

    /// Two parts, cut where the networks have least in common, not too near an end; `None` where there is nothing to cut.
    fn cut(mut self) -> Result<(Part, Part), Part> {
        let all = self.cost / self.tokens;
        let mut before = 0.0;
        let mut best: Option<(usize, f64, usize)> = None;
        for place in 1..self.networks.len() {
            before += own(&self.networks, place - 1) as f64;
            let uneven = (before / all - 0.5).abs();
            let common = layers(&self.networks[place].0[..alike(&self.networks, place)]);
            // A cut near an end is taken where there is no other.
            let far = uneven > 0.5 - LEAST_SHARE;
            let rank = if far { usize::MAX } else { common };
            if best.is_none_or(|(least, even, _)| (rank, uneven) < (least, even)) {
                best = Some((rank, uneven, place));
            }
        }
        let Some((_, _, place)) = best else { return Err(self) };
        let behind = self.networks.split_off(place);
        Ok((Part::new(self.chunk, self.tokens, self.networks), Part::new(self.chunk, self.tokens, behind)))
    }
}

/// Half layers of the start that a network has in common with the one before it.
fn alike(networks: &[(Vec<HalfGene>, Genome)], place: usize) -> usize {
    let Some(before) = place.checked_sub(1) else { return 0 };
    let ((ours, genome), (theirs, other)) = (&networks[place], &networks[before]);
    // Those that differ before or behind the layers are walked by themselves.
    if genome.ends() != other.ends() {
        return 0;
    }
    ours.iter().zip(theirs).take_while(|(a, b)| a == b).count()
}

/// Half layers that a network does not share with the one before it.
fn own(networks: &[(Vec<HalfGene>, Genome)], place: usize) -> usize {
    layers(&networks[place].0[alike(networks, place)..])
}

/// Those that are not dropped.
fn layers(halves: &[HalfGene]) -> usize {
    halves.iter().filter(|half| half.width > 0).count()
}

/// Work in `parts` tasks or more, as long as what is computed twice stays small: a quarter of everything. Tasks that cost most are the first.
pub fn divided(work: Vec<Work>, tokens: &dyn Fn(ChunkId) -> usize, parts: usize) -> Vec<Offer> {
    let part = |Work { chunk, genomes }| {
        let mut networks: Vec<_> = genomes.into_iter().map(|genome: Genome| (half_layers(&genome), genome)).collect();
        networks.sort_by_key(|(halves, genome)| (genome.ends(), halves.clone()));
        Part::new(chunk, tokens(chunk).max(1) as f64, networks)
    };
    let mut whole: BinaryHeap<Part> = work.into_iter().map(part).collect();
    let all: f64 = whole.iter().map(|part| part.cost).sum();
    let (mut done, mut lost) = (Vec::new(), 0.0);
    while whole.len() + done.len() < parts {
        let Some(largest) = whole.pop() else { break };
        let cost = largest.cost;
        match largest.cut() {
            Ok((one, other)) => {
                lost += one.cost + other.cost - cost;
                whole.extend([one, other]);
                if lost > MOST_LOST * all {
                    break;
                }
            }
            Err(single) => done.push(single),
        }
    }
    let mut parts: Vec<Part> = whole.into_iter().chain(done).collect();
    parts.sort_by(|a, b| b.cmp(a));
    let offer = |Part { chunk, networks, cost, .. }: Part| {
        let genomes = networks.into_iter().map(|(_, genome)| genome).collect();
        Offer { work: Work { chunk, genomes }, cost }
    };
    parts.into_iter().map(offer).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const CHUNK: ChunkId = ChunkId { set: 0, chunk: 0 };

    fn work(chunks: usize, genomes: &[&str]) -> Vec<Work> {
        let genomes: Vec<Genome> = genomes.iter().map(|text| text.parse().unwrap()).collect();
        (0..chunks).map(|chunk| Work { chunk: ChunkId { set: 0, chunk }, genomes: genomes.clone() }).collect()
    }

    #[test]
    fn chunks_are_enough_where_there_are_many() {
        let offers = divided(work(8, &["4x128*4", "2x64*4"]), &|_| 100, 8);
        assert_eq!(offers.len(), 8);
        assert!(offers.iter().all(|offer| offer.work.genomes.len() == 2 && offer.cost == 1600.0), "{offers:?}");
    }

    #[test]
    fn a_cut_is_where_networks_part_and_keeps_all_of_them() {
        // Two families, which part in the first layer; their members in the last.
        let genomes = ["4x128*3:4x64", "4x128*3:2x64", "4x128*3:2x32", "2x128*3:4x64", "2x128*3:2x64", "2x128*3:2x32"];
        let offers = divided(work(1, &genomes), &|_| 10, 2);
        assert_eq!(offers.len(), 2);
        for offer in &offers {
            let first: BTreeSet<String> =
                offer.work.genomes.iter().map(|genome| genome.to_string()[..1].to_string()).collect();
            assert_eq!((first.len(), offer.work.genomes.len()), (1, 3), "{offers:?}");
        }
        let whole = divided(work(1, &genomes), &|_| 10, 1);
        let cost = |offers: &[Offer]| offers.iter().map(|offer| offer.cost).sum::<f64>();
        assert_eq!(cost(&offers), cost(&whole), "nothing is computed twice");
    }

    #[test]
    fn cuts_end_where_too_much_would_be_computed_twice() {
        let alike = ["4x128*3:4x128", "4x128*3:4x64", "4x128*3:4x32", "4x128*3:4x16"];
        let offers = divided(work(1, &alike), &|_| 10, 64);
        let (all, offered) = (11.0, offers.iter().map(|offer| offer.cost / 10.0).sum::<f64>());
        assert!(offers.len() < 4 && offered <= 1.25 * all + 8.0, "{offers:?}");
        let apart = ["4x128*4", "3x128*4", "2x128*4", "1x128*4"];
        assert_eq!(divided(work(1, &apart), &|_| 10, 64).len(), 4, "there are no more than networks");
        assert_eq!(divided(Vec::new(), &|_| 10, 4), []);
    }

    #[test]
    fn all_networks_are_offered_once_and_always_alike() {
        let genomes: Vec<String> =
            (0..60).map(|n| format!("{}x{}*2:4x{}*2", 1 + n % 4, 16 * (1 + n % 3), 16 * (1 + n / 12))).collect();
        let genomes: Vec<&str> = genomes.iter().map(String::as_str).collect();
        for parts in [1, 3, 7, 40] {
            let offers = divided(work(3, &genomes), &|id| 100 + id.chunk, parts);
            assert_eq!(offers, divided(work(3, &genomes), &|id| 100 + id.chunk, parts));
            assert!(offers.is_sorted_by(|a, b| a.cost >= b.cost));
            for chunk in 0..3 {
                let id = ChunkId { chunk, ..CHUNK };
                let mut of_chunk: Vec<&Genome> = offers
                    .iter()
                    .filter(|offer| offer.work.chunk == id)
                    .flat_map(|offer| &offer.work.genomes)
                    .collect();
                of_chunk.sort();
                assert_eq!(of_chunk.len(), genomes.len());
                of_chunk.dedup();
                assert_eq!(of_chunk.len(), genomes.len(), "{parts} parts, chunk {chunk}");
            }
        }
    }
}
