//! Non-dominated sorting of any number of objectives by sets of bits.
//!
//! The points that dominate a point are the intersection of one prefix of each objective's order, as in Moreno
//! et al., "Merge non-dominated sorting algorithm for many-objective optimization" (2020), here with check
//! points instead of whole tables so that memory stays O(N M), and with the binary search over fronts of Zhang
//! et al., "An efficient approach to nondominated sorting" (2015). That is O(M N² / 64) word operations at worst.

use super::ranks::Table;

/// The front of each row. Only earlier rows can dominate a row, and because rows are distinct, an earlier row
/// that is nowhere worse does.
pub(super) fn ranks(table: &Table) -> Vec<usize> {
    let prefixes: Vec<Prefixes> = table.columns.iter().map(|places| Prefixes::new(places)).collect();
    let words = table.len.div_ceil(64);
    let (mut dominators, mut narrowed) = (vec![0u64; words], vec![0u64; words]);
    let mut fronts: Vec<Members> = Vec::new();
    (0..table.len)
        .map(|row| {
            let used = row / 64 + 1;
            dominators[..used].fill(u64::MAX);
            dominators[used - 1] = (1 << (row % 64)) - 1;
            for prefix in &prefixes {
                prefix.intersect(row, &dominators[..used], &mut narrowed[..used]);
                std::mem::swap(&mut dominators, &mut narrowed);
            }
            let rank = fronts.partition_point(|front| front.meets(&dominators[..used]));
            if rank == fronts.len() {
                fronts.push(Members::default());
            }
            fronts[rank].push(row, words);
            rank
        })
        .collect()
}

/// For one objective, the rows that are no worse than a given row, as a set of bits: a check point every
/// `step` rows of the objective's order, and the few rows from there on.
struct Prefixes {
    step: usize,
    words: usize,
    /// Rows by the objective's value.
    order: Vec<u32>,
    /// For each row, how many rows are no worse.
    ends: Vec<u32>,
    /// The first 0, `step`, 2 `step` .. rows of `order`, `words` words each.
    check_points: Vec<u64>,
}

impl Prefixes {
    /// At most this many check points: their memory is a constant number of bytes a point.
    const CHECK_POINTS: usize = 256;

    fn new(places: &[u32]) -> Prefixes {
        let len = places.len();
        let words = len.div_ceil(64);
        let step = len.div_ceil(Prefixes::CHECK_POINTS).max(64);
        let mut order: Vec<u32> = (0..len as u32).collect();
        order.sort_by_key(|&row| places[row as usize]);
        let mut ends = vec![0; len];
        let mut end = 0;
        for ties in order.chunk_by(|&a, &b| places[a as usize] == places[b as usize]) {
            end += ties.len() as u32;
            ties.iter().for_each(|&row| ends[row as usize] = end);
        }
        let mut prefix = vec![0u64; words];
        let mut check_points = prefix.clone();
        for rows in order.chunks_exact(step) {
            rows.iter().for_each(|&row| prefix[row as usize / 64] |= 1 << (row % 64));
            check_points.extend_from_slice(&prefix);
        }
        Prefixes { step, words, order, ends, check_points }
    }

    /// Writes to `to` those of the rows `from` that are no worse than `row`.
    fn intersect(&self, row: usize, from: &[u64], to: &mut [u64]) {
        let end = self.ends[row] as usize;
        let check_point = end / self.step;
        let known = &self.check_points[check_point * self.words..];
        for ((to, from), known) in to.iter_mut().zip(from).zip(known) {
            *to = from & known;
        }
        for &other in &self.order[check_point * self.step..end] {
            let (word, bit) = (other as usize / 64, 1 << (other % 64));
            if word < to.len() {
                to[word] |= from[word] & bit;
            }
        }
    }
}

/// The rows of a front: a list, and once that takes longer to walk also a set of bits, so that asking costs
/// O(N / 64) and all fronts together take O(N) memory.
#[derive(Default)]
struct Members {
    list: Vec<u32>,
    bits: Vec<u64>,
}

impl Members {
    /// About as many words of bits are compared in the time of one look-up.
    const WORDS_A_MEMBER: usize = 4;

    fn push(&mut self, row: usize, words: usize) {
        self.list.push(row as u32);
        if self.list.len() * Members::WORDS_A_MEMBER > words && self.bits.is_empty() {
            self.bits = vec![0; words];
            for &member in &self.list {
                self.bits[member as usize / 64] |= 1 << (member % 64);
            }
        } else if let Some(word) = self.bits.get_mut(row / 64) {
            *word |= 1 << (row % 64);
        }
    }

    fn meets(&self, rows: &[u64]) -> bool {
        if self.bits.is_empty() {
            self.list.iter().any(|&member| rows[member as usize / 64] >> (member % 64) & 1 == 1)
        } else {
            // Eight words at a time, so that the compiler can compare them in one go.
            let common = |(members, rows): (&[u64], &[u64])| {
                members.iter().zip(rows).fold(0, |common, (members, rows)| common | members & rows)
            };
            self.bits.chunks(8).zip(rows.chunks(8)).any(|eight| common(eight) != 0)
        }
    }
}
