//! Points as a table of places: what non-dominated sorting needs to know about them.

use super::radix::ascending;

/// Distinct points in lexicographic order, each value replaced by its place among the objective's distinct
/// values: dominance is the same, and sorting compares integers.
pub(super) struct Table {
    /// For each objective but the first, whose order is that of the rows, the place of each row.
    pub(super) columns: Vec<Vec<u32>>,
    /// Distinct points.
    pub(super) len: usize,
    /// The row of each of the caller's points.
    pub(super) row_of: Vec<u32>,
}

impl Table {
    /// A table of `len` points from one column of [keys](super::radix::key) an objective.
    pub(super) fn new(len: usize, columns: &[Vec<u64>]) -> Table {
        let mut order = columns.first().map_or_else(|| (0..len as u32).collect(), |first| ascending(first));
        if let Some((first, others)) = columns.split_first() {
            for ties in order.chunk_by_mut(|&a, &b| first[a as usize] == first[b as usize]) {
                if ties.len() > 1 {
                    let rest = |point: u32| others.iter().map(move |keys| keys[point as usize]);
                    ties.sort_unstable_by(|&a, &b| rest(a).cmp(rest(b)));
                }
            }
        }
        // From here on `order` holds one point a row.
        let mut row_of = vec![0; len];
        let mut rows = 0;
        for next in 0..len {
            let point = order[next];
            let differs = |last: u32| columns.iter().any(|keys| keys[last as usize] != keys[point as usize]);
            if rows == 0 || differs(order[rows - 1]) {
                order[rows] = point;
                rows += 1;
            }
            row_of[point as usize] = rows as u32 - 1;
        }
        order.truncate(rows);
        let places = |keys: &Vec<u64>| places(&order.iter().map(|&point| keys[point as usize]).collect::<Vec<_>>());
        Table { columns: columns.iter().skip(1).map(places).collect(), len: rows, row_of }
    }
}

/// The place of each key among the distinct keys.
fn places(keys: &[u64]) -> Vec<u32> {
    let mut places = vec![0; keys.len()];
    let (mut place, mut last) = (0, None);
    for row in ascending(keys) {
        let key = keys[row as usize];
        place += u32::from(last.is_some_and(|last| last != key));
        last = Some(key);
        places[row as usize] = place;
    }
    places
}
