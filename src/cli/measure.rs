//! `criadero measure`: a throughput table, checked against whole networks.

use std::path::PathBuf;

use criadero::kernels::card_name;
use criadero::model::Llama;
use criadero::space::SearchSpace;
use criadero::throughput::{LatencyOptions, Phase, PhaseTable, TableKey, ThroughputTable, processor, space_digest};
use tch::Device;

use super::eval::default_threads;
use super::model::{DeviceArgs, device_of, load, open_checkpoint, open_space, versions};
use super::progress::Bar;
use super::search::positive;

/// Measure what reading prompts and writing tokens takes, for every network of a space
#[derive(clap::Args)]
pub struct Measure {
    /// Supernet or any checkpoint
    model: PathBuf,
    /// The space whose networks are timed: a YAML file or a shipped name
    #[arg(long, value_name = "SPACE")]
    space: String,
    /// What is timed: `prefill:TOKENS` or `decode:CONTEXTxSEQUENCES`; more than one may be given. The first of each kind
    /// is what the objectives mean
    #[arg(long = "phase", value_name = "PHASE", default_values = ["prefill:256", "decode:256x1"])]
    phases: Vec<Phase>,
    /// Networks, evenly spread from the smallest to the largest, that the table is checked against
    #[arg(long, value_name = "N", default_value_t = 20)]
    checks: usize,
    /// Random networks that it is fitted to, beside the systematic ones
    #[arg(long, value_name = "N", default_value_t = 24)]
    random: usize,
    /// Timings of each network; their median counts
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = positive)]
    rounds: usize,
    /// libtorch threads; all cores by default
    #[arg(long, value_name = "N", value_parser = positive)]
    threads: Option<usize>,
    /// Where the table goes, as JSON
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Measure {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let checkpoint = open_checkpoint(&self.model)?;
        let (space, _) = open_space(&self.space, &checkpoint)?;
        let model = load(&checkpoint, &self.device)?;
        let key = table_key(checkpoint.digest()?, &model, &space, self.threads.unwrap_or_else(default_threads));
        let options = LatencyOptions {
            phases: self.phases.clone(),
            random_networks: self.random,
            check_networks: self.checks,
            rounds: self.rounds,
        };
        let table = measure_table(&model, &space, options, key)?;
        table.write(&self.out)?;
        for phase in &table.phases {
            print(phase);
        }
        println!("written: {}", self.out.display());
        Ok(())
    }
}

/// What does a device's work: the card by its name, or the processor.
pub fn hardware_of(device: Device) -> String {
    match device {
        Device::Cuda(card) => card_name(card).unwrap_or_else(|| format!("card {card}")),
        _ => processor(),
    }
}

/// What a table measured here and now is good for.
pub fn table_key(model_digest: String, model: &Llama, space: &SearchSpace, threads: usize) -> TableKey {
    TableKey {
        device: device_of(model),
        hardware: hardware_of(model.device()),
        threads,
        model_digest,
        space_digest: space_digest(space),
        graphs: false,
        kernels: model.kernels().are_there(),
        versions: versions(),
    }
}

/// Measures a table under a bar, and says how good it is.
pub fn measure_table(
    model: &Llama,
    space: &SearchSpace,
    options: LatencyOptions,
    key: TableKey,
) -> anyhow::Result<ThroughputTable> {
    if space.quantizes() {
        let products = match model.kernels().are_there() {
            true => "bfloat16 products on values that are kept, for Q8_0 made before each product, which is not timed",
            false => "products on values that are kept in the kind of the weights, as fast as unquantized ones",
        };
        eprintln!("note: quantized networks are timed as unquantized ones: {products}");
    }
    let bar = Bar::new("throughput", 0);
    let table = ThroughputTable::measure(model, space, options, key, &mut |done, total| bar.set(done, total))?;
    bar.finish();
    for phase in &table.phases {
        eprintln!(
            "{}: mean error {:.1} % and Kendall tau {:.2} on {} networks it was not fitted to",
            phase.phase,
            100.0 * phase.mean_error(),
            phase.kendall_tau(),
            phase.checks.len()
        );
    }
    Ok(table)
}

fn print(table: &PhaseTable) {
    println!("{}: {:.3} ms for embedding, output matrix and launch", table.phase, table.times.constant_ms);
    for (what, times) in [("heads", &table.times.heads_ms), ("channels", &table.times.mlp_ms)] {
        let times: Vec<String> = times.iter().map(|(width, ms)| format!("{width}: {ms:.3} ms")).collect();
        println!("  a half layer by {what}: {}", times.join(", "));
    }
    for check in &table.checks {
        println!("  {:>10.2} ms measured, {:>10.2} predicted: {}", check.measured_ms, check.predicted_ms, check.genome);
    }
}
