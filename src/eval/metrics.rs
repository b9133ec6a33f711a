//! From log-likelihoods to scores: per item first, then means with standard errors.

use serde::{Deserialize, Serialize};

use super::evaluator::ItemScore;
use super::packing::{EvalSet, PackedItem};
use crate::task::Scoring;

/// A way to score an item. Definitions as lm-evaluation-harness where it has the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// 1 when the true choice has the largest log-likelihood, the first of equals winning. For `mc2` the true
    /// choices' share of the probability, for `last_word` whether every token is the most likely one.
    Accuracy,
    /// The same with log-likelihoods divided by the choice's Unicode characters.
    AccNorm,
    /// −log of the true choices' share in the softmax over the choices' log-likelihoods, nats.
    ChoiceNll,
    /// The same with log-likelihoods divided by the choice's Unicode characters.
    ChoiceNllNorm,
    /// Forward KL(whole model ‖ network) per token, nats, over the whole model's 64 most likely tokens and one bucket
    /// for the rest.
    Kl,
    /// exp of the mean negative log-likelihood per token.
    Perplexity,
    /// exp of the mean negative log-likelihood per whitespace-separated word.
    WordPerplexity,
    /// exp of the mean negative log-likelihood per UTF-8 byte.
    BytePerplexity,
}

/// One item's contribution to a metric: the metric is Σ value / Σ weight, behind `exp` for perplexities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contribution {
    /// The numerator.
    pub value: f64,
    /// The denominator: 1 for means over items.
    pub weight: f64,
}

/// A metric over items, with its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The metric.
    pub value: f64,
    /// Its standard error over items; 0 for a single item.
    pub stderr: f64,
}

impl Metric {
    /// What every task is reported by: accuracy, or perplexity where there is nothing to choose.
    pub fn headline(scoring: Scoring) -> Metric {
        if Metric::Accuracy.applies_to(scoring) { Metric::Accuracy } else { Metric::Perplexity }
    }

    /// What networks are searched by when nothing else is said: with few items far less noisy than counting right answers.
    pub fn smooth(scoring: Scoring) -> Metric {
        if Metric::ChoiceNll.applies_to(scoring) { Metric::ChoiceNll } else { Metric::Perplexity }
    }

    /// Whether larger is better.
    pub fn maximize(self) -> bool {
        matches!(self, Metric::Accuracy | Metric::AccNorm)
    }

    /// An extrapolated value, where the metric has such values: accuracies are between 0 and 1, all others at least 0.
    pub fn in_range(self, value: f64) -> f64 {
        value.clamp(0.0, if self.maximize() { 1.0 } else { f64::INFINITY })
    }

    /// Whether it means anything for items scored like this.
    pub fn applies_to(self, scoring: Scoring) -> bool {
        match self {
            Metric::Accuracy => scoring != Scoring::Rolling,
            Metric::AccNorm | Metric::ChoiceNllNorm => matches!(scoring, Scoring::Choices | Scoring::Mc1),
            Metric::ChoiceNll => scoring != Scoring::Rolling,
            Metric::Kl | Metric::Perplexity => matches!(scoring, Scoring::Rolling | Scoring::LastWord),
            Metric::WordPerplexity | Metric::BytePerplexity => scoring == Scoring::Rolling,
        }
    }

    /// What one item contributes.
    pub fn contribution(self, scoring: Scoring, item: &PackedItem, score: &ItemScore) -> Contribution {
        let total: f64 = score.log_likelihoods.iter().sum();
        let mean = |value: f64| Contribution { value, weight: 1.0 };
        match (self, scoring) {
            (Metric::Kl, _) => {
                Contribution { value: score.divergence.unwrap_or(f64::NAN), weight: item.scored_tokens as f64 }
            }
            (Metric::Perplexity, _) => Contribution { value: -total, weight: item.scored_tokens as f64 },
            (Metric::WordPerplexity, _) => Contribution { value: -total, weight: item.words as f64 },
            (Metric::BytePerplexity, _) => Contribution { value: -total, weight: item.bytes as f64 },
            (Metric::Accuracy, Scoring::LastWord) => mean(f64::from(u8::from(score.greedy))),
            (Metric::ChoiceNll, Scoring::LastWord) => mean(-total),
            (Metric::Accuracy, Scoring::Mc2) => mean(gold_share(&score.log_likelihoods, &item.gold)),
            (Metric::Accuracy, _) => mean(hit(&score.log_likelihoods, &item.gold)),
            (Metric::AccNorm, _) => mean(hit(&normalised(score, item), &item.gold)),
            (Metric::ChoiceNll, _) => mean(-log_gold_share(&score.log_likelihoods, &item.gold)),
            (Metric::ChoiceNllNorm, _) => mean(-log_gold_share(&normalised(score, item), &item.gold)),
        }
    }

