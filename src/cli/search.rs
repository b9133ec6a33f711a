//! `criadero search`: from a space and a model to a front in a run directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use criadero::Error;
use criadero::checkpoint::Tokenizer;
use criadero::eval::division::Division;
use criadero::eval::{
    EvalSet, Evaluator, LocalEvaluator, Metric, MockEvaluator, Objective, PackingOptions, Workers, division,
};
use criadero::model::Llama;
use criadero::model::supernet::SupernetCard;
use criadero::plan::evaluation::{CARD_WORD, Scoring, chunk_that_fills};
use criadero::run::{Front, Frozen, Progress, Racing, Run, RunSettings, RunTask};
use criadero::search::first_population::first_population;
use criadero::search::linas::{Linas, LinasSettings};
use criadero::search::nsga2::{Nsga2, Nsga2Settings};
use criadero::search::operators::{Crossover, Mutation, MutationCount};
use criadero::search::random::RandomSearch;
use criadero::search::{Algorithm, PredictorKind, seeds};
use criadero::space::{Constraint, Genome, SearchSpace};
use criadero::task::{Item, Split, split_items};
use criadero::throughput::{LatencyOptions, Phase, ThroughputTable};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::Device;

use super::eval::default_threads;
use super::measure::{measure_table, table_key};
use super::model::{
    DataArgs, DevicesArgs, device_of, note_lost, note_quantized_twice, open_checkpoint, open_space, versions,
};
use super::progress::Bar;

/// Longest sequence of a search when neither the model nor the user says less: longer windows of a text would
/// make chunks of minutes.
pub(super) const MAX_LENGTH: usize = 2048;
/// Chunk sizes that a new run on the CPU chooses from.
const CHUNK_TOKENS: [usize; 3] = [512, 1024, 2048];
/// Items that the choice is measured on.
const SAMPLE_ITEMS: usize = 200;
/// Items of a mock task's split when no limit is given.
const MOCK_ITEMS: usize = 64;

