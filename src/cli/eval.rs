//! `criadero eval`: one network or several on tasks, item by item if asked.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use criadero::cascade::Cascade;
use criadero::count::{Items, Threads, Tokens};
use criadero::eval::{
    EvalSet, Evaluator, Exam, ItemScore, LocalEvaluator, Metric, NetworkScores, PackingOptions, Workers, Writer,
    pack_task, score,
};
use criadero::model::device::device_name;
use criadero::output::{Output, StagedFile};
use criadero::run::{Headway, cores};
use criadero::space::Genome;
use criadero::task::{LeftOut, Scoring, Selection, Split, Task};
use serde_json::{Value, json};
use tch::Device;

use super::arguments::{file_of, read_genomes};
use super::model::{self, DataArgs, DevicesArgs, blocks_of, tokenizer_of};
use super::phase::Phase;
use super::progress::Bar;
use super::router::RouterArgs;
use cascaded::Cascaded;
use chat::Chat;
use results::{Scored, Told};

mod cascaded;
mod chat;
mod results;

/// A row is not longer; what begins with more is another file.
const LONGEST_ROW: u64 = 1 << 20;

/// Score a network on a task, as lm-evaluation-harness does (zero-shot unless the task says otherwise)
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  criadero eval smollm2-135m --task arc_easy --limit 200\n  \
                  criadero eval MODEL --task arc_easy --task piqa --limit 200 --out scores.json\n  \
                  criadero eval MODEL --task my.jsonl --per-item items.jsonl --json")]
pub struct Eval {
    /// Checkpoint: an HF directory, a GGUF file, or `smollm2-135m`
    model: PathBuf,
    /// Task: a shipped name, a YAML file, or a JSONL file of `{"context", "choices", "gold"}` rows; may be given more than once
    #[arg(long = "task", value_name = "TASK", required = true)]
    tasks: Vec<String>,
    /// Worked examples before each question, the first ones of the task's, as `num_fewshot` of lm-evaluation-harness; by default as the
    /// task says
    #[arg(long, value_name = "N")]
    shots: Option<usize>,
    /// Each question is what a user says, written as the model's chat template has it: `--apply_chat_template` of lm-evaluation-harness
    #[arg(long)]
    chat_template: bool,
    /// Only the half of the items that searches score (`search`) or measure their fronts on (`held-out`)
    #[arg(long, value_name = "SPLIT", value_parser = splits())]
    split: Option<Split>,
    /// The first N items: of the file, or of the split in its hash order
    #[arg(long, value_name = "N", value_parser = Items::parse)]
    limit: Option<usize>,
    /// Network as genome text; the whole model by default
    #[arg(long, value_name = "GENOME", allow_hyphen_values = true)]
    genome: Option<Genome>,
    /// Networks to score together: a file with one genome a line, or a finished run. One JSON object for each
    #[arg(long, value_name = "FILE|RUN", conflicts_with = "genome")]
    genomes: Option<PathBuf>,
    /// Networks that answer in turn: a file that `criadero cascade` wrote
    #[arg(long, value_name = "FILE", conflicts_with_all = ["genome", "genomes", "out"])]
    cascade: Option<PathBuf>,
    #[command(flatten)]
    router: RouterArgs,
    /// The router's widths, but dealt to other tokens by chance: what choosing is worth
    #[arg(long, requires = "router", conflicts_with = "fixed")]
    by_chance: bool,
    /// Score the networks of `--genomes` one after the other, each with seconds of its own
    #[arg(long, requires = "genomes")]
    alone: bool,
    /// Write one JSON row an item and network, and a last one that lists the rows left out, if there are any
    #[arg(long, value_name = "FILE")]
    per_item: Option<PathBuf>,
    /// Write the scores as lm-evaluation-harness lays them out, with versions, and digests of model and items
    #[arg(long, value_name = "FILE", conflicts_with = "genomes")]
    out: Option<PathBuf>,
    /// Replace files of `--per-item` and `--out` that are there and were not written by this command
    #[arg(long)]
    force: bool,
    /// Print one JSON object a task
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
    /// Tokens that share a forward pass
    #[arg(long, value_name = "TOKENS", default_value_t = 1024, value_parser = Tokens::parse)]
    chunk_tokens: usize,
    /// The longest sequence; the model's own by default. Searches take the model's own, 2048 at most
    #[arg(long, value_name = "TOKENS", value_parser = Tokens::parse)]
    max_length: Option<usize>,
    /// Threads that share the work; all cores by default
    #[arg(long, value_name = "N", value_parser = Threads::parse)]
    threads: Option<usize>,
    #[command(flatten)]
    devices: DevicesArgs,
}

