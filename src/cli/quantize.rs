//! `criadero quantize`: a finished front after quantization, or the best bits for each layer of one network.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use criadero::count::{Evals, Items, Population, Threads};
use criadero::eval::Objective;
use criadero::output::Output;
use criadero::run::{
    Change, Experiment, Front, Local, MixedBits, Pick, Place, QuantizedFront, Requantization, RunSettings, RunTask,
    cores, unexported,
};
use criadero::space::{Bits, Constraint};
use criadero::task::Split;
use serde_json::json;

use super::arguments::smooth_objectives;
use super::model::{self, DataArgs, DeviceArgs, ends_in, note_fallback, note_quantized_twice};
use super::next::{Done, pick_of};
use super::picked::{MovedArgs, picked};
use super::plot::write_pictures;
use super::progress::Listener;
use super::search::{Found, search};

/// What a directory of results has for certain.
const QUANTIZED: &str = "quantized.json";
/// Items of a model's tasks when there is no run that says how many.
const HELD_OUT_ITEMS: usize = 400;

/// Score a finished front again after quantization, or search the bits of each layer of one network
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  criadero quantize results/mine --bits 8\n  \
                  criadero quantize results/mine --pick knee --bits mixed --budget 80M --out results/mixed")]
pub struct Quantize {
    /// A finished run, or one checkpoint
    #[arg(value_name = "RUN|MODEL")]
    from: PathBuf,
    #[command(flatten)]
    moved: MovedArgs,
    /// How all matrices are stored: `8` (Q8_0), `4` (Q4_0), `q4_1`, ...; or `mixed`, to search the bits of each layer
    #[arg(long, value_name = "BITS|mixed", value_parser = parse_wanted)]
    bits: Wanted,
    /// How the embedding is stored, and the output matrix where it is another; by default as the layers, with `mixed` searched
    #[arg(long, value_name = "BITS")]
    embedding_bits: Option<Bits>,
    /// Task to score a model on, or to search its bits on; more than one may be given. A run has its own
    #[arg(long = "task", value_name = "TASK")]
    tasks: Vec<String>,
    /// Held-out items of each task; by default those of the run, or 400
    #[arg(long, value_name = "N", value_parser = Items::parse)]
    held_out: Option<usize>,
    /// Directory of the result; by default `quantized-BITS` or `quantized-BITS-embedding-BITS` in the run
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Which network of the run's front gets mixed bits: an id, `knee`, or the best within a limit
    #[arg(long)]
    pick: Option<Pick>,
    /// Bits that layers and ends of a mixed network may have
    #[arg(long, value_name = "BITS", value_delimiter = ',', default_value = "16,8,4")]
    choices: Vec<Bits>,
    /// Bytes that a mixed network may have, such as 80M: the hard constraint of its search
    #[arg(long, value_name = "BYTES")]
    budget: Option<String>,
    /// Networks that the search for mixed bits evaluates
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = Evals::parse)]
    evals: usize,
    /// Networks of a population of that search
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = Population::parse)]
    population: usize,
    /// The first N items of each task's search split that it scores; by default as many as the run's search, or all
    #[arg(long, value_name = "N", value_parser = Items::parse)]
    limit: Option<usize>,
    /// Its seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// libtorch threads; all cores by default
    #[arg(long, value_name = "N", value_parser = Threads::parse)]
    threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wanted {
    Uniform(Bits),
    Mixed,
}

fn parse_wanted(text: &str) -> Result<Wanted, criadero::Error> {
    if text == "mixed" { Ok(Wanted::Mixed) } else { text.parse().map(Wanted::Uniform) }
}

