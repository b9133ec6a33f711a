//! What `tune` and `distill` share: data, optimizer, and a run with a bar, timings and a picture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Command, FromArgMatches};
use criadero::Error;
use criadero::checkpoint::Checkpoint;
use criadero::checkpoint::hf::ADAPTER_DIR;
use criadero::count::{Items, Threads, Tokens};
use criadero::model::Llama;
use criadero::model::device::device_name;
use criadero::output::{HeldDirectory, Log, Output};
use criadero::plan::activations::Trained;
use criadero::plan::{available, evaluation, training};
use criadero::report::curve::{Curve, curves};
use criadero::run::Headway;
use criadero::task::LeftOut;
use criadero::tune::adamw::AdamW;
use criadero::tune::curriculum::Curriculum;
use criadero::tune::metrics::Metrics;
use criadero::tune::run::{Progress, TuneRun};
use criadero::tune::schedule::Schedule;
use criadero::tune::settings::{Batching, Trainable, TuneSettings};
use criadero::tune::{Corpus, CorpusSettings, tuned};
use criadero::versions::versions;
use serde_json::json;

use super::interrupt::stop_on_ctrl_c;
use super::model::{DeviceArgs, set_threads};
use super::phase::Phase;
use super::progress::Bar;
use super::training_text::training_text;

/// Wall times of a fine-tuning's steps, apart from what is the same in every run.
const TIMINGS: &str = "timings.csv";
/// The file of a result that says that it is whole.
const LAST_FILE: &str = "config.json";
/// Where the last good weights are written when training diverges, inside the output directory.
const LAST_GOOD: &str = "last-good";
/// Larger batches are slips of the hand.
const MOST_SEQUENCES: usize = 1 << 16;
/// Without --warmup, one step in so many.
const WARMUP_SHARE: usize = 10;

/// Data, optimizer and the length of a fine-tuning.
#[derive(Clone, clap::Args)]
pub struct TrainArgs {
    /// Text to train on, never of the task that will be scored: conversations, instructions, prompts with their completion, or
    /// texts (.json, .jsonl, .jsonl.gz, .parquet, .arrow), or one plain text; may be given more than once
    #[arg(long = "data", value_name = "FILE", required = true)]
    data: Vec<PathBuf>,
    /// Directory of the result and of everything on the way; the same command again resumes
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Optimizer steps
    #[arg(long, value_name = "N", default_value_t = 500)]
    steps: usize,
    /// Largest learning rate
    #[arg(long, value_name = "RATE", default_value_t = 1e-4, allow_hyphen_values = true)]
    learning_rate: f64,
    /// Steps until it is reached; by default a tenth of them
    #[arg(long, value_name = "N")]
    warmup: Option<usize>,
    /// Decoupled weight decay of matrices
    #[arg(long, value_name = "SHARE", default_value_t = AdamW::default().weight_decay)]
    weight_decay: f64,
    /// Largest L2 norm of all gradients together
    #[arg(long, value_name = "NORM", default_value_t = AdamW::default().clip)]
    clip: f64,
    /// Tokens of a sequence
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = Tokens::parse)]
    length: usize,
    /// Sequences that share a forward pass
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = Items::parse)]
    batch: usize,
    /// Forward passes whose gradients make a step
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = Items::parse)]
    accumulate: usize,
    /// Train low-rank adapters of this rank instead of every weight, merged at the end
    #[arg(long, value_name = "RANK")]
    lora: Option<usize>,
    /// Weight of the adapters, as alpha / rank; by default twice the rank
    #[arg(long, value_name = "ALPHA", requires = "lora")]
    alpha: Option<f64>,
    /// Adapted matrices
    #[arg(
        long,
        value_name = "NAMES",
        requires = "lora",
        value_delimiter = ',',
        default_value = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
    )]
    targets: Vec<String>,
    /// Compute layers a second time instead of keeping their activations: less memory, a third more work
    #[arg(long)]
    recompute: bool,
    /// Share of the documents that is never trained on
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    held_out: f64,
    /// Held-out sequences that losses are followed on
    #[arg(long, value_name = "N", default_value_t = 8)]
    held_out_sequences: usize,
    /// Steps between two measurements of the held-out losses
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = Items::parse)]
    measure_every: usize,
    /// Seconds between two saves of the state: what a crash can cost
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    save_every: u64,
    /// Memory that may be used; by default what the machine has free. What needs more is refused before it begins
    #[arg(long, value_name = "GB")]
    memory: Option<f64>,
    /// Seed of every random choice
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// libtorch threads; by default all cores
    #[arg(long, value_name = "N", value_parser = Threads::parse)]
    threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// What is known before a model is loaded: the plan of a fine-tuning.
