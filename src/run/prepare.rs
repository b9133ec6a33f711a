//! How a model on this machine scores the networks of an experiment: everything that is settled before the first one is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tch::Device;

use super::arithmetic_trial::{Trial, TrialTask};
use super::experiment::Experiment;
use super::progress::Progress;
use super::scorer::Scorer;
use super::settings::{Frozen, RunSettings, RunTask};
use super::throughput_table::Tables;
use crate::arithmetic::Arithmetic;
use crate::checkpoint::export::{EXPORTERS, Exporter, Network};
use crate::checkpoint::{Checkpoint, LlamaConfig, Tokenizer, open_model};
use crate::error::{Error, Result};
use crate::eval::division::{self, Division};
use crate::eval::{EvalSet, Exam, LocalEvaluator, Metric, PackingOptions, WRITTEN_TOKENS, Workers, Writer, pack_task};
use crate::model::Llama;
use crate::model::device::{EMULATED, device_name, kind_of, least_free_memory, machine_of, open_devices};
use crate::model::supernet::SupernetCard;
use crate::plan::evaluation::{Scoring, chunk_that_fills, keys_and_values};
use crate::plan::{Numbers, is_small_here, load_beside_float32};
use crate::search::Worth;
use crate::space::{Ends, Gene, Genome, SearchSpace};
use crate::task::{Selection, Split, Task};
use crate::versions::versions;

/// Longest sequence when the model does not say less: longer windows of a text would make chunks of minutes.
pub const MAX_LENGTH: usize = 2048;
/// Tokens of a chunk when nothing says otherwise.
pub const CHUNK_TOKENS: usize = 1024;
/// Chunk sizes that a new run on the CPU chooses from.
const CHUNK_SIZES: [usize; 3] = [512, CHUNK_TOKENS, 2048];
/// Items that the choice is measured on.
const SAMPLE_ITEMS: usize = 200;
/// An arithmetic that is not so many times as fast as float32 is not worth what it changes.
const WORTH_IT: f64 = 1.2;
/// Nor is one that is not so many times as fast as the next, which changes less.
const WORTH_ITS_ERROR: f64 = 1.1;
/// Networks and items that a faster arithmetic is compared with float32 on.
const TRIAL_NETWORKS: usize = 6;
const TRIAL_ITEMS: usize = 24;

/// What is said of a machine, and of the items; the rest is measured or as it was when the run began.
#[derive(Clone, Debug)]
pub struct Local {
    /// Directory of the tasks' data.
    pub data: PathBuf,
    /// The first items of each task's search split, in hash order; by default all.
    pub limit: Option<usize>,
    /// The first items of each task's held-out split; by default all.
    pub held_out: Option<usize>,
    /// Tokens that share a forward pass.
    pub chunk_tokens: Option<usize>,
    /// Worker threads that take chunks.
    pub workers: Option<usize>,
    /// libtorch threads of each worker.
    pub threads: Option<usize>,
    /// Bytes for hidden states that children share with their parents. Scores do not depend on it.
    pub cache_bytes: u64,
    /// Devices that share the work, as [`open_devices`] reads them.
    pub devices: String,
    /// The numbers that networks are scored with on a CPU while they are searched; `None` for the fastest that changes scores
    /// less than the choice of the questions does. Fronts are measured in float32.
    pub arithmetic: Option<Arithmetic>,
    /// Throughput.
    pub tables: Tables,
}

impl Default for Local {
    fn default() -> Local {
        Local {
            data: crate::task::default_data_dir(),
            limit: None,
            held_out: None,
            chunk_tokens: None,
            workers: None,
            threads: None,
            cache_bytes: 2 << 30,
            devices: "cpu".to_string(),
            arithmetic: None,
            tables: Tables::default(),
        }
    }
}

/// The two eval sets of a task, and what the run keeps of it.
struct PreparedTask {
    record: RunTask,
    sets: [EvalSet; 2],
    /// What the user is to know of its items.
    notes: Vec<String>,
}

