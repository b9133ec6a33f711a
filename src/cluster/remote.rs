//! An evaluator whose workers are elsewhere.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::division::{Costs, divided};
use super::hardware::{Hardware, Speeds};
use super::message::{Scores, Task};
use super::names::lane_of;
use super::numeric_class::{ClassId, NumericClass};
use super::searcher::{Heard, Incoming, Searcher, replaced};
use super::status::Crew;
use crate::error::{Error, Result};
use crate::eval::{ChunkId, EvalSet, Evaluator, Outcome, Partial, Work};
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
/// How long workers have to get ready before chunks are given to those that are.
const GETS_READY: Duration = Duration::from_secs(120);
/// How long a class of workers may take to score the network that it is compared by.
const COMPARED_WITHIN: Duration = Duration::from_secs(300);
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
    hardware: Hardware,
    /// A network that new classes of workers score before they are given chunks, and what they made of it.
    probe: Option<Probing>,
    stop: Arc<AtomicBool>,
    listener: Box<dyn FnMut(Heard)>,
    incoming: Option<Incoming>,
    /// Whether what was there before has been taken.
    begun: bool,
    /// Seconds a token and network, lately, of each class.
    pace: HashMap<ClassId, VecDeque<f64>>,
    /// Classes that could not score the network that they were to be compared by.
    left_out: HashSet<ClassId>,
    slots: usize,
    /// Networks of each chunk that a worker gets, about.
    networks: usize,
    /// Who refuses the run, and what else was said once.
    said: HashSet<String>,
    /// When workers of a class were last there.
    there: HashMap<ClassId, Instant>,
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

/// One network on one chunk that several classes score.
struct Probing {
    chunk: ChunkId,
    genome: Genome,
    outcomes: HashMap<ClassId, Outcome>,
}

/// What is asked for and not there yet.
#[derive(Default)]
struct Wanted {
    left: HashMap<ChunkId, HashSet<Genome>>,
    count: usize,
}

/// A task to offer.
struct Offer {
    work: Work,
    class: ClassId,
    lane: usize,
}

/// A task that was offered.
struct Offered {
    task: Offer,
    since: Instant,
}

