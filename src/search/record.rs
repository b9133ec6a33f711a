//! What a run leaves behind, as plain values: the rows of `evaluations.csv` and the content of `front.json`.
//!
//! Both files, and `front.csv`, are written here and read here; numbers are written with as few digits as
//! give the same bits when read again.

use std::collections::HashSet;
use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::atomic_file;
use crate::error::{Error, Result};
use crate::search::knee;
use crate::space::{Genome, ModelShape};

/// An objective as a column: its name, unit and direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name the user gave, such as `choice_nll:arc_easy`.
    pub name: String,
    /// Its unit, such as `nats per item`.
    pub unit: String,
    /// Whether larger values are better.
    pub maximize: bool,
}

impl Column {
    /// `value` as smaller-is-better, the only direction that the search and its measures know.
    pub fn loss(&self, value: f64) -> f64 {
        if self.maximize { -value } else { value }
    }
}

/// One evaluated network: a row of `evaluations.csv`. Values are as the user reads them (not negated).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Place in ask order, from 0.
    pub id: usize,
    /// The population it was asked in, from 0.
    pub population: usize,
    /// The network.
    pub genome: Genome,
    /// One value an objective, on the search split; empty when it failed.
    pub objectives: Vec<f64>,
    /// Hard-constraint violation, 0 when feasible.
    pub violation: f64,
    /// Accuracy on the search split, one value a task, from the same forward pass.
    pub search_accuracy: Vec<f64>,
    /// Why it has no score.
    pub failed: Option<String>,
}

/// The content of `evaluations.csv`: every network that was asked for, in ask order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluations {
    /// Names of the objectives, in the order of [`Evaluation::objectives`].
    pub objectives: Vec<String>,
    /// Names of the tasks, in the order of [`Evaluation::search_accuracy`].
    pub tasks: Vec<String>,
    /// The networks.
    pub rows: Vec<Evaluation>,
}

/// What comes before a task's name in a column of `evaluations.csv`: the accuracy is the search split's.
const SEARCH_ACCURACY: &str = "search_accuracy:";

/// What comes before a score's name in a column of `front.csv`: an objective may have the same name.
const HELD_OUT: &str = "held_out:";

