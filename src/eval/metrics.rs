//! From log-likelihoods to scores: per item first, then means with standard errors.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::contribution::Contribution;
use super::eval_set::{EvalSet, PackedItem};
use super::evaluator::ItemScore;
use super::quantity::{ItemMetric, Mean, Quantity, Source, TABLE, row};
use crate::task::Scoring;

/// A way to score a task's items: a row of the table of quantities.
#[derive(Clone, Copy)]
pub struct Metric(&'static Quantity);

/// A metric over items, with its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The metric.
    pub value: f64,
    /// Its standard error over items; 0 for a single item.
    pub stderr: f64,
}

impl Metric {
    /// The share of items whose true choice is the likeliest.
    pub const ACCURACY: Metric = Metric(row("accuracy"));
    /// The share of items whose written answer is a right one.
    pub const EXACT_MATCH: Metric = Metric(row("exact_match"));
    /// Accuracy by log-likelihoods per character.
    pub const ACC_NORM: Metric = Metric(row("acc_norm"));
    /// −log of the true choices' share of the probability.
    pub const CHOICE_NLL: Metric = Metric(row("choice_nll"));
    /// −log2 of the true answer's probability per UTF-8 byte.
    pub const BITS_PER_BYTE: Metric = Metric(row("bits_per_byte"));
    /// exp of the mean negative log-likelihood per token.
    pub const PERPLEXITY: Metric = Metric(row("perplexity"));

    /// Every metric, in the order in which they are reported.
    pub fn all() -> impl Iterator<Item = Metric> {
        TABLE.iter().filter_map(Metric::of)
    }

    /// The metric that a row of the table is.
    pub(super) fn of(quantity: &'static Quantity) -> Option<Metric> {
        matches!(quantity.source, Source::Items(_)).then_some(Metric(quantity))
    }

    /// What every task is reported by: the first metric that applies, which is accuracy, exact match where answers are written, or
    /// perplexity where there is nothing to choose.
    pub fn headline(scoring: Scoring) -> Metric {
        Metric::first(scoring, true)
    }

    /// What a set is reported by: the same, or, where networks could write and do not, the perplexity of the answers.
    pub fn headline_of(set: &EvalSet) -> Metric {
        Metric::first(set.scoring, set.writes)
    }

    fn first(scoring: Scoring, writes: bool) -> Metric {
        let known = |metric: &Metric| metric.applies_to(scoring) && (writes || !metric.writes());
        Metric::all().find(known).expect("perplexity applies where accuracy does not")
    }

    /// What networks are searched by when nothing else is said: with few items far less noisy than counting right answers.
    pub fn smooth(scoring: Scoring) -> Metric {
        match scoring {
            // Small networks write no right answer at all, and still differ in how likely the right one is.
            Scoring::Generate => Metric::BITS_PER_BYTE,
            Scoring::Rolling => Metric::PERPLEXITY,
            _ => Metric::CHOICE_NLL,
        }
    }

