//! How likely each choice is over the front: layer counts, and every layer's MLP width and head count
//! (the figure of LLaMA-NAS, Sarah et al. 2024, section 4.5).

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::canvas::{Canvas, Drawn};
use super::heatmap::{cell, distinct, stride};
use super::picture::{Drawing, Picture};
use super::scale::Scale;
use super::style::{self, GRID, HEADING, INK, MARGIN, MEDIUM, MUTED, PALETTE, SMALL, text};
use super::units;
use crate::error::{Error, Result};
use crate::run::Front;
use crate::space::Gene;

/// Room for the ticks of the probabilities.
const TICKS: i32 = 52;
/// Room for the legend at the right.
const LEGEND: i32 = 132;
/// Height of one panel's plot.
const PANEL: i32 = 126;
/// From one panel's title to the next one's.
const STEP: i32 = 210;
/// More values than this get a scale instead of a list.
const LISTED: usize = 6;

struct Probabilities<'a> {
    front: &'a Front,
}

/// The probability of each layer count, and of each MLP width and head count in every layer, over the points of the front.
/// Errors: the front is empty.
pub fn probabilities(front: &Front) -> Result<Picture> {
    if front.points.is_empty() {
        return Err(Error::invalid("probabilities over the front", "no points", "at least one"));
    }
    Picture::of(&Probabilities { front })
}

/// The share of `values` that equals each of `choices`.
fn shares(values: &[u32], choices: &[u32]) -> Vec<f64> {
    let count = |choice: &u32| values.iter().filter(|value| *value == choice).count();
    choices.iter().map(|choice| count(choice) as f64 / values.len() as f64).collect()
}