impl PreparedTask {
    /// The eval sets; where the model is there in float32, too, what is reported is scored in that.
    fn sets(&self, beside_float32: bool) -> Vec<EvalSet> {
        let [search, held_out] = self.sets.clone();
        let exact = EvalSet { name: RunTask::float32_name(&self.record.name), float32: true, ..search.clone() };
        if beside_float32 { vec![search, EvalSet { float32: true, ..held_out }, exact] } else { vec![search, held_out] }
    }
}

/// A model on this machine, and everything that was settled before it scores the networks of a run.
pub struct Prepared {
    model_digest: String,
    device: String,
    tasks: Vec<RunTask>,
    frozen: Frozen,
    worth: Option<Worth>,
    space: SearchSpace,
    /// The model, on each device.
    models: Vec<Llama>,
    exam: Exam,
    cache_bytes: u64,
    stop: Arc<AtomicBool>,
}

impl Prepared {
    /// What scores a run here, with the workers that it has.
    fn scorer(self) -> Scorer {
        let Prepared { model_digest, device, tasks, frozen, worth, space, models, exam, cache_bytes, stop } = self;
        let workers = Workers { count: frozen.workers, threads: frozen.threads };
        let evaluator = Box::new(LocalEvaluator::start(&models, exam, workers, cache_bytes, stop));
        Scorer { name: "local".to_string(), evaluator, model_digest, device, tasks, frozen, worth, space }
    }

    /// An evaluator with one worker, on the next of the devices, of `count` that share memory for hidden states.
    pub fn bench(&self, number: usize, count: usize) -> LocalEvaluator {
        let device = number % self.models.len();
        let on_device = count.div_ceil(self.models.len()).max(1) as u64;
        let workers = Workers { count: 1, threads: self.frozen.threads };
        let cache = self.cache_bytes / on_device;
        LocalEvaluator::start(&self.models[device..=device], self.exam.clone(), workers, cache, self.stop.clone())
    }

    /// The machines that its models are on, each once.
    pub fn machines(&self) -> BTreeSet<String> {
        self.models.iter().map(|model| machine_of(model.device())).collect()
    }

    /// The settings of a run with what came out here in place of what they say of model, items and numbers.
    pub fn settings(&self, of: &RunSettings) -> RunSettings {
        let here = self.models.first().map_or(String::new(), |model| machine_of(model.device()));
        RunSettings {
            versions: versions(),
            evaluator: "local".to_string(),
            model_digest: self.model_digest.clone(),
            device: self.device.clone(),
            tasks: self.tasks.clone(),
            frozen: Frozen { machine: here, ..self.frozen.clone() },
            ..of.clone()
        }
    }
}

/// One preparation under way.
struct Preparation<'a> {
    local: &'a Local,
    experiment: &'a Experiment,
    /// What was settled when the run began.
    stored: Option<RunSettings>,
    stop: &'a Arc<AtomicBool>,
    on_progress: &'a mut dyn FnMut(Progress),
}

