//! Wall times of whole networks: prompts read, and tokens written one by one.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::model::{Llama, Network, TokenTree, TreeBatch};
use crate::space::Genome;

/// Tokens that one timing writes, so that a clock's grain does not count.
const STEPS: usize = 4;

/// What is timed. Written `prefill:256` and `decode:256x1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Phase {
    /// One prompt of so many tokens is read.
    Prefill {
        /// Its tokens.
        tokens: usize,
    },
    /// Each of some sequences goes on by one token.
    Decode {
        /// Tokens that each has already.
        context: usize,
        /// Sequences that share a step.
        sequences: usize,
    },
}

impl Phase {
    /// Tokens that one step reads or writes.
    pub fn tokens(self) -> usize {
        match self {
            Phase::Prefill { tokens } => tokens,
            Phase::Decode { sequences, .. } => sequences,
        }
    }

    /// The longest sequence, in tokens.
    fn longest(self) -> usize {
        match self {
            Phase::Prefill { tokens } => tokens,
            Phase::Decode { context, .. } => context + STEPS,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Phase::Prefill { tokens } => write!(f, "prefill:{tokens}"),
            Phase::Decode { context, sequences } => write!(f, "decode:{context}x{sequences}"),
        }
    }
}

impl FromStr for Phase {
    type Err = Error;

    fn from_str(text: &str) -> Result<Phase> {
        let number = |digits: &str| digits.parse::<usize>().ok().filter(|&number| number > 0);
        let read = || match text.split_once(':')? {
            ("prefill", tokens) => Some(Phase::Prefill { tokens: number(tokens)? }),
            ("decode", sizes) => {
                let (context, sequences) = sizes.split_once('x')?;
                Some(Phase::Decode { context: number(context)?, sequences: number(sequences)? })
            }
            _ => None,
        };
        let expected = "`prefill:TOKENS` or `decode:CONTEXTxSEQUENCES`, such as `decode:256x1`";
        read().ok_or_else(|| Error::invalid("phase", format!("`{text}`"), expected))
    }
}

impl TryFrom<String> for Phase {
    type Error = Error;

    fn try_from(text: String) -> Result<Phase> {
        text.parse()
    }
}

impl From<Phase> for String {
    fn from(phase: Phase) -> String {
        phase.to_string()
    }
}

/// Milliseconds of one step of each network: `rounds` timings, each round in another order, behind a warm-up; what the machine
/// was slower for a while is taken out, and the median is of what is left. Bits do not count: products are the same.
///
/// # Errors
/// `Invalid` for genomes that do not fit and sequences beyond the model's positions.
pub fn time_networks(
    model: &Llama,
    networks: &[Genome],
    phase: Phase,
    rounds: usize,
    on_network: &mut dyn FnMut(),
) -> Result<Vec<f64>> {
    if rounds == 0 {
        return Err(Error::invalid("rounds of timings", 0, "at least 1"));
    }
    let network = |genome: &Genome| model.network(&genome.unquantized());
    let networks: Vec<Network> = networks.iter().map(network).collect::<Result<_>>()?;
    let most = model.config().max_position_embeddings;
    if phase.longest() > most {
        return Err(Error::invalid(
            phase.to_string(),
            format!("{} tokens", phase.longest()),
            format!("{most} at most"),
        ));
    }
    let stopwatch = Stopwatch::new(model, phase)?;
    if let Some(first) = networks.first() {
        stopwatch.time(first)?;
    }
    // Another order each round, so that no network is always behind the same one, or always early.
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut order: Vec<usize> = (0..networks.len()).collect();
    let mut times = Vec::with_capacity(rounds * networks.len());
    for _ in 0..rounds {
        order.shuffle(&mut rng);
        for &place in &order {
            times.push((place, stopwatch.time(&networks[place])?));
            on_network();
        }
    }
    Ok(steady(&times, networks.len()))
}

/// Timings before and behind one that say how fast the machine was then.
const NEIGHBOURS: usize = 8;

