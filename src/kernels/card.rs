//! A card with its kernels, launched on libtorch's tensors: in the primary context and the legacy default stream, which are
//! libtorch's own.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{CudaContext, CudaFunction, CudaStream, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use tch::Tensor;

use super::CardMemory;
use super::compiler::{SOURCES, Source, version};
use crate::cache_dir::cache_dir;
use crate::output;

/// The kernels of one card.
pub(super) struct Card {
    /// Its number.
    pub ordinal: usize,
    stream: Arc<CudaStream>,
    functions: HashMap<&'static str, CudaFunction>,
}

/// An argument of a kernel.
pub(super) enum Argument<'a> {
    Tensor(&'a Tensor),
    Null,
    Int(i32),
    Long(i64),
    Float(f32),
}

impl Card {
    /// Compiles what the cache does not have, and loads it.
    pub(super) fn load(ordinal: usize) -> Result<Card, String> {
        let context = context(ordinal)?;
        let driver = |error: cudarc::driver::DriverError| format!("the CUDA driver says {error}");
        let (major, minor) = context.compute_capability().map_err(driver)?;
        let architecture = format!("sm_{major}{minor}");
        let mut functions = HashMap::new();
        for source in SOURCES {
            let module = context.load_module(Ptx::from_binary(code(&source, &architecture)?)).map_err(driver)?;
            for entry in source.entries {
                functions.insert(*entry, module.load_function(entry).map_err(driver)?);
            }
        }
        Ok(Card { ordinal, stream: context.default_stream(), functions })
    }

    /// Runs a kernel behind what libtorch has queued. The tensors are the caller's to keep until libtorch reuses their memory,
    /// which it does in the order of the same stream.
    pub(super) fn launch(&self, kernel: &str, grid: [u32; 2], threads: u32, arguments: &[Argument]) {
        let words: Vec<Word> = arguments.iter().map(Word::of).collect();
        let function = self.functions.get(kernel).expect("every kernel of a source is loaded");
        let mut builder = self.stream.launch_builder(function);
        for word in &words {
            match word {
                Word::Pointer(pointer) => builder.arg(pointer),
                Word::Int(number) => builder.arg(number),
                Word::Long(number) => builder.arg(number),
                Word::Float(number) => builder.arg(number),
            };
        }
        let size = LaunchConfig { grid_dim: (grid[0], grid[1], 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: each operation hands the kernel the tensors of the shapes and kinds that its source asks for.
        if let Err(error) = unsafe { builder.launch(size) } {
            // As libtorch's own operations do on a card that is lost; workers catch it.
            panic!("CUDA error: kernel {kernel} cannot start on {grid:?} x {threads} threads: {error}");
        }
    }
}

/// An argument as the driver takes it.
enum Word {
    Pointer(u64),
    Int(i32),
    Long(i64),
    Float(f32),
}

impl Word {
    fn of(argument: &Argument) -> Word {
        match argument {
            Argument::Tensor(tensor) => Word::Pointer(tensor.data_ptr() as u64),
            Argument::Null => Word::Pointer(0),
            Argument::Int(number) => Word::Int(*number),
            Argument::Long(number) => Word::Long(*number),
            Argument::Float(number) => Word::Float(*number),
        }
    }
}

/// What the driver calls a card.
pub(super) fn name(ordinal: usize) -> Option<String> {
    context(ordinal).ok()?.name().ok()
}

/// How much memory a card has.
pub(super) fn memory(ordinal: usize) -> Option<CardMemory> {
    let (free, total) = context(ordinal).ok()?.mem_get_info().ok()?;
    Some(CardMemory { free: free as u64, total: total as u64 })
}

/// Contexts that were asked for: kept, because the last one to let go of a primary context destroys it under libtorch.
static CONTEXTS: Mutex<BTreeMap<usize, Arc<CudaContext>>> = Mutex::new(BTreeMap::new());

/// The card's primary context. cudarc panics where there is no driver, so libtorch is asked first.
fn context(ordinal: usize) -> Result<Arc<CudaContext>, String> {
    if tch::Cuda::device_count() <= ordinal as i64 {
        return Err(format!("there is no card {ordinal}"));
    }
    // A panic elsewhere leaves at worst a context less.
    let mut contexts = CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(context) = contexts.get(&ordinal) {
        return Ok(context.clone());
    }
    let context = CudaContext::new(ordinal).map_err(|error| format!("the CUDA driver says {error}"))?;
    contexts.insert(ordinal, context.clone());
    Ok(context)
}

/// A source's machine code, from the cache where it was compiled before.
fn code(source: &Source, architecture: &str) -> Result<Vec<u8>, String> {
    let file = cache_file(source, architecture, &version()?);
    if let Ok(found) = std::fs::read(&file) {
        return Ok(found);
    }
    let compiled = source.compile(architecture)?.code;
    // A cache that cannot be written costs a second, no more.
    let _ = output::write(&file, &compiled);
    Ok(compiled)
}

/// Where the code of exactly this source, architecture and compiler is kept.
fn cache_file(source: &Source, architecture: &str, compiler: &str) -> PathBuf {
    let digest = blake3::hash(format!("{compiler}\n{architecture}\n{}", source.whole()).as_bytes()).to_hex();
    cache_dir().join("kernels").join(format!("{}-{architecture}-{}.cubin", source.name, &digest[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compiled_decides_where_it_is_kept() {
        let files = [("sm_80", "13.0"), ("sm_90", "13.0"), ("sm_90", "13.1")]
            .map(|(architecture, compiler)| cache_file(&SOURCES[0], architecture, compiler));
        assert!(files[0] != files[1] && files[1] != files[2]);
        assert_ne!(cache_file(&SOURCES[1], "sm_80", "13.0"), files[0]);
    }

    #[test]
    fn no_card_is_an_answer() {
        let error = Card::load(99).err().unwrap();
        assert_eq!(error, "there is no card 99");
        assert!(name(99).is_none() && memory(99).is_none());
    }
}
