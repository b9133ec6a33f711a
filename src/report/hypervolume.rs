//! Hypervolume of the search-split objectives as the evaluations come in, of one run or of several.

use plotters::prelude::*;

use super::canvas::{Canvas, Drawn};
use super::legend::{Legend, Mark};
use super::picture::{Drawing, Picture};
use super::style::{self, HEADING, MARGIN, PALETTE};
use super::units;
use crate::error::{Error, Result};
use crate::pareto::{dominates, hypervolume};
use crate::run::{Column, Evaluations, Front};
use crate::space::Cost;

/// One run's curve.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// What the legend calls it, such as its directory's name.
    pub name: &'a str,
    /// Its networks in ask order.
    pub evaluations: &'a Evaluations,
}

/// Where an objective's normalised value is 0 and where it is 1: `loss` runs from the ideal to the reference.
#[derive(Clone, Debug, PartialEq)]
struct Bounds {
    ideal: f64,
    reference: f64,
    /// What the reference is, for the line of facts.
    why: &'static str,
}

/// The bounds of each objective, the same for all runs.
fn bounds(front: &Front, runs: &[Run]) -> Vec<Bounds> {
    let measured = |index: usize, column: &Column| {
        let rows = runs.iter().flat_map(|run| run.evaluations.whole());
        let losses = rows.map(|row| column.loss(row.objectives[index])).filter(|loss| loss.abs() < style::BEYOND);
        losses.collect()
    };
    let columns = front.objectives.iter().enumerate();
    columns.map(|(index, column)| Bounds::of(front, column, measured(index, column))).collect()
}

/// What a network that guesses gets, the mean over the objective's tasks.
fn guess(front: &Front, column: &Column) -> Option<f64> {
    let scores = front.parent.held_out.iter().zip(&front.chance);
    let tasks: Vec<(&str, f64)> = scores
        .map(|(score, chance)| (score.name.split_once(':').map_or(score.name.as_str(), |(_, task)| task), *chance))
        .collect();
    let chance = |task: &String| tasks.iter().find(|(known, _)| known == task).map(|(_, chance)| *chance);
    let guesses: Vec<f64> = column.tasks().iter().map(|task| column.guess(chance(task)?)).collect::<Option<_>>()?;
    let mean = guesses.iter().sum::<f64>() / guesses.len() as f64;
    mean.is_finite().then_some(mean)
}

impl Bounds {
    /// Accuracies run from guessing to 1, choice losses from a uniform guess's, or the worst of the `measured` where
    /// the parent is worse than guessing, to 0, sizes from 1.05 x parent to 0, throughputs from 0 to the best
    /// measured; others span what was measured.
    fn of(front: &Front, column: &Column, measured: Vec<f64>) -> Self {
        let best = measured.iter().copied().fold(f64::INFINITY, f64::min);
        let worst = measured.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let parent = front.parent.value(&column.name);
        // Of the unquantized parent, so that searches in other bits have the same.
        if let Some(whole) = column.size(&Cost::of(&front.shape, &front.parent.genome.unquantized())) {
            let parent = parent.filter(|_| !front.parent.genome.is_quantized()).unwrap_or(whole);
            return Bounds { ideal: 0.0, reference: 1.05 * parent, why: "1.05 x parent" };
        }
        match guess(front, column) {
            Some(guess) if column.is_fraction() => Bounds { ideal: -1.0, reference: -guess, why: "guessing" },
            // An overconfident parent can lose more than a guess does: then nothing would count.
            Some(guess) if parent.is_some_and(|parent| parent < guess) => {
                Bounds { ideal: 0.0, reference: guess, why: "uniform guess" }
            }
            Some(_) => Bounds { ideal: 0.0, reference: worst, why: "worst measured" },
            None if column.maximize && best < 0.0 => Bounds { ideal: best, reference: 0.0, why: "none" },
            None => Bounds { ideal: best, reference: worst, why: "worst measured" },
        }
    }

