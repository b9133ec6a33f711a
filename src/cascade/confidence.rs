//! How sure a network is of a choice: the share that its softmax gives it, at a temperature at which shares are honest (Guo et al.
//! 2017, "On Calibration of Modern Neural Networks", section 4.2).
//!
//! Log-likelihoods of long choices lie further apart than those of short ones, and mean no more. So the temperature may be one of the question's
//! likeliest score, whichever makes the true choices likelier.

use serde::{Deserialize, Serialize};

use crate::eval::{likeliest, log_gold_share};

/// Bounds of a temperature: beyond them shares are equal, or nothing but 0 and 1.
const TEMPERATURES: [f64; 2] = [0.01, 1000.0];
/// Halvings of the interval that the inverse temperature lies in.
const STEPS: usize = 60;

/// A network's temperature.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// What scores are divided by.
    pub temperature: f64,
    /// Whether scores are first divided by the size of the question's largest one.
    pub relative: bool,
}

impl Confidence {
    /// Whether it is a temperature.
    pub fn is_sound(self) -> bool {
        (TEMPERATURES[0]..=TEMPERATURES[1]).contains(&self.temperature)
    }

    /// The first of the likeliest choices, and its share. `scores` are natural logarithms, one a choice.
    ///
    /// ```
    /// let (choice, share) = criadero::cascade::Confidence { temperature: 2.0, relative: false }.of(&[-5.0, -3.0]);
    /// assert_eq!(choice, 1);
    /// assert!((share - 1.0 / (1.0 + (-1.0_f64).exp())).abs() < 1e-12);
    /// ```
    pub fn of(self, scores: &[f64]) -> (usize, f64) {
        let best = likeliest(scores);
        let unit = self.temperature * unit(scores, self.relative);
        let total: f64 = scores.iter().map(|score| ((score - scores[best]) / unit).exp()).sum();
        (best, 1.0 / total)
    }

    /// The mean negative logarithm of the true choices' share, of which all of them are taken together.
    fn loss<'a>(self, questions: impl Iterator<Item = (&'a [f64], &'a [usize])>) -> f64 {
        let loss = |(scores, gold): (&[f64], &[usize])| {
            let unit = self.temperature * unit(scores, self.relative);
            let scaled: Vec<f64> = scores.iter().map(|score| score / unit).collect();
            -log_gold_share(&scaled, gold)
        };
        questions.map(loss).sum()
    }

    /// The temperature at which the true choices are likeliest, of questions with their scores and true choices.
    pub fn fitted<'a>(questions: impl Iterator<Item = (&'a [f64], &'a [usize])> + Clone) -> Confidence {
        let [plain, relative] = [false, true].map(|relative| Confidence::with(relative, questions.clone()));
        if relative.loss(questions.clone()) < plain.loss(questions) { relative } else { plain }
    }

    /// The mean negative logarithm of the true choices' share is convex in the inverse temperature, so its slope is halved to 0.
    fn with<'a>(relative: bool, questions: impl Iterator<Item = (&'a [f64], &'a [usize])> + Clone) -> Confidence {
        let [least, most] = TEMPERATURES.map(|temperature: f64| temperature.recip().ln());
        // In logarithms, which spread the interval evenly.
        let (mut low, mut high) = (most, least);
        for _ in 0..STEPS {
            let middle = f64::midpoint(low, high);
            let slope_of = |(scores, gold)| {
                let unit = unit(scores, relative);
                slope(scores, gold, middle.exp() / unit) / unit
            };
            if questions.clone().map(slope_of).sum::<f64>() > 0.0 { high = middle } else { low = middle }
        }
        let temperature = f64::midpoint(low, high).exp().recip().clamp(TEMPERATURES[0], TEMPERATURES[1]);
        Confidence { temperature, relative }
    }
}

/// What a question's scores are divided by before the temperature.
fn unit(scores: &[f64], relative: bool) -> f64 {
    if relative { scores[likeliest(scores)].abs().max(f64::MIN_POSITIVE) } else { 1.0 }
}

/// d/dβ of −ln share of the true choices, at the inverse temperature β: the mean score of all choices minus that of the true ones.
fn slope(scores: &[f64], gold: &[usize], inverse: f64) -> f64 {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weight = |score: f64| ((score - most) * inverse).exp();
    let mean = |of: &mut dyn Iterator<Item = f64>| {
        let (mut total, mut sum) = (0.0, 0.0);
        for score in of {
            total += weight(score);
            sum += weight(score) * (score - most);
        }
        if total > 0.0 { Some(sum / total) } else { None }
    };
    // Where all true ones vanish, the likeliest of them is what is left.
    let likeliest = gold.iter().map(|&choice| scores[choice] - most).fold(f64::NEG_INFINITY, f64::max);
    let all = mean(&mut scores.iter().copied()).unwrap_or(0.0);
    all - mean(&mut gold.iter().map(|&choice| scores[choice])).unwrap_or(likeliest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_temperature_that_the_answers_were_drawn_at() {
        // Three of four questions of two choices are right, at a distance of 4: share 0.75 = 1 / (1 + exp(-4 / T)).
        let scores = [0.0, -4.0];
        let gold = [[0], [0], [0], [1]];
        let questions = gold.iter().map(|gold| (&scores[..], &gold[..]));
        let found = Confidence::with(false, questions);
        assert!((found.temperature - 4.0 / 3.0_f64.ln()).abs() < 1e-6, "{found:?}");
        assert!((found.of(&scores).1 - 0.75).abs() < 1e-9);
    }

    #[test]
    fn stays_within_bounds_where_all_are_right_or_all_are_wrong() {
        let scores = [-1.0, -5.0, -1.0e300];
        for (gold, expected) in [([0_usize], TEMPERATURES[0]), ([1], TEMPERATURES[1]), ([2], TEMPERATURES[1])] {
            let found = Confidence::fitted([(&scores[..], &gold[..])].into_iter());
            assert!((found.temperature / expected - 1.0).abs() < 1e-9 && found.is_sound(), "{gold:?}: {found:?}");
        }
        assert!(!Confidence { temperature: f64::NAN, relative: false }.is_sound());
        assert_eq!(Confidence { temperature: 1.0, relative: false }.of(&[-1.0, -1.0]).0, 0, "the first of equals");
    }

    #[test]
    fn long_choices_are_measured_by_their_own_length() {
        // Twice as long, twice as far apart, and right as often.
        let questions = [[-1.0, -2.0], [-20.0, -40.0]];
        let gold = [0_usize, 0, 0, 1];
        let all =
            questions.iter().flat_map(|scores| gold.iter().map(move |gold| (&scores[..], std::slice::from_ref(gold))));
        let found = Confidence::fitted(all);
        assert!(found.relative, "{found:?}");
        assert!(questions.iter().all(|scores| (found.of(scores).1 - 0.75).abs() < 1e-9), "{found:?}");
    }
}
