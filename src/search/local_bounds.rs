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

use super::ascending::{ascending, key};

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
        bounds.push([beyond, beyond + 1, beyond + 2]);
        bounds
    }

    /// Adds a box and returns the volume that no box before it has.
    pub(super) fn add(&mut self, index: usize) -> f64 {
        let (corner, places) = self.corners[index];
        let mut volume = 0.0;
        let mut inside: Vec<usize> = Vec::new();
        for (number, block) in self.blocks.iter().enumerate() {
            let mut hits = [0i16; LANES];
            for lane in 0..LANES {
                let mut hit = -1;
                for axis in 0..AXES {
                    hit &= -i16::from(block.places[axis][lane] > places[axis]);
                }
                hits[lane] = hit;
            }
            if hits.iter().fold(0, |any, hit| any | hit) != 0 {
                inside.extend((0..LANES).filter(|&lane| hits[lane] != 0).map(|lane| number * LANES + lane));
            }
        }
        let removed: Vec<[u16; AXES]> =
            inside.iter().map(|&bound| self.blocks[bound / LANES].sides[bound % LANES]).collect();
        // From the last to the first, so that none of those still to be removed moves.
        for &bound in inside.iter().rev() {
            self.remove(bound);
        }
        for sides in removed {
            let [x, y, z] = sides.map(|side| self.corners[side as usize]);
            volume += (corner[0] - x.0[0])
                * (least(corner[1], x.0[1]) - y.0[1])
                * (least(corner[2], least(x.0[2], y.0[2])) - z.0[2]);
            let index = index as u16;
            if places[0] > y.1[0].max(z.1[0]) {
                self.push([index, sides[1], sides[2]]);
            }
            if places[1] > x.1[1].max(z.1[1]) {
                self.push([sides[0], index, sides[2]]);
            }
            if places[2] > x.1[2].max(y.1[2]) {
                self.push([sides[0], sides[1], index]);
            }
        }
        volume
    }

    fn push(&mut self, sides: [u16; AXES]) {
        let (block, lane) = (self.len / LANES, self.len % LANES);
        if block == self.blocks.len() {
            self.blocks.push(EMPTY);
        }
        for axis in 0..AXES {
            self.blocks[block].places[axis][lane] = self.corners[sides[axis] as usize].1[axis];
        }
        self.blocks[block].sides[lane] = sides;
        self.len += 1;
    }

    /// Puts the last bound in the place of this one.
    fn remove(&mut self, bound: usize) {
        self.len -= 1;
        let (from, to) = ((self.len / LANES, self.len % LANES), (bound / LANES, bound % LANES));
        for axis in 0..AXES {
            self.blocks[to.0].places[axis][to.1] = self.blocks[from.0].places[axis][from.1];
            self.blocks[from.0].places[axis][from.1] = i16::MIN;
        }
        self.blocks[to.0].sides[to.1] = self.blocks[from.0].sides[from.1];
    }
}

/// Of two numbers; `f64::min` would ask about others.
fn least(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}
