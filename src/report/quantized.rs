//! A front before and after quantization: every network moves to fewer bytes, and to the score it has there; below, how much
//! that score changed.

use std::ops::Range;

use plotters::coord::CoordTranslate;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::canvas::{Canvas, Drawn};
use super::legend::{Legend, Mark};
use super::picture::{Drawing, Picture};
use super::style::{self, GRID, HEADING, MARGIN, MUTED, PALETTE};
use super::units;
use crate::error::{Error, Result};
use crate::run::{Change, QuantizedFront, QuantizedPoint};

const BEFORE: RGBColor = PALETTE[6];
const AFTER: RGBColor = PALETTE[0];
const RADIUS: i32 = 5;
/// Height of the lower panel, pixels.
const CHANGES: u32 = 250;

struct Moves<'a> {
    title: String,
    facts: String,
    score_axis: String,
    change_axis: String,
    format: &'a str,
    moves: Vec<Move>,
}

/// (bytes, score, standard error)
type Place = (f64, f64, f64);

/// One network.
struct Move {
    before: Place,
    after: Place,
    /// (bytes after, paired change of the score, its standard error)
    change: Place,
}

impl Move {
    fn places(&self) -> [Place; 3] {
        [self.before, self.after, self.change]
    }
}

/// Held-out score number `score` of every point against the bytes of its weights, before and after, with one standard
/// error; below it the change of each, paired item by item, with its own standard error.
///
/// Errors: no point has that score.
fn quantized(front: &QuantizedFront, score: usize) -> Result<Picture> {
    let one = |point: &QuantizedPoint| {
        let &Change { before, before_stderr, after, after_stderr, change, change_stderr, .. } =
            point.changes.get(score)?;
        let (bytes_before, bytes) = (point.bytes_before as f64, point.bytes as f64);
        let one = Move {
            before: (bytes_before, before, before_stderr),
            after: (bytes, after, after_stderr),
            change: (bytes, change, change_stderr),
        };
        let has_place = |&(x, y, bar): &Place| [x, y, bar].iter().all(|value| value.abs() < style::BEYOND);
        one.places().iter().all(has_place).then_some(one)
    };
    let moves: Vec<Move> = front.points.iter().filter_map(one).collect();
    let (Some(mean), false) = (front.mean.get(score), moves.is_empty()) else {
        return Err(Error::invalid("picture of a quantized front", "no point with a score", "at least one"));
    };
    let (metric, task) = mean.name.split_once(':').unwrap_or((&mean.name, ""));
    Picture::of(&Moves {
        title: format!("{} on {task}: {metric} before and after {}", front.model, front.format),
        facts: format!(
            "{} held-out items, bars are ± 1 standard error; over the front: score {}, bytes {} of before{}",
            units::thousands(mean.items as f64),
            units::signed_with_error(mean.change, mean.change_stderr),
            units::percent(front.bytes_share()),
            if front.parent_quantized { "; the parent was quantized itself" } else { "" }
        ),
        score_axis: format!("{metric} on {task} (held-out)"),
        change_axis: format!("change of {metric}"),
        format: &front.format,
        moves,
    })
}

/// The pictures of all scores, with the names of their files: `quantized`, or numbered where there are several.
///
/// Errors: a score that no point has.
pub fn pictures(front: &QuantizedFront) -> Result<Vec<(String, Picture)>> {
    let count = front.mean.len();
    let stem = |place: usize| if count == 1 { "quantized".to_string() } else { format!("quantized-{}", place + 1) };
    (0..count).map(|place| Ok((stem(place), quantized(front, place)?))).collect()
}

