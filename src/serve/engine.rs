//! The one thread that computes: it reads prompts, and writes all requests of a network together.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tch::Tensor;
use tokio::sync::oneshot;

use super::menu::Menu;
use super::meter::Meter;
use super::question::Question;
use super::request::{Ending, Event, Request};
use super::sequence::Sequence;
use crate::checkpoint::Tokenizer;
use crate::error::{Error, Result};
use crate::model::{DecodeBatch, Llama};
use crate::space::Constraint;

/// How much is done at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Requests that are written at a time.
    pub batch: usize,
    /// Requests that wait.
    pub queue: usize,
    /// Bytes of keys and values.
    pub cache_bytes: u64,
    /// libtorch threads.
    pub threads: usize,
}

/// Why requests are not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many wait as there may.
    Full,
    /// The server ends.
    Closing,
}

/// What the thread is asked for.
enum Job {
    Write(Request),
    Choose(Question),
    /// Speeds of all networks, where those that a name and a budget ask for are not known by then.
    Measure {
        name: String,
        budget: Vec<Constraint>,
        done: oneshot::Sender<std::result::Result<(), String>>,
    },
}

/// What waits.
#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closing: bool,
}

struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    limits: Limits,
    meter: Arc<Meter>,
}

/// A model, and where some of its tokens are routed the same with their router.
pub struct Loaded {
    /// The model.
    pub model: Llama,
    /// Handles of it, with a router.
    pub routed: Option<Llama>,
}

