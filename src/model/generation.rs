//! Token after token: what a network writes behind a prompt.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

use super::kv_cache::KvCache;
use super::network::Network;
use super::weights::Llama;
use crate::error::{Error, Result};
use crate::space::Genome;

/// A network in the middle of a text.
pub struct Generation {
    network: Network,
    cache: KvCache,
    /// Of the token that comes next, float32, (v).
    logits: Tensor,
}

impl Generation {
    /// Reads the prompt, with room for `more` tokens behind it.
    ///
    /// # Errors
    /// `Invalid` when the prompt is empty, the text would be longer than the model's positions, or the genome does not fit.
    pub fn begin(model: &Llama, genome: &Genome, prompt: &[u32], more: usize) -> Result<Generation> {
        let network = model.network(genome)?;
        check_prompt(model, prompt, more)?;
        let cache = network.cache(1, prompt.len() + more)?;
        let mut generation = Generation { network, cache, logits: Tensor::new() };
        generation.read(prompt)?;
        Ok(generation)
    }

    /// Logits of the token that comes next, float32, (v).
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }

    /// Goes on behind this token.
    ///
    /// # Errors
    /// `Invalid` when there is no more room.
    pub fn push(&mut self, token: u32) -> Result<()> {
        self.read(&[token])
    }

    /// Bytes of keys and values, the room behind the text included.
    pub fn cache_bytes(&self) -> u64 {
        self.cache.bytes()
    }

    fn read(&mut self, tokens: &[u32]) -> Result<()> {
        let ids = ids_of(tokens, self.network.parts().model().device()).unsqueeze(0); // (1, n)
        self.logits = tch::no_grad(|| -> Result<Tensor> {
            let hidden = self.network.extend(&ids, &mut self.cache)?; // (n, d)
            Ok(self.network.logits(&hidden.narrow(0, hidden.size()[0] - 1, 1)).squeeze_dim(0)) // (v)
        })?;
        Ok(())
    }
}

/// Lets a network write behind several prompts at once: the most likely token each time, the first of equals, `more` at most. What the
/// prompts begin with alike is read once. `took` gets a prompt's place and its next token, and says whether it goes on.
///
/// # Errors
/// As [`Generation::begin`] for each prompt; `Invalid` for logits that are no numbers; what `took` fails with.
pub fn write_greedily(
    model: &Llama,
    genome: &Genome,
    prompts: &[&[u32]],
    more: usize,
    took: &mut dyn FnMut(usize, u32) -> Result<bool>,
) -> Result<()> {
    let network = model.network(genome)?;
    prompts.iter().try_for_each(|prompt| check_prompt(model, prompt, more))?;
    let Some(longest) = prompts.iter().map(|prompt| prompt.len()).max() else { return Ok(()) };
    let common = common_tokens(prompts);
    let device = model.device();
    tch::no_grad(|| {
        let mut cache = network.cache(1, common)?;
        if common > 0 {
            let _ = network.extend(&ids_of(&prompts[0][..common], device).unsqueeze(0), &mut cache)?;
        }
        let empty: Vec<i64> = prompts.iter().map(|prompt| (longest - prompt.len()) as i64).collect();
        let mut cache = network.spread(&cache, &empty, longest + more)?;
        let (b, n) = (prompts.len() as i64, (longest - common) as i64);
        let own = prompts.iter().zip(&empty).flat_map(|(prompt, &empty)| {
            std::iter::repeat_n(0, empty as usize).chain(prompt[common..].iter().copied())
        });
        let own: Vec<u32> = own.collect();
        let hidden = network.extend(&ids_of(&own, device).view([b, n]), &mut cache)?; // (b·n, d)
        let mut last = hidden.view([b, n, -1]).select(1, n - 1); // (b, d)
        let mut going = vec![true; prompts.len()];
        for step in 1..=more {
            let (logit, token) = network.logits(&last).max_dim(1, false); // (b) each
            let (logits, tokens) = (Vec::<f32>::try_from(&logit)?, Vec::<i64>::try_from(&token)?);
            for (place, (logit, &token)) in logits.into_iter().zip(&tokens).enumerate() {
                if going[place] && !logit.is_finite() {
                    let found = format!("{logit} for token {token} behind prompt {place}");
                    return Err(Error::invalid("logits", found, "finite numbers"));
                }
                going[place] = going[place] && took(place, token as u32)?;
            }
            if step == more || !going.contains(&true) {
                break;
            }
            last = network.extend(&token.unsqueeze(1), &mut cache)?; // (b, d)
        }
        Ok(())
    })
}

