//! `run.json`: everything that is needed to repeat a run.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::command_line::command_line;
use super::racing::Racing;
use crate::arithmetic::Arithmetic;
use crate::count::{Evals, Threads, Workers};
use crate::differences::differences;
use crate::error::{Error, Result};
use crate::eval::{EvalSet, Measured, Metric, Objective, PackingOptions};
use crate::output::{self, HeldDirectory, Output, Seal};
use crate::search::{ClosedForm, Exact};
use crate::space::{Constraint, Genome, SearchSpace};
use crate::task::{LeftOut, Split};
use crate::throughput::ThroughputTable;

/// The file's name.
const FILE: &str = "run.json";
/// What the search for bits writes before it.
const BEGUN: &str = "space.yaml";
/// Worker threads, and libtorch threads of one, at most.
const MOST_THREADS: usize = 1 << 16;
/// Evaluations, items and tokens at most: sums of them stay far inside 64 bits.
const MOST: usize = 1 << 40;
/// The version of the files of a run directory.
const FORMAT: u32 = 3;

/// A task of a run. Its eval sets are `NAME/search` and `NAME/held_out`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunTask {
    /// The name in objectives.
    pub name: String,
    /// BLAKE3 of the packed search split.
    pub search_digest: String,
    /// Its items.
    pub search_items: usize,
    /// BLAKE3 of the packed held-out split.
    pub held_out_digest: String,
    /// Its items.
    pub held_out_items: usize,
    /// Accuracy of guessing.
    pub chance: f64,
    /// The rows of which no item can be made, on neither side.
    #[serde(default, skip_serializing_if = "LeftOut::is_empty")]
    pub left_out: LeftOut,
    /// The items of the search split that cannot be scored.
    #[serde(default, skip_serializing_if = "LeftOut::is_empty")]
    pub search_left_out: LeftOut,
    /// The items of the held-out split that cannot be scored.
    #[serde(default, skip_serializing_if = "LeftOut::is_empty")]
    pub held_out_left_out: LeftOut,
}

impl RunTask {
    /// What a run keeps of a task: of its eval sets for searching and for what is held out, and of the rows that are in neither.
    pub fn new(name: &str, [search, held_out]: [&EvalSet; 2], chance: f64, left_out: LeftOut) -> RunTask {
        RunTask {
            name: name.to_string(),
            search_digest: search.digest.clone(),
            search_items: search.items.len(),
            held_out_digest: held_out.digest.clone(),
            held_out_items: held_out.items.len(),
            chance,
            left_out,
            search_left_out: search.left_out.clone(),
            held_out_left_out: held_out.left_out.clone(),
        }
    }

    /// What the eval sets of a task are called: for searching, and for what is held out.
    pub fn set_names(task: &str) -> [String; 2] {
        [Split::Search, Split::HeldOut].map(|split| format!("{task}/{split}"))
    }

    /// What the search split is called where it is scored in float32, beside a search in another arithmetic.
    pub fn float32_name(task: &str) -> String {
        format!("{task}/{}/f32", Split::Search)
    }

    /// How many items of one side were selected: those that were scored, and those that cannot be.
    pub fn selected(&self, split: Split) -> usize {
        match split {
            Split::Search => self.search_items + self.search_left_out.count,
            Split::HeldOut => self.held_out_items + self.held_out_left_out.count,
        }
    }

    /// The digest that the eval set of one side must have.
    pub fn digest(&self, split: Split) -> &str {
        match split {
            Split::Search => &self.search_digest,
            Split::HeldOut => &self.held_out_digest,
        }
    }
}

/// What is measured or chosen once, before the first evaluation, and read back on resume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frozen {
    /// The numbers that networks are scored with on a CPU while they are searched; their front is measured in float32. Cards
    /// compute in bfloat16.
    #[serde(default)]
    pub arithmetic: Arithmetic,
    /// How items became chunks.
    pub packing: PackingOptions,
    /// Worker threads.
    #[serde(deserialize_with = "Workers::read")]
    pub workers: usize,
    /// libtorch threads of each worker.
    #[serde(deserialize_with = "Threads::read")]
    pub threads: usize,
    /// The card, or the CPU's maker and instructions: the last bits of scores depend on it. Runs without a model have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub machine: String,
    /// The throughput table, where one was asked for.
    pub throughput: Option<ThroughputTable>,
}

