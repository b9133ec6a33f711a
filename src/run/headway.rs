//! How far work has come, and how much of it is left.

/// How far work has come. What is counted is networks in a run, and whatever a caller counts elsewhere. Work has a unit of its own: the
/// time that is left follows from work, since a count hides that a network of a front costs more than one that lost its race.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Headway {
    /// What is done, what is under way counted by its share.
    pub count: usize,
    /// What is to be done.
    pub of: usize,
    /// Work that was done before this process began.
    pub known: f64,
    /// Work that this process has done.
    pub done: f64,
    /// Work that is expected to be left, to the end of everything.
    pub left: f64,
    /// Work that one of what is counted takes about.
    pub each: f64,
}

impl Headway {
    /// So many of so many, which take equally long.
    pub fn of_equals(count: usize, of: usize) -> Headway {
        Headway {
            count,
            of,
            done: count as f64,
            left: of.saturating_sub(count) as f64,
            each: 1.0,
            ..Headway::default()
        }
    }

    /// So much of the work on `of` of something, as a share from 0 to 1.
    pub fn of_share(share: f64, of: usize) -> Headway {
        let done = share * of as f64;
        // A share that is a sum may lack the last bit of a whole one.
        Headway {
            count: ((done + 1e-6) as usize).min(of),
            of,
            done,
            left: of as f64 - done,
            each: 1.0,
            ..Headway::default()
        }
    }

    /// The share of the work that is done, 0 to 1.
    pub fn share(&self) -> f64 {
        let done = self.known + self.done;
        if done + self.left > 0.0 { done / (done + self.left) } else { 1.0 }
    }
}
