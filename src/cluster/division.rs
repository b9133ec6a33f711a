//! Work divided among workers: by chunk, and where that is too coarse along the networks' common starts.
//!
//! What a task costs is the multiplications of the half layers that its networks have not in common with one before them, since a worker
//! walks them as a trie, and of each network's output matrix. Two parts of a chunk's networks compute their common starts twice, so a cut
//! is made where least is in common.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::eval::{ChunkId, Work, half_layers};
use crate::space::{Genome, HalfGene, ModelShape};

/// The least share of a task that a cut leaves on either side.
const LEAST_SHARE: f64 = 0.25;
/// Tasks a worker at most: each has its messages.
const TASKS_A_WORKER: usize = 8;
/// Up to so many tasks each division is looked at.
const MANY: usize = 200;
/// By how much longer than expected a task may take, as a share.
const VARIES: f64 = 0.2;
/// What a division must gain to be taken: the share of the time.
const WORTH: f64 = 0.01;
/// All that is computed twice, as a share of everything, at most.
const MOST_LOST: f64 = 0.25;

/// Networks on a chunk that go to one worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// What is to be scored.
    pub work: Work,
    /// Multiplications.
    pub cost: f64,
    /// Where it is among the networks of its chunk, which are ordered by how they begin: 0 to 1.
    pub place: f64,
}

/// What networks cost on chunks.
pub struct Costs<'a> {
    /// Of the model.
    pub shape: &'a ModelShape,
    /// Tokens of a chunk, and how many of them predict something.
    pub tokens: &'a dyn Fn(ChunkId) -> [usize; 2],
}

impl Costs<'_> {
    /// Multiplications of a half layer, a token.
    fn half(&self, level: usize, half: &HalfGene) -> f64 {
        let ModelShape { hidden, head_dim, .. } = *self.shape;
        let (hidden, head, width) = (hidden as f64, head_dim as f64, f64::from(half.width));
        match level.is_multiple_of(2) {
            true => 2.0 * hidden * head * (width + width / self.shape.group() as f64),
            false => 3.0 * hidden * width,
        }
    }

    /// Of a start's half layers from a level on, a token.
    fn halves(&self, halves: &[HalfGene], from: usize) -> f64 {
        halves.iter().enumerate().skip(from).map(|(level, half)| self.half(level, half)).sum()
    }

    /// Of the output matrix.
    fn head(&self, chunk: ChunkId) -> f64 {
        let [_, rows] = (self.tokens)(chunk);
        (rows * self.shape.hidden * self.shape.vocab) as f64
    }

    fn part(&self, chunk: ChunkId, networks: Vec<(Vec<HalfGene>, Genome)>, before: [usize; 2]) -> Part {
        let [tokens, _] = (self.tokens)(chunk);
        let own = |place: usize| {
            let start = alike(&networks, place);
            tokens.max(1) as f64 * self.halves(&networks[place].0, start) + self.head(chunk)
        };
        let own = (0..networks.len()).map(own).collect::<Vec<f64>>();
        Part { chunk, cost: own.iter().sum(), own, networks, before }
    }

    /// Two parts of two networks or more, cut where these have least in common, not too near an end.
    fn cut(&self, mut part: Part) -> (Part, Part) {
        let mut before = 0.0;
        let mut best: Option<(f64, f64, usize)> = None;
        for place in 1..part.networks.len() {
            before += part.own[place - 1];
            let uneven = (before / part.cost - 0.5).abs();
            let common = self.halves(&part.networks[place].0[..alike(&part.networks, place)], 0);
            // A cut near an end is taken where there is no other.
            let rank = if uneven > 0.5 - LEAST_SHARE { f64::INFINITY } else { common };
            if best.is_none_or(|(least, even, _)| (rank, uneven) < (least, even)) {
                best = Some((rank, uneven, place));
            }
        }
        let (_, _, place) = best.expect("there are two networks");
        let behind = part.networks.split_off(place);
        let [before, all] = part.before;
        (self.part(part.chunk, part.networks, part.before), self.part(part.chunk, behind, [before + place, all]))
    }
}