impl Local {
    /// Loads the model, packs the tasks, and measures what a new run freezes; a run that `dir` holds keeps what it froze.
    /// `stop` is looked at while networks are scored.
    ///
    /// # Errors
    /// What does not fit together: space and model, metrics and tasks, model and memory.
    pub fn prepare(
        &self,
        experiment: &Experiment,
        dir: &Path,
        stop: &Arc<AtomicBool>,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Scorer> {
        experiment.check()?;
        let stored = RunSettings::read(dir)?;
        if stored.as_ref().is_some_and(RunSettings::is_mock) {
            let differences = vec!["evaluator is mock there, local here".to_string()];
            return Err(Error::OtherRun { dir: dir.to_path_buf(), differences });
        }
        Ok(Preparation { local: self, experiment, stored, stop, on_progress }.prepared()?.scorer())
    }

    /// The same for a run whose directory is elsewhere: its items, chunks, arithmetic and threads, with the model where it lies here.
    ///
    /// # Errors
    /// As [`Local::prepare`].
    pub fn prepare_for(&self, settings: &RunSettings, model: &Path, stop: &Arc<AtomicBool>) -> Result<Prepared> {
        let experiment = Experiment { model: model.display().to_string(), ..Experiment::of(settings) };
        let local = self.as_for(settings);
        let stored = Some(settings.clone());
        Preparation { local: &local, experiment: &experiment, stored, stop, on_progress: &mut |_| () }.prepared()
    }

    /// The eval sets of a run, packed as it packed them, with a model's tokenizer and none of its weights.
    pub(super) fn sets_of(&self, settings: &RunSettings, checkpoint: &Checkpoint) -> Result<Vec<EvalSet>> {
        let (local, experiment, stored) = (self.as_for(settings), Experiment::of(settings), Some(settings.clone()));
        let (stop, on_progress) = (&Arc::default(), &mut |_| ());
        let mut preparation = Preparation { local: &local, experiment: &experiment, stored, stop, on_progress };
        let tasks = preparation.tasks(&checkpoint.tokenizer()?, settings.frozen.packing)?;
        let beside_float32 = settings.frozen.arithmetic != Arithmetic::F32;
        Ok(tasks.iter().flat_map(|task| task.sets(beside_float32)).collect())
    }

    /// What was said when a run began, as far as its settings tell.
    fn as_for(&self, settings: &RunSettings) -> Local {
        let [limit, held_out] = settings.selected().map(Some);
        let tables = Tables::default();
        Local { limit, held_out, chunk_tokens: None, workers: None, threads: None, tables, ..self.clone() }
    }
}

impl Preparation<'_> {
    fn note(&mut self, note: String) {
        (self.on_progress)(Progress::Note(note));
    }

    fn detail(&mut self, detail: String) {
        (self.on_progress)(Progress::Detail(detail));
    }

    fn prepared(mut self) -> Result<Prepared> {
        let checkpoint = open_model(Path::new(&self.experiment.model))?;
        self.detail(format!("opened {}", checkpoint.path().display()));
        checkpoint.notes().iter().for_each(|note| self.note(note.clone()));
        let (space, card) = self.space(&checkpoint)?;
        self.experiment.check_limits(&space)?;
        let worth = card.and_then(|card| worth(&card, &space));
        unexported_of(&checkpoint, &space).into_iter().for_each(|note| self.note(note));
        let tokenizer = Arc::new(checkpoint.tokenizer()?);
        let writer = Writer::new(&checkpoint, tokenizer.clone())?;
        tokenizer.notes().iter().for_each(|note| self.note(note.clone()));
        let mut packing = self.packing(checkpoint.config());
        let mut workers = self.workers();
        let mut prepared = self.tasks(&tokenizer, packing)?;
        prepared.iter().flat_map(|task| task.notes.clone()).for_each(|note| self.note(note));
        // What a card has free before the weights are on it is what they and a chunk have to share.
        let room = least_free_memory(&self.local.devices);
        let (arithmetic, models) = self.choose(&checkpoint, &space, &writer, worth.as_ref())?;
        let model = &models[0];
        let Local { chunk_tokens, workers: count, threads, .. } = self.local;
        let given = chunk_tokens.or(*count).or(*threads).is_some();
        if self.stored.is_none() && !given && model.device() == Device::Cpu {
            let division = self.measure_division(model, &tokenizer, packing)?;
            packing.chunk_tokens = division.chunk_tokens;
            workers = division.workers;
            prepared = self.tasks(&tokenizer, packing)?;
        }
        if let (None, None, Some(room)) = (&self.stored, chunk_tokens, room) {
            let writes = prepared.iter().flat_map(|task| &task.sets).any(|set| set.writes);
            let written = if writes { keys_and_values(model.config(), WRITTEN_TOKENS, Numbers::Card) } else { 0 };
            packing.chunk_tokens = self.chunk_for(model, &space, workers.count, [room, written])?;
            prepared = self.tasks(&tokenizer, packing)?;
        }
        let model_digest = checkpoint.digest()?;
        let machine = self.machine(model);
        let throughput = match self.stored.take() {
            Some(settings) => settings.frozen.throughput,
            None => {
                let threads = workers.count * workers.threads;
                let quantities = self.experiment.quantities()?;
                self.local.tables.table(&model_digest, model, &space, threads, &quantities, self.on_progress)?
            }
        };
        for task in &prepared {
            let [search, held_out] = task.sets.each_ref().map(|set| (set.items.len(), set.packed_tokens));
            let said = |(items, tokens)| format!("{items} items, {tokens} tokens");
            self.detail(format!("task {}: search {}; held-out {}", task.record.name, said(search), said(held_out)));
        }
        let [count, threads, tokens] = [workers.count, workers.threads, packing.chunk_tokens];
        self.detail(format!("{}: {count} workers of {threads} threads, chunks of {tokens} tokens", device_name(model)));
        let beside = model.float32().is_some();
        let sets = prepared.iter().flat_map(|task| task.sets(beside)).collect();
        Ok(Prepared {
            model_digest,
            device: device_name(model),
            tasks: prepared.into_iter().map(|task| task.record).collect(),
            frozen: Frozen {
                arithmetic,
                packing,
                workers: workers.count,
                threads: workers.threads,
                machine,
                throughput,
            },
            worth,
            space,
            models,
            exam: Exam { sets, writer: Some(writer) },
            cache_bytes: self.local.cache_bytes,
            stop: self.stop.clone(),
        })
    }

