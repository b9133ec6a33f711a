//! How much a command says beside its results and errors: set once, before it runs.

use std::process::Command;
use std::sync::OnceLock;

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Results and errors.
    Quiet,
    /// Notes, progress, and what to do next, too.
    Normal,
    /// What somebody who looks for a fault asks for, too.
    Verbose,
}

/// What was asked for, and whether the command is a step of another one.
static SET: OnceLock<(Verbosity, bool)> = OnceLock::new();

/// Tells a command that it is a step of another one, and how much to say unless its flags do.
const STEP: &str = "CRIADERO_STEP";

/// How much is said.
#[derive(clap::Args)]
pub struct VerbosityArgs {
    /// Print results and errors only: no notes, no progress, no next commands
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say also versions, device and threads, files that are opened, why an arithmetic is chosen, and the seconds of each phase
    #[arg(short, long, global = true)]
    verbose: bool,
}

impl VerbosityArgs {
    /// From now on so much is said.
    ///
    /// # Errors
    /// Where both flags are given: clap sees no conflict where they stand on two sides of a subcommand.
    pub fn set(&self) -> Result<(), &'static str> {
        let step = std::env::var(STEP).ok();
        let verbosity = match [self.quiet, self.verbose] {
            [true, true] => return Err("the argument '--quiet' cannot be used with '--verbose'"),
            [true, false] => Verbosity::Quiet,
            [false, true] => Verbosity::Verbose,
            [false, false] => step.as_deref().map_or(Verbosity::Normal, Verbosity::named),
        };
        let _ = SET.set((verbosity, step.is_some()));
        Ok(())
    }
}

impl Verbosity {
    /// What was set; the usual where nothing was.
    pub fn here() -> Verbosity {
        SET.get().map_or(Verbosity::Normal, |(verbosity, _)| *verbosity)
    }

    /// Whether notes and progress are said.
    pub fn is_quiet() -> bool {
        Verbosity::here() == Verbosity::Quiet
    }

    /// Whether details are said.
    pub fn is_verbose() -> bool {
        Verbosity::here() == Verbosity::Verbose
    }

    /// Whether another command of this program started this one.
    pub fn is_step() -> bool {
        SET.get().is_some_and(|(_, step)| *step)
    }

    /// Has a command of this program say as much as this one, as a step of it.
    pub fn of_step(command: &mut Command) {
        command.env(STEP, Verbosity::here().name());
    }

    fn name(self) -> &'static str {
        match self {
            Verbosity::Quiet => "quiet",
            Verbosity::Normal => "normal",
            Verbosity::Verbose => "verbose",
        }
    }

    fn named(name: &str) -> Verbosity {
        let all = [Verbosity::Quiet, Verbosity::Normal, Verbosity::Verbose];
        all.into_iter().find(|one| one.name() == name).unwrap_or(Verbosity::Normal)
    }
}
