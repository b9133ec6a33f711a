//! `criadero gpu-check`: proves kernels, scores, speed and memory plans on a card, with seeded weights and packed chunks alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use criadero::checkpoint::{Dtype, LlamaConfig, open_model, synthetic};
use criadero::count::{Items, Tokens};
use criadero::eval::{ChunkId, EvalSet, Evaluator, LocalEvaluator, Outcome, PackingOptions, Work, Workers, pack_items};
use criadero::kernels::check::{Sizes, compare, milliseconds};
use criadero::kernels::{Kernels, card_memory, compiler};
use criadero::last_words::last_words;
use criadero::model::Llama;
use criadero::model::device::free_memory;
use criadero::output;
use criadero::plan::Numbers;
use criadero::plan::evaluation::{Scoring, footprint};
use criadero::run::{cores, measure_with_progress};
use criadero::space::{Bits, BlockWeights, Cost, Genome, ModelShape, SearchSpace};
use criadero::task::Item;
use criadero::throughput::{LatencyOptions, Phase, hardware, key_here};
use criadero::versions::versions;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::model::{DataArgs, DeviceArgs};
use super::progress::Listener;

/// Networks that are scored together.
const POPULATION: usize = 8;
/// Sides of the matrices whose product says how fast a device multiplies.
const CARD_PRODUCT: i64 = 8192;
const CPU_PRODUCT: i64 = 512;

/// Prove kernels, scores, speed and memory plans on this machine's card; on the CPU a dry run of small shapes
#[derive(clap::Args)]
pub struct GpuCheck {
    /// Packed chunks to score, as --write-chunks wrote them
    #[arg(long, value_name = "FILE", required_unless_present = "write_chunks")]
    chunks: Option<PathBuf>,
    /// Pack a task with the packaged model's tokenizer into this file, and do nothing else
    #[arg(long, value_name = "FILE", conflicts_with = "chunks")]
    write_chunks: Option<PathBuf>,
    /// Task to pack
    #[arg(long, default_value = "arc_challenge")]
    task: String,
    /// Items to pack; all where nothing is said
    #[arg(long, value_name = "N", value_parser = Items::parse)]
    limit: Option<usize>,
    /// Tokens of a chunk
    #[arg(long, value_name = "TOKENS", default_value_t = 8192, value_parser = Tokens::parse)]
    chunk_tokens: usize,
    /// Directory of gpu-check.json and gpu-check.txt
    #[arg(long, value_name = "DIR", default_value = "results/gpu-check")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    data: DataArgs,
}

/// Everything that was found.
#[derive(Serialize)]
struct Report {
    machine: Vec<(String, String)>,
    rows: Vec<Row>,
}

/// One finding.
#[derive(Serialize)]
struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    goal: Option<Goal>,
    met: Option<bool>,
}

/// What a finding should be.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Report {
    fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str, goal: Option<Goal>) {
        let met = goal.map(|goal| match goal {
            Goal::AtMost(most) => value <= most,
            Goal::AtLeast(least) => value >= least,
        });
        let row = Row { name: name.into(), value, unit, goal, met };
        eprintln!("{}", row.line());
        self.rows.push(row);
    }

    fn text(&self) -> String {
        let machine = self.machine.iter().map(|(what, value)| format!("{what:<58} {value}\n"));
        let rows = self.rows.iter().map(|row| row.line() + "\n");
        machine.chain(rows).collect()
    }
}

impl Row {
    fn line(&self) -> String {
        let goal = match (self.goal, self.met) {
            (Some(Goal::AtMost(most)), Some(met)) => format!("at most {most}: {}", said(met)),
            (Some(Goal::AtLeast(least)), Some(met)) => format!("at least {least}: {}", said(met)),
            _ => String::new(),
        };
        format!("{:<58} {:>12.4} {:<10} {goal}", self.name, self.value, self.unit).trim_end().to_string()
    }
}

fn said(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

/// Two sizes of model, and how much is asked of the device: on the CPU everything is small and no speed is a goal.
struct Scale {
    small: &'static str,
    large: &'static str,
    spaces: &'static [&'static str],
    chunks: usize,
    product: i64,
    phases: [Phase; 2],
    checks: usize,
    goals: bool,
}

