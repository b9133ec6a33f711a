//! An evaluator whose workers are elsewhere.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::division::{Costs, Offer, divided};
use super::message::{Scores, Task};
use super::names::lane_of;
use super::searcher::{Heard, Incoming, Searcher, replaced};
use crate::error::{Error, Result};
use crate::eval::{ChunkId, EvalSet, Evaluator, Partial, Work};
use crate::space::Genome;

/// How long one message is waited for before other things are looked at.
const MOMENT: Duration = Duration::from_millis(100);
/// How long after the announcement every worker has said that it is there.
const SOON: Duration = Duration::from_millis(500);
/// Workers that work is divided for when none is there yet.
const UNKNOWN: usize = 4;
/// How often workers and queue are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long no worker may be there before that is said.
const PATIENCE: Duration = Duration::from_secs(10);
/// A task that takes so many times what others took is offered once more.
const SLOW: f64 = 4.0;
/// Seconds that a task may have taken; more is no time.
const LONGEST: f64 = 1e9;
/// Tasks that the usual speed is taken from.
const RECENT: usize = 64;

/// Scores networks on the machines of whoever works for a [`Searcher`].
pub struct Remote {
    searcher: Arc<Searcher>,
    sets: Arc<Vec<EvalSet>>,
    stop: Arc<AtomicBool>,
    listener: Box<dyn FnMut(Heard)>,
    incoming: Option<Incoming>,
    /// Whether what was there before has been taken.
    begun: bool,
    /// Seconds a token and network, lately.
    pace: VecDeque<f64>,
    slots: usize,
    /// Networks of each chunk that a worker gets, about.
    networks: usize,
    /// Who refuses the run; said once.
    refusals: HashSet<String>,
    /// When somebody was last there.
    seen: Instant,
    /// Whether it was said that nobody is.
    alone: bool,
    looked: Instant,
    /// When it was made.
    since: Instant,
    /// Scores that came twice, tasks that were offered again, and messages that were none.
    doubled: usize,
    again: usize,
    strange: usize,
}

/// What is asked for and not there yet.
struct Wanted {
    left: HashMap<ChunkId, HashSet<Genome>>,
    count: usize,
}

/// A task that was offered.
struct Offered {
    work: Work,
    lane: usize,
    since: Instant,
}

impl Wanted {
    fn of(work: &[Work]) -> Wanted {
        let mut wanted = Wanted { left: HashMap::new(), count: 0 };
        for Work { chunk, genomes } in work {
            let left = wanted.left.entry(*chunk).or_default();
            wanted.count += genomes.iter().filter(|genome| left.insert((*genome).clone())).count();
        }
        wanted
    }

    /// Whether it is wanted; from now on it is not.
    fn take(&mut self, Partial { chunk, genome, .. }: &Partial) -> bool {
        let taken = self.left.get_mut(chunk).is_some_and(|left| left.remove(genome));
        self.count -= usize::from(taken);
        taken
    }

    /// What of some work is still wanted.
    fn of_work(&self, Work { chunk, genomes }: &Work) -> Work {
        let left = self.left.get(chunk);
        let wanted = |genome: &&Genome| left.is_some_and(|left| left.contains(*genome));
        Work { chunk: *chunk, genomes: genomes.iter().filter(wanted).cloned().collect() }
    }
}

impl Remote {
    /// Scores on these eval sets, which are those of the searcher's run. `stop` is looked at all the time, `listener` hears of workers.
    pub fn new(
        searcher: Arc<Searcher>,
        sets: Arc<Vec<EvalSet>>,
        stop: Arc<AtomicBool>,
        listener: Box<dyn FnMut(Heard)>,
    ) -> Remote {
        let now = Instant::now();
        Remote {
            searcher,
            sets,
            stop,
            listener,
            incoming: None,
            begun: false,
            pace: VecDeque::new(),
            slots: 0,
            networks: 0,
            refusals: HashSet::new(),
            seen: now,
            alone: false,
            looked: now,
            since: now,
            doubled: 0,
            again: 0,
            strange: 0,
        }
    }

    fn tokens(&self, id: ChunkId) -> usize {
        let set = &self.sets[id.set];
        let chunk = &set.chunks[id.chunk];
        // Made-up sets have items and no tokens.
        chunk.tree.len().max(chunk.items.len())
    }

