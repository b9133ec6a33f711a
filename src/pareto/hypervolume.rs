//! The hypervolume indicator: how much of objective space a set of points dominates.
//!
//! Two objectives are swept in O(N log N); three likewise, over a staircase (Beume et al., "On the complexity of
//! computing the hypervolume indicator", 2009). Four are sliced along the last one, each slice adding what the
//! local bounds of the ground that it takes say (`local_bounds`): O(N²) at worst, in comparisons sixteen at a
//! time. From five on it is WFG (While et al., "A fast way of calculating exact hypervolumes", 2012) sliced along
//! the last objective, down to four.

use super::local_bounds;
use super::local_bounds::LocalBounds;
use super::radix::{ascending, key};

/// The exact volume of what `points` dominate up to `reference`. Every objective is minimised.
///
/// Points that are not better than the reference in every objective add nothing, nor do values that are missing
/// or not a number; duplicates count once. The volume is infinite when it is: when a point inside is
/// infinitely good, or the reference infinitely bad.
///
/// ```
/// use criadero::pareto::hypervolume;
/// assert_eq!(hypervolume(&[[0.0, 2.0], [1.0, 0.0]], &[3.0, 3.0]), 7.0);
/// ```
pub fn hypervolume<P: AsRef<[f64]>>(points: &[P], reference: &[f64]) -> f64 {
    let width = reference.len();
    let mut boxes = Boxes::new(width);
    for point in points {
        let point = point.as_ref();
        let inside =
            width > 0 && point.len() >= width && point.iter().zip(reference).all(|(value, limit)| value < limit);
        if inside {
            boxes.cells.extend(point.iter().zip(reference).map(|(value, limit)| limit - value));
        }
    }
    if boxes.cells.contains(&f64::INFINITY) { f64::INFINITY } else { boxes.union() }
}

/// Boxes between the origin (the reference point) and a corner: maximised from here on, the corner being how
/// much better a point is than the reference.
struct Boxes {
    width: usize,
    /// Corners, row by row, `width` values each, all above 0.
    cells: Vec<f64>,
}

impl Boxes {
    fn new(width: usize) -> Boxes {
        Boxes { width, cells: Vec::new() }
    }

    fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.cells.chunks_exact(self.width.max(1))
    }

    /// The volume of the union.
    fn union(&self) -> f64 {
        match self.width {
            0 => 0.0,
            1 => self.cells.iter().copied().fold(0.0, f64::max),
            2 => self.union_2d(),
            3 => self.union_3d(),
            4 if self.cells.len() / 4 <= local_bounds::MOST_BOXES => self.union_4d(),
            _ => self.union_by_slices(),
        }
    }

    /// Rows with the largest last value first.
    fn descending(&self) -> impl Iterator<Item = &[f64]> {
        let keys: Vec<u64> = self.rows().map(|row| !key(row[self.width - 1])).collect();
        ascending(&keys).into_iter().map(|index| &self.cells[index as usize * self.width..][..self.width])
    }

    fn union_2d(&self) -> f64 {
        let mut reached = 0.0;
        let mut area = 0.0;
        for row in self.descending() {
            if row[0] > reached {
                area += (row[0] - reached) * row[1];
                reached = row[0];
            }
        }
        area
    }

    fn union_3d(&self) -> f64 {
        let mut staircase = Staircase::default();
        self.descending().map(|row| staircase.add(row[0], row[1]) * row[2]).sum()
    }

    /// Boxes by descending height, each with the ground that no earlier box covers.
    fn union_4d(&self) -> f64 {
        let rows: Vec<[f64; 4]> = self.descending().map(|row| [row[0], row[1], row[2], row[3]]).collect();
        let ground: Vec<[f64; 3]> = rows.iter().map(|&[x, y, z, _]| [x, y, z]).collect();
        let mut free = LocalBounds::new(&ground);
        rows.iter().enumerate().map(|(index, row)| free.add(index) * row[3]).sum()
    }

    /// Adding boxes by descending height, each adds its height times the ground that no earlier box covers.
    fn union_by_slices(&self) -> f64 {
        let ground = self.width - 1;
        let mut seen = Boxes::new(ground);
        let mut volume = 0.0;
        for row in self.descending() {
            let (base, height) = (&row[..ground], row[ground]);
            if let Some(covered) = seen.covered(base) {
                volume += height * (base.iter().product::<f64>() - covered);
                seen.insert(base);
            }
        }
        volume
    }

    /// How much of `corner`'s box these boxes cover; nothing where one of them covers all of it. Their last
    /// values must descend, as [`Boxes::insert`] keeps them.
    fn covered(&self, corner: &[f64]) -> Option<f64> {
        match corner {
            &[x, y, z] => self.covered_3d(x, y, z),
            _ => Some(self.within(corner)?.union()),
        }
    }

    /// The sweep of [`Boxes::union_3d`] on boxes cut to the corner, which leaves their order as it is.
    fn covered_3d(&self, x: f64, y: f64, z: f64) -> Option<f64> {
        let mut staircase = Staircase::default();
        let mut volume = 0.0;
        for row in self.rows() {
            let (across, up, height) = (least(row[0], x), least(row[1], y), least(row[2], z));
            let whole = across == x && up == y;
            if whole && height == z {
                return None;
            }
            volume += staircase.add(across, up) * height;
            if whole {
                break;
            }
        }
        Some(volume)
    }

    /// These boxes cut to `corner`'s, without those that others then cover.
    fn within(&self, corner: &[f64]) -> Option<Boxes> {
        let mut cut = Boxes { width: self.width, cells: Vec::with_capacity(self.cells.len()) };
        for row in self.rows() {
            let start = cut.cells.len();
            cut.cells.extend(row.iter().zip(corner).map(|(&a, &b)| least(a, b)));
            if &cut.cells[start..] == corner {
                return None;
            }
        }
        let mut kept = Boxes::new(self.width);
        for row in cut.rows() {
            if !kept.rows().any(|other| covers(other, row)) {
                kept.insert(row);
            }
        }
        Some(kept)
    }

    /// Adds a box that none of these covers, drops those that it covers, and keeps the last value descending.
    fn insert(&mut self, corner: &[f64]) {
        if self.rows().any(|row| covers(corner, row)) {
            self.cells = self.rows().filter(|row| !covers(corner, row)).flatten().copied().collect();
        }
        let last = self.width - 1;
        let place = self.width * self.rows().take_while(|row| row[last] >= corner[last]).count();
        self.cells.splice(place..place, corner.iter().copied());
    }
}

