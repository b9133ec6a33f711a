//! A front before and after quantization: every network moves to fewer bytes, and to the score it has there.

use plotters::prelude::*;

use super::legend::{Legend, Mark};
use super::picture::{Canvas, Drawing, Drawn, Picture};
use super::style::{self, GRID, HEADING, MARGIN, MUTED, PALETTE};
use super::units;
use crate::error::{Error, Result};
use crate::search::record::{Change, QuantizedFront, QuantizedPoint};

const BEFORE: RGBColor = PALETTE[6];
const AFTER: RGBColor = PALETTE[0];
const RADIUS: i32 = 5;

struct Moves<'a> {
    title: String,
    facts: String,
    y_axis: String,
    format: &'a str,
    /// (bytes, score, standard error) before and after.
    pairs: Vec<[(f64, f64, f64); 2]>,
}

/// Held-out score number `score` of every point against the bytes of its weights, before and after, with one standard
/// error.
///
/// Errors: no point has that score.
pub fn quantized(front: &QuantizedFront, score: usize) -> Result<Picture> {
    let pair = |point: &QuantizedPoint| {
        let Change { before, before_stderr, after, after_stderr, .. } = point.changes.get(score)?;
        let ends = [(point.bytes_before as f64, *before, *before_stderr), (point.bytes as f64, *after, *after_stderr)];
        let has_place = |&(x, y, bar): &(f64, f64, f64)| [x, y, bar].iter().all(|value| value.abs() < style::BEYOND);
        ends.iter().all(has_place).then_some(ends)
    };
    let pairs: Vec<_> = front.points.iter().filter_map(pair).collect();
    let (Some(mean), false) = (front.mean.get(score), pairs.is_empty()) else {
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
        y_axis: format!("{metric} on {task} (held-out)"),
        format: &front.format,
        pairs,
    })
}

impl Drawing for Moves<'_> {
    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn<DB> {
        style::heading(canvas, &self.title, &self.facts)?;
        let entries = [(BEFORE, "before"), (AFTER, self.format)];
        let entries = entries.map(|(color, label)| (Mark::Dot(color, RADIUS), label.to_string()));
        let legend = Legend::new(canvas, entries.into());
        let (width, height) = canvas.dim_in_pixel();
        let bottom = height as i32 - legend.height() - 16;
        legend.draw(canvas, bottom + 6)?;
        let ends = || self.pairs.iter().flatten();
        let x = style::padded_range(ends().map(|end| end.0), 0.06);
        let y = style::padded_range(ends().flat_map(|&(_, y, bar)| [y - bar, y + bar]), 0.06);
        let decimals = style::decimals(&y);
        let plot = canvas.clone().shrink((MARGIN, HEADING), (width - 2 * MARGIN as u32, (bottom - HEADING) as u32));
        let mut chart = ChartBuilder::on(&plot).x_label_area_size(60).y_label_area_size(82).build_cartesian_2d(x, y)?;
        style::quiet(&mut chart.configure_mesh())
            .x_labels(8)
            .y_labels(9)
            .x_label_formatter(&|value| units::bytes_tick(*value))
            .y_label_formatter(&|value| format!("{value:.decimals$}"))
            .x_desc("bytes of the weights")
            .y_desc(&self.y_axis)
            .draw()?;
        let pixel = |x: f64, y: f64| chart.backend_coord(&(x, y));
        for [before, after] in &self.pairs {
            canvas.draw(&PathElement::new([pixel(before.0, before.1), pixel(after.0, after.1)], GRID.mix(1.0)))?;
        }
        for (color, end) in [(BEFORE, 0), (AFTER, 1)] {
            for &(x, y, bar) in self.pairs.iter().map(|pair| &pair[end]) {
                let bar_color = if end == 0 { MUTED } else { color };
                canvas.draw(&PathElement::new([pixel(x, y - bar), pixel(x, y + bar)], bar_color))?;
                Mark::Dot(color, RADIUS).draw(canvas, pixel(x, y))?;
            }
        }
        Ok(())
    }
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
    fn shows_every_network_twice() {
        let svg = quantized(&front(5), 0).unwrap().svg;
        // One more of each colour in the legend.
        assert_eq!(svg.matches("<circle").count(), 2 * 5 + 2);
        for text in ["accuracy before and after Q8_0", "bytes 53.0% of before", "-0.005 ± 0.003", "60 MB"] {
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
