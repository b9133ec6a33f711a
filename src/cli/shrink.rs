//! `criadero shrink`: from a model and a budget to an exported network, by the other subcommands.
//!
//! It decides and prints; all work is done by commands that it starts as a user would, so that what it says is what runs, and each
//! step resumes as it does alone.

use std::path::PathBuf;

use anyhow::{Context, bail};
use criadero::Error;
use criadero::checkpoint::{Checkpoint, EXPORTERS};
use criadero::eval::{Objective, PackingOptions, pack_task};
use criadero::model::supernet::SupernetCard;
use criadero::output::{self, Output};
use criadero::run::{CHUNK_TOKENS, Experiment, MAX_LENGTH, check_metrics, size_range, space_of};
use criadero::space::{Bound, Cost};
use criadero::task::{Selection, Split};
use criadero::tune::curriculum::Curriculum;

use super::arguments::smooth_objectives;
use super::calibration::text_or_default;
use super::interrupt::stop_on_ctrl_c;
use super::model::{self, DataArgs, DeviceArgs, tokenizer_of};
use super::next::{Done, pick_of};
use super::said::along;
use super::seconds::{self, said};
use super::train::{Course, TrainArgs};
use super::verbosity::Verbosity;
use effort::Effort;
use limit::Limit;
use machine::Machine;
use plan::{Job, PROMPT_TOKENS, Plan, STEP_TOKENS};
use record::{Record, Request};
use report::Report;
use spaces::Spaces;

mod effort;
mod limit;
mod machine;
mod plan;
mod record;
mod report;
mod spaces;
mod step;

/// What a result is scored on when no task is named: facts, everyday physics, and who is meant.
const TASKS: [&str; 3] = ["arc_easy", "piqa", "winogrande"];
/// Of free memory, what training may plan with: a supernet has corrected matrices that its parent does not.
const MEMORY_SHARE: f64 = 0.9;