fn splits() -> impl TypedValueParser<Value = Split> {
    PossibleValuesParser::new(["search", "held-out"])
        .map(|name| if name == "search" { Split::Search } else { Split::HeldOut })
}

impl Eval {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let tasks = self.tasks()?;
        let selections = tasks.iter().map(|task| self.selection(task)).collect::<criadero::Result<Vec<_>>>()?;
        let genomes = self.genomes.as_deref().map(read_genomes).transpose()?;
        let checkpoint = model::open(&self.model)?;
        let tokenizer = Arc::new(tokenizer_of(&checkpoint)?);
        let cascade = self.cascade.as_deref().map(|path| Cascade::read_for(path, &checkpoint)).transpose()?;
        let genomes = cascade.as_ref().map_or(genomes, |cascade| Some(cascade.genomes()));
        let routed = self.router.read(&checkpoint, self.by_chance)?;
        if routed.is_some() && (genomes.is_some() || self.genome.is_some()) {
            bail!("--router chooses the network; --genome, --genomes and --cascade name others");
        }
        if self.out.is_some() && routed.as_ref().is_some_and(|routed| !routed.is_static()) {
            bail!(
                "--out describes one network, and an adaptive router's tokens run through several; use --json, or --static"
            );
        }
        let genomes = routed.as_ref().map_or(genomes, |routed| Some(vec![routed.genome.clone()]));
        let whole = || vec![self.genome.clone().unwrap_or_else(|| checkpoint.config().genome.clone())];
        let mut genomes = genomes.unwrap_or_else(whole);
        let mut known = HashSet::new();
        genomes.retain(|genome| known.insert(genome.clone()));
        if genomes.is_empty() {
            bail!("no genome to score in {}", self.genomes.as_deref().unwrap_or(Path::new("")).display());
        }
        let files = self.tasks.iter().filter_map(|task| file_of(task));
        let read = files.chain([checkpoint.path()]).chain(self.genomes.as_deref()).chain(self.cascade.as_deref());
        let read = read.chain(self.router.path().map(PathBuf::as_path));
        let output = Output::of("eval").reading_all(read).forced(self.force);
        let mut per_item = self.per_item.as_ref().map(|path| output.file(path, &is_per_item)).transpose()?;
        let results = self.out.as_ref().map(|path| output.file(path, &results::is_one)).transpose()?;
        let blocks = blocks_of(checkpoint.config(), &genomes);
        let mut models = self.devices.load(&checkpoint, blocks)?;
        if let Some(routed) = &routed {
            models.iter_mut().for_each(|model| routed.apply(model));
        }
        let model = &models[0];
        genomes.iter().try_for_each(|genome| model.check(genome))?;
        let positions = model.config().positions();
        let max_length = self.max_length.unwrap_or(positions).min(positions);
        let packing = PackingOptions { chunk_tokens: self.chunk_tokens, max_length };
        let chat = if self.chat_template { Some(Chat::of(&checkpoint, &tokenizer)?) } else { None };
        let (mut asked, mut sets) = (Vec::new(), Vec::new());
        let packing_phase = Phase::begin("reading and packing the tasks");
        for (task, mut selection) in tasks.into_iter().zip(selections) {
            if let Some(chat) = &chat {
                chat.ask(&task, &mut selection)?;
            }
            let set = pack_task(task.name(), &task, &selection, &tokenizer, packing)?;
            let left_out = selection.left_out.and(&set.left_out);
            let left_out = Some(left_out).filter(|left_out| !left_out.is_empty());
            let notes = selection.notes.iter().cloned().chain(left_out.iter().map(LeftOut::to_string));
            notes.chain(set.notes(max_length)).for_each(|note| eprintln!("note: {}: {note}", task.name()));
            asked.push(Asked { task, left_out });
            sets.push(set);
        }
        drop(packing_phase);
        let threads = self.threads.unwrap_or_else(cores);
        if let Some(cascade) = cascade {
            tch::set_num_threads(threads as i32);
            let scored = (&asked[..], &sets[..]);
            self.in_turn(&Cascaded::of(cascade, model)?, scored, per_item.as_mut())?;
            return Ok(per_item.map_or(Ok(()), StagedFile::publish)?);
        }
        // A chunk on each core is faster than all cores on each chunk.
        let chunks = sets.iter().map(|set| set.chunks.len());
        // Of one task at a time.
        let most = chunks.clone().max().unwrap_or(0);
        let count = if model.device() == Device::Cpu { threads.min(most).max(1) } else { 1 };
        let chunks: usize = chunks.sum();
        let workers = Workers { count, threads: threads / count };
        detail!("{} workers of {} threads, chunks of {} tokens", workers.count, workers.threads, self.chunk_tokens);
        let exam = Exam { sets, writer: Some(Writer::new(&checkpoint, tokenizer)?) };
        let mut evaluator = LocalEvaluator::start(&models, exam, workers, 0, Arc::default());
        let sets = evaluator.sets().clone();
        let bar = Bar::new("scoring", if genomes.len() == 1 { "question" } else { "network" });
        let counted = if genomes.len() == 1 { sets.iter().map(|set| set.items.len()).sum() } else { genomes.len() };
        let (mut done, total) = (0, chunks * genomes.len());
        let mut on_partial = || {
            done += 1;
            bar.at(Headway::of_share(done as f64 / total as f64, counted));
        };
        let company = if self.alone { 1 } else { genomes.len() };
        let mut summaries = Vec::new();
        for (place, (asked, set)) in asked.iter().zip(sets.iter()).enumerate() {
            if sets.len() > 1 {
                bar.relabel(&format!("scoring {}", asked.task.name()));
            }
            let mut networks = Vec::with_capacity(genomes.len());
            for genomes in genomes.chunks(company) {
                let start = Instant::now();
                let scores = score(&mut evaluator, place, genomes, &mut on_partial)?;
                let seconds = start.elapsed().as_secs_f64();
                networks.extend(scores.into_iter().map(|scores| (scores, seconds)));
            }
            if place + 1 == sets.len() {
                bar.finish();
            }
            let scored = genomes.iter().zip(&networks);
            let told = routed.as_ref().map(|routed| routed.told(&checkpoint));
            summaries.extend(bar.above(|| self.report(asked, set, scored, (per_item.as_mut(), told)))?);
        }
        evaluator.notes().iter().for_each(|note| eprintln!("note: {note}"));
        if let Some(mut file) = results {
            let told = asked.iter().zip(sets.iter()).zip(&summaries);
            let tasks = told.map(|((Asked { task, .. }, set), summary)| Told {
                task: task.name(),
                shots: task.shots(),
                digest: &set.digest,
                summary,
            });
            let tasks = tasks.collect();
            let (checkpoint, genome, device) = (&checkpoint, &genomes[0], device_name(model));
            let chat_template = chat.map(|chat| chat.source);
            let scored = Scored { checkpoint, genome, device, packing, limit: self.limit, chat_template, tasks };
            file.write(format!("{:#}\n", results::json_of(&scored)?).as_bytes())?;
            file.publish()?;
        }
        Ok(per_item.map_or(Ok(()), StagedFile::publish)?)
    }

    /// Prints what a cascade scores on each task, and writes its items' scores.
    fn in_turn(
        &self,
        cascade: &Cascaded,
        (asked, sets): (&[Asked], &[EvalSet]),
        mut per_item: Option<&mut StagedFile>,
    ) -> anyhow::Result<()> {
        let bar = Bar::new("scoring", "question");
        let total: usize = sets.iter().map(|set| set.chunks.len()).sum();
        let counted = sets.iter().map(|set| set.items.len()).sum();
        let mut done = 0;
        for (Asked { task, left_out }, set) in asked.iter().zip(sets) {
            let told = cascade.answer(set, &mut || {
                done += 1;
                bar.at(Headway::of_share(done as f64 / total as f64, counted));
            })?;
            if done == total {
                bar.finish();
            }
            let mut summary = summary(task.name(), set, &told.scores, told.seconds);
            summary["macs"] = told.summary["macs"].clone();
            summary["answered"] = told.summary["answered"].clone();
            if let Some(left_out) = left_out {
                summary["left_out"] = json!(left_out);
            }
            bar.above(|| match self.json {
                true => println!("{summary}"),
                false => {
                    print_summary(set, &summary);
                    cascade.print(&summary);
                }
            });
            if let Some(file) = &mut per_item {
                let of_task = (self.tasks.len() > 1).then(|| task.name());
                for (mut row, stage) in rows(set, &told.scores, of_task, None).zip(&told.stages) {
                    row["stage"] = json!(stage);
                    file.write(format!("{row}\n").as_bytes())?;
                }
                if let Some(left_out) = left_out {
                    file.write(format!("{}\n", json!({ "left_out": left_out })).as_bytes())?;
                }
            }
        }
        Ok(())
    }

    /// The tasks, each once.
    fn tasks(&self) -> anyhow::Result<Vec<Task>> {
        let mut tasks: Vec<Task> = Vec::with_capacity(self.tasks.len());
        for name in &self.tasks {
            let task = self.data.task(name)?;
            if tasks.iter().any(|other| other.name() == task.name()) {
                bail!("two tasks are named `{}`, expected each once", task.name());
            }
            tasks.push(match self.shots {
                Some(count) => task.with_shots(count)?,
                None => task,
            });
        }
        Ok(tasks)
    }

    fn selection(&self, task: &Task) -> criadero::Result<Selection> {
        match self.split {
            None => Selection::in_order(task, self.limit),
            Some(split) => Selection::side(task, split, self.limit),
        }
    }

    /// Prints each network's metrics on a task, and writes its items' scores; gives the metrics back.
    fn report<'a>(
        &self,
        Asked { task, left_out }: &Asked,
        set: &EvalSet,
        networks: impl Iterator<Item = (&'a Genome, &'a (NetworkScores, f64))>,
        (mut per_item, routed): (Option<&mut StagedFile>, Option<Value>),
    ) -> anyhow::Result<Vec<Value>> {
        let mut summaries = Vec::new();
        for (genome, (scores, seconds)) in networks {
            let named = self.genomes.is_some().then_some(genome);
            let mut summary = match (scores, named) {
                (Ok(scores), _) => summary(task.name(), set, scores, *seconds),
                (Err(reason), Some(_)) => json!({ "task": task.name(), "failed": reason, "seconds": seconds }),
                (Err(reason), None) => bail!("the network cannot be scored: {reason}"),
            };
            if let (Some(file), Ok(scores)) = (&mut per_item, scores) {
                let of_task = (self.tasks.len() > 1).then(|| task.name());
                let rows: String = rows(set, scores, of_task, named).map(|row| format!("{row}\n")).collect();
                file.write(rows.as_bytes())?;
            }
            if named.is_some() {
                summary["genome"] = json!(genome);
            }
            if let Some(left_out) = left_out {
                summary["left_out"] = json!(left_out);
            }
            if let Some(routed) = &routed {
                summary["routed"] = routed.clone();
            }
            if self.json || named.is_some() {
                println!("{summary}")
            } else {
                print_summary(set, &summary);
                if let Some(routed) = &routed {
                    println!("  {:<16} {routed}", "routed");
                }
            }
            summaries.push(summary);
        }
        if let (Some(file), Some(left_out)) = (per_item, left_out) {
            file.write(format!("{}\n", json!({ "left_out": left_out })).as_bytes())?;
        }
        Ok(summaries)
    }
}

