//! `report.md`: what was lost on held-out questions, gathered from what the steps have written.

use std::path::Path;

use anyhow::Context;
use criadero::Error;
use criadero::eval::{Contribution, Metric};
use criadero::report::table::Table;
use criadero::run::{Front, FrontPoint, Pick};
use serde_json::{Value, json};

use super::plan::{Eval, Job, Plan};

/// Its name in the directory.
pub const FILE: &str = "report.md";

/// One measurement: what `eval --json` printed, and whether each item was answered.
struct Measured {
    summary: Value,
    /// By item; none where there is nothing to choose.
    correct: Vec<(u64, f64)>,
}

impl Measured {
    fn read(out: &Path, model: &str, place: usize) -> anyhow::Result<Measured> {
        let read = |path: &Path| std::fs::read_to_string(path).map_err(Error::io(path));
        let (json, items) = (Eval::json(out, model, place), Eval::items(out, model, place));
        let summary = serde_json::from_str(&read(&json)?).with_context(|| json.display().to_string())?;
        let text = read(&items)?;
        let rows: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let correct = rows.iter().filter_map(|row| Some((row["index"].as_u64()?, row["correct"].as_f64()?))).collect();
        Ok(Measured { summary, correct })
    }

    /// The accuracy, or the first metric that there is.
    fn headline(&self) -> Option<(&'static str, f64, f64)> {
        let of = |metric: Metric| {
            let name = metric.eval_name();
            Some((name, self.summary[name].as_f64()?, self.summary[format!("{name}_stderr")].as_f64()?))
        };
        Metric::all().find_map(of)
    }
}

/// What a shrinking came to.
pub struct Report<'a> {
    job: &'a Job<'a>,
    plan: &'a Plan,
    front: Front,
    /// The network that was picked.
    point: FrontPoint,
    scores: Vec<Scores<'a>>,
}

/// A task's scores of the parent and of what was exported, each with its standard error.
struct Scores<'a> {
    task: &'a str,
    items: u64,
    metric: &'static str,
    parent: (f64, f64),
    exported: (f64, f64),
    /// Paired, where that is known; its error then.
    difference: (f64, Option<f64>),
}

impl<'a> Report<'a> {
    /// Gathers it.
    ///
    /// # Errors
    /// Results that are not there.
    pub fn of(job: &'a Job, plan: &'a Plan) -> anyhow::Result<Report<'a>> {
        let front = Front::read_json(&job.out.join("run/front.json"))?;
        let point = job.limits[0].to_string().parse::<Pick>()?.choose(&front)?.clone();
        let mut scores = Vec::new();
        for (place, task) in job.tasks.iter().enumerate() {
            let [parent, exported] =
                [Measured::read(job.out, "parent", place)?, Measured::read(job.out, "exported", place)?];
            let (Some((metric, before, before_error)), Some((_, after, after_error))) =
                (parent.headline(), exported.headline())
            else {
                continue;
            };
            scores.push(Scores {
                task,
                items: exported.summary["items"].as_u64().unwrap_or_default(),
                metric,
                parent: (before, before_error),
                exported: (after, after_error),
                difference: difference(&parent, &exported)
                    .map_or((after - before, None), |(value, error)| (value, Some(error))),
            });
        }
        Ok(Report { job, plan, front, point, scores })
    }

    /// The run's front.
    pub fn front(&self) -> &Front {
        &self.front
    }

    /// As `--json` prints it.
    pub fn as_json(&self) -> Value {
        let Report { job: Job { model, out, limits, .. }, plan, point, .. } = self;
        let scores = self.scores.iter().map(|scores| {
            json!({
                "task": scores.task,
                "items": scores.items,
                "metric": scores.metric,
                "parent": scores.parent.0,
                "parent_stderr": scores.parent.1,
                "exported": scores.exported.0,
                "exported_stderr": scores.exported.1,
                "difference": scores.difference.0,
                "difference_stderr": scores.difference.1,
            })
        });
        json!({
            "model": model,
            "limits": limits.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "report": out.join(FILE),
            "run": out.join("run"),
            "export": plan.exported(),
            "network": { "id": point.id, "genome": point.genome, "values": point.values },
            "tasks": scores.collect::<Vec<_>>(),
            "left_out": plan.as_json()["left_out"],
        })
    }

    /// As `report.md` has it.
    pub fn text(&self) -> String {
        let Report { job: Job { model, limits, .. }, plan, front, point, .. } = self;
        // By which others it is dominated the front says; they are not shown here.
        let point = FrontPoint { dominated_on_held_out: false, ..point.clone() };
        let wanted: Vec<String> = limits.iter().map(|limit| format!("`{limit}`")).collect();
        let mut text = format!("# {model} shrunk to {}\n\n", wanted.join(" and "));
        text += &format!(
            "Network {} of `run/`, one of {} on its front: `{}`\n\n",
            point.id,
            front.points.len(),
            point.genome
        );
        text += "As the search found it, beside the parent; sizes are those of the network in GGUF:\n\n```text\n";
        text += &Table::new(&Front { points: vec![point], ..front.clone() }).text();
        text += "```\n\n";
        text += "What was exported, on held-out items that no step has seen; the difference is paired, on the same items:\n\n";
        text += "| task | items | metric | parent | exported | difference |\n|---|---|---|---|---|---|\n";
        for scores in &self.scores {
            let Scores { task, items, metric, .. } = scores;
            let ((before, before_error), (after, after_error)) = (scores.parent, scores.exported);
            let difference = match scores.difference {
                (value, Some(error)) => format!("{value:+.4} ± {error:.4}"),
                (value, None) => format!("{value:+.4}"),
            };
            text += &format!(
                "| {task} | {items} | {metric} | {before:.4} ± {before_error:.4} | {after:.4} ± {after_error:.4} | {difference} |\n"
            );
        }
        text += "\nFiles: `export/`; `run/report.html` with the other networks of the front and its pictures; `exported-*.jsonl`, item by item.\n";
        text += "\n## How\n\n```sh\n";
        plan.steps.iter().for_each(|step| text += &format!("{}\n", step.line()));
        text += "```\n";
        for (name, reason) in &plan.left_out {
            text += &format!("\nLeft out: {name}; {reason}.\n");
        }
        text
    }
}

/// Of accuracies, on the same items.
fn difference(parent: &Measured, exported: &Measured) -> Option<(f64, f64)> {
    let same = parent.correct.iter().map(|(index, _)| index).eq(exported.correct.iter().map(|(index, _)| index));
    if !same || parent.correct.is_empty() {
        return None;
    }
    let of = |measured: &Measured| -> Vec<Contribution> {
        measured.correct.iter().map(|(_, value)| Contribution { value: *value, weight: 1.0 }).collect()
    };
    let difference = Metric::ACCURACY.difference(&of(exported), &of(parent));
    Some((difference.value, difference.stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(correct: &[f64]) -> Measured {
        Measured {
            summary: Value::Null,
            correct: correct.iter().copied().enumerate().map(|(i, c)| (i as u64, c)).collect(),
        }
    }

    #[test]
    fn differences_are_paired() {
        let parent = measured(&[1.0, 1.0, 0.0, 1.0]);
        // −1, 0, 0, 0: mean −0.25, and the standard error of four of them 0.25.
        assert_eq!(difference(&parent, &measured(&[0.0, 1.0, 0.0, 1.0])).unwrap(), (-0.25, 0.25));
        assert_eq!(difference(&parent, &measured(&[1.0])), None, "other items");
        assert_eq!(difference(&measured(&[]), &measured(&[])), None, "a text");
    }
}