/// Tokens as a model takes them: int64, (n).
pub(super) fn ids_of(tokens: &[u32], device: Device) -> Tensor {
    let ids: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
    Tensor::from_slice(&ids).to_device(device)
}

/// Tokens that all prompts begin with, such as worked examples; each has one of its own behind them.
fn common_tokens(prompts: &[&[u32]]) -> usize {
    let alike = |prompt: &&[u32]| prompts[0].iter().zip(*prompt).take_while(|(one, other)| one == other).count();
    let shortest = prompts.iter().map(|prompt| prompt.len()).min().unwrap_or(0);
    prompts.iter().map(alike).min().unwrap_or(0).min(shortest.saturating_sub(1))
}

/// Refuses a prompt that is empty, too long or not of the model's tokens.
pub(super) fn check_prompt(model: &Llama, prompt: &[u32], more: usize) -> Result<()> {
    let most = model.config().positions();
    if prompt.is_empty() || prompt.len() + more > most {
        let found = format!("{} tokens and {more} behind them", prompt.len());
        return Err(Error::invalid("prompt", found, format!("1 to {most} tokens together, the model's positions")));
    }
    let vocab = model.config().shape.vocab;
    match prompt.iter().find(|&&token| token as usize >= vocab) {
        Some(token) => Err(Error::invalid("token", token, format!("less than the vocabulary's {vocab}"))),
        None => Ok(()),
    }
}

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the most likely token.
    pub temperature: f64,
    /// Only so many of the most likely tokens, 0 for all (Fan et al. 2018).
    pub top_k: usize,
    /// Only the most likely tokens that together have this probability (nucleus sampling, Holtzman et al. 2020).
    pub top_p: f64,
}

impl Sampling {
    /// The most likely token, always.
    pub const GREEDY: Sampling = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0 };

    /// Refuses what means nothing.
    pub fn check(&self) -> Result<()> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(Error::invalid("temperature", self.temperature, "a number from 0 on"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::invalid("top-p", self.top_p, "a probability above 0, 1 at most"));
        }
        Ok(())
    }
}

