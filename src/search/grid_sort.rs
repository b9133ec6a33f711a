//! Non-dominated sorting of three and four objectives on a grid.
//!
//! Rows come in lexicographic order, so that one can only be dominated by earlier ones, and a row's front is one
//! past the last front of those earlier rows that are nowhere worse on the other objectives. Those objectives
//! are cut into slabs. A table over the cells says how far the fronts of all rows in a cell and below it reach:
//! its entry below a row's cell is a lower bound, its entry at the cell an upper one. Where they differ, only
//! rows that share a slab with the row can decide; these are compared sixteen at a time, latest first, until the
//! upper bound is met or nothing older is in a later front.
//!
//! The bounds are the idea of filtering by cells as in Gustavsson and Syberfeldt, "A new algorithm using the
//! non-dominated tree to improve non-dominated sorting" (2018), with a fixed grid in place of their tree.

use super::table::Table;

/// Places and fronts are 16-bit numbers, and the largest is taken.
pub(super) const MOST_ROWS: usize = i16::MAX as usize;
/// Rows compared together.
const LANES: usize = 16;
const CELLS_A_ROW: f64 = 2.0;

/// The front of each row of a table with one objective more than `K`.
pub(super) fn ranks<const K: usize>(table: &Table) -> Vec<usize> {
    let mut grid = Grid::<K>::new(table);
    (0..table.len)
        .map(|row| {
            let place: [i16; K] = std::array::from_fn(|k| table.cell(row, k + 1) as i16);
            let slab = grid.slab(&place);
            let reach = grid.reach_below(&place, &slab);
            grid.insert(&place, &slab, reach + 1);
            reach as usize
        })
        .collect()
}

/// Rows that share a slab, with `LANES` places of each objective side by side.
struct Block<const K: usize> {
    places: [[i16; LANES]; K],
    /// One more than each row's front; 0 where there is no row.
    reach: [i16; LANES],
    /// The largest of this block's and all earlier ones'.
    reach_so_far: i16,
}

#[derive(Default)]
struct Slab<const K: usize> {
    blocks: Vec<Block<K>>,
    rows: usize,
}

struct Grid<const K: usize> {
    /// Slabs an objective.
    slabs: usize,
    /// For each objective, slabs per place, in units of 2^-32.
    scale: [u64; K],
    /// For each cell, one more than the last front of the rows in it and below, 0 if there are none. There are
    /// `slabs + 1` cells an objective, the first of which are empty.
    reach: Vec<i16>,
    /// The rows of each slab, objective by objective.
    rows: Vec<Slab<K>>,
}

impl<const K: usize> Grid<K> {
    fn new(table: &Table) -> Grid<K> {
        let slabs = slabs::<K>(table.len);
        let scale = std::array::from_fn(|k| {
            let places = (0..table.len).map(|row| table.cell(row, k + 1) + 1).max().unwrap_or(1);
            ((slabs as u64) << 32) / u64::from(places)
        });
        let rows = std::iter::repeat_with(|| Slab { blocks: Vec::new(), rows: 0 }).take(K * slabs).collect();
        Grid { slabs, scale, reach: vec![0; (slabs + 1).pow(K as u32)], rows }
    }

    fn slab(&self, place: &[i16; K]) -> [usize; K] {
        std::array::from_fn(|k| (place[k] as u64 * self.scale[k] >> 32) as usize)
    }

    /// Where the cell of these slabs is in `reach`, less one on every objective.
    fn cell_below(&self, slab: &[usize; K]) -> usize {
        slab.iter().fold(0, |cell, slab| cell * (self.slabs + 1) + slab)
    }

    /// From a cell to the one above it on all objectives.
    fn diagonal(&self) -> usize {
        (0..K).fold(0, |cell, _| cell * (self.slabs + 1) + 1)
    }

    /// One more than the last front of the rows that are nowhere worse than `place`; 0 if there are none.
    fn reach_below(&self, place: &[i16; K], slab: &[usize; K]) -> i16 {
        let cell = self.cell_below(slab);
        let (mut reach, bound) = (self.reach[cell], self.reach[cell + self.diagonal()]);
        for k in 0..K {
            if reach == bound {
                break;
            }
            reach = self.rows[k * self.slabs + slab[k]].reach_below(place, reach, bound);
        }
        reach
    }

    fn insert(&mut self, place: &[i16; K], slab: &[usize; K], reach: i16) {
        for k in 0..K {
            self.rows[k * self.slabs + slab[k]].push(place, reach);
        }
        let start = self.cell_below(slab) + self.diagonal();
        self.raise(0, start, slab, reach);
    }

    /// Raises the cell and those above it on the objectives from `k` on. What is above a cell that reaches as far
    /// does too.
    fn raise(&mut self, k: usize, mut cell: usize, slab: &[usize; K], reach: i16) {
        if k + 1 == K {
            for cell in &mut self.reach[cell..cell + self.slabs - slab[k]] {
                if *cell >= reach {
                    break;
                }
                *cell = reach;
            }
            return;
        }
        let stride = (self.slabs + 1).pow((K - 1 - k) as u32);
        for _ in slab[k]..self.slabs {
            if self.reach[cell] >= reach {
                break;
            }
            self.raise(k + 1, cell, slab, reach);
            cell += stride;
        }
    }
}

impl<const K: usize> Slab<K> {
    fn push(&mut self, place: &[i16; K], reach: i16) {
        let lane = self.rows % LANES;
        let so_far = self.blocks.last().map_or(0, |block| block.reach_so_far).max(reach);
        if lane == 0 {
            self.blocks.push(Block { places: [[i16::MAX; LANES]; K], reach: [0; LANES], reach_so_far: 0 });
        }
        if let Some(block) = self.blocks.last_mut() {
            (0..K).for_each(|k| block.places[k][lane] = place[k]);
            block.reach[lane] = reach;
            block.reach_so_far = so_far;
        }
        self.rows += 1;
    }

    /// The larger of `reach` and what those of these rows reach that are nowhere worse than `place`.
    fn reach_below(&self, place: &[i16; K], mut reach: i16, bound: i16) -> i16 {
        for block in self.blocks.iter().rev() {
            if block.reach_so_far <= reach || reach == bound {
                break;
            }
            let mut reaches = [0i16; LANES];
            for lane in 0..LANES {
                let mut worse = 0;
                for k in 0..K {
                    worse |= -i16::from(block.places[k][lane] > place[k]);
                }
                reaches[lane] = block.reach[lane] & !worse;
            }
            reach = reaches.iter().fold(reach, |most, &one| most.max(one));
        }
        reach
    }
}

/// How many slabs to cut an objective into: the grid has a few cells for each row.
fn slabs<const K: usize>(rows: usize) -> usize {
    ((rows as f64 * CELLS_A_ROW).powf(1.0 / K as f64) as usize).clamp(4, 255)
}
