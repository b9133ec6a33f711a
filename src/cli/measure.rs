//! `criadero measure`: a throughput table, checked against whole networks.

use std::path::PathBuf;

use criadero::count::{Items, Threads};
use criadero::output::Output;
use criadero::run::{cores, measure_with_progress};
use criadero::throughput::{LatencyOptions, Phase, PhaseTable, ThroughputTable, key_here};

use serde_json::{Value, json};

use super::arguments::file_of;
use super::model::{self, DeviceArgs, load, open_space, with_int8};
use super::next::Done;
use super::progress::Listener;

/// Measure what reading prompts and writing tokens takes, for every network of a space
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  criadero measure SUPERNET --space SPACE.yaml --out table.json\n  \
                  criadero measure SUPERNET --space SPACE.yaml --phase prefill:1024 --out prompts.json")]
#[command(mut_arg("arithmetic", with_int8))]
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
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = Items::parse)]
    rounds: usize,
    /// libtorch threads; all cores by default
    #[arg(long, value_name = "N", value_parser = Threads::parse)]
    threads: Option<usize>,
    /// Where the table goes, as JSON
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace a file that is there and is no table
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Measure {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let checkpoint = model::open(&self.model)?;
        let (space, _) = open_space(&self.space, &checkpoint)?;
        let output =
            Output::of("measure").reading(checkpoint.path()).reading_all(file_of(&self.space)).forced(self.force);
        let mut file = output.file(&self.out, &|path| ThroughputTable::read(path).is_ok())?;
        let model = load(&checkpoint, &self.device)?;
        let key = key_here(&model, checkpoint.digest()?, &space, self.threads.unwrap_or_else(cores));
        let options = LatencyOptions {
            phases: self.phases.clone(),
            random_networks: self.random,
            check_networks: self.checks,
            rounds: self.rounds,
        };
        let listener = Listener::new("throughput");
        let table = measure_with_progress(&model, &space, options, key, &mut |progress| listener.hear(progress))?;
        listener.finish();
        file.write(table.to_json().as_bytes())?;
        file.publish()?;
        if self.json {
            println!(
                "{:#}",
                json!({ "table": self.out, "phases": table.phases.iter().map(as_json).collect::<Vec<_>>() })
            );
            return Ok(());
        }
        for phase in &table.phases {
            print(phase);
        }
        println!("written: {}", self.out.display());
        let speeds = speeds(&self.phases);
        Done::Measured { table: &self.out, model: &self.model, space: &self.space, speeds }.say_next();
        Ok(())
    }
}

/// Objectives that a table of these phases is good for.
fn speeds(phases: &[Phase]) -> Vec<&'static str> {
    let prefill = phases.iter().any(|phase| matches!(phase, Phase::Prefill { .. }));
    let decode = phases.iter().any(|phase| matches!(phase, Phase::Decode { sequences: 1, .. }));
    let all = [(prefill && decode, "latency_ms"), (prefill, "prefill_tps"), (decode, "decode_tps")];
    all.into_iter().filter(|(known, _)| *known).map(|(_, name)| name).collect()
}

/// A fitted time; none that is found is no time of zero.
fn milliseconds(ms: f64) -> String {
    if ms < 0.0005 { "too little to tell".into() } else { format!("{ms:.3} ms") }
}

/// What was fitted, and how good the fit is.
fn as_json(table: &PhaseTable) -> Value {
    json!({
        "phase": table.phase,
        "times": table.times,
        "mean_error": table.mean_error(),
        "kendall_tau": table.kendall_tau(),
        "checks": table.checks,
    })
}

fn print(table: &PhaseTable) {
    println!("{}: {} for embedding, output matrix and launch", table.phase, milliseconds(table.times.constant_ms));
    for (what, times) in [("heads", &table.times.heads_ms), ("channels", &table.times.mlp_ms)] {
        let times: Vec<String> = times.iter().map(|(width, ms)| format!("{width}: {}", milliseconds(*ms))).collect();
        println!("  a half layer by {what}: {}", times.join(", "));
    }
    for check in &table.checks {
        println!("  {:>10.2} ms measured, {:>10.2} predicted: {}", check.measured_ms, check.predicted_ms, check.genome);
    }
}