    /// Hands over work, each with its lane.
    fn offer(&mut self, work: Vec<(Work, usize)>) -> Result<Vec<Offered>> {
        let task = |(work, lane): &(Work, usize)| Task {
            searcher: self.searcher.announcement.searcher.clone(),
            digest: self.sets[work.chunk.set].digest.clone(),
            work: work.clone(),
            lane: *lane,
            networks: self.networks,
            failures: Vec::new(),
        };
        let tasks: Vec<Task> = work.iter().map(task).collect();
        let Remote { searcher, stop, listener, .. } = self;
        searcher.offer(&tasks, stop, &mut |note| listener(Heard::Note(note)))?;
        let since = Instant::now();
        Ok(work.into_iter().map(|(work, lane)| Offered { work, lane, since }).collect())
    }

    /// Takes what came within a moment; `false` where the server is not there.
    fn receive(&mut self, wanted: &mut Wanted, sink: &mut dyn FnMut(Partial) -> Result<()>) -> Result<bool> {
        if self.incoming.is_none() {
            self.incoming = self.searcher.incoming().ok();
        }
        let Some(incoming) = &mut self.incoming else { return Ok(false) };
        let message = match self.searcher.next(incoming, MOMENT) {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(true),
            Err(error) => {
                (self.listener)(Heard::Detail(error.to_string()));
                self.incoming = None;
                return Ok(false);
            }
        };
        match Scores::read(&message.payload, &self.sets) {
            Ok(scores) => self.keep(scores, wanted, sink)?,
            Err(error) => {
                if self.strange == 0 {
                    (self.listener)(Heard::Note(format!("a message that is left alone: {error}")));
                }
                self.strange += 1;
            }
        }
        self.searcher.acknowledge(&message);
        Ok(true)
    }

    /// Hands on what is wanted of some scores.
    fn keep(&mut self, scores: Scores, wanted: &mut Wanted, sink: &mut dyn FnMut(Partial) -> Result<()>) -> Result<()> {
        let tokens: usize = scores.partials.iter().map(|partial| self.tokens(partial.chunk)).sum();
        if tokens > 0 && (0.0..LONGEST).contains(&scores.seconds) {
            self.pace.push_back(scores.seconds / tokens as f64);
            if self.pace.len() > RECENT {
                self.pace.pop_front();
            }
        }
        for partial in scores.partials {
            if wanted.take(&partial) {
                sink(partial)?;
            } else {
                self.doubled += 1;
            }
        }
        Ok(())
    }

    /// How long a task may take before it is offered once more.
    fn patience(&self, work: &Work) -> Duration {
        let mut pace: Vec<f64> = self.pace.iter().copied().collect();
        pace.sort_by(f64::total_cmp);
        let usual = pace.get(pace.len() / 2).copied().unwrap_or(0.0);
        let expected = usual * (work.genomes.len() * self.tokens(work.chunk)) as f64;
        let lease = self.searcher.announcement.lease();
        // Until then it may come back by itself: its worker has gone, and the lease runs out.
        Duration::from_secs_f64((SLOW * expected).min(LONGEST)).max(3 * lease)
    }

    /// Looks at who is there; at the beginning, once all that are there had time to speak.
    fn hear_of_workers(&mut self) {
        let run = self.searcher.announcement.run.clone();
        while self.since.elapsed() < SOON && !self.stop.load(Ordering::Relaxed) {
            std::thread::sleep(MOMENT);
        }
        let slots = self.searcher.workers(|roster| roster.of_run(&run).0);
        self.count(slots);
    }

    /// Looks at who is there, and at what takes too long.
    fn look(&mut self, wanted: &Wanted, offered: &mut Vec<Offered>) -> Result<()> {
        if self.looked.elapsed() < LOOK {
            return Ok(());
        }
        self.looked = Instant::now();
        let run = self.searcher.announcement.run.clone();
        let (slots, refusals) = self.searcher.workers(|roster| roster.of_run(&run));
        self.count(slots);
        for (worker, why) in refusals {
            let note = format!("worker {worker} does not work for this run: {why}");
            if self.refusals.insert(note.clone()) {
                (self.listener)(Heard::Note(note));
            }
        }
        if slots == 0 && !self.alone && self.seen.elapsed() > PATIENCE {
            self.alone = true;
            let server = self.searcher.connection.server();
            let note = format!(
                "no worker is there for this run; `criadero worker --nats {server}` starts one, on any machine"
            );
            (self.listener)(Heard::Note(note));
        }
        if self.searcher.is_replaced() == Some(true) {
            return Err(replaced(self.searcher.connection.server()));
        }
        self.offer_again(wanted, offered)
    }

