//! Whether a model fits where it is to run, before it is read.

use tch::{Device, Kind};

use super::Numbers;
use super::budget::{available, total};
use super::evaluation::{Scoring, beside_float32, footprint, packed, weights};
use crate::arithmetic::Arithmetic;
use crate::checkpoint::{Checkpoint, LlamaConfig};
use crate::error::{Error, Result};
use crate::kernels::{CardMemory, Kernels, card_memory};
use crate::model::Llama;
use crate::model::device::{DeviceKind, arithmetic_of};
use crate::space::BlockWeights;

/// Loads a model, and beside it so many weights in blocks, with the kernels of its device. Where there are none also why, the
/// first time that a card is asked.
///
/// # Errors
/// `Invalid` where it is too large for the device; nothing is read then.
pub fn load(
    checkpoint: &Checkpoint,
    (device, kind): DeviceKind,
    blocks: BlockWeights,
) -> Result<(Llama, Option<String>)> {
    if let Some(room) = Room::of(device, kind) {
        room.check(checkpoint, blocks)?;
    }
    let mut model = Llama::load(checkpoint, device, kind)?;
    let (kernels, note) = Kernels::on(device, kind);
    model.set_kernels(kernels);
    Ok((model, note))
}

/// The same; on the CPU, in an arithmetic other than float32, with the model in float32 beside it: its own matrices where they are
/// exact, otherwise those of the checkpoint, if they fit. Where they do not also a note that says so.
///
/// # Errors
/// As [`load`].
pub fn load_beside_float32(
    checkpoint: &Checkpoint,
    (device, kind): DeviceKind,
    blocks: BlockWeights,
) -> Result<(Llama, Option<String>)> {
    let (model, note) = load(checkpoint, (device, kind), blocks)?;
    let arithmetic = arithmetic_of(kind);
    if device != Device::Cpu || arithmetic == Arithmetic::F32 {
        return Ok((model, note));
    }
    if checkpoint.is_bf16() {
        return Ok((model.beside_its_values(), note));
    }
    if total().is_some_and(|total| with_float32(checkpoint, arithmetic) > total) {
        let (model, path) = (model.beside_its_values(), checkpoint.path().display());
        let note = format!(
            "{path} is too large to be here in {arithmetic} and in float32: float32 computes with its weights rounded to bf16"
        );
        return Ok((model, Some(note)));
    }
    Ok((model.beside(load(checkpoint, (Device::Cpu, Kind::Float), blocks)?.0), note))
}

/// Whether a model takes at most half of this machine's memory in an arithmetic and in float32 beside it, so that it may be had so without
/// being asked for.
pub fn is_small_here(checkpoint: &Checkpoint, arithmetic: Arithmetic) -> bool {
    total().is_none_or(|total| with_float32(checkpoint, arithmetic) <= total / 2)
}

/// Bytes of a model's weights in an arithmetic, and of what is beside them in float32.
fn with_float32(checkpoint: &Checkpoint, arithmetic: Arithmetic) -> u64 {
    let (config, numbers) = (checkpoint.config(), Numbers::Cpu(arithmetic));
    let corrected = checkpoint.corrections().weights();
    let own = weights(config, corrected, numbers) + packed(config, corrected, numbers);
    own + beside_float32(config, numbers, checkpoint.is_bf16(), corrected)
}

/// What a model must fit into.
struct Room {
    numbers: Numbers,
    bytes: u64,
    /// Who has so many bytes, such as `cuda:0 has 12.0 GB, 11.5 GB of them free`.
    said: String,
    /// What to take instead, beside a smaller checkpoint.
    remedy: &'static str,
}

impl Room {
    /// What a device has; `None` where it does not tell.
    fn of(device: Device, kind: Kind) -> Option<Room> {
        match device {
            Device::Cuda(card) => card_memory(card).map(|memory| Room::of_card(card, memory)),
            _ => Some(Room::of_machine(available()?, total()?, arithmetic_of(kind))),
        }
    }