    /// The machine that the run began on; what another one here may change is said.
    fn machine(&mut self, model: &Llama) -> String {
        let here = machine_of(model.device());
        let Some(there) = self.stored.as_ref().map(|settings| settings.frozen.machine.clone()) else { return here };
        if !there.is_empty() && there != here {
            self.note(format!(
                "the run began on {there}; scores of this machine, {here}, may differ in their last bits"
            ));
        }
        there
    }

    /// The arithmetics to choose from, the one that is hoped to be faster first: the run's own or the user's alone.
    ///
    /// # Errors
    /// `Invalid` for a run in what this CPU emulates and began elsewhere, and for int8 in a space that quantizes.
    fn arithmetics(&mut self, checkpoint: &Checkpoint, space: &SearchSpace) -> Result<Vec<Arithmetic>> {
        let given = self.local.arithmetic;
        if open_devices(&self.local.devices, given)?.iter().any(|(device, _)| *device != Device::Cpu) {
            return Ok(vec![Arithmetic::F32]);
        }
        if let Some(settings) = &self.stored {
            let own = settings.frozen.arithmetic;
            if !own.is_native() && !settings.device.contains(EMULATED) {
                let found = format!("{own} on a CPU with instructions for it");
                let expected = "such a CPU here: this one emulates it, and its scores are not the same numbers. Resume there, \
                                or begin another run";
                return Err(Error::invalid("arithmetic of the run", found, expected));
            }
            return Ok(vec![given.unwrap_or(own)]);
        }
        if let Some(own) = given.filter(|own| !own.is_native()) {
            self.note(format!("this CPU has no instructions for {own}: it is emulated, more slowly than f32 runs"));
        }
        let Some(given) = given else {
            // Networks of fewer bits would not be multiplied in int8, and the others would.
            let int8 = !space.quantizes() && is_small_here(checkpoint, Arithmetic::Int8);
            let fast = int8.then_some(Arithmetic::Int8).into_iter().chain([Arithmetic::Bf16]);
            return Ok(fast.filter(|one| one.is_native()).chain([Arithmetic::F32]).collect());
        };
        if given == Arithmetic::Int8 && space.quantizes() {
            let expected =
                "f32 or bf16: its networks of fewer bits would not be multiplied in int8, and the others would";
            return Err(Error::invalid("arithmetic", "int8 for a space that quantizes", expected));
        }
        Ok(vec![given])
    }

