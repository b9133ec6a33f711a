//! Throughput tables: what reading a prompt and writing a token take, for every network of a space.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::block_times::BlockTimes;
use super::phase::Phase;
use crate::differences::differences;
use crate::error::{Error, Result};
use crate::kendall::kendall_tau;
use crate::output::{self, Seal};
use crate::space::Genome;

/// The version of a table's file.
pub(super) const FORMAT: u32 = 1;
/// Networks of a kind and rounds that are timed, at most: more are a mistake in the file.
const MOST_TIMED: usize = 1 << 16;
/// Milliseconds that a sum of times stays finite and positive with; no network takes as long.
const MOST_MS: f64 = 1e15;
/// Tokens that a request of [`ThroughputTable::latency_ms`] writes behind its prompt.
pub const WRITTEN: usize = 128;

/// What is timed and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyOptions {
    /// What a network does while it is timed.
    pub phases: Vec<Phase>,
    /// Random networks beside the systematic ones.
    pub random_networks: usize,
    /// Networks, evenly spread by size, that the table is checked against.
    pub check_networks: usize,
    /// Times each network runs; the median counts.
    pub rounds: usize,
}

impl Default for LatencyOptions {
    fn default() -> Self {
        let phases = vec![Phase::Prefill { tokens: 256 }];
        LatencyOptions { phases, random_networks: 8, check_networks: 8, rounds: 5 }
    }
}

/// What a table is good for: times elsewhere are other times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableKey {
    /// Device and kind of the weights, such as `cpu float`.
    pub device: String,
    /// The card's own name, or the processor's.
    pub hardware: String,
    /// libtorch threads.
    pub threads: usize,
    /// BLAKE3 of the model.
    pub model_digest: String,
    /// BLAKE3 of the widths and depths that were timed: others would be guesses.
    pub space_digest: String,
    /// Whether steps are replayed as CUDA graphs: not yet, so never.
    pub graphs: bool,
    /// Whether our kernels run, or plain operations.
    #[serde(default)]
    pub kernels: bool,
    /// Versions of criadero and libtorch.
    pub versions: BTreeMap<String, String>,
}

/// A network that was predicted and measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyCheck {
    /// The network.
    pub genome: Genome,
    /// What the table says, milliseconds.
    pub predicted_ms: f64,
    /// Median of its timings, milliseconds.
    pub measured_ms: f64,
}

/// Block times of one phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseTable {
    /// What was timed.
    pub phase: Phase,
    /// What half layers take.
    pub times: BlockTimes,
    /// Networks that the fit has not seen.
    pub checks: Vec<LatencyCheck>,
}

impl PhaseTable {
    /// Tokens per second.
    pub fn tps(&self, genome: &Genome) -> f64 {
        self.phase.tokens() as f64 * 1e3 / self.times.of(genome)
    }

    /// Mean of |predicted − measured| / measured over the checked networks.
    pub fn mean_error(&self) -> f64 {
        let error = |check: &LatencyCheck| (check.predicted_ms - check.measured_ms).abs() / check.measured_ms;
        self.checks.iter().map(error).sum::<f64>() / self.checks.len().max(1) as f64
    }

    /// Kendall's τ between predicted and measured times of the checked networks.
    pub fn kendall_tau(&self) -> f64 {
        let (predicted, measured): (Vec<f64>, Vec<f64>) =
            self.checks.iter().map(|check| (check.predicted_ms, check.measured_ms)).unzip();
        kendall_tau(&predicted, &measured)
    }
}

/// Throughput of every network of a space on one device and model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThroughputTable {
    /// The version of the file.
    pub format: u32,
    /// What it is good for.
    pub key: TableKey,
    /// How it was measured.
    pub options: LatencyOptions,
    /// One a phase, in the order of the options.
    pub phases: Vec<PhaseTable>,
}

impl ThroughputTable {
    /// Predicted prefill throughput of the first prompt length measured, tokens per second.
    pub fn prefill_tps(&self, genome: &Genome) -> Option<f64> {
        Some(self.prefill()?.tps(genome))
    }

    /// Predicted decode throughput of the first context and batch measured, tokens per second of all sequences together.
    pub fn decode_tps(&self, genome: &Genome) -> Option<f64> {
        Some(self.decode(None)?.tps(genome))
    }

    /// Predicted milliseconds of a request: its prompt, of the first length measured, and 128 tokens behind it, one
    /// sequence alone.
    pub fn latency_ms(&self, genome: &Genome) -> Option<f64> {
        Some(self.prefill()?.times.of(genome) + WRITTEN as f64 * self.decode(Some(1))?.times.of(genome))
    }

    fn prefill(&self) -> Option<&PhaseTable> {
        self.phases.iter().find(|table| matches!(table.phase, Phase::Prefill { .. }))
    }

    fn decode(&self, wanted: Option<usize>) -> Option<&PhaseTable> {
        let fits = |table: &&PhaseTable| match table.phase {
            Phase::Decode { sequences, .. } => wanted.is_none_or(|wanted| wanted == sequences),
            Phase::Prefill { .. } => false,
        };
        self.phases.iter().find(fits)
    }

    /// Refuses the table where it was measured for another device, model or version.
    ///
    /// # Errors
    /// `Mismatch` with every difference.
    pub fn check(&self, path: &Path, key: &TableKey) -> Result<()> {
        let problems = differences(&self.key, key);
        if problems.is_empty() {
            Ok(())
        } else {
            let what = "the throughput table was measured for something else; measure again with --remeasure".into();
            Err(Error::Mismatch { path: path.into(), what, problems })
        }
    }

