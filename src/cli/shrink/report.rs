//! `report.md`: what was lost on held-out questions, gathered from what the steps have written.

use std::path::Path;

use anyhow::Context;
use criadero::Error;
use criadero::eval::{Contribution, Metric};
use criadero::report::table::Table;
use criadero::run::{Front, FrontPoint, Pick};
use serde_json::Value;

use super::plan::{Eval, Job, Plan};

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

/// The whole report.
///
/// # Errors
/// Results that are not there.
pub fn report(job: &Job, plan: &Plan) -> anyhow::Result<String> {
    let Job { model, out, limits, tasks, .. } = job;
    let front = Front::read_json(&out.join("run/front.json"))?;
    let point = limits[0].to_string().parse::<Pick>()?.choose(&front)?.clone();
    // By which others it is dominated the front says; they are not shown here.
    let point = FrontPoint { dominated_on_held_out: false, ..point };
    let wanted: Vec<String> = limits.iter().map(|limit| format!("`{limit}`")).collect();
    let mut text = format!("# {model} shrunk to {}\n\n", wanted.join(" and "));
    text +=
        &format!("Network {} of `run/`, one of {} on its front: `{}`\n\n", point.id, front.points.len(), point.genome);
    text += "As the search found it, beside the parent; sizes are those of the network in GGUF:\n\n```text\n";
    text += &Table::new(&Front { points: vec![point], ..front }).text();
    text += "```\n\n";
    text +=
        "What was exported, on held-out items that no step has seen; the difference is paired, on the same items:\n\n";
    text += "| task | items | metric | parent | exported | difference |\n|---|---|---|---|---|---|\n";
    for (place, task) in tasks.iter().enumerate() {
        let [parent, exported] = [Measured::read(out, "parent", place)?, Measured::read(out, "exported", place)?];
        let (Some((name, before, before_error)), Some((_, after, after_error))) =
            (parent.headline(), exported.headline())
        else {
            continue;
        };
        let items = exported.summary["items"].as_u64().unwrap_or_default();
        text += &format!(
            "| {task} | {items} | {name} | {before:.4} ± {before_error:.4} | {after:.4} ± {after_error:.4} | {} |\n",
            difference(&parent, &exported).unwrap_or_else(|| format!("{:+.4}", after - before))
        );
    }
    text += "\nFiles: `export/`; `run/report.html` with the other networks of the front and its pictures; `exported-*.jsonl`, item by item.\n";
    text += "\n## How\n\n```sh\n";
    plan.steps.iter().for_each(|step| text += &format!("{}\n", step.line()));
    text += "```\n";
    for (name, reason) in &plan.left_out {
        text += &format!("\nLeft out: {name}; {reason}.\n");
    }
    Ok(text)
}

/// Of accuracies, on the same items.
fn difference(parent: &Measured, exported: &Measured) -> Option<String> {
    let same = parent.correct.iter().map(|(index, _)| index).eq(exported.correct.iter().map(|(index, _)| index));
    if !same || parent.correct.is_empty() {
        return None;
    }
    let of = |measured: &Measured| -> Vec<Contribution> {
        measured.correct.iter().map(|(_, value)| Contribution { value: *value, weight: 1.0 }).collect()
    };
    let difference = Metric::ACCURACY.difference(&of(exported), &of(parent));
    Some(format!("{:+.4} ± {:.4}", difference.value, difference.stderr))
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
        assert_eq!(difference(&parent, &measured(&[0.0, 1.0, 0.0, 1.0])).unwrap(), "-0.2500 ± 0.2500");
        assert_eq!(difference(&parent, &measured(&[1.0])), None, "other items");
        assert_eq!(difference(&measured(&[]), &measured(&[])), None, "a text");
    }
}
