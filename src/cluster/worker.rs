//! Somebody who takes tasks of whatever runs there are, and scores.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::kv::{Operation, Store};
use async_nats::jetstream::message::{AckKind, Acker, PublishMessage};
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::announcement::{Announcement, PROTOCOL, RunId};
use super::connection::Connection;
use super::message::{Scores, Task, one_by_one, written};
use super::names::{LANES, lanes_for, workers};
use super::numeric_class::{ClassId, NumericClass};
use super::status::{Busy, EVERY, Status};
use super::word::is_word;
use super::workshop::{Bench, Workshop};
use crate::error::{Error, Result};
use crate::eval::{Outcome, Partial, Work};
use crate::run::cores;
use crate::space::Genome;

/// How long nothing may come before it is looked for again: tasks whose worker has died come without a word.
const IDLE: Duration = Duration::from_secs(2);
/// How often a stop is looked for meanwhile.
const MOMENT: Duration = Duration::from_millis(100);
/// Scores are sent at the latest after so long, and when they have about so many bytes.
const SEND_EVERY: Duration = Duration::from_secs(1);
const SEND_BYTES: usize = 128 << 10;
/// Bytes of a score about: of an item, and of each of its requests.
const SCORE_BYTES: [usize; 2] = [16, 24];
/// How often workers may die of several networks together before they get them one by one, and of one before it has failed.
const TOGETHER: usize = 2;
const ALONE: usize = 3;

/// What a worker has to say.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// Something that the user may not expect.
    Note(String),
    /// Something that somebody who looks for a fault wants to know.
    Detail(String),
}

/// A worker at a server.
pub struct Worker {
    connection: Arc<Connection>,
    name: String,
    slots: Option<usize>,
    stop: Arc<AtomicBool>,
    shared: Arc<Shared>,
    workshop: Mutex<Box<dyn Workshop>>,
    beside: Vec<JoinHandle<()>>,
}

/// What its slots have in common.
struct Shared {
    status: Mutex<Status>,
    /// What is under way, and since when.
    busy: Mutex<Vec<(Busy, Instant)>>,
    runs: Mutex<BTreeMap<RunId, Arc<Announcement>>>,
    /// Changes when there may be something to do.
    wakes: watch::Sender<u64>,
    /// Changes when there is a run, or one less.
    news: watch::Sender<u64>,
    /// What the user is to hear, said by whoever speaks next.
    unsaid: Mutex<Vec<Happening>>,
}

/// One task at a time.
struct Slot<'a> {
    worker: &'a Worker,
    number: usize,
    /// In which order it looks for tasks.
    lanes: Vec<usize>,
    benches: HashMap<RunId, Prepared>,
    say: &'a (dyn Fn(Happening) + Sync),
}

/// A run that this slot works for.
struct Prepared {
    bench: Bench,
    /// Of its scores.
    class: NumericClass,
    id: ClassId,
    /// Of each lane, once it was looked into.
    consumers: Vec<Option<PullConsumer>>,
    /// Where in the order of lanes the last task was, and how often it had been said by then that there are some.
    last: (usize, u64),
}

/// A task in hand: until this goes, the server hears that it is worked on.
struct Held {
    acker: Arc<Acker>,
    alive: JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.alive.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn wake(&self) {
        self.wakes.send_modify(|wakes| *wakes += 1);
    }

    fn refuse(&self, run: &str, why: String) {
        let known = lock(&self.status).refused.insert(run.to_string(), why.clone());
        if known.as_ref() != Some(&why) {
            let note = format!("run {run} is left to others: {why}");
            lock(&self.unsaid).push(Happening::Note(note));
        }
    }

    fn status(&self) -> Status {
        let since = |(busy, since): &(Busy, Instant)| Busy { seconds: since.elapsed().as_secs_f64(), ..busy.clone() };
        let busy = lock(&self.busy).iter().map(since).collect();
        Status { busy, ..lock(&self.status).clone() }
    }