    /// What each item of an eval set contributes; `scores` are its items' in order.
    pub fn contributions(self, set: &EvalSet, scores: &[ItemScore]) -> Vec<Contribution> {
        set.items.iter().zip(scores).map(|(item, score)| self.contribution(set.scoring, item, score)).collect()
    }

    /// The metric over items. The standard error is the sample one (n − 1) of the mean; for ratios and
    /// perplexities by the delta method.
    pub fn estimate(self, contributions: &[Contribution]) -> Estimate {
        let (ratio, stderr) = ratio_with_error(contributions);
        match self {
            Metric::Perplexity | Metric::WordPerplexity | Metric::BytePerplexity => {
                Estimate { value: ratio.exp(), stderr: ratio.exp() * stderr }
            }
            _ => Estimate { value: ratio, stderr },
        }
    }

    /// The metric of `ours` minus that of `theirs` on the same items, with the standard error of the paired
    /// difference.
    pub fn difference(self, ours: &[Contribution], theirs: &[Contribution]) -> Estimate {
        let (a, b) = (self.estimate(ours), self.estimate(theirs));
        let weights: f64 = ours.iter().map(|one| one.weight).sum();
        let (ratio_a, ratio_b) = (ratio_with_error(ours).0, ratio_with_error(theirs).0);
        let (slope_a, slope_b) = match self {
            Metric::Perplexity | Metric::WordPerplexity | Metric::BytePerplexity => (a.value, b.value),
            _ => (1.0, 1.0),
        };
        // First-order influence of each item on the difference of the two ratios.
        let influence = ours.iter().zip(theirs).map(|(one, two)| {
            slope_a * (one.value - ratio_a * one.weight) - slope_b * (two.value - ratio_b * two.weight)
        });
        Estimate { value: a.value - b.value, stderr: influence_error(influence, ours.len(), weights) }
    }
}

/// Σ value / Σ weight and its standard error.
fn ratio_with_error(contributions: &[Contribution]) -> (f64, f64) {
    let weights: f64 = contributions.iter().map(|one| one.weight).sum();
    let ratio = contributions.iter().map(|one| one.value).sum::<f64>() / weights;
    let influence = contributions.iter().map(|one| one.value - ratio * one.weight);
    (ratio, influence_error(influence, contributions.len(), weights))
}

/// Standard error of a ratio whose items have these influences (which sum to zero).
fn influence_error(influence: impl Iterator<Item = f64>, items: usize, weights: f64) -> f64 {
    if items < 2 {
        return 0.0;
    }
    let squares: f64 = influence.map(|one| one * one).sum();
    let n = items as f64;
    (squares * n / (n - 1.0)).sqrt() / weights
}

/// Log-likelihoods per Unicode character. An empty choice cannot occur: it has no token to score.
fn normalised(score: &ItemScore, item: &PackedItem) -> Vec<f64> {
    score.log_likelihoods.iter().zip(&item.choice_chars).map(|(ll, &chars)| ll / chars.max(1) as f64).collect()
}

/// 1 when the first of the largest is a true choice.
fn hit(values: &[f64], gold: &[usize]) -> f64 {
    let mut best = 0;
    for (place, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = place;
        }
    }
    f64::from(u8::from(gold.contains(&best)))
}

fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = values.clone().fold(f64::NEG_INFINITY, f64::max);
    most + values.map(|value| (value - most).exp()).sum::<f64>().ln()
}

