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

use super::ranks::Table;

/// Places and fronts are 16-bit numbers, and the largest is taken.
pub(super) const MOST_ROWS: usize = i16::MAX as usize;
/// Rows compared together.
const LANES: usize = 16;
const CELLS_A_ROW: f64 = 1.0;

/// The front of each row of a table with one objective more than `K`.
pub(super) fn ranks<const K: usize>(table: &Table) -> Vec<usize> {
    let mut grid = Grid::<K>::new(table);
    (0..table.len)
        .map(|row| {
            let place: [i16; K] = std::array::from_fn(|k| table.columns[k][row] as i16);
            let slab = grid.slab(&place);
            let reach = grid.reach_below(&place, &slab);
            grid.insert(&place, &slab, reach + 1);
            reach as usize
        })
        .collect()
}

/// Rows that share a slab, with `LANES` places of each objective side by side.
#[derive(Clone)]
struct Block<const K: usize> {
    places: [[i16; LANES]; K],
    /// One more than each row's front; 0 where there is no row.
    reach: [i16; LANES],
    /// The largest of this block's and those before it in the slab.
    reach_so_far: i16,
}

/// Where the rows of a slab are.
#[derive(Clone, Copy, Default)]
struct Slab {
    first_block: usize,
    rows: usize,
}

struct Grid<const K: usize> {
    /// Slabs an objective.
    slabs: usize,
    /// For each objective, slabs per place, in units of 2^-32.
    scale: [u64; K],
    /// For each objective, how far the next cell is in `reach`.
    stride: [usize; K],
    /// For each cell, one more than the last front of the rows in it and below, 0 if there are none. There are
    /// `slabs + 1` cells an objective, the first of which are empty.
    reach: Vec<i16>,
    /// The slabs of each objective.
    rows: [Vec<Slab>; K],
    blocks: Vec<Block<K>>,
}

impl<const K: usize> Grid<K> {
    fn new(table: &Table) -> Grid<K> {
        let slabs = slabs::<K>(table.len);
        let scale = std::array::from_fn(|k| {
            let places = table.columns[k].iter().max().map_or(1, |&last| last + 1);
            ((slabs as u64) << 32) / u64::from(places)
        });
        let mut first_block = 0;
        let rows = std::array::from_fn(|k| {
            let mut sizes = vec![0usize; slabs];
            table.columns[k].iter().for_each(|&place| sizes[slab_of(place, scale[k])] += 1);
            let place = |size: usize| {
                let slab = Slab { first_block, rows: 0 };
                first_block += size.div_ceil(LANES);
                slab
            };
            sizes.into_iter().map(place).collect()
        });
        let empty = Block { places: [[i16::MAX; LANES]; K], reach: [0; LANES], reach_so_far: 0 };
        Grid {
            slabs,
            scale,
            stride: std::array::from_fn(|k| (slabs + 1).pow((K - 1 - k) as u32)),
            reach: vec![0; (slabs + 1).pow(K as u32)],
            rows,
            blocks: vec![empty; first_block],
        }
    }

    fn slab(&self, place: &[i16; K]) -> [usize; K] {
        std::array::from_fn(|k| slab_of(place[k] as u32, self.scale[k]))
    }

    /// The cell below that of these slabs on all objectives.
    fn cell_below(&self, slab: &[usize; K]) -> usize {
        slab.iter().zip(self.stride).map(|(slab, stride)| slab * stride).sum()
    }

    /// From a cell to the next one on all objectives.
    fn diagonal(&self) -> usize {
        self.stride.iter().sum()
    }

    /// One more than the last front of the rows that are nowhere worse than `place`; 0 if there are none.
    fn reach_below(&self, place: &[i16; K], slab: &[usize; K]) -> i16 {
        let below = self.cell_below(slab);
        let mut reach = self.reach[below];
        let mut cell = below + self.diagonal();
        for (k, &slab) in slab.iter().enumerate() {
            // Rows in this slab or in those not looked at yet reach no further.
            let bound = self.reach[cell];
            if reach == bound {
                break;
            }
            reach = reach_within(self.blocks_of(self.rows[k][slab]), place, reach, bound);
            cell -= self.stride[k];
        }
        reach
    }

    fn blocks_of(&self, slab: Slab) -> &[Block<K>] {
        &self.blocks[slab.first_block..slab.first_block + slab.rows.div_ceil(LANES)]
    }

    fn insert(&mut self, place: &[i16; K], slab: &[usize; K], reach: i16) {
        for (of_objective, &slab) in self.rows.iter_mut().zip(slab) {
            let Slab { first_block, rows } = &mut of_objective[slab];
            let (block, lane) = (*first_block + *rows / LANES, *rows % LANES);
            let so_far = if *rows == 0 { 0 } else { self.blocks[*first_block + (*rows - 1) / LANES].reach_so_far };
            *rows += 1;
            let block = &mut self.blocks[block];
            (0..K).for_each(|k| block.places[k][lane] = place[k]);
            block.reach[lane] = reach;
            block.reach_so_far = so_far.max(reach);
        }
        let start = self.cell_below(slab) + self.diagonal();
        self.raise(0, start, slab, reach);
    }

    /// Raises the cell and those above it on the objectives from `k` on. What is above a cell that reaches as far
    /// does too.
    fn raise(&mut self, k: usize, mut cell: usize, slab: &[usize; K], reach: i16) {
        if k + 1 == K {
            for cells in self.reach[cell..cell + self.slabs - slab[k]].chunks_mut(LANES) {
                if cells[0] >= reach {
                    break;
                }
                cells.iter_mut().for_each(|cell| *cell = reach.max(*cell));
            }
            return;
        }
        for _ in slab[k]..self.slabs {
            if self.reach[cell] >= reach {
                break;
            }
            self.raise(k + 1, cell, slab, reach);
            cell += self.stride[k];
        }
    }
}

/// The larger of `reach` and what those of the rows in `blocks` reach that are nowhere worse than `place`; none
/// reaches further than `bound`.
fn reach_within<const K: usize>(blocks: &[Block<K>], place: &[i16; K], mut reach: i16, bound: i16) -> i16 {
    for block in blocks.iter().rev() {
        if block.reach_so_far <= reach || reach == bound {
            break;
        }
        let mut reaches = [0i16; LANES];
        for (lane, reach) in reaches.iter_mut().enumerate() {
            let mut worse = 0;
            for (theirs, &ours) in block.places.iter().zip(place) {
                worse |= -i16::from(theirs[lane] > ours);
            }
            *reach = block.reach[lane] & !worse;
        }
        reach = reaches.iter().fold(reach, |most, &one| most.max(one));
    }
    reach
}

fn slab_of(place: u32, scale: u64) -> usize {
    ((u64::from(place) * scale) >> 32) as usize
}

/// How many slabs to cut an objective into: the grid has a few cells for each row.
fn slabs<const K: usize>(rows: usize) -> usize {
    ((rows as f64 * CELLS_A_ROW).powf(1.0 / K as f64) as usize).clamp(4, 255)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pareto::bit_sort;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn ranks_are_those_of_sets_of_bits(
            columns in (3..5usize, 1..1500usize, prop::sample::select(vec![3u64, 40, 1 << 20])).prop_flat_map(
                |(objectives, points, values)| {
                    prop::collection::vec(prop::collection::vec(0..values, points), objectives)
                },
            )
        ) {
            let table = Table::new(columns[0].len(), &columns);
            let ranks = if columns.len() == 3 { ranks::<2>(&table) } else { ranks::<3>(&table) };
            prop_assert_eq!(ranks, bit_sort::ranks(&table));
        }
    }
}