    /// Refuses the table where it is of other networks than those of this key, whatever timed them.
    ///
    /// # Errors
    /// As [`ThroughputTable::check`].
    pub fn check_networks(&self, path: &Path, key: &TableKey) -> Result<()> {
        let TableKey { model_digest, space_digest, .. } = key.clone();
        self.check(path, &TableKey { model_digest, space_digest, ..self.key.clone() })
    }

    /// What no measurement can have given: the first such field, what was found and what was expected.
    pub fn problem(&self) -> Option<String> {
        let LatencyOptions { random_networks, check_networks, rounds, .. } = self.options;
        let counts = [("random_networks", random_networks), ("check_networks", check_networks), ("rounds", rounds)];
        let counts = counts
            .into_iter()
            .filter(|(_, count)| *count > MOST_TIMED)
            .map(|(name, count)| format!("options.{name}: found {count}, expected {MOST_TIMED} at most"));
        let negative = |name: &str, ms: f64| {
            (!(0.0..MOST_MS).contains(&ms)).then(|| format!("{name}: found {ms}, expected milliseconds from 0 on"))
        };
        let times = self.phases.iter().flat_map(|PhaseTable { phase, times, checks }| {
            let BlockTimes { constant_ms, heads_ms, mlp_ms } = times;
            let widths = [("heads_ms", heads_ms), ("mlp_ms", mlp_ms)].into_iter().flat_map(move |(name, widths)| {
                widths.iter().map(move |(width, &ms)| (format!("{phase}, {name}, {width}"), ms))
            });
            let checks = checks.iter().flat_map(move |check| {
                [("predicted_ms", check.predicted_ms), ("measured_ms", check.measured_ms)]
                    .map(|(name, ms)| (format!("{phase}, check of {}, {name}", check.genome), ms))
            });
            std::iter::once((format!("{phase}, constant_ms"), *constant_ms)).chain(widths).chain(checks)
        });
        counts.chain(times.filter_map(|(name, ms)| negative(&name, ms))).next()
    }

    /// Writes the table as JSON, atomically.
    pub fn write(&self, path: &Path) -> Result<()> {
        output::write(path, self.to_json())
    }

    /// As a file holds it.
    pub fn to_json(&self) -> String {
        Seal::put(&(serde_json::to_string_pretty(self).expect("a table is plain data") + "\n"))
    }

    /// Reads what [`ThroughputTable::write`] wrote.
    ///
    /// # Errors
    /// `Io`, and `Format` for what is no table, or one of another version.
    pub fn read(path: &Path) -> Result<ThroughputTable> {
        const NAME: &str = "throughput table";
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let json = Seal::open(path, NAME, &bytes, "remove it and measure again")?;
        let wrong = |reason: String| Error::format(path, NAME, reason);
        let table: ThroughputTable = serde_json::from_slice(&json).map_err(|error| wrong(error.to_string()))?;
        if table.format != FORMAT {
            return Err(wrong(format!("format {}, expected {FORMAT}", table.format)));
        }
        match table.problem() {
            None => Ok(table),
            Some(problem) => Err(wrong(problem)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn key() -> TableKey {
        TableKey {
            device: "cpu float".into(),
            hardware: "a processor".into(),
            threads: 2,
            model_digest: "abc".into(),
            space_digest: "def".into(),
            graphs: false,
            kernels: false,
            versions: BTreeMap::new(),
        }
    }

    fn table() -> ThroughputTable {
        let times = |constant_ms, head, channel| BlockTimes {
            constant_ms,
            heads_ms: BTreeMap::from([(4, head)]),
            mlp_ms: BTreeMap::from([(128, channel)]),
        };
        let phase = |phase, times| PhaseTable { phase, times, checks: vec![] };
        ThroughputTable {
            format: FORMAT,
            key: key(),
            options: LatencyOptions::default(),
            phases: vec![
                phase(Phase::Prefill { tokens: 100 }, times(10.0, 5.0, 5.0)),
                phase(Phase::Decode { context: 64, sequences: 8 }, times(4.0, 1.0, 1.0)),
                phase(Phase::Decode { context: 64, sequences: 1 }, times(2.0, 0.5, 0.5)),
            ],
        }
    }

    #[test]
    fn sums_blocks_to_throughputs() {
        let genome: Genome = "4x128*2:-*2".parse().unwrap();
        let table = table();
        assert_eq!(table.prefill_tps(&genome), Some(100.0 * 1e3 / 30.0));
        assert_eq!(table.decode_tps(&genome), Some(8.0 * 1e3 / 8.0));
        assert_eq!(table.latency_ms(&genome), Some(30.0 + 128.0 * 4.0), "one sequence alone");
        let prefill_only = ThroughputTable { phases: table.phases[..1].to_vec(), ..table };
        assert_eq!((prefill_only.decode_tps(&genome), prefill_only.latency_ms(&genome)), (None, None));
    }

    #[test]
    fn is_read_where_it_was_measured_and_refused_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table.json");
        table().write(&path).unwrap();
        assert_eq!(ThroughputTable::read(&path).unwrap(), table());
        table().check(&path, &key()).unwrap();
        let elsewhere = TableKey { hardware: "another".into(), threads: 4, ..key() };
        let error = table().check(&path, &elsewhere).unwrap_err().to_string();
        assert!(error.contains("hardware") && error.contains("threads") && error.contains("--remeasure"), "{error}");
        std::fs::write(&path, "{}").unwrap();
        assert!(ThroughputTable::read(&path).is_err());
    }
}
