//! Racing: networks that are surely not on the front are not scored to the end.
//!
//! All networks of a population are scored on the first chunks, and after each stage those go that a network of the front
//! so far dominates beyond doubt: paired differences on the same items, as in Hoeffding races (Maron and Moore, "Hoeffding
//! races", 1994) with the paired t-test of F-Race (Birattari et al., "A racing algorithm for configuring metaheuristics",
//! 2002), here with domination in place of one objective.
//!
//! The stated error bounds the probability that a network is dropped which, scored on all items, its rival does not
//! dominate. To dominate, the rival must be surely better in *every* measured objective, so several objectives need no
//! correction (an intersection-union test); several rivals and stages share the error equally (Bonferroni). A rival is
//! chosen by its score on all items, which does not depend on which of them come first, so the choice costs nothing.
//! Items are drawn without replacement from the search split, so errors shrink to 0 as they run out.
//!
//! The t-distribution knows nothing of outliers that were not seen yet. So a quarter of the error goes to the test and the
//! rest pays for them: with all of it, differences with the skew of an exponential distribution led to up to 0.10 where
//! 0.05 was stated (32 to 256 of 64 to 512 items); with a quarter no distribution tried did worse than stated.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::error::{Error, Result};

/// With fewer items than this no network is dropped.
pub const LEAST_ITEMS: usize = 32;

/// The share of the error that the t-test gets.
const TESTED: f64 = 0.25;

/// How many stages a race has, the last on all chunks; each has about twice the chunks of the one before.
const STAGES: u32 = 4;

/// The settings of a race.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Racing {
    /// Largest probability, for each network, of being dropped though nothing dominates it.
    pub error: f64,
}

/// By how much a network's loss exceeds a rival's, as far as both were scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Excess {
    /// Known without scoring, or scored to the end.
    Exact(f64),
    /// Estimated from pairs of items.
    Paired {
        /// Mean.
        mean: f64,
        /// Standard error of the mean as an estimate of the mean over all items.
        stderr: f64,
        /// Items.
        items: usize,
    },
}

impl Default for Racing {
    fn default() -> Racing {
        Racing { error: 0.05 }
    }
}

impl Racing {
    /// Races with this error.
    ///
    /// # Errors
    /// An error that is not between 0 and 1.
    pub fn new(error: f64) -> Result<Racing> {
        if error > 0.0 && error < 1.0 {
            Ok(Racing { error })
        } else {
            Err(Error::invalid("racing error", error, "a probability between 0 and 1, such as 0.05"))
        }
    }

    /// How many of each eval set's chunks every stage has scored, each stage more than the one before.
    pub fn stages(chunks: &[usize]) -> Vec<Vec<usize>> {
        let stage = |stage: u32| chunks.iter().map(|count| count.div_ceil(1 << (STAGES - 1 - stage))).collect();
        let mut stages: Vec<Vec<usize>> = (0..STAGES).map(stage).collect();
        stages.dedup();
        stages
    }

    /// The error of one comparison of a network that is compared with `rivals` after `looks` stages.
    pub fn level(&self, rivals: usize, looks: usize) -> f64 {
        TESTED * self.error / (rivals.max(1) * looks.max(1)) as f64
    }
}

impl Excess {
    /// The estimate.
    pub fn mean(self) -> f64 {
        match self {
            Excess::Exact(mean) | Excess::Paired { mean, .. } => mean,
        }
    }

    /// Whether it is surely not below 0: certainly where it is exact, with an error of at most `level` otherwise.
    fn surely_no_better(self, level: f64) -> bool {
        match self {
            Excess::Exact(mean) => mean >= 0.0,
            Excess::Paired { items, .. } if items < LEAST_ITEMS => false,
            Excess::Paired { mean, stderr, items } => {
                let student = StudentsT::new(0.0, 1.0, (items - 1) as f64).expect("at least one degree of freedom");
                mean > 0.0 && mean > stderr * student.inverse_cdf(1.0 - level)
            }
        }
    }
}