pub struct Course<'a> {
    /// The checkpoint that the model begins as.
    pub base: &'a Checkpoint,
    /// Who learns what.
    pub curriculum: &'a Curriculum,
    /// Another model that teaches.
    pub teacher: Option<&'a Checkpoint>,
}

/// What is trained, and from whom.
pub struct Lessons<'a> {
    /// The checkpoint that the model began as.
    pub base: &'a Checkpoint,
    /// As the user named it.
    pub name: String,
    /// The model.
    pub model: Llama,
    /// Another model that teaches it, and its digest.
    pub teacher: Option<(&'a Llama, String)>,
    /// Who learns what.
    pub curriculum: Curriculum,
}

impl TrainArgs {
    /// What these flags say, beside those that must be given.
    ///
    /// # Errors
    /// Flags that there are not.
    pub fn of(flags: &[String]) -> anyhow::Result<TrainArgs> {
        let must = ["train", "--data", "-", "--out", "-"].map(String::from);
        let parsed =
            TrainArgs::augment_args(Command::new("train")).try_get_matches_from([&must[..], flags].concat())?;
        Ok(TrainArgs::from_arg_matches(&parsed)?)
    }

    /// Refuses what cannot work, before anything is loaded or written.
    pub fn check(&self, course: &Course) -> anyhow::Result<()> {
        let Course { base, .. } = course;
        let shape = base.config().shape;
        let longest = base.config().positions();
        if self.length > longest {
            bail!("--length {}: the model has {longest} positions", self.length);
        }
        if self.batch > MOST_SEQUENCES || self.accumulate > MOST_SEQUENCES {
            bail!("--batch and --accumulate: at most {MOST_SEQUENCES} sequences");
        }
        if let Some(rank) = self.lora
            && rank > shape.hidden
        {
            bail!("--lora {rank}: a rank beyond the model's {} hidden values is not low", shape.hidden);
        }
        self.check_memory(course)
    }

    /// Holds the output directory, which is none of what is read here or by the command besides; `begun` may be in it before.
    pub fn hold(&self, command: &'static str, sources: &[&Path], begun: &[&str]) -> anyhow::Result<HeldDirectory> {
        let output = Output::of(command).reading_all(sources).reading_all(&self.data);
        Ok(TuneSettings::hold(&output, &self.out, begun)?)
    }

    /// Ways to fit into a budget of bytes, the nearest to these flags first.
    ///
    /// # Errors
    /// Matrices that cannot be adapted.
    pub fn fits(&self, course: &Course, budget: u64) -> criadero::Result<Vec<Fit>> {
        Need { args: self, course }.what_fits(budget)
    }