impl Quantize {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        match self.bits {
            Wanted::Uniform(bits) => self.uniform(bits),
            Wanted::Mixed => self.mixed(),
        }
    }

    /// Every network before and after, on the same held-out items.
    fn uniform(&self, bits: Bits) -> anyhow::Result<()> {
        if bits.is_full() {
            bail!("--bits 16 is what there is already");
        }
        if self.pick.is_some() || self.budget.is_some() || self.limit.is_some() {
            bail!("--pick, --budget and --limit are for `--bits mixed`");
        }
        let settings = RunSettings::read(&self.from)?;
        let subject = self.subject(settings.as_ref())?;
        let out = match (&self.out, &settings) {
            (Some(out), _) => out.clone(),
            (None, Some(_)) => {
                let ends = self.embedding_bits.filter(|&ends| ends != bits);
                let ends = ends.map_or(String::new(), |ends| format!("-embedding-{ends}"));
                self.from.join(format!("quantized-{bits}{ends}"))
            }
            (None, None) => bail!("say where the result goes with --out DIR"),
        };
        note_quantized_twice(subject.parent());
        let shape = subject.parent().config().shape;
        let ends = self.embedding_bits.unwrap_or(bits);
        let after = subject.quantized(bits, ends_in(&shape, ends))?;
        note_fallback(&shape, &after, bits, ends);
        unexported(subject.parent(), &after).iter().for_each(|note| eprintln!("note: {note}"));
        let threads = self.threads.or(subject.threads()).unwrap_or_else(cores);
        let place = Place { data: self.data.dir(), device: self.device.name().to_string(), threads };
        let output = Output::of("quantize").reading(subject.parent().path()).reading(&self.from);
        let held = output.hold(&out, QUANTIZED, &[])?;
        let listener = Listener::new("scoring");
        let front = subject.measure(&after, &place, &mut |progress| listener.hear(progress))?;
        listener.finish();
        front.write(held.path())?;
        write_pictures(&front, &out)?;
        if self.json {
            println!("{:#}", json!({ "written": out, "bytes_share": front.bytes_share(), "front": front }));
            return Ok(());
        }
        print(&front);
        println!("written: {}", out.display());
        let (pick, bytes) = self.same_size(&front)?;
        let task = self.tasks.first().map(String::as_str);
        Done::Quantized { from: &self.from, pick, task, bits: bits.to_string(), bytes }.say_next();
        Ok(())
    }

    /// Which network of a run to begin with, and its bytes in these bits: what mixed ones are compared at.
    fn same_size(&self, after: &QuantizedFront) -> anyhow::Result<(Option<String>, u64)> {
        let front = self.from.join("front.json");
        let pick = if front.is_file() { Some(Front::read_json(&front)?) } else { None };
        let id = match &pick {
            Some(front) => pick_of(front).parse::<Pick>()?.choose(front)?.id,
            None => 0,
        };
        let bytes = after.points.iter().find(|point| point.id == id).map_or(0, |point| point.bytes);
        Ok((pick.as_ref().map(pick_of), bytes))
    }

    /// The bits of each layer of one network, by the same search as any other.
    fn mixed(&self) -> anyhow::Result<()> {
        let settings = RunSettings::read(&self.from)?;
        let (model, genome, shape) = match (&settings, &self.pick) {
            (Some(settings), Some(pick)) => {
                let parent = self.moved.parent_of(&self.from)?.context("a run has a model")?;
                (
                    self.moved.path().map_or(settings.model.clone(), |path| path.display().to_string()),
                    picked(&self.from, pick, self.json)?,
                    parent.config().shape,
                )
            }
            (Some(_), None) => bail!("say which network of the front gets mixed bits with --pick"),
            (None, Some(_)) => bail!("{} is no run; --pick is for runs", self.from.display()),
            (None, None) => {
                let parent = model::open(&self.from)?;
                (self.from.display().to_string(), parent.config().genome.clone(), parent.config().shape)
            }
        };
        let Some(budget) = &self.budget else {
            bail!("say how many bytes the network may have with --budget, such as 80M")
        };
        let limit: Constraint = format!("weight_bytes<={budget}").parse().context("--budget")?;
        let Some(out) = &self.out else { bail!("say where the search goes with --out DIR") };
        let objectives = self.searched_for(settings.as_ref())?;
        let ends = self.embedding_bits.map_or(self.choices.clone(), |bits| vec![bits]);
        let mixed =
            MixedBits { model, shape: &shape, genome: &genome, choices: &self.choices, ends: &ends, budget: limit };
        let output = Output::of("search").reading(self.moved.path().unwrap_or(&self.from)).reading(&self.from);
        let held = RunSettings::hold(&output, out)?;
        let experiment = mixed.experiment(objectives, held.path())?;
        let experiment = Experiment { evals: self.evals, population: self.population, seed: self.seed, ..experiment };
        for &bits in &self.choices {
            let ends = self.embedding_bits.unwrap_or(bits);
            note_fallback(&shape, &[genome.in_bits(bits).with_ends(ends_in(&shape, ends))], bits, ends);
        }
        let front = search(&experiment, &self.local(settings.as_ref()), &held)?;
        let pick = format!("weight_bytes<={budget}");
        Found { front, run: held.path(), mock: false, pick }.print(self.json);
        Ok(())
    }

    /// What the search of bits runs on: as many items as the run's own search had, where its tasks are searched on.
    fn local(&self, settings: Option<&RunSettings>) -> Local {
        let of_run = |items: fn(&RunTask) -> usize| {
            let settings = settings.filter(|_| self.tasks.is_empty())?;
            settings.tasks.iter().map(items).max()
        };
        let held_out = self.held_out.or(of_run(|task| task.selected(Split::HeldOut))).unwrap_or(HELD_OUT_ITEMS);
        Local {
            data: self.data.dir(),
            limit: self.limit.or(of_run(|task| task.selected(Split::Search))),
            held_out: Some(held_out),
            threads: self.threads,
            devices: self.device.name().to_string(),
            arithmetic: self.device.arithmetic(),
            ..Local::default()
        }
    }

    /// What a search of bits scores networks by: as the run did, or each task by what is smooth for it.
    fn searched_for(&self, settings: Option<&RunSettings>) -> anyhow::Result<Vec<String>> {
        if self.tasks.is_empty() {
            let scores = |text: &&String| Objective::parse(text).is_ok_and(|objective| objective.metric().is_some());
            let own = settings.iter().flat_map(|settings| &settings.objectives);
            let own: Vec<String> = own.filter(scores).cloned().collect();
            if own.is_empty() {
                bail!("say what to search on with --task");
            }
            return Ok(own);
        }
        Ok(smooth_objectives(&self.data, &self.tasks)?)
    }

    fn subject(&self, settings: Option<&RunSettings>) -> anyhow::Result<Requantization> {
        match settings {
            Some(_) if !self.tasks.is_empty() => {
                bail!("--task is for a model; {} is scored on its own tasks", self.from.display())
            }
            Some(settings) => {
                Ok(Requantization::of_run(&self.from, settings, self.moved.path(), self.held_out, self.device.name())?)
            }
            None if self.tasks.is_empty() => {
                bail!("{} is no run; say what to score it on with --task", self.from.display())
            }
            None => {
                let parent = model::open(&self.from)?;
                let items = self.held_out.unwrap_or(HELD_OUT_ITEMS);
                Ok(Requantization::of_model(parent, name_of(&self.from), &self.tasks, items))
            }
        }
    }
}

fn name_of(model: &Path) -> String {
    model.file_stem().map_or_else(|| model.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn print(front: &QuantizedFront) {
    println!("{:>5}  {:>12}  {:>12}  score before, after, change", "id", "bytes before", "after");
    let line = |changes: &[Change]| {
        let one = |change: &Change| {
            let Change { name, before, after, change, change_stderr, .. } = change;
            format!("{name} {before:.4} {after:.4} {change:+.4} ± {change_stderr:.4}")
        };
        changes.iter().map(one).collect::<Vec<_>>().join("; ")
    };
    for point in &front.points {
        println!("{:>5}  {:>12}  {:>12}  {}", point.id, point.bytes_before, point.bytes, line(&point.changes));
    }
    println!("mean of the front, {:.1} % of the bytes: {}", 100.0 * front.bytes_share(), line(&front.mean));
}
