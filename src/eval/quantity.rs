//! The one table of everything that a network has a value of: task metrics, sizes, measured speeds. Adding one is adding a row.

use super::contribution::{
    Contribution, acc_norm, accuracy, bits_per_byte, choice_nll, choice_nll_norm, divergence, exact_match, per_byte,
    per_token, per_word,
};
use super::eval_set::PackedItem;
use super::evaluator::ItemScore;
use crate::space::{Cost, Genome};
use crate::task::Scoring;
use crate::throughput::ThroughputTable;

/// A row of the table.
pub(super) struct Quantity {
    /// What it is called in objectives; with tasks behind a colon where it is a metric.
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) maximize: bool,
    pub(super) source: Source,
}

/// Where a value comes from.
pub(super) enum Source {
    /// Scores of a task's items.
    Items(ItemMetric),
    /// The genome alone.
    Size {
        of: fn(&Cost) -> u64,
        /// Whether every front says it, also when it is no objective.
        reported: bool,
    },
    /// The run's throughput table.
    Speed {
        of: fn(&ThroughputTable, &Genome) -> Option<f64>,
        /// Whether that table must say what a token that is written takes.
        decoding: bool,
        /// Whether every front says it where the table knows it, also when it is no objective.
        reported: bool,
    },
}

/// A metric of a task's items.
pub(super) struct ItemMetric {
    /// What `criadero eval` calls it: lm-evaluation-harness's name, where it has one.
    pub(super) eval_name: &'static str,
    /// Whether it means anything for items scored like this.
    pub(super) applies: fn(Scoring) -> bool,
    /// What one item contributes.
    pub(super) contribution: fn(Scoring, &PackedItem, &ItemScore) -> Contribution,
    /// What becomes of Σ value / Σ weight.
    pub(super) mean: Mean,
    /// Whether its values lie between 0 and 1; all others are 0 or more.
    pub(super) fraction: bool,
    /// What guessing gets, of the accuracy of guessing.
    pub(super) guess: Option<fn(f64) -> f64>,
    /// Whether networks are compared with the whole model token by token for it.
    pub(super) compares: bool,
    /// Whether networks write for it.
    pub(super) writes: bool,
}

/// What becomes of a ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mean {
    Plain,
    /// Its exponential: a perplexity.
    Exp,
}

const FRACTION: &str = "fraction of items";
const NATS: &str = "nats per item";
const TPS: &str = "tokens per second";

/// All of them. The first metric that applies to a task's items is what the task is reported by.
pub(super) static TABLE: [Quantity; 17] = [
    metric("accuracy", FRACTION, true, ItemMetric { eval_name: "acc", ..share(has_choices, accuracy) }),
    metric("acc_norm", FRACTION, true, share(has_lengths, acc_norm)),
    metric(
        "exact_match",
        FRACTION,
        true,
        ItemMetric { writes: true, fraction: true, ..items(is_written, exact_match) },
    ),
    metric("choice_nll", NATS, false, loss(has_choices, choice_nll)),
    metric("choice_nll_norm", NATS, false, loss(has_lengths, choice_nll_norm)),
    metric("perplexity", "per token", false, perplexity("perplexity", has_tokens, per_token)),
    metric("word_perplexity", "per word", false, perplexity("word_perplexity", is_text, per_word)),
    metric("byte_perplexity", "per byte", false, perplexity("byte_perplexity", is_text, per_byte)),
    metric("bits_per_byte", "bits per byte", false, items(|_| true, bits_per_byte)),
    metric("kl", "nats per token", false, ItemMetric { compares: true, ..items(has_tokens, divergence) }),
    size("params", "parameters", true, |cost| cost.params),
    size("weight_bytes", "bytes", true, |cost| cost.weight_bytes),
    size("macs", "MACs per token", false, |cost| cost.macs),
    size("kv_bytes", "bytes per token", false, |cost| cost.kv_bytes),
    Quantity {
        name: "prefill_tps",
        unit: TPS,
        maximize: true,
        source: Source::Speed { of: ThroughputTable::prefill_tps, decoding: false, reported: true },
    },
    Quantity {
        name: "decode_tps",
        unit: TPS,
        maximize: true,
        source: Source::Speed { of: ThroughputTable::decode_tps, decoding: true, reported: true },
    },
    Quantity {
        name: "latency_ms",
        unit: "milliseconds",
        maximize: false,
        source: Source::Speed { of: ThroughputTable::latency_ms, decoding: true, reported: false },
    },
];

type Applies = fn(Scoring) -> bool;
type Contributes = fn(Scoring, &PackedItem, &ItemScore) -> Contribution;

const fn metric(name: &'static str, unit: &'static str, maximize: bool, items: ItemMetric) -> Quantity {
    let eval_name = if items.eval_name.is_empty() { name } else { items.eval_name };
    Quantity { name, unit, maximize, source: Source::Items(ItemMetric { eval_name, ..items }) }
}

const fn items(applies: Applies, contribution: Contributes) -> ItemMetric {
    let mean = Mean::Plain;
    let (fraction, guess, compares, writes) = (false, None, false, false);
    ItemMetric { eval_name: "", applies, contribution, mean, fraction, guess, compares, writes }
}

const fn share(applies: Applies, contribution: Contributes) -> ItemMetric {
    ItemMetric { fraction: true, guess: Some(|chance| chance), ..items(applies, contribution) }
}

const fn loss(applies: Applies, contribution: Contributes) -> ItemMetric {
    ItemMetric { guess: Some(|chance| -chance.ln()), ..items(applies, contribution) }
}

const fn perplexity(eval_name: &'static str, applies: Applies, contribution: Contributes) -> ItemMetric {
    ItemMetric { eval_name, mean: Mean::Exp, ..items(applies, contribution) }
}

const fn size(name: &'static str, unit: &'static str, reported: bool, of: fn(&Cost) -> u64) -> Quantity {
    Quantity { name, unit, maximize: false, source: Source::Size { of, reported } }
}

fn has_choices(scoring: Scoring) -> bool {
    !matches!(scoring, Scoring::Rolling | Scoring::Generate)
}

fn has_lengths(scoring: Scoring) -> bool {
    matches!(scoring, Scoring::Choices | Scoring::Mc1)
}

fn has_tokens(scoring: Scoring) -> bool {
    matches!(scoring, Scoring::Rolling | Scoring::LastWord | Scoring::Generate)
}

fn is_written(scoring: Scoring) -> bool {
    scoring == Scoring::Generate
}

fn is_text(scoring: Scoring) -> bool {
    scoring == Scoring::Rolling
}

/// A row by its name, found when the program is built.
pub(super) const fn row(name: &str) -> &'static Quantity {
    let mut place = 0;
    while place < TABLE.len() {
        if same(TABLE[place].name.as_bytes(), name.as_bytes()) {
            return &TABLE[place];
        }
        place += 1;
    }
    panic!("no such row")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut place = 0;
    while place < a.len() && place < b.len() && a[place] == b[place] {
        place += 1;
    }
    place == a.len() && place == b.len()
}
