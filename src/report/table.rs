//! The front as a table: for the terminal as aligned text, for the page as cells.

use super::front::Against;
use super::units;
use crate::run::{Column, Front, FrontPoint, HeldOut};

/// Columns and rows in human units; the last row is the parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Names of the columns.
    pub header: Vec<String>,
    /// One row a network.
    pub rows: Vec<Vec<String>>,
}

/// Objectives that the table always shows, in columns of their own.
const SHOWN: [&str; 4] = ["params", "weight_bytes", "prefill_tps", "decode_tps"];

/// What is shown of speed where it was measured, with its column.
const SPEEDS: [(&str, &str); 2] = [("prefill tok/s", "prefill_tps"), ("decode tok/s", "decode_tps")];

/// The held-out scores to show: the tasks' accuracies, or all where there is no task.
fn scores<'a>(front: &Front, point: &'a FrontPoint) -> &'a [HeldOut] {
    if front.chance.is_empty() { &point.held_out } else { front.accuracies(point) }
}

/// What the front is worth: for each task the accuracy over all budgets, in a line.
pub fn worth(front: &Front) -> Vec<String> {
    let Some(over) = &front.over_budgets else { return Vec::new() };
    let from = units::percent(over.from as f64 / over.to.max(1) as f64);
    let line = |score: &HeldOut| {
        let (value, delta) =
            (units::with_error(score.value, score.stderr), units::signed_with_error(score.delta, score.delta_stderr));
        format!("{} over all budgets from {from} to 100% of the parent: {value}, to parent {delta}", score.name)
    };
    over.scores.iter().map(line).collect()
}

impl Table {
    /// The front, then the parent. Held-out scores are the tasks' accuracies, or all scores where there is no task.
    pub fn new(front: &Front) -> Table {
        let known = front.columns();
        let exact = |name: &String| Front::float32_name(name);
        let speeds: Vec<(&str, &str)> = SPEEDS.into_iter().filter(|(_, name)| known.contains(name)).collect();
        let mut header: Vec<String> = ["id", "params", "of parent", "weights"].map(String::from).to_vec();
        header.extend(speeds.iter().map(|(name, _)| name.to_string()));
        let columns: Vec<&Column> =
            front.objectives.iter().filter(|column| !SHOWN.contains(&column.name.as_str())).collect();
        for Column { name, .. } in &columns {
            header.push(format!("{name} (search)"));
            header.extend(known.contains(&exact(name).as_str()).then(|| format!("{name} (search, f32)")));
        }
        for HeldOut { name, .. } in scores(front, &front.parent) {
            header.push(format!("{name} (held-out)"));
            header.push("to parent".into());
        }
        header.push(String::new());

        let (knee, size) = (front.knee(), Against::size(front));
        let row = |point: &FrontPoint, marks: String| {
            let mut cells = vec![
                point.id.to_string(),
                units::count(point.value("params").unwrap_or(f64::NAN)),
                units::percent(size.whole(point) as f64 / size.whole(&front.parent).max(1) as f64),
                units::bytes(point.value("weight_bytes").unwrap_or(f64::NAN)),
            ];
            cells.extend(speeds.iter().map(|(_, name)| point.value(name).map_or("-".into(), units::thousands)));
            for Column { name, unit, .. } in &columns {
                cells.push(units::measured(point.value(name).unwrap_or(f64::NAN), unit));
                let in_f32 = known.contains(&exact(name).as_str()).then(|| point.value(&exact(name)));
                cells.extend(in_f32.map(|value| units::measured(value.unwrap_or(f64::NAN), unit)));
            }
            for score in scores(front, point) {
                cells.push(units::with_error(score.value, score.stderr));
                let same = point.genome == front.parent.genome;
                cells.push(if same { "-".into() } else { units::signed_with_error(score.delta, score.delta_stderr) });
            }
            cells.push(marks);
            cells
        };
        let mut rows: Vec<Vec<String>> = front
            .points
            .iter()
            .enumerate()
            .map(|(index, point)| {
                let marks = [
                    (Some(index) == knee, "knee"),
                    (point.genome == front.parent.genome, "parent"),
                    (point.dominated_on_held_out, "dominated on held-out"),
                ];
                let marks: Vec<&str> = marks.into_iter().filter_map(|(holds, mark)| holds.then_some(mark)).collect();
                row(point, marks.join(", "))
            })
            .collect();
        if front.points.iter().all(|point| point.genome != front.parent.genome) {
            rows.push(row(&front.parent, "parent".into()));
        }
        Table { header, rows }
    }

    /// Aligned text, one line a row: numbers to the right, marks to the left.
    pub fn text(&self) -> String {
        let length = |cell: &String| cell.chars().count();
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| {
                self.rows.iter().chain([&self.header]).map(|row| length(&row[column])).max().unwrap_or_default()
            })
            .collect();
        let line = |row: &Vec<String>| {
            let last = row.len() - 1;
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, width))| if column == last { cell.clone() } else { format!("{cell:>width$}") })
                .collect();
            cells.join("  ").trim_end().to_string() + "\n"
        };
        std::iter::once(&self.header).chain(&self.rows).map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn writes_an_aligned_table() {
        let (front, _) = fixture::run(4, 3);
        let expected = "\
id  params  of parent   weights  prefill tok/s  choice_nll:arc_easy (search)  accuracy:arc_easy (held-out)       to parent
 1  67.25M      50.0%  134.5 MB          1,624                         1.288                 0.323 ± 0.028  -0.188 ± 0.015
 2  89.67M      66.7%  179.3 MB          1,218                         1.211                 0.399 ± 0.028  -0.111 ± 0.015  knee, dominated on held-out
 3  112.1M      83.3%  224.2 MB            974                         1.149                 0.461 ± 0.028  -0.049 ± 0.015
 0  134.5M     100.0%  269.0 MB            812                         1.100                 0.510 ± 0.028               -  parent
";
        assert_eq!(Table::new(&front).text(), expected);
    }

    #[test]
    fn shows_what_there_is_when_there_is_no_task_and_no_throughput() {
        let (mut front, _) = fixture::run(4, 2);
        front.chance.clear();
        for point in front.points.iter_mut().chain([&mut front.parent]) {
            point.values.remove("prefill_tps");
            point.held_out.remove(0);
        }
        let table = Table::new(&front);
        assert_eq!(
            table.header[4..],
            ["choice_nll:arc_easy (search)", "choice_nll:arc_easy (held-out)", "to parent", ""]
        );
        assert!(table.rows.iter().all(|row| row.len() == table.header.len()));
    }

    #[test]
    fn a_parent_on_the_front_is_one_row() {
        let (mut front, _) = fixture::run(4, 3);
        front.points.push(front.parent.clone());
        let table = Table::new(&front);
        assert_eq!(table.rows.len(), 4);
        assert_eq!(table.rows[3].last().unwrap(), "parent");
    }
}
