//! What a run leaves behind, as plain values: here the content of `front.json`, in [`crate::run::evaluations`] the rows of
//! `evaluations.csv`. Numbers are written with as few digits as give the same bits when read again.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::csv_file::{read, write_csv};
use super::values::Values;
use crate::error::{Error, Result};
use crate::eval::{Contribution, Metric, Objective};
use crate::output::{self, Seal};
use crate::pareto::knee;
use crate::space::{Cost, Genome, ModelShape, genome_problems};

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

    /// The objective that it holds the values of; nothing for a name that this version does not know.
    fn objective(&self) -> Option<Objective> {
        Objective::parse(&self.name).ok()
    }

    /// The size of networks of that cost, where it holds sizes.
    pub fn size(&self, cost: &Cost) -> Option<f64> {
        self.objective()?.size(cost)
    }

    /// Whether its values lie between 0 and 1.
    pub fn is_fraction(&self) -> bool {
        is_fraction(self.objective())
    }

    /// What guessing gets, where the accuracy of guessing is `chance`.
    pub fn guess(&self, chance: f64) -> Option<f64> {
        self.objective()?.metric()?.guess(chance)
    }

    /// The tasks that it is a mean over.
    pub fn tasks(&self) -> Vec<String> {
        self.objective().map_or_else(Vec::new, |objective| objective.tasks().to_vec())
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

impl HeldOut {
    /// A network's score by what its items contribute, and what the parent's do.
    pub(super) fn of(name: String, metric: Metric, ours: &[Contribution], parents: &[Contribution]) -> HeldOut {
        let (estimate, delta) = (metric.estimate(ours), metric.difference(ours, parents));
        HeldOut {
            name,
            items: ours.len(),
            value: estimate.value,
            stderr: estimate.stderr,
            delta: delta.value,
            delta_stderr: delta.stderr,
        }
    }

    /// Whether its values lie between 0 and 1.
    pub fn is_fraction(&self) -> bool {
        is_fraction(Objective::parse(&self.name).ok())
    }
}

fn is_fraction(objective: Option<Objective>) -> bool {
    objective.and_then(|objective| objective.metric()).is_some_and(Metric::is_fraction)
}

/// One network of the front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrontPoint {
    /// Its row in `evaluations.csv`.
    pub id: usize,
    /// The network.
    pub genome: Genome,
    /// The objectives on the search split; those that score a task also in float32 ([`Front::float32_name`]), where the search
    /// was in another arithmetic; then sizes, and speeds where they were measured, each by its name.
    pub values: Values,
    /// Scores on the held-out split: accuracy of each task first, then the objectives' own metrics.
    pub held_out: Vec<HeldOut>,
    /// Whether another point of the front dominates it on the held-out scores.
    pub dominated_on_held_out: bool,
}

impl FrontPoint {
    /// A value by its name, such as `params`; `None` where it was not measured.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.get(name)
    }
}

/// The mean over all budgets between two sizes of the held-out scores of the best network within the budget, by search scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverBudgets {
    /// The smallest budget, the size of the space's smallest network: parameters, or bytes of weights where any network is quantized.
    pub from: u64,
    /// The largest, the size of the parent.
    pub to: u64,
    /// One score a task that has an accuracy. A budget for which there is no network counts as guessing.
    pub scores: Vec<HeldOut>,
}

/// The content of `front.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawFront")]
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
    /// What the front is worth on held-out items: the mean over budgets; `None` where no task has an accuracy, and in fronts that are
    /// older than it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_budgets: Option<OverBudgets>,
    /// Networks evaluated.
    pub evaluations: usize,
}

/// What comes before a score's name in a column of `front.csv`: an objective may have the same name.
const HELD_OUT: &str = "held_out:";

