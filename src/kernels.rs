//! CUDA kernels and the CPU's loops, beside the plain tch operations they replace.
//!
//! Each operation is a file with one obvious reference in tch, which runs under gradients and wherever there is nothing faster,
//! and is what tests hold kernel and loop to within the bound the file states. Kernels are for bfloat16 on a card; their
//! sources are in `kernels/`, compiled with NVRTC when a card is first used and kept in the cache. Loops are for float32 and
//! bfloat16 on the CPU (`cpu.rs`).
//!
//! Letters: as in `model/forward.rs`.

pub mod adamw;
mod card;
pub mod check;
pub mod compiler;
mod cpu;
pub mod int8;
pub mod int8_product;
pub mod log_probs;
pub mod rms_norm;
pub mod rotary;
pub mod swiglu;
pub mod tree_attention;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use card::Card;

/// The kernels of one device, or none: then every operation is its reference. Clones share them.
#[derive(Clone, Default)]
pub struct Kernels(Means);

/// What operations run on.
#[derive(Clone, Default)]
enum Means {
    /// The references.
    #[default]
    Plain,
    /// The CPU's loops.
    Loops,
    /// A card's kernels.
    Card(Arc<Card>),
}

/// A card's kernels, or why it has none.
type Loaded = Result<Arc<Card>, String>;

/// What was loaded for each card, so that it is compiled once and a failure is said once.
static LOADED: Mutex<BTreeMap<usize, Loaded>> = Mutex::new(BTreeMap::new());

impl Kernels {
    /// No kernels: the references.
    pub fn none() -> Kernels {
        Kernels(Means::Plain)
    }

    /// The loops of this CPU, or the references where it has too old vectors.
    pub fn of_cpu() -> Kernels {
        if cpu::has_loops() { Kernels(Means::Loops) } else { Kernels::none() }
    }

    /// The kernels for matrices of this kind on a device. Where it is a card that cannot have them also why, the first
    /// time that it is asked.
    pub fn on(device: Device, kind: Kind) -> (Kernels, Option<String>) {
        let ordinal = match (device, kind) {
            (Device::Cuda(ordinal), Kind::BFloat16) => ordinal,
            (Device::Cpu, _) => return (Kernels::of_cpu(), None),
            _ => return (Kernels::none(), None),
        };
        // A panic elsewhere leaves at worst a card that is loaded again.
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let known = loaded.contains_key(&ordinal);
        match loaded.entry(ordinal).or_insert_with(|| Card::load(ordinal).map(Arc::new)) {
            Ok(card) => (Kernels(Means::Card(card.clone())), None),
            Err(_) if known => (Kernels::none(), None),
            Err(reason) => {
                let note = format!("no kernels on cuda:{ordinal}, plain operations run instead: {reason}");
                (Kernels::none(), Some(note))
            }
        }
    }

    /// Whether they are a card's.
    pub fn on_card(&self) -> bool {
        self.card().is_some()
    }

    fn card(&self) -> Option<&Card> {
        match &self.0 {
            Means::Card(card) => Some(card),
            Means::Plain | Means::Loops => None,
        }
    }

    /// The card, where a kernel can take these tensors: bfloat16 on it, not empty, side by side from a multiple of 16 bytes on,
    /// and no gradient wanted.
    fn card_for(&self, tensors: &[&Tensor]) -> Option<&Card> {
        let card = self.card()?;
        let fits = |tensor: &&Tensor| {
            tensor.kind() == Kind::BFloat16
                && tensor.device() == Device::Cuda(card.ordinal)
                && tensor.numel() > 0
                && tensor.is_contiguous()
                && (tensor.data_ptr() as usize).is_multiple_of(16)
                && !tensor.requires_grad()
        };
        tensors.iter().all(fits).then_some(card)
    }

    /// The kind of `tensors`, where a loop of the CPU can take them: float32 or bfloat16, side by side, no gradient wanted, and
    /// `floats` as well, which are float32 in any case.
    fn loop_for(&self, tensors: &[&Tensor], floats: &[&Tensor]) -> Option<LoopKind> {
        let Means::Loops = self.0 else { return None };
        let all = |tensors: &[&Tensor], kind| tensors.iter().all(|tensor| cpu::takes(tensor, kind));
        let fits = |kind| all(tensors, kind) && all(floats, Kind::Float);
        match tensors.first()?.kind() {
            Kind::Float if fits(Kind::Float) => Some(LoopKind::F32),
            Kind::BFloat16 if fits(Kind::BFloat16) => Some(LoopKind::Bf16),
            _ => None,
        }
    }
}

/// What a loop of the CPU reads and writes; it computes in float32.
#[derive(Clone, Copy)]
enum LoopKind {
    F32,
    Bf16,
}

/// The kind of the residual stream and of rotary angles beside matrices of `kind`: on the CPU float32, where it costs next to
/// nothing.
pub fn stream_kind(device: Device, kind: Kind) -> Kind {
    match device {
        Device::Cpu => Kind::Float,
        _ => kind,
    }
}

/// What a card calls itself; `None` where there is none or its driver does not say.
pub fn card_name(ordinal: usize) -> Option<String> {
    card::name(ordinal)
}

/// Memory of a card, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardMemory {
    /// What nobody uses now.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// How much memory a card has; `None` where there is none or its driver does not say.
pub fn card_memory(ordinal: usize) -> Option<CardMemory> {
    card::memory(ordinal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_has_loops_without_gradients_and_says_nothing() {
        let (kernels, note) = Kernels::on(Device::Cpu, Kind::Float);
        assert!(!kernels.on_card() && note.is_none());
        let x = Tensor::ones([2, 8], (Kind::BFloat16, Device::Cpu));
        assert!(kernels.card_for(&[&x]).is_none());
        assert_eq!(kernels.loop_for(&[&x], &[]).is_some(), cpu::has_loops());
        for kernels in [kernels, Kernels::none()] {
            let learning = x.copy().set_requires_grad(true);
            for unfit in [learning, x.tr(), x.to_kind(Kind::Half)] {
                assert!(kernels.loop_for(&[&unfit], &[]).is_none());
                assert!(kernels.loop_for(&[&x], &[&unfit]).is_none());
            }
        }
        assert!(Kernels::none().loop_for(&[&x], &[]).is_none());
    }
}