/// A task that is scored, and what was left out of it.
struct Asked {
    task: Task,
    left_out: Option<LeftOut>,
}

/// Whether a file begins as one of `--per-item` does.
fn is_per_item(path: &Path) -> bool {
    let mut line = String::new();
    let read = File::open(path).and_then(|file| BufReader::new(file.take(LONGEST_ROW)).read_line(&mut line));
    let row = serde_json::from_str::<Value>(&line);
    read.is_ok() && row.is_ok_and(|row| ["log_likelihoods", "left_out"].iter().any(|key| row.get(key).is_some()))
}

/// One row an item; `task` and `genome` name task and network where there are several.
fn rows<'a>(
    set: &'a EvalSet,
    scores: &'a [ItemScore],
    task: Option<&'a str>,
    genome: Option<&'a Genome>,
) -> impl Iterator<Item = Value> + 'a {
    let value = |metric: Metric, place: usize| {
        let applies = metric.applies_to(set.scoring);
        applies.then(|| metric.contribution(set.scoring, &set.items[place], &scores[place]).value)
    };
    (0..scores.len()).map(move |place| {
        let whole = |value: f64| if set.scoring == Scoring::Mc2 { json!(value) } else { json!(value as u8) };
        let mut row = json!({
            "index": set.items[place].index,
            "log_likelihoods": scores[place].log_likelihoods,
            "gold": set.items[place].gold,
            "choice_bytes": set.items[place].choice_bytes,
            "correct": value(Metric::ACCURACY, place).or(value(Metric::EXACT_MATCH, place)).map(whole),
            "correct_norm": value(Metric::ACC_NORM, place).map(whole),
        });
        if let Some(answer) = &scores[place].answer {
            row["answer"] = json!(answer);
        }
        if let Some(task) = task {
            row["task"] = json!(task);
        }
        if let Some(genome) = genome {
            row["genome"] = json!(genome);
        }
        row
    })
}