    /// Trains, and writes the result as a checkpoint.
    pub fn run(&self, lessons: Lessons, held: &HeldDirectory) -> anyhow::Result<()> {
        let Lessons { base, name, model, teacher, curriculum } = lessons;
        let threads = self.threads.unwrap_or_else(criadero::run::cores);
        set_threads(threads);
        let settings = CorpusSettings { length: self.length, held_out: self.held_out };
        let (corpus, left_out) = training_text(base, &self.data, settings)?;
        let settings = TuneSettings {
            model: name,
            model_digest: base.digest()?,
            teacher_digest: teacher.as_ref().map(|(_, digest)| digest.clone()),
            device: device_name(&model),
            threads,
            ..self.settings(curriculum, &corpus, left_out)
        };
        let networks = settings.curriculum.pupils(settings.seed, 0).len();
        let stop = stop_on_ctrl_c("stopping after this step; Ctrl-C again stops at once");
        let mut run = TuneRun::open(held, settings, model, teacher.map(|(model, _)| model), &corpus)?;
        if run.is_finished() {
            self.print(&run, true);
            return Ok(());
        }
        let mut timings = Timings::open(&self.out)?;
        let bar = Bar::new("training", "step").rated("token");
        let mut lap = Lap::default();
        let save_every = Duration::from_secs(self.save_every);
        // A table of times that cannot be written is no reason to lose what was trained.
        let mut failed = None;
        let trained = run.train(save_every, &stop, &mut |progress| match progress {
            Progress::Note(note) => bar.line(&format!("note: {note}")),
            Progress::Resumed { step } => {
                lap = Lap { before: step, ..lap };
                bar.line(&format!("resuming after step {step}"));
            }
            Progress::Step { step, of, tokens, time } => {
                let written = timings.append(step, tokens, time, networks);
                failed = failed.take().or(written.err());
                lap = Lap { steps: step, tokens: lap.tokens + tokens, ..lap };
                bar.at(lap.headway(of));
            }
            Progress::Measured(metrics) => {
                bar.line(&measured(metrics));
                if let Err(error) = draw(metrics, &self.out) {
                    bar.line(&format!("note: no picture: {error:#}"));
                }
            }
        });
        bar.finish();
        if let Err(Error::Diverged { .. }) = &trained {
            let good = self.out.join(LAST_GOOD);
            run.go_back()?;
            let staged = held.directory(LAST_GOOD)?;
            tuned::write(&run.result(base)?, base, &staged)?;
            staged.publish()?;
            let advice = "begin again in another --out with a smaller --learning-rate";
            return trained.with_context(|| format!("the last good weights are in {}; {advice}", good.display()));
        }
        trained?;
        self.finish(&run, base, held)?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// What the flags say; the model's names and digests are not among them.
    fn settings(&self, curriculum: Curriculum, corpus: &Corpus, left_out: LeftOut) -> TuneSettings {
        TuneSettings {
            format: TuneSettings::FORMAT,
            versions: versions(),
            model: String::new(),
            model_digest: String::new(),
            teacher_digest: None,
            curriculum,
            trainable: self.trainable(),
            optimizer: AdamW { weight_decay: self.weight_decay, clip: self.clip, ..AdamW::default() },
            schedule: Schedule {
                learning_rate: self.learning_rate,
                warmup: self.warmup.unwrap_or(self.steps / WARMUP_SHARE),
                steps: self.steps,
            },
            batching: Batching { length: self.length, sequences: self.batch, accumulate: self.accumulate },
            data: self.data.iter().map(|path| path.display().to_string()).collect(),
            data_digest: corpus.digest.clone(),
            left_out,
            held_out: self.held_out_sequences,
            measure_every: self.measure_every,
            recompute: self.recompute,
            seed: self.seed,
            device: String::new(),
            threads: 0,
        }
    }

    /// Refuses what does not fit, and says what would.
    fn check_memory(&self, course: &Course) -> anyhow::Result<()> {
        let free = || if self.device.is_card() { self.device.free_memory() } else { available() };
        let Some(budget) = self.memory.map(|gigabytes| (gigabytes * 1e9) as u64).or_else(free) else {
            eprintln!("note: how much memory is free is not known; --memory GB refuses what does not fit");
            return Ok(());
        };
        let need = Need { args: self, course };
        let wanted = need.peak(self.batch, self.recompute, &self.trainable())?;
        if wanted <= budget {
            return Ok(());
        }
        let fits = need.what_fits(budget)?;
        let others: Vec<String> =
            fits.iter().map(|fit| format!("{} ({:.1} GB)", fit.flags.join(" "), fit.peak as f64 / 1e9)).collect();
        let others =
            if others.is_empty() { "nothing here; see `criadero plan`".to_string() } else { others.join(", ") };
        bail!(
            "this needs {:.1} GB of memory, {:.1} GB are free; what fits: {others}",
            wanted as f64 / 1e9,
            budget as f64 / 1e9
        )
    }

    fn finish(&self, run: &TuneRun, base: &Checkpoint, held: &HeldDirectory) -> anyhow::Result<()> {
        // The picture may be older than the table: a process that was killed between them drew it no more.
        if let Err(error) = draw(run.metrics(), &self.out) {
            eprintln!("note: no picture: {error:#}");
        }
        let _writing = Phase::begin("writing the checkpoint");
        let staged = held.files(LAST_FILE)?;
        tuned::write(&run.result(base)?, base, &staged)?;
        staged.publish()?;
        run.forget()?;
        self.print(run, false);
        Ok(())
    }

    /// What there is now.
    fn print(&self, run: &TuneRun, finished_before: bool) {
        let adapters = self.lora.map(|_| self.out.join(ADAPTER_DIR));
        if self.json {
            let metrics = run.metrics();
            let last = metrics.rows.last();
            let losses = last.map(|row| metrics.networks.iter().zip(&row.losses).collect::<BTreeMap<_, _>>());
            let trained = json!({
                "checkpoint": self.out,
                "adapters": adapters,
                "steps": self.steps,
                "tokens": last.map(|row| row.tokens),
                "held_out_nats_per_token": losses,
                "finished_before": finished_before,
            });
            println!("{trained:#}");
            return;
        }
        if finished_before {
            println!("finished before; checkpoint: {}", self.out.display());
            return;
        }
        adapters.iter().for_each(|adapters| println!("adapters: {}", adapters.display()));
        println!("checkpoint: {}", self.out.display());
    }

    fn trainable(&self) -> Trainable {
        match self.lora {
            None => Trainable::Full,
            Some(rank) => {
                Trainable::Lora { rank, alpha: self.alpha.unwrap_or(2.0 * rank as f64), targets: self.targets.clone() }
            }
        }
    }
}

fn measured(metrics: &Metrics) -> String {
    let Some(row) = metrics.rows.last() else { return String::new() };
    let losses: Vec<String> =
        metrics.networks.iter().zip(&row.losses).map(|(name, loss)| format!("{name} {loss:.3}")).collect();
    format!("step {}, held-out nats per token: {}", row.step, losses.join(", "))
}

/// `curve.svg` and `curve.png`.
fn draw(metrics: &Metrics, out: &Path) -> anyhow::Result<()> {
    let all: Vec<Curve> = metrics
        .networks
        .iter()
        .enumerate()
        .map(|(place, name)| Curve {
            name: name.clone(),
            points: metrics.rows.iter().map(|row| (row.tokens as f64, row.losses[place])).collect(),
        })
        .collect();
    let picture = curves("Held-out loss while fine-tuning", &all)?;
    criadero::output::write(&out.join("curve.svg"), &picture.svg)?;
    criadero::output::write(&out.join("curve.png"), &picture.png)?;
    Ok(())
}

/// What of a training is done, and when.
#[derive(Clone, Copy, Default)]
struct Lap {
    /// Steps before this process began.
    before: usize,
    /// Steps by now.
    steps: usize,
    /// Tokens of this process's steps.
    tokens: usize,
}

impl Lap {
    /// Steps are counted, work in tokens.
    fn headway(&self, of: usize) -> Headway {
        let done = self.tokens as f64;
        let each = done / self.steps.saturating_sub(self.before).max(1) as f64;
        let left = each * of.saturating_sub(self.steps) as f64;
        Headway { count: self.steps, of, known: each * self.before as f64, done, left, each }
    }
}

/// `timings.csv`, appended step by step.
struct Timings {
    log: Log,
}

impl Timings {
    fn open(out: &Path) -> criadero::Result<Timings> {
        let (log, bytes) = Log::open(&out.join(TIMINGS))?;
        let mut timings = Timings { log };
        if bytes.is_empty() {
            timings.line("step,seconds,tokens_per_second,networks")?;
        }
        Ok(timings)
    }