impl Drawing for Moves<'_> {
    fn size(&self) -> (u32, u32) {
        (style::WIDTH, style::HEIGHT + CHANGES)
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn<DB> {
        style::heading(canvas, &self.title, &self.facts)?;
        let entries = [(BEFORE, "before"), (AFTER, self.format)];
        let entries = entries.map(|(color, label)| (Mark::Dot(color, RADIUS), label.to_string()));
        let legend = Legend::new(canvas, entries.into());
        let (width, height) = canvas.dim_in_pixel();
        let bottom = height as i32 - legend.height() - 16;
        legend.draw(canvas, bottom + 6)?;
        let x = style::padded_range(self.moves.iter().flat_map(|one| [one.before.0, one.after.0]), 0.06);
        let panel = |top: i32, bottom: i32| {
            canvas.clone().shrink((MARGIN, top), (width - 2 * MARGIN as u32, (bottom - top) as u32))
        };
        let border = bottom - CHANGES as i32;
        let scores: Vec<Place> = self.moves.iter().flat_map(|one| [one.before, one.after]).collect();
        let (upper, lower) = (panel(HEADING, border), panel(border, bottom));
        let plane = axes(&upper, x.clone(), &scores, 9, ("", &self.score_axis))?;
        for Move { before, after, .. } in &self.moves {
            canvas.draw(&PathElement::new(
                [(before.0, before.1), (after.0, after.1)].map(|end| plane.translate(&end)),
                GRID.mix(1.0),
            ))?;
        }
        bars(canvas, self.moves.iter().map(|one| one.before), (BEFORE, MUTED), &plane)?;
        bars(canvas, self.moves.iter().map(|one| one.after), (AFTER, AFTER), &plane)?;
        let changes: Vec<Place> = self.moves.iter().map(|one| one.change).collect();
        let with_zero: Vec<Place> = changes.iter().copied().chain([(x.start, 0.0, 0.0)]).collect();
        let plane = axes(&lower, x.clone(), &with_zero, 5, ("bytes of the weights", &self.change_axis))?;
        canvas.draw(&PathElement::new([(x.start, 0.0), (x.end, 0.0)].map(|end| plane.translate(&end)), MUTED))?;
        bars(canvas, changes.into_iter(), (AFTER, AFTER), &plane)
    }
}

/// Where values lie, in pixels.
type Plane = Cartesian2d<RangedCoordf64, RangedCoordf64>;

/// Axes on which all of these places and their errors are.
fn axes<DB: DrawingBackend>(
    area: &Canvas<DB>,
    x: Range<f64>,
    places: &[Place],
    labels: usize,
    (x_axis, y_axis): (&str, &str),
) -> std::result::Result<Plane, DrawingAreaErrorKind<DB::ErrorType>> {
    let y = style::padded_range(places.iter().flat_map(|&(_, y, bar)| [y - bar, y + bar]), 0.06);
    let decimals = style::decimals(&y);
    let x_area = if x_axis.is_empty() { 30 } else { 60 };
    let mut chart = ChartBuilder::on(area).x_label_area_size(x_area).y_label_area_size(82).build_cartesian_2d(x, y)?;
    style::quiet(&mut chart.configure_mesh())
        .x_labels(8)
        .y_labels(labels)
        .x_label_formatter(&|value| units::bytes_tick(*value))
        .y_label_formatter(&|value| units::fixed(*value, decimals))
        .x_desc(x_axis)
        .y_desc(y_axis)
        .draw()?;
    Ok(chart.as_coord_spec().clone())
}

/// A dot at each place, with a bar of one standard error.
fn bars<DB: DrawingBackend>(
    canvas: &Canvas<DB>,
    places: impl Iterator<Item = Place>,
    (dot, bar): (RGBColor, RGBColor),
    plane: &Plane,
) -> Drawn<DB> {
    for (x, y, error) in places {
        let ends = [(x, y - error), (x, y + error)].map(|end| plane.translate(&end));
        canvas.draw(&PathElement::new(ends, bar))?;
        Mark::Dot(dot, RADIUS).draw(canvas, plane.translate(&(x, y)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front(points: usize) -> QuantizedFront {
        let change = |id: usize| Change {
            name: "accuracy:arc_easy".into(),
            items: 1200,
            before: 0.3 + 0.01 * id as f64,
            before_stderr: 0.014,
            after: 0.295 + 0.01 * id as f64,
            after_stderr: 0.014,
            change: -0.005,
            change_stderr: 0.003,
        };
        let point = |id: usize| QuantizedPoint {
            id,
            genome: "4x128@8*4".parse().unwrap(),
            bytes_before: 100_000_000 + 10_000_000 * id as u64,
            bytes: 53_000_000 + 5_300_000 * id as u64,
            changes: vec![change(id)],
        };
        let points = (0..points).map(point).collect();
        QuantizedFront {
            parent_quantized: true,
            model: "SmolLM2-135M".into(),
            format: "Q8_0".into(),
            points,
            mean: vec![change(3)],
        }
    }

    #[test]
    fn shows_every_network_before_and_after_and_its_change() {
        let svg = quantized(&front(5), 0).unwrap().svg;
        // Two more in the legend.
        assert_eq!(svg.matches("<circle").count(), 3 * 5 + 2);
        for text in
            ["change of accuracy", "accuracy before and after Q8_0", "bytes 53.0% of before", "-0.005 ± 0.003", "60 MB"]
        {
            assert!(svg.contains(text), "{text} in {svg}");
        }
    }

    #[test]
    fn nothing_to_draw_is_an_error() {
        for (front, score) in [(front(0), 0), (front(2), 1)] {
            let error = quantized(&front, score).unwrap_err().to_string();
            assert!(error.starts_with("picture of a quantized front"), "{error}");
        }
    }
}
