//! How far a judgement hangs on its questions: both sides are drawn again with replacement, and the fit is made again on each draw (Efron
//! and Tibshirani 1993, "An Introduction to the Bootstrap", percentile intervals).

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::answers::Answers;
use super::costs::Costs;
use super::fitting::fit;

/// Draws.
pub const DRAWS: usize = 400;

/// From the 2.5th to the 97.5th percentile of the draws.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval(pub f64, pub f64);

/// Intervals of 95 % over draws of all questions, fitting included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Draws.
    pub draws: usize,
    /// Of the cascade's accuracy.
    pub accuracy: Interval,
    /// Of its cost a token.
    pub cost: Interval,
    /// Of its accuracy minus that of the single network within the budget.
    pub over_single: Interval,
    /// Of its accuracy minus that of the mixture of the same cost.
    pub over_mixture: Interval,
    /// Of its accuracy minus that of going on by chance.
    pub over_random: Interval,
}

impl Interval {
    fn of(mut draws: Vec<f64>) -> Interval {
        draws.sort_by(f64::total_cmp);
        let at = |share: f64| draws.get((share * draws.len() as f64) as usize).copied().unwrap_or(f64::NAN);
        Interval(at(0.025), at(0.975))
    }
}

impl Bootstrap {
    /// Fits on draws of `search` and judges on draws of `held_out`.
    pub fn draw(search: &Answers, held_out: &Answers, costs: &Costs, most: f64, draws: usize, seed: u64) -> Bootstrap {
        let one = |draw: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(draw as u64);
            let mut drawn = |count: usize| -> Vec<usize> { (0..count).map(|_| rng.random_range(0..count)).collect() };
            let (fitted_on, judged_on) = (drawn(search.len()), drawn(held_out.len()));
            let chain = fit(search, costs, most, &fitted_on)?;
            let found = chain.judge(costs, most, (search, &fitted_on), (held_out, &judged_on));
            let accuracy = found.cascade.accuracy;
            let over = [found.single, found.mixture, found.random].map(|rival| accuracy - rival.accuracy);
            Some([accuracy, found.cascade.cost, over[0], over[1], over[2]])
        };
        let found: Vec<[f64; 5]> = (0..draws).into_par_iter().filter_map(one).collect();
        let interval = |column: usize| Interval::of(found.iter().map(|row| row[column]).collect());
        Bootstrap {
            draws: found.len(),
            accuracy: interval(0),
            cost: interval(1),
            over_single: interval(2),
            over_mixture: interval(3),
            over_random: interval(4),
        }
    }
}
