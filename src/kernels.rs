//! CUDA kernels beside the plain tch operations they replace.
//!
//! Each operation is a file with one obvious reference in tch, which runs on the CPU, under gradients and wherever there is no
//! kernel, and is what tests hold the kernel to within the bound the file states. Kernels are for bfloat16 on a card; their
//! sources are in `kernels/`, compiled with NVRTC when a card is first used and kept in the cache.
//!
//! Letters: as in `model/forward.rs`.

mod card;
pub mod check;
pub mod compiler;
pub mod int8;
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
pub struct Kernels(Option<Arc<Card>>);

/// A card's kernels, or why it has none.
type Loaded = Result<Arc<Card>, String>;

/// What was loaded for each card, so that it is compiled once and a failure is said once.
static LOADED: Mutex<BTreeMap<usize, Loaded>> = Mutex::new(BTreeMap::new());

impl Kernels {
    /// No kernels: the references.
    pub fn none() -> Kernels {
        Kernels(None)
    }

    /// The kernels for matrices of this kind on a device. Where it is a card that cannot have them also why, the first
    /// time that it is asked.
    pub fn on(device: Device, kind: Kind) -> (Kernels, Option<String>) {
        let (Device::Cuda(ordinal), Kind::BFloat16) = (device, kind) else { return (Kernels::none(), None) };
        // A panic elsewhere leaves at worst a card that is loaded again.
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let known = loaded.contains_key(&ordinal);
        match loaded.entry(ordinal).or_insert_with(|| Card::load(ordinal).map(Arc::new)) {
            Ok(card) => (Kernels(Some(card.clone())), None),
            Err(_) if known => (Kernels::none(), None),
            Err(reason) => {
                let note = format!("no kernels on cuda:{ordinal}, plain operations run instead: {reason}");
                (Kernels::none(), Some(note))
            }
        }
    }

    /// Whether there are any.
    pub fn are_there(&self) -> bool {
        self.0.is_some()
    }

    /// The card, where a kernel can take these tensors: bfloat16 on it, not empty, side by side from a multiple of 16 bytes on,
    /// and no gradient wanted.
    fn card_for(&self, tensors: &[&Tensor]) -> Option<&Card> {
        let card = self.0.as_deref()?;
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
    fn the_cpu_has_none_and_says_nothing() {
        let (kernels, note) = Kernels::on(Device::Cpu, Kind::Float);
        assert!(!kernels.are_there() && note.is_none());
        let x = Tensor::ones([2, 8], (Kind::BFloat16, Device::Cpu));
        assert!(kernels.card_for(&[&x]).is_none());
    }
}
