//! The evaluator on this machine: long-lived worker threads that take chunks from one queue.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, unbounded};

use super::eval_set::EvalSet;
use super::evaluator::{Evaluator, LostDevice, Partial, Work};
use super::prefix_cache::{PrefixCache, half_layers};
use super::queue::Queue;
use super::worker::{Faults, Reply, Task, Worker};
use super::writing::Exam;
use crate::error::{Error, Result};
use crate::freed_memory::keep_freed_memory;
use crate::model::Llama;
use crate::space::Genome;

/// Scores networks on this machine's CPU or GPUs. libtorch leaks memory for every new thread that runs
/// inference (tch-rs issue 125), so workers live as long as the evaluator.
pub struct LocalEvaluator {
    /// The first one, as its workers have it.
    model: Llama,
    sets: Arc<Vec<EvalSet>>,
    queue: Arc<Queue<Task>>,
    replies: Receiver<Reply>,
    workers: Vec<JoinHandle<()>>,
    /// libtorch threads of each worker.
    threads: usize,
    /// The user's.
    stop: Arc<AtomicBool>,
    /// Ours: the work at hand is given up.
    halt: Arc<AtomicBool>,
    /// Bytes of hidden states that a device keeps.
    cache_bytes: u64,
    /// Bytes of a hidden state, a token.
    token_bytes: u64,
    levels: usize,
    /// Networks of a population, where they come in several calls.
    expected: usize,
    /// Workers whose device has not failed.
    alive: usize,
    lost: Vec<LostDevice>,
    /// Scores that were no numbers and were computed again in float32.
    rescored: Arc<AtomicUsize>,
}

/// How the CPU is divided. Frozen in `run.json`: float32 sums depend on the number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    /// Threads that take chunks, on each device.
    pub count: usize,
    /// libtorch threads inside each of them.
    pub threads: usize,
}

impl LocalEvaluator {
    /// Starts the workers: so many for each of `models`, which are the same weights on one device each. `stop` is looked at
    /// between networks: once it is set, evaluation ends with [`Error::Interrupted`]. Hidden states of at most `cache_bytes`
    /// are kept on each device between populations.
    pub fn start(
        models: &[Llama],
        exam: impl Into<Exam>,
        workers: Workers,
        cache_bytes: u64,
        stop: Arc<AtomicBool>,
    ) -> LocalEvaluator {
        LocalEvaluator::start_with(models, exam.into(), workers, cache_bytes, stop, None)
    }

    /// The same with failures that are bound to come: what becomes of a search when devices fail.
    pub fn start_drill(models: &[Llama], sets: Vec<EvalSet>, workers: Workers, faults: Faults) -> LocalEvaluator {
        LocalEvaluator::start_with(models, sets.into(), workers, 0, Arc::default(), Some(faults))
    }

    fn start_with(
        models: &[Llama],
        Exam { sets, writer }: Exam,
        workers: Workers,
        cache_bytes: u64,
        stop: Arc<AtomicBool>,
        faults: Option<Faults>,
    ) -> LocalEvaluator {
        keep_freed_memory();
        let sets = Arc::new(sets);
        let (config, kind) = (models[0].config(), models[0].stream_kind());
        let token_bytes = (config.shape.hidden * kind.elt_size_in_bytes()) as u64;
        let levels = 2 * config.shape.layers;
        let halt = Arc::new(AtomicBool::new(false));
        let rescored = Arc::new(AtomicUsize::new(0));
        let queue = Arc::new(Queue::new(models.len() * workers.count.max(1)));
        let (send, replies) = unbounded();
        let mut handles = Vec::new();
        for model in models {
            let cache = Arc::new(Mutex::new(PrefixCache::new(cache_bytes)));
            for _ in 0..workers.count.max(1) {
                let worker = Worker {
                    number: handles.len(),
                    model: model.share(),
                    sets: sets.clone(),
                    writer: writer.clone(),
                    parents: HashMap::new(),
                    stop: stop.clone(),
                    halt: halt.clone(),
                    send: send.clone(),
                    cache: cache.clone(),
                    token_bytes,
                    faults: faults.clone(),
                    rescored: rescored.clone(),
                };
                let queue = queue.clone();
                handles.push(std::thread::spawn(move || worker.run(&queue)));
            }
        }
        let alive = handles.len();
        LocalEvaluator {
            model: models[0].share(),
            sets,
            queue,
            replies,
            workers: handles,
            threads: workers.threads,
            stop,
            halt,
            cache_bytes,
            token_bytes,
            levels,
            expected: 0,
            alive,
            lost: Vec::new(),
            rescored,
        }
    }

