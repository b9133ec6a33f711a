//! What three-dimensional boxes at the origin leave free, as the local lower bounds of their corners.
//!
//! A local bound is where the outlines of up to three boxes meet: everything beyond it on all axes is free, and
//! nothing lower has that property. There are 2 N + 1 for N boxes. A new box removes the bounds inside it and
//! cuts each of them to at most three new ones (Klamroth et al., "On the representation of the search region in
//! multi-objective optimization", 2015, section 4.2). The free space splits into one box a bound (Lacour et al., "A box
//! decomposition algorithm to compute the hypervolume indicator", 2017, section 3), so what a new box adds is a sum
//! over the bounds that it removes: nothing is subtracted from volumes.
//!
//! Both need corners that differ on every axis. Comparing places instead of values, equal values having
//! different places, grants that: boxes between equal values are empty.

use super::radix::{ascending, key};

/// More boxes than this do not have 16-bit places.
pub(super) const MOST_BOXES: usize = i16::MAX as usize - AXES;
const AXES: usize = 3;
/// Bounds compared together.
const LANES: usize = 16;

/// The local bounds of the boxes added so far.
pub(super) struct LocalBounds {
    /// The corner of each box, added or not, and its places by descending value. The last `AXES` are
    /// the infinite boxes of no height, one an axis, that the first bound lies between.
    corners: Vec<([f64; AXES], [i16; AXES])>,
    blocks: Vec<Block>,
    len: usize,
}

/// For each axis the place of a bound, and the box whose side it is on.
#[derive(Clone)]
struct Block {
    places: [[i16; LANES]; AXES],
    sides: [[u16; AXES]; LANES],
}

/// Lanes that hold no bound are inside no box.
const EMPTY: Block = Block { places: [[i16::MIN; LANES]; AXES], sides: [[0; AXES]; LANES] };

impl LocalBounds {
    /// All of the space, before any of these boxes is added.
    pub(super) fn new(boxes: &[[f64; AXES]]) -> LocalBounds {
        let mut corners: Vec<_> = boxes.iter().map(|&corner| (corner, [0; AXES])).collect();
        for axis in 0..AXES {
            let keys: Vec<u64> = boxes.iter().map(|corner| !key(corner[axis])).collect();
            for (place, index) in ascending(&keys).into_iter().enumerate() {
                corners[index as usize].1[axis] = place as i16;
            }
        }
        let beyond = boxes.len() as u16;
        for axis in 0..AXES {
            let (mut corner, mut places) = ([f64::INFINITY; AXES], [-1; AXES]);
            (corner[axis], places[axis]) = (0.0, i16::MAX);
            corners.push((corner, places));
        }
        let mut bounds = LocalBounds { corners, blocks: Vec::new(), len: 0 };
        bounds.put(None, [beyond, beyond + 1, beyond + 2]);
        bounds
    }

    /// Adds a box and returns the volume that no box before it has.
    pub(super) fn add(&mut self, index: usize) -> f64 {
        let (corner, places) = self.corners[index];
        let side = index as u16;
        let mut volume = 0.0;
        // From the last to the first, so that what is moved or added has been looked at.
        for number in (0..self.blocks.len()).rev() {
            let mut inside = self.blocks[number].inside(&places);
            while inside != 0 {
                let lane = inside.ilog2() as usize;
                inside ^= 1 << lane;
                let [i, j, k] = self.blocks[number].sides[lane];
                let [(x, at_x), (y, at_y), (z, at_z)] = [i, j, k].map(|side| self.corners[side as usize]);
                volume +=
                    (corner[0] - x[0]) * (least(corner[1], x[1]) - y[1]) * (least(corner[2], least(x[2], y[2])) - z[2]);
                let mut free = Some((number, lane));
                if places[0] > at_y[0].max(at_z[0]) {
                    self.put(free.take(), [side, j, k]);
                }
                if places[1] > at_x[1].max(at_z[1]) {
                    self.put(free.take(), [i, side, k]);
                }
                if places[2] > at_x[2].max(at_y[2]) {
                    self.put(free.take(), [i, j, side]);
                }
                if let Some(place) = free {
                    self.remove(place);
                }
            }
        }
        volume
    }

    /// Writes a bound to a place that has become free, or after the last.
    fn put(&mut self, place: Option<(usize, usize)>, sides: [u16; AXES]) {
        let (block, lane) = place.unwrap_or((self.len / LANES, self.len % LANES));
        self.len += usize::from(place.is_none());
        if block == self.blocks.len() {
            self.blocks.push(EMPTY);
        }
        let block = &mut self.blocks[block];
        for (axis, &side) in sides.iter().enumerate() {
            block.places[axis][lane] = self.corners[side as usize].1[axis];
        }
        block.sides[lane] = sides;
    }

    /// Puts the last bound in the place of this one.
    fn remove(&mut self, (block, lane): (usize, usize)) {
        self.len -= 1;
        let last = &mut self.blocks[self.len / LANES];
        let sides = last.sides[self.len % LANES];
        (0..AXES).for_each(|axis| last.places[axis][self.len % LANES] = i16::MIN);
        if (block, lane) != (self.len / LANES, self.len % LANES) {
            self.put(Some((block, lane)), sides);
        }
    }
}

impl Block {
    /// A bit for each bound that is inside the box with these places.
    fn inside(&self, places: &[i16; AXES]) -> u16 {
        let mut bits = 0;
        for lane in 0..LANES {
            let mut inside = -1;
            for (theirs, &ours) in self.places.iter().zip(places) {
                inside &= -i16::from(theirs[lane] > ours);
            }
            bits |= inside as u16 & 1 << lane;
        }
        bits
    }
}

/// Of two numbers; `f64::min` would ask about others.
fn least(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}
