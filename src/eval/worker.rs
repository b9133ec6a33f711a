//! One thread that scores chunks on one device, and what it does when the device runs out of memory or is lost.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam::channel::Sender;

use super::eval_set::{Chunk, EvalSet};
use super::evaluator::{ChunkId, LostDevice, Outcome, Partial, Work};
use super::prefix_cache::PrefixCache;
use super::queue::Queue;
use super::walk;
use super::walk::{KeptStates, Place};
use super::writing::Writer;
use crate::error::{Error, Result};
use crate::last_words::last_words;
use crate::model::{Llama, Reference, Stream};
use crate::space::{Bits, Genome};

/// Rows of a chunk that go through an MLP at a time once nothing else has helped against too little memory.
const ROW_TILE: i64 = 256;

/// What libtorch's allocators, on a card, in cuBLAS and on the CPU, say when there is too little memory.
const OUT_OF_MEMORY: [&str; 4] =
    ["out of memory", "cublas_status_alloc_failed", "can't allocate memory", "not enough memory"];

/// What they say when a card does not answer any more, and our own launches of kernels.
const LOST: [&str; 3] = ["cuda error", "cuda_error", "cublas_status"];

/// Hidden states that a device keeps.
pub(super) type States = Mutex<PrefixCache<Place, Stream>>;

/// A chunk's work, after how many half layers each its hidden states are kept, if at all, and with how many libtorch threads.
#[derive(Clone)]
pub(super) struct Task {
    pub work: Work,
    pub every: Option<usize>,
    pub threads: usize,
}

/// What a worker has to say.
pub(super) enum Reply {
    Scored(Partial),
    /// All of a task is done, or was cut short by a stop or an error.
    Done(Result<()>),
    /// The device failed and its worker is gone: what is left of the task goes to others.
    Lost {
        task: Task,
        lost: LostDevice,
    },
}

/// How a device can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is too little memory for what was asked.
    OutOfMemory,
    /// It does not answer any more.
    Lost,
}

/// Failures to come, for drills: asked by each worker, by its number, before it walks networks.
pub type Faults = Arc<dyn Fn(usize, &Work) -> Option<Fault> + Send + Sync>;

/// Why an attempt ended before its work did.
enum Failure {
    Device(Fault, String),
    Other(Error),
}

impl Failure {
    /// What a panic's last words mean. tch turns libtorch's exceptions into panics; CUDA's name themselves.
    fn of(message: String, what: impl FnOnce() -> String) -> Failure {
        let lower = message.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|words| lower.contains(words));
        if says(&OUT_OF_MEMORY) {
            Failure::Device(Fault::OutOfMemory, message)
        } else if says(&LOST) {
            Failure::Device(Fault::Lost, message)
        } else {
            Failure::Other(Error::Worker { what: what(), reason: message })
        }
    }
}

/// One worker thread's own things.
pub(super) struct Worker {
    pub number: usize,
    pub model: Llama,
    pub sets: Arc<Vec<EvalSet>>,
    /// For sets that write.
    pub writer: Option<Writer>,
    /// What the whole model predicts on chunks of sets that compare with it, computed when first needed.
    pub parents: HashMap<ChunkId, Reference>,
    /// The user's.
    pub stop: Arc<AtomicBool>,
    /// The evaluator's own: what it fails with is known.
    pub halt: Arc<AtomicBool>,
    pub send: Sender<Reply>,
    pub cache: Arc<States>,
    pub token_bytes: u64,
    pub faults: Option<Faults>,
    /// Scores that were no numbers and were computed again in float32, of all workers.
    pub rescored: Arc<AtomicUsize>,
}

impl Worker {
    /// Does the tasks of a queue, until there are no more or the device is lost.
    pub fn run(mut self, queue: &Queue<Task>) {
        let mut threads = None;
        while let Some(task) = queue.take(self.number) {
            let limited = threads.replace(task.threads) == Some(task.threads) || {
                catch_unwind(|| limit_threads(task.threads)).is_ok()
            };
            let number = self.number;
            let reply = if limited {
                // Attempts catch what fails on a chunk; whatever fails around them ends the run instead of one thread.
                catch_unwind(AssertUnwindSafe(|| self.evaluate(task))).unwrap_or_else(|panic| {
                    let what = format!("by worker {number}");
                    Reply::Done(Err(Error::Worker { what, reason: reason(&*panic) }))
                })
            } else {
                let reason = format!("libtorch does not take {} threads", task.threads);
                Reply::Lost { task, lost: LostDevice { device: format!("worker {number}"), reason } }
            };
            let gone = matches!(reply, Reply::Lost { .. });
            if self.send.send(reply).is_err() || gone {
                return;
            }
        }
    }