impl Wanted {
    fn of(work: &[Work]) -> Wanted {
        let mut wanted = Wanted::default();
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
    /// Scores on these eval sets, which are those of the searcher's run, whose directory is `dir`. `stop` is looked at all the time,
    /// `listener` hears of workers.
    ///
    /// # Errors
    /// [`Error::Server`]; `Io` and `Format` of what the directory says of the machines of a run of several kinds.
    pub fn new(
        searcher: Arc<Searcher>,
        sets: Arc<Vec<EvalSet>>,
        dir: &Path,
        stop: Arc<AtomicBool>,
        listener: Box<dyn FnMut(Heard)>,
    ) -> Result<Remote> {
        let now = Instant::now();
        let hardware = Hardware::of(dir, &searcher.announcement.settings, sets.clone())?;
        searcher.admit(&hardware.classes())?;
        Ok(Remote {
            searcher,
            sets,
            hardware,
            probe: None,
            stop,
            listener,
            incoming: None,
            begun: false,
            pace: HashMap::new(),
            left_out: HashSet::new(),
            slots: 0,
            networks: 0,
            said: HashSet::new(),
            there: HashMap::new(),
            seen: now,
            alone: false,
            looked: now,
            since: now,
            doubled: 0,
            again: 0,
            strange: 0,
        })
    }

    fn note(&mut self, note: String) {
        (self.listener)(Heard::Note(note));
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn tokens(&self, id: ChunkId) -> usize {
        let set = &self.sets[id.set];
        let chunk = &set.chunks[id.chunk];
        // Made-up sets have items and no tokens.
        chunk.tree.len().max(chunk.items.len())
    }

    /// Hands over work.
    fn offer(&mut self, offers: Vec<Offer>) -> Result<Vec<Offered>> {
        let task = |Offer { work, class, lane }: &Offer| Task {
            searcher: self.searcher.announcement.searcher.clone(),
            digest: self.sets[work.chunk.set].digest.clone(),
            work: work.clone(),
            class: class.clone(),
            lane: *lane,
            networks: self.networks,
            failures: Vec::new(),
        };
        let tasks: Vec<Task> = offers.iter().map(task).collect();
        let Remote { searcher, stop, listener, .. } = self;
        searcher.offer(&tasks, stop, &mut |note| listener(Heard::Note(note)))?;
        let since = Instant::now();
        Ok(offers.into_iter().map(|task| Offered { task, since }).collect())
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
            let pace = self.pace.entry(scores.class.clone()).or_default();
            pace.push_back(scores.seconds / tokens as f64);
            if pace.len() > RECENT {
                pace.pop_front();
            }
        }
        for partial in scores.partials {
            if let Some(probe) = &mut self.probe
                && (probe.chunk, &probe.genome) == (partial.chunk, &partial.genome)
            {
                probe.outcomes.insert(scores.class.clone(), partial.outcome);
            } else if self.hardware.class_of(partial.chunk) != Some(&scores.class) {
                self.strange += 1;
            } else if wanted.take(&partial) {
                sink(partial)?;
            } else {
                self.doubled += 1;
            }
        }
        Ok(())
    }

    /// How long a task may take before it is offered once more.
    fn patience(&self, Offer { work, class, .. }: &Offer) -> Duration {
        let mut pace: Vec<f64> = self.pace.get(class).into_iter().flatten().copied().collect();
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
        while self.since.elapsed() < SOON && !self.is_stopped() {
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
            self.say_once(format!("worker {worker} does not work for this run: {why}"));
        }
        if slots == 0 && !self.alone && self.seen.elapsed() > PATIENCE {
            self.alone = true;
            let server = self.searcher.connection.server();
            let note = format!(
                "no worker is there for this run; `criadero worker --nats {server}` starts one, on any machine"
            );
            self.note(note);
        }
        self.miss_classes(offered);
        if self.searcher.is_replaced() == Some(true) {
            return Err(replaced(self.searcher.connection.server()));
        }
        if offered.is_empty() && self.searcher.queue(None).is_err() {
            // The server has lost its files: whoever comes is to hear of the run.
            let _ = self.searcher.prepare(false);
        }
        self.offer_again(wanted, offered)
    }

    fn say_once(&mut self, note: String) {
        if self.said.insert(note.clone()) {
            self.note(note);
        }
    }

    /// Says which chunks wait for machines that have gone; without any worker that was said.
    fn miss_classes(&mut self, offered: &[Offered]) {
        if !self.hardware.is_mixed() {
            return;
        }
        let now = Instant::now();
        let crews = self.crews().0;
        self.there.extend(crews.into_keys().map(|class| (class, now)));
        let mut waiting: BTreeMap<ClassId, HashSet<ChunkId>> = BTreeMap::new();
        for Offered { task: Offer { work, class, .. }, .. } in offered {
            waiting.entry(class.clone()).or_default().insert(work.chunk);
        }
        for (class, chunks) in waiting {
            let seen = *self.there.entry(class.clone()).or_insert(now);
            if self.slots > 0 && seen.elapsed() > PATIENCE {
                let (count, machines) = (chunks.len(), self.hardware.said(&class));
                self.say_once(format!(
                    "{count} chunks wait for a worker of the machines that they belong to: {machines}"
                ));
            }
        }
    }

    /// The workers of the run by class, and how many have not said yet of which they are.
    fn crews(&self) -> (BTreeMap<ClassId, Crew>, usize) {
        let run = &self.searcher.announcement.run;
        self.searcher.workers(|roster| roster.crews(run))
    }

    /// Sees to it that each chunk belongs to a class of workers.
    fn bind(&mut self, work: &[Work], wanted: &mut Wanted, sink: &mut dyn FnMut(Partial) -> Result<()>) -> Result<()> {
        if work.iter().all(|work| self.hardware.class_of(work.chunk).is_some()) {
            return Ok(());
        }
        let since = Instant::now();
        let crews = loop {
            let (mut crews, silent) = self.crews();
            if !crews.is_empty() && (silent == 0 || since.elapsed() > GETS_READY) {
                self.compare(&crews, work, wanted, sink)?;
                crews = self.crews().0;
                let admitted = self.hardware.classes();
                crews.retain(|class, _| admitted.contains(class));
                if !crews.is_empty() {
                    break crews;
                }
                self.say_once("none of the machines that are there may score for this run; it waits for others".into());
            }
            self.wait(wanted, sink, &Wanted::default(), &mut Vec::new())?;
        };
        // Of a class that has not computed yet nothing is known but how many there are.
        let usual = crews.values().filter_map(|crew| Some(crew.tokens_per_second? / crew.slots.max(1) as f64));
        let usual = usual.reduce(f64::min).unwrap_or(1.0);
        let speed = |crew: &Crew| crew.tokens_per_second.unwrap_or(usual * crew.slots as f64).max(f64::MIN_POSITIVE);
        let speeds: Speeds = crews.iter().map(|(class, crew)| (class.clone(), speed(crew))).collect();
        let cost = |work: &Work| (work.chunk, (self.tokens(work.chunk) * work.genomes.len()) as f64);
        let chunks: Vec<(ChunkId, f64)> = work.iter().map(cost).collect();
        self.hardware.bind(&chunks, &speeds)
    }

    /// Waits a moment for what is offered before the work itself is.
    fn wait(
        &mut self,
        wanted: &mut Wanted,
        sink: &mut dyn FnMut(Partial) -> Result<()>,
        asked: &Wanted,
        offered: &mut Vec<Offered>,
    ) -> Result<()> {
        if self.is_stopped() {
            let _ = self.searcher.withdraw();
            return Err(Error::Interrupted);
        }
        if !self.receive(wanted, sink)? {
            std::thread::sleep(MOMENT);
        }
        self.look(asked, offered)
    }

    /// Lets new classes score a network, and compares them.
    fn compare(
        &mut self,
        crews: &BTreeMap<ClassId, Crew>,
        work: &[Work],
        wanted: &mut Wanted,
        sink: &mut dyn FnMut(Partial) -> Result<()>,
    ) -> Result<()> {
        let is_new = |class: &&ClassId| self.hardware.is_new(class) && !self.left_out.contains(*class);
        let mut new: Vec<ClassId> = crews.keys().filter(is_new).cloned().collect();
        // The first one is what others are compared with: the searcher's own machine where it is there, else most of them.
        let own = NumericClass::of(&self.searcher.announcement.settings).id();
        new.sort_by_key(|class| (*class != own, crews.get(class).map(|crew| Reverse(crew.slots))));
        let Some(first) = work.first().filter(|_| !new.is_empty()) else { return Ok(()) };
        let (chunk, genome) = self.hardware.probe(first.chunk, self.searcher.announcement.settings.space.largest());
        self.probe = Some(Probing { chunk, genome: genome.clone(), outcomes: HashMap::new() });
        while self.searcher.admit(&new).is_err() {
            self.wait(wanted, sink, &Wanted::default(), &mut Vec::new())?;
        }
        let probe = |class: &ClassId| Offer {
            work: Work { chunk, genomes: vec![genome.clone()] },
            class: class.clone(),
            lane: lane_of(chunk, 0.0),
        };
        self.networks = 1;
        let (since, asked) = (Instant::now(), Wanted::of(&[Work { chunk, genomes: vec![genome.clone()] }]));
        let mut offered = self.offer(new.iter().map(probe).collect())?;
        while since.elapsed() < COMPARED_WITHIN {
            let there = self.crews().0;
            let outcomes = self.probe.as_ref().map(|probe| &probe.outcomes);
            offered.retain(|offered| {
                let class = &offered.task.class;
                !outcomes.is_some_and(|outcomes| outcomes.contains_key(class)) && there.contains_key(class)
            });
            if offered.is_empty() {
                break;
            }
            self.wait(wanted, sink, &asked, &mut offered)?;
        }
        // Of those who have gone nothing is to be in the way of others.
        let _ = self.searcher.withdraw();
        let Some(Probing { mut outcomes, .. }) = self.probe.take() else { return Ok(()) };
        let there = self.crews().0;
        for class in new {
            let Some(crew) = crews.get(&class) else { continue };
            match outcomes.remove(&class) {
                Some(Outcome::Failed(why)) => {
                    self.note(format!("{}: left out: {why}", crew.class));
                    self.left_out.insert(class);
                }
                Some(outcome) => {
                    let said = self.hardware.judge(crew.class.clone(), chunk, genome.clone(), outcome)?;
                    self.note(said);
                }
                None if there.contains_key(&class) => {
                    self.note(format!("{}: left out: no answer within {} s", crew.class, COMPARED_WITHIN.as_secs()));
                    self.left_out.insert(class);
                }
                // It has gone.
                None => {}
            }
        }
        Ok(())
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
        offered.retain(|offered| !wanted.of_work(&offered.task.work).genomes.is_empty());
        let late = |offered: &Offered| offered.since.elapsed() > self.patience(&offered.task);
        let left = |Offered { task: Offer { work, class, lane }, .. }: &Offered| Offer {
            work: wanted.of_work(work),
            class: class.clone(),
            lane: *lane,
        };
        let mut late: Vec<usize> = (0..offered.len()).filter(|&place| late(&offered[place])).collect();
        let classes: BTreeSet<ClassId> = late.iter().map(|&place| offered[place].task.class.clone()).collect();
        let crews = self.crews().0;
        for class in classes {
            let Ok((waiting, taken)) = self.searcher.queue(Some(&class)) else {
                // The server has lost its files, or another one has taken its place.
                if self.searcher.prepare(false).is_ok() {
                    *offered = self.offer(offered.iter().map(left).collect())?;
                }
                return Ok(());
            };
            let (busy, slots) = crews.get(&class).map_or((0, 0), |crew| (crew.busy, crew.slots));
            if waiting > 0 || (taken > 0 && busy >= slots) {
                late.retain(|&place| offered[place].task.class != class);
            }
        }
        if late.is_empty() {
            return Ok(());
        }
        let left: Vec<Offer> = late.iter().map(|&place| left(&offered[place])).collect();
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
        let left = |wanted: &Wanted| -> Vec<Work> {
            work.iter().map(|work| wanted.of_work(work)).filter(|work| !work.genomes.is_empty()).collect()
        };
        self.bind(&left(&wanted), &mut wanted, sink)?;
        let mut by_class: BTreeMap<ClassId, Vec<Work>> = BTreeMap::new();
        for work in left(&wanted) {
            if let Some(class) = self.hardware.class_of(work.chunk) {
                by_class.entry(class.clone()).or_default().push(work);
            }
        }
        let shape = self.searcher.announcement.settings.space.shape();
        let tokens = |id: ChunkId| [self.tokens(id), self.sets[id.set].chunks[id.chunk].targets.rows.len()];
        let networks = work.iter().map(|work| work.genomes.len()).max().unwrap_or(0);
        let crews = self.crews().0;
        let (mut offers, mut least) = (Vec::new(), usize::MAX);
        for (class, work) in by_class {
            // Where there is one class, those count too who are getting ready; whoever comes later is to find something to do.
            let of_class = || crews.get(&class).map_or(0, |crew| crew.slots);
            let there = if self.hardware.is_mixed() { of_class() } else { self.slots };
            let workers = if there == 0 { UNKNOWN } else { there };
            least = least.min(workers);
            let of_class = divided(work, &Costs { shape, tokens: &tokens }, workers);
            offers.extend(of_class.into_iter().map(|offer| {
                let lane = lane_of(offer.work.chunk, offer.place);
                Offer { work: offer.work, class: class.clone(), lane }
            }));
        }
        self.networks = networks.div_ceil(least);
        let again = self.again;
        let mut offered = self.offer(offers)?;
        while wanted.count > 0 {
            if self.is_stopped() {
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
