//! Wall times of whole networks: prompts read, and tokens written one by one.

use std::time::Instant;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::phase::Phase;
use crate::error::{Error, Result};
use crate::model::{Llama, Network, TokenTree, TreeBatch};
use crate::space::Genome;

/// Tokens that one timing writes, so that a clock's grain does not count.
const STEPS: usize = 4;

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
    check_length(model, phase)?;
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

/// Refuses what is longer than the model's positions.
///
/// # Errors
/// `Invalid` with both.
pub fn check_length(model: &Llama, phase: Phase) -> Result<()> {
    let (tokens, most) = (longest(phase), model.config().positions());
    if tokens > most {
        let expected = format!("the model's {most} positions at most; give a shorter one with --phase");
        return Err(Error::invalid(format!("phase {phase}"), format!("{tokens} tokens"), expected));
    }
    Ok(())
}

/// The longest sequence that timing a phase makes, in tokens.
fn longest(phase: Phase) -> usize {
    match phase {
        Phase::Prefill { tokens } => tokens,
        Phase::Decode { context, .. } => context + STEPS,
    }
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