    /// The arithmetic of the search, and the model in it on each device. What a new run does not say is tried.
    fn choose(
        &mut self,
        checkpoint: &Checkpoint,
        space: &SearchSpace,
        writer: &Writer,
        worth: Option<&Worth>,
    ) -> Result<(Arithmetic, Vec<Llama>)> {
        let arithmetics = self.arithmetics(checkpoint, space)?;
        let models = self.load(checkpoint, space, arithmetics[0])?;
        let (Some(exact), 2..) = (models[0].float32(), arithmetics.len()) else {
            let why = match (models[0].device(), &self.stored, self.local.arithmetic) {
                (Device::Cpu, _, Some(_)) => "as it was asked for",
                (Device::Cpu, Some(_), None) => "as the run began",
                (Device::Cpu, None, None) => "this CPU has no instructions for bf16",
                _ => "as cards compute",
            };
            self.detail(format!("the search is in {}: {why}", device_name(&models[0])));
            return Ok((arithmetics[0], models));
        };
        let (tasks, max_length) = (self.experiment.tasks()?, self.packing(checkpoint.config()).max_length);
        let trial = Trial {
            tasks: tasks
                .into_iter()
                .map(|task| self.trial_task(task, writer.tokenizer(), max_length))
                .collect::<Result<_>>()?,
            networks: self.experiment.sample(space, worth, TRIAL_NETWORKS),
            workers: division::candidates(cores()).pop().expect("there is a core"),
            writer,
            stop: self.stop,
        };
        let on_progress = &mut *self.on_progress;
        let in_other = |other: &Arithmetic| models[0].share().with_int8(*other == Arithmetic::Int8);
        let mut others: Vec<Llama> = arithmetics[..arithmetics.len() - 1].iter().map(in_other).collect();
        let (speeds, slow) =
            trial.speeds(&others, exact, &mut |done, total| on_progress(Progress::Timed { done, total }))?;
        let trial = trial.within_patience(exact.config().shape.layers, slow);
        let (mut said, mut scores) = (Vec::new(), None);
        let mut taken = None;
        for (place, &other) in arithmetics[..others.len()].iter().enumerate() {
            let speed_up = speeds[place] / slow;
            // The next one, where this one is hardly faster.
            let rival = speeds.get(place + 1).map(|next| (arithmetics[place + 1], speeds[place] / next));
            let rival = rival.filter(|&(_, times)| times < WORTH_ITS_ERROR);
            let but =
                rival.map_or(String::new(), |(next, times)| format!(", but {times:.2} times as fast as {next} only"));
            said.push(format!("{other} is {speed_up:.1} times as fast as f32{but}"));
            if speed_up < WORTH_IT || rival.is_some() {
                continue;
            }
            let scores = match &mut scores {
                Some(scores) => scores,
                none => none.insert(trial.scores(&others[place], true)?),
            };
            let mut is_small = true;
            for (name, error) in trial.errors(&others[place], scores)? {
                is_small &= error.is_small();
                said.push(format!("{name}: {error}"));
            }
            if is_small {
                taken = Some(place);
                break;
            }
        }
        let arithmetic = taken.map_or(Arithmetic::F32, |place| arithmetics[place]);
        (self.on_progress)(Progress::Chosen(format!("the search is in {arithmetic}: {}", said.join("; "))));
        // What the others were made of is not kept: a CPU has one model.
        let taken = taken.map(|place| others.swap_remove(place));
        drop((others, models));
        match taken {
            Some(model) => Ok((arithmetic, vec![model])),
            None => Ok((arithmetic, self.load(checkpoint, space, arithmetic)?)),
        }
    }

    /// The first items of a task in chunks that are small, so that every worker has some.
    fn trial_task(
        &self,
        (name, metrics): (String, Vec<Metric>),
        tokenizer: &Tokenizer,
        max_length: usize,
    ) -> Result<TrialTask> {
        let task = Task::open(&name, Some(&self.local.data))?;
        let limit = self.local.limit.unwrap_or(usize::MAX);
        let some = Selection::side(&task, Split::Search, Some(TRIAL_ITEMS.min(limit)))?;
        let all = some.available.min(limit);
        let packing = PackingOptions { chunk_tokens: CHUNK_SIZES[0], max_length };
        let set = for_metrics(pack_task(&name, &task, &some, tokenizer, packing)?, &metrics);
        Ok(TrialTask { set, metrics, all })
    }

