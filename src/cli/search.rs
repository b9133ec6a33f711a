//! `criadero search`: from a space and a model to a front in a run directory.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use criadero::checkpoint::open_model;
use criadero::cluster::{Announcement, Connection, Heard, Remote, RunId, Searcher};
use criadero::count::{Evals, Items, Population, Threads, Tokens, Workers};
use criadero::model::device::open_devices;
use criadero::output::{HeldDirectory, Output};
use criadero::run::{
    Experiment, Front, Local, Progress, Racing, RunSettings, Scorer, Tables, check_metrics, mock_scorer,
};
use criadero::search::{ALGORITHMS, AlgorithmKind, algorithm_named};
use criadero::space::{Constraint, SearchSpace};
use serde_json::json;

use super::arguments::{file_of, read_genomes};
use super::interrupt::stop_on_ctrl_c;
use super::model::{DataArgs, DevicesArgs};
use super::nats::{NatsArgs, command_words};
use super::next::{Done, pick_of};
use super::phase::Phase;
use super::progress::Listener;
use super::show::{MADE_UP, print_front};

/// Items of a mock task's split when no limit is given.
const MOCK_ITEMS: usize = 64;

/// Search a space for the networks that trade the objectives best
#[derive(clap::Args)]
#[command(args_override_self = true)]
#[command(
    after_help = "Examples:\n  criadero search smollm2-135m --model SUPERNET --objective choice_nll:arc_easy --objective params --out results/mine\n  \
                        criadero search SPACE.yaml --model SUPERNET --objective bits_per_byte:my.jsonl --objective weight_bytes \\\n      \
                        --constraint \"weight_bytes<=200MB\" --limit 200 --out results/small"
)]
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
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = Evals::parse)]
    evals: usize,
    /// Networks of a population
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = Population::parse, help_heading = "Breeding")]
    population: usize,
    /// Seed of every random choice
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Breeding")]
    seed: u64,
    /// The run's directory; the same command again resumes it
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Networks to evaluate first: a file with one genome a line, or a finished run
    #[arg(long, value_name = "FILE|RUN", help_heading = "Breeding")]
    seed_genomes: Option<PathBuf>,
    /// The first N items of each task's search split, in hash order
    #[arg(long, value_name = "N", value_parser = Items::parse, help_heading = "Questions")]
    limit: Option<usize>,
    /// The first N items of each task's held-out split, on which the front is measured
    #[arg(long, value_name = "N", value_parser = Items::parse, help_heading = "Questions")]
    held_out: Option<usize>,
    /// `local`, or `mock` / `mock:DELAY_MS` to try a search without a model
    #[arg(long, value_name = "NAME", default_value = "local", help_heading = "Machine")]
    evaluator: EvaluatorKind,
    /// `linas`, which breeds on predictions in between; `nsga2`; or `random` as the baseline
    #[arg(long, value_name = "NAME", default_value = ALGORITHMS[0].name, value_parser = algorithms(), help_heading = "Breeding")]
    algorithm: AlgorithmKind,
    /// Score every network to the end, also those that surely are not on the front
    #[arg(long, help_heading = "Questions")]
    no_racing: bool,
    /// Largest probability, for each network, of being dropped though nothing dominates it
    #[arg(long, value_name = "P", default_value_t = 0.05, conflicts_with = "no_racing", help_heading = "Questions")]
    racing_error: f64,
    /// Measure prefill throughput and report it, also when it is no objective
    #[arg(long, help_heading = "Throughput")]
    throughput: bool,
    /// Throughput table that `criadero measure` wrote, instead of measuring one
    #[arg(long, value_name = "FILE", help_heading = "Throughput")]
    table: Option<PathBuf>,
    /// Measure again where that table is of another device, model or version
    #[arg(long, requires = "table", help_heading = "Throughput")]
    remeasure: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten, next_help_heading = "Questions")]
    data: DataArgs,
    /// Tokens that share a forward pass. A new run on the CPU measures what suits it, unless this, --workers or --threads
    /// is given, and keeps to it
    #[arg(long, value_name = "TOKENS", value_parser = Tokens::parse, help_heading = "Machine")]
    chunk_tokens: Option<usize>,
    /// Worker threads that take chunks
    #[arg(long, value_name = "N", value_parser = Workers::parse, help_heading = "Machine")]
    workers: Option<usize>,
    /// libtorch threads of each worker
    #[arg(long, value_name = "N", value_parser = Threads::parse, help_heading = "Machine")]
    threads: Option<usize>,
    /// Memory for hidden states that children share with their parents; 0 keeps none. Scores do not depend on it
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u64).range(..1 << 40), help_heading = "Machine")]
    cache: u64,
    #[command(flatten, next_help_heading = "Machine")]
    devices: DevicesArgs,
    /// Let workers elsewhere score: `criadero worker --nats URL` on any number of machines. A NATS server with JetStream,
    /// `nats://HOST[:4222]` or `tls://HOST`; several of one cluster with commas between them
    #[arg(long, value_name = "URL", help_heading = "Server")]
    nats: Option<String>,
    /// Seconds after which a task goes to another worker when its own gives no sign of life
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600), help_heading = "Server")]
    nats_lease: u64,
    /// Put the model at the server for workers who do not have it: `criadero worker --fetch`
    #[arg(long, requires = "nats", help_heading = "Server")]
    nats_share: bool,
    /// Let workers score that are other machines than this one. Each chunk of questions belongs to one kind of machine, so that networks
    /// are compared within it; a kind whose log-likelihoods differ by more than 5 % from the first one's is left out
    #[arg(long, requires = "nats", help_heading = "Server")]
    mixed_hardware: bool,
    #[command(flatten, next_help_heading = "Server")]
    server: NatsArgs,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EvaluatorKind {
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

impl Search {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// What the search ends with.
    pub fn run(self) -> anyhow::Result<()> {
        let experiment = self.experiment()?;
        experiment.check()?;
        match self.evaluator {
            EvaluatorKind::Mock(delay) => {
                self.check_as_if_real(&experiment)?;
                let items = [self.limit, self.held_out].map(|items| items.unwrap_or(MOCK_ITEMS));
                let held = self.hold()?;
                let elsewhere = self.remote()?;
                let front = run(&experiment, &held, elsewhere.as_ref(), |stop, _| {
                    mock_scorer(&experiment, items, delay, stop.clone())
                })?;
                Found { pick: pick_of(&front), front, run: held.path(), mock: true }.print(self.json);
            }
            EvaluatorKind::Local => {
                let held = self.hold()?;
                let (local, elsewhere) = (self.local(), self.remote()?);
                let front = run(&experiment, &held, elsewhere.as_ref(), |stop, on_progress| {
                    local.prepare(&experiment, held.path(), stop, on_progress)
                })?;
                Found { pick: pick_of(&front), front, run: held.path(), mock: false }.print(self.json);
            }
        }
        Ok(())
    }

    /// The server where workers are, if it is they who score.
    fn remote(&self) -> criadero::Result<Option<Elsewhere>> {
        let connect = |url: &String| {
            let connection = Arc::new(Connection::open(&self.server.server(url))?);
            let shared = self.nats_share.then(|| self.model.clone());
            Ok(Elsewhere { connection, lease: Duration::from_secs(self.nats_lease), shared })
        };
        self.nats.as_ref().map(connect).transpose()
    }

    /// The run's directory, which is none of what is read.
    fn hold(&self) -> criadero::Result<HeldDirectory> {
        let given = [&self.seed_genomes, &self.table].into_iter().flatten();
        let output = Output::of("search").reading(&self.model).reading_all(file_of(&self.space)).reading_all(given);
        RunSettings::hold(&output, &self.out)
    }

    /// Refuses what a search with a model would: made-up scores are for trying a command.
    fn check_as_if_real(&self, experiment: &Experiment) -> anyhow::Result<()> {
        for (name, metrics) in experiment.tasks()? {
            check_metrics(&self.data.task(&name)?, &metrics)?;
        }
        open_devices(self.devices.list(), self.devices.arithmetic())?;
        Ok(())
    }

    /// What the flags say is to be searched.
    fn experiment(&self) -> anyhow::Result<Experiment> {
        let space = SearchSpace::open(&self.space)?;
        Ok(Experiment {
            command: command_words(),
            constraints: self.constraints.clone(),
            evals: self.evals,
            population: self.population,
            seed: self.seed,
            seed_genomes: self.seed_genomes.as_deref().map(read_genomes).transpose()?.unwrap_or_default(),
            algorithm: self.algorithm,
            racing: if self.no_racing { None } else { Some(Racing::new(self.racing_error)?) },
            mixed_hardware: self.mixed_hardware,
            ..Experiment::new(self.model.display(), space, &self.objectives)
        })
    }

    /// What the flags say of this machine and of the items.
    fn local(&self) -> Local {
        Local {
            data: self.data.dir(),
            limit: self.limit,
            held_out: self.held_out,
            chunk_tokens: self.chunk_tokens,
            workers: self.workers,
            threads: self.threads,
            cache_bytes: self.cache << 20,
            devices: self.devices.list().to_string(),
            arithmetic: self.devices.arithmetic(),
            tables: Tables { wanted: self.throughput, file: self.table.clone(), remeasure: self.remeasure },
        }
    }
}

/// Searches with a model on this machine.
pub fn search(experiment: &Experiment, local: &Local, held: &HeldDirectory) -> anyhow::Result<Front> {
    run(experiment, held, None, |stop, on_progress| local.prepare(experiment, held.path(), stop, on_progress))
}

/// Workers elsewhere: the server where they are, and how long a task may be without a sign of life from one of them.
struct Elsewhere {
    connection: Arc<Connection>,
    lease: Duration,
    /// The model, where workers are to have it from the server.
    shared: Option<PathBuf>,
}

impl Elsewhere {
    /// Lets them score in a scorer's place.
    fn scorer(
        &self,
        experiment: &Experiment,
        here: Scorer,
        dir: &Path,
        stop: &Arc<AtomicBool>,
        listener: &Rc<Listener>,
    ) -> criadero::Result<(Scorer, Arc<Searcher>)> {
        let mut announcement = Announcement::new(RunId::of(dir)?, &experiment.settings(&here), self.lease);
        if let Some(model) = &self.shared {
            let _phase = Phase::begin("sharing the model");
            let note = &mut |note| listener.hear(Progress::Note(note));
            Searcher::share(&self.connection, &mut announcement, open_model(model)?.path(), stop, note)?;
        }
        let searcher = Arc::new(Searcher::begin(self.connection.clone(), announcement)?);
        let listener = listener.clone();
        let hear = Box::new(move |heard| match heard {
            Heard::Note(note) => listener.hear(Progress::Note(note)),
            Heard::Detail(detail) => listener.hear(Progress::Detail(detail)),
            Heard::Workers(slots) => listener.helped_by(slots),
        });
        let sets = here.evaluator.sets().clone();
        let evaluator = Box::new(Remote::new(searcher.clone(), sets, dir, stop.clone(), hear)?);
        Ok((Scorer { evaluator, ..here }, searcher))
    }
}

/// Searches under a bar.
fn run(
    experiment: &Experiment,
    held: &HeldDirectory,
    elsewhere: Option<&Elsewhere>,
    scorer: impl FnOnce(&Arc<AtomicBool>, &mut dyn FnMut(Progress)) -> criadero::Result<Scorer>,
) -> anyhow::Result<Front> {
    let stop = stop_on_ctrl_c("stopping after the network being scored; Ctrl-C again stops at once");
    let listener = Rc::new(Listener::new("searching"));
    let on_progress = &mut |progress| listener.hear(progress);
    let preparing = Phase::begin("preparing");
    let mut scorer = scorer(&stop, on_progress)?;
    let mut searcher = None;
    if let Some(elsewhere) = elsewhere {
        let (remote, at_server) = elsewhere.scorer(experiment, scorer, held.path(), &stop, &listener)?;
        (scorer, searcher) = (remote, Some(at_server));
    }
    drop(preparing);
    let front = experiment.run_in(scorer, held, on_progress)?;
    if let Some(Err(error)) = searcher.map(|searcher| searcher.end()) {
        on_progress(Progress::Note(format!("{error}; the run is whole")));
    }
    listener.finish();
    Ok(front)
}

/// What a search found, and where it lies.
pub struct Found<'a> {
    /// The front.
    pub front: Front,
    /// The run's directory.
    pub run: &'a Path,
    /// Whether the scores are made up.
    pub mock: bool,
    /// Which of its networks to begin with.
    pub pick: String,
}

impl Found<'_> {
    /// Prints the front, as a table with what to do next, or as one JSON object.
    pub fn print(self, json: bool) {
        let Found { front, run, mock, pick } = self;
        if json {
            println!("{:#}", json!({ "run": run, "mock": mock, "front": front }));
            return;
        }
        print_front(&front);
        println!("run: {}{}", run.display(), if mock { MADE_UP } else { "" });
        Done::Searched { run, pick, mock }.say_next();
    }
}

/// The algorithms by name.
fn algorithms() -> impl TypedValueParser<Value = AlgorithmKind> {
    let names = ALGORITHMS.iter().map(|kind| PossibleValue::new(kind.name).help(kind.about));
    PossibleValuesParser::new(names).try_map(|name| algorithm_named(&name))
}