    /// 0 at the ideal, 1 at the reference; nothing at the reference or beyond.
    fn scale(&self, loss: f64) -> Option<f64> {
        let scaled = (loss - self.ideal) / (self.reference - self.ideal);
        (scaled < 1.0).then_some(scaled.max(0.0))
    }
}

/// The normalised hypervolume after each evaluation, from none on. Networks that failed, broke a constraint or are
/// worse than the reference add nothing.
fn curve(front: &Front, bounds: &[Bounds], evaluations: &Evaluations) -> Vec<f64> {
    let ones = vec![1.0; bounds.len()];
    let mut archive: Vec<Vec<f64>> = Vec::new();
    let mut volumes = vec![0.0];
    let mut volume = 0.0;
    for row in &evaluations.rows {
        let columns = front.objectives.iter().zip(&row.objectives).zip(bounds);
        let point: Option<Vec<f64>> =
            columns.map(|((column, value), bounds)| bounds.scale(column.loss(*value))).collect();
        let counts = row.failed.is_none() && row.violation <= 0.0;
        if let Some(point) = point.filter(|_| counts)
            && !archive.iter().any(|other| *other == point || dominates(other, &point))
        {
            archive.retain(|other| !dominates(&point, other));
            archive.push(point);
            volume = hypervolume(&archive, &ones);
        }
        volumes.push(volume);
    }
    volumes
}

struct Curves<'a> {
    title: String,
    facts: String,
    curves: Vec<(&'a str, Vec<f64>)>,
}

/// Hypervolume of the search-split objectives against evaluations, one curve a run, all with the bounds of
/// `front`'s parent and tasks.
///
/// Errors: a run has other objectives than `front`; there is no evaluation at all.
pub fn hypervolumes(front: &Front, runs: &[Run]) -> Result<Picture> {
    let names: Vec<&str> = front.objectives.iter().map(|column| column.name.as_str()).collect();
    for run in runs {
        if run.evaluations.objectives != names {
            return Err(Error::invalid(
                format!("hypervolume of {}", run.name),
                format!("objectives {}", run.evaluations.objectives.join(", ")),
                format!("{}, so that the runs can be compared", names.join(", ")),
            ));
        }
    }
    if runs.iter().all(|run| run.evaluations.rows.is_empty()) {
        return Err(Error::invalid("hypervolume", "no evaluations", "at least one"));
    }
    let bounds = bounds(front, runs);
    let stated: Vec<String> = front
        .objectives
        .iter()
        .zip(&bounds)
        .map(|(column, bounds)| {
            let value = |loss: f64| units::measured(column.loss(loss) + 0.0, &column.unit);
            format!("{} {} ({}) to {}", column.name, value(bounds.reference), bounds.why, value(bounds.ideal))
        })
        .collect();
    Picture::of(&Curves {
        title: format!("{}: hypervolume of the search objectives", front.model),
        facts: format!("search items; from reference to ideal: {}", stated.join(", ")),
        curves: runs.iter().map(|run| (run.name, curve(front, &bounds, run.evaluations))).collect(),
    })
}