impl Evaluations {
    /// Writes `evaluations.csv`, atomically: `id`, `population`, `genome`, one column an objective, `violation`,
    /// one column `search_accuracy:TASK` a task, `failed`. Scores of a failed network are empty cells.
    pub fn write_csv(&self, path: &Path) -> Result<()> {
        let mut names = vec!["id".into(), "population".into(), "genome".into()];
        names.extend(self.objectives.iter().cloned());
        names.push("violation".into());
        names.extend(self.tasks.iter().map(|task| format!("{SEARCH_ACCURACY}{task}")));
        names.push("failed".into());
        let mut rows = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let (objectives, accuracies) = match &row.failed {
                None => (self.objectives.len(), self.tasks.len()),
                Some(_) => (0, 0),
            };
            let found = (row.objectives.len(), row.search_accuracy.len(), row.failed.as_deref() == Some(""));
            if found != (objectives, accuracies, false) {
                return Err(Error::invalid(
                    format!("evaluation {}", row.id),
                    format!("{} objectives, {} accuracies, failed {:?}", found.0, found.1, row.failed),
                    format!("{objectives} objectives and {accuracies} accuracies, or none of both and a reason"),
                ));
            }
            let mut cells = vec![row.id.to_string(), row.population.to_string(), row.genome.to_string()];
            cells.extend(padded(&row.objectives, self.objectives.len()));
            cells.push(row.violation.to_string());
            cells.extend(padded(&row.search_accuracy, self.tasks.len()));
            cells.push(row.failed.clone().unwrap_or_default());
            rows.push(cells);
        }
        write_csv(path, &names, &rows)
    }

    /// Reads what [`Evaluations::write_csv`] wrote.
    pub fn read_csv(path: &Path) -> Result<Evaluations> {
        const FORMAT: &str = "evaluations.csv";
        let text = read(path, "evaluations.csv")?;
        let mut reader = csv::Reader::from_reader(text.as_slice());
        let header = reader.headers().map_err(|error| Error::format(path, FORMAT, error.to_string()))?.clone();
        let names: Vec<&str> = header.iter().collect();
        let violation = names.iter().rposition(|name| *name == "violation");
        let (Some(violation), ["id", "population", "genome", .., "failed"]) = (violation, names.as_slice()) else {
            let reason = format!(
                "columns `{}`, expected `id,population,genome,OBJECTIVE..,violation,{SEARCH_ACCURACY}TASK..,failed`",
                names.join(",")
            );
            return Err(Error::format(path, FORMAT, reason));
        };
        let objectives: Vec<String> = names[3..violation].iter().map(|name| name.to_string()).collect();
        let failed = names.len() - 1;
        let tasks = names[violation + 1..failed].iter().map(|name| {
            let task = name.strip_prefix(SEARCH_ACCURACY).map(str::to_string);
            task.ok_or_else(|| Error::format(path, FORMAT, format!("column `{name}` after `violation`")))
        });
        let tasks = tasks.collect::<Result<Vec<_>>>()?;
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| Error::format(path, FORMAT, error.to_string()))?;
            let line = record.position().map_or(0, csv::Position::line);
            let reason = (!record[failed].is_empty()).then(|| record[failed].to_string());
            let numbers = |columns: std::ops::Range<usize>| match reason {
                Some(_) => Ok(Vec::new()),
                None => columns.map(|column| cell(path, line, names[column], &record[column])).collect(),
            };
            rows.push(Evaluation {
                id: cell(path, line, "id", &record[0])?,
                population: cell(path, line, "population", &record[1])?,
                genome: cell(path, line, "genome", &record[2])?,
                objectives: numbers(3..violation)?,
                violation: cell(path, line, "violation", &record[violation])?,
                search_accuracy: numbers(violation + 1..failed)?,
                failed: reason.clone(),
            });
        }
        Ok(Evaluations { objectives, tasks, rows })
    }
}

/// A score on held-out items beside the parent's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// The metric and task, such as `accuracy:arc_easy`.
    pub name: String,
    /// Items it is the mean of.
    pub items: usize,
    /// The score.
    pub value: f64,
    /// Its standard error.
    pub stderr: f64,
    /// Paired difference to the parent on the same items.
    pub delta: f64,
    /// Standard error of that difference.
    pub delta_stderr: f64,
}

/// One network of the front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrontPoint {
    /// Its row in `evaluations.csv`.
    pub id: usize,
    /// The network.
    pub genome: Genome,
    /// One value an objective, on the search split.
    pub objectives: Vec<f64>,
    /// Parameters of the mathematical network.
    pub params: u64,
    /// Bytes of the GGUF it exports to, fillers included.
    pub weight_bytes: u64,
    /// Prefill throughput in tokens per second, where a table was measured.
    pub prefill_tps: Option<f64>,
    /// Scores on the held-out split: accuracy of each task first, then the objectives' own metrics.
    pub held_out: Vec<HeldOut>,
    /// Whether another point of the front dominates it on the held-out scores.
    pub dominated_on_held_out: bool,
}

/// The content of `front.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Front {
    /// Parent's sizes.
    pub shape: ModelShape,
    /// The model's name as the user gave it.
    pub model: String,
    /// What was optimised.
    pub objectives: Vec<Column>,
    /// The parent, measured like every point.
    pub parent: FrontPoint,
    /// Non-dominated networks of the search split, by the first size-like objective ascending.
    pub points: Vec<FrontPoint>,
    /// Accuracy of guessing, one value a task, in the order of `held_out`'s accuracies.
    pub chance: Vec<f64>,
    /// Normalised hypervolume of the held-out scores (reference: accuracy = chance, size = 1.05 x parent).
    pub hypervolume: f64,
    /// Networks evaluated.
    pub evaluations: usize,
}