impl Scale {
    fn of(device: Device) -> Scale {
        match device {
            Device::Cuda(_) => Scale {
                small: "smollm2-135m",
                large: "llama2-7b",
                spaces: &["llama2-7b-llama-nas", "llama2-7b"],
                chunks: usize::MAX,
                product: CARD_PRODUCT,
                phases: [Phase::Prefill { tokens: 1024 }, Phase::Decode { context: 512, sequences: 8 }],
                checks: 20,
                goals: true,
            },
            _ => Scale {
                small: "tiny",
                large: "tiny",
                spaces: &["tiny"],
                chunks: 1,
                product: CPU_PRODUCT,
                phases: [Phase::Prefill { tokens: 32 }, Phase::Decode { context: 32, sequences: 1 }],
                checks: 4,
                goals: false,
            },
        }
    }

    fn speed(&self, goal: Goal) -> Option<Goal> {
        self.goals.then_some(goal)
    }
}

impl GpuCheck {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        if let Some(file) = &self.write_chunks {
            return self.pack(file);
        }
        let (device, kind) = self.device.open()?;
        let scale = Scale::of(device);
        let file = self.chunks.as_ref().expect("clap asks for it");
        let text = std::fs::read(file).map_err(criadero::Error::io(file))?;
        let set: EvalSet =
            serde_json::from_slice(&text).with_context(|| format!("{}: no packed chunks", file.display()))?;
        let (kernels, note) = Kernels::on(device, kind);
        let mut report = Report { machine: machine(device, &kernels, note.as_deref()), rows: Vec::new() };
        let start = Instant::now();
        if scale.goals {
            report.add("kernels on", f64::from(u8::from(kernels.on_card())), "", Some(Goal::AtLeast(1.0)));
        }
        // The large model comes first: what libtorch takes for it is then all that it has taken.
        let sized = Subject::new(scale.large, &set, &scale, device, kind, &kernels);
        self.step(&mut report, "large model", sized, |report, subject| {
            memory(report, subject)?;
            kernels_against_plain(report, subject, &kernels)?;
            speed(report, subject, &scale)?;
            spaces(report, subject, &scale)?;
            table(report, subject, &scale)
        })?;
        let sized = Subject::new(scale.small, &set, &scale, device, kind, &kernels);
        self.step(&mut report, "small model", sized, |report, subject| {
            kernels_against_plain(report, subject, &kernels)?;
            scores_against_the_cpu(report, subject)
        })?;
        report.add("all of it", start.elapsed().as_secs_f64(), "s", scale.speed(Goal::AtMost(480.0)));
        self.write(&report)?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            println!("{}", report.text());
            println!("written: {}", self.out.join("gpu-check.json").display());
        }
        let missed = report.rows.iter().filter(|row| row.met == Some(false)).count();
        match missed {
            0 => Ok(()),
            _ => bail!("{missed} of {} goals were missed", report.rows.iter().filter(|row| row.met.is_some()).count()),
        }
    }

    /// Runs some checks and writes what is known so far; one that fails is a goal missed, and the others go on.
    fn step(
        &self,
        report: &mut Report,
        name: &str,
        subject: anyhow::Result<Subject>,
        check: impl Fn(&mut Report, &Subject) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let outcome = match subject {
            Ok(subject) => catch_unwind(AssertUnwindSafe(|| check(report, &subject))),
            Err(error) => Ok(Err(error)),
        };
        let reason = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(panic) => Some(last_words(&*panic).unwrap_or("a panic").to_string()),
        };
        if let Some(reason) = reason {
            report.add(format!("{name} failed: {reason}"), 0.0, "", Some(Goal::AtLeast(1.0)));
        }
        self.write(report)
    }

    fn write(&self, report: &Report) -> anyhow::Result<()> {
        output::write(&self.out.join("gpu-check.json"), serde_json::to_vec_pretty(report)?)?;
        Ok(output::write(&self.out.join("gpu-check.txt"), report.text())?)
    }

    fn pack(&self, file: &Path) -> anyhow::Result<()> {
        let checkpoint = open_model("smollm2-135m".as_ref())?;
        let task = self.data.task(&self.task)?;
        let items = task.items(self.limit)?;
        let items: Vec<&Item> = items.iter().collect();
        let max_length = checkpoint.config().positions();
        let packing = PackingOptions { chunk_tokens: self.chunk_tokens, max_length };
        let set = pack_items(task.name(), task.scoring(), &items, &checkpoint.tokenizer()?, packing)?;
        output::write(file, serde_json::to_vec(&set)?)?;
        println!(
            "{}: {} items, {} tokens in {} chunks",
            file.display(),
            set.items.len(),
            set.packed_tokens,
            set.chunks.len()
        );
        Ok(())
    }
}