impl Drawing for Curves<'_> {
    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn<DB> {
        style::heading(canvas, &self.title, &self.facts)?;
        let color = |run: usize| PALETTE[run % PALETTE.len()];
        let entries = self.curves.iter().enumerate().map(|(run, (name, volumes))| {
            (Mark::Line(color(run)), format!("{name}: {:.3}", volumes.last().copied().unwrap_or(0.0)))
        });
        let legend = Legend::new(canvas, entries.collect());
        let (width, height) = canvas.dim_in_pixel();
        let bottom = height as i32 - legend.height() - 16;
        legend.draw(canvas, bottom + 6)?;

        let last = self.curves.iter().map(|(_, volumes)| volumes.len() - 1).max().unwrap_or(1).max(1);
        // The first network already has most of the volume: what the search adds is shown from there on.
        let values = self.curves.iter().flat_map(|(_, volumes)| volumes.iter().skip(1).copied());
        let mut y = style::padded_range(values, 0.06);
        y.start = y.start.max(0.0);
        let decimals = style::decimals(&y);
        let plot = canvas.clone().shrink((MARGIN, HEADING), (width - 2 * MARGIN as u32, (bottom - HEADING) as u32));
        let mut chart = ChartBuilder::on(&plot)
            .x_label_area_size(60)
            .y_label_area_size(82)
            .margin_right(12)
            .build_cartesian_2d(0.0..last as f64, y)?;
        style::quiet(&mut chart.configure_mesh())
            .x_labels(9)
            .y_labels(9)
            .x_label_formatter(&|value| if value.fract() == 0.0 { units::thousands(*value) } else { String::new() })
            .y_label_formatter(&|value| units::fixed(*value, decimals))
            .x_desc("evaluations")
            .y_desc("normalised hypervolume (search items)")
            .draw()?;
        for (run, (_, volumes)) in self.curves.iter().enumerate() {
            let line = color(run).stroke_width(3);
            let mut at: Option<(i32, i32)> = None;
            for (evaluation, volume) in volumes.iter().enumerate().skip(1) {
                let to = chart.backend_coord(&(evaluation as f64, *volume));
                // A step is two lines, across and up: one thick path through both would be bevelled.
                if let Some(from) = at.filter(|from| from.1 != to.1 || evaluation == volumes.len() - 1) {
                    canvas.draw(&PathElement::new([from, (to.0, from.1)], line))?;
                    canvas.draw(&PathElement::new([(to.0, from.1), to], line))?;
                    at = Some(to);
                }
                at = at.or(Some(to));
            }
            if let Some(end) = at {
                Mark::Dot(color(run), 5).draw(canvas, end)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn grows_by_hand_computed_boxes() {
        let (mut front, mut evaluations) = fixture::run(4, 3);
        front.chance = vec![0.5];
        front.parent.values = [("accuracy:arc_easy", 0.9), ("params", 100.0)].into_iter().collect();
        front.objectives[0].name = "accuracy:arc_easy".into();
        front.objectives[0].maximize = true;
        evaluations.objectives = vec!["accuracy:arc_easy".into(), "params".into()];
        for (row, objectives) in evaluations.rows.iter_mut().zip([[0.75, 105.0], [0.75, 52.5], [1.0, 78.75]]) {
            (row.objectives, row.violation, row.failed) = (objectives.to_vec(), 0.0, None);
        }
        evaluations.rows.truncate(3);
        let bounds = bounds(&front, &[Run { name: "run", evaluations: &evaluations }]);
        assert_eq!(bounds[0], Bounds { ideal: -1.0, reference: -0.5, why: "guessing" });
        assert_eq!(bounds[1], Bounds { ideal: 0.0, reference: 105.0, why: "1.05 x parent" });
        // Nothing yet; on the reference; half by half; and a quarter by half more above it.
        assert_eq!(curve(&front, &bounds, &evaluations), [0.0, 0.0, 0.25, 0.375]);
        evaluations.rows[1].violation = 1.0;
        evaluations.rows[2].failed = Some("NaN".into());
        evaluations.rows[2].objectives.clear();
        assert_eq!(curve(&front, &bounds, &evaluations), [0.0; 4]);
    }

    #[test]
    fn a_choice_loss_is_compared_with_a_uniform_guess() {
        let (front, evaluations) = fixture::run(4, 3);
        let bounds = bounds(&front, &[Run { name: "run", evaluations: &evaluations }]);
        assert_eq!((bounds[0].ideal, bounds[0].why), (0.0, "uniform guess"));
        assert!((bounds[0].reference - 4f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn refuses_runs_with_other_objectives() {
        let (front, mut evaluations) = fixture::run(4, 3);
        evaluations.objectives[1] = "macs".into();
        let error = hypervolumes(&front, &[Run { name: "other", evaluations: &evaluations }]).unwrap_err().to_string();
        assert!(error.starts_with("hypervolume of other: found objectives choice_nll:arc_easy, macs"), "{error}");
    }
}
