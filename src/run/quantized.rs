//! A front before and after quantization: what `criadero quantize` measures, as plain values.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::csv_file::{read, write_csv};
use crate::error::{Error, Result};
use crate::output::{self, Seal};
use crate::space::Genome;

/// A score of one network before and after, on the same items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The metric and task, such as `accuracy:arc_easy`.
    pub name: String,
    /// Items it is the mean of.
    pub items: usize,
    /// Before.
    pub before: f64,
    /// Its standard error.
    pub before_stderr: f64,
    /// After.
    pub after: f64,
    /// Its standard error.
    pub after_stderr: f64,
    /// After less before, paired.
    pub change: f64,
    /// Standard error of that difference.
    pub change_stderr: f64,
}

/// One network before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizedPoint {
    /// Its number in the front.
    pub id: usize,
    /// The quantized network.
    pub genome: Genome,
    /// Bytes of the GGUF that it was.
    pub bytes_before: u64,
    /// Bytes of the GGUF that it is.
    pub bytes: u64,
    /// One a task.
    pub changes: Vec<Change>,
}

/// The content of `quantized.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizedFront {
    /// Whether the weights before were values of blocks themselves.
    #[serde(default)]
    pub parent_quantized: bool,
    /// The model's name.
    pub model: String,
    /// How matrices are stored now: ggml's names, such as `Q8_0`, or `Q4_0; ends Q8_0` where embedding and output matrix differ.
    pub format: String,
    /// By size before, ascending.
    pub points: Vec<QuantizedPoint>,
    /// Of the mean over all points, one a task: each item counts as the mean of its scores.
    pub mean: Vec<Change>,
}

impl QuantizedFront {
    /// Bytes after as a share of those before, all points together.
    pub fn bytes_share(&self) -> f64 {
        let sum = |of: fn(&QuantizedPoint) -> u64| self.points.iter().map(|point| of(point) as f64).sum::<f64>();
        sum(|point| point.bytes) / sum(|point| point.bytes_before)
    }

    /// Writes `quantized.json` and `quantized.csv` into a directory, atomically.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join("quantized.json");
        let json = serde_json::to_string_pretty(self).expect("it is plain data");
        output::write(&path, Seal::put(&(json + "\n")))?;
        let mut names: Vec<String> = ["id", "genome", "bytes_before", "bytes"].map(String::from).into();
        for change in &self.mean {
            let parts = ["_before", "_before_stderr", "", "_stderr", "_change", "_change_stderr"];
            names.extend(parts.map(|part| format!("{}{part}", change.name)));
        }
        let row = |point: &QuantizedPoint| {
            let QuantizedPoint { id, genome, bytes_before, bytes, changes } = point;
            let mut row = vec![id.to_string(), genome.to_string(), bytes_before.to_string(), bytes.to_string()];
            for change in changes {
                let Change { before, before_stderr, after, after_stderr, change, change_stderr, .. } = *change;
                row.extend([before, before_stderr, after, after_stderr, change, change_stderr].map(|x| x.to_string()));
            }
            row
        };
        write_csv(&dir.join("quantized.csv"), &names, &self.points.iter().map(row).collect::<Vec<_>>())
    }

    /// Reads what [`QuantizedFront::write`] wrote.
    pub fn read(dir: &Path) -> Result<QuantizedFront> {
        let path = dir.join("quantized.json");
        let json = Seal::open(&path, "quantized.json", &read(&path, "quantized.json")?, "quantize again")?;
        serde_json::from_slice(&json).map_err(|error| Error::format(&path, "quantized.json", error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote() {
        let change = Change {
            name: "accuracy:arc_easy".into(),
            items: 3,
            before: 0.5,
            before_stderr: 0.1,
            after: 0.4,
            after_stderr: 0.12,
            change: -0.1,
            change_stderr: 0.03,
        };
        let point = QuantizedPoint {
            id: 7,
            genome: "E@8:4x128@8*4".parse().unwrap(),
            bytes_before: 200,
            bytes: 106,
            changes: vec![change.clone()],
        };
        let front = QuantizedFront {
            parent_quantized: false,
            model: "tiny".into(),
            format: "Q8_0".into(),
            points: vec![point],
            mean: vec![change],
        };
        let dir = tempfile::tempdir().unwrap();
        front.write(dir.path()).unwrap();
        assert_eq!(QuantizedFront::read(dir.path()).unwrap(), front);
        assert_eq!(front.bytes_share(), 0.53);
        let text = std::fs::read_to_string(dir.path().join("quantized.csv")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("id,genome,bytes_before,bytes,accuracy:arc_easy_before,"), "{}", lines[0]);
        assert_eq!(lines[1], "7,E@8:4x128@8*4,200,106,0.5,0.1,0.4,0.12,-0.1,0.03");
    }
}
