//! Heads and MLP widths of every layer over the front, point by point.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::canvas::{Canvas, Drawn};
use super::front::Against;
use super::picture::{Drawing, Picture};
use super::scale::Scale;
use super::style::{self, HEADING, INK, MARGIN, MEDIUM, MUTED, SMALL, WIDTH, text};
use crate::error::{Error, Result};
use crate::run::{Front, FrontPoint};
use crate::space::Gene;

/// Pixels of the cells' rows, however many.
const ROWS: i32 = 460;
/// A row is never higher than this.
const ROW: i32 = 34;
/// Room for the names of the rows.
const NAMES: i32 = 130;
/// Pixels between the two panels, and between the points and their mean.
const GAP: i32 = 36;
/// From the upper edge of the panels' titles to the first row.
const TITLE: i32 = 32;
/// Layer numbers, their name, the colour scale and its ticks.
const FOOT: i32 = 128;

/// A title, the parent's value, and the value of a layer.
type Panel = (&'static str, usize, fn(&Gene) -> u32);

struct Heatmap<'a> {
    front: &'a Front,
    /// The front, largest first.
    points: Vec<&'a FrontPoint>,
}

/// Points by size (rows) and layers (columns): query heads on the left, then MLP width, and bits where there are
/// quantized networks; the mean over the front below. Errors: the front is empty.
pub fn heatmap(front: &Front) -> Result<Picture> {
    if front.points.is_empty() {
        return Err(Error::invalid("heat map of the front", "no points", "at least one"));
    }
    let mut points: Vec<&FrontPoint> = front.points.iter().collect();
    let size = Against::size(front);
    points.sort_by_key(|point| (std::cmp::Reverse(size.whole(point)), point.id));
    Picture::of(&Heatmap { front, points })
}

fn points_are_quantized(points: &[&FrontPoint]) -> bool {
    points.iter().any(|point| point.genome.is_quantized())
}

/// The distinct values of a front, ascending, the parent's among them.
pub(super) fn distinct(values: impl IntoIterator<Item = u32>, full: usize) -> Vec<u32> {
    let mut distinct: Vec<u32> = values.into_iter().chain(u32::try_from(full)).collect();
    distinct.sort_unstable();
    distinct.dedup();
    distinct
}

/// Cell number `index` of `count` that share `length` pixels.
pub(super) fn cell(index: usize, count: usize, length: i32) -> std::ops::Range<i32> {
    let edge = |index: usize| (index as i64 * i64::from(length) / count as i64) as i32;
    edge(index)..edge(index + 1)
}

/// Every how many of `count` equal steps along `length` pixels a label of `room` pixels fits, as 1, 2, 5, 10, ...
pub(super) fn stride(count: usize, length: i32, room: i32) -> usize {
    let steps = (0..).flat_map(|power| [1, 2, 5].map(|digit| digit * 10usize.pow(power)));
    let fits = |step: &usize| *step as i64 * i64::from(length) >= i64::from(room) * count as i64;
    steps.take(18).find(fits).unwrap_or(count)
}

impl Heatmap<'_> {
    fn rows_height(&self) -> i32 {
        ROWS.min(ROW * self.points.len() as i32)
    }

    /// The mean of one point is that point.
    fn mean_height(&self) -> i32 {
        if self.points.len() > 1 { 26 + 10 } else { 0 }
    }

    fn panel<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        columns: std::ops::Range<i32>,
        title: &str,
        full: usize,
        value: impl Fn(&FrontPoint, usize) -> u32,
    ) -> Drawn<DB> {
        let layers = self.front.shape.layers;
        let scale = Scale { full: full as f64 };
        let (left, wide) = (columns.start, columns.end - columns.start);
        let top = HEADING + TITLE;
        canvas.draw(&Text::new(title.to_string(), (left, HEADING), text(MEDIUM, INK, HPos::Left, VPos::Top)))?;
        let row = |colors: &[RGBColor], rows| draw_row(canvas, columns.clone(), colors, rows);
        let height = self.rows_height();
        for (index, point) in self.points.iter().enumerate() {
            let colors: Vec<RGBColor> = (0..layers).map(|layer| scale.color(value(point, layer).into())).collect();
            let y = cell(index, self.points.len(), height);
            let line = i32::from(y.len() >= 6);
            row(&colors, top + y.start..top + y.end - line)?;
        }
        let mut bottom = top + height;
        if self.mean_height() > 0 {
            let mean = |layer: usize| {
                self.points.iter().map(|point| f64::from(value(point, layer))).sum::<f64>() / self.points.len() as f64
            };
            let colors: Vec<RGBColor> = (0..layers).map(|layer| scale.color(mean(layer))).collect();
            row(&colors, bottom + 10..bottom + self.mean_height())?;
            bottom += self.mean_height();
        }
        if wide >= 8 * layers as i32 {
            for layer in 1..layers {
                let x = left + cell(layer, layers, wide).start;
                canvas.draw(&PathElement::new([(x, top), (x, bottom)], WHITE))?;
            }
        }
        draw_layers(canvas, columns, layers, bottom)?;
        let used =
            self.points.iter().flat_map(|point| (0..layers).map(|layer| value(point, layer)).collect::<Vec<_>>());
        scale.legend(canvas, (left, bottom + 66), wide, &distinct(used, full))
    }
}

