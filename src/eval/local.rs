//! The evaluator on this machine: long-lived worker threads that take chunks from one queue.

use std::collections::{BTreeSet, HashMap};
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::evaluator::{ChunkId, Evaluator, Outcome, Partial, Work};
use super::packing::EvalSet;
use super::population::{self, Hidden, KeptStates, Place};
use super::prefix_cache::{PrefixCache, half_layers};
use crate::error::{Error, Result};
use crate::model::{Llama, Reference};
use crate::space::{Bits, Genome};

/// Scores networks on this machine's CPU or GPU. libtorch leaks memory for every new thread that runs
/// inference (tch-rs issue 125), so workers live as long as the evaluator.
pub struct LocalEvaluator {
    sets: Arc<Vec<EvalSet>>,
    tasks: Option<Sender<Task>>,
    replies: Receiver<Reply>,
    workers: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    cache: Arc<States>,
    /// Bytes of a hidden state, a token.
    token_bytes: u64,
    levels: usize,
}

type States = Mutex<PrefixCache<Place, Hidden>>;

/// A chunk's work, and after how many half layers each its hidden states are kept, if at all.
struct Task {
    work: Work,
    every: Option<usize>,
}

enum Reply {
    Scored(Partial),
    /// All of a chunk's work is done, or was cut short by a stop or an error.
    ChunkDone(Result<()>),
}

/// How the CPU is divided. Frozen in `run.json`: float32 sums depend on the number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    /// Threads that take chunks.
    pub count: usize,
    /// libtorch threads inside each of them.
    pub threads: usize,
}

