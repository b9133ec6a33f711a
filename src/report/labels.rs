//! Places names beside points so that nothing covers anything.

/// A rectangle in pixels: left, top, right, bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Left edge.
    pub left: i32,
    /// Upper edge.
    pub top: i32,
    /// Right edge.
    pub right: i32,
    /// Lower edge.
    pub bottom: i32,
}

impl Area {
    /// The rectangle of this size with its upper left corner at `(left, top)`.
    pub fn at(left: i32, top: i32, (width, height): (i32, i32)) -> Area {
        Area { left, top, right: left + width, bottom: top + height }
    }

    fn overlaps(&self, other: &Area) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    fn inside(&self, other: &Area) -> bool {
        self.left >= other.left && self.right <= other.right && self.top >= other.top && self.bottom <= other.bottom
    }
}

/// A place for a name of each size beside its anchor: right, left, above or below, the first where it covers no
/// obstacle and no earlier name and stays inside `area`; none when there is no such place.
pub fn place(anchors: &[(i32, i32)], sizes: &[(i32, i32)], obstacles: &[Area], area: Area) -> Vec<Option<Area>> {
    const GAP: i32 = 10;
    let mut taken = obstacles.to_vec();
    let mut places = Vec::with_capacity(anchors.len());
    for (&(x, y), &(width, height)) in anchors.iter().zip(sizes) {
        let corners = [
            (x + GAP, y - height - 2),
            (x - GAP - width, y - height - 2),
            (x + GAP, y + 2),
            (x - GAP - width, y + 2),
            (x + GAP, y - height / 2),
            (x - GAP - width, y - height / 2),
            (x - width / 2, y - GAP - height),
            (x - width / 2, y + GAP),
            (x + 2 * GAP, y - height / 2),
            (x - 2 * GAP - width, y - height / 2),
        ];
        let found = corners
            .into_iter()
            .map(|(left, top)| Area::at(left, top, (width, height)))
            .find(|label| label.inside(&area) && !taken.iter().any(|other| label.overlaps(other)));
        taken.extend(found);
        places.push(found);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREA: Area = Area { left: 0, top: 0, right: 200, bottom: 100 };

    #[test]
    fn names_never_cover_each_other_or_a_point() {
        let anchors: Vec<(i32, i32)> = (0..40).map(|i| (10 + i * 37 % 180, 10 + i * 53 % 80)).collect();
        let points: Vec<Area> = anchors.iter().map(|&(x, y)| Area::at(x - 4, y - 4, (8, 8))).collect();
        let placed: Vec<Area> = place(&anchors, &[(24, 12); 40], &points, AREA).into_iter().flatten().collect();
        assert!(placed.len() > 3, "some names have room");
        for (i, label) in placed.iter().enumerate() {
            assert!(label.inside(&AREA));
            assert!(!points.iter().chain(&placed[..i]).any(|other| label.overlaps(other)), "{label:?}");
        }
    }

    #[test]
    fn a_name_without_room_is_left_out() {
        let wall = [AREA];
        assert_eq!(place(&[(100, 50)], &[(20, 10)], &wall, AREA), [None]);
        assert_eq!(place(&[(100, 50)], &[(300, 10)], &[], AREA), [None]);
    }
}