/// Everything that is needed to repeat a run: the content of `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSettings {
    /// The version of the files.
    pub format: u32,
    /// Versions of criadero and libtorch.
    pub versions: BTreeMap<String, String>,
    /// The command line that began the run, or extended it, word by word; none where it was not begun by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The model as the user named it; only its digest decides whether a run is the same.
    pub model: String,
    /// BLAKE3 of the model.
    pub model_digest: String,
    /// The resolved space.
    pub space: SearchSpace,
    /// What is optimised.
    pub objectives: Vec<String>,
    /// Hard constraints: the space's and the user's.
    pub constraints: Vec<Constraint>,
    /// The tasks of all objectives and constraints.
    pub tasks: Vec<RunTask>,
    /// How networks are scored: `local`, or the mock's name.
    pub evaluator: String,
    /// Device and kind of the weights.
    pub device: String,
    /// The algorithm's name and settings.
    pub algorithm: Value,
    /// How networks race, if they do.
    pub racing: Option<Racing>,
    /// Networks to evaluate.
    #[serde(deserialize_with = "Evals::read")]
    pub evals: usize,
    /// Seed of every random choice.
    pub seed: u64,
    /// Digest of what the model's ranking says that networks are worth, where it was ranked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranking: Option<String>,
    /// The given part of the first population.
    pub first_networks: Vec<Genome>,
    /// Whether machines of several kinds score, each the chunks that are its own.
    #[serde(default)]
    pub mixed_hardware: bool,
    /// Measured once.
    pub frozen: Frozen,
}

/// The evaluator whose scores are made up.
pub(super) const MOCK: &str = "mock";

impl RunSettings {
    /// The version that this program writes.
    pub const FORMAT: u32 = FORMAT;
    /// The file with the name that a run has at a server where workers take its tasks.
    pub const CLUSTER: &str = "cluster.json";
    /// The file with the kinds of machines that score such a run, and which of them each chunk belongs to.
    pub const HARDWARE: &str = "hardware.json";

