//! The command line: one file a subcommand, the only place with clap, anyhow and printing.

use clap::{Parser, Subcommand};

mod eval;
mod export;
mod inspect;
mod model;
mod plot;
mod progress;
mod rank;
mod search;

/// Breed small LLaMAs from a large one: rank, search, plot, export.
#[derive(Parser)]
#[command(name = "criadero", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inspect(inspect::Inspect),
    Rank(rank::Rank),
    Eval(eval::Eval),
    Search(search::Search),
    Plot(plot::Plot),
    Export(export::Export),
}

impl Cli {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Export(export) => export.run(),
            Command::Inspect(inspect) => inspect.run(),
            Command::Rank(rank) => rank.run(),
            Command::Eval(eval) => eval.run(),
            Command::Search(search) => search.run(),
            Command::Plot(plot) => plot.run(),
        }
    }
}