/// A model that writes what it is asked for, in a thread of its own.
pub struct Engine {
    queue: Arc<Queue>,
    menu: Arc<Menu>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Job {
    /// Whether somebody waits for it.
    fn is_wanted(&self) -> bool {
        match self {
            Job::Write(request) => !request.events.is_closed(),
            Job::Choose(question) => !question.done.is_closed(),
            Job::Measure { done, .. } => !done.is_closed(),
        }
    }

    /// Whether its time is up.
    fn is_late(&self) -> bool {
        match self {
            Job::Write(request) => Instant::now() > request.deadline,
            Job::Choose(question) => Instant::now() > question.deadline,
            Job::Measure { .. } => false,
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes jobs in, all or none of them.
    fn put(&self, jobs: Vec<Job>) -> std::result::Result<(), Refusal> {
        let mut waiting = self.lock();
        if waiting.closing {
            return Err(Refusal::Closing);
        }
        if waiting.jobs.len() + jobs.len() > self.limits.queue {
            let before = waiting.jobs.len();
            waiting.jobs.retain(Job::is_wanted);
            Meter::add(&self.meter.cancelled, before - waiting.jobs.len());
        }
        if waiting.jobs.len() + jobs.len() > self.limits.queue {
            Meter::add(&self.meter.refused, jobs.len());
            return Err(Refusal::Full);
        }
        Meter::add(&self.meter.taken, jobs.len());
        waiting.jobs.extend(jobs);
        Meter::set(&self.meter.waiting, waiting.jobs.len() as u64);
        self.changed.notify_one();
        Ok(())
    }

    /// The next job, if there is one that `fits`; waits for one where `idle`. `Err` when there are no more.
    fn next(&self, idle: bool, fits: impl Fn(&Request) -> bool) -> std::result::Result<Option<Job>, ()> {
        let mut waiting = self.lock();
        loop {
            while waiting.jobs.front().is_some_and(|job| !job.is_wanted() || job.is_late()) {
                match waiting.jobs.pop_front() {
                    Some(Job::Write(request)) if !request.events.is_closed() => {
                        let _ = request.events.send(Event::End { why: Ending::Timeout, tokens: 0 });
                        Meter::count(&self.meter.late);
                    }
                    // Nobody answers: who waits finds that its time is up.
                    Some(Job::Choose(question)) if !question.done.is_closed() => Meter::count(&self.meter.late),
                    _ => Meter::count(&self.meter.cancelled),
                }
            }
            let fits = waiting.jobs.front().is_some_and(|job| match job {
                Job::Write(request) => fits(request),
                Job::Choose(_) | Job::Measure { .. } => true,
            });
            let job = if fits { waiting.jobs.pop_front() } else { None };
            Meter::set(&self.meter.waiting, waiting.jobs.len() as u64);
            if fits || !idle {
                return Ok(job);
            }
            if waiting.jobs.is_empty() && waiting.closing {
                return Err(());
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Engine {
    /// Begins with a model whose networks are on the menu, and the tokens that end a text. The model is loaded by the thread that computes:
    /// of threads that libtorch has computed in, each keeps a pool of its own, and pools wait for each other's cores.
    ///
    /// # Errors
    /// What `load` fails with.
    pub fn begin<E: Send + 'static>(
        load: impl FnOnce() -> std::result::Result<Loaded, E> + Send + 'static,
        menu: Arc<Menu>,
        tokenizer: Arc<Tokenizer>,
        ends: Vec<u32>,
        limits: Limits,
        meter: Arc<Meter>,
    ) -> std::result::Result<Engine, E> {
        let waiting = Mutex::new(Waiting::default());
        let queue = Arc::new(Queue { waiting, changed: Condvar::new(), limits, meter });
        let (jobs, of_menu) = (queue.clone(), menu.clone());
        let (loaded, heard) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let _over = Over(&jobs);
            // Each thread has a number of its own, and begins with one.
            tch::set_num_threads(limits.threads as i32);
            let loaded_model = match load() {
                Ok(model) => model,
                Err(error) => return drop(loaded.send(Err(error))),
            };
            // Who began it waits for that.
            let _ = loaded.send(Ok(()));
            let mut desk = Desk {
                loaded: &loaded_model,
                menu: &of_menu,
                tokenizer: &tokenizer,
                ends: &ends,
                queue: &jobs,
                lanes: BTreeMap::new(),
            };
            desk.work();
        });
        match heard.recv() {
            Ok(loaded) => loaded.map(|()| Engine { queue, menu, thread: Mutex::new(Some(thread)) }),
            Err(_) => resume_unwind(thread.join().expect_err("it says whether the model is loaded, or panics")),
        }
    }

    /// Takes requests in, all or none of them.
    ///
    /// # Errors
    /// Why not.
    pub fn write(&self, requests: Vec<Request>) -> std::result::Result<(), Refusal> {
        self.queue.put(requests.into_iter().map(Job::Write).collect())
    }

    /// Takes questions in, all or none of them.
    ///
    /// # Errors
    /// Why not.
    pub fn choose(&self, questions: Vec<Question>) -> std::result::Result<(), Refusal> {
        self.queue.put(questions.into_iter().map(Job::Choose).collect())
    }

    /// Times all networks of the menu, behind what waits already, unless what this name and budget ask for is known by then.
    ///
    /// # Errors
    /// Why not.
    pub fn measure(
        &self,
        name: &str,
        budget: &[Constraint],
    ) -> std::result::Result<oneshot::Receiver<std::result::Result<(), String>>, Refusal> {
        let (done, heard) = oneshot::channel();
        self.queue.put(vec![Job::Measure { name: name.to_string(), budget: budget.to_vec(), done }])?;
        Ok(heard)
    }

    /// Whether somebody computes.
    pub fn is_there(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Requests that may wait.
    pub fn most_waiting(&self) -> usize {
        self.queue.limits.queue
    }

    /// The networks.
    pub fn menu(&self) -> &Arc<Menu> {
        &self.menu
    }

    /// What was done.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.queue.meter
    }

    /// Takes nothing in any more; what is there is written to its end.
    pub fn close(&self) {
        self.queue.lock().closing = true;
        self.queue.changed.notify_all();
    }

    /// Closes, and waits until all is written.
    pub fn finish(&self) {
        self.close();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic was said where it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

/// Once the thread ends, whyever, nobody waits for it.
struct Over<'a>(&'a Queue);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.closing = true;
        waiting.jobs.clear();
    }
}

/// What the thread works with.
struct Desk<'a> {
    loaded: &'a Loaded,
    menu: &'a Menu,
    tokenizer: &'a Tokenizer,
    ends: &'a [u32],
    queue: &'a Queue,
    /// By network.
    lanes: BTreeMap<usize, Lane<'a>>,
}

/// The requests of a network, in the order of the batch's rows.
struct Lane<'a> {
    batch: DecodeBatch,
    sequences: Vec<Sequence<'a>>,
}

impl<'a> Desk<'a> {
    /// The model that a network of the menu runs on.
    fn model_of(&self, network: usize) -> &'a Llama {
        let routed = self.loaded.routed.as_ref().filter(|_| self.menu.is_routed(network));
        routed.unwrap_or(&self.loaded.model)
    }

