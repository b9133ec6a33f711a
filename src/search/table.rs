//! Points as a table of places: what non-dominated sorting needs to know about them.

use super::ascending::ascending;

/// Distinct points in lexicographic order, each value replaced by its place among the objective's distinct
/// values: dominance is the same, and sorting compares integers.
pub(super) struct Table {
    pub(super) objectives: usize,
    /// `len x objectives` places, row by row.
    cells: Vec<u32>,
    /// Distinct points.
    pub(super) len: usize,
    /// The row of each of the caller's points.
    pub(super) row_of: Vec<u32>,
}

impl Table {
    /// A table of `len` points from one column of [keys](super::ascending::key) an objective.
    pub(super) fn new(len: usize, columns: &[Vec<u64>]) -> Table {
        let objectives = columns.len();
        let mut places = vec![0u32; len * objectives];
        let mut order: Vec<u32> = (0..len as u32).collect();
        for (objective, keys) in columns.iter().enumerate().rev() {
            order = ascending(keys);
            let (mut place, mut last) = (0, order.first().map_or(0, |&point| keys[point as usize]));
            for &point in &order {
                let key = keys[point as usize];
                place += u32::from(key != last);
                last = key;
                places[point as usize * objectives + objective] = place;
            }
        }
        // By the first objective so far; equals by the others.
        let row = |point: u32| &places[point as usize * objectives..(point as usize + 1) * objectives];
        for ties in order.chunk_by_mut(|&a, &b| row(a).first() == row(b).first()) {
            if ties.len() > 1 {
                ties.sort_unstable_by(|&a, &b| row(a).cmp(row(b)));
            }
        }
        let mut table = Table { objectives, cells: Vec::with_capacity(places.len()), len: 0, row_of: vec![0; len] };
        let mut last: Option<&[u32]> = None;
        for &point in &order {
            if last != Some(row(point)) {
                last = Some(row(point));
                table.cells.extend_from_slice(row(point));
                table.len += 1;
            }
            table.row_of[point as usize] = table.len as u32 - 1;
        }
        table
    }

    /// The places of a row, one an objective.
    pub(super) fn row(&self, row: usize) -> &[u32] {
        &self.cells[row * self.objectives..(row + 1) * self.objectives]
    }

    pub(super) fn cell(&self, row: usize, objective: usize) -> u32 {
        self.cells[row * self.objectives + objective]
    }
}
