//! A step of a shrinking: an ordinary command, how long it takes, and what shows that it is done.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use criadero::checkpoint::Checkpoint;
use criadero::model::supernet::SupernetCard;
use criadero::output;
use criadero::run::{Front, command_line};
use criadero::tune::run::TuneRun;

use super::super::verbosity::Verbosity;

/// What a step leaves.
#[derive(Clone, Debug, PartialEq)]
pub enum Product {
    /// A ranked checkpoint.
    Supernet(PathBuf),
    /// A trained checkpoint.
    Trained(PathBuf),
    /// A finished search.
    Run(PathBuf),
    /// An exported network.
    Network(PathBuf),
    /// What the command prints, which is JSON.
    Json(PathBuf),
    /// A file that is written whole.
    File(PathBuf),
}

impl Product {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        match self {
            Product::Supernet(path)
            | Product::Trained(path)
            | Product::Run(path)
            | Product::Network(path)
            | Product::Json(path)
            | Product::File(path) => path,
        }
    }

    /// Whether it is there to the end.
    pub fn is_whole(&self) -> bool {
        match self {
            Product::Supernet(dir) => SupernetCard::read(dir).is_ok_and(|card| card.is_some()),
            Product::Trained(dir) => TuneRun::ended_in(dir),
            Product::Run(dir) => Front::read_json(&dir.join("front.json")).is_ok(),
            Product::Network(path) => Checkpoint::open(path).is_ok(),
            Product::Json(path) => {
                File::open(path).is_ok_and(|file| serde_json::from_reader::<_, serde_json::Value>(file).is_ok())
            }
            Product::File(path) => path.is_file(),
        }
    }
}

/// One command of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What it is called.
    pub name: &'static str,
    /// The words behind `criadero`.
    pub arguments: Vec<String>,
    /// What it leaves.
    pub product: Product,
    /// About how long it takes.
    pub seconds: f64,
    /// What that follows from.
    pub reckoned: String,
}

impl Step {
    /// The line to paste.
    pub fn line(&self) -> String {
        let words: Vec<String> =
            std::iter::once("criadero".to_string()).chain(self.arguments.iter().cloned()).collect();
        match self.printed_to() {
            Some(path) => format!("{} > {}", command_line(&words), command_line(&[path.display().to_string()])),
            None => command_line(&words),
        }
    }

    /// Where what it prints goes, if not to the terminal.
    fn printed_to(&self) -> Option<&Path> {
        matches!(self.product, Product::Json(_)).then(|| self.product.path())
    }

    /// Runs the line.
    ///
    /// What it prints goes beside, where the result is one JSON object.
    ///
    /// # Errors
    /// Where it fails, or does not leave what it should.
    pub fn run(&self, json: bool) -> anyhow::Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(&self.arguments).stdin(Stdio::null());
        Verbosity::of_step(&mut command);
        die_together(&mut command);
        let status = match self.printed_to() {
            None if Verbosity::is_quiet() => command.stdout(Stdio::null()).status()?,
            None if json => command.stdout(std::io::stderr()).status()?,
            None => command.status()?,
            Some(path) => {
                let mut child = command.stdout(Stdio::piped()).spawn()?;
                let mut printed = Vec::new();
                child.stdout.take().context("its output is piped")?.read_to_end(&mut printed)?;
                let status = child.wait()?;
                if status.success() {
                    output::write(path, printed)?;
                }
                status
            }
        };
        if !status.success() {
            bail!("the step `{}` ended with {status}; once it can go on, the same command goes on with it", self.name);
        }
        if !self.product.is_whole() {
            bail!("the step `{}` ended, and what it should have left is not there", self.name);
        }
        Ok(())
    }
}

/// A command that goes on when this process was killed would still write where the next attempt does.
#[cfg(target_os = "linux")]
fn die_together(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let parent = std::process::id();
    let ask = move || {
        // SAFETY: both calls are safe between fork and exec.
        let asked = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
        // It may have died before.
        let alone = unsafe { libc::getppid() } as u32 != parent;
        if asked != 0 || alone { Err(std::io::Error::other("this process is ending")) } else { Ok(()) }
    };
    // SAFETY: what runs there allocates nothing unless it fails.
    unsafe { command.pre_exec(ask) };
}

#[cfg(not(target_os = "linux"))]
fn die_together(_: &mut Command) {}