/// Networks on a chunk, those that begin alike beside each other.
#[derive(Clone, Debug)]
struct Part {
    chunk: ChunkId,
    networks: Vec<(Vec<HalfGene>, Genome)>,
    /// What each costs behind the one before it.
    own: Vec<f64>,
    cost: f64,
    /// How many networks of the chunk are before it, and how many there are.
    before: [usize; 2],
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

/// Work in tasks for so many workers: a chunk each, or less where that lets all of it end sooner. What is computed twice is a quarter of
/// everything at most. Tasks that cost most are the first.
pub fn divided(work: Vec<Work>, costs: &Costs, workers: usize) -> Vec<Offer> {
    let part = |Work { chunk, genomes }| {
        let mut networks: Vec<_> = genomes.into_iter().map(|genome: Genome| (half_layers(&genome), genome)).collect();
        networks.sort_by_key(|(halves, genome)| (genome.ends(), halves.clone()));
        let all = networks.len();
        costs.part(chunk, networks, [0, all])
    };
    let mut parts: Vec<Part> = work.into_iter().map(part).collect();
    parts.sort_by(|a, b| b.cmp(a));
    let most_lost = MOST_LOST * parts.iter().map(|part| part.cost).sum::<f64>();
    let (mut lost, mut ends) = (0.0, end_of(&parts, workers));
    let mut best = parts.clone();
    // A cut may help only with the next ones: the best of all divisions is taken. Of very many not each is looked at.
    while workers > 1 && parts.len() < TASKS_A_WORKER * workers {
        let Some(place) = parts.iter().position(|part| part.networks.len() > 1) else { break };
        let whole = parts.remove(place);
        let cost = whole.cost;
        let (one, other) = costs.cut(whole);
        lost += one.cost + other.cost - cost;
        if lost > most_lost {
            break;
        }
        for part in [one, other] {
            let place = parts.partition_point(|there| *there > part);
            parts.insert(place, part);
        }
        if parts.len().is_multiple_of(1 + parts.len() / MANY) {
            let end = end_of(&parts, workers);
            if end < ends * (1.0 - WORTH) {
                ends = end;
                best.clone_from(&parts);
            }
        }
    }
    let offer = |Part { chunk, networks, cost, before: [before, all], .. }: Part| {
        let place = (before as f64 + 0.5 * networks.len() as f64) / all as f64;
        let genomes = networks.into_iter().map(|(_, genome)| genome).collect();
        Offer { work: Work { chunk, genomes }, cost, place }
    };
    best.into_iter().map(offer).collect()
}

/// When the last of so many workers ends, who each take the next part when they are free: on average equally fast, but one may take
/// longer for the largest part.
fn end_of(parts: &[Part], workers: usize) -> f64 {
    // Costs are positive, so that their bits are in their order.
    let mut free: BinaryHeap<Reverse<u64>> = (0..workers.max(1)).map(|_| Reverse(0.0_f64.to_bits())).collect();
    let mut last = 0.0_f64;
    for part in parts {
        let Reverse(begins) = free.pop().expect("there is a worker");
        let end = f64::from_bits(begins) + part.cost;
        last = last.max(end);
        free.push(Reverse(end.to_bits()));
    }
    last + VARIES * parts.first().map_or(0.0, |largest| largest.cost)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::space::shape::tests::TINY;

    const CHUNK: ChunkId = ChunkId { set: 0, chunk: 0 };

    /// Multiplications of a layer with so many heads and channels, a token: four matrices, two of them for keys and values, and three.
    fn layer(heads: usize, mlp: usize) -> f64 {
        let attention = 2 * TINY.hidden * TINY.head_dim * (heads + heads / TINY.group());
        (attention + 3 * TINY.hidden * mlp) as f64
    }

    fn divided(work: Vec<Work>, tokens: &dyn Fn(ChunkId) -> usize, workers: usize) -> Vec<Offer> {
        super::divided(work, &Costs { shape: &TINY, tokens: &|id| [tokens(id), 0] }, workers)
    }

    fn work(chunks: usize, genomes: &[&str]) -> Vec<Work> {
        let genomes: Vec<Genome> = genomes.iter().map(|text| text.parse().unwrap()).collect();
        (0..chunks).map(|chunk| Work { chunk: ChunkId { set: 0, chunk }, genomes: genomes.clone() }).collect()
    }

    #[test]
    fn chunks_are_enough_where_there_are_many() {
        let offers = divided(work(40, &["4x128*4", "2x64*4"]), &|_| 100, 2);
        assert_eq!(offers.len(), 40);
        let cost = 100.0 * 4.0 * (layer(4, 128) + layer(2, 64));
        assert!(offers.iter().all(|offer| offer.work.genomes.len() == 2 && offer.cost == cost), "{offers:?}");
        let with_head = Costs { shape: &TINY, tokens: &|_| [100, 10] };
        let offers = super::divided(work(1, &["4x128*4", "2x64*4"]), &with_head, 1);
        assert_eq!(offers[0].cost, cost + 2.0 * (10 * TINY.hidden * TINY.vocab) as f64);
    }

    #[test]
    fn a_cut_is_where_networks_part_and_keeps_all_of_them() {
        // Two families, which part in the first layer; their members in the last.
        let genomes = ["4x128*3:4x64", "4x128*3:2x64", "4x128*3:2x32", "2x128*3:4x64", "2x128*3:2x64", "2x128*3:2x32"];
        let offers = divided(work(1, &genomes), &|_| 10, 2);
        assert!(offers.len() >= 2, "{offers:?}");
        for offer in &offers[..2] {
            let first: BTreeSet<String> =
                offer.work.genomes.iter().map(|genome| genome.to_string()[..1].to_string()).collect();
            assert_eq!(first.len(), 1, "{offers:?}");
        }
        let whole = divided(work(1, &genomes), &|_| 10, 1);
        let cost = |offers: &[Offer]| offers.iter().map(|offer| offer.cost).sum::<f64>();
        assert!(cost(&offers) <= 1.25 * cost(&whole), "a quarter at most is computed twice: {offers:?}");
    }

    #[test]
    fn cuts_end_where_too_much_would_be_computed_twice() {
        let alike = ["4x128*3:4x128", "4x128*3:4x64", "4x128*3:4x32", "4x128*3:4x16"];
        let offers = divided(work(1, &alike), &|_| 10, 64);
        assert_eq!(offers.len(), 1, "the first cut would compute most of it twice: {offers:?}");
        let apart = ["4x128*4", "3x128*4", "2x128*4", "1x128*4"];
        assert_eq!(divided(work(1, &apart), &|_| 10, 64).len(), 4, "there are no more than networks");
        assert_eq!(divided(Vec::new(), &|_| 10, 4), []);
    }

    #[test]
    fn many_workers_end_nearly_together() {
        let genomes: Vec<String> = (0..48).map(|n| format!("{}x{}*4", 1 + n % 4, 16 * (1 + n / 4))).collect();
        let genomes: Vec<&str> = genomes.iter().map(String::as_str).collect();
        for workers in [2, 5, 8] {
            let whole = divided(work(3, &genomes), &|_| 100, 1);
            let all: f64 = whole.iter().map(|offer| offer.cost).sum();
            let offers = divided(work(3, &genomes), &|_| 100, workers);
            let mut free = vec![0.0; workers];
            for offer in &offers {
                let next = (0..workers).min_by(|&a, &b| f64::total_cmp(&free[a], &free[b])).unwrap();
                free[next] += offer.cost;
            }
            let end = free.iter().copied().fold(0.0, f64::max);
            assert!(end < 1.1 * all / workers as f64, "{workers} workers: {end}, {all}");
        }
    }

    #[test]
    fn all_networks_are_offered_once_and_always_alike() {
        let genomes: Vec<String> =
            (0..60).map(|n| format!("{}x{}*2:4x{}*2", 1 + n % 4, 16 * (1 + n % 3), 16 * (1 + n / 12))).collect();
        let genomes: Vec<&str> = genomes.iter().map(String::as_str).collect();
        for workers in [1, 3, 7, 40] {
            let offers = divided(work(3, &genomes), &|id| 100 + id.chunk, workers);
            assert_eq!(offers, divided(work(3, &genomes), &|id| 100 + id.chunk, workers));
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
                assert_eq!(of_chunk.len(), genomes.len(), "{workers} workers, chunk {chunk}");
            }
        }
    }
}