/// Whether the rival that a network's losses exceed by this surely dominates it, but for an error of `level`.
pub fn surely_dominated(excess: &[Excess], level: f64) -> bool {
    excess.iter().all(|one| one.surely_no_better(level)) && excess.iter().any(|one| one.mean() > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Exp1, StandardNormal};

    fn paired(mean: f64, stderr: f64) -> Excess {
        Excess::Paired { mean, stderr, items: 33 }
    }

    #[test]
    fn stages_double_and_end_with_everything() {
        assert_eq!(Racing::stages(&[64]), [[8], [16], [32], [64]]);
        assert_eq!(Racing::stages(&[3]), [[1], [2], [3]]);
        assert_eq!(Racing::stages(&[1]), [[1]]);
        assert_eq!(Racing::stages(&[3, 20]), [[1, 3], [1, 5], [2, 10], [3, 20]]);
        assert!(Racing::stages(&[]).len() <= 1);
    }

    #[test]
    fn the_threshold_is_students() {
        // The 0.95 quantile of Student's t with 32 degrees of freedom is 1.6939.
        assert!(surely_dominated(&[paired(1.6940, 1.0)], 0.05));
        assert!(!surely_dominated(&[paired(1.6938, 1.0)], 0.05));
        assert!(!surely_dominated(&[Excess::Paired { mean: 9.0, stderr: 1.0, items: LEAST_ITEMS - 1 }], 0.05));
        assert!(!surely_dominated(&[paired(0.0, 0.0)], 0.05), "equal so far is not worse");
    }

    #[test]
    fn a_rival_must_be_better_everywhere() {
        assert!(surely_dominated(&[paired(9.0, 1.0), Excess::Exact(0.0)], 0.05));
        assert!(!surely_dominated(&[paired(9.0, 1.0), Excess::Exact(-1e-9)], 0.05));
        assert!(!surely_dominated(&[paired(9.0, 1.0), paired(0.1, 1.0)], 0.05), "may be better in the second");
        assert!(!surely_dominated(&[Excess::Exact(0.0), Excess::Exact(0.0)], 0.05), "a twin");
    }

    #[test]
    fn refuses_errors_that_are_no_probability() {
        for error in [0.0, 1.0, -0.1, f64::NAN] {
            assert!(Racing::new(error).is_err(), "{error}");
        }
    }

    type Draw<'a> = &'a dyn Fn(&mut ChaCha8Rng) -> f64;

    /// The share of networks that are dropped though over all items they are as good as their rival (or clearly worse,
    /// by `mean` standard deviations), for paired differences of a distribution.
    fn dropped(draw: Draw, mean: f64) -> f64 {
        let (races, items) = (4000, 128);
        let racing = Racing::new(0.05).unwrap();
        let stages = Racing::stages(&[items]);
        let looks = stages.iter().filter(|stage| (LEAST_ITEMS..items).contains(&stage[0])).count();
        assert_eq!(looks, 2);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let lost = (0..races).filter(|_| {
            let mut all: Vec<f64> = (0..items).map(|_| draw(&mut rng)).collect();
            let offset = all.iter().sum::<f64>() / items as f64 - mean;
            all.iter_mut().for_each(|one| *one -= offset);
            let look =
                |stage: &Vec<usize>| surely_dominated(&[estimate(&all[..stage[0]], items)], racing.level(1, looks));
            stages[..stages.len() - 1].iter().any(look)
        });
        lost.count() as f64 / races as f64
    }

    /// Differences of log-likelihoods are heavy-tailed (a kurtosis of 6 between networks of SmolLM2 on ARC-Easy) and may
    /// lean to either side.
    #[test]
    fn drops_no_more_good_networks_than_it_says() {
        let normal = |rng: &mut ChaCha8Rng| rng.sample::<f64, _>(StandardNormal);
        let cube = |rng: &mut ChaCha8Rng| rng.sample::<f64, _>(StandardNormal).powi(3);
        let leaning = |rng: &mut ChaCha8Rng| -rng.sample::<f64, _>(Exp1);
        let other = |rng: &mut ChaCha8Rng| rng.sample::<f64, _>(Exp1);
        let all: [(&str, Draw); 4] = [
            ("normal", &normal),
            ("cube of a normal", &cube),
            ("leaning", &leaning),
            ("leaning the other way", &other),
        ];
        for (name, draw) in all {
            let share = dropped(draw, 0.0);
            // The standard deviation of a share of 0.05 over 4,000 races is 0.0034.
            assert!(share < 0.05 + 2.0 * 0.0034, "{name}: {share} of networks as good as their rival were dropped");
        }
        let share = dropped(&normal, 0.5);
        assert!(share > 0.8, "{share} of clearly dominated networks were dropped");
    }

    fn estimate(differences: &[f64], of: usize) -> Excess {
        let n = differences.len() as f64;
        let mean = differences.iter().sum::<f64>() / n;
        let variance = differences.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let stderr = (variance / n * (1.0 - n / of as f64)).sqrt();
        Excess::Paired { mean, stderr, items: differences.len() }
    }
}