fn summary(task: &str, set: &EvalSet, scores: &[ItemScore], seconds: f64) -> Value {
    let mut summary = json!({ "task": task, "items": set.items.len() });
    // What compares with the whole model is not known here.
    for metric in Metric::all().filter(|metric| metric.applies_to(set.scoring) && !metric.compares()) {
        let (name, estimate) = (metric.eval_name(), metric.estimate(&metric.contributions(set, scores)));
        summary[name] = json!(estimate.value);
        summary[format!("{name}_stderr")] = json!(estimate.stderr);
    }
    summary["packed_tokens"] = json!(set.packed_tokens);
    summary["naive_tokens"] = json!(set.naive_tokens);
    summary["seconds"] = json!(seconds);
    summary
}

fn print_summary(set: &EvalSet, summary: &Value) {
    println!("{}: {} items", summary["task"].as_str().unwrap_or_default(), set.items.len());
    for (name, value) in summary.as_object().into_iter().flatten() {
        if let Some(stderr) = summary.get(format!("{name}_stderr")) {
            let stderr = stderr.as_f64().unwrap_or(f64::NAN);
            let error = if set.items.len() > 1 { format!("± {stderr:.4}") } else { "(one item: no error)".into() };
            println!("  {name:<16} {:.4} {error}", value.as_f64().unwrap_or(f64::NAN));
        }
    }
    let seconds = summary["seconds"].as_f64().unwrap_or(f64::NAN);
    if set.writes {
        println!("  {} packed tokens, and {} answers written, in {seconds:.1} s", set.packed_tokens, set.items.len());
        return;
    }
    println!(
        "  {} packed tokens in {seconds:.1} s: {:.0} per second, {:.0} naive-equivalent ({} tokens request by request)",
        set.packed_tokens,
        set.packed_tokens as f64 / seconds,
        set.naive_tokens as f64 / seconds,
        set.naive_tokens
    );
}