/// log of the true choices' share of the probability.
fn log_gold_share(values: &[f64], gold: &[usize]) -> f64 {
    log_sum_exp(gold.iter().map(|&choice| values[choice])) - log_sum_exp(values.iter().copied())
}

fn gold_share(values: &[f64], gold: &[usize]) -> f64 {
    log_gold_share(values, gold).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(gold: &[usize], chars: &[usize]) -> PackedItem {
        let (gold, choice_chars) = (gold.to_vec(), chars.to_vec());
        PackedItem { index: 0, gold, choice_chars, scored_tokens: 4, words: 2, bytes: 8 }
    }

    fn score(log_likelihoods: &[f64]) -> ItemScore {
        ItemScore { log_likelihoods: log_likelihoods.to_vec(), greedy: false, divergence: None }
    }

    fn value(metric: Metric, scoring: Scoring, item: &PackedItem, of: &ItemScore) -> f64 {
        metric.contribution(scoring, item, of).value
    }

    #[test]
    fn takes_the_first_of_equal_choices() {
        let tied = score(&[-2.0, -1.0, -1.0]);
        assert_eq!(value(Metric::Accuracy, Scoring::Choices, &item(&[1], &[1, 1, 1]), &tied), 1.0);
        assert_eq!(value(Metric::Accuracy, Scoring::Choices, &item(&[2], &[1, 1, 1]), &tied), 0.0);
    }

    #[test]
    fn divides_by_characters() {
        let long_choice = score(&[-3.0, -4.0]);
        assert_eq!(value(Metric::Accuracy, Scoring::Choices, &item(&[1], &[3, 8]), &long_choice), 0.0);
        assert_eq!(value(Metric::AccNorm, Scoring::Choices, &item(&[1], &[3, 8]), &long_choice), 1.0);
    }

    #[test]
    fn choice_nll_is_the_softmax_at_gold() {
        let half = value(Metric::ChoiceNll, Scoring::Choices, &item(&[0], &[1, 1]), &score(&[-5.0, -5.0]));
        assert!((half - 2_f64.ln()).abs() < 1e-12);
        let far = value(Metric::ChoiceNll, Scoring::Choices, &item(&[0], &[1, 1]), &score(&[-2000.0, 0.0]));
        assert!((far - 2000.0).abs() < 1e-9, "no overflow: {far}");
    }

    #[test]
    fn mc2_is_the_true_choices_share() {
        let shared = value(Metric::Accuracy, Scoring::Mc2, &item(&[0, 2], &[1, 1, 1]), &score(&[-1.0, -1.0, -1.0]));
        assert!((shared - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn standard_error_is_the_sample_one() {
        let ones = [1.0, 0.0, 1.0, 1.0].map(|value| Contribution { value, weight: 1.0 });
        let estimate = Metric::Accuracy.estimate(&ones);
        assert_eq!(estimate.value, 0.75);
        // sqrt(p (1 − p) / (n − 1)) for 0/1 items
        assert!((estimate.stderr - (0.75_f64 * 0.25 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn paired_difference_is_exact_where_items_agree() {
        let ours = [1.0, 0.0, 1.0].map(|value| Contribution { value, weight: 1.0 });
        assert_eq!(Metric::Accuracy.difference(&ours, &ours), Estimate { value: 0.0, stderr: 0.0 });
        let theirs = [0.0, 0.0, 1.0].map(|value| Contribution { value, weight: 1.0 });
        let delta = Metric::Accuracy.difference(&ours, &theirs);
        assert!((delta.value - 1.0 / 3.0).abs() < 1e-12);
        // differences 1, 0, 0: sample deviation sqrt(1/3), over sqrt(3)
        assert!((delta.stderr - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn perplexity_weighs_items_by_tokens() {
        let two = [Contribution { value: 2.0, weight: 1.0 }, Contribution { value: 2.0, weight: 3.0 }];
        assert!((Metric::Perplexity.estimate(&two).value - 1_f64.exp()).abs() < 1e-12);
        let word = Metric::WordPerplexity.contribution(Scoring::Rolling, &item(&[], &[]), &score(&[-4.0]));
        assert_eq!(word, Contribution { value: 4.0, weight: 2.0 });
    }
}