/// Of two numbers; `f64::min` would ask about others.
fn least(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

fn covers(outer: &[f64], inner: &[f64]) -> bool {
    outer.iter().zip(inner).all(|(outer, inner)| outer >= inner)
}

/// The outline of rectangles at the origin: corners with `x` ascending and `y` descending.
#[derive(Default)]
struct Staircase {
    corners: Vec<(f64, f64)>,
}

impl Staircase {
    /// Adds the rectangle up to `(x, y)` and returns the area that it adds.
    fn add(&mut self, x: f64, y: f64) -> f64 {
        let right = self.corners.partition_point(|corner| corner.0 < x);
        let beyond = self.corners.get(right).copied();
        let floor = beyond.map_or(0.0, |corner| corner.1);
        if floor >= y {
            return 0.0;
        }
        let left = self.corners[..right].partition_point(|corner| corner.1 > y);
        let mut edge = if left == 0 { 0.0 } else { self.corners[left - 1].0 };
        let mut area = 0.0;
        for corner in &self.corners[left..right] {
            area += (corner.0 - edge) * (y - corner.1);
            edge = corner.0;
        }
        area += (x - edge) * (y - floor);
        let swallowed = right + usize::from(beyond.is_some_and(|corner| corner.0 == x));
        if left == swallowed {
            self.corners.insert(left, (x, y));
        } else {
            self.corners[left] = (x, y);
            self.corners.copy_within(swallowed.., left + 1);
            self.corners.truncate(self.corners.len() + left + 1 - swallowed);
        }
        area
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Inclusion and exclusion over all subsets: the definition, for a handful of points.
    fn by_inclusion_exclusion(points: &[Vec<f64>], reference: &[f64]) -> f64 {
        (1u32..1 << points.len())
            .map(|subset| {
                let common: f64 = (0..reference.len())
                    .map(|objective| {
                        let chosen = points.iter().enumerate().filter(|(i, _)| subset >> i & 1 == 1);
                        let worst = chosen.map(|(_, point)| point[objective]).fold(f64::NEG_INFINITY, f64::max);
                        (reference[objective] - worst).max(0.0)
                    })
                    .product();
                if subset.count_ones() % 2 == 1 { common } else { -common }
            })
            .sum()
    }

    proptest! {
        #[test]
        fn equals_inclusion_and_exclusion(
            points in (1usize..7).prop_flat_map(|objectives| {
                prop::collection::vec(prop::collection::vec((0..9u8).prop_map(f64::from), objectives), 1..9)
            })
        ) {
            // Whole numbers, so both sums are exact; some points are on or beyond the reference.
            let reference = vec![7.0; points[0].len()];
            prop_assert_eq!(hypervolume(&points, &reference), by_inclusion_exclusion(&points, &reference));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn four_objectives_have_the_volume_of_their_slices(
            cells in prop::collection::vec(prop_oneof![3 => 0.0..1.0f64, 1 => Just(0.5)], 4..800)
        ) {
            let cells = cells[..cells.len() / 4 * 4].iter().map(|cell| cell + 1e-3).collect();
            let boxes = Boxes { width: 4, cells };
            let (volume, slices) = (boxes.union_4d(), boxes.union_by_slices());
            prop_assert!((volume - slices).abs() <= 1e-12 * slices, "{volume} against {slices}");
        }
    }

    #[test]
    fn measures_the_box_of_one_point_in_any_number_of_objectives() {
        for objectives in 1..9 {
            let (point, reference) = (vec![1.0; objectives], vec![3.0; objectives]);
            assert_eq!(hypervolume(&[&point[..], &point[..]], &reference), 2f64.powi(objectives as i32));
        }
    }

    #[test]
    fn ignores_what_is_not_inside() {
        let points = [vec![4.0, 0.0], vec![0.0, 3.0], vec![f64::NAN, 0.0], vec![0.0], vec![f64::INFINITY, 0.0]];
        assert_eq!(hypervolume(&points, &[3.0, 3.0]), 0.0);
        assert_eq!(hypervolume(&points, &[]), 0.0);
        assert_eq!(hypervolume(&points, &[f64::NAN, 1.0]), 0.0);
        assert_eq!(hypervolume::<Vec<f64>>(&[], &[3.0, 3.0]), 0.0);
    }

    #[test]
    fn is_infinite_when_a_point_or_the_reference_is() {
        for objectives in 1..6 {
            let points = [vec![0.0; objectives], vec![f64::NEG_INFINITY; objectives]];
            assert_eq!(hypervolume(&points, &vec![1.0; objectives]), f64::INFINITY);
            assert_eq!(hypervolume(&points[..1], &vec![f64::INFINITY; objectives]), f64::INFINITY);
        }
    }
}