impl Front {
    /// Accuracy of each task on held-out items, one a task, for the parent or a point of this front.
    pub fn accuracies<'a>(&self, point: &'a FrontPoint) -> &'a [HeldOut] {
        &point.held_out[..self.chance.len()]
    }

    /// The points' objectives as smaller-is-better, one row a point.
    pub fn losses(&self) -> Vec<Vec<f64>> {
        let losses =
            |point: &FrontPoint| self.objectives.iter().zip(&point.objectives).map(|(c, v)| c.loss(*v)).collect();
        self.points.iter().map(losses).collect()
    }

    /// The point from which any gain in one objective costs most in another, as [`crate::search::knee()`] has it;
    /// fewer than three points have none.
    pub fn knee(&self) -> Option<usize> {
        if self.points.len() < 3 { None } else { knee(&self.losses()) }
    }

    /// Writes `front.json`, atomically. A front that could not be read again is an error, not a file.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        self.check(path)?;
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|error| Error::format(path, "JSON", error.to_string()))?;
        text.push(b'\n');
        atomic_file::write(path, text)
    }

    /// Reads what [`Front::write_json`] wrote.
    pub fn read_json(path: &Path) -> Result<Front> {
        let text = read(path, "front.json")?;
        let front: Front =
            serde_json::from_slice(&text).map_err(|error| Error::format(path, "front.json", error.to_string()))?;
        front.check(path)?;
        Ok(front)
    }

    /// Writes `front.csv`, atomically: `id`, `genome`, one column an objective (search split), `params`,
    /// `weight_bytes`, `prefill_tps` where it was measured (each once, though it be an objective), then for each
    /// held-out score `held_out:NAME`, and the same with `_stderr`, `_delta` and `_delta_stderr`, and
    /// `dominated_on_held_out`.
    pub fn write_csv(&self, path: &Path) -> Result<()> {
        self.check(path)?;
        let objectives: Vec<&str> = self.objectives.iter().map(|column| column.name.as_str()).collect();
        let measured = self.parent.prefill_tps.is_some() || self.points.iter().any(|point| point.prefill_tps.is_some());
        let sizes: Vec<&str> = ["params", "weight_bytes", "prefill_tps"]
            .into_iter()
            .filter(|name| !objectives.contains(name) && (*name != "prefill_tps" || measured))
            .collect();
        let mut names = vec!["id".to_string(), "genome".to_string()];
        names.extend(objectives.iter().chain(&sizes).map(|name| name.to_string()));
        for HeldOut { name, .. } in &self.parent.held_out {
            names.extend(["", "_stderr", "_delta", "_delta_stderr"].map(|what| format!("{HELD_OUT}{name}{what}")));
        }
        names.push("dominated_on_held_out".into());
        let cells = |point: &FrontPoint| {
            let mut cells = vec![point.id.to_string(), point.genome.to_string()];
            cells.extend(point.objectives.iter().map(f64::to_string));
            cells.extend(sizes.iter().map(|name| match *name {
                "params" => point.params.to_string(),
                "weight_bytes" => point.weight_bytes.to_string(),
                _ => point.prefill_tps.map_or(String::new(), |tps| tps.to_string()),
            }));
            for score in &point.held_out {
                cells.extend([score.value, score.stderr, score.delta, score.delta_stderr].map(|x| x.to_string()));
            }
            cells.push(point.dominated_on_held_out.to_string());
            cells
        };
        let rows: Vec<Vec<String>> = self.points.iter().map(cells).collect();
        write_csv(path, &names, &rows)
    }

    /// Holds what every reader of a front relies on; all contradictions are listed.
    fn check(&self, path: &Path) -> Result<()> {
        let mut problems = Vec::new();
        if self.chance.len() > self.parent.held_out.len() {
            problems.push(format!("{} tasks, {} held-out scores", self.chance.len(), self.parent.held_out.len()));
        }
        if !self.chance.iter().chain([&self.hypervolume]).all(|value| value.is_finite()) {
            problems.push("chance or hypervolume is not a finite number".into());
        }
        let names: Vec<&String> = self.parent.held_out.iter().map(|score| &score.name).collect();
        if names.iter().collect::<HashSet<_>>().len() < names.len() {
            problems.push(format!("two held-out scores of one name in {names:?}"));
        }
        for point in std::iter::once(&self.parent).chain(&self.points) {
            let mut wrong = |what: String| problems.push(format!("network {}: {what}", point.id));
            if point.objectives.len() != self.objectives.len() {
                wrong(format!("{} objectives, expected {}", point.objectives.len(), self.objectives.len()));
            }
            if point.genome.genes().len() != self.shape.layers {
                wrong(format!("{} layers, expected {}", point.genome.genes().len(), self.shape.layers));
            }
            if !point.held_out.iter().map(|score| &score.name).eq(names.iter().copied()) {
                wrong(format!("held-out scores are not the parent's {names:?}"));
            }
            let scores = point.held_out.iter().flat_map(|s| [s.value, s.stderr, s.delta, s.delta_stderr]);
            if !scores.chain(point.objectives.iter().copied()).chain(point.prefill_tps).all(f64::is_finite) {
                wrong("a score is not a finite number".into());
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::Mismatch { path: path.to_path_buf(), what: "the front contradicts itself".into(), problems })
    }
}