impl Probabilities<'_> {
    /// Title, probability axis and grid of the panel whose plot has these columns and this upper edge.
    fn axes<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        columns: &std::ops::Range<i32>,
        top: i32,
        title: &str,
    ) -> Drawn<DB> {
        let above = text(MEDIUM, INK, HPos::Left, VPos::Bottom);
        canvas.draw(&Text::new(title.to_string(), (columns.start, top - 5), above))?;
        let ticks = text(SMALL, INK, HPos::Right, VPos::Center);
        for (share, label) in [(0.0, "0"), (0.5, "0.5"), (1.0, "1")] {
            let y = top + PANEL - (share * f64::from(PANEL)) as i32;
            canvas.draw(&PathElement::new([(columns.start - 5, y), (columns.end, y)], GRID))?;
            canvas.draw(&Text::new(label, (columns.start - 9, y), ticks.clone()))?;
        }
        let upright = text(SMALL, MUTED, HPos::Center, VPos::Top).transform(FontTransform::Rotate270);
        canvas.draw(&Text::new("probability", (columns.start - TICKS - 8, top + PANEL / 2), upright))
    }

    fn depths<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, columns: std::ops::Range<i32>, top: i32) -> Drawn<DB> {
        let depths: Vec<u32> = self.front.points.iter().map(|point| point.genome.depth() as u32).collect();
        let first = depths.iter().min().map_or(0, |least| least.saturating_sub(1));
        let last = depths.iter().max().map_or(1, |most| most + 1).min(self.front.shape.layers as u32);
        self.axes(canvas, &columns, top, "layers kept")?;
        let choices: Vec<u32> = (first..=last).collect();
        let wide = columns.end - columns.start;
        let labels = text(SMALL, INK, HPos::Center, VPos::Top);
        let every = stride(choices.len(), wide, 34);
        for (index, share) in shares(&depths, &choices).into_iter().enumerate() {
            let x = cell(index, choices.len(), wide);
            let middle = columns.start + (x.start + x.end) / 2;
            let half = ((x.end - x.start) * 2 / 5).clamp(1, 26);
            let y = top + PANEL - (share * f64::from(PANEL)).round() as i32;
            if share > 0.0 {
                canvas
                    .draw(&Rectangle::new([(middle - half, y), (middle + half, top + PANEL)], PALETTE[0].filled()))?;
            }
            if choices[index].is_multiple_of(every as u32) {
                canvas.draw(&Text::new(choices[index].to_string(), (middle, top + PANEL + 6), labels.clone()))?;
            }
        }
        canvas.draw(&PathElement::new([(columns.start, top + PANEL), (columns.end, top + PANEL)], MUTED))?;
        canvas.draw(&Text::new("layers", ((columns.start + columns.end) / 2, top + PANEL + 26), labels))
    }

    fn widths<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        columns: std::ops::Range<i32>,
        top: i32,
        what: (&str, usize, fn(&Gene) -> u32),
    ) -> Drawn<DB> {
        let (title, full, value) = what;
        self.axes(canvas, &columns, top, title)?;
        let layers = self.front.shape.layers;
        let genomes = || self.front.points.iter().map(|point| point.genome.genes());
        let choices = distinct(genomes().flat_map(|genes| genes.iter().map(value)), full);
        let scale = Scale { full: full as f64 };
        let wide = columns.end - columns.start;
        let labels = text(SMALL, INK, HPos::Center, VPos::Top);
        let every = stride(layers, wide, 34);
        for layer in 0..layers {
            let values: Vec<u32> = genomes().map(|genes| value(&genes[layer])).collect();
            let x = cell(layer, layers, wide);
            let gap = i32::from(x.len() >= 5);
            let mut stacked = 0.0;
            for (share, choice) in shares(&values, &choices).into_iter().zip(&choices) {
                let y = |share: f64| top + PANEL - (share * f64::from(PANEL)).round() as i32;
                let corners =
                    [(columns.start + x.start + gap, y(stacked + share)), (columns.start + x.end - gap, y(stacked))];
                if share > 0.0 {
                    canvas.draw(&Rectangle::new(corners, scale.color((*choice).into()).filled()))?;
                }
                stacked += share;
            }
            if layer % every == 0 {
                let middle = columns.start + (x.start + x.end) / 2;
                canvas.draw(&Text::new(layer.to_string(), (middle, top + PANEL + 6), labels.clone()))?;
            }
        }
        canvas.draw(&Text::new("layer", ((columns.start + columns.end) / 2, top + PANEL + 26), labels))?;
        self.key(canvas, (columns.end + 18, top), &scale, &choices)
    }

    /// The colours of `choices`, the widest above: all of them, or a scale with its ends.
    fn key<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        (left, top): (i32, i32),
        scale: &Scale,
        choices: &[u32],
    ) -> Drawn<DB> {
        let style = text(SMALL, INK, HPos::Left, VPos::Center);
        let name = |choice: u32| if choice == 0 { "removed".into() } else { units::thousands(choice.into()) };
        if choices.len() <= LISTED {
            for (row, choice) in choices.iter().rev().enumerate() {
                let y = top + 21 * row as i32;
                let swatch = [(left, y + 2), (left + 15, y + 17)];
                canvas.draw(&Rectangle::new(swatch, scale.color((*choice).into()).filled()))?;
                canvas.draw(&Text::new(name(*choice), (left + 22, y + 10), style.clone()))?;
            }
            return Ok(());
        }
        let removed = choices.contains(&0);
        let length = PANEL - if removed { 30 } else { 6 };
        for y in 0..length {
            let value = scale.full * f64::from(length - y) / f64::from(length);
            canvas.draw(&Rectangle::new([(left, top + y), (left + 15, top + y + 1)], scale.color(value).filled()))?;
        }
        let mut free = top - 20;
        for choice in choices.iter().rev().filter(|choice| **choice > 0) {
            let y = top + length - (f64::from(length) * f64::from(*choice) / scale.full.max(1.0)).round() as i32;
            if y >= free {
                canvas.draw(&Text::new(name(*choice), (left + 22, y.max(top + 6)), style.clone()))?;
                free = y.max(top + 6) + 20;
            }
        }
        if removed {
            let y = top + PANEL - 16;
            canvas.draw(&Rectangle::new([(left, y), (left + 15, y + 15)], scale.color(0.0).filled()))?;
            canvas.draw(&Text::new("removed", (left + 22, y + 8), style))?;
        }
        Ok(())
    }
}

impl Drawing for Probabilities<'_> {
    fn size(&self) -> (u32, u32) {
        (style::WIDTH, (HEADING + 3 * STEP + 8) as u32)
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn<DB> {
        let shape = &self.front.shape;
        let title = format!("{}: how often the front makes each choice", self.front.model);
        let facts = match self.front.points.len() {
            1 => format!("the one network of the front, of a parent with {} layers", shape.layers),
            points => format!("{points} networks of the front, of a parent with {} layers", shape.layers),
        };
        style::heading(canvas, &title, &facts)?;
        let columns = MARGIN + TICKS..style::WIDTH as i32 - MARGIN - LEGEND;
        let top = |panel: i32| HEADING + 32 + panel * STEP;
        self.depths(canvas, columns.clone(), top(0))?;
        self.widths(canvas, columns.clone(), top(1), ("MLP width of each layer", shape.mlp, |gene| gene.mlp))?;
        self.widths(canvas, columns, top(2), ("query heads of each layer", shape.heads, |gene| gene.heads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_counted_over_the_front() {
        assert_eq!(shares(&[9, 6, 9, 0], &[0, 3, 6, 9]), [0.25, 0.0, 0.25, 0.5]);
    }
}
