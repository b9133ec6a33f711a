//! `criadero eval`: one network on one task, item by item if asked.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use criadero::Error;
use criadero::eval::item::{Item, Scoring};
use criadero::eval::{
    ChunkId, EvalSet, Evaluator, ItemScore, LocalEvaluator, Metric, Outcome, PackingOptions, Work, Workers,
};
use criadero::model::Llama;
use criadero::space::Genome;
use serde_json::json;

use super::model::{DataArgs, DeviceArgs, load, open_checkpoint};
use super::progress::Bar;

/// Score a network on a task, as lm-evaluation-harness does (zero-shot unless the task says otherwise)
#[derive(clap::Args)]
pub struct Eval {
    /// Checkpoint: an HF directory, a GGUF file, or `smollm2-135m`
    model: PathBuf,
    /// Task: a shipped name, a YAML file, or a JSONL file of `{"context", "choices", "gold"}` rows
    #[arg(long)]
    task: String,
    /// The first N items of the file
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Network as genome text; the whole model by default
    #[arg(long, value_name = "GENOME", allow_hyphen_values = true)]
    genome: Option<Genome>,
    /// Write one JSON row an item
    #[arg(long, value_name = "FILE")]
    per_item: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
    /// Tokens that share a forward pass
    #[arg(long, value_name = "TOKENS", default_value_t = 1024)]
    chunk_tokens: usize,
    /// The longest sequence; the model's own by default
    #[arg(long, value_name = "TOKENS")]
    max_length: Option<usize>,
    /// libtorch threads; all cores by default
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Eval {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let task = self.data.task(&self.task)?;
        let items = task.items(self.limit)?;
        let mut per_item =
            self.per_item.as_ref().map(|path| std::fs::File::create(path).map_err(Error::io(path))).transpose()?;
        let checkpoint = open_checkpoint(&self.model)?;
        let tokenizer = checkpoint.tokenizer()?;
        let model = load(&checkpoint, &self.device)?;
        let genome = self.genome.unwrap_or_else(|| model.config().genome.clone());
        model.check(&genome)?;
        let positions = model.config().max_position_embeddings;
        let max_length = self.max_length.unwrap_or(positions).min(positions);
        let packing = PackingOptions { chunk_tokens: self.chunk_tokens, max_length };
        let items: Vec<&Item> = items.iter().collect();
        let mut set = EvalSet::pack(task.name(), task.scoring(), &items, &tokenizer, packing)?;
        if task.scoring() == Scoring::Rolling {
            set.count_as(&task.text_sizes(self.limit)?);
        }
        if set.truncated > 0 {
            eprintln!(
                "note: {} requests were longer than {max_length} tokens and lost their first tokens",
                set.truncated
            );
        }
        let threads = self.threads.unwrap_or_else(default_threads);
        let start = Instant::now();
        let scores = score(&model, set, &genome, threads)?;
        let seconds = start.elapsed().as_secs_f64();
        let Scores { set, scores } = scores;
        if let (Some(file), Some(path)) = (&mut per_item, &self.per_item) {
            let rows: String = rows(&set, &scores).map(|row| format!("{row}\n")).collect();
            file.write_all(rows.as_bytes()).map_err(Error::io(path))?;
        }
        let summary = summary(task.name(), &set, &scores, seconds);
        match self.json {
            true => println!("{summary}"),
            false => print_summary(&set, &summary),
        }
        Ok(())
    }
}

/// libtorch threads when the user says nothing.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

struct Scores {
    set: EvalSet,
    scores: Vec<ItemScore>,
}

fn score(model: &Llama, set: EvalSet, genome: &Genome, threads: usize) -> anyhow::Result<Scores> {
    let bar = Bar::new("scoring", set.chunks.len());
    let work =
        (0..set.chunks.len()).map(|chunk| Work { chunk: ChunkId { set: 0, chunk }, genomes: vec![genome.clone()] });
    let work = work.collect();
    let mut chunks: Vec<Option<Outcome>> = vec![None; set.chunks.len()];
    let mut evaluator = LocalEvaluator::start(model, vec![set], Workers { count: 1, threads }, 0, Arc::default());
    evaluator.evaluate(work, &mut |partial| {
        chunks[partial.chunk.chunk] = Some(partial.outcome);
        bar.step();
        Ok(())
    })?;
    bar.finish();
    let mut scores = Vec::new();
    for outcome in chunks {
        match outcome.expect("every chunk was scored") {
            Outcome::Scored(items) => scores.extend(items),
            Outcome::Failed(reason) => anyhow::bail!("the network cannot be scored: {reason}"),
        }
    }
    Ok(Scores { set: evaluator.sets()[0].clone(), scores })
}

fn rows<'a>(set: &'a EvalSet, scores: &'a [ItemScore]) -> impl Iterator<Item = serde_json::Value> + 'a {
    let value = |metric: Metric, place: usize| {
        let applies = metric.applies_to(set.scoring);
        applies.then(|| metric.contribution(set.scoring, &set.items[place], &scores[place]).value)
    };
    (0..scores.len()).map(move |place| {
        let whole = |value: f64| if set.scoring == Scoring::Mc2 { json!(value) } else { json!(value as u8) };
        json!({
            "index": set.items[place].index,
            "log_likelihoods": scores[place].log_likelihoods,
            "correct": value(Metric::Accuracy, place).map(whole),
            "correct_norm": value(Metric::AccNorm, place).map(whole),
        })
    })
}

fn summary(task: &str, set: &EvalSet, scores: &[ItemScore], seconds: f64) -> serde_json::Value {
    let mut summary = json!({ "task": task, "items": set.items.len() });
    let names = [
        ("acc", Metric::Accuracy),
        ("acc_norm", Metric::AccNorm),
        ("choice_nll", Metric::ChoiceNll),
        ("choice_nll_norm", Metric::ChoiceNllNorm),
        ("perplexity", Metric::Perplexity),
        ("word_perplexity", Metric::WordPerplexity),
        ("byte_perplexity", Metric::BytePerplexity),
    ];
    for (name, metric) in names.into_iter().filter(|(_, metric)| metric.applies_to(set.scoring)) {
        let estimate = metric.estimate(&metric.contributions(set, scores));
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
            println!(
                "  {name:<16} {:.4} ± {:.4}",
                value.as_f64().unwrap_or(f64::NAN),
                stderr.as_f64().unwrap_or(f64::NAN)
            );
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