/// Shrink a model to a budget: rank, tune, search, recover, export, and say what was lost
///
/// It says first which commands it will run and how long each takes. Killed at any moment, the same command goes on.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  criadero shrink smollm2-135m --to \"params<=115M\" --task arc_easy --quick --out small\n  \
                  criadero shrink MODEL --to \"weight_bytes<=900MB\" --task my.jsonl --time 2h --out mine --dry-run"
)]
pub struct Shrink {
    /// Checkpoint: an HF directory, a GGUF file, a name on the hub, or `smollm2-135m`
    model: PathBuf,
    /// What the result must keep to: "params<=100M", "weight_bytes<=900MB", "latency_ms<=300"; may be given more than once. A limit
    /// of weight_bytes makes bits a choice for every layer of a GGUF
    #[arg(long = "to", value_name = "NAME<=VALUE", required = true)]
    to: Vec<Limit>,
    /// Task to stay good at: a shipped name, a YAML file, or a JSONL file of `{"context", "choices", "gold"}` rows; may be given more
    /// than once. By default arc_easy, piqa and winogrande
    #[arg(long = "task", value_name = "TASK")]
    tasks: Vec<String>,
    /// Directory of everything; the same command again goes on
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A first look: a small search, no training
    #[arg(long, conflicts_with = "thorough")]
    quick: bool,
    /// A longer search and more training: a night
    #[arg(long)]
    thorough: bool,
    /// How long it may take, such as `90m` or `2h`: training gets what the other steps leave. By default 20m with --quick, 12h with
    /// --thorough, else 2h, which the other steps may exceed
    #[arg(long, value_name = "TIME", value_parser = seconds::parse)]
    time: Option<f64>,
    /// Search space: a YAML file or a shipped name; by default the shipped one of the model's shape, else what `criadero space` prints
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// Supernet that `criadero rank` made of the model with that space: it is not ranked again
    #[arg(long, value_name = "DIR")]
    supernet: Option<PathBuf>,
    /// Text to rank by and to train on, never of the tasks; by default the passages that `criadero fetch demo` unpacks
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// What is written: `gguf` for llama.cpp, or `hf`
    #[arg(long, value_name = "FORMAT", default_value = "gguf", value_parser = EXPORTERS.map(|exporter| exporter.name().0))]
    format: String,
    /// Seed of every random choice
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print the commands, and run and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object: the steps with --dry-run, else what was lost
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Shrink {
    /// Runs the subcommand.
    pub fn run(mut self) -> anyhow::Result<()> {
        if self.tasks.is_empty() {
            self.tasks = TASKS.map(String::from).to_vec();
        }
        let checkpoint = model::open(&self.model)?;
        let request = self.request(&checkpoint)?;
        let record = Record::of(&self.out, &request)?;
        let spaces = self.spaces(&checkpoint)?;
        self.check_limits(&checkpoint, &spaces)?;
        let tokens = self.tokens(&checkpoint)?;
        let known = record.is_some();
        let record = match record {
            Some(record) => record,
            None => Record::new(request, Machine::measure(&checkpoint, &self.device)?),
        };
        let job = self.job(&checkpoint, &spaces, record.machine, tokens)?;
        let plan = job.plan()?;
        if self.dry_run && self.json {
            println!("{:#}", plan.as_json());
            return Ok(());
        }
        if self.dry_run || !Verbosity::is_quiet() {
            self.announce(&checkpoint, &job, &plan);
        }
        if self.dry_run {
            return Ok(());
        }
        if let (false, Some(step)) = (known, plan.steps.iter().find(|step| step.product.path().exists())) {
            let found = step.product.path().display().to_string();
            let expected = "a directory of its own, or the one of a shrinking that was begun before";
            return Err(Error::invalid("--out", format!("{found}, of something else"), expected).into());
        }
        let output = Output::of("shrink").reading(checkpoint.path()).reading(self.text()).reading_all(&self.supernet);
        let _held = output.hold(&self.out, record::FILE, &[])?;
        if !known {
            record.write(&self.out)?;
        }
        spaces.write()?;
        self.go(&job, &plan)
    }

    fn effort(&self) -> Effort {
        if self.quick {
            Effort::Quick
        } else if self.thorough {
            Effort::Thorough
        } else {
            Effort::Moderate
        }
    }

    fn text(&self) -> PathBuf {
        text_or_default(self.text.as_ref())
    }

    fn request(&self, checkpoint: &Checkpoint) -> anyhow::Result<Request> {
        let text = self.text();
        let is_read = self.supernet.is_none() || self.effort().terms().tune_steps > 0;
        if is_read && !text.is_file() {
            bail!("{}: no such file; give the text to rank by and to train on with --text", text.display());
        }
        Ok(Request {
            model_digest: checkpoint.digest()?,
            to: self.to.iter().map(|limit| limit.constraint.to_string()).collect(),
            tasks: self.tasks.clone(),
            effort: self.effort(),
            seconds: self.time,
            space: self.space.clone(),
            supernet: self.supernet.as_ref().map(|path| path.display().to_string()),
            text: text.display().to_string(),
            format: self.format.clone(),
            seed: self.seed,
            device: self.device.flags(),
        })
    }

    /// The spaces; with bits where bytes are limited and the file can hold them.
    fn spaces(&self, checkpoint: &Checkpoint) -> anyhow::Result<Spaces> {
        let config = model::whose_layers_are_alike(checkpoint, &self.model)?;
        let limited =
            |limit: &Limit| limit.constraint.objective == "weight_bytes" && limit.constraint.bound == Bound::AtMost;
        let bits = self.format == "gguf" && self.to.iter().any(limited);
        let spaces = Spaces::of(self.space.as_deref(), &checkpoint.name(), &config.shape, bits, &self.out)?;
        spaces.note.iter().for_each(|note| eprintln!("note: {note}"));
        if let Some(path) = &self.supernet {
            let supernet = model::open(path)?;
            let card = SupernetCard::of(&supernet)?;
            let Some(card) = card else {
                bail!("{} was never ranked; leave --supernet out to rank it", path.display())
            };
            let digest = checkpoint.digest()?;
            if card.parent_digest != digest {
                let found = format!("a supernet of the model {}", card.parent_digest);
                return Err(
                    Error::invalid("--supernet", found, format!("one of {digest}, {}", self.model.display())).into()
                );
            }
            space_of(spaces.searched().space.clone(), &supernet)?;
        }
        Ok(spaces)
    }

    /// Refuses limits that cannot be kept to, and those that need no shrinking.
    fn check_limits(&self, checkpoint: &Checkpoint, spaces: &Spaces) -> anyhow::Result<()> {
        let shape = &checkpoint.config().shape;
        let space = &spaces.searched().space;
        let mut met = true;
        for limit in self.to.iter().map(|limit| &limit.constraint) {
            let objective = Objective::parse(&limit.objective)?;
            if objective.metric().is_some() {
                let expected = "a size or a speed, such as params, weight_bytes or latency_ms";
                return Err(Error::invalid("--to", format!("{limit}, a score"), expected).into());
            }
            let positions = checkpoint.config().positions();
            if objective.needs_throughput() && positions <= PROMPT_TOKENS {
                let found = format!("{limit}, and a model of {positions} positions");
                let expected = format!("more than {PROMPT_TOKENS} positions, behind which speed is measured");
                return Err(Error::invalid("--to", found, expected).into());
            }
            let size = objective.size(&Cost::of(shape, &shape.parent()));
            met &= size.is_some_and(|size| limit.violation(size) == 0.0);
        }
        let experiment = Experiment {
            constraints: self.to.iter().map(|limit| limit.constraint.clone()).collect(),
            ..Experiment::new(self.model.display(), space.clone(), self.objectives()?)
        };
        experiment.check()?;
        experiment.check_limits(space)?;
        for (name, metrics) in experiment.tasks()? {
            check_metrics(&self.data.task(&name)?, &metrics)?;
        }
        if met {
            let sizes = self
                .to
                .iter()
                .map(|limit| &limit.constraint.objective)
                .filter_map(|name| Some(format!("{name} {}", size_range(space, name).ok()??.1)));
            bail!(
                "{} is within that budget as it is ({}); `criadero export {0} --format {}` writes it",
                self.model.display(),
                sizes.collect::<Vec<_>>().join(", "),
                self.format
            );
        }
        Ok(())
    }

    /// What is searched for: to score the tasks well, and to be far within the limits.
    fn objectives(&self) -> anyhow::Result<Vec<String>> {
        let mut objectives = smooth_objectives(&self.data, &self.tasks)?;
        for limit in &self.to {
            if !objectives.contains(&limit.constraint.objective) {
                objectives.push(limit.constraint.objective.clone());
            }
        }
        Ok(objectives)
    }

    /// Tokens of what is searched on and of what is held out.
    fn tokens(&self, checkpoint: &Checkpoint) -> anyhow::Result<[usize; 2]> {
        let tokenizer = tokenizer_of(checkpoint)?;
        let terms = self.effort().terms();
        let packing =
            PackingOptions { chunk_tokens: CHUNK_TOKENS, max_length: checkpoint.config().positions().min(MAX_LENGTH) };
        let mut tokens = [0, 0];
        for name in &self.tasks {
            let task = self.data.task(name)?;
            let sides = [(Split::Search, Some(terms.limit)), (Split::HeldOut, Some(terms.held_out))];
            for (sum, selection) in tokens.iter_mut().zip(Selection::sides(&task, sides)?) {
                *sum += pack_task(name, &task, &selection, &tokenizer, packing)?.packed_tokens;
            }
        }
        Ok(tokens)
    }

    fn job<'a>(
        &'a self,
        checkpoint: &Checkpoint,
        spaces: &Spaces,
        machine: Machine,
        [search_tokens, held_out_tokens]: [usize; 2],
    ) -> anyhow::Result<Job<'a>> {
        let widths = &spaces.widths.space;
        let sandwich = Curriculum::Sandwich { space: widths.clone(), balance: true };
        let distill = Curriculum::Distill { network: widths.largest().unquantized() };
        let tune = if widths.quantizes() {
            Err("networks of a space with bits cannot be trained".to_string())
        } else {
            self.flags_that_fit(checkpoint, &sandwich, None, machine)?
        };
        Ok(Job {
            model: self.model.display().to_string(),
            out: &self.out,
            limits: &self.to,
            objectives: self.objectives()?,
            tasks: &self.tasks,
            terms: self.effort().terms(),
            seconds: self.time,
            widths: spaces.widths.name.clone(),
            searched: spaces.searched().name.clone(),
            quantizes: spaces.searched().space.quantizes(),
            has_throughput: checkpoint.config().positions() >= PROMPT_TOKENS,
            supernet: self.supernet.as_ref().map(|path| path.display().to_string()),
            text: self.text().display().to_string(),
            format: &self.format,
            seed: self.seed,
            device: self.device.flags(),
            data: self.data.flags(),
            recover: self.flags_that_fit(checkpoint, &distill, Some(checkpoint), machine)?,
            tune,
            machine,
            search_tokens,
            held_out_tokens,
        })
    }

    /// Flags with which a training fits into the machine, or why there is none.
    fn flags_that_fit(
        &self,
        base: &Checkpoint,
        curriculum: &Curriculum,
        teacher: Option<&Checkpoint>,
        machine: Machine,
    ) -> anyhow::Result<Result<Vec<String>, String>> {
        let length = base.config().positions().min(STEP_TOKENS / 2);
        let sized = ["--length".to_string(), length.to_string(), "--batch".into(), (STEP_TOKENS / length).to_string()];
        let args = TrainArgs::of(&[&sized[..], &self.device.flags()].concat())?;
        let budget = machine.memory.map_or(u64::MAX, |bytes| (bytes as f64 * MEMORY_SHARE) as u64);
        let course = Course { base, curriculum, teacher };
        let Some(fit) = args.fits(&course, budget)?.into_iter().next() else {
            let bytes = budget as f64 / 1e9;
            return Ok(Err(format!("nothing of it fits into the {bytes:.1} GB that are free; see `criadero plan`")));
        };
        Ok(Ok([&sized[..2], &fit.flags].concat()))
    }

    /// Says what will be done.
    fn announce(&self, checkpoint: &Checkpoint, job: &Job, plan: &Plan) {
        let shape = &checkpoint.config().shape;
        let limits: Vec<String> = self.to.iter().map(Limit::to_string).collect();
        self.say(format_args!(
            "{}, {} parameters, to {}",
            job.model,
            Cost::of(shape, &shape.parent()).params,
            limits.join(" and ")
        ));
        self.say(format_args!("searched for: {}", job.objectives.join(", ")));
        self.say(format_args!(
            "a forward pass of the model reads about {:.0} tokens a second here",
            job.machine.tokens_per_second
        ));
        for (place, step) in plan.steps.iter().enumerate() {
            let state = if step.product.is_whole() {
                "done before".to_string()
            } else {
                format!("about {} ({})", said(step.seconds), step.reckoned)
            };
            self.say(format_args!("\n{}. {}: {state}\n   {}", place + 1, step.name, step.line()));
        }
        self.say(format_args!(""));
        plan.left_out.iter().for_each(|(name, reason)| self.say(format_args!("left out: {name}; {reason}")));
        let left = plan.steps.iter().filter(|step| !step.product.is_whole()).map(|step| step.seconds).sum();
        self.say(format_args!(
            "all that is left to do takes about {}; everything goes to {}\n",
            said(left),
            self.out.display()
        ));
    }

    /// Runs what is not done yet, and reports.
    fn go(&self, job: &Job, plan: &Plan) -> anyhow::Result<()> {
        // The step at hand hears of it, too, and ends as it does alone.
        let stop = stop_on_ctrl_c("stopping with the step at hand");
        for (place, step) in plan.steps.iter().enumerate() {
            if step.product.is_whole() {
                continue;
            }
            let aloud = !Verbosity::is_quiet();
            if aloud {
                self.say(format_args!("[{}/{}] {}", place + 1, plan.steps.len(), step.line()));
            }
            let ended = step.run(self.json);
            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(Error::Interrupted.into());
            }
            ended?;
            if aloud {
                self.say(format_args!(""));
            }
        }
        let path = self.out.join(report::FILE);
        let report = Report::of(job, plan).context("what the steps left")?;
        let text = report.text();
        output::write(&path, &text)?;
        if self.json {
            println!("{:#}", report.as_json());
            return Ok(());
        }
        println!("{text}\nreport: {}", path.display());
        let run = self.out.join("run");
        if let Some(network) = plan.exported() {
            Done::Shrunk { out: &self.out, network, run: &run, pick: pick_of(report.front()) }.say_next();
        }
        Ok(())
    }

    /// A line that is no result where that is one JSON object.
    fn say(&self, line: std::fmt::Arguments) {
        along(self.json, line);
    }
}
