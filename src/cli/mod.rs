//! The command line: one file a subcommand, the only place with clap, anyhow and printing.

use clap::{Parser, Subcommand};

/// As the standard ones, where an output that takes no more is an error and no panic.
macro_rules! println {
    () => { $crate::cli::said::out(format_args!("\n")) };
    ($($text:tt)*) => { $crate::cli::said::out(format_args!("{}\n", format_args!($($text)*))) };
}
macro_rules! print {
    ($($text:tt)*) => { $crate::cli::said::out(format_args!($($text)*)) };
}
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::cli::said::err(format_args!($($text)*)) };
}

mod arguments;
mod calibration;
mod distill;
mod eval;
mod export;
mod fault;
mod fetch;
mod generate;
mod gpu_check;
mod inspect;
mod interrupt;
mod measure;
mod merge;
mod model;
mod picked;
mod plan;
mod plot;
mod progress;
mod quantize;
mod rank;
pub mod said;
mod search;
mod show;
mod shrink;
mod space;
mod synthesize;
mod tasks;
mod train;
mod tune;

pub use interrupt::handle_signals;

/// Breed small LLaMAs from a large one: rank, tune, search, plot, export.
#[derive(Parser)]
#[command(name = "criadero", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Shrink(shrink::Shrink),
    Space(space::Space),
    Tasks(tasks::Tasks),
    Inspect(inspect::Inspect),
    Plan(plan::Plan),
    Rank(rank::Rank),
    Tune(tune::Tune),
    Eval(eval::Eval),
    Measure(measure::Measure),
    Search(search::Search),
    Show(show::Show),
    Plot(plot::Plot),
    Quantize(quantize::Quantize),
    Distill(distill::Distill),
    Merge(merge::Merge),
    Export(export::Export),
    Generate(generate::Generate),
    Synthesize(synthesize::Synthesize),
    Fetch(fetch::Fetch),
    GpuCheck(gpu_check::GpuCheck),
}

impl Cli {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// Whatever it could not do, panics included.
    pub fn run(self) -> anyhow::Result<()> {
        fault::guarded(|| self.command.run())
    }
}

impl Command {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Command::Shrink(shrink) => shrink.run(),
            Command::Export(export) => export.run(),
            Command::Generate(generate) => generate.run(),
            Command::Synthesize(synthesize) => synthesize.run(),
            Command::Fetch(fetch) => fetch.run(),
            Command::GpuCheck(check) => check.run(),
            Command::Space(space) => space.run(),
            Command::Tasks(tasks) => tasks.run(),
            Command::Inspect(inspect) => inspect.run(),
            Command::Plan(plan) => plan.run(),
            Command::Rank(rank) => rank.run(),
            Command::Tune(tune) => tune.run(),
            Command::Quantize(quantize) => quantize.run(),
            Command::Distill(distill) => distill.run(),
            Command::Merge(merge) => merge.run(),
            Command::Eval(eval) => eval.run(),
            Command::Measure(measure) => measure.run(),
            Command::Search(search) => search.run(),
            Command::Show(show) => show.run(),
            Command::Plot(plot) => plot.run(),
        }
    }
}
