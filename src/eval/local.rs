//! The evaluator on this machine: long-lived worker threads that take chunks from one queue.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::evaluator::{ChunkId, Evaluator, Outcome, Partial, Work};
use super::packing::EvalSet;
use super::population;
use crate::error::{Error, Result};
use crate::model::{Llama, Reference};
use crate::space::Genome;

/// Scores networks on this machine's CPU or GPU. libtorch leaks memory for every new thread that runs
/// inference (tch-rs issue 125), so workers live as long as the evaluator.
pub struct LocalEvaluator {
    sets: Arc<Vec<EvalSet>>,
    tasks: Option<Sender<Work>>,
    replies: Receiver<Reply>,
    workers: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
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
    /// [`Error::Interrupted`].
    pub fn start(model: &Llama, sets: Vec<EvalSet>, workers: Workers, stop: Arc<AtomicBool>) -> LocalEvaluator {
        let sets = Arc::new(sets);
        let (tasks, queue) = unbounded::<Work>();
        let (send, replies) = unbounded();
        let workers = (0..workers.count.max(1))
            .map(|_| {
                let (model, sets, stop, send) = (model.share(), sets.clone(), stop.clone(), send.clone());
                let mut worker = Worker { model, sets, parents: HashMap::new(), stop, send };
                let queue = queue.clone();
                std::thread::spawn(move || {
                    limit_threads(workers.threads);
                    for work in queue {
                        let done = worker.evaluate(work);
                        if worker.send.send(Reply::ChunkDone(done)).is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        LocalEvaluator { sets, tasks: Some(tasks), replies, workers, stop }
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
}

impl Worker {
    fn evaluate(&mut self, work: Work) -> Result<()> {
        let Work { chunk: id, genomes } = work;
        let Worker { model, sets, parents, stop, send } = self;
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
            population::walk(model, chunk, parents.get(&id), &genomes, &mut report)
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
        self.stop.store(true, Ordering::Relaxed);
        self.tasks = None;
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}