    /// The experiment's space for the networks of a model, and what its ranking says of them.
    fn space(&mut self, checkpoint: &Checkpoint) -> Result<(SearchSpace, Option<SupernetCard>)> {
        let (space, card) = space_of(self.experiment.space.clone(), checkpoint)?;
        if card.is_none() {
            self.note(never_ranked(checkpoint));
        }
        if space.quantizes()
            && let Some(note) = quantized_twice(checkpoint)
        {
            self.note(note);
        }
        Ok((space, card))
    }

    fn packing(&self, config: &LlamaConfig) -> PackingOptions {
        let new = PackingOptions { chunk_tokens: CHUNK_TOKENS, max_length: config.positions().min(MAX_LENGTH) };
        let packing = self.stored.as_ref().map_or(new, |settings| settings.frozen.packing);
        PackingOptions { chunk_tokens: self.local.chunk_tokens.unwrap_or(packing.chunk_tokens), ..packing }
    }

    fn workers(&self) -> Workers {
        let stored = self.stored.as_ref().map(|settings| &settings.frozen);
        let count = self.local.workers.or(stored.map(|frozen| frozen.workers)).unwrap_or(1);
        let threads = self.local.threads.or(stored.map(|frozen| frozen.threads));
        Workers { count, threads: threads.unwrap_or_else(|| (cores() / count).max(1)) }
    }

    fn tasks(&mut self, tokenizer: &Tokenizer, packing: PackingOptions) -> Result<Vec<PreparedTask>> {
        let tasks = self.experiment.tasks()?;
        tasks.iter().map(|(name, metrics)| self.task(name, metrics, tokenizer, packing)).collect()
    }

    fn task(
        &mut self,
        name: &str,
        metrics: &[Metric],
        tokenizer: &Tokenizer,
        packing: PackingOptions,
    ) -> Result<PreparedTask> {
        let task = Task::open(name, Some(&self.local.data))?;
        check_metrics(&task, metrics)?;
        let limits = [self.local.limit, self.local.held_out];
        let sides = [Split::Search, Split::HeldOut];
        let selections = Selection::sides(&task, [(sides[0], limits[0]), (sides[1], limits[1])])?;
        let mut notes = Vec::new();
        for ((selection, side), limit) in selections.iter().zip(sides).zip(limits) {
            if let Some(limit) = limit.filter(|&limit| limit > selection.available) {
                notes.push(format!("{side} has {} items, not {limit}", selection.available));
            }
        }
        let [search, held_out] = RunTask::set_names(name);
        let pack = |name: &str, selection| {
            let set = pack_task(name, &task, selection, tokenizer, packing)?;
            Ok::<_, Error>(for_metrics(set, metrics))
        };
        // What races decide on the first chunks shall not hang on the same ones in every run.
        let mut sets =
            [pack(&search, &selections[0])?.shuffled(self.experiment.seed), pack(&held_out, &selections[1])?];
        // The front is reported by what its networks write.
        sets[1].writes = sets[1].exact_match.is_some();
        let left_out = &selections[0].left_out;
        let all_left_out = sets.iter().fold(left_out.clone(), |all, set| all.and(&set.left_out));
        notes.extend(selections[0].notes.clone());
        notes.extend((!all_left_out.is_empty()).then(|| all_left_out.to_string()));
        notes.extend(sets.iter().flat_map(|set| set.notes(packing.max_length)));
        let notes = notes.into_iter().map(|note| format!("{name}: {note}")).collect();
        let record = RunTask::new(name, [&sets[0], &sets[1]], sets[1].chance(), left_out.clone());
        Ok(PreparedTask { record, sets, notes })
    }