    fn items(self) -> &'static ItemMetric {
        match &self.0.source {
            Source::Items(items) => items,
            _ => unreachable!("a metric is made of a row of items"),
        }
    }

    /// What it is called in objectives.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// What it is called on one task, such as `accuracy:piqa`.
    pub fn on(self, task: &str) -> String {
        format!("{}:{task}", self.name())
    }

    /// What `criadero eval` calls it.
    pub fn eval_name(self) -> &'static str {
        self.items().eval_name
    }

    /// Whether networks must be compared with the whole model token by token for it.
    pub fn compares(self) -> bool {
        self.items().compares
    }

    /// Whether networks must write for it.
    pub fn writes(self) -> bool {
        self.items().writes
    }

    /// Whether its values lie between 0 and 1; all others are 0 or more.
    pub fn is_fraction(self) -> bool {
        self.items().fraction
    }

    /// What guessing gets, where the accuracy of guessing is `chance`; nothing where that says nothing.
    pub fn guess(self, chance: f64) -> Option<f64> {
        self.items().guess.map(|guess| guess(chance))
    }

    /// An extrapolated value, where the metric has such values.
    pub fn in_range(self, value: f64) -> f64 {
        value.clamp(0.0, if self.is_fraction() { 1.0 } else { f64::INFINITY })
    }

    /// Whether it means anything for items scored like this.
    pub fn applies_to(self, scoring: Scoring) -> bool {
        (self.items().applies)(scoring)
    }

    /// What one item contributes.
    pub fn contribution(self, scoring: Scoring, item: &PackedItem, score: &ItemScore) -> Contribution {
        (self.items().contribution)(scoring, item, score)
    }

    /// What each item of an eval set contributes; `scores` are its items' in order.
    pub fn contributions(self, set: &EvalSet, scores: &[ItemScore]) -> Vec<Contribution> {
        set.items.iter().zip(scores).map(|(item, score)| self.contribution(set.scoring, item, score)).collect()
    }

    /// The metric over items. The standard error is the sample one (n − 1) of the mean; for ratios and
    /// perplexities by the delta method.
    pub fn estimate(self, contributions: &[Contribution]) -> Estimate {
        let (ratio, stderr) = ratio_with_error(contributions);
        match self.items().mean {
            Mean::Exp => Estimate { value: ratio.exp(), stderr: ratio.exp() * stderr },
            Mean::Plain => Estimate { value: ratio, stderr },
        }
    }

    /// The metric of `ours` minus that of `theirs` on the same items, with the standard error of the paired
    /// difference.
    pub fn difference(self, ours: &[Contribution], theirs: &[Contribution]) -> Estimate {
        let (a, b) = (self.estimate(ours), self.estimate(theirs));
        let weights: f64 = ours.iter().map(|one| one.weight).sum();
        let (ratio_a, ratio_b) = (ratio_with_error(ours).0, ratio_with_error(theirs).0);
        let (slope_a, slope_b) = match self.items().mean {
            Mean::Exp => (a.value, b.value),
            Mean::Plain => (1.0, 1.0),
        };
        // First-order influence of each item on the difference of the two ratios.
        let influence = ours.iter().zip(theirs).map(|(one, two)| {
            slope_a * (one.value - ratio_a * one.weight) - slope_b * (two.value - ratio_b * two.weight)
        });
        Estimate { value: a.value - b.value, stderr: influence_error(influence, ours.len(), weights) }
    }
}

/// Rows have names of their own.
impl PartialEq for Metric {
    fn eq(&self, other: &Metric) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Metric {}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Metric {
        Metric::all().find(|metric| metric.name() == name).unwrap()
    }

    fn item(gold: &[usize], chars: &[usize]) -> PackedItem {
        let (gold, choice_chars, choice_bytes) = (gold.to_vec(), chars.to_vec(), chars.to_vec());
        PackedItem { index: 0, gold, choice_chars, choice_bytes, scored_tokens: 4, words: 2, bytes: 8, answers: vec![] }
    }

    fn score(log_likelihoods: &[f64]) -> ItemScore {
        ItemScore { log_likelihoods: log_likelihoods.to_vec(), ..ItemScore::default() }
    }

    fn value(metric: Metric, scoring: Scoring, item: &PackedItem, of: &ItemScore) -> f64 {
        metric.contribution(scoring, item, of).value
    }

    #[test]
    fn takes_the_first_of_equal_choices() {
        let tied = score(&[-2.0, -1.0, -1.0]);
        assert_eq!(value(Metric::ACCURACY, Scoring::Choices, &item(&[1], &[1, 1, 1]), &tied), 1.0);
        assert_eq!(value(Metric::ACCURACY, Scoring::Choices, &item(&[2], &[1, 1, 1]), &tied), 0.0);
    }

