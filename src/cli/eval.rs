//! `criadero eval`: one network or several on one task, item by item if asked.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use criadero::count::{Items, Threads, Tokens};
use criadero::eval::{
    EvalSet, Evaluator, ItemScore, LocalEvaluator, Metric, NetworkScores, PackingOptions, Workers, pack_task, score,
};
use criadero::output::{Output, StagedFile};
use criadero::run::cores;
use criadero::space::Genome;
use criadero::task::{LeftOut, Scoring, Selection, Split, Task};
use serde_json::json;
use tch::Device;

use super::arguments::{file_of, read_genomes};
use super::model::{self, DataArgs, DevicesArgs, blocks_of, tokenizer_of};
use super::progress::Bar;

/// A row is not longer; what begins with more is another file.
const LONGEST_ROW: u64 = 1 << 20;

/// Score a network on a task, as lm-evaluation-harness does (zero-shot unless the task says otherwise)
#[derive(clap::Args)]
pub struct Eval {
    /// Checkpoint: an HF directory, a GGUF file, or `smollm2-135m`
    model: PathBuf,
    /// Task: a shipped name, a YAML file, or a JSONL file of `{"context", "choices", "gold"}` rows
    #[arg(long)]
    task: String,
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
    /// Score the networks of `--genomes` one after the other, each with seconds of its own
    #[arg(long, requires = "genomes")]
    alone: bool,
    /// Write one JSON row an item and network, and a last one that lists the rows left out, if there are any
    #[arg(long, value_name = "FILE")]
    per_item: Option<PathBuf>,
    /// Replace a file of `--per-item` that is there and has other rows
    #[arg(long, requires = "per_item")]
    force: bool,
    /// Print one JSON object
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
        let task = self.data.task(&self.task)?;
        let selection = match self.split {
            None => Selection::in_order(&task, self.limit)?,
            Some(split) => Selection::side(&task, split, self.limit)?,
        };
        let genomes = self.genomes.as_deref().map(read_genomes).transpose()?;
        let checkpoint = model::open(&self.model)?;
        let tokenizer = tokenizer_of(&checkpoint)?;
        let whole = || vec![self.genome.clone().unwrap_or_else(|| checkpoint.config().genome.clone())];
        let mut genomes = genomes.unwrap_or_else(whole);
        let mut known = HashSet::new();
        genomes.retain(|genome| known.insert(genome.clone()));
        if genomes.is_empty() {
            bail!("no genome to score in {}", self.genomes.as_deref().unwrap_or(Path::new("")).display());
        }
        let read = file_of(&self.task).into_iter().chain([checkpoint.path()]).chain(self.genomes.as_deref());
        let output = Output::of("eval").reading_all(read).forced(self.force);
        let mut per_item = self.per_item.as_ref().map(|path| output.file(path, &is_per_item)).transpose()?;
        let blocks = blocks_of(checkpoint.config(), &genomes);
        let models = self.devices.load(&checkpoint, blocks)?;
        let model = &models[0];
        genomes.iter().try_for_each(|genome| model.check(genome))?;
        let positions = model.config().positions();
        let max_length = self.max_length.unwrap_or(positions).min(positions);
        let packing = PackingOptions { chunk_tokens: self.chunk_tokens, max_length };
        let set = pack_task(task.name(), &task, &selection, &tokenizer, packing)?;
        let left_out = selection.left_out.and(&set.left_out);
        let left_out = Some(left_out).filter(|left_out| !left_out.is_empty());
        let notes = selection.notes.iter().cloned().chain(left_out.iter().map(LeftOut::to_string));
        notes.chain(set.notes(max_length)).for_each(|note| eprintln!("note: {}: {note}", task.name()));
        let threads = self.threads.unwrap_or_else(cores);
        // A chunk on each core is faster than all cores on each chunk.
        let count = if model.device() == Device::Cpu { threads.min(set.chunks.len()).max(1) } else { 1 };
        let workers = Workers { count, threads: threads / count };
        let mut evaluator = LocalEvaluator::start(&models, vec![set], workers, 0, Arc::default());
        let set = evaluator.sets()[0].clone();
        let bar = Bar::new("scoring", set.chunks.len() * genomes.len());
        let company = if self.alone { 1 } else { genomes.len() };
        let mut networks = Vec::with_capacity(genomes.len());
        for genomes in genomes.chunks(company) {
            let start = Instant::now();
            let scores = score(&mut evaluator, 0, genomes, &mut || bar.step())?;
            let seconds = start.elapsed().as_secs_f64();
            networks.extend(scores.into_iter().map(|scores| (scores, seconds)));
        }
        bar.finish();
        evaluator.notes().iter().for_each(|note| eprintln!("note: {note}"));
        self.report(&task, &set, left_out.as_ref(), genomes.iter().zip(&networks), per_item.as_mut())?;
        Ok(per_item.map_or(Ok(()), StagedFile::publish)?)
    }

    /// Prints each network's metrics, and writes its items' scores.
    fn report<'a>(
        &self,
        task: &Task,
        set: &EvalSet,
        left_out: Option<&LeftOut>,
        networks: impl Iterator<Item = (&'a Genome, &'a (NetworkScores, f64))>,
        mut per_item: Option<&mut StagedFile>,
    ) -> anyhow::Result<()> {
        for (genome, (scores, seconds)) in networks {
            let named = self.genomes.is_some().then_some(genome);
            let mut summary = match (scores, named) {
                (Ok(scores), _) => summary(task.name(), set, scores, *seconds),
                (Err(reason), Some(_)) => json!({ "task": task.name(), "failed": reason, "seconds": seconds }),
                (Err(reason), None) => bail!("the network cannot be scored: {reason}"),
            };
            if let (Some(file), Ok(scores)) = (&mut per_item, scores) {
                let rows: String = rows(set, scores, named).map(|row| format!("{row}\n")).collect();
                file.write(rows.as_bytes())?;
            }
            if named.is_some() {
                summary["genome"] = json!(genome);
            }
            if let Some(left_out) = left_out {
                summary["left_out"] = json!(left_out);
            }
            if self.json || named.is_some() { println!("{summary}") } else { print_summary(set, &summary) }
        }
        if let (Some(file), Some(left_out)) = (per_item, left_out) {
            file.write(format!("{}\n", json!({ "left_out": left_out })).as_bytes())?;
        }
        Ok(())
    }
}