/// Search a space for the networks that trade the objectives best
#[derive(clap::Args)]
#[command(args_override_self = true)]
pub struct Search {
    /// Search space: a YAML file or a shipped name
    space: String,
    /// Supernet or any checkpoint: an HF directory, a GGUF file, or `smollm2-135m`
    #[arg(long, default_value = "smollm2-135m")]
    model: PathBuf,
    /// What to optimise, two or more: `choice_nll:TASK`, `params`, ...
    #[arg(long = "objective", value_name = "NAME[:TASK]", required = true)]
    objectives: Vec<String>,
    /// Hard constraint, such as `params<=1e8`, besides the space's own
    #[arg(long = "constraint", value_name = "NAME<=VALUE")]
    constraints: Vec<Constraint>,
    /// Networks to evaluate
    #[arg(long, value_name = "N", default_value_t = 250)]
    evals: usize,
    /// Networks of a population
    #[arg(long, value_name = "N", default_value_t = 50)]
    population: usize,
    /// Seed of every random choice
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The run's directory; the same command again resumes it
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Networks to evaluate first: a file with one genome a line, or a finished run
    #[arg(long, value_name = "FILE|RUN")]
    seed_genomes: Option<PathBuf>,
    /// The first N items of each task's search split, in hash order
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The first N items of each task's held-out split, on which the front is measured
    #[arg(long, value_name = "N")]
    held_out: Option<usize>,
    /// `local`, or `mock` / `mock:DELAY_MS` to try a search without a model
    #[arg(long, value_name = "NAME", default_value = "local")]
    evaluator: EvaluatorKind,
    /// `nsga2`; `linas`, which breeds on predictions in between; or `random` as the baseline
    #[arg(long, value_enum, default_value_t = AlgorithmKind::Nsga2)]
    algorithm: AlgorithmKind,
    /// What predicts the scores of LINAS; by default `ridge`
    #[arg(long, value_enum)]
    predictor: Option<PredictorArg>,
    /// First population beside the extremes: `ladders` of evenly narrowed networks, or `sensitivities`, the parent with
    /// one gene changed
    #[arg(long, value_enum, default_value_t = StartKind::Ladders)]
    start: StartKind,
    /// Crossover of NSGA-II, also of the one that LINAS breeds with; by default one-point
    #[arg(long, value_enum)]
    crossover: Option<CrossoverKind>,
    /// Genes that change in a child: a rate for each, or `few` for 1 to 3; by default each with 1 / genes
    #[arg(long, value_name = "RATE|few", value_parser = parse_mutation)]
    mutation: Option<MutationCount>,
    /// How much likelier than the first layer's the last layer's genes are to change: 1 is twice
    #[arg(long, value_name = "BIAS", default_value_t = 0.0)]
    mutation_later: f64,
    /// Score every network to the end, also those that surely are not on the front
    #[arg(long)]
    no_racing: bool,
    /// Largest probability, for each network, of being dropped though nothing dominates it
    #[arg(long, value_name = "P", default_value_t = 0.05, conflicts_with = "no_racing")]
    racing_error: f64,
    /// Measure prefill throughput and report it, also when it is no objective
    #[arg(long)]
    throughput: bool,
    /// Throughput table that `criadero measure` wrote, instead of measuring one
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Measure again where that table is of another device, model or version
    #[arg(long, requires = "table")]
    remeasure: bool,
    #[command(flatten)]
    data: DataArgs,
    /// Tokens that share a forward pass. A new run on the CPU measures what suits it, unless this, --workers or --threads
    /// is given, and keeps to it
    #[arg(long, value_name = "TOKENS")]
    chunk_tokens: Option<usize>,
    /// Worker threads that take chunks
    #[arg(long, value_name = "N", value_parser = positive)]
    workers: Option<usize>,
    /// libtorch threads of each worker
    #[arg(long, value_name = "N", value_parser = positive)]
    threads: Option<usize>,
    /// Memory for hidden states that children share with their parents; 0 keeps none. Scores do not depend on it
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u64).range(..1 << 40))]
    cache: u64,
    #[command(flatten)]
    devices: DevicesArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum AlgorithmKind {
    Nsga2,
    Linas,
    Random,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum PredictorArg {
    Ridge,
    Svr,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum StartKind {
    Ladders,
    Sensitivities,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum CrossoverKind {
    OnePoint,
    Uniform,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum EvaluatorKind {
    Local,
    Mock(Duration),
}

impl std::str::FromStr for EvaluatorKind {
    type Err = String;

    fn from_str(text: &str) -> Result<EvaluatorKind, String> {
        match text.split_once(':').unwrap_or((text, "0")) {
            ("local", "0") if text == "local" => Ok(EvaluatorKind::Local),
            ("mock", delay) => {
                let delay = delay.parse().map_err(|_| format!("`{delay}` is no number of milliseconds"))?;
                Ok(EvaluatorKind::Mock(Duration::from_millis(delay)))
            }
            _ => Err("expected `local`, `mock` or `mock:DELAY_MS`".to_string()),
        }
    }
}

/// The two eval sets of a task, and what the run keeps of it.
struct PreparedTask {
    record: RunTask,
    sets: [EvalSet; 2],
}

/// What a run's settings are made of, besides the command line.
struct Prepared<'a> {
    space: &'a SearchSpace,
    card: Option<&'a SupernetCard>,
    evaluator: &'a str,
    model_digest: String,
    device: String,
    tasks: Vec<RunTask>,
    frozen: Frozen,
}

impl Search {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let objectives: Vec<Objective> =
            self.objectives.iter().map(|text| Objective::parse(text)).collect::<criadero::Result<_>>()?;
        self.check()?;
        let stored = RunSettings::read(&self.out)?;
        let stop = stop_on_ctrl_c("stopping after the network being scored; Ctrl-C again stops at once")?;
        match self.evaluator {
            EvaluatorKind::Mock(delay) => self.run_mock(&objectives, delay, stop),
            EvaluatorKind::Local => self.run_local(&objectives, stored.map(|settings| settings.frozen), stop),
        }
    }

    /// What is wrong whatever the model is, before anything long begins.
    fn check(&self) -> anyhow::Result<()> {
        if self.predictor.is_some() && self.algorithm != AlgorithmKind::Linas {
            bail!("--predictor is for `--algorithm linas`; the other algorithms predict nothing");
        }
        let bred = self.crossover.is_some() || self.mutation.is_some() || self.mutation_later != 0.0;
        if bred && self.algorithm == AlgorithmKind::Random {
            bail!("--crossover and --mutation are for algorithms that breed; random search only draws");
        }
        self.mutation().check()?;
        Racing::new(self.racing_error)?;
        self.seed_genomes.as_deref().map(read_genomes).transpose()?;
        Ok(())
    }

    fn run_mock(&self, objectives: &[Objective], delay: Duration, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
        let space = SearchSpace::open(&self.space)?;
        let names: Vec<String> = self.tasks(objectives, &space)?.into_iter().map(|(name, _)| name).collect();
        let items = self.limit.unwrap_or(MOCK_ITEMS);
        let held_out_items = self.held_out.unwrap_or(MOCK_ITEMS);
        let sets: Vec<(String, usize)> = names
            .iter()
            .flat_map(|name| [(format!("{name}/search"), items), (format!("{name}/held_out"), held_out_items)])
            .collect();
        let mut evaluator = MockEvaluator::new(*space.shape(), &sets, delay, stop);
        let tasks = names.iter().enumerate().map(|(place, name)| {
            let [search, held_out] = [&evaluator.sets()[2 * place], &evaluator.sets()[2 * place + 1]];
            run_task(name, search, held_out, 0.25)
        });
        let tasks = tasks.collect();
        let frozen = Frozen {
            packing: PackingOptions { chunk_tokens: 0, max_length: 0 },
            workers: 1,
            threads: 1,
            throughput: None,
        };
        let settings = self.settings(Prepared {
            space: &space,
            card: None,
            evaluator: "mock",
            model_digest: String::new(),
            device: "none".to_string(),
            tasks,
            frozen,
        })?;
        self.search(settings, &mut evaluator)
    }

    fn run_local(&self, objectives: &[Objective], stored: Option<Frozen>, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
        let checkpoint = open_checkpoint(&self.model)?;
        let (space, card) = open_space(&self.space, &checkpoint)?;
        if space.quantizes() {
            note_quantized_twice(&checkpoint);
        }
        let tokenizer = checkpoint.tokenizer()?;
        let positions = checkpoint.config().max_position_embeddings;
        let mut packing = stored.as_ref().map_or(
            PackingOptions { chunk_tokens: self.chunk_tokens.unwrap_or(1024), max_length: positions.min(MAX_LENGTH) },
            |frozen| PackingOptions {
                chunk_tokens: self.chunk_tokens.unwrap_or(frozen.packing.chunk_tokens),
                ..frozen.packing
            },
        );
        let count = self.workers.or(stored.as_ref().map(|frozen| frozen.workers)).unwrap_or(1);
        let threads = self.threads.or(stored.as_ref().map(|frozen| frozen.threads));
        let mut workers = Workers { count, threads: threads.unwrap_or_else(|| (default_threads() / count).max(1)) };
        let names = self.tasks(objectives, &space)?;
        let prepare = |packing| -> anyhow::Result<Vec<PreparedTask>> {
            names.iter().map(|(name, metrics)| self.prepare_task(name, metrics, &tokenizer, packing)).collect()
        };
        let mut prepared = prepare(packing)?;
        // What a card has free before the weights are on it is what they and a chunk have to share.
        let room = self.devices.least_free();
        let models = self.devices.load(&checkpoint, space.block_weights())?;
        let model = &models[0];
        let given = self.chunk_tokens.or(self.workers).or(self.threads).is_some();
        if stored.is_none() && !given && model.device() == Device::Cpu {
            let division = self.measure_division(model, &tokenizer, &names[0].0, packing, &stop)?;
            packing.chunk_tokens = division.chunk_tokens;
            workers = division.workers;
            prepared = prepare(packing)?;
        }
        if let (None, None, Some(room)) = (&stored, self.chunk_tokens, room) {
            packing.chunk_tokens = self.chunk_for(model, &space, workers.count, room)?;
            prepared = prepare(packing)?;
        }
        let digest = checkpoint.digest()?;
        let limits = self.limits(&space)?;
        let decoding = objectives.iter().chain(&limits).any(Objective::needs_decoding);
        let wanted = self.throughput
            || self.table.is_some()
            || objectives.iter().chain(&limits).any(Objective::needs_throughput);
        let throughput = match stored {
            Some(frozen) => frozen.throughput,
            None if wanted => Some(self.throughput_table(&digest, model, &space, workers, decoding)?),
            None => None,
        };
        let frozen = Frozen { packing, workers: workers.count, threads: workers.threads, throughput };
        let (tasks, sets): (Vec<RunTask>, Vec<[EvalSet; 2]>) =
            prepared.into_iter().map(|task| (task.record, task.sets)).unzip();
        let device = device_of(model);
        let settings = self.settings(Prepared {
            space: &space,
            card: card.as_ref(),
            evaluator: "local",
            model_digest: digest,
            device,
            tasks,
            frozen,
        })?;
        let sets = sets.into_iter().flatten().collect();
        let mut evaluator = LocalEvaluator::start(&models, sets, workers, self.cache << 20, stop);
        let searched = self.search(settings, &mut evaluator);
        note_lost(evaluator.lost());
        searched
    }

    /// What the space's constraints and the user's are about.
    fn limits(&self, space: &SearchSpace) -> criadero::Result<Vec<Objective>> {
        let limits = space.constraints().iter().chain(&self.constraints);
        limits.map(|limit| Objective::parse(&limit.objective)).collect()
    }

    /// The table of `--table`, or a new one: a prompt of 256 tokens, and where `decoding` is wanted one token behind 256.
    fn throughput_table(
        &self,
        model_digest: &str,
        model: &Llama,
        space: &SearchSpace,
        workers: Workers,
        decoding: bool,
    ) -> anyhow::Result<ThroughputTable> {
        let key = table_key(model_digest.to_string(), model, space, workers.count * workers.threads);
        let mut options = LatencyOptions::default();
        let alone = Phase::Decode { context: 256, sequences: 1 };
        if let Some(path) = &self.table {
            let table = ThroughputTable::read(path)?;
            let largest = space.largest();
            let lacks = decoding && (table.latency_ms(&largest).is_none() || table.decode_tps(&largest).is_none());
            match table.check(path, &key) {
                Ok(()) if !lacks => return Ok(table),
                Ok(()) if !self.remeasure => {
                    bail!(
                        "{} lacks phases that the objectives need: prefill:N and decode:Nx1; measure again",
                        path.display()
                    )
                }
                Err(error) if !self.remeasure => return Err(error.into()),
                _ => options = table.options,
            }
            if lacks {
                options.phases.push(alone);
            }
        } else if decoding {
            options.phases.push(alone);
        }
        let table = measure_table(model, space, options, key)?;
        if let Some(path) = &self.table {
            table.write(path)?;
        }
        Ok(table)
    }

    /// The tasks of all objectives and constraints with the metrics asked of them, in the order they are named.
    fn tasks(&self, objectives: &[Objective], space: &SearchSpace) -> anyhow::Result<Vec<(String, Vec<Metric>)>> {
        let limits = self.limits(space)?;
        let mut tasks: Vec<(String, Vec<Metric>)> = Vec::new();
        for objective in objectives.iter().chain(&limits) {
            for name in objective.tasks() {
                match tasks.iter_mut().find(|(known, _)| known == name) {
                    Some((_, metrics)) => metrics.extend(objective.metric()),
                    None => tasks.push((name.clone(), objective.metric().into_iter().collect())),
                }
            }
        }
        match tasks.is_empty() {
            true => bail!("no objective scores a task; a search needs one, such as `choice_nll:arc_easy`"),
            false => Ok(tasks),
        }
    }

    /// Tokens of the largest chunk of which each worker can have one on a card with `room` bytes for them and the weights, a tenth
    /// left free.
    fn chunk_for(&self, model: &Llama, space: &SearchSpace, workers: usize, room: u64) -> anyhow::Result<usize> {
        let (networks, word) = (self.population.max(2), CARD_WORD);
        let blocks = space.block_weights();
        let scoring = Scoring { chunk_tokens: 0, workers, networks, cache: self.cache << 20, blocks, word };
        let tokens = chunk_that_fills(model.config(), scoring, room / 10 * 9);
        if tokens == 0 {
            bail!(
                "no chunk fits beside the weights in {:.1} GB; a smaller --cache leaves more, `criadero plan` says what is needed",
                room as f64 / 1e9
            );
        }
        eprintln!("chunks of {tokens} tokens fill the card");
        Ok(tokens)
    }

    /// Which chunk size and division of the cores is fastest, measured on the first task's items.
    fn measure_division(
        &self,
        model: &Llama,
        tokenizer: &Tokenizer,
        task: &str,
        packing: PackingOptions,
        stop: &Arc<AtomicBool>,
    ) -> anyhow::Result<Division> {
        let task = self.data.task(task)?;
        let items = task.divisible_items()?;
        let sample: Vec<&Item> = split_items(&items, Split::Search).into_iter().take(SAMPLE_ITEMS).collect();
        let pack = |chunk_tokens| {
            let packing = PackingOptions { chunk_tokens, ..packing };
            Ok((chunk_tokens, EvalSet::pack(task.name(), task.scoring(), &sample, tokenizer, packing)?))
        };
        let packings: Vec<(usize, EvalSet)> = CHUNK_TOKENS.into_iter().map(pack).collect::<anyhow::Result<_>>()?;
        let bar = Bar::new("measuring", 0);
        let candidates = division::candidates(default_threads());
        let divisions =
            division::measure(model, &packings, &candidates, stop, &mut |done, total| bar.set(done, total))?;
        bar.finish();
        let chosen = division::choose(&divisions).context("no division was measured")?;
        let name =
            |one: &Division| format!("{}x{} on chunks of {}", one.workers.count, one.workers.threads, one.chunk_tokens);
        let of_all: Vec<String> =
            divisions.iter().map(|one| format!("{} {:.0}", name(one), one.tokens_per_second)).collect();
        eprintln!(
            "workers x threads: {}; tokens a second through two layers and the head: {}",
            name(&chosen),
            of_all.join(", ")
        );
        Ok(chosen)
    }

    fn prepare_task(
        &self,
        name: &str,
        metrics: &[Metric],
        tokenizer: &Tokenizer,
        packing: PackingOptions,
    ) -> anyhow::Result<PreparedTask> {
        let task = self.data.task(name)?;
        if let Some(metric) = metrics.iter().find(|metric| !metric.applies_to(task.scoring())) {
            bail!("{metric:?} means nothing for `{name}`, whose items are scored as {:?}", task.scoring());
        }
        let items = task.divisible_items()?;
        let pack = |side: Split, what: &str, limit: Option<usize>| -> anyhow::Result<(EvalSet, Vec<Item>)> {
            let mut chosen: Vec<&Item> = split_items(&items, side);
            if let Some(limit) = limit {
                if limit > chosen.len() {
                    eprintln!("note: {name}/{what} has {} items, not {limit}", chosen.len());
                }
                chosen.truncate(limit);
            }
            let mut set = EvalSet::pack(&format!("{name}/{what}"), task.scoring(), &chosen, tokenizer, packing)
                .with_context(|| format!("task `{name}`, {what} split"))?;
            set.divergence = metrics.contains(&Metric::Kl);
            Ok((set, chosen.into_iter().cloned().collect()))
        };
        let (search, _) = pack(Split::Search, "search", self.limit)?;
        let (held_out, held_out_items) = pack(Split::HeldOut, "held_out", self.held_out)?;
        let truncated = search.truncated + held_out.truncated;
        if truncated > 0 {
            eprintln!(
                "note: {name}: {truncated} requests were longer than {} tokens and lost their first tokens",
                packing.max_length
            );
        }
        let record = run_task(name, &search, &held_out, task.chance(&held_out_items));
        Ok(PreparedTask { record, sets: [search, held_out] })
    }

    fn settings(&self, prepared: Prepared) -> anyhow::Result<RunSettings> {
        let Prepared { space, card, evaluator, model_digest, device, tasks, frozen } = prepared;
        let own = self.seed_genomes.as_deref().map(read_genomes).transpose()?.unwrap_or_default();
        if let Some(stranger) = own.iter().find(|genome| !space.contains(genome)) {
            bail!("seed genome {stranger} is not in the space");
        }
        let given = (self.population / 2).max(2);
        let first_networks = match self.start {
            StartKind::Ladders => {
                let scored = card.filter(|card| card.scores.is_some());
                let kept = scored.map(|card| |layer, gene| card.kept_importance(space.shape(), layer, gene));
                let kept = kept.as_ref().map(|kept| kept as &seeds::Kept);
                let greedy = kept.map_or_else(Vec::new, |kept| seeds::greedy_ladder(space, kept));
                seeds::first_networks(space, &own, [greedy, seeds::uniform_ladder(space, kept)], given)
            }
            StartKind::Sensitivities => seeds::sensitivities(space, &own, self.population),
        };
        Ok(RunSettings {
            format: RunSettings::FORMAT,
            versions: versions(),
            model: self.model.display().to_string(),
            model_digest,
            space: space.clone(),
            objectives: self.objectives.clone(),
            constraints: space.constraints().iter().chain(&self.constraints).cloned().collect(),
            tasks,
            evaluator: evaluator.to_string(),
            device,
            algorithm: self.algorithm_settings(),
            racing: if self.no_racing { None } else { Some(Racing::new(self.racing_error)?) },
            evals: self.evals,
            seed: self.seed,
            first_networks,
            frozen,
        })
    }

    fn crossover(&self) -> Crossover {
        match self.crossover {
            Some(CrossoverKind::OnePoint) => Crossover::OnePoint,
            Some(CrossoverKind::Uniform) => Crossover::Uniform,
            None => Crossover::default(),
        }
    }

    fn mutation(&self) -> Mutation {
        Mutation { count: self.mutation.unwrap_or(Mutation::default().count), later: self.mutation_later }
    }

    fn algorithm_settings(&self) -> serde_json::Value {
        match self.algorithm {
            AlgorithmKind::Random => serde_json::json!({ "name": "random", "population": self.population }),
            AlgorithmKind::Nsga2 => serde_json::json!({
                "name": "nsga2",
                "population": self.population,
                "crossover": self.crossover(),
                "mutation": self.mutation(),
            }),
            AlgorithmKind::Linas => {
                let linas = self.linas_settings();
                serde_json::json!({
                    "name": "linas",
                    "population": self.population,
                    "predictor": linas.predictor,
                    "inner_generations": linas.generations,
                    "inner_population": linas.inner.population,
                    "explore": linas.explore,
                    "crossover": self.crossover(),
                    "mutation": self.mutation(),
                    "start": format!("{:?}", self.start).to_lowercase(),
                })
            }
        }
    }

    fn linas_settings(&self) -> LinasSettings {
        let defaults = LinasSettings::new(self.population);
        let predictor = match self.predictor {
            Some(PredictorArg::Ridge) => PredictorKind::Ridge,
            Some(PredictorArg::Svr) => PredictorKind::Svr,
            None => defaults.predictor,
        };
        let inner = self.nsga2_settings(defaults.inner.population);
        LinasSettings { predictor, inner, ..defaults }
    }

    fn nsga2_settings(&self, population: usize) -> Nsga2Settings {
        let crossover = self.crossover();
        Nsga2Settings { crossover, mutation: self.mutation(), ..Nsga2Settings::new(population) }
    }

    fn search(&self, settings: RunSettings, evaluator: &mut dyn Evaluator) -> anyhow::Result<()> {
        let algorithm = self.algorithm(&settings)?;
        let run = Run::open(&self.out, settings)?;
        let bar = Bar::new("searching", 0);
        let mut on_progress = |progress: Progress| match progress {
            Progress::Note(note) => bar.line(&format!("note: {note}")),
            Progress::Chosen(line) => bar.line(&line),
            Progress::Timed { done, total } => bar.set(done, total),
            Progress::Resumed { evaluations } => bar.line(&format!("resuming: {evaluations} networks are measured")),
            Progress::Scored { done, total } => bar.set(done, total),
            Progress::Population { evaluations, of } => bar.line(&format!("{evaluations} of {of} networks measured")),
            Progress::HeldOut { networks } => bar.line(&format!("measuring {networks} networks on held-out items")),
        };
        let front = run.search(algorithm, evaluator, &mut on_progress)?;
        bar.finish();
        print_front(&front, &self.out);
        Ok(())
    }

    fn algorithm(&self, settings: &RunSettings) -> criadero::Result<Box<dyn Algorithm>> {
        let space = &settings.space;
        let size = |genome: &Genome| space.size(genome);
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let first = first_population(space, &settings.first_networks, self.population, &mut rng, size);
        Ok(match self.algorithm {
            AlgorithmKind::Random => Box::new(RandomSearch::new(space, self.population, first, self.seed)?),
            AlgorithmKind::Nsga2 => {
                Box::new(Nsga2::new(space, self.nsga2_settings(self.population), first, self.seed)?)
            }
            AlgorithmKind::Linas => {
                let closed_form = settings.closed_form()?;
                Box::new(Linas::new(space, &closed_form, self.linas_settings(), first, self.seed)?)
            }
        })
    }
}

pub(super) fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| "expected a number from 1 on".to_string())
}

