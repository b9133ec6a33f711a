//! What an arithmetic changes of networks' scores, beside what the choice of the questions changes.

use std::fmt;

use super::score_change::ScoreChange;
use crate::eval::{Contribution, Metric};

/// A faster arithmetic is taken where its share is at most this.
pub const ALLOWED_SHARE: f64 = 0.25;

/// Scores of some networks in one arithmetic against theirs in float32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArithmeticError {
    /// Kendall's τ of the networks' scores: 1 where both order them alike.
    pub tau: f64,
    /// Mean of the absolute differences of a network's score.
    pub mean: f64,
    /// The largest of them.
    pub most: f64,
    /// By how much the arithmetic changes the difference of two networks, as a share of that difference's standard error on all
    /// items: root mean square over pairs of networks. What changes is taken as the same on all items, which it is at most.
    pub share: f64,
    /// Networks.
    pub networks: usize,
    /// Items that they were scored on.
    pub items: usize,
}

impl ArithmeticError {
    /// Of what the items of each network contribute, in one arithmetic and in float32, where `all` items decide.
    pub fn of(metric: Metric, ours: &[Vec<Contribution>], exact: &[Vec<Contribution>], all: usize) -> ArithmeticError {
        let items = exact.first().map_or(0, Vec::len);
        let values =
            |of: &[Vec<Contribution>]| -> Vec<f64> { of.iter().map(|one| metric.estimate(one).value).collect() };
        let (our_values, exact_values) = (values(ours), values(exact));
        let changes: Vec<f64> = our_values.iter().zip(&exact_values).map(|(ours, exact)| ours - exact).collect();
        let to_all = (items as f64 / all.max(1) as f64).sqrt();
        let mut shares = Vec::new();
        for one in 0..exact.len() {
            for other in 0..one {
                let error = metric.difference(&exact[one], &exact[other]).stderr * to_all;
                let change = changes[one] - changes[other];
                // Networks without any difference are told apart by nothing.
                shares.push(if change == 0.0 { 0.0 } else { change / error });
            }
        }
        let ScoreChange { tau, mean, most } = ScoreChange::of(&our_values, &exact_values);
        let squares: f64 = shares.iter().map(|share| share * share).sum();
        ArithmeticError {
            tau,
            mean,
            most,
            share: (squares / shares.len().max(1) as f64).sqrt(),
            networks: exact.len(),
            items,
        }
    }

    /// Whether it is small against what the choice of the questions changes. What is no number is not.
    pub fn is_small(&self) -> bool {
        self.share <= ALLOWED_SHARE
    }
}

impl fmt::Display for ArithmeticError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ArithmeticError { tau, mean, most, share, networks, items } = self;
        write!(
            f,
            "{networks} networks on {items} items differ from float32 by {mean:.4} on the mean, {most:.4} at most, Kendall's tau \
             {tau:.3}; differences of two by {share:.3} of their standard error ({ALLOWED_SHARE} is allowed)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contributions(values: &[f64]) -> Vec<Contribution> {
        values.iter().map(|&value| Contribution { value, weight: 1.0 }).collect()
    }

    #[test]
    fn a_change_is_measured_by_the_standard_error_of_a_difference() {
        let metric = Metric::smooth(crate::task::Scoring::Choices);
        let exact = [contributions(&[1.0, 2.0, 3.0, 4.0]), contributions(&[1.0, 1.0, 2.0, 2.0])];
        // Differences 0, 1, 1, 2: mean 1, standard error √(2/3)/2 = 0.408 on four items, half of it on sixteen.
        let ours = [contributions(&[1.1, 2.1, 3.1, 4.1]), contributions(&[1.0, 1.0, 2.0, 2.0])];
        let error = ArithmeticError::of(metric, &ours, &exact, 16);
        assert!((error.share - 0.1 / (0.5 * (2.0_f64 / 3.0).sqrt() / 2.0)).abs() < 1e-9, "{error:?}");
        assert!((error.mean - 0.05).abs() < 1e-12 && (error.most - 0.1).abs() < 1e-12 && error.tau == 1.0, "{error:?}");
        assert!(!error.is_small());
        let same = ArithmeticError::of(metric, &exact, &exact, 16);
        assert!(same.share == 0.0 && same.is_small());
        let lost = [contributions(&[f64::NAN; 4]), exact[1].clone()];
        assert!(!ArithmeticError::of(metric, &lost, &exact, 16).is_small());
    }
}