    fn of_card(card: usize, CardMemory { free, total }: CardMemory) -> Room {
        // Not what is free: libtorch keeps what it once took.
        let said = format!("cuda:{card} has {}, {} of them free", gigabytes(total), gigabytes(free));
        Room { numbers: Numbers::Card, bytes: total, said, remedy: "a card with more memory, `--device cpu`" }
    }

    fn of_machine(free: u64, total: u64, arithmetic: Arithmetic) -> Room {
        // Not what is free: others may end, and swap is slow and not impossible.
        let said = format!("this machine has {}, {} of them free", gigabytes(total), gigabytes(free));
        let remedy = match arithmetic {
            Arithmetic::F32 => {
                "`--arithmetic bf16`, where weights take half of it, a machine with more memory, `--device cuda`"
            }
            Arithmetic::Bf16 => "a machine with more memory",
            Arithmetic::Int8 => "`--arithmetic bf16`, which keeps no layers in int8 beside, a machine with more memory",
        };
        Room { numbers: Numbers::Cpu(arithmetic), bytes: total, said, remedy }
    }

    fn check(&self, checkpoint: &Checkpoint, blocks: BlockWeights) -> Result<()> {
        match self.too_large(checkpoint.config(), blocks, checkpoint.corrections().weights()) {
            None => Ok(()),
            Some((found, expected)) => {
                Err(Error::invalid(format!("{} does not fit", checkpoint.path().display()), found, expected))
            }
        }
    }

    /// Why a model cannot be scored there, and what to do.
    fn too_large(&self, config: &LlamaConfig, blocks: BlockWeights, corrected: u64) -> Option<(String, String)> {
        let (numbers, beside, cache) = (self.numbers, 0, 0);
        let least = Scoring { chunk_tokens: 1, workers: 1, networks: 1, cache, blocks, numbers, beside, corrected };
        let needed = footprint(config, least);
        let parts: Vec<String> =
            needed.parts.iter().map(|part| format!("{} {}", gigabytes(part.bytes), part.name)).collect();
        (needed.peak() > self.bytes).then(|| {
            let found = format!("one token takes {} ({})", gigabytes(needed.peak()), parts.join(", "));
            let expected = format!(
                "less: {}; take {}, or a smaller checkpoint, such as a network of it that `criadero export` wrote; \
                 `criadero plan` says what each kind of work needs",
                self.said, self.remedy
            );
            (found, expected)
        })
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Dtype, synthetic};
    use crate::space::SearchSpace;

    #[test]
    fn a_checkpoint_larger_than_the_memory_is_refused_with_numbers() {
        let config = synthetic::config(*SearchSpace::shipped("llama2-7b").unwrap().shape(), Dtype::BF16);
        let none = BlockWeights::default();
        let said = |(found, expected): (String, String)| format!("{found}, {expected}");
        let card = |free, total| Room::of_card(0, CardMemory { free, total }).too_large(&config, none, 0).map(said);
        let problem = card(11_500_000_000, 12_000_000_000).unwrap();
        assert!(
            problem.contains("13.5 GB weights") && problem.contains("cuda:0 has 12.0 GB, 11.5 GB of them free"),
            "{problem}"
        );
        assert!(problem.contains("--device cpu"), "{problem}");
        assert_eq!(card(1_000_000_000, 24_000_000_000), None, "libtorch keeps what it once took");
        let machine = |free, total, blocks| {
            Room::of_machine(free, total, Arithmetic::F32).too_large(&config, blocks, 0).map(said)
        };
        let problem = machine(20_000_000_000, 24_000_000_000, none).unwrap();
        assert!(
            problem.contains("27.0 GB weights") && problem.contains("this machine has 24.0 GB, 20.0 GB of them free"),
            "{problem}"
        );
        assert!(problem.contains("--device cuda"), "{problem}");
        assert_eq!(machine(1_000_000_000, 32_000_000_000, none), None);
        let quantized = BlockWeights { layers_q8_0: 0, others: 6_000_000_000 };
        let problem = machine(30_000_000_000, 32_000_000_000, quantized).unwrap();
        assert!(problem.contains("24.0 GB quantized copies"), "{problem}");
    }
}
