//! What one item contributes to a metric. Definitions as lm-evaluation-harness where it has the metric.

use super::eval_set::PackedItem;
use super::evaluator::ItemScore;
use crate::task::Scoring;

/// One item's contribution: a metric is Σ value / Σ weight, behind `exp` for perplexities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contribution {
    /// The numerator.
    pub value: f64,
    /// The denominator: 1 for means over items.
    pub weight: f64,
}

impl Contribution {
    /// A summand of a mean over items.
    fn of_mean(value: f64) -> Contribution {
        Contribution { value, weight: 1.0 }
    }
}

/// 1 when the true choice has the largest log-likelihood, the first of equals winning. For `mc2` the true choices' share of the
/// probability, for `last_word` whether every token is the most likely one.
pub(super) fn accuracy(scoring: Scoring, item: &PackedItem, score: &ItemScore) -> Contribution {
    Contribution::of_mean(match scoring {
        Scoring::LastWord => f64::from(u8::from(score.greedy)),
        Scoring::Mc2 => log_gold_share(&score.log_likelihoods, &item.gold).exp(),
        _ => hit(&score.log_likelihoods, &item.gold),
    })
}

/// Whether the network wrote a right answer.
pub(super) fn exact_match(_: Scoring, _: &PackedItem, score: &ItemScore) -> Contribution {
    Contribution::of_mean(f64::from(u8::from(score.greedy)))
}

/// [`accuracy`] with log-likelihoods divided by the choice's Unicode characters.
pub(super) fn acc_norm(_: Scoring, item: &PackedItem, score: &ItemScore) -> Contribution {
    Contribution::of_mean(hit(&per_character(&score.log_likelihoods, &item.choice_chars), &item.gold))
}

/// −log of the true choices' share in the softmax over the choices' log-likelihoods, nats; for `last_word` of the word itself.
pub(super) fn choice_nll(scoring: Scoring, item: &PackedItem, score: &ItemScore) -> Contribution {
    Contribution::of_mean(match scoring {
        Scoring::LastWord => -total(score),
        _ => -log_gold_share(&score.log_likelihoods, &item.gold),
    })
}

/// The same with log-likelihoods divided by the choice's Unicode characters.
pub(super) fn choice_nll_norm(_: Scoring, item: &PackedItem, score: &ItemScore) -> Contribution {
    let values = per_character(&score.log_likelihoods, &item.choice_chars);
    Contribution::of_mean(-log_gold_share(&values, &item.gold))
}

/// −log2 of the true choice's probability after its context, per UTF-8 byte: the mean over the true ones. The other choices do not
/// matter, so that it is the perplexity of the task's own answers (BPB in Heineman et al. 2025, "Signal and noise", where it has the
/// least noise of a task's scores). Of a text, the harness's `bits_per_byte`.
pub(super) fn bits_per_byte(scoring: Scoring, item: &PackedItem, score: &ItemScore) -> Contribution {
    let bits = |log_likelihood: f64| -log_likelihood / std::f64::consts::LN_2;
    match scoring {
        Scoring::Rolling => Contribution { value: bits(total(score)), weight: item.bytes as f64 },
        Scoring::LastWord | Scoring::Generate => Contribution::of_mean(bits(total(score)) / item.bytes.max(1) as f64),
        _ => {
            let of = |&choice: &usize| bits(score.log_likelihoods[choice]) / item.choice_bytes[choice].max(1) as f64;
            Contribution::of_mean(item.gold.iter().map(of).sum::<f64>() / item.gold.len() as f64)
        }
    }
}

/// Negative log-likelihood over tokens.
pub(super) fn per_token(_: Scoring, item: &PackedItem, score: &ItemScore) -> Contribution {
    Contribution { value: -total(score), weight: item.scored_tokens as f64 }
}

/// Negative log-likelihood over words separated by white space.
pub(super) fn per_word(_: Scoring, item: &PackedItem, score: &ItemScore) -> Contribution {
    Contribution { value: -total(score), weight: item.words as f64 }
}

/// Negative log-likelihood over UTF-8 bytes.
pub(super) fn per_byte(_: Scoring, item: &PackedItem, score: &ItemScore) -> Contribution {
    Contribution { value: -total(score), weight: item.bytes as f64 }
}

/// Forward KL(whole model ‖ network) over tokens, nats.
pub(super) fn divergence(_: Scoring, item: &PackedItem, score: &ItemScore) -> Contribution {
    Contribution { value: score.divergence.unwrap_or(f64::NAN), weight: item.scored_tokens as f64 }
}

fn total(score: &ItemScore) -> f64 {
    score.log_likelihoods.iter().sum()
}

/// Log-likelihoods per Unicode character. An empty choice cannot occur: it has no token to score.
pub(crate) fn per_character(log_likelihoods: &[f64], chars: &[usize]) -> Vec<f64> {
    log_likelihoods.iter().zip(chars).map(|(ll, &chars)| ll / chars.max(1) as f64).collect()
}

/// The place of the first of the largest.
pub(crate) fn likeliest(values: &[f64]) -> usize {
    (1..values.len()).fold(0, |best, place| if values[place] > values[best] { place } else { best })
}

/// 1 when the first of the largest is a true choice.
pub(crate) fn hit(values: &[f64], gold: &[usize]) -> f64 {
    f64::from(u8::from(gold.contains(&likeliest(values))))
}

fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = values.clone().fold(f64::NEG_INFINITY, f64::max);
    most + values.map(|value| (value - most).exp()).sum::<f64>().ln()
}

/// log of the true choices' share of the probability.
pub(crate) fn log_gold_share(values: &[f64], gold: &[usize]) -> f64 {
    log_sum_exp(gold.iter().map(|&choice| values[choice])) - log_sum_exp(values.iter().copied())
}
