//! What this machine does with a model: how fast it reads, and what memory there is to train in.

use std::time::{Duration, Instant};

use criadero::checkpoint::Checkpoint;
use criadero::freed_memory::hand_back_freed_memory;
use criadero::model::{Llama, TokenTree};
use criadero::plan::available;
use criadero::run::cores;
use criadero::space::BlockWeights;
use serde::{Deserialize, Serialize};

use super::super::model::{DeviceArgs, load};

/// Tokens of the forward pass that is timed: as many as take about a second, within these.
const TOKENS: [usize; 2] = [64, 1024];
/// Tokens of those before it, which pay for what is made once.
const WARM_UP: usize = 16;
/// It is timed at most so often,
const MOST_PASSES: usize = 4;
/// and not again when this much time has passed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Measured once, and kept: what a shrinking does must not depend on when it was resumed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Tokens a second in a forward pass of the whole model.
    pub tokens_per_second: f64,
    /// The same in the arithmetic that a ranking takes, and a search probably.
    pub search_tokens_per_second: f64,
    /// Bytes that are free; `None` where that is not known.
    pub memory: Option<u64>,
}

impl Machine {
    /// Loads the model and times short forward passes; a second time in bfloat16 where a search would try that.
    ///
    /// # Errors
    /// A model that does not fit here.
    pub fn measure(checkpoint: &Checkpoint, device: &DeviceArgs) -> anyhow::Result<Machine> {
        let memory = if device.is_card() { device.free_memory() } else { available() };
        tch::set_num_threads(cores() as i32);
        let tokens_per_second = tokens_per_second(load(checkpoint, device)?)?;
        let mut search_tokens_per_second = tokens_per_second;
        let fast = device.fast();
        if fast.numbers() != device.numbers() {
            let (model, _) = criadero::plan::load(checkpoint, fast.open()?, BlockWeights::default())?;
            search_tokens_per_second = search_tokens_per_second.max(self::tokens_per_second(model)?);
        }
        hand_back_freed_memory();
        Ok(Machine { tokens_per_second, search_tokens_per_second, memory })
    }
}

/// The best of some passes: what else runs on the machine only ever makes them slower.
fn tokens_per_second(model: Llama) -> anyhow::Result<f64> {
    let network = model.whole()?;
    let (positions, vocab) = (model.config().positions(), model.config().shape.vocab);
    let pass = |tokens: usize| {
        let count = tokens.min(positions);
        let ids: Vec<u32> = (0..count).map(|id| (id % vocab) as u32).collect();
        let batch = model.batch(&TokenTree::chain(&ids))?;
        let start = Instant::now();
        // Without the output matrix, which scoring asks for few rows of; read back, so that a card is done.
        tch::no_grad(|| network.hidden(&batch)).narrow(0, 0, 1).sum(tch::Kind::Float).double_value(&[]);
        anyhow::Ok(count as f64 / start.elapsed().as_secs_f64())
    };
    pass(WARM_UP)?;
    let count = (pass(WARM_UP)? as usize).clamp(TOKENS[0], TOKENS[1]);
    let (start, mut best) = (Instant::now(), pass(count)?);
    for _ in 1..MOST_PASSES {
        if start.elapsed() > PATIENCE {
            break;
        }
        best = best.max(pass(count)?);
    }
    Ok(best)
}