/// Chooses tokens: the same seed and logits give the same ones.
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// A sampler.
    ///
    /// # Errors
    /// As [`Sampling::check`].
    pub fn new(sampling: Sampling, seed: u64) -> Result<Sampler> {
        sampling.check()?;
        Ok(Sampler { sampling, rng: ChaCha8Rng::seed_from_u64(seed) })
    }

    /// The next token, given the logits of all; the first of equals.
    ///
    /// # Errors
    /// `Invalid` when no logit is a number.
    pub fn choose(&mut self, logits: &[f32]) -> Result<u32> {
        let Sampling { temperature, top_k, top_p } = self.sampling;
        if temperature == 0.0 {
            let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if let Some(token) = logits.iter().position(|&logit| logit == most && most > f32::NEG_INFINITY) {
                return Ok(token as u32);
            }
        }
        let mut order: Vec<u32> = (0..logits.len() as u32).filter(|&token| !logits[token as usize].is_nan()).collect();
        let logit = |token: u32| f64::from(logits[token as usize]);
        if order.is_empty() || order.iter().all(|&token| logit(token) == f64::NEG_INFINITY) {
            return Err(Error::invalid("logits", format!("none of {} is a number", logits.len()), "at least one"));
        }
        if let Some(token) = order.iter().find(|&&token| logit(token) == f64::INFINITY) {
            return Err(Error::invalid("logits", format!("infinity for token {token}"), "finite numbers to draw from"));
        }
        if top_k > 0 || top_p < 1.0 {
            order.sort_by(|&a, &b| logit(b).total_cmp(&logit(a)).then(a.cmp(&b)));
        }
        if top_k > 0 {
            order.truncate(top_k);
        }
        let most = order.iter().map(|&token| logit(token)).fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = order.iter().map(|&token| ((logit(token) - most) / temperature).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut kept = 0.0;
        let inside = weights.iter().take_while(|&&weight| {
            let before = kept;
            kept += weight;
            before < top_p * total
        });
        let inside = inside.count();
        let share: f64 = weights[..inside].iter().sum();
        let mut draw = self.rng.random::<f64>() * share;
        for (&token, weight) in order[..inside].iter().zip(&weights) {
            draw -= weight;
            if draw < 0.0 {
                return Ok(token);
            }
        }
        Ok(order[inside - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(sampling: Sampling, logits: &[f32]) -> Vec<usize> {
        let mut sampler = Sampler::new(sampling, 7).unwrap();
        let mut counts = vec![0; logits.len()];
        for _ in 0..4000 {
            counts[sampler.choose(logits).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn prompts_have_in_common_what_leaves_each_a_token() {
        let common = |prompts: &[&[u32]]| common_tokens(prompts);
        assert_eq!(common(&[&[1, 2, 3], &[1, 2, 4, 5]]), 2);
        assert_eq!(common(&[&[1, 2], &[1, 2, 4]]), 1);
        assert_eq!(common(&[&[1, 2], &[3]]), 0);
        assert_eq!(common(&[&[1, 2, 3]]), 2);
    }

    #[test]
    fn takes_the_first_of_the_most_likely() {
        let mut sampler = Sampler::new(Sampling::GREEDY, 1).unwrap();
        assert_eq!(sampler.choose(&[0.0, 2.0, 2.0, f32::NAN]).unwrap(), 1);
        assert!(sampler.choose(&[f32::NAN, f32::NEG_INFINITY]).is_err());
    }

    #[test]
    fn draws_as_often_as_the_softmax_says() {
        // Probabilities 1/7, 2/7 and 4/7; at temperature 0.5 1/21, 4/21 and 16/21.
        let logits = [0.0, 2.0_f32.ln(), 4.0_f32.ln()];
        for (temperature, shares) in
            [(1.0, [1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0]), (0.5, [1.0 / 21.0, 4.0 / 21.0, 16.0 / 21.0])]
        {
            let counts = drawn(Sampling { temperature, ..Sampling::GREEDY }, &logits);
            for (count, share) in counts.iter().zip(shares) {
                // Four standard deviations of 4,000 draws at most.
                assert!((*count as f64 / 4000.0 - share).abs() < 0.032, "{counts:?}");
            }
        }
    }

    #[test]
    fn leaves_out_what_is_unlikely() {
        let logits = [0.0, 2.0_f32.ln(), 4.0_f32.ln()];
        let counts = drawn(Sampling { temperature: 1.0, top_k: 2, top_p: 1.0 }, &logits);
        assert!(counts[0] == 0 && counts[1] > 1000, "{counts:?}");
        // 4/7 alone is less than 0.6, both together are enough.
        let counts = drawn(Sampling { temperature: 1.0, top_k: 0, top_p: 0.6 }, &logits);
        assert!(counts[0] == 0 && counts[1] > 1000, "{counts:?}");
        assert_eq!(drawn(Sampling { temperature: 1.0, top_k: 0, top_p: 0.5 }, &logits), [0, 0, 4000]);
    }

    #[test]
    fn refuses_what_means_nothing() {
        for sampling in [
            Sampling { temperature: -1.0, ..Sampling::GREEDY },
            Sampling { temperature: f64::NAN, ..Sampling::GREEDY },
            Sampling { top_p: 0.0, ..Sampling::GREEDY },
            Sampling { top_p: 1.5, ..Sampling::GREEDY },
        ] {
            assert!(Sampler::new(sampling, 1).is_err(), "{sampling:?}");
        }
    }
}