impl LocalEvaluator {
    /// Starts the workers. `stop` is looked at between networks: once it is set, evaluation ends with
    /// [`Error::Interrupted`]. Hidden states of at most `cache_bytes` are kept between populations.
    pub fn start(
        model: &Llama,
        sets: Vec<EvalSet>,
        workers: Workers,
        cache_bytes: u64,
        stop: Arc<AtomicBool>,
    ) -> LocalEvaluator {
        keep_freed_memory();
        let sets = Arc::new(sets);
        let cache = Arc::new(Mutex::new(PrefixCache::new(cache_bytes)));
        let shape = &model.config().shape;
        let token_bytes = (shape.hidden * model.kind().elt_size_in_bytes()) as u64;
        let levels = 2 * shape.layers;
        let (tasks, queue) = unbounded::<Task>();
        let (send, replies) = unbounded();
        let workers = (0..workers.count.max(1))
            .map(|_| {
                let (model, sets, stop, send) = (model.share(), sets.clone(), stop.clone(), send.clone());
                let cache = cache.clone();
                let mut worker = Worker { model, sets, parents: HashMap::new(), stop, send, cache, token_bytes };
                let queue = queue.clone();
                std::thread::spawn(move || {
                    limit_threads(workers.threads);
                    for task in queue {
                        let done = worker.evaluate(task);
                        if worker.send.send(Reply::ChunkDone(done)).is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        LocalEvaluator { sets, tasks: Some(tasks), replies, workers, stop, cache, token_bytes, levels }
    }

    /// How densely the states of this work are kept: evenly, and so that those of a population take half of the cache
    /// on all chunks together and leave the other half to its parents'. Where not even one state a network fits, the
    /// first chunks get one: those that every network is scored on when networks race.
    fn divide(&self, work: Vec<Work>) -> Vec<Task> {
        let half = self.cache.lock().unwrap_or_else(PoisonError::into_inner).budget() / 2;
        let networks = work.iter().map(|work| work.genomes.len()).max().unwrap_or(0) as u64;
        let bytes = |tokens: usize| (networks * tokens as u64 * self.token_bytes).max(1);
        let sets: BTreeSet<usize> = work.iter().map(|work| work.chunk.set).collect();
        let depths = half / bytes(sets.iter().map(|&set| self.sets[set].packed_tokens).sum());
        let every = match depths.min(self.levels as u64 - 1) {
            0 => self.levels / 2,
            depths => self.levels.div_ceil(depths as usize + 1),
        };
        let slices = match self.workers.len() {
            1 => 1,
            workers => (TASKS_A_WORKER * workers).div_ceil(work.len().max(1)),
        };
        let mut tasks = Vec::new();
        for work in work {
            let chunks = &self.sets[work.chunk.set].chunks[..=work.chunk.chunk];
            let fits = depths > 0 || bytes(chunks.iter().map(|chunk| chunk.tree.len()).sum()) <= half;
            let every = fits.then_some(every);
            tasks.extend(sliced(work, slices).map(|work| Task { work, every }));
        }
        tasks
    }
}

/// Fewer tasks than this a worker, and one of them may be left with nothing to do at the end: chunks are sliced.
const TASKS_A_WORKER: usize = 4;

/// A chunk's work in so many parts, or fewer; networks that begin alike stay together.
fn sliced(work: Work, slices: usize) -> impl Iterator<Item = Work> {
    let Work { chunk, mut genomes } = work;
    if slices > 1 {
        genomes.sort_by_key(half_layers);
    }
    let size = genomes.len().div_ceil(slices.max(1)).max(1);
    let parts: Vec<Vec<Genome>> = genomes.chunks(size).map(<[Genome]>::to_vec).collect();
    parts.into_iter().map(move |genomes| Work { chunk, genomes })
}

/// Keeps freed memory for the next layer: handed back to the system, the buffers of every layer would be mapped and
/// zeroed again. For the whole process, once.
fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        static ONCE: OnceLock<()> = OnceLock::new();
        ONCE.get_or_init(|| {
            // SAFETY: mallopt only sets parameters of glibc's allocator, under its own lock.
            unsafe {
                libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20); // the most that glibc takes
                libc::mallopt(libc::M_TRIM_THRESHOLD, c_int::MAX);
                libc::mallopt(libc::M_TOP_PAD, 16 << 20);
            }
        });
    }
}

/// OpenMP's thread count belongs to the calling thread, MKL's and the intra-op pool's to the process; all
/// workers ask for the same.
fn limit_threads(threads: usize) {
    static INTEROP: OnceLock<()> = OnceLock::new();
    INTEROP.get_or_init(|| tch::set_num_interop_threads(1));
    tch::set_num_threads(threads.max(1) as i32);
}

/// One worker thread's own things.
struct Worker {
    model: Llama,
    sets: Arc<Vec<EvalSet>>,
    /// What the whole model predicts on chunks of sets that compare with it, computed when first needed.
    parents: HashMap<ChunkId, Reference>,
    stop: Arc<AtomicBool>,
    send: Sender<Reply>,
    cache: Arc<States>,
    token_bytes: u64,
}

impl Worker {
    fn evaluate(&mut self, task: Task) -> Result<()> {
        let Task { work: Work { chunk: id, genomes }, every } = task;
        let Worker { model, sets, parents, stop, send, cache, token_bytes } = self;
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut report = |place: usize, outcome: Outcome| {
            let genome: Genome = genomes[place].clone();
            send.send(Reply::Scored(Partial { chunk: id, genome, outcome })).is_ok() && !stop.load(Ordering::Relaxed)
        };
        let walked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let set = &sets[id.set];
            let chunk = &set.chunks[id.chunk];
            if set.divergence && !parents.contains_key(&id) {
                parents.insert(id, population::reference(model, chunk)?);
            }
            let bytes = chunk.tree.len() as u64 * *token_bytes;
            let kept = every.map(|every| KeptStates { cache, place: (id, Bits::F16), bytes, every });
            population::walk(model, chunk, parents.get(&id), &genomes, kept.as_ref(), &mut report)
        }));
        // tch turns libtorch's exceptions into panics; they end the run with their message, not the worker.
        walked.unwrap_or_else(|panic| {
            let reason = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
                .unwrap_or_else(|| "panic without a message".to_string());
            Err(Error::Worker { what: format!("chunk {} of {}", id.chunk, sets[id.set].name), reason })
        })
    }
}

impl Evaluator for LocalEvaluator {
    fn sets(&self) -> &Arc<Vec<EvalSet>> {
        &self.sets
    }

    fn evaluate(&mut self, work: Vec<Work>, sink: &mut dyn FnMut(Partial) -> Result<()>) -> Result<()> {
        let work = self.divide(work);
        let mut pending = work.len();
        let tasks = self.tasks.as_ref().expect("open until the evaluator is dropped");
        for task in work {
            tasks.send(task).expect("workers live as long as the evaluator");
        }
        let mut failed = None;
        while pending > 0 {
            let reply = self.replies.recv().expect("workers live as long as the evaluator");
            let step = match reply {
                Reply::Scored(partial) => sink(partial),
                Reply::ChunkDone(done) => {
                    pending -= 1;
                    done
                }
            };
            if let Err(error) = step {
                // Let the workers run out of work quickly, then report the first error.
                self.stop.store(true, Ordering::Relaxed);
                failed.get_or_insert(error);
            }
        }
        match failed {
            Some(error) => Err(error),
            None if self.stop.load(Ordering::Relaxed) => Err(Error::Interrupted),
            None => Ok(()),
        }
    }
}

impl Drop for LocalEvaluator {
    fn drop(&mut self) {
        // No work is pending: `evaluate` waits for all of it. The flag is the user's and stays as it is.
        self.tasks = None;
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}
