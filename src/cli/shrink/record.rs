//! `shrink.json`: what was asked for, and on what kind of machine.

use std::io::ErrorKind;
use std::path::Path;

use criadero::Error;
use criadero::differences::differences;
use criadero::output::{self, Seal};
use serde::{Deserialize, Serialize};

use super::effort::Effort;
use super::machine::Machine;

/// Its name in the directory.
pub const FILE: &str = "shrink.json";
/// The version that this program writes.
const FORMAT: u32 = 1;

/// What decides what a shrinking does; where the model lies does not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// BLAKE3 of the model.
    pub model_digest: String,
    /// The limits.
    pub to: Vec<String>,
    /// The tasks.
    pub tasks: Vec<String>,
    /// How much is taken on.
    pub effort: Effort,
    /// Seconds that were allowed; `None` for what the effort allows.
    pub seconds: Option<f64>,
    /// The space, where one was given.
    pub space: Option<String>,
    /// The supernet, where one was given.
    pub supernet: Option<String>,
    /// The text that is ranked by and trained on.
    pub text: String,
    /// How the network is exported.
    pub format: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// Flags of the device.
    pub device: Vec<String>,
}

/// The content of `shrink.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// What was asked for.
    pub request: Request,
    /// The machine when it was.
    pub machine: Machine,
}

impl Record {
    /// A request on this machine.
    pub fn new(request: Request, machine: Machine) -> Record {
        Record { format: FORMAT, request, machine }
    }

    /// The record of a directory; `None` where there is none yet.
    ///
    /// # Errors
    /// A file that cannot be read, and [`Error::OtherRun`] where the request was another.
    pub fn of(dir: &Path, request: &Request) -> criadero::Result<Option<Record>> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        let json = Seal::open(&path, FILE, &text, "give another --out")?;
        let record: Record =
            serde_json::from_slice(&json).map_err(|error| Error::format(&path, FILE, error.to_string()))?;
        if record.format != FORMAT {
            let reason = format!("format {} is another criadero's; this one reads {FORMAT}", record.format);
            return Err(Error::format(&path, FILE, reason));
        }
        let differences = differences(&record.request, request);
        if differences.is_empty() { Ok(Some(record)) } else { Err(Error::OtherRun { dir: dir.into(), differences }) }
    }

    /// Writes it, atomically.
    ///
    /// # Errors
    /// A directory that cannot be written to.
    pub fn write(&self, dir: &Path) -> criadero::Result<()> {
        let json = serde_json::to_string_pretty(self).expect("it is plain data");
        output::write(&dir.join(FILE), Seal::put(&(json + "\n")))
    }
}