    /// What the bucket says of a run now.
    fn learn(&self, run: &str, announced: Option<&[u8]>) {
        match announced.map(|bytes| Announcement::read(run, bytes)) {
            Some(Ok(announcement)) => {
                let before = lock(&self.runs).insert(announcement.run.clone(), Arc::new(announcement.clone()));
                if before.is_some_and(|before| before.settings != announcement.settings) {
                    lock(&self.status).refused.remove(run);
                }
            }
            Some(Err(error)) => self.refuse(run, error.to_string()),
            None => {
                lock(&self.runs).retain(|known, _| known.to_string() != run);
                let mut status = lock(&self.status);
                status.refused.remove(run);
                status.classes.remove(run);
            }
        }
        self.wake();
        self.news.send_modify(|news| *news += 1);
    }
}

impl Worker {
    /// Connects a workshop to a server under a name. So many of its benches are used at a time; by default as many as it has for a run.
    ///
    /// # Errors
    /// [`Error::Server`]; a name that cannot be part of a subject.
    pub fn begin(
        connection: Arc<Connection>,
        name: &str,
        slots: Option<usize>,
        workshop: Box<dyn Workshop>,
        stop: Arc<AtomicBool>,
    ) -> Result<Worker> {
        if !is_word(name, 128) {
            return Err(Error::invalid("name of a worker", format!("`{name}`"), "letters, digits, `-` and `_`"));
        }
        let device = workshop.device();
        let name_of = name.to_string();
        let status =
            Status { protocol: PROTOCOL, name: name_of, device, slots: slots.unwrap_or(1), ..Status::default() };
        let shared = Arc::new(Shared {
            status: Mutex::new(status),
            busy: Mutex::default(),
            runs: Mutex::default(),
            wakes: watch::Sender::new(0),
            news: watch::Sender::new(0),
            unsaid: Mutex::default(),
        });
        let runs = connection.runs()?;
        let beside = vec![
            connection.beside(hear_of_runs(runs, shared.clone())),
            connection.beside(hear_of_tasks(connection.client.clone(), connection.names.wake(), shared.clone())),
            connection.beside(speak(connection.client.clone(), connection.names.worker(name), shared.clone())),
        ];
        Ok(Worker { connection, name: name.to_string(), slots, stop, shared, workshop: Mutex::new(workshop), beside })
    }

    /// Takes tasks until it is asked to stop, or, with `patience`, until nothing was to be done for so long. What is begun is finished or
    /// handed back.
    ///
    /// # Errors
    /// What ended an evaluation, such as a lost device: others go on with the task.
    pub fn work(&self, patience: Option<Duration>, say: &(dyn Fn(Happening) + Sync)) -> Result<()> {
        let slots = self.slots.unwrap_or_else(cores);
        let over = AtomicBool::new(false);
        let worked = std::thread::scope(|scope| {
            let slot = |number| {
                let lanes = lanes_for(&format!("{} {number}", self.name));
                let mut slot = Slot { worker: self, number, lanes, benches: HashMap::new(), say };
                let over = &over;
                scope.spawn(move || {
                    let worked = slot.work(patience, over);
                    if worked.is_err() {
                        over.store(true, Ordering::Relaxed);
                    }
                    worked
                })
            };
            let threads: Vec<_> = (0..slots).map(slot).collect();
            let ends = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(self.panicked())));
            ends.collect::<Result<()>>()
        });
        self.say_unsaid(say);
        worked
    }

    fn panicked(&self) -> Error {
        Error::Worker { what: format!("by worker {}", self.name), reason: "its thread panicked".into() }
    }

    fn say_unsaid(&self, say: &(dyn Fn(Happening) + Sync)) {
        let unsaid = std::mem::take(&mut *lock(&self.shared.unsaid));
        unsaid.into_iter().for_each(say);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.beside.iter().for_each(JoinHandle::abort);
        let status = Status { leaving: true, ..self.shared.status() };
        let subject = self.connection.names.worker(&self.name);
        let client = &self.connection.client;
        self.connection.wait(async {
            let said = async {
                let _ = client.publish(subject, written(&status).into()).await;
                let _ = client.flush().await;
            };
            let _ = tokio::time::timeout(IDLE, said).await;
        });
    }
}