/// The median of each of `count` networks over its timings, (network, time) as they were taken, once each was divided by how
/// much slower than usual those around it were: other work on a machine comes and goes within a round.
fn steady(times: &[(usize, f64)], count: usize) -> Vec<f64> {
    let medians = |times: &[(usize, f64)]| -> Vec<f64> {
        let of = |network| times.iter().filter(|(place, _)| *place == network).map(|(_, time)| *time).collect();
        (0..count).map(|network| median(of(network))).collect()
    };
    let mut usual = medians(times);
    for _ in 0..LEVELLINGS {
        let ratios: Vec<f64> = times.iter().map(|&(network, time)| time / usual[network]).collect();
        let level = |at: usize| {
            let around = at.saturating_sub(NEIGHBOURS)..(at + NEIGHBOURS + 1).min(ratios.len());
            median(ratios[around].to_vec())
        };
        let levelled: Vec<(usize, f64)> =
            times.iter().enumerate().map(|(at, &(network, time))| (network, time / level(at))).collect();
        usual = medians(&levelled);
    }
    usual
}

/// What is usual is known better once the rest was taken out.
const LEVELLINGS: usize = 3;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => 0.5 * (values[middle - 1] + values[middle]),
    }
}

/// A model and what every network is given.
struct Stopwatch<'a> {
    model: &'a Llama,
    phase: Phase,
    prompt: Option<TreeBatch>,
}

impl<'a> Stopwatch<'a> {
    fn new(model: &'a Llama, phase: Phase) -> Result<Stopwatch<'a>> {
        let vocab = model.config().shape.vocab as u32;
        let prompt = match phase {
            Phase::Prefill { tokens } => {
                let tokens: Vec<u32> = (0..tokens as u32).map(|token| token * 7919 % vocab).collect();
                Some(model.batch(&TokenTree::chain(&tokens))?)
            }
            Phase::Decode { .. } => None,
        };
        Ok(Stopwatch { model, phase, prompt })
    }

    /// Milliseconds of one step, the logits of its last token included.
    fn time(&self, network: &Network) -> Result<f64> {
        // Reading a number back waits for the device.
        let wait = |last: &Tensor| network.logits(last).sum(Kind::Float).double_value(&[]);
        tch::no_grad(|| match (self.phase, &self.prompt) {
            (Phase::Decode { context, sequences }, _) => {
                let mut cache = network.cache(sequences, context + STEPS)?;
                cache.pretend(context);
                let tokens = Tensor::ones([sequences as i64, 1], (Kind::Int64, self.model.device()));
                let start = Instant::now();
                for _ in 0..STEPS {
                    wait(&network.extend(&tokens, &mut cache)?);
                }
                Ok(start.elapsed().as_secs_f64() * 1e3 / STEPS as f64)
            }
            (Phase::Prefill { .. }, prompt) => {
                let prompt = prompt.as_ref().expect("made for this phase");
                let start = Instant::now();
                wait(&network.hidden(prompt).narrow(0, prompt.len() - 1, 1));
                Ok(start.elapsed().as_secs_f64() * 1e3)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_text() {
        for text in ["prefill:256", "decode:1024x8"] {
            assert_eq!(text.parse::<Phase>().unwrap().to_string(), text);
        }
        for text in ["prefill", "prefill:0", "decode:4", "decode:4x", "decode:0x1", "train:4", ""] {
            assert!(text.parse::<Phase>().is_err(), "{text}");
        }
        assert_eq!("decode:1024x8".parse::<Phase>().unwrap().tokens(), 8);
    }

    #[test]
    fn takes_out_what_slowed_the_machine_for_a_while() {
        let own = |network: usize| 10.0 + network as f64;
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut order: Vec<usize> = (0..40).collect();
        let mut times = Vec::new();
        for _ in 0..7 {
            order.shuffle(&mut rng);
            times.extend(order.iter().map(|&network| (network, own(network))));
        }
        // A third of all timings, in two stretches that are no rounds, ran at two thirds of the speed; some were disturbed.
        let slow = |at: usize| (50..110).contains(&at) || (200..233).contains(&at);
        for (at, (_, time)) in times.iter_mut().enumerate() {
            *time *= if slow(at) { 1.5 } else { 1.0 } * if at % 23 == 0 { 3.0 } else { 1.0 };
        }
        for (network, time) in steady(&times, 40).into_iter().enumerate() {
            assert!((time / own(network) - 1.0).abs() < 0.01, "{network}: {time}");
        }
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