fn parse_mutation(text: &str) -> Result<MutationCount, String> {
    match text {
        "few" => Ok(MutationCount::Few),
        _ => {
            text.parse().map(|rate| MutationCount::Each(Some(rate))).map_err(|_| "expected a rate or `few`".to_string())
        }
    }
}

fn run_task(name: &str, search: &EvalSet, held_out: &EvalSet, chance: f64) -> RunTask {
    RunTask {
        name: name.to_string(),
        search_digest: search.digest.clone(),
        search_items: search.items.len(),
        held_out_digest: held_out.digest.clone(),
        held_out_items: held_out.items.len(),
        chance,
    }
}

/// The first Ctrl-C sets a flag, a second one ends the process at once.
pub(super) fn stop_on_ctrl_c(words: &'static str) -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(1);
        }
        eprintln!("{words}");
    })?;
    Ok(stop)
}

/// Genomes of a text file, one a line, or of a finished run's front.
pub(super) fn read_genomes(path: &Path) -> anyhow::Result<Vec<Genome>> {
    if path.is_dir() {
        let front = Front::read_json(&path.join("front.json"))?;
        return Ok(front.points.into_iter().map(|point| point.genome).collect());
    }
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| line.parse().with_context(|| format!("{}, line {}", path.display(), number + 1)))
        .collect()
}

fn print_front(front: &Front, out: &Path) {
    print!("{}", criadero::report::table::Table::new(front).text());
    println!("hypervolume on held-out items: {:.4} (reference: chance, 1.05 x the parent's size)", front.hypervolume);
    println!("run: {}", out.display());
}