    fn count(&mut self, slots: usize) {
        if slots > 0 {
            (self.seen, self.alone) = (Instant::now(), false);
        }
        if slots != self.slots {
            self.slots = slots;
            (self.listener)(Heard::Workers(slots));
        }
    }

    /// Offers once more what takes too long while nobody has anything else to do, or what is not at the server any more.
    fn offer_again(&mut self, wanted: &Wanted, offered: &mut Vec<Offered>) -> Result<()> {
        offered.retain(|offered| !wanted.of_work(&offered.work).genomes.is_empty());
        let late = |offered: &Offered| offered.since.elapsed() > self.patience(&offered.work);
        if !offered.iter().any(late) {
            return Ok(());
        }
        let Ok((waiting, taken)) = self.searcher.queue() else {
            // The server has lost its files, or another one has taken its place.
            if self.searcher.prepare(false).is_ok() {
                let left = offered.iter().map(|offered| (wanted.of_work(&offered.work), offered.lane)).collect();
                *offered = self.offer(left)?;
            }
            return Ok(());
        };
        let busy = self.searcher.workers(|roster| roster.there().map(|status| status.busy.len()).sum::<usize>());
        if waiting > 0 || (taken > 0 && busy >= self.slots) {
            return Ok(());
        }
        let late: Vec<usize> = (0..offered.len()).filter(|&place| late(&offered[place])).collect();
        let left: Vec<(Work, usize)> =
            late.iter().map(|&place| (wanted.of_work(&offered[place].work), offered[place].lane)).collect();
        self.again += left.len();
        (self.listener)(Heard::Detail(format!("{} tasks that take long are offered once more", left.len())));
        self.offer(left)?;
        late.into_iter().for_each(|place| offered[place].since = Instant::now());
        Ok(())
    }
}

impl Evaluator for Remote {
    fn sets(&self) -> &Arc<Vec<EvalSet>> {
        &self.sets
    }

    fn evaluate(&mut self, work: Vec<Work>, sink: &mut dyn FnMut(Partial) -> Result<()>) -> Result<()> {
        let mut wanted = Wanted::of(&work);
        // What was scored for a searcher that is gone.
        while !self.begun && wanted.count > 0 {
            let before = wanted.count;
            self.begun = !self.receive(&mut wanted, sink)? || wanted.count == before;
        }
        self.hear_of_workers();
        let left = work.iter().map(|work| wanted.of_work(work)).filter(|work| !work.genomes.is_empty()).collect();
        let shape = self.searcher.announcement.settings.space.shape();
        let tokens = |id: ChunkId| [self.tokens(id), self.sets[id.set].chunks[id.chunk].targets.rows.len()];
        // Whoever comes later is to find something to do.
        let workers = if self.slots == 0 { UNKNOWN } else { self.slots };
        let networks = work.iter().map(|work| work.genomes.len()).max().unwrap_or(0);
        let offers = divided(left, &Costs { shape, tokens: &tokens }, workers);
        self.networks = networks.div_ceil(workers);
        let again = self.again;
        let with_lane = |Offer { work, place, .. }: Offer| {
            let lane = lane_of(work.chunk, place);
            (work, lane)
        };
        let mut offered = self.offer(offers.into_iter().map(with_lane).collect())?;
        while wanted.count > 0 {
            if self.stop.load(Ordering::Relaxed) {
                let _ = self.searcher.withdraw();
                return Err(Error::Interrupted);
            }
            if !self.receive(&mut wanted, sink)? {
                std::thread::sleep(MOMENT);
            }
            self.look(&wanted, &mut offered)?;
        }
        if self.again > again {
            // Nobody needs what is still there.
            let _ = self.searcher.withdraw();
        }
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        let note = |count: usize, what: &str| (count > 0).then(|| format!("{what}: {count}"));
        let notes = [
            note(self.doubled, "scores that came more than once and counted once"),
            note(self.again, "tasks that took long and were offered once more"),
            note(self.strange, "messages that were no scores of this run and were left alone"),
        ];
        notes.into_iter().flatten().collect()
    }
}