/// A seeded model on the device, and the chunks for its vocabulary.
struct Subject {
    name: &'static str,
    space: SearchSpace,
    config: LlamaConfig,
    model: Llama,
    set: EvalSet,
    /// Bytes that were free on the card before.
    free_before: Option<u64>,
}

impl Subject {
    fn new(
        name: &'static str,
        set: &EvalSet,
        scale: &Scale,
        device: Device,
        kind: Kind,
        kernels: &Kernels,
    ) -> anyhow::Result<Subject> {
        let space = SearchSpace::shipped(name).with_context(|| format!("no space `{name}`"))?;
        let config = synthetic::config(*space.shape(), Dtype::BF16);
        let free_before = free_memory(device);
        let mut model = Llama::synthesize(config.clone(), 1, device, kind)?;
        model.set_kernels(kernels.clone());
        let mut set = set.clone().folded(space.shape().vocab);
        set.chunks.truncate(scale.chunks);
        set.items.truncate(set.chunks.last().map_or(0, |chunk| chunk.items.end));
        set.packed_tokens = set.chunks.iter().map(|chunk| chunk.tree.len()).sum();
        Ok(Subject { name, space, config, model, set, free_before })
    }
}

fn machine(device: Device, kernels: &Kernels, note: Option<&str>) -> Vec<(String, String)> {
    let mut facts = vec![("hardware".to_string(), hardware(device))];
    if let Device::Cuda(card) = device
        && let Some(memory) = card_memory(card)
    {
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        let text = format!("{:.1} GB, {:.1} free", gigabytes(memory.total), gigabytes(memory.free));
        facts.push(("memory".into(), text));
    }
    facts.extend(versions());
    facts.push(("NVRTC".into(), compiler::version().unwrap_or_else(|error| error)));
    let there = if kernels.on_card() { "on" } else { note.unwrap_or("none: plain operations on both sides") };
    facts.push(("kernels".into(), there.into()));
    facts
}

fn sizes(shape: &ModelShape, rows: usize) -> Sizes {
    let of = |size: usize| size as i64;
    let [d, k, g, e] = [shape.hidden, shape.kv_heads, shape.group(), shape.head_dim].map(of);
    Sizes { d, k, g, e, f: of(shape.mlp), v: of(shape.vocab), r: of(rows) }
}

fn kernels_against_plain(report: &mut Report, subject: &Subject, kernels: &Kernels) -> anyhow::Result<()> {
    let Subject { name, model, set, .. } = subject;
    let batch = model.batch(&set.chunks[0].tree)?;
    let rows = set.chunks[0].targets.rows.len().min(256);
    let sizes = sizes(&model.config().shape, rows);
    for one in compare(kernels, sizes, batch.sight(), model.device(), model.kind()) {
        let operation = one.name;
        report.add(format!("{operation}, {name}: difference"), one.of_bound, "of bound", Some(Goal::AtMost(1.0)));
        report.add(format!("{operation}, {name}: kernel"), one.kernel_ms, "ms", None);
        report.add(format!("{operation}, {name}: plain"), one.plain_ms, "ms", None);
        report.add(format!("{operation}, {name}: gain"), one.plain_ms / one.kernel_ms, "times", None);
    }
    Ok(())
}