    /// Whether the user or the evaluator wants no more.
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.halt.load(Ordering::Relaxed)
    }

    /// Scores a task's networks. Where memory is too small, kept states are let go, then fewer networks are walked together,
    /// then the rows of the same chunk go through MLPs in tiles (where sums may be added in another order, for this task
    /// alone); only then the device is given up.
    fn evaluate(&mut self, task: Task) -> Reply {
        let Task { work: Work { chunk, mut genomes }, mut every, threads } = task;
        let mut together = genomes.len();
        let mut cleared = false;
        self.model.set_row_tile(None);
        while !genomes.is_empty() && !self.is_over() {
            let count = together.min(genomes.len());
            let mut scored = HashSet::new();
            let attempt = self.attempt(chunk, &genomes[..count], every, &mut scored);
            let mut place = 0;
            genomes.retain(|_| {
                place += 1;
                !scored.contains(&(place - 1))
            });
            let left = || Work { chunk, genomes: genomes.clone() };
            match attempt {
                Ok(()) => {}
                Err(Failure::Other(error)) => return Reply::Done(Err(error)),
                Err(Failure::Device(Fault::OutOfMemory, _)) if !cleared => {
                    (cleared, every) = (true, None);
                    self.cache.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
                Err(Failure::Device(Fault::OutOfMemory, _)) if count > 1 => together = count / 2,
                Err(Failure::Device(Fault::OutOfMemory, _)) if self.model.row_tile().is_none() => {
                    self.model.set_row_tile(Some(ROW_TILE));
                }
                Err(Failure::Device(_, reason)) => {
                    let device = match self.model.device() {
                        tch::Device::Cuda(card) => format!("cuda:{card}, worker {}", self.number),
                        other => format!("{other:?}, worker {}", self.number).to_lowercase(),
                    };
                    return Reply::Lost {
                        task: Task { work: left(), every, threads },
                        lost: LostDevice { device, reason },
                    };
                }
            }
        }
        Reply::Done(Ok(()))
    }

    /// Walks some networks, and says which of them were scored.
    fn attempt(
        &mut self,
        id: ChunkId,
        genomes: &[Genome],
        every: Option<usize>,
        scored: &mut HashSet<usize>,
    ) -> Result<(), Failure> {
        let Worker { number, model, sets, writer, parents, stop, halt, send, cache, token_bytes, faults, rescored } =
            self;
        if let Some(faults) = faults
            && let Some(fault) = faults(*number, &Work { chunk: id, genomes: genomes.to_vec() })
        {
            return Err(Failure::Device(fault, format!("a drill: {fault:?}")));
        }
        let (set, chunk) = (&sets[id.set], &sets[id.set].chunks[id.chunk]);
        let (model, exact) = match model.float32() {
            Some(exact) if set.float32 => (exact, None),
            exact => (&*model, exact),
        };
        let answered = |model: &Llama, genome: &Genome, outcome: Outcome| match (outcome, &writer) {
            (Outcome::Scored(mut scores), Some(writer)) if set.writes => {
                let answered = writer.answer(model, (set, chunk), genome, &mut scores);
                answered.map_or_else(|error| Outcome::Failed(error.to_string()), |()| Outcome::Scored(scores))
            }
            (outcome, _) => outcome,
        };
        let mut report = |place: usize, outcome: Outcome| {
            let genome = &genomes[place];
            let outcome = match (answered(model, genome, outcome), exact) {
                (Outcome::Failed(reason), Some(exact)) => {
                    rescored.fetch_add(1, Ordering::Relaxed);
                    let scored = in_float32(exact, chunk, genome, set.divergence);
                    scored.map_or(Outcome::Failed(reason), |outcome| answered(exact, genome, outcome))
                }
                (outcome, _) => outcome,
            };
            scored.insert(place);
            let genome = genome.clone();
            let over = stop.load(Ordering::Relaxed) || halt.load(Ordering::Relaxed);
            send.send(Reply::Scored(Partial { chunk: id, genome, outcome })).is_ok() && !over
        };
        let walked = catch_unwind(AssertUnwindSafe(|| {
            if set.divergence && !parents.contains_key(&id) {
                parents.insert(id, walk::reference(model, chunk)?);
            }
            let bytes = chunk.tree.len() as u64 * *token_bytes;
            let kept = every.map(|every| KeptStates { cache, place: (id, Bits::F16), bytes, every });
            walk::walk(model, chunk, parents.get(&id), genomes, kept.as_ref(), &mut report)
        }));
        let what = || format!("chunk {} of {}", id.chunk, set.name);
        match walked {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Error::Torch(error))) => Err(Failure::of(error, what)),
            Ok(Err(error)) => Err(Failure::Other(error)),
            Err(panic) => Err(Failure::of(reason(&*panic), what)),
        }
    }
}

/// What a panic says, where something must be said.
fn reason(panic: &(dyn Any + Send)) -> String {
    last_words(panic).unwrap_or("panic without a message").to_string()
}

/// The score of a network on a chunk by the exact model, where the faster arithmetic gave none.
fn in_float32(exact: &Llama, chunk: &Chunk, genome: &Genome, compares: bool) -> Option<Outcome> {
    let mut scored = None;
    let network = std::slice::from_ref(genome);
    let parent = if compares { Some(walk::reference(exact, chunk).ok()?) } else { None };
    let mut keep = |_, outcome| {
        scored = Some(outcome);
        true
    };
    walk::walk(exact, chunk, parent.as_ref(), network, None, &mut keep).ok()?;
    scored
}

/// OpenMP's thread count belongs to the calling thread, MKL's and the intra-op pool's to the process; all
/// workers ask for the same.
fn limit_threads(threads: usize) {
    static INTEROP: OnceLock<()> = OnceLock::new();
    INTEROP.get_or_init(|| tch::set_num_interop_threads(1));
    tch::set_num_threads(threads.max(1) as i32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_says_what_became_of_the_device() {
        let kind = |text: &str| match Failure::of(text.into(), || "chunk 1".into()) {
            Failure::Device(fault, _) => Some(fault),
            Failure::Other(_) => None,
        };
        for text in [
            "CUDA error: an illegal memory access was encountered",
            "CUDA error: kernel rotary cannot start on [7, 1] x 256 threads: \
             DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"an illegal memory access was encountered\")",
            "CUBLAS_STATUS_EXECUTION_FAILED when calling cublasGemmEx",
        ] {
            assert_eq!(kind(text), Some(Fault::Lost), "{text}");
        }
        for text in
            ["CUDA out of memory. Tried to allocate 2 GiB", "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")"]
        {
            assert_eq!(kind(text), Some(Fault::OutOfMemory), "{text}");
        }
        assert_eq!(kind("index out of range"), None);
    }
}