impl Front {
    /// Accuracy of each task on held-out items, one a task, for the parent or a point of this front.
    pub fn accuracies<'a>(&self, point: &'a FrontPoint) -> &'a [HeldOut] {
        &point.held_out[..self.chance.len()]
    }

    /// The points' objectives as smaller-is-better, one row a point.
    pub fn losses(&self) -> Vec<Vec<f64>> {
        let loss = |point: &FrontPoint, column: &Column| column.loss(point.value(&column.name).unwrap_or(f64::NAN));
        let losses = |point| self.objectives.iter().map(|column| loss(point, column)).collect();
        self.points.iter().map(losses).collect()
    }

    /// The name of the value that holds an objective of the search split in float32, where the search was in another arithmetic.
    pub fn float32_name(objective: &str) -> String {
        format!("float32:{objective}")
    }

    /// Names of the values that points of this front have: objectives first, each once.
    pub fn columns(&self) -> Vec<&str> {
        let mut columns: Vec<&str> = self.objectives.iter().map(|column| column.name.as_str()).collect();
        for (name, _) in self.points.iter().chain([&self.parent]).flat_map(|point| point.values.iter()) {
            if !columns.contains(&name) {
                columns.push(name);
            }
        }
        columns
    }

    /// The point from which any gain in one objective costs most in another, as [`crate::pareto::knee()`] has it;
    /// fewer than three points have none.
    pub fn knee(&self) -> Option<usize> {
        if self.points.len() < 3 { None } else { knee(&self.losses()) }
    }

    /// Writes `front.json`, atomically. A front that could not be read again is an error, not a file.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        self.check(path)?;
        let json = serde_json::to_string_pretty(self).expect("a front is plain data");
        output::write(path, Seal::put(&(json + "\n")))
    }

    /// Reads what [`Front::write_json`] wrote.
    pub fn read_json(path: &Path) -> Result<Front> {
        let remedy = "repeat the search's command, which writes it again from chunks.log";
        let json = Seal::open(path, "front.json", &read(path, "front.json")?, remedy)?;
        let front: Front =
            serde_json::from_slice(&json).map_err(|error| Error::format(path, "front.json", error.to_string()))?;
        front.check(path)?;
        Ok(front)
    }

    /// Writes `front.csv`, atomically: `id`, `genome`, one column a value (objectives on the search split, then sizes, and
    /// speeds where they were measured), then for each held-out score `held_out:NAME`, and the same with `_stderr`, `_delta`
    /// and `_delta_stderr`, and `dominated_on_held_out`.
    pub fn write_csv(&self, path: &Path) -> Result<()> {
        self.check(path)?;
        let columns = self.columns();
        let mut names = vec!["id".to_string(), "genome".to_string()];
        names.extend(columns.iter().map(|name| name.to_string()));
        for HeldOut { name, .. } in &self.parent.held_out {
            names.extend(["", "_stderr", "_delta", "_delta_stderr"].map(|what| format!("{HELD_OUT}{name}{what}")));
        }
        names.push("dominated_on_held_out".into());
        let cells = |point: &FrontPoint| {
            let mut cells = vec![point.id.to_string(), point.genome.to_string()];
            cells.extend(columns.iter().map(|name| point.value(name).map_or(String::new(), |value| value.to_string())));
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
        let mut problems: Vec<String> =
            self.shape.problems().into_iter().map(|(field, reason)| format!("shape.{field}: {reason}")).collect();
        let has_shape = problems.is_empty();
        if self.objectives.is_empty() {
            problems.push("objectives: found none".into());
        }
        let objectives: HashSet<&str> = self.objectives.iter().map(|column| column.name.as_str()).collect();
        if objectives.len() < self.objectives.len() {
            problems.push("objectives: one of them stands twice".into());
        }
        let ids: HashSet<usize> = self.points.iter().map(|point| point.id).collect();
        if ids.len() < self.points.len() {
            problems.push("points: two networks of one id".into());
        }
        if self.chance.len() > self.parent.held_out.len() {
            problems.push(format!("{} tasks, {} held-out scores", self.chance.len(), self.parent.held_out.len()));
        }
        if !self.chance.iter().all(|chance| (0.0..=1.0).contains(chance)) {
            problems.push(format!("chance: found {:?}, expected probabilities", self.chance));
        }
        if !self.hypervolume.is_finite() {
            problems.push(format!("hypervolume: found {}, expected a finite number", self.hypervolume));
        }
        let over_budgets = self.over_budgets.iter().flat_map(|over| &over.scores);
        if !over_budgets.flat_map(|s| [s.value, s.stderr, s.delta, s.delta_stderr]).all(f64::is_finite) {
            problems.push("a mean over budgets is not a finite number".into());
        }
        let names: Vec<&String> = self.parent.held_out.iter().map(|score| &score.name).collect();
        if names.iter().collect::<HashSet<_>>().len() < names.len() {
            problems.push(format!("two held-out scores of one name in {names:?}"));
        }
        for point in std::iter::once(&self.parent).chain(&self.points) {
            let mut wrong = |what: String| problems.push(format!("network {}: {what}", point.id));
            let lacking = self.objectives.iter().filter(|column| point.value(&column.name).is_none());
            for Column { name, .. } in lacking {
                wrong(format!("no value of the objective `{name}`"));
            }
            if has_shape {
                genome_problems(&self.shape, &self.shape.parent(), &point.genome).into_iter().for_each(&mut wrong);
            }
            if !point.held_out.iter().map(|score| &score.name).eq(names.iter().copied()) {
                wrong(format!("held-out scores are not the parent's {names:?}"));
            }
            let scores = point.held_out.iter().flat_map(|s| [s.value, s.stderr, s.delta, s.delta_stderr]);
            if !scores.chain(point.values.iter().map(|(_, value)| value)).all(f64::is_finite) {
                wrong("a score is not a finite number".into());
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::Mismatch { path: path.to_path_buf(), what: "the front contradicts itself".into(), problems })
    }
}

/// `front.json` as it may be written: points of fronts from before values had names hold them in fields.
#[derive(Deserialize)]
struct RawFront {
    shape: ModelShape,
    model: String,
    objectives: Vec<Column>,
    parent: RawPoint,
    points: Vec<RawPoint>,
    chance: Vec<f64>,
    hypervolume: f64,
    over_budgets: Option<OverBudgets>,
    evaluations: usize,
}

#[derive(Deserialize)]
struct RawPoint {
    id: usize,
    genome: Genome,
    values: Option<Values>,
    objectives: Option<Vec<f64>>,
    params: Option<f64>,
    weight_bytes: Option<f64>,
    prefill_tps: Option<f64>,
    decode_tps: Option<f64>,
    held_out: Vec<HeldOut>,
    dominated_on_held_out: bool,
}

impl RawPoint {
    fn point(self, columns: &[Column]) -> Result<FrontPoint, String> {
        let RawPoint { id, genome, held_out, dominated_on_held_out, .. } = self;
        let values = match (self.values, self.objectives) {
            (Some(values), _) => values,
            (None, Some(objectives)) if objectives.len() == columns.len() => {
                let objectives = columns.iter().map(|column| column.name.as_str()).zip(objectives);
                let sizes = [
                    ("params", self.params),
                    ("weight_bytes", self.weight_bytes),
                    ("prefill_tps", self.prefill_tps),
                    ("decode_tps", self.decode_tps),
                ];
                objectives.chain(sizes.into_iter().filter_map(|(name, value)| Some((name, value?)))).collect()
            }
            _ => return Err(format!("network {id} has no values for {} objectives", columns.len())),
        };
        Ok(FrontPoint { id, genome, values, held_out, dominated_on_held_out })
    }
}

impl TryFrom<RawFront> for Front {
    type Error = String;

    fn try_from(raw: RawFront) -> Result<Front, String> {
        let RawFront { shape, model, objectives, chance, hypervolume, over_budgets, evaluations, .. } = raw;
        let parent = raw.parent.point(&objectives)?;
        let points = raw.points.into_iter().map(|point| point.point(&objectives)).collect::<Result<_, _>>()?;
        Ok(Front { shape, model, objectives, parent, points, chance, hypervolume, over_budgets, evaluations })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::space::shape::tests::TINY;

    fn front() -> Front {
        let point = |id, value: f64| FrontPoint {
            id,
            genome: "3x64*4".parse().unwrap(),
            values: [
                ("choice_nll:t", Some(value)),
                ("params", Some(1000.0)),
                ("weight_bytes", Some(9_007_199_254_740_991.0)),
                ("prefill_tps", Some(2.0 / 3.0)),
                ("decode_tps", (id == 2).then_some(5.5)),
            ]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect(),
            held_out: vec![
                HeldOut { name: "accuracy:t".into(), items: 7, value, stderr: 0.1, delta: 0.0, delta_stderr: 0.0 },
                HeldOut { name: "choice_nll:t".into(), items: 7, value, stderr: 0.1, delta: -0.2, delta_stderr: 1e-9 },
            ],
            dominated_on_held_out: id == 2,
        };
        let column = |name: &str| Column { name: name.into(), unit: "".into(), maximize: false };
        let shape = ModelShape { layers: 4, heads: 3, kv_heads: 3, mlp: 64, ..TINY };
        Front {
            shape,
            model: "tiny".into(),
            objectives: vec![column("choice_nll:t"), column("params")],
            parent: point(0, 0.1),
            points: vec![point(1, 0.7), point(2, 1.0 / 3.0)],
            chance: vec![0.25],
            hypervolume: 0.123,
            over_budgets: None,
            evaluations: 64,
        }
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
            "id,genome,choice_nll:t,params,weight_bytes,prefill_tps,decode_tps,\
             held_out:accuracy:t,held_out:accuracy:t_stderr,held_out:accuracy:t_delta,held_out:accuracy:t_delta_stderr,\
             held_out:choice_nll:t,held_out:choice_nll:t_stderr,held_out:choice_nll:t_delta,\
             held_out:choice_nll:t_delta_stderr,dominated_on_held_out\n\
             1,3x64*4,0.7,1000,9007199254740991,0.6666666666666666,,\
             0.7,0.1,0,0,0.7,0.1,-0.2,0.000000001,false\n\
             2,3x64*4,0.3333333333333333,1000,9007199254740991,0.6666666666666666,5.5,\
             0.3333333333333333,0.1,0,0,0.3333333333333333,0.1,-0.2,0.000000001,true\n"
        );
    }

    #[test]
    fn refuses_to_write_what_it_could_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("front.json");
        let mut broken = front();
        broken.points[1].held_out[0].value = f64::NAN;
        broken.points[0].values.remove("params");
        let error = broken.write_json(&path).unwrap_err().to_string();
        assert!(error.contains("network 1: no value of the objective `params`"), "{error}");
        assert!(error.contains("network 2: a score is not a finite number"), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn reads_fronts_from_before_values_had_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("front.json");
        front().write_json(&path).unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let fields = |point: &mut serde_json::Value| {
            let values = point.as_object_mut().unwrap().remove("values").unwrap();
            point["objectives"] = serde_json::json!([values["choice_nll:t"], values["params"]]);
            for name in ["params", "weight_bytes", "prefill_tps", "decode_tps"] {
                point[name] = values.get(name).cloned().unwrap_or_default();
            }
        };
        fields(&mut json["parent"]);
        json["points"].as_array_mut().unwrap().iter_mut().for_each(fields);
        json.as_object_mut().unwrap().remove("seal").unwrap();
        fs::write(&path, json.to_string()).unwrap();
        assert_eq!(Front::read_json(&path).unwrap(), front());
        json["points"][0]["objectives"] = serde_json::json!([1.0]);
        fs::write(&path, json.to_string()).unwrap();
        let error = Front::read_json(&path).unwrap_err().to_string();
        assert!(error.contains("network 1 has no values for 2 objectives"), "{error}");
    }
}
