//! How fast work goes: smoothed, and not said before a few steps are done.

use super::seconds::said;

/// Steps and seconds before which nothing is said.
const LEAST_STEPS: usize = 4;
const LEAST_SECONDS: f64 = 2.0;
/// What is so many seconds old, or this share of all that has passed, counts half.
const HALF_LIFE: f64 = 60.0;
const HALF_LIFE_SHARE: f64 = 0.25;

/// The speed of work that goes on.
#[derive(Debug, Default)]
pub struct Pace {
    steps: usize,
    /// Seconds since the work began, and what was done by then.
    last: (f64, f64),
    /// Seconds and work, what is long ago counted less.
    seconds: f64,
    work: f64,
}

impl Pace {
    /// So much is done after so many seconds.
    pub fn see(&mut self, seconds: f64, done: f64) {
        let (passed, more) = ((seconds - self.last.0).max(0.0), (done - self.last.1).max(0.0));
        if more == 0.0 {
            return;
        }
        let kept = 0.5_f64.powf(passed / (HALF_LIFE_SHARE * seconds).max(HALF_LIFE));
        (self.seconds, self.work) = (kept * self.seconds + passed, kept * self.work + more);
        (self.steps, self.last) = (self.steps + 1, (seconds, done));
    }

    /// Work a second, where that is known.
    pub fn rate(&self) -> Option<f64> {
        (self.steps >= LEAST_STEPS && self.seconds >= LEAST_SECONDS).then(|| self.work / self.seconds)
    }
}

/// So many of something a second, said in numbers that are neither tiny nor huge.
pub fn rate_said(per_second: f64, unit: &str) -> String {
    let short = |number: f64| if number < 9.95 { format!("{number:.1}") } else { format!("{number:.0}") };
    if per_second >= 1.0 {
        format!("{} a second", short(per_second))
    } else if per_second * 60.0 >= 1.0 {
        format!("{} a minute", short(per_second * 60.0))
    } else {
        format!("{} a {unit}", said(1.0 / per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_nothing_at_first_and_then_what_is_so() {
        let mut pace = Pace::default();
        for step in 1..=3 {
            pace.see(step as f64, step as f64);
            assert_eq!(pace.rate(), None, "step {step}");
        }
        pace.see(4.0, 4.0);
        assert_eq!(pace.rate(), Some(1.0));
        let mut quick = Pace::default();
        (1..=10).for_each(|step| quick.see(0.1 * step as f64, step as f64));
        assert_eq!(quick.rate(), None, "a second is too short");
    }

    #[test]
    fn a_burst_moves_it_little_and_a_new_speed_in_time() {
        let mut pace = Pace::default();
        (1..=60).for_each(|step| pace.see(step as f64, step as f64));
        (1..=5).for_each(|step| pace.see(60.0 + 0.01 * step as f64, 60.0 + step as f64));
        let rate = pace.rate().unwrap();
        assert!((1.0..1.2).contains(&rate), "{rate}");
        (1..=300).for_each(|step| pace.see(60.05 + step as f64, 65.0 + 0.1 * step as f64));
        let rate = pace.rate().unwrap();
        assert!((0.1..0.2).contains(&rate), "{rate}");
    }

    #[test]
    fn rates_are_said_in_fitting_units() {
        let said = |rate| rate_said(rate, "network");
        assert_eq!(
            [1234.4, 2.34, 0.5, 0.095].map(said),
            ["1234 a second", "2.3 a second", "30 a minute", "5.7 a minute"]
        );
        assert_eq!([0.0125, 0.001].map(said), ["80 s a network", "17 min a network"]);
    }
}