/// Whether a file begins as one of `--per-item` does.
fn is_per_item(path: &Path) -> bool {
    let mut line = String::new();
    let read = File::open(path).and_then(|file| BufReader::new(file.take(LONGEST_ROW)).read_line(&mut line));
    let row = serde_json::from_str::<serde_json::Value>(&line);
    read.is_ok() && row.is_ok_and(|row| ["log_likelihoods", "left_out"].iter().any(|key| row.get(key).is_some()))
}

/// One row an item; `genome` names the network where there are several.
fn rows<'a>(
    set: &'a EvalSet,
    scores: &'a [ItemScore],
    genome: Option<&'a Genome>,
) -> impl Iterator<Item = serde_json::Value> + 'a {
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
            "correct": value(Metric::ACCURACY, place).map(whole),
            "correct_norm": value(Metric::ACC_NORM, place).map(whole),
        });
        if let Some(genome) = genome {
            row["genome"] = json!(genome);
        }
        row
    })
}

fn summary(task: &str, set: &EvalSet, scores: &[ItemScore], seconds: f64) -> serde_json::Value {
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

fn print_summary(set: &EvalSet, summary: &serde_json::Value) {
    println!("{}: {} items", summary["task"].as_str().unwrap_or_default(), set.items.len());
    for (name, value) in summary.as_object().into_iter().flatten() {
        if let Some(stderr) = summary.get(format!("{name}_stderr")) {
            let stderr = stderr.as_f64().unwrap_or(f64::NAN);
            let error = if set.items.len() > 1 { format!("± {stderr:.4}") } else { "(one item: no error)".into() };
            println!("  {name:<16} {:.4} {error}", value.as_f64().unwrap_or(f64::NAN));
        }
    }
    let seconds = summary["seconds"].as_f64().unwrap_or(f64::NAN);
    println!(
        "  {} packed tokens in {seconds:.1} s: {:.0} per second, {:.0} naive-equivalent ({} tokens request by request)",
        set.packed_tokens,
        set.packed_tokens as f64 / seconds,
        set.naive_tokens as f64 / seconds,
        set.naive_tokens
    );
}