    /// The model on each device, and beside it the weights that the space may want in blocks; on the CPU also itself in float32,
    /// where the arithmetic is another.
    fn load(&mut self, checkpoint: &Checkpoint, space: &SearchSpace, arithmetic: Arithmetic) -> Result<Vec<Llama>> {
        let mut models = Vec::new();
        let blocks = space.block_weights();
        for (device, kind) in open_devices(&self.local.devices, self.local.arithmetic)? {
            let kind = if device == Device::Cpu { kind_of(arithmetic) } else { kind };
            let (model, note) = load_beside_float32(checkpoint, (device, kind), blocks)?;
            models.push(model);
            if let Some(note) = note {
                self.note(note);
            }
        }
        Ok(models)
    }

    /// Tokens of the largest chunk of which each worker can have one on a card with `room` bytes for them and the weights, a
    /// tenth left free, beside `written` bytes of its own for what networks write.
    fn chunk_for(
        &mut self,
        model: &Llama,
        space: &SearchSpace,
        workers: usize,
        [room, written]: [u64; 2],
    ) -> Result<usize> {
        let (networks, cache) = (self.experiment.population.max(2), self.local.cache_bytes);
        let blocks = space.block_weights();
        let corrected = model.corrected_weights();
        let (numbers, beside) = (Numbers::Card, 0);
        let scoring = Scoring { chunk_tokens: 0, workers, networks, cache, blocks, numbers, beside, corrected };
        let budget = (room / 10 * 9).saturating_sub(workers as u64 * written);
        let tokens = chunk_that_fills(model.config(), scoring, budget);
        if tokens == 0 {
            let expected = "more; a smaller --cache leaves room for a chunk beside the weights, `criadero plan` says what is needed";
            return Err(Error::invalid("memory", format!("{:.1} GB", room as f64 / 1e9), expected));
        }
        (self.on_progress)(Progress::Chosen(format!("chunks of {tokens} tokens fill the card")));
        Ok(tokens)
    }

    /// Which chunk size and division of the cores is fastest, measured on the first task's items.
    fn measure_division(&mut self, model: &Llama, tokenizer: &Tokenizer, packing: PackingOptions) -> Result<Division> {
        let tasks = self.experiment.tasks()?;
        let task = Task::open(&tasks[0].0, Some(&self.local.data))?;
        let sample = Selection::side(&task, Split::Search, Some(SAMPLE_ITEMS))?;
        let pack = |chunk_tokens| {
            let packing = PackingOptions { chunk_tokens, ..packing };
            Ok((chunk_tokens, pack_task(task.name(), &task, &sample, tokenizer, packing)?))
        };
        let packings: Vec<(usize, EvalSet)> = CHUNK_SIZES.into_iter().map(pack).collect::<Result<_>>()?;
        let candidates = division::candidates(cores());
        let on_progress = &mut *self.on_progress;
        let timed = &mut |done, total| on_progress(Progress::Timed { done, total });
        let divisions = division::measure(model, &packings, &candidates, division::ROUNDS, self.stop, timed)?;
        let chosen = division::choose(&divisions).expect("a candidate was measured");
        let name =
            |one: &Division| format!("{}x{} on chunks of {}", one.workers.count, one.workers.threads, one.chunk_tokens);
        let of_all: Vec<String> =
            divisions.iter().map(|one| format!("{} {:.0}", name(one), one.tokens_per_second)).collect();
        (self.on_progress)(Progress::Chosen(format!(
            "workers x threads: {}; tokens a second through two layers and the head: {}",
            name(&chosen),
            of_all.join(", ")
        )));
        Ok(chosen)
    }
}

/// A set of which no more is computed than these metrics need.
fn for_metrics(set: EvalSet, metrics: &[Metric]) -> EvalSet {
    let any = |asks: fn(Metric) -> bool| metrics.iter().any(|&metric| asks(metric));
    EvalSet { divergence: any(Metric::compares), writes: set.writes && any(Metric::writes), ..set }
}