    /// Reads the settings of a run directory; `None` where there is no run yet.
    pub fn read(dir: &Path) -> Result<Option<RunSettings>> {
        let path = dir.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => {
                let wrong = |error: serde_json::Error| Error::format(&path, FILE, error.to_string());
                let json =
                    Seal::open(&path, FILE, &bytes, "put back a copy of it, or search again with another --out")?;
                let mut value: Value = serde_json::from_slice(&json).map_err(wrong)?;
                let format = value["format"].as_u64().unwrap_or(0);
                if format > u64::from(FORMAT) {
                    let reason = format!("format {format} is a newer criadero's; this one reads up to {FORMAT}");
                    return Err(Error::format(&path, FILE, reason));
                }
                // Tables of older runs know no phases; what the networks are does not depend on them.
                if format < u64::from(FORMAT)
                    && let Some(throughput) = value.pointer_mut("/frozen/throughput")
                {
                    *throughput = Value::Null;
                }
                let settings: RunSettings = serde_json::from_value(value).map_err(wrong)?;
                settings.check(&path)?;
                Ok(Some(settings))
            }
            // A path below a file, such as a GGUF's, is no run either.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(Error::io(&path)(error)),
        }
    }

    /// Refuses what no run can have had; all of it is listed.
    pub(crate) fn check(&self, path: &Path) -> Result<()> {
        let Frozen { packing, workers, threads, throughput, .. } = &self.frozen;
        let mut problems = Vec::new();
        let mut within = |name: String, found: usize, least: usize, most: usize| {
            if !(least..=most).contains(&found) {
                problems.push(format!("{name}: found {found}, expected {least} to {most}"));
            }
        };
        within("frozen.workers".into(), *workers, 1, MOST_THREADS);
        within("frozen.threads".into(), *threads, 1, MOST_THREADS);
        let least = usize::from(!self.is_mock());
        within("frozen.packing.chunk_tokens".into(), packing.chunk_tokens, least, MOST);
        within("frozen.packing.max_length".into(), packing.max_length, least, MOST);
        within("evals".into(), self.evals, 0, MOST);
        for RunTask { name, search_items, held_out_items, search_left_out, held_out_left_out, .. } in &self.tasks {
            within(format!("tasks, {name}, search_items"), *search_items, 0, MOST);
            within(format!("tasks, {name}, held_out_items"), *held_out_items, 0, MOST);
            within(format!("tasks, {name}, search_left_out.count"), search_left_out.count, 0, MOST);
            within(format!("tasks, {name}, held_out_left_out.count"), held_out_left_out.count, 0, MOST);
        }
        for (place, task) in self.tasks.iter().enumerate() {
            if !(0.0..=1.0).contains(&task.chance) {
                problems.push(format!("tasks, {}, chance: found {}, expected 0 to 1", task.name, task.chance));
            }
            if self.tasks[..place].iter().any(|other| other.name == task.name) {
                problems.push(format!("tasks, {}: stands twice", task.name));
            }
        }
        if let Some(Racing { error }) = self.racing
            && Racing::new(error).is_err()
        {
            problems.push(format!("racing.error: found {error}, expected a probability between 0 and 1"));
        }
        problems.extend(
            throughput.as_ref().and_then(ThroughputTable::problem).map(|one| format!("frozen.throughput, {one}")),
        );
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::Mismatch { path: path.into(), what: "settings that no run can have".into(), problems })
    }

    /// The command that made the run, as a shell reads it; `None` where it was not made by one.
    pub fn command_line(&self) -> Option<String> {
        (!self.command.is_empty()).then(|| command_line(&self.command))
    }

    /// How many items of each side were selected, of the task that has most of them: tasks with fewer have all they had.
    pub fn selected(&self) -> [usize; 2] {
        let most = |split| self.tasks.iter().map(|task| task.selected(split)).max().unwrap_or(0);
        [most(Split::Search), most(Split::HeldOut)]
    }

    /// Whether the scores are made up.
    pub fn is_mock(&self) -> bool {
        self.evaluator == MOCK
    }

    /// What is known of a genome before it is measured: the objectives and constraints that need no task's scores.
    ///
    /// # Errors
    /// Unknown objectives.
    pub fn closed_form(&self) -> Result<ClosedForm> {
        let parse = |text: &String| Objective::parse(text);
        let objectives = self.objectives.iter().map(parse).collect::<Result<Vec<_>>>()?;
        let limits = self.constraints.iter().map(|limit| Ok((parse(&limit.objective)?, limit.clone())));
        let limits = limits.collect::<Result<Vec<_>>>()?;
        let (space, throughput) = (self.space.clone(), self.frozen.throughput.clone());
        Ok(Arc::new(move |genome| {
            let task = |_: Metric, task: &str| Err(Error::invalid("closed form", task, "no task"));
            let measured = Measured { shape: space.shape(), genome, throughput: throughput.as_ref(), task: &task };
            let value =
                |objective: &Objective| objective.value(&measured).ok().filter(|_| objective.metric().is_none());
            let loss = |objective: &Objective| value(objective).map(|value| objective.loss(value));
            let violation = |(objective, limit): &(Objective, Constraint)| value(objective).map(|v| limit.violation(v));
            Exact {
                losses: objectives.iter().map(loss).collect(),
                violation: limits.iter().filter_map(violation).sum(),
            }
        }))
    }

    /// Holds a directory for a search: a new one, or one that a search began.
    ///
    /// # Errors
    /// What [`Output::hold`] refuses.
    pub fn hold(output: &Output, dir: &Path) -> Result<HeldDirectory> {
        output.hold(dir, FILE, &[BEGUN, RunSettings::CLUSTER, RunSettings::HARDWARE])
    }

    /// Writes `run.json`, atomically.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).expect("settings are plain data");
        output::write(&dir.join(FILE), Seal::put(&(json + "\n")))
    }

    /// One line a setting in which `other` differs; where a model lies and how the command was written do not count.
    pub(super) fn differences(&self, other: &RunSettings) -> Vec<String> {
        let placeless =
            |settings: &RunSettings| RunSettings { model: String::new(), command: Vec::new(), ..settings.clone() };
        differences(&placeless(self), &placeless(other))
    }
}