    fn work(&mut self) {
        loop {
            let active: usize = self.lanes.values().map(|lane| lane.sequences.len()).sum();
            let bytes = self.lanes.values().map(|lane| lane.batch.bytes()).sum();
            Meter::set(&self.queue.meter.active, active as u64);
            Meter::set(&self.queue.meter.cache_bytes, bytes);
            // One prompt between two steps, so that those who are written do not wait for many.
            let next = self.queue.next(active == 0, |request| active == 0 || self.has_room(active, request));
            let start = Instant::now();
            match next {
                Ok(Some(Job::Write(request))) => self.begin(request),
                Ok(Some(Job::Choose(question))) => self.choose(question),
                Ok(Some(Job::Measure { name, budget, done })) => {
                    let lacks = self.menu.lacks(&name, &budget);
                    let measured = if lacks { guarded(|| self.menu.measure(&self.loaded.model)) } else { Ok(()) };
                    // Nobody may wait any more.
                    let _ = done.send(measured.map_err(|error| error.to_string()));
                    Meter::count(&self.queue.meter.finished);
                }
                Ok(None) => {}
                Err(()) => return,
            }
            let networks: Vec<usize> = self.lanes.keys().copied().collect();
            networks.into_iter().for_each(|network| self.step(network));
            let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.queue.meter.busy_micros.fetch_add(micros, Ordering::Relaxed);
        }
    }

    /// Whether a request can be written beside so many others.
    fn has_room(&self, active: usize, request: &Request) -> bool {
        let tokens = request.prompt.len() + request.tokens;
        let bytes = |(network, Lane { batch, .. }): (&usize, &Lane)| {
            if *network == request.network { batch.bytes_with(tokens) } else { batch.bytes() }
        };
        let first =
            || DecodeBatch::first_bytes(&self.loaded.model, &self.menu.networks()[request.network].genome, tokens);
        let new = if self.lanes.contains_key(&request.network) { 0 } else { first() };
        let all = self.lanes.iter().map(bytes).sum::<u64>() + new;
        active < self.queue.limits.batch && all <= self.queue.limits.cache_bytes
    }

