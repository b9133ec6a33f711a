//! `criadero plan`: peak memory and disk of every kind of work, before any of it.

use std::path::PathBuf;

use anyhow::bail;
use criadero::arithmetic::Arithmetic;
use criadero::checkpoint::{Dtype, LayerTensor, LlamaConfig, synthetic};
use criadero::count::{Items, Tokens, Workers};
use criadero::plan::activations::Trained;
use criadero::plan::disk::{Disk, disk};
use criadero::plan::evaluation::{self, Scoring};
use criadero::plan::footprint::largest_that_fits;
use criadero::plan::training::{self, Training};
use criadero::plan::{Footprint, Numbers, Part, available};
use criadero::run::cores;
use criadero::space::{Bits, BlockWeights, Genome, SearchSpace};
use serde_json::json;

use super::model::{self, DeviceArgs, blocks_of, ends_in, with_int8};
use super::verbosity::Verbosity;

/// Batches beyond this are not tried.
const MOST_SEQUENCES: usize = 1 << 16;
/// Nor chunks beyond this.
const MOST_TOKENS: usize = 1 << 20;
const MEBIBYTE: f64 = 1_048_576.0;

/// Say how much memory evaluation, search, tune and distill need, the largest batch that fits, and the disk that training takes
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  criadero plan SUPERNET --space SPACE.yaml\n  \
                  criadero plan --space llama2-7b --device cuda --memory 80")]
#[command(mut_arg("arithmetic", with_int8))]
pub struct Plan {
    /// Checkpoint: an HF directory, a GGUF file, or `smollm2-135m`; only its sizes are read. Without one the space's shape is
    /// that of the model
    #[arg(required_unless_present = "space")]
    model: Option<PathBuf>,
    /// The space: a YAML file or a shipped name; the whole model where there is none
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// Memory to plan for; by default what the machine has free
    #[arg(long, value_name = "GB")]
    memory: Option<f64>,
    /// Tokens of a scored chunk
    #[arg(long, value_name = "TOKENS", default_value_t = 1024, value_parser = Tokens::parse)]
    chunk_tokens: usize,
    /// Worker threads of a search
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = Workers::parse)]
    workers: usize,
    /// Budget of the hidden states that a search keeps
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    cache: u64,
    /// Tokens of a training sequence
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = Tokens::parse)]
    length: usize,
    /// Sequences that share a forward pass
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = Items::parse)]
    batch: usize,
    /// Rank of adapters
    #[arg(long, value_name = "RANK", default_value_t = 16, value_parser = Items::parse)]
    lora: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// One kind of work.
struct Row {
    name: &'static str,
    footprint: Footprint,
    /// The largest batch that fits, in `unit`s.
    largest: usize,
    unit: Unit,
    /// What training takes on disk.
    disk: Option<Disk>,
}

/// What of a checkpoint decides what it takes in memory, beside its sizes.
#[derive(Clone, Copy)]
struct Stored {
    is_bf16: bool,
    /// Weights of matrices corrected for narrower widths.
    corrected: u64,
}

/// What a batch is counted in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    /// Tokens of a chunk.
    Tokens,
    /// Training sequences.
    Sequences,
}