    fn append(&mut self, step: usize, tokens: usize, time: Duration, networks: usize) -> criadero::Result<()> {
        let seconds = time.as_secs_f64();
        self.line(&format!("{step},{seconds:.3},{:.1},{networks}", tokens as f64 / seconds))
    }

    fn line(&mut self, text: &str) -> criadero::Result<()> {
        self.log.append(format!("{text}\n").as_bytes())
    }
}

/// Flags with which a fine-tuning fits into memory.
pub struct Fit {
    /// The flags, word by word.
    pub flags: Vec<String>,
    /// Bytes that it then takes.
    peak: u64,
}

/// The memory that training takes.
struct Need<'a> {
    args: &'a TrainArgs,
    course: &'a Course<'a>,
}

impl Need<'_> {
    fn peak(&self, sequences: usize, recompute: bool, trainable: &Trainable) -> criadero::Result<u64> {
        let trained = match trainable {
            Trainable::Full => Trained::Full,
            Trainable::Lora { rank, .. } => Trained::Adapters(*rank, trainable.targets()?),
        };
        let Course { base, curriculum, teacher } = self.course;
        let taught = curriculum.teaches();
        let (tokens, numbers) = (sequences * self.args.length, self.args.device.numbers());
        let corrected = base.corrections().weights();
        let training = training::Training { tokens, trained, taught, recompute, numbers, corrected };
        let genome = curriculum.largest();
        let loaded = |model: &Checkpoint| evaluation::weights(model.config(), model.corrections().weights(), numbers);
        let teacher = teacher.map_or(0, loaded);
        Ok(training::footprint(base.config(), &genome, &training, teacher).peak())
    }

    /// Flags with which it fits, with as large a batch as fits, halving.
    fn what_fits(&self, budget: u64) -> criadero::Result<Vec<Fit>> {
        let args = self.args;
        let adapters = TrainArgs { lora: Some(16), ..args.clone() }.trainable();
        let tried = [
            ("", args.recompute, args.trainable()),
            (" --recompute", true, args.trainable()),
            (" --lora 16", args.recompute, adapters.clone()),
            (" --recompute --lora 16", true, adapters),
        ];
        // Flags that are given already are no advice.
        let new = |flags: &str| {
            !(args.recompute && flags.contains("recompute") || args.lora.is_some() && flags.contains("lora"))
        };
        let mut fits = Vec::new();
        for (flags, recompute, trainable) in tried.into_iter().filter(|(flags, ..)| new(flags)) {
            let mut sequences = args.batch;
            while sequences > 1 && self.peak(sequences, recompute, &trainable)? > budget {
                sequences /= 2;
            }
            let peak = self.peak(sequences, recompute, &trainable)?;
            if peak <= budget {
                let accumulate = args.accumulate * args.batch.div_ceil(sequences);
                let all = format!("--batch {sequences} --accumulate {accumulate}{flags}");
                fits.push(Fit { flags: all.split(' ').map(String::from).collect(), peak });
            }
        }
        Ok(fits)
    }
}
