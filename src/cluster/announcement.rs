//! What workers must know of a run before they take its tasks.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::string_slice, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::numeric_class::NumericClass;
use super::shared_model::SharedModel;
use super::word::is_hexadecimal;
use crate::differences::differences;
use crate::error::{Error, Result};
use crate::output::{self, Seal};
use crate::run::RunSettings;

/// The version of what searchers and workers say to each other.
pub(super) const PROTOCOL: u32 = 2;
/// Letters of a run's name.
const LETTERS: usize = 16;
/// Seconds that a task may be without a sign of life from its worker.
const LEASES: std::ops::RangeInclusive<u64> = 1..=3600;

/// The name of a run among those of a server: 16 hexadecimal digits, drawn when it first goes there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct RunId(String);

impl RunId {
    /// A new one.
    #[expect(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> RunId {
        RunId(format!("{:016x}", rand::random::<u64>()))
    }

    /// One that was written down.
    ///
    /// # Errors
    /// `Invalid` for other words.
    pub fn parse(text: &str) -> Result<RunId> {
        match is_hexadecimal(text, LETTERS) {
            true => Ok(RunId(text.to_string())),
            false => Err(Error::invalid("name of a run on a server", format!("{text:?}"), "16 hexadecimal digits")),
        }
    }
}

/// What a run's directory says of its name.
#[derive(Serialize, Deserialize)]
struct Named {
    run: RunId,
}

/// The file that says it.
const FILE: &str = RunSettings::CLUSTER;

impl RunId {
    /// The name of a directory's run, which is drawn and written down where there is none yet.
    ///
    /// # Errors
    /// `Io` and `Format` of its file.
    pub fn of(dir: &Path) -> Result<RunId> {
        let path = dir.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => {
                let json = Seal::open(&path, FILE, &bytes, "remove it: a resumed search draws another name")?;
                let named: Named =
                    serde_json::from_slice(&json).map_err(|error| Error::format(&path, FILE, error.to_string()))?;
                Ok(named.run)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let named = Named { run: RunId::new() };
                let json = serde_json::to_string_pretty(&named).expect("a name is plain data");
                output::write(&path, Seal::put(&(json + "\n")))?;
                Ok(named.run)
            }
            Err(error) => Err(Error::io(&path)(error)),
        }
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<RunId, D::Error> {
        RunId::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A run that wants workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    /// The version of what is said.
    pub protocol: u32,
    /// The run.
    pub run: RunId,
    /// Who searches now: a resumed searcher is another, whose tasks are new ones.
    pub searcher: RunId,
    /// Seconds that a task may be without a sign of life from its worker.
    pub lease: u64,
    /// The model, where the server has it for workers who do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<SharedModel>,
    /// What is searched, and on what; what workers have no use for is left out.
    pub settings: RunSettings,
}

impl Announcement {
    /// Of a run whose tasks go to another worker after so many seconds without a sign of life.
    pub fn new(run: RunId, settings: &RunSettings, lease: Duration) -> Announcement {
        let mut settings = settings.clone();
        // Places and words of the searcher's machine, and what is large and scores nothing.
        settings.command.clear();
        settings.first_networks.clear();
        settings.frozen.throughput = None;
        let lease = lease.as_secs().clamp(*LEASES.start(), *LEASES.end());
        Announcement { protocol: PROTOCOL, run, searcher: RunId::new(), lease, model: None, settings }
    }

    /// The lease.
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease)
    }

    /// Reads what a bucket has under `key`.
    ///
    /// # Errors
    /// `Invalid` for what is not an announcement of this version under that key, or no run.
    pub fn read(key: &str, bytes: &[u8]) -> Result<Announcement> {
        let wrong = |found: String| Error::invalid(format!("announcement of run {key}"), found, "one of this version");
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        match value.get("protocol").and_then(serde_json::Value::as_u64) {
            Some(protocol) if protocol == u64::from(PROTOCOL) => {}
            other => {
                let found = other.map_or("none".to_string(), |protocol| protocol.to_string());
                let expected = format!("{PROTOCOL}; searcher and workers must be of one version");
                return Err(Error::invalid(format!("protocol of run {key}"), found, expected));
            }
        }
        let read: Announcement = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
        if read.run.0 != key || !LEASES.contains(&read.lease) {
            return Err(wrong(format!("that of {} with a lease of {} s", read.run, read.lease)));
        }
        if let Some(problem) = read.model.as_ref().and_then(SharedModel::problem) {
            return Err(wrong(problem));
        }
        read.settings.check(Path::new(key))?;
        Ok(read)
    }

    /// Why somebody whose settings for this run came out as these cannot work for it: one line a difference.
    pub fn refusal(&self, here: &RunSettings) -> Vec<String> {
        let there = &self.settings;
        let mut lines = NumericClass::of(there).refusal(&NumericClass::of(here), there.mixed_hardware);
        let mut differ = |what: &str, there: &str, here: &str| {
            if there != here {
                lines.push(format!("{what} is {there} there, {here} here"));
            }
        };
        differ("evaluator", &there.evaluator, &here.evaluator);
        differ("digest of the model", &there.model_digest, &here.model_digest);
        lines.extend(differences(&there.frozen.packing, &here.frozen.packing));
        lines.extend(differences(&there.tasks, &here.tasks).into_iter().map(|line| format!("tasks {line}")));
        lines
    }
}
