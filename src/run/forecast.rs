//! What a run still has to score, from what its networks took so far.
//!
//! Work is counted in scores of one network on one chunk. How many of them a network takes is known once its race is over, and how
//! many networks the front will have once the search is.

use super::headway::Headway;

/// A score in float32 beside another arithmetic takes so many times as long as one in that: 1.2 is the least, a CPU with matrix
/// instructions has 3.7.
pub(super) const FLOAT32_WORK: f64 = 2.5;

/// Networks of a front as a share of those evaluated, before any is.
const FRONT: f64 = 0.4;

/// How far a run is, and what it expects of the rest.
pub(super) struct Forecast {
    /// Networks to evaluate.
    evals: usize,
    /// Work of a network on the whole search split.
    searched: f64,
    /// Work of a network of the front behind the search.
    measured: f64,
    /// Networks of populations that are over.
    over: usize,
    /// Networks under way.
    under_way: usize,
    /// Work that one of them is expected to take.
    each: f64,
    /// Networks that the front is expected to have.
    front: f64,
    /// Whether the front is being measured.
    at_end: bool,
    /// Work on what is under way that is known, and of each of its networks in the stages before this one.
    here: f64,
    staged: f64,
    known: f64,
    done: f64,
}

impl Forecast {
    /// Of a run of so many networks, which take so much work each to search and to measure.
    pub(super) fn new(evals: usize, searched: f64, measured: f64) -> Forecast {
        Forecast {
            evals,
            searched,
            measured,
            over: 0,
            under_way: 0,
            each: searched,
            front: FRONT * evals as f64,
            at_end: false,
            here: 0.0,
            staged: 0.0,
            known: 0.0,
            done: 0.0,
        }
    }

    /// Networks whose populations are over, earlier processes' included: of how many, each of the last ones on which share of the
    /// search split, and how many of all are on the front.
    pub(super) fn over(&mut self, networks: usize, share: f64, front: usize) {
        if self.over + self.under_way < networks {
            self.known += (networks - self.over) as f64 * self.searched * share;
        }
        (self.over, self.under_way) = (networks, 0);
        if networks > 0 {
            self.each = self.searched * share;
            // Between a front that stays as large as it is and one that grows with the networks.
            self.front = front as f64 * (self.evals as f64 / networks as f64).max(1.0).sqrt();
        }
    }

    /// A population begins.
    pub(super) fn population(&mut self, networks: usize) {
        (self.under_way, self.here, self.staged) = (networks, 0.0, 0.0);
    }

    /// The front begins to be measured.
    pub(super) fn end(&mut self, networks: usize) {
        self.population(networks);
        (self.at_end, self.each) = (true, self.measured);
    }

    /// A stage begins: so many networks take so much work each from the population's first chunk on, and this much of all of it is missing.
    pub(super) fn stage(&mut self, networks: usize, work: f64, missing: f64) {
        let known = networks as f64 * (work - self.staged).max(0.0) - missing;
        self.known += known.max(0.0);
        self.here += known.max(0.0);
        self.staged = work;
    }

    /// A score is known now.
    pub(super) fn scored(&mut self, work: f64) {
        self.done += work;
        self.here += work;
    }

    /// Where that is.
    pub(super) fn headway(&self) -> Headway {
        let under_way = self.under_way as f64;
        let expected = (under_way * self.each).max(self.here);
        let share = if expected > 0.0 { self.here / expected } else { 0.0 };
        let networks = (under_way * share + 1e-6) as usize;
        let left = expected - self.here;
        let Forecast { known, done, each, .. } = *self;
        if self.at_end {
            return Headway { count: networks, of: self.under_way, known, done, left, each };
        }
        let later =
            self.evals.saturating_sub(self.over + self.under_way) as f64 * self.each + self.front * self.measured;
        Headway { count: (self.over + networks).min(self.evals), of: self.evals, known, done, left: left + later, each }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores a population to the end in two stages, of which the second has `left` networks.
    fn race(forecast: &mut Forecast, networks: usize, left: usize) {
        forecast.population(networks);
        forecast.stage(networks, 4.0, networks as f64 * 4.0);
        (0..4 * networks).for_each(|_| forecast.scored(1.0));
        forecast.stage(left, 8.0, left as f64 * 4.0);
        (0..4 * left).for_each(|_| forecast.scored(1.0));
    }

    #[test]
    fn counts_networks_under_way_and_reckons_with_races_and_the_front() {
        let mut forecast = Forecast::new(40, 8.0, 10.0);
        let start = forecast.headway();
        assert_eq!((start.count, start.of, start.share()), (0, 40, 0.0));
        assert_eq!(start.left, 40.0 * 8.0 + 16.0 * 10.0, "two fifths of the networks are on the front");

        forecast.population(10);
        forecast.stage(10, 4.0, 40.0);
        (0..20).for_each(|_| forecast.scored(1.0));
        let now = forecast.headway();
        assert_eq!((now.count, now.done, now.left), (2, 20.0, start.left - 20.0), "a quarter of ten networks");

        // The second half of the population was dropped on the way: 4 chunks of 8 each.
        race(&mut forecast, 10, 5);
        forecast.over(10, 0.75, 4);
        let now = forecast.headway();
        assert_eq!((now.count, now.each), (10, 6.0));
        assert_eq!(now.left, 30.0 * 6.0 + 8.0 * 10.0, "of four times the networks, twice the front");

        forecast.population(30);
        forecast.over(40, 0.75, 9);
        assert_eq!(forecast.headway().left, 90.0);
        forecast.end(9);
        forecast.stage(9, 10.0, 90.0);
        (0..45).for_each(|_| forecast.scored(1.0));
        let end = forecast.headway();
        assert_eq!((end.count, end.of, end.left), (4, 9, 45.0));
    }

    #[test]
    fn what_earlier_processes_scored_is_known_and_not_done() {
        let mut forecast = Forecast::new(40, 8.0, 10.0);
        forecast.over(20, 0.5, 4);
        let now = forecast.headway();
        assert_eq!((now.count, now.known, now.done), (20, 80.0, 0.0));
        // Half of the first stage is in the journal.
        forecast.population(10);
        forecast.stage(10, 4.0, 20.0);
        forecast.scored(1.0);
        let now = forecast.headway();
        assert_eq!((now.count, now.known, now.done), (25, 100.0, 1.0));
        (0..19).for_each(|_| forecast.scored(1.0));
        forecast.stage(10, 8.0, 40.0);
        assert_eq!(forecast.headway().known, 100.0, "what this process scored is not known from before");
    }
}