    /// Devices that failed so far; others took over their work.
    pub fn lost(&self) -> &[LostDevice] {
        &self.lost
    }

    /// From now on fewer workers than were started take chunks, with so many threads each.
    pub(super) fn divide_into(&mut self, workers: Workers) {
        self.alive = workers.count.min(self.workers.len());
        self.threads = workers.threads;
        self.queue.open_to(self.alive);
    }

    /// How densely the states of this work are kept: evenly, and so that those of a population take half of the cache
    /// on all chunks together and leave the other half to its parents'. Where not even one state a network fits, the
    /// first chunks get one: those that every network is scored on when networks race.
    fn divide(&self, work: Vec<Work>) -> Vec<Task> {
        let half = self.cache_bytes / 2;
        let networks = work.iter().map(|work| work.genomes.len()).max().unwrap_or(0).max(self.expected) as u64;
        let bytes = |tokens: usize| (networks * tokens as u64 * self.token_bytes).max(1);
        let sets: BTreeSet<usize> = work.iter().map(|work| work.chunk.set).collect();
        let depths = half / bytes(sets.iter().map(|&set| self.sets[set].packed_tokens).sum());
        let every = match depths.min(self.levels as u64 - 1) {
            0 => self.levels / 2,
            depths => self.levels.div_ceil(depths as usize + 1),
        };
        let slices = match self.alive {
            1 => 1,
            workers => (TASKS_A_WORKER * workers).div_ceil(work.len().max(1)),
        };
        let mut tasks = Vec::new();
        for work in work {
            let chunks = &self.sets[work.chunk.set].chunks[..=work.chunk.chunk];
            let fits = depths > 0 || bytes(chunks.iter().map(|chunk| chunk.tree.len()).sum()) <= half;
            let every = fits.then_some(every);
            let threads = self.threads;
            tasks.extend(sliced(work, slices).map(|work| Task { work, every, threads }));
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

impl Evaluator for LocalEvaluator {
    fn sets(&self) -> &Arc<Vec<EvalSet>> {
        &self.sets
    }

    fn evaluate(&mut self, work: Vec<Work>, sink: &mut dyn FnMut(Partial) -> Result<()>) -> Result<()> {
        if self.alive == 0 {
            let reason = self.lost.last().map_or(String::new(), |lost| lost.reason.clone());
            return Err(Error::Worker { what: "on the last device".into(), reason });
        }
        let work = self.divide(work);
        let mut pending = work.len();
        self.halt.store(false, Ordering::Relaxed);
        work.into_iter().for_each(|task| self.queue.push(task));
        let mut failed = None;
        while pending > 0 {
            let Ok(reply) = self.replies.recv() else {
                self.alive = 0;
                let reason = "no worker is left".to_string();
                return Err(failed.unwrap_or(Error::Worker { what: "on the last device".into(), reason }));
            };
            let step = match reply {
                Reply::Scored(partial) => sink(partial),
                Reply::Done(done) => {
                    pending -= 1;
                    done
                }
                Reply::Lost { task, lost } => {
                    self.alive -= 1;
                    let reason = lost.reason.clone();
                    self.lost.push(lost);
                    match self.alive {
                        0 => {
                            // Nobody is left to take what is queued.
                            failed.get_or_insert(Error::Worker { what: "on the last device".into(), reason });
                            break;
                        }
                        _ => self.queue.push(task),
                    }
                    Ok(())
                }
            };
            if let Err(error) = step {
                // Let the workers run out of work quickly, then report the first error.
                self.halt.store(true, Ordering::Relaxed);
                failed.get_or_insert(error);
            }
        }
        match failed {
            Some(error) => Err(error),
            None if self.stop.load(Ordering::Relaxed) => Err(Error::Interrupted),
            None => Ok(()),
        }
    }

    fn expect(&mut self, networks: usize) {
        self.expected = networks;
    }

    fn notes(&self) -> Vec<String> {
        let rescored = match self.rescored.load(Ordering::Relaxed) {
            0 => None,
            count => Some(format!("{count} scores were no finite numbers and were computed again in float32")),
        };
        let unpacked = match self.model.unpacked() {
            [0, _] => None,
            [lost, kept] => Some(format!(
                "{lost} of {} matrices would lose too much in int8: some of their columns hide the others; they are multiplied in bf16",
                lost + kept
            )),
        };
        self.lost.iter().map(LostDevice::to_string).chain(rescored).chain(unpacked).collect()
    }
}

impl Drop for LocalEvaluator {
    fn drop(&mut self) {
        // No work is pending: `evaluate` waits for all of it.
        self.queue.close();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}
