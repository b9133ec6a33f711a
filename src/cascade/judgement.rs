//! What a chain is worth on questions that it was not fitted to, beside what it must be better than.

use serde::{Deserialize, Serialize};

use super::answers::Answers;
use super::costs::{Costs, SAME};
use super::fitting::Chain;

/// A way to answer, on the mean over questions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The share of right answers.
    pub accuracy: f64,
    /// What it costs a token, in the budget's unit.
    pub cost: f64,
}

/// A chain and its rivals on the same questions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The chain.
    pub cascade: Judged,
    /// Of each of its networks the share of questions that it answers.
    pub answered: Vec<f64>,
    /// The one network that is right most often on the questions of the fit, of those within the budget.
    pub single: Judged,
    /// Two networks, or one, drawn by chance for each question, at the cascade's own mean cost: the best by the questions of the fit. What
    /// a front without cascades gives.
    pub mixture: Judged,
    /// The chain's networks, going on as often, but by chance.
    pub random: Judged,
    /// The chain's networks, each question answered by the first that is right.
    pub oracle: Judged,
}

/// The networks of a front that are drawn by chance: their places, and how often the second is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mixture([usize; 2], f64);

impl Chain {
    /// Of a question the place in the chain of the network that answers it.
    fn stage_of(&self, answers: &Answers, question: usize) -> usize {
        let sure = |place: usize| {
            let (_, share) = answers.answer(self.networks[place], question, self.confidences[place]);
            share >= self.thresholds[place]
        };
        (0..self.thresholds.len()).find(|&place| sure(place)).unwrap_or(self.thresholds.len())
    }

    /// What the chain is worth on `on`, where its networks and their rivals were chosen by `by` within `most` a token.
    pub fn judge(
        &self,
        costs: &Costs,
        most: f64,
        (by, chosen_on): (&Answers, &[usize]),
        (on, questions): (&Answers, &[usize]),
    ) -> Judgement {
        let tokens: f64 = questions.iter().map(|&question| on.tokens[question]).sum();
        let count = questions.len() as f64;
        let right = |network: usize, question: usize| on.right(network, question);
        let accuracy_of = |network| questions.iter().map(|&question| right(network, question)).sum::<f64>() / count;
        // Cost of asking the chain's networks up to one of them.
        let up_to = costs.up_to(&self.networks);
        let played = |stage: &dyn Fn(usize) -> usize| {
            let of = |&question: &usize| {
                let stage = stage(question);
                [right(self.networks[stage], question) / count, up_to[stage] * on.tokens[question] / tokens]
            };
            let sums = questions.iter().map(of).fold([0.0; 2], |sum, one| [sum[0] + one[0], sum[1] + one[1]]);
            Judged { accuracy: sums[0], cost: sums[1] }
        };
        let stage = |question| self.stage_of(on, question);
        let mut answered = vec![0.0; self.networks.len()];
        questions.iter().for_each(|&question| answered[stage(question)] += 1.0 / count);
        let cascade = played(&stage);
        let oracle = |question| self.networks.iter().position(|&network| right(network, question) > 0.0).unwrap_or(0);
        let by_chance = |values: &mut dyn FnMut(usize) -> f64| -> f64 {
            answered.iter().enumerate().map(|(place, share)| share * values(place)).sum()
        };
        // As they were chosen: by right answers to the questions of the fit.
        let known: Vec<f64> = (0..costs.of.len())
            .map(|network| {
                let hits = chosen_on.iter().map(|&question| by.right(network, question));
                hits.sum::<f64>() / chosen_on.len() as f64
            })
            .collect();
        let Mixture([one, _], _) = best_mixture(&known, &costs.of, most, true);
        let Mixture([low, high], often) = best_mixture(&known, &costs.of, cascade.cost, false);
        let between = |low: f64, high: f64| low + often * (high - low);
        Judgement {
            random: Judged {
                accuracy: by_chance(&mut |place| accuracy_of(self.networks[place])),
                cost: by_chance(&mut |place| up_to[place]),
            },
            single: Judged { accuracy: accuracy_of(one), cost: costs.of[one] },
            mixture: Judged {
                accuracy: between(accuracy_of(low), accuracy_of(high)),
                cost: between(costs.of[low], costs.of[high]),
            },
            oracle: played(&oracle),
            cascade,
            answered,
        }
    }
}

/// The networks, two or with `alone` one, that are right most often for `cost` on the mean; where all cost more, the cheapest.
fn best_mixture(accuracies: &[f64], costs: &[f64], cost: f64, alone: bool) -> Mixture {
    let count = costs.len();
    let cheapest = (0..count).min_by(|&a, &b| costs[a].total_cmp(&costs[b])).unwrap_or(0);
    let mut best = (f64::NEG_INFINITY, Mixture([cheapest; 2], 0.0));
    for low in (0..count).filter(|&low| costs[low] <= cost * (1.0 + SAME)) {
        let mut offer = |high: usize, often: f64| {
            let accuracy = accuracies[low] + often * (accuracies[high] - accuracies[low]);
            if accuracy > best.0 || (accuracy == best.0 && costs[low] < costs[best.1.0[0]]) {
                best = (accuracy, Mixture([low, high], often));
            }
        };
        offer(low, 0.0);
        if !alone {
            let dearer =
                (0..count).filter(|&high| costs[high] > cost * (1.0 + SAME) && costs[high] > costs[low] * (1.0 + SAME));
            dearer.for_each(|high| offer(high, ((cost - costs[low]) / (costs[high] - costs[low])).clamp(0.0, 1.0)));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cascade::fitting::fit;

    #[test]
    fn a_mixture_lies_on_the_line_between_its_networks() {
        let (accuracies, costs) = ([0.2, 0.6, 0.5, 0.8], [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(best_mixture(&accuracies, &costs, 3.0, false), Mixture([1, 3], 0.5));
        assert_eq!(best_mixture(&accuracies, &costs, 3.0, true), Mixture([1, 1], 0.0));
        assert_eq!(
            best_mixture(&accuracies, &costs, 0.5, false),
            Mixture([0, 0], 0.0),
            "the cheapest where all cost more"
        );
    }

    #[test]
    fn rivals_are_what_they_say() {
        // The first network is right and sure on half of the questions, else unsure and wrong; the second is right always.
        let small: Vec<Vec<f64>> =
            (0..64).map(|place| if place < 32 { vec![6.0, 0.0] } else { vec![-0.1, 0.0] }).collect();
        let large = vec![vec![6.0, 0.0]; 64];
        let answers = Answers { scores: vec![small, large], gold: vec![vec![0]; 64], tokens: vec![10.0; 64] };
        let costs = Costs { of: vec![1.0, 4.0], shared: vec![vec![0.0; 2]; 2] };
        let questions: Vec<usize> = (0..64).collect();
        let chain = fit(&answers, &costs, 3.0, &questions).unwrap();
        let found = chain.judge(&costs, 3.0, (&answers, &questions), (&answers, &questions));
        assert_eq!(found.answered, [0.5, 0.5]);
        for (one, accuracy, cost) in [
            (found.cascade, 1.0, 3.0),
            (found.single, 0.5, 1.0),
            (found.mixture, 0.5 + 2.0 / 3.0 * 0.5, 3.0),
            (found.random, 0.75, 3.0),
            (found.oracle, 1.0, 3.0),
        ] {
            assert!((one.accuracy - accuracy).abs() < 1e-9 && (one.cost - cost).abs() < 1e-9, "{found:?}");
        }
    }
}