/// One network's layers, or the mean's.
fn draw_row<DB: DrawingBackend>(
    canvas: &Canvas<DB>,
    columns: std::ops::Range<i32>,
    colors: &[RGBColor],
    rows: std::ops::Range<i32>,
) -> Drawn<DB> {
    let (left, wide) = (columns.start, columns.end - columns.start);
    // Equal neighbours are one rectangle: a front of 60 points on 80 layers stays a small file.
    let mut layer = 0;
    for run in colors.chunk_by(|a, b| a == b) {
        let x = cell(layer, colors.len(), wide).start..cell(layer + run.len() - 1, colors.len(), wide).end;
        let corners = [(left + x.start, rows.start), (left + x.end, rows.end)];
        canvas.draw(&Rectangle::new(corners, run[0].filled()))?;
        layer += run.len();
    }
    Ok(())
}

/// The numbers of the layers below `bottom`.
fn draw_layers<DB: DrawingBackend>(
    canvas: &Canvas<DB>,
    columns: std::ops::Range<i32>,
    layers: usize,
    bottom: i32,
) -> Drawn<DB> {
    let (left, wide) = (columns.start, columns.end - columns.start);
    let center = text(SMALL, INK, HPos::Center, VPos::Top);
    for layer in (0..layers).step_by(stride(layers, wide, 30)) {
        let x = cell(layer, layers, wide);
        canvas.draw(&Text::new(layer.to_string(), (left + (x.start + x.end) / 2, bottom + 6), center.clone()))?;
    }
    canvas.draw(&Text::new("layer", (left + wide / 2, bottom + 30), center))
}

impl Drawing for Heatmap<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH, (HEADING + TITLE + self.rows_height() + self.mean_height() + FOOT) as u32)
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn<DB> {
        let points = self.points.len();
        let title = format!("{}: what the front keeps of each layer", self.front.model);
        let facts = match points {
            1 => "the one network of the front; darker is wider".to_string(),
            _ => format!("{points} networks of the front, largest above, and their mean below; darker is wider"),
        };
        style::heading(canvas, &title, &facts)?;
        let shape = &self.front.shape;
        let mut panels: Vec<Panel> =
            vec![("query heads", shape.heads, |gene| gene.heads), ("MLP width", shape.mlp, |gene| gene.mlp)];
        if points_are_quantized(&self.points) {
            panels.push(("bits", 16, |gene| if gene.is_dropped() { 0 } else { gene.bits.nominal() }));
        }
        let count = panels.len() as i32;
        let wide = (WIDTH as i32 - NAMES - (count - 1) * GAP - 2 * MARGIN) / count;
        let left = MARGIN + NAMES;
        for (place, (title, full, of)) in (0..).zip(panels) {
            let from = left + place * (wide + GAP);
            self.panel(canvas, from..from + wide, title, full, |point, layer| of(&point.genome.genes()[layer]))?;
        }

        let size = Against::size(self.front);
        let names = text(SMALL, INK, HPos::Right, VPos::Center);
        let top = HEADING + TITLE;
        canvas.draw(&Text::new("id, size", (left - 8, HEADING), text(SMALL, MUTED, HPos::Right, VPos::Top)))?;
        for index in (0..points).step_by(stride(points, self.rows_height(), 19)) {
            let y = cell(index, points, self.rows_height());
            let point = self.points[index];
            let name = format!("{}, {}", point.id, size.text(point));
            canvas.draw(&Text::new(name, (left - 8, top + (y.start + y.end) / 2), names.clone()))?;
        }
        if self.mean_height() > 0 {
            let y = top + self.rows_height() + 10 + 13;
            canvas.draw(&Text::new("mean", (left - 8, y), names))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_cover_the_length_without_holes() {
        for (count, length) in [(80, 411), (3, 34), (60, 460), (1, 7)] {
            let cells: Vec<_> = (0..count).map(|index| cell(index, count, length)).collect();
            assert_eq!((cells[0].start, cells[count - 1].end), (0, length));
            assert!(cells.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }

    #[test]
    fn labels_keep_their_distance() {
        assert_eq!(stride(30, 411, 30), 5);
        assert_eq!(stride(4, 411, 30), 1);
        assert_eq!(stride(80, 411, 30), 10);
        assert_eq!(stride(12, 408, 19), 1);
    }
}
