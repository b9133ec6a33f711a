//! Disk that fine-tuning and distillation take: while they run, which is what a killed one leaves, and for good.

use super::Footprint;
use super::activations::Trained;
use super::training::values;
use crate::checkpoint::LlamaConfig;
use crate::space::Cost;

/// Bytes of a trained value in a state: the master and two moments, float32.
const STATE_BYTES: u64 = 3 * 4;

/// What a training leaves in its directory, small files aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// When most lies there.
    pub most: Footprint,
    /// Once it has ended.
    pub end: Footprint,
}

/// What training a checkpoint takes, with so many weights of corrected matrices. `begun` says whether what is trained is written there
/// first, as distillation does.
pub fn disk(config: &LlamaConfig, trained: &Trained, corrected: u64, begun: bool) -> Disk {
    let state = STATE_BYTES * values(config, trained, corrected);
    let word = config.dtype.unquantized().bytes() as u64;
    let weights = (Cost::of(&config.shape, &config.genome).params + corrected) * word;
    let adapters = if *trained == Trained::Full { 0 } else { 4 * values(config, trained, corrected) };
    let begun = if begun { weights } else { 0 };
    let result = [("checkpoint", weights), ("adapters", adapters), ("what it began as", begun)];
    let [checkpoint, beside, before] = result;
    // A state is written beside the one before it, and the last good one is another file from then on.
    let running = [("state", state), ("last good state", state), ("state that is being written", state), before];
    // The state of the last step is the last good one: two names of one file.
    let ending = [("state", state), checkpoint, beside, before];
    let [running, ending] = [running, ending].map(Footprint::new);
    let most = if running.peak() >= ending.peak() { running } else { ending };
    Disk { most, end: Footprint::new(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Dtype, LayerTensor, synthetic};
    use crate::space::SearchSpace;

    #[test]
    fn counts_three_states_of_all_weights_and_little_beside_adapters() {
        let shape = *SearchSpace::shipped("tiny").unwrap().shape();
        let config = synthetic::config(shape, Dtype::BF16);
        let params = Cost::of(&shape, &shape.parent()).params;
        let full = disk(&config, &Trained::Full, 10, true);
        assert_eq!(full.most.peak(), 3 * 12 * (params + 10) + 2 * (params + 10));
        assert_eq!(full.end.peak(), 2 * 2 * (params + 10));

        let adapters = Trained::Adapters(1, vec![LayerTensor::Q]);
        let lora = disk(&config, &adapters, 0, false);
        let values = values(&config, &adapters, 0);
        assert_eq!(lora.end.peak(), 2 * params + 4 * values);
        assert_eq!(lora.most.peak(), lora.end.peak() + 12 * values, "the checkpoint is larger than two states");
    }
}