/// The file's bytes; one that is not there means a run that has not come so far.
fn read(path: &Path, what: &str) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing {
            what: what.into(),
            path: path.to_path_buf(),
            remedy: "a search writes it into its results directory; repeat the search's command to finish it".into(),
        },
        _ => Error::Io { path: path.to_path_buf(), source },
    })
}

/// `values` as cells, or `columns` empty ones.
fn padded(values: &[f64], columns: usize) -> impl Iterator<Item = String> {
    (0..columns).map(|column| values.get(column).map_or(String::new(), f64::to_string))
}

/// A cell as a number or genome.
fn cell<T: FromStr<Err: Display>>(path: &Path, line: u64, column: &str, text: &str) -> Result<T> {
    let wrong = |error| Error::format(path, "evaluations.csv", format!("line {line}, `{column}`: `{text}`: {error}"));
    text.parse().map_err(wrong)
}

/// Writes a table atomically. A name that is there twice would be read as one, so it is refused.
fn write_csv(path: &Path, names: &[String], rows: &[Vec<String>]) -> Result<()> {
    let mut known = HashSet::new();
    if let Some(name) = names.iter().find(|name| !known.insert(*name)) {
        return Err(Error::invalid(format!("columns of {}", path.display()), name, "a name only once"));
    }
    atomic_file::write_with(path, |file| {
        let mut writer = csv::Writer::from_writer(file);
        let written =
            std::iter::once(names).chain(rows.iter().map(Vec::as_slice)).try_for_each(|row| writer.write_record(row));
        written.map_err(|error| Error::io(path)(error.into()))?;
        writer.flush().map_err(Error::io(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluations() -> Evaluations {
        let row = |id, objectives: &[f64], failed: Option<&str>| Evaluation {
            id,
            population: id / 2,
            genome: "9x1536:-:6x768@8".parse().unwrap(),
            objectives: objectives.to_vec(),
            violation: 0.1 + 0.2,
            search_accuracy: if failed.is_none() { vec![1.0 / 3.0] } else { vec![] },
            failed: failed.map(str::to_string),
        };
        Evaluations {
            objectives: vec!["choice_nll:arc_easy".into(), "params".into()],
            tasks: vec!["arc_easy".into()],
            rows: vec![
                row(0, &[1.2345678901234567, 134_515_008.0], None),
                row(1, &[], Some("logits are \"NaN\",\nin layer 3")),
                row(2, &[5e-324, f64::MAX], None),
            ],
        }
    }

    fn front() -> Front {
        let point = |id, value: f64| FrontPoint {
            id,
            genome: "3x64*4".parse().unwrap(),
            objectives: vec![value, 1000.0],
            params: 1000,
            weight_bytes: u64::MAX,
            prefill_tps: Some(2.0 / 3.0),
            held_out: vec![
                HeldOut { name: "accuracy:t".into(), items: 7, value, stderr: 0.1, delta: 0.0, delta_stderr: 0.0 },
                HeldOut { name: "choice_nll:t".into(), items: 7, value, stderr: 0.1, delta: -0.2, delta_stderr: 1e-9 },
            ],
            dominated_on_held_out: id == 2,
        };
        let column = |name: &str| Column { name: name.into(), unit: "".into(), maximize: false };
        let shape =
            ModelShape { layers: 4, hidden: 8, heads: 3, kv_heads: 3, head_dim: 4, mlp: 64, vocab: 9, tied: true };
        Front {
            shape,
            model: "tiny".into(),
            objectives: vec![column("choice_nll:t"), column("params")],
            parent: point(0, 0.1),
            points: vec![point(1, 0.7), point(2, 1.0 / 3.0)],
            chance: vec![0.25],
            hypervolume: 0.123,
            evaluations: 64,
        }
    }

    #[test]
    fn evaluations_come_back_bit_equal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evaluations.csv");
        evaluations().write_csv(&path).unwrap();
        assert_eq!(Evaluations::read_csv(&path).unwrap(), evaluations());
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(
            "id,population,genome,choice_nll:arc_easy,params,violation,search_accuracy:arc_easy,failed\n\
             0,0,9x1536:-:6x768@8,1.2345678901234567,134515008,0.30000000000000004,0.3333333333333333,\n"
        ));
    }

    #[test]
    fn a_front_comes_back_bit_equal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("front.json");
        front().write_json(&path).unwrap();
        assert_eq!(Front::read_json(&path).unwrap(), front());
    }

    #[test]
    fn front_csv_has_each_column_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("front.csv");
        front().write_csv(&path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "id,genome,choice_nll:t,params,weight_bytes,prefill_tps,\
             held_out:accuracy:t,held_out:accuracy:t_stderr,held_out:accuracy:t_delta,held_out:accuracy:t_delta_stderr,\
             held_out:choice_nll:t,held_out:choice_nll:t_stderr,held_out:choice_nll:t_delta,\
             held_out:choice_nll:t_delta_stderr,dominated_on_held_out\n\
             1,3x64*4,0.7,1000,18446744073709551615,0.6666666666666666,\
             0.7,0.1,0,0,0.7,0.1,-0.2,0.000000001,false\n\
             2,3x64*4,0.3333333333333333,1000,18446744073709551615,0.6666666666666666,\
             0.3333333333333333,0.1,0,0,0.3333333333333333,0.1,-0.2,0.000000001,true\n"
        );
    }

    #[test]
    fn refuses_to_write_what_it_could_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("front.json");
        let mut broken = front();
        broken.points[1].held_out[0].value = f64::NAN;
        broken.points[0].objectives.pop();
        let error = broken.write_json(&path).unwrap_err().to_string();
        assert!(error.contains("network 1: 1 objectives, expected 2"), "{error}");
        assert!(error.contains("network 2: a score is not a finite number"), "{error}");
        assert!(!path.exists());
        let mut table = evaluations();
        table.rows[1].failed = None;
        let error = table.write_csv(&path).unwrap_err().to_string();
        assert!(error.contains("evaluation 1: found 0 objectives"), "{error}");
    }

    #[test]
    fn rejects_broken_evaluations_with_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evaluations.csv");
        let header = "id,population,genome,params,violation,search_accuracy:t,failed\n";
        for (text, expected) in [
            (String::new(), "columns ``"),
            ("id,genome\n".into(), "columns `id,genome`"),
            ("id,population,genome,params,violation,other,failed\n".into(), "column `other` after `violation`"),
            (format!("{header}0,0,3x64,1e6,0,0.5,\n1,0,3x64,many,0,0.5,\n"), "line 3, `params`: `many`"),
            (format!("{header}0,0,3y64,1e6,0,0.5,\n"), "line 2, `genome`: `3y64`"),
            (format!("{header}0,0,3x64\n"), "3 fields"),
            (format!("{header}0,0,3x64,,0,,\n"), "line 2, `params`: ``"),
        ] {
            fs::write(&path, &text).unwrap();
            let error = Evaluations::read_csv(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        fs::remove_file(&path).unwrap();
        let error = Evaluations::read_csv(&path).unwrap_err().to_string();
        assert!(error.contains("evaluations.csv not found"), "{error}");
    }
}