impl Plan {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let space = self.space.as_deref().map(SearchSpace::open).transpose()?;
        let checkpoint = self.model.as_deref().map(model::open).transpose()?;
        let config = &match (&checkpoint, &space) {
            (Some(checkpoint), _) => checkpoint.config().clone(),
            (None, Some(space)) => synthetic::config(*space.shape(), Dtype::BF16),
            (None, None) => bail!("give a model or a space"),
        };
        let corrected = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.corrections().weights());
        let is_bf16 = checkpoint.is_none_or(|checkpoint| checkpoint.is_bf16());
        let stored = Stored { is_bf16, corrected };
        if let Some(space) = &space {
            space.check_fits(&config.shape)?;
        }
        let budget = self.budget()?;
        let rows = self.rows(config, stored, space.as_ref(), budget);
        if self.json {
            println!("{}", serde_json::to_string_pretty(&self.as_json(&rows, budget))?)
        } else {
            self.print(&rows, budget)
        }
        Ok(())
    }

    /// Bytes that may be filled.
    fn budget(&self) -> anyhow::Result<u64> {
        let card = self.device.is_card();
        if self.memory.is_none() && card && self.device.free_memory().is_none() {
            bail!("no such card is here to ask; give its free memory with --memory GB")
        }
        if !card && self.device.name() != "cpu" {
            bail!("no such device to plan for; there are: cpu, cuda")
        }
        let given = self.memory.map(|gigabytes| (gigabytes * 1e9) as u64);
        let free = || if card { self.device.free_memory() } else { available() };
        Ok(given.or_else(free).unwrap_or(u64::MAX))
    }

    /// One row an activity.
    fn rows(&self, config: &LlamaConfig, stored: Stored, space: Option<&SearchSpace>, budget: u64) -> [Row; 9] {
        let Stored { is_bf16, corrected } = stored;
        let largest: Genome = space.map_or_else(|| config.genome.clone(), SearchSpace::largest);
        let blocks = space.map_or_else(BlockWeights::default, SearchSpace::block_weights);
        let numbers = self.device.numbers();
        let beside = evaluation::beside_float32(config, numbers, is_bf16, corrected);
        // Nothing learns in int8, and what is in blocks is not multiplied in it.
        let learning = if numbers == Numbers::Cpu(Arithmetic::Int8) { Numbers::Cpu(Arithmetic::Bf16) } else { numbers };
        let scoring = |name, networks, workers, cache, blocks, numbers| {
            let of = |chunk_tokens: usize| {
                evaluation::footprint(
                    config,
                    Scoring { chunk_tokens, workers, networks, cache, blocks, numbers, beside, corrected },
                )
            };
            let largest = largest_that_fits(budget, MOST_TOKENS, of);
            Row { name, footprint: of(self.chunk_tokens), largest, unit: Unit::Tokens, disk: None }
        };
        let training = |name, trained: Trained, taught, recompute, teacher| {
            // What a distillation trains is written first, as the search left it.
            let disk = Some(disk(config, &trained, corrected, teacher > 0));
            let of = |sequences: usize| {
                let (trained, tokens) = (trained.clone(), sequences * self.length);
                let training = Training { tokens, trained, taught, recompute, numbers: learning, corrected };
                training::footprint(config, &largest, &training, teacher)
            };
            let largest = largest_that_fits(budget, MOST_SEQUENCES, of);
            Row { name, footprint: of(self.batch), largest, unit: Unit::Sequences, disk }
        };
        let adapters = || Trained::Adapters(self.lora, LayerTensor::matrices().collect());
        let parent = evaluation::weights(config, corrected, learning);
        let whole = config.genome.in_bits(Bits::Q4_0).with_ends(ends_in(&config.shape, Bits::Q4_0));
        let in_4_bits = blocks_of(config, [&whole]);
        [
            scoring("eval", 1, if self.device.is_card() { 1 } else { cores() }, 0, blocks, numbers),
            scoring("search", 2, self.workers, self.cache << 20, blocks, numbers),
            scoring("quantize (a front in 4 bits)", 2, 1, 0, in_4_bits, learning),
            training("tune, instatune", Trained::Full, false, false, 0),
            training("tune, sandwich", Trained::Full, true, false, 0),
            training("tune, sandwich, recompute", Trained::Full, true, true, 0),
            training("tune, sandwich, LoRA", adapters(), true, false, 0),
            training("tune, sandwich, LoRA, recompute", adapters(), true, true, 0),
            training("distill (the largest network)", Trained::Full, true, false, parent),
        ]
    }

    /// How quantized matrices are multiplied.
    fn products(&self) -> &'static str {
        if self.device.is_card() {
            "where kernels run, Q8_0 of layers kept as int8 and made into bfloat16 for each product; others and the ends kept as the values of \
             their blocks; all multiplied in bfloat16"
        } else {
            "kept as the values of their blocks, in the arithmetic of the model; bf16 where that is int8"
        }
    }

    fn as_json(&self, rows: &[Row], budget: u64) -> serde_json::Value {
        let row = |row: &Row| {
            json!({
                "work": row.name,
                "peak_bytes": row.footprint.peak(),
                "parts": row.footprint.parts,
                "fits": row.footprint.peak() <= budget,
                "largest_batch": row.largest,
                "batch_of": match row.unit {
                    Unit::Tokens => "tokens",
                    Unit::Sequences => "sequences",
                },
                "disk_peak_bytes": row.disk.as_ref().map(|disk| disk.most.peak()),
                "disk_parts": row.disk.as_ref().map(|disk| &disk.most.parts),
                "disk_end_bytes": row.disk.as_ref().map(|disk| disk.end.peak()),
            })
        };
        json!({ "memory_bytes": budget, "quantized_matrices": self.products(), "work": rows.iter().map(row).collect::<Vec<_>>() })
    }

    /// A table that fits a screen; what each peak is made of is a detail.
    fn print(&self, rows: &[Row], budget: u64) {
        let free = if budget == u64::MAX { "unknown".to_string() } else { mebibytes(budget) };
        println!("memory to plan for: {free}; -v lists what each peak is made of");
        println!("\n{:32}  {:>13}  {:12}  at most", "memory", "peak", "");
        for row in rows {
            let fits = if row.footprint.peak() <= budget { "fits" } else { "does not fit" };
            let most = match (row.unit, row.largest) {
                (_, 0) => "nothing".to_string(),
                (Unit::Tokens, most) => format!("{most} tokens"),
                (Unit::Sequences, most) => format!("{most} x {}", self.length),
            };
            println!("{:32}  {:>13}  {fits:12}  {most}", row.name, mebibytes(row.footprint.peak()));
            self.print_parts(&row.footprint.parts);
        }
        println!("\n{:32}  {:>13}  {:>13}", "disk", "running, killed", "at the end");
        // Schemes write the same.
        let mut written: Vec<&Disk> = Vec::new();
        for (name, disk) in rows.iter().filter_map(|row| Some((row.name, row.disk.as_ref()?))) {
            if !written.contains(&disk) {
                written.push(disk);
                let name = name.replace(", instatune", "").replace(", sandwich", "");
                println!("{name:32}  {:>13}  {:>13}", mebibytes(disk.most.peak()), mebibytes(disk.end.peak()));
                self.print_parts(&disk.most.parts);
            }
        }
        if Verbosity::is_verbose() {
            println!("\nquantized matrices: {}", self.products());
        }
    }

    fn print_parts(&self, parts: &[Part]) {
        if Verbosity::is_verbose() {
            parts.iter().for_each(|part| println!("  {:30}  {:>13}", part.name, mebibytes(part.bytes)));
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    let mebibytes = bytes as f64 / MEBIBYTE;
    if mebibytes < 9.95 { format!("{mebibytes:.1} MiB") } else { format!("{mebibytes:.0} MiB") }
}
