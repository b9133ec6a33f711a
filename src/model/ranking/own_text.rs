//! Text that a model writes itself: a sample of everything it learnt, where a calibration text is a sample of a few sources.
//!
//! After the data that LLM-QAT tunes on (Liu et al. 2023, section 3.1), drawn at temperature 1 from the first token on.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::model::Llama;
use crate::model::generation::{Sampler, Sampling};

/// Sequences that are written beside each other.
const SEQUENCES: usize = 32;
/// Of what is drawn: the same text for the same model on the same machine.
const SEED: u64 = 1;

/// So many windows of `length` tokens, each behind a first token drawn from the whole vocabulary. `on_tokens` is told how many tokens
/// there are.
///
/// # Errors
/// When a window is longer than the model's positions, or its logits are not finite.
pub fn own_text(
    model: &Llama,
    windows: usize,
    length: usize,
    on_tokens: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<u32>>> {
    let mut first = ChaCha8Rng::seed_from_u64(SEED);
    let mut sampler = Sampler::new(Sampling { temperature: 1.0, top_k: 0, top_p: 1.0 }, SEED)?;
    let (network, vocab) = (model.whole()?, model.config().shape.vocab);
    let mut written = Vec::with_capacity(windows);
    while written.len() < windows {
        let count = SEQUENCES.min(windows - written.len());
        let mut texts: Vec<Vec<u32>> = (0..count).map(|_| vec![first.random_range(0..vocab as u32)]).collect();
        let mut cache = network.cache(count, length)?;
        for tokens in 1..length {
            let last: Vec<i64> = texts.iter().map(|text| i64::from(text[tokens - 1])).collect();
            let last = Tensor::from_slice(&last).to_device(model.device()).unsqueeze(1); // (b, 1)
            let logits = tch::no_grad(|| -> Result<Tensor> {
                let hidden = network.extend(&last, &mut cache)?; // (b, d)
                Ok(network.logits(&hidden).to_kind(Kind::Float).to_device(Device::Cpu)) // (b, v)
            })?;
            for (text, logits) in texts.iter_mut().zip(logits.unbind(0)) {
                text.push(sampler.choose(&Vec::<f32>::try_from(&logits)?)?);
            }
            on_tokens(written.len() * length + count * (tokens + 1));
        }
        written.append(&mut texts);
    }
    Ok(written)
}
