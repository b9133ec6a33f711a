//! What networks answered to the same questions, as plain numbers.

use super::confidence::Confidence;
use crate::error::{Error, Result};
use crate::eval::{EvalSet, ItemScore, hit, per_character};
use crate::task::Scoring;

/// The choices' scores of some networks on the same questions.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    /// Of each network, of each question, of each choice: a natural logarithm.
    pub scores: Vec<Vec<Vec<f64>>>,
    /// Of each question its true choices.
    pub gold: Vec<Vec<usize>>,
    /// Of each question the tokens that a network reads for it.
    pub tokens: Vec<f64>,
}

/// What log-likelihoods are compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choosing {
    /// As they are: `accuracy`.
    Accuracy,
    /// A Unicode character of each choice: `acc_norm`.
    AccNorm,
}

impl Choosing {
    /// By the name of the metric.
    pub fn named(metric: &str) -> Option<Choosing> {
        [Choosing::Accuracy, Choosing::AccNorm].into_iter().find(|one| one.name() == metric)
    }

    /// The name of the metric.
    pub fn name(self) -> &'static str {
        match self {
            Choosing::Accuracy => "accuracy",
            Choosing::AccNorm => "acc_norm",
        }
    }

    /// A question's scores; `chars` are the characters of its choices.
    pub fn scores(self, log_likelihoods: &[f64], chars: &[usize]) -> Vec<f64> {
        match self {
            Choosing::Accuracy => log_likelihoods.to_vec(),
            Choosing::AccNorm => per_character(log_likelihoods, chars),
        }
    }
}

/// Refuses a set of other items than questions with one true choice: a cascade goes by what it chooses.
///
/// # Errors
/// `Invalid` with what its items are.
pub fn check_chooses(set: &EvalSet) -> Result<()> {
    if matches!(set.scoring, Scoring::Choices | Scoring::Contexts | Scoring::Mc1) {
        return Ok(());
    }
    let found = format!("a task of {}", set.scoring.about());
    Err(Error::invalid(
        format!("cascade on {}", set.name),
        found,
        "questions to choose an answer of: a cascade goes by its choice",
    ))
}

impl Answers {
    /// The answers of networks to an eval set of questions with one true choice.
    ///
    /// # Errors
    /// `Invalid` for a set of another kind.
    pub fn of(set: &EvalSet, networks: &[Vec<ItemScore>], choosing: Choosing) -> Result<Answers> {
        check_chooses(set)?;
        let of_network = |scores: &Vec<ItemScore>| {
            let one = |(item, score): (&crate::eval::PackedItem, &ItemScore)| {
                choosing.scores(&score.log_likelihoods, &item.choice_chars)
            };
            set.items.iter().zip(scores).map(one).collect()
        };
        Ok(Answers {
            scores: networks.iter().map(of_network).collect(),
            gold: set.items.iter().map(|item| item.gold.clone()).collect(),
            tokens: set.item_tokens(),
        })
    }

    /// How many questions there are.
    pub fn len(&self) -> usize {
        self.gold.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.gold.is_empty()
    }

    /// A network's temperature on some questions.
    pub fn confidence(&self, network: usize, questions: &[usize]) -> Confidence {
        let of = |&question: &usize| (&self.scores[network][question][..], &self.gold[question][..]);
        Confidence::fitted(questions.iter().map(of))
    }

    /// Whether a network's answer to a question is right, 1 or 0.
    pub fn right(&self, network: usize, question: usize) -> f64 {
        hit(&self.scores[network][question], &self.gold[question])
    }

    /// The same, and the answer's share.
    pub fn answer(&self, network: usize, question: usize, confidence: Confidence) -> (f64, f64) {
        (self.right(network, question), confidence.of(&self.scores[network][question]).1)
    }
}