    /// Reads a request's prompt, and chooses its first token.
    fn begin(&mut self, request: Request) {
        let (network, prompt, tokens) = (request.network, request.prompt.clone(), request.tokens);
        let sequence = match Sequence::begin(request, self.tokenizer) {
            Ok(sequence) => sequence,
            Err((events, error)) => {
                let _ = events.send(Event::Failed(error.to_string()));
                return Meter::count(&self.queue.meter.failed);
            }
        };
        let model = self.model_of(network);
        let read = guarded(|| {
            let lane = match self.lanes.entry(network) {
                std::collections::btree_map::Entry::Occupied(lane) => lane.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    let batch = DecodeBatch::of(model, &self.menu.networks()[network].genome)?;
                    place.insert(Lane { batch, sequences: Vec::new() })
                }
            };
            let logits = lane.batch.join(&prompt, tokens)?;
            let logits = Vec::<f32>::try_from(&logits);
            if logits.is_err() {
                lane.batch.leave(lane.batch.len() - 1)?;
            }
            Ok(logits?)
        });
        Meter::add(&self.queue.meter.prompt_tokens, prompt.len());
        match read {
            Ok(logits) => {
                let lane = self.lanes.get_mut(&network).expect("it was just used");
                lane.sequences.push(sequence);
                let row = lane.sequences.len() - 1;
                self.take(network, row, &logits);
            }
            Err(error) => {
                sequence.fail(&error.to_string());
                Meter::count(&self.queue.meter.failed);
                self.settle(network);
            }
        }
    }

    /// Answers a question.
    fn choose(&self, question: Question) {
        let meter = &self.queue.meter;
        Meter::add(&meter.prompt_tokens, question.prompt.len());
        let picked = guarded(|| question.answer(self.model_of(question.network), self.menu));
        Meter::count(if picked.is_ok() { &meter.finished } else { &meter.failed });
        // Nobody may wait any more.
        let _ = question.done.send(picked.map_err(|error| error.to_string()));
    }

    /// A token more for all requests of a network.
    fn step(&mut self, network: usize) {
        let sequences = self.lanes.get(&network).map_or(&[][..], |lane| &lane.sequences);
        // From the last on, since the last takes the place of one that leaves.
        let unwanted: Vec<usize> = (0..sequences.len()).rev().filter(|&row| sequences[row].is_unwanted()).collect();
        for row in unwanted {
            Meter::count(&self.queue.meter.cancelled);
            self.leave(network, row);
        }
        let Some(lane) = self.lanes.get_mut(&network) else { return };
        if lane.sequences.is_empty() {
            return self.settle(network);
        }
        let last: Vec<u32> = lane.sequences.iter().map(Sequence::last).collect();
        let pushed = guarded(|| {
            let logits: Tensor = lane.batch.push(&last)?; // (b, v)
            Ok(Vec::<f32>::try_from(logits.view([-1]))?)
        });
        Meter::count(&self.queue.meter.steps);
        match pushed {
            Ok(logits) => {
                let vocab = logits.len() / last.len();
                for row in (0..last.len()).rev() {
                    self.take(network, row, &logits[row * vocab..(row + 1) * vocab]);
                }
            }
            Err(error) => self.fail(network, &error),
        }
    }

    /// Takes a request out of its batch; the last one takes its place.
    fn leave(&mut self, network: usize, row: usize) {
        let Some(lane) = self.lanes.get_mut(&network) else { return };
        Meter::add(&self.queue.meter.written_tokens, lane.sequences.swap_remove(row).count());
        if let Err(error) = guarded(|| lane.batch.leave(row)) {
            self.fail(network, &error);
        }
    }

    /// Gives up all requests of a network: nobody knows what the batch holds now.
    fn fail(&mut self, network: usize, error: &Error) {
        let lost = self.lanes.remove(&network).map_or(Vec::new(), |lane| lane.sequences);
        Meter::add(&self.queue.meter.failed, lost.len());
        lost.iter().for_each(|sequence| sequence.fail(&error.to_string()));
    }

    /// Gives a request its next logits; ends it where it is over.
    fn take(&mut self, network: usize, row: usize, logits: &[f32]) {
        let Some(lane) = self.lanes.get_mut(&network) else { return };
        let meter = &self.queue.meter;
        let taken = lane.sequences[row].take(logits, self.ends);
        let over: &AtomicU64 = match &taken {
            Ok(None) => return,
            Ok(Some(Ending::Stop | Ending::Length)) => &meter.finished,
            Ok(Some(Ending::Timeout)) => &meter.late,
            Err(error) => {
                lane.sequences[row].fail(&error.to_string());
                &meter.failed
            }
        };
        Meter::count(over);
        self.leave(network, row);
        self.settle(network);
    }

    /// Lets go of a network that nobody asks for now.
    fn settle(&mut self, network: usize) {
        if self.lanes.get(&network).is_some_and(|lane| lane.sequences.is_empty()) {
            self.lanes.remove(&network);
        }
    }
}

/// What libtorch does; a panic of its is an error, since others' requests wait behind it.
fn guarded<T>(of: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(of)).unwrap_or_else(|panic| {
        let words =
            panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Error::Worker { what: "of the server".into(), reason: words.unwrap_or("it panicked").to_string() })
    })
}