    #[test]
    fn divides_by_characters() {
        let long_choice = score(&[-3.0, -4.0]);
        assert_eq!(value(Metric::ACCURACY, Scoring::Choices, &item(&[1], &[3, 8]), &long_choice), 0.0);
        assert_eq!(value(named("acc_norm"), Scoring::Choices, &item(&[1], &[3, 8]), &long_choice), 1.0);
    }

    #[test]
    fn choice_nll_is_the_softmax_at_gold() {
        let half = value(Metric::CHOICE_NLL, Scoring::Choices, &item(&[0], &[1, 1]), &score(&[-5.0, -5.0]));
        assert!((half - 2_f64.ln()).abs() < 1e-12);
        let far = value(Metric::CHOICE_NLL, Scoring::Choices, &item(&[0], &[1, 1]), &score(&[-2000.0, 0.0]));
        assert!((far - 2000.0).abs() < 1e-9, "no overflow: {far}");
    }

    #[test]
    fn texts_are_reported_by_perplexity_and_questions_by_accuracy() {
        assert_eq!(Metric::headline(Scoring::Rolling), Metric::PERPLEXITY);
        assert_eq!(Metric::headline(Scoring::Choices), Metric::ACCURACY);
        assert_eq!(Metric::headline(Scoring::Generate), Metric::EXACT_MATCH);
        assert_eq!(Metric::first(Scoring::Generate, false), Metric::PERPLEXITY);
        assert_eq!(Metric::smooth(Scoring::Generate), Metric::BITS_PER_BYTE);
    }

    #[test]
    fn bits_per_byte_are_those_of_the_true_choices_alone() {
        let bits = |gold: &[usize], far| {
            let scored = score(&[-8.0 * 2_f64.ln(), far, -6.0 * 2_f64.ln()]);
            value(named("bits_per_byte"), Scoring::Choices, &item(gold, &[4, 1, 6]), &scored)
        };
        assert!((bits(&[0], -1.0) - 2.0).abs() < 1e-12, "8 bits for 4 bytes");
        assert_eq!(bits(&[0], -1.0), bits(&[0], -1000.0), "whatever the others are");
        assert!((bits(&[0, 2], -1.0) - 1.5).abs() < 1e-12, "the mean of 2 and 1");
    }

    #[test]
    fn mc2_is_the_true_choices_share() {
        let shared = value(Metric::ACCURACY, Scoring::Mc2, &item(&[0, 2], &[1, 1, 1]), &score(&[-1.0, -1.0, -1.0]));
        assert!((shared - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn standard_error_is_the_sample_one() {
        let ones = [1.0, 0.0, 1.0, 1.0].map(|value| Contribution { value, weight: 1.0 });
        let estimate = Metric::ACCURACY.estimate(&ones);
        assert_eq!(estimate.value, 0.75);
        // sqrt(p (1 − p) / (n − 1)) for 0/1 items
        assert!((estimate.stderr - (0.75_f64 * 0.25 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn paired_difference_is_exact_where_items_agree() {
        let ours = [1.0, 0.0, 1.0].map(|value| Contribution { value, weight: 1.0 });
        assert_eq!(Metric::ACCURACY.difference(&ours, &ours), Estimate { value: 0.0, stderr: 0.0 });
        let theirs = [0.0, 0.0, 1.0].map(|value| Contribution { value, weight: 1.0 });
        let delta = Metric::ACCURACY.difference(&ours, &theirs);
        assert!((delta.value - 1.0 / 3.0).abs() < 1e-12);
        // differences 1, 0, 0: sample deviation sqrt(1/3), over sqrt(3)
        assert!((delta.stderr - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn perplexity_weighs_items_by_tokens() {
        let two = [Contribution { value: 2.0, weight: 1.0 }, Contribution { value: 2.0, weight: 3.0 }];
        assert!((Metric::PERPLEXITY.estimate(&two).value - 1_f64.exp()).abs() < 1e-12);
        let word = named("word_perplexity").contribution(Scoring::Rolling, &item(&[], &[]), &score(&[-4.0]));
        assert_eq!(word, Contribution { value: 4.0, weight: 2.0 });
    }
}