/// Refuses metrics that mean nothing for a task.
///
/// # Errors
/// `Invalid` with those that would do.
pub fn check_metrics(task: &Task, metrics: &[Metric]) -> Result<()> {
    let scoring = task.scoring();
    let Some(metric) = metrics.iter().find(|metric| !metric.applies_to(scoring)) else { return Ok(()) };
    let fit: Vec<&str> = Metric::all().filter(|metric| metric.applies_to(scoring)).map(Metric::name).collect();
    let what = format!("{} of `{}`", metric.name(), task.name());
    Err(Error::invalid(
        format!("objective {what}"),
        format!("a task of {}", scoring.about()),
        format!("one of {}", fit.join(", ")),
    ))
}

/// A space whose networks are those of a model, its layers dropped in the order of the ranking, and the card that says that
/// order; `None` where the model was never ranked.
///
/// # Errors
/// A space of another model.
pub fn space_of(space: SearchSpace, checkpoint: &Checkpoint) -> Result<(SearchSpace, Option<SupernetCard>)> {
    space.check_fits(&checkpoint.config().shape)?;
    every_width(&space).iter().try_for_each(|genome| checkpoint.subnet(genome).map(drop))?;
    match SupernetCard::of(checkpoint)? {
        Some(card) => Ok((space.with_drop_order(&card.order.drop)?, Some(card))),
        None => Ok((space, None)),
    }
}

/// Networks that together have every width of every layer.
fn every_width(space: &SearchSpace) -> Vec<Genome> {
    let largest = space.largest();
    let most = space.layers().iter().map(|layer| layer.heads.len().max(layer.mlp.len())).max().unwrap_or(0);
    let of_step = |step: usize| {
        let choice = |of: &[u32]| of[step.min(of.len() - 1)];
        let gene = |layer: usize| Gene::new(choice(&space.layer(layer).heads), choice(&space.layer(layer).mlp));
        space.express(space.depth_of(&largest), Ends::default(), gene)
    };
    (0..most).map(of_step).collect()
}

/// What to say of a model that was never ranked.
pub fn never_ranked(checkpoint: &Checkpoint) -> String {
    let path = checkpoint.path().display();
    format!("{path} was never ranked; narrow networks keep its first heads and channels, whatever they do")
}

/// What to say of formats that cannot hold networks of a space: found when a search begins, not when its front is exported.
fn unexported_of(checkpoint: &Checkpoint, space: &SearchSpace) -> Vec<String> {
    let (small, large) = (space.smallest(), space.largest());
    // A network whose layers differ as much as the space lets them.
    let genes = small.genes().iter().zip(large.genes()).enumerate();
    let mixed = Genome::new(genes.map(|(layer, (&small, &large))| if layer % 2 == 0 { large } else { small }));
    unexported(checkpoint, &[mixed])
}

/// What to say of formats that cannot hold one of some networks.
pub fn unexported(checkpoint: &Checkpoint, networks: &[Genome]) -> Vec<String> {
    let refusal = |exporter: &&dyn Exporter| {
        let check = |genome| exporter.check(Network { parent: checkpoint, genome, dtype: None, account: None });
        let error = networks.iter().find_map(|genome| check(genome).err())?;
        Some(format!("such networks cannot be exported as {}: {error}", exporter.name().0))
    };
    EXPORTERS.iter().filter_map(refusal).collect()
}

/// What to say of a model that is about to be quantized again.
pub fn quantized_twice(parent: &Checkpoint) -> Option<String> {
    parent.config().quantized.then(|| {
        format!(
            "{} is quantized itself, or was once; what is quantized here are its weights as read, and 16 bits mean those",
            parent.path().display()
        )
    })
}

/// Cores of this machine: libtorch threads when the user says nothing.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// What a card says that networks are worth; nothing where its order was taken over from another.
pub(super) fn worth(card: &SupernetCard, space: &SearchSpace) -> Option<Worth> {
    let kept = |layer, gene| card.kept_importance(space.shape(), layer, gene);
    card.scores.is_some().then(|| Worth::of(space, kept))
}