/// Keeps the announcements, over the server's disappearances.
async fn hear_of_runs(runs: Store, shared: Arc<Shared>) {
    loop {
        if let Ok(mut changes) = runs.watch_with_history(">").await {
            while let Some(Ok(entry)) = changes.next().await {
                let announced = (entry.operation == Operation::Put).then_some(&*entry.value);
                shared.learn(&entry.key, announced);
            }
        }
        tokio::time::sleep(IDLE).await;
    }
}

async fn hear_of_tasks(client: async_nats::Client, subject: String, shared: Arc<Shared>) {
    loop {
        if let Ok(mut wakes) = client.subscribe(subject.clone()).await {
            while wakes.next().await.is_some() {
                shared.wake();
            }
        }
        tokio::time::sleep(IDLE).await;
    }
}

/// Says how it goes, now and then, and as soon as there is another run: its searcher wants to know who is there.
async fn speak(client: async_nats::Client, subject: String, shared: Arc<Shared>) {
    let mut news = shared.news.subscribe();
    loop {
        let _ = client.publish(subject.clone(), written(&shared.status()).into()).await;
        let _ = tokio::time::timeout(EVERY, news.changed()).await;
    }
}

impl Slot<'_> {
    fn work(&mut self, patience: Option<Duration>, over: &AtomicBool) -> Result<()> {
        let mut wakes = self.worker.shared.wakes.subscribe();
        let (mut turn, mut busy) = (self.number, Instant::now());
        let ends = || self.worker.stop.load(Ordering::Relaxed) || over.load(Ordering::Relaxed);
        while !ends() {
            wakes.borrow_and_update();
            let runs: Vec<Arc<Announcement>> = lock(&self.worker.shared.runs).values().cloned().collect();
            self.benches.retain(|known, _| runs.iter().any(|run| run.run == *known));
            self.worker.say_unsaid(self.say);
            let mut found = false;
            // The next run's turn, so that none waits for another to end.
            for place in 0..runs.len() {
                let run = &runs[(turn + place) % runs.len()];
                if self.try_one(run)? {
                    (found, turn, busy) = (true, turn + place + 1, Instant::now());
                    break;
                }
            }
            if found {
                continue;
            }
            if patience.is_some_and(|patience| busy.elapsed() > patience) {
                return Ok(());
            }
            let idle = Instant::now();
            while idle.elapsed() < IDLE && !ends() {
                let changed = async { tokio::time::timeout(MOMENT, wakes.changed()).await };
                if self.worker.connection.wait(changed).is_ok() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Does one task of a run, where there is one for us.
    fn try_one(&mut self, run: &Arc<Announcement>) -> Result<bool> {
        if !self.prepare(run) {
            return Ok(false);
        }
        let Some((bytes, held, deaths)) = self.take(run) else { return Ok(false) };
        let prepared = self.benches.get_mut(&run.run).expect("it was prepared");
        let sets = prepared.bench.sets().clone();
        let task = match Task::read(&bytes, &sets, &run.settings.space, &prepared.id) {
            Ok(task) => task,
            Err(error) => {
                (self.say)(Happening::Note(format!("a message of run {} that is left alone: {error}", run.run)));
                self.acknowledge(&held);
                return Ok(true);
            }
        };
        if task.searcher != run.searcher && !self.is_of_now(run, &task) {
            self.acknowledge(&held);
            return Ok(true);
        }
        self.score(run, task, deaths, held)?;
        Ok(true)
    }

    /// Whether this run is one that we can work for.
    fn prepare(&mut self, run: &Announcement) -> bool {
        let shared = &self.worker.shared;
        let name = run.run.to_string();
        if lock(&shared.status).refused.contains_key(&name) {
            return false;
        }
        if let Some(prepared) = self.benches.get(&run.run) {
            // A run that was over for a moment: whoever goes on with it is to hear of which class we are.
            let known = lock(&shared.status).classes.insert(name, prepared.class.clone());
            if known.is_none() {
                shared.news.send_modify(|news| *news += 1);
            }
            return true;
        }
        let mut workshop = lock(&self.worker.workshop);
        // Another slot may have tried meanwhile.
        if lock(&shared.status).refused.contains_key(&name) {
            return false;
        }
        let slots = workshop.slots(run);
        if self.number >= slots {
            return false;
        }
        let start = Instant::now();
        match workshop.bench(run) {
            Ok((bench, class)) => {
                let ready =
                    format!("slot {}: ready for run {name} in {:.2} s", self.number, start.elapsed().as_secs_f64());
                (self.say)(Happening::Detail(ready));
                let (id, of_run) = (class.id(), class.clone());
                let of_run = Prepared { bench, class: of_run, id, consumers: vec![None; LANES], last: (0, 0) };
                self.benches.insert(run.run.clone(), of_run);
                let note = format!("works for run {name}, {}", run.settings.model);
                drop(workshop);
                {
                    let mut status = lock(&shared.status);
                    status.slots = slots;
                    status.classes.insert(name, class);
                }
                shared.news.send_modify(|news| *news += 1);
                if self.number == 0 {
                    (self.say)(Happening::Note(note));
                }
                true
            }
            Err(Error::Interrupted) => false,
            Err(error) => {
                drop(workshop);
                shared.refuse(&name, error.to_string());
                self.worker.say_unsaid(self.say);
                false
            }
        }
    }

    /// The next task of a run, and how often it was delivered before.
    fn take(&mut self, run: &Announcement) -> Option<(Vec<u8>, Held, usize)> {
        let Connection { jetstream, names, .. } = &*self.worker.connection;
        let prepared = self.benches.get_mut(&run.run)?;
        let lanes = &self.lanes;
        // From the first lane on where there may be new tasks, else from where the last one was: looking costs a millisecond.
        let wakes = *self.worker.shared.wakes.borrow();
        if prepared.last.1 != wakes {
            prepared.last = (0, wakes);
        }
        let taken = self.worker.connection.wait(async {
            for place in (prepared.last.0..LANES).chain(0..prepared.last.0) {
                let lane = lanes[place];
                let consumer = match &mut prepared.consumers[lane] {
                    Some(consumer) => consumer,
                    unknown => {
                        let consumer = jetstream
                            .get_consumer_from_stream(workers(&prepared.id, lane), names.stream(&run.run))
                            .await;
                        unknown.insert(consumer.map_err(|error| error.to_string())?)
                    }
                };
                let mut messages =
                    consumer.fetch().max_messages(1).messages().await.map_err(|error| error.to_string())?;
                let next =
                    tokio::time::timeout(4 * IDLE, messages.next()).await.map_err(|_| "no answer".to_string())?;
                if let Some(message) = next.transpose().map_err(|error| error.to_string())? {
                    prepared.last.0 = place;
                    return Ok(Some(message));
                }
            }
            Ok::<_, String>(None)
        });
        let message = match taken {
            Ok(message) => message?,
            Err(error) => {
                prepared.consumers.fill(None);
                (self.say)(Happening::Detail(format!("tasks of run {}: {error}", run.run)));
                return None;
            }
        };
        let deaths = message.info().map_or(0, |info| usize::try_from(info.delivered - 1).unwrap_or(0));
        let (message, acker) = message.split();
        let acker = Arc::new(acker);
        let (every, alive) = (run.lease() / 3, acker.clone());
        let alive = self.worker.connection.beside(async move {
            loop {
                tokio::time::sleep(every).await;
                let _ = alive.ack_with(AckKind::Progress).await;
            }
        });
        Some((message.payload.to_vec(), Held { acker, alive }, deaths))
    }

    /// Whether a task is asked for by whom the bucket names now: what we know of that may be old.
    fn is_of_now(&self, run: &Announcement, task: &Task) -> bool {
        let key = run.run.to_string();
        let Ok(runs) = self.worker.connection.runs() else { return true };
        let Ok(Some(bytes)) = self.worker.connection.wait(runs.get(key.clone())) else { return true };
        self.worker.shared.learn(&key, Some(&bytes));
        lock(&self.worker.shared.runs).get(&run.run).is_some_and(|now| now.searcher == task.searcher)
    }

    fn acknowledge(&self, held: &Held) {
        // Where that is lost the task comes again, and its scores count once.
        let _ = self.worker.connection.wait(held.acker.ack());
    }

    /// Scores a task, sends what came of it, and lets the task go.
    fn score(&mut self, run: &Announcement, task: Task, deaths: usize, held: Held) -> Result<()> {
        let lost = deaths + task.failures.len();
        let networks = task.work.genomes.len();
        if networks > 1 && lost >= TOGETHER {
            (self.say)(Happening::Note(format!(
                "{networks} networks of run {} whose workers died {lost} times are tried one by one",
                run.run
            )));
            let singles: Vec<Task> = one_by_one(&task).collect();
            self.hand_back(run, &singles)?;
            self.acknowledge(&held);
            return Ok(());
        }
        if lost >= ALONE {
            let last = task.failures.last().map_or(String::new(), |last| format!("; one said: {last}"));
            let reason = format!("{lost} workers died of it{last}");
            let failed = |genome: &Genome| {
                let outcome = Outcome::Failed(reason.clone());
                Partial { chunk: task.work.chunk, genome: genome.clone(), outcome }
            };
            self.send(run, &task, 0.0, task.work.genomes.iter().map(failed).collect())?;
            self.acknowledge(&held);
            return Ok(());
        }
        let (start, place) = (Instant::now(), self.busy(run, &task.work));
        let what =
            format!("{networks} networks on chunk {} of eval set {}", task.work.chunk.chunk, task.work.chunk.set);
        (self.say)(Happening::Detail(format!("slot {}: {what}", self.number)));
        let mut done: HashSet<Genome> = HashSet::new();
        let evaluated = self.evaluate(run, &task, &mut done);
        self.idle(place, start.elapsed());
        (self.say)(Happening::Detail(format!("slot {}: {what}: {:.2} s", self.number, start.elapsed().as_secs_f64())));
        let left: Vec<Genome> = task.work.genomes.iter().filter(|genome| !done.contains(*genome)).cloned().collect();
        if !left.is_empty() {
            let mut failures = task.failures.clone();
            failures.extend(evaluated.as_ref().err().filter(|error| !is_stop(error)).map(Error::to_string));
            let work = Work { chunk: task.work.chunk, genomes: left };
            self.hand_back(run, &[Task { work, failures, ..task }])?;
        }
        self.acknowledge(&held);
        match evaluated {
            Err(error) if !is_stop(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Scores networks; those of `done` are sent.
    fn evaluate(&mut self, run: &Announcement, task: &Task, done: &mut HashSet<Genome>) -> Result<()> {
        let prepared = self.benches.remove(&run.run).expect("it was prepared");
        let Prepared { mut bench, class, id, consumers, last: place } = prepared;
        bench.expect(task.networks);
        let sets = bench.sets().clone();
        let set = &sets[task.work.chunk.set];
        let tokens = set.chunks[task.work.chunk.chunk].tree.len();
        let (mut sent, mut bytes, mut partials) = (Instant::now(), 0, Vec::new());
        let mut send = |slot: &Self, partials: &mut Vec<Partial>, sent: &mut Instant| {
            let seconds = std::mem::replace(sent, Instant::now()).elapsed().as_secs_f64();
            let genomes: Vec<Genome> = partials.iter().map(|partial| partial.genome.clone()).collect();
            slot.send(run, task, seconds, std::mem::take(partials))?;
            slot.count(genomes.len(), tokens * genomes.len());
            done.extend(genomes);
            Ok::<(), Error>(())
        };
        let evaluated = bench.evaluate(vec![task.work.clone()], &mut |partial| {
            if let Outcome::Scored(items) = &partial.outcome {
                bytes += items
                    .iter()
                    .map(|item| SCORE_BYTES[0] + SCORE_BYTES[1] * item.log_likelihoods.len())
                    .sum::<usize>();
            }
            partials.push(partial);
            if bytes > SEND_BYTES || sent.elapsed() > SEND_EVERY {
                bytes = 0;
                send(self, &mut partials, &mut sent)?;
            }
            Ok(())
        });
        let last = if partials.is_empty() { Ok(()) } else { send(self, &mut partials, &mut sent) };
        self.benches.insert(run.run.clone(), Prepared { bench, class, id, consumers, last: place });
        evaluated.and(last)
    }

    /// Sends scores to the searcher; waits while the server is away.
    fn send(&self, run: &Announcement, task: &Task, seconds: f64, partials: Vec<Partial>) -> Result<()> {
        let (worker, digest, class) = (self.worker.name.clone(), task.digest.clone(), task.class.clone());
        let scores = Scores { worker, class, seconds, digest, partials };
        let subject = self.worker.connection.names.scores(&run.run);
        self.publish("scores", run, &subject, written(&scores))
    }

    /// Offers tasks to whoever takes them.
    fn hand_back(&self, run: &Announcement, tasks: &[Task]) -> Result<()> {
        let Connection { names, client, .. } = &*self.worker.connection;
        for task in tasks {
            self.publish("task", run, &names.lane(&run.run, &task.class, task.lane), written(task))?;
        }
        let _ = self.worker.connection.wait(client.publish(names.wake(), run.run.to_string().into()));
        Ok(())
    }

    fn publish(&self, what: &str, run: &Announcement, subject: &str, bytes: Vec<u8>) -> Result<()> {
        let Connection { jetstream, .. } = &*self.worker.connection;
        let name = format!("{:032x}", rand::random::<u128>());
        let note = &mut |note| (self.say)(Happening::Note(note));
        // One that is asked to stop still sends what it has, as long as the server is there. A run that is over wants nothing.
        let given_up = || !lock(&self.worker.shared.runs).contains_key(&run.run);
        let sent = self.worker.connection.persist(what, &self.worker.stop, note, || async {
            let message = PublishMessage::build().message_id(&name).payload(bytes.clone().into());
            let taken = match jetstream.send_publish(subject.to_string(), message).await {
                Ok(taken) => taken.await.map(drop),
                Err(error) => Err(error),
            };
            match taken {
                Err(_) if given_up() => Ok(()),
                other => other,
            }
        });
        match sent {
            Err(Error::Interrupted) => Ok(()),
            other => other,
        }
    }

    fn busy(&self, run: &Announcement, work: &Work) -> Busy {
        let busy = Busy { run: run.run.clone(), chunk: work.chunk, networks: work.genomes.len(), seconds: 0.0 };
        lock(&self.worker.shared.busy).push((busy.clone(), Instant::now()));
        busy
    }

    fn idle(&self, busy: Busy, time: Duration) {
        let mut under_way = lock(&self.worker.shared.busy);
        if let Some(place) = under_way.iter().position(|(one, _)| *one == busy) {
            under_way.swap_remove(place);
        }
        drop(under_way);
        let mut status = lock(&self.worker.shared.status);
        status.tasks += 1;
        status.seconds += time.as_secs_f64();
    }

    fn count(&self, scores: usize, tokens: usize) {
        let mut status = lock(&self.worker.shared.status);
        status.scores += scores as u64;
        status.tokens += tokens as u64;
    }
}

/// Whether somebody asked to stop.
fn is_stop(error: &Error) -> bool {
    matches!(error, Error::Interrupted)
}