/// Log-likelihoods by request, and the seconds that all chunks took behind a warm-up.
fn score(model: &Llama, set: &EvalSet, genomes: &[Genome]) -> anyhow::Result<(f64, Vec<f64>)> {
    let workers = Workers { count: 1, threads: cores() };
    let models = std::slice::from_ref(model);
    let mut evaluator = LocalEvaluator::start(models, vec![set.clone()], workers, 0, Arc::default());
    let work = |chunk| Work { chunk: ChunkId { set: 0, chunk }, genomes: genomes.to_vec() };
    // Every shape once, on nobody's clock.
    evaluator.evaluate((0..set.chunks.len()).map(work).collect(), &mut |_| Ok(()))?;
    let start = Instant::now();
    let mut found = Vec::new();
    evaluator.evaluate((0..set.chunks.len()).map(work).collect(), &mut |partial| {
        found.push((partial.chunk, partial.genome, partial.outcome));
        Ok(())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let mut likelihoods = Vec::new();
    for (chunk, genome, outcome) in found {
        match outcome {
            Outcome::Scored(items) => likelihoods.extend(items.into_iter().flat_map(|item| item.log_likelihoods)),
            Outcome::Failed(reason) => bail!("chunk {}, {genome}: {reason}", chunk.chunk),
        }
    }
    Ok((seconds, likelihoods))
}

fn scores_against_the_cpu(report: &mut Report, subject: &Subject) -> anyhow::Result<()> {
    let Subject { name, space, config, model, set, .. } = subject;
    let mut set = set.clone();
    set.chunks.truncate(1);
    let largest = space.largest();
    let sampled = space.sample(&mut ChaCha8Rng::seed_from_u64(1));
    let genomes = [sampled, largest.in_bits(Bits::Q8_0), largest.in_bits(Bits::Q4_0), largest];
    let cpu = Llama::synthesize(config.clone(), 1, Device::Cpu, Kind::Float)?;
    let (_, exact) = score(&cpu, &set, &genomes)?;
    let (_, ours) = score(model, &set, &genomes)?;
    let requests = set.chunks[0].requests.iter().flatten();
    let tokens: Vec<f64> = requests.map(|pairs| pairs.len() as f64).collect();
    let apart = exact.iter().zip(&ours).zip(tokens.iter().cycle()).map(|((a, b), tokens)| (a - b).abs() / tokens);
    let (sum, most) = apart.fold((0.0, 0.0_f64), |(sum, most), one| (sum + one, most.max(one)));
    let mean = sum / exact.len() as f64;
    // bfloat16 keeps 8 bits: half a percent of log-probabilities of about 10, less where errors cancel.
    report.add(format!("log-probability against the CPU, {name}: mean"), mean, "nats", Some(Goal::AtMost(0.02)));
    report.add(format!("log-probability against the CPU, {name}: most"), most, "nats", None);
    Ok(())
}

fn table(report: &mut Report, subject: &Subject, scale: &Scale) -> anyhow::Result<()> {
    let Subject { name, space, model, .. } = subject;
    let options =
        LatencyOptions { phases: scale.phases.to_vec(), check_networks: scale.checks, ..LatencyOptions::default() };
    let key = key_here(model, "seeded".into(), space, cores());
    let listener = Listener::new("throughput");
    let table = measure_with_progress(model, space, options, key, &mut |progress| listener.hear(progress))?;
    listener.finish();
    for phase in &table.phases {
        let (error, tau) = (100.0 * phase.mean_error(), phase.kendall_tau());
        let what = format!("throughput table, {name}, {}", phase.phase);
        report.add(format!("{what}: mean error"), error, "%", scale.speed(Goal::AtMost(5.0)));
        report.add(format!("{what}: Kendall tau"), tau, "", scale.speed(Goal::AtLeast(0.95)));
    }
    Ok(())
}

/// What scoring networks takes of the card, against what `plan` says.
fn memory(report: &mut Report, subject: &Subject) -> anyhow::Result<()> {
    let Subject { name, space, config, model, set, free_before } = subject;
    score(model, set, &population(space))?;
    if let (Some(before), Some(after)) = (free_before, free_memory(model.device())) {
        let chunk_tokens = set.chunks.iter().map(|chunk| chunk.tree.len()).max().unwrap_or(0);
        let scoring = Scoring {
            chunk_tokens,
            workers: 1,
            networks: POPULATION,
            cache: 0,
            blocks: BlockWeights::default(),
            numbers: Numbers::Card,
            beside: 0,
            corrected: 0,
        };
        let planned = footprint(config, scoring).peak() as f64;
        let taken = before.saturating_sub(after) as f64;
        report.add(format!("memory taken by libtorch, {name}"), taken / 1e9, "GB", None);
        report.add(format!("memory planned, {name}"), planned / 1e9, "GB", None);
        report.add(format!("memory taken of planned, {name}"), taken / planned, "", None);
    }
    Ok(())
}

fn population(space: &SearchSpace) -> Vec<Genome> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    (0..POPULATION).map(|_| space.sample(&mut rng)).collect()
}

/// The evaluator against the device's rate at large products, with kernels and without.
fn speed(report: &mut Report, subject: &Subject, scale: &Scale) -> anyhow::Result<()> {
    let Subject { name, config, model, set, .. } = subject;
    let side = scale.product;
    let square = || Tensor::randn([side, side], (Kind::Float, model.device())).to_kind(model.kind());
    let (a, b) = (square(), square());
    let product_ms = milliseconds(model.device(), &|| drop(a.matmul(&b)));
    let rate = 2.0 * (side as f64).powi(3) / (product_ms / 1e3);
    report.add(format!("product of {side} x {side}"), rate / 1e12, "TFLOP/s", None);

    let parent = [config.genome.clone()];
    let mut plain = model.share();
    plain.set_kernels(Kernels::none());
    let (plain_seconds, without) = score(&plain, set, &parent)?;
    let (seconds, with) = score(model, set, &parent)?;
    let rows: usize = set.chunks.iter().map(|chunk| chunk.targets.rows.len()).sum();
    let work = operations(&config.shape, set.packed_tokens, rows);
    let tokens = set.packed_tokens as f64;
    let evaluator = format!("evaluator, {name}: {} items, {tokens} packed tokens", set.items.len());
    report.add(evaluator, tokens / seconds, "tokens/s", None);
    let fraction = work / seconds / rate;
    report.add(format!("evaluator, {name}: of the product's rate"), fraction, "", scale.speed(Goal::AtLeast(0.6)));
    let gain = plain_seconds / seconds;
    report.add(format!("forward with kernels, {name}: gain"), gain, "times", scale.speed(Goal::AtLeast(1.15)));
    report.add(format!("one candidate at full fidelity, {name}"), seconds, "s", scale.speed(Goal::AtMost(2.0)));
    let apart = with.iter().zip(&without).map(|(a, b)| (a - b).abs()).sum::<f64>() / with.len() as f64;
    report.add(format!("log-likelihood with kernels and without, {name}: mean"), apart, "nats", None);
    Ok(())
}

/// Populations of the shipped spaces.
fn spaces(report: &mut Report, subject: &Subject, scale: &Scale) -> anyhow::Result<()> {
    for name in scale.spaces {
        let space = SearchSpace::shipped(name).with_context(|| format!("no space `{name}`"))?;
        let (seconds, _) = score(&subject.model, &subject.set, &population(&space))?;
        let networks = format!("{POPULATION} networks of {name} together");
        report.add(networks, seconds / POPULATION as f64, "s each", None);
    }
    Ok(())
}

/// Floating-point operations of a forward pass, matrix products alone: all tokens through the layers, `rows` through the head.
fn operations(shape: &ModelShape, tokens: usize, rows: usize) -> f64 {
    let Cost { params, .. } = Cost::of(shape, &shape.parent());
    let head = (shape.vocab * shape.hidden) as f64;
    let outside = if shape.tied { head } else { 2.0 * head };
    let norms = ((2 * shape.layers + 1) * shape.hidden) as f64;
    2.0 * ((params as f64 - outside - norms) * tokens as f64 + head * rows as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_operations_of_llama() {
        let shape = *SearchSpace::shipped("llama2-7b").unwrap().shape();
        // 32 layers of 4 x 4096² + 3 x 4096 x 11008 weights.
        let layers = 32.0 * (4.0 * 4096.0 * 4096.0 + 3.0 * 4096.0 * 11008.0);
        assert_eq!(operations(&shape, 10, 3), 2.0 * (10.0 * layers + 3.0 * 32000.0 * 4096.0));
    }

    #[test]
    fn a_missed_goal_is_said() {
        let mut report = Report { machine: vec![("card".into(), "none".into())], rows: Vec::new() };
        report.add("speed", 1.0, "times", Some(Goal::AtLeast(1.15)));
        report.add("error", 0.5, "of bound", Some(Goal::AtMost(1.0)));
        let text = report.text();
        assert!(text.contains("at least 1.15: MISSED") && text.contains("at most 1: met"), "{text}");
    }
}
