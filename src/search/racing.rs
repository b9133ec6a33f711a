//! Racing: networks that are surely not on the front are not scored to the end.
//!
//! All networks of a population are scored on the first chunks, and after each stage those go that another one
//! dominates beyond doubt: paired differences on the same items, as in Hoeffding races (Maron and Moore, "Hoeffding
//! races", 1994) with the paired t-test that F-Race's authors use between survivors (Birattari et al., "A racing
//! algorithm for configuring metaheuristics", 2002), here with domination in place of one objective.
//!
//! The stated error bounds the probability that a network is dropped which, scored on all items, is not dominated.
//! To dominate, a rival must be surely better in *every* measured objective, so several objectives need no correction
//! (an intersection-union test); the comparisons with several rivals in several stages share the error equally
//! (Bonferroni). Items are drawn without replacement from the search split, so errors shrink to 0 as they run out.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::error::{Error, Result};

/// With fewer items than this no network is dropped: the t-distribution is no good guide to skewed differences.
const LEAST_ITEMS: usize = 16;

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

impl Racing {
    /// Races with this error.
    ///
    /// # Errors
    /// An error that is not between 0 and 1.
    pub fn new(error: f64) -> Result<Racing> {
        match error > 0.0 && error < 1.0 {
            true => Ok(Racing { error }),
            false => Err(Error::invalid("racing error", error, "a probability between 0 and 1, such as 0.05")),
        }
    }

    /// How many of each eval set's chunks every stage has scored, each stage more than the one before.
    pub fn stages(chunks: &[usize]) -> Vec<Vec<usize>> {
        let stage = |stage: u32| chunks.iter().map(|count| count.div_ceil(1 << (STAGES - 1 - stage))).collect();
        let mut stages: Vec<Vec<usize>> = (0..STAGES).map(stage).collect();
        stages.dedup();
        stages
    }

    /// The error of one comparison of a network that is compared with `rivals` after each but the last of `stages`.
    pub fn level(&self, rivals: usize, stages: usize) -> f64 {
        self.error / (rivals.max(1) * stages.saturating_sub(1).max(1)) as f64
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
    use rand_distr::StandardNormal;

    fn paired(mean: f64, stderr: f64) -> Excess {
        Excess::Paired { mean, stderr, items: 21 }
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
        // The 0.95 quantile of Student's t with 20 degrees of freedom is 1.7247.
        assert!(surely_dominated(&[paired(1.7248, 1.0)], 0.05));
        assert!(!surely_dominated(&[paired(1.7246, 1.0)], 0.05));
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

    /// Networks whose means over all items are equal or better are dropped no more often than stated. Differences are
    /// skewed and heavy-tailed, as those of likelihoods are.
    #[test]
    fn drops_no_more_good_networks_than_it_says() {
        let (races, rivals, items) = (2000, 10, 64);
        let racing = Racing::new(0.1).unwrap();
        let stages = Racing::stages(&[items]);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (mut dropped, mut dropped_bad) = (0, 0);
        for _ in 0..races {
            // What the network loses to each rival, item by item; the mean over all items is 0, or clearly above.
            let mut differences = |mean: f64| -> Vec<f64> {
                let draw = |rng: &mut ChaCha8Rng| -> f64 { rng.sample::<f64, _>(StandardNormal).powi(3) };
                let all: Vec<f64> = (0..items).map(|_| draw(&mut rng)).collect();
                let offset = all.iter().sum::<f64>() / items as f64 - mean;
                all.into_iter().map(|one| one - offset).collect()
            };
            let good: Vec<Vec<f64>> = (0..rivals).map(|_| differences(0.0)).collect();
            let bad = vec![differences(6.0)];
            let is_dropped = |all: &[Vec<f64>]| {
                stages[..stages.len() - 1].iter().any(|stage| {
                    let level = racing.level(all.len(), stages.len());
                    all.iter().any(|one| surely_dominated(&[estimate(&one[..stage[0]], items)], level))
                })
            };
            dropped += usize::from(is_dropped(&good));
            dropped_bad += usize::from(is_dropped(&bad));
        }
        let share = dropped as f64 / races as f64;
        assert!(share < 0.1, "{share} of networks that nothing dominates were dropped");
        assert!(dropped_bad > races / 2, "{dropped_bad} clearly dominated ones of {races} were dropped");
    }

    fn estimate(differences: &[f64], of: usize) -> Excess {
        let n = differences.len() as f64;
        let mean = differences.iter().sum::<f64>() / n;
        let variance = differences.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let stderr = (variance / n * (1.0 - n / of as f64)).sqrt();
        Excess::Paired { mean, stderr, items: differences.len() }
    }
}
