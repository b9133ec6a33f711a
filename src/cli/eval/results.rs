//! The scores of a network in a file, laid out as lm-evaluation-harness 0.4 writes its own: what reads those reads these.

use std::fs;
use std::path::Path;

use criadero::checkpoint::Checkpoint;
use criadero::eval::PackingOptions;
use criadero::space::Genome;
use criadero::versions::versions;
use serde_json::{Map, Value, json};

/// The name of this program where the harness names the kind of model.
const MODEL: &str = "criadero";
/// What a standard error is called.
const STDERR: &str = "_stderr";

/// What was scored, and how.
pub struct Scored<'a> {
    /// The model.
    pub checkpoint: &'a Checkpoint,
    /// The network of it.
    pub genome: &'a Genome,
    /// Where, in which numbers.
    pub device: String,
    /// What shared a forward pass.
    pub packing: PackingOptions,
    /// Items that were asked for.
    pub limit: Option<usize>,
    /// The chat template that contexts were written with, if they were.
    pub chat_template: Option<String>,
    /// Task by task.
    pub tasks: Vec<Told<'a>>,
}

/// One task's scores.
pub struct Told<'a> {
    /// Its name.
    pub task: &'a str,
    /// Worked examples before each question.
    pub shots: usize,
    /// BLAKE3 of tokens and targets.
    pub digest: &'a str,
    /// What `criadero eval --json` prints.
    pub summary: &'a Value,
}

impl Told<'_> {
    fn seconds(&self) -> f64 {
        self.summary["seconds"].as_f64().unwrap_or_default()
    }

    /// Its metrics, under the harness' names of them: `acc,none` and `acc_stderr,none`, where no filter came between.
    fn metrics(&self) -> Value {
        let mut metrics = Map::from_iter([("alias".to_string(), json!(self.task))]);
        for (name, value) in self.summary.as_object().into_iter().flatten() {
            if let Some(stderr) = self.summary.get(format!("{name}{STDERR}")) {
                metrics.insert(format!("{name},none"), value.clone());
                metrics.insert(format!("{name}{STDERR},none"), stderr.clone());
            }
        }
        metrics.into()
    }
}

/// The whole file.
///
/// # Errors
/// A checkpoint whose tensors cannot be read.
pub fn json_of(scored: &Scored) -> criadero::Result<Value> {
    let of_tasks = |value: &dyn Fn(&Told) -> Value| -> Map<String, Value> {
        scored.tasks.iter().map(|told| (told.task.to_string(), value(told))).collect()
    };
    let path = scored.checkpoint.path().display().to_string();
    let PackingOptions { chunk_tokens, max_length } = scored.packing;
    Ok(json!({
        "results": of_tasks(&|told| told.metrics()),
        "n-shot": of_tasks(&|told| json!(told.shots)),
        "n-samples": of_tasks(&|told| json!({ "effective": told.summary["items"] })),
        "left_out": of_tasks(&|told| told.summary["left_out"].clone()),
        "task_hashes": of_tasks(&|told| json!(told.digest)),
        "config": {
            "model": MODEL,
            "model_args": format!("pretrained={path}"),
            "model_digest": scored.checkpoint.digest()?,
            "genome": scored.genome,
            "device": scored.device,
            "limit": scored.limit,
            "chunk_tokens": chunk_tokens,
        },
        "chat_template": scored.chat_template,
        "model_name": scored.checkpoint.name(),
        "max_length": max_length,
        "criadero_versions": versions(),
        "total_evaluation_time_seconds": scored.tasks.iter().map(Told::seconds).sum::<f64>().to_string(),
    }))
}

/// Whether a file is one of these.
pub fn is_one(path: &Path) -> bool {
    let read = fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    read.is_some_and(|json| json["config"]["model"] == MODEL && json["results"].is_object())
}
