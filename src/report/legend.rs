//! Marks of points and lines, and the legend that explains them in the same shapes.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::canvas::{Canvas, Drawn};
use super::style::{INK, MARGIN, SMALL, text, width};

/// Height of one row of a legend, in pixels.
pub const ROW: i32 = 26;

/// The shape of a thing in a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mark {
    /// A filled circle of this radius.
    Dot(RGBColor, i32),
    /// A circle around another mark.
    Ring(RGBColor, i32),
    /// A filled square on its corner.
    Diamond(RGBColor, i32),
    /// A horizontal line.
    Line(RGBColor),
    /// A horizontal broken line.
    Dashes(RGBColor),
}

impl Mark {
    /// Draws it with its centre at `at`.
    pub fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, at: (i32, i32)) -> Drawn<DB> {
        let (x, y) = at;
        match *self {
            Mark::Dot(color, radius) => canvas.draw(&Circle::new(at, radius, color.filled())),
            Mark::Ring(color, radius) => canvas.draw(&Circle::new(at, radius, color.stroke_width(2))),
            Mark::Diamond(color, radius) => {
                let corners = [(x - radius, y), (x, y - radius), (x + radius, y), (x, y + radius)];
                canvas.draw(&Polygon::new(corners, color.filled()))?;
                let outline = corners.into_iter().chain([corners[0]]).collect::<Vec<_>>();
                canvas.draw(&PathElement::new(outline, color))
            }
            Mark::Line(color) => canvas.draw(&PathElement::new([(x - 14, y), (x + 14, y)], color.stroke_width(3))),
            Mark::Dashes(color) => dashes(canvas, x - 14..x + 14, y, color),
        }
    }
}

/// A broken horizontal line.
pub fn dashes<DB: DrawingBackend>(canvas: &Canvas<DB>, x: std::ops::Range<i32>, y: i32, color: RGBColor) -> Drawn<DB> {
    let end = x.end;
    x.step_by(10).try_for_each(|from| {
        canvas.draw(&PathElement::new([(from, y), ((from + 6).min(end), y)], color.stroke_width(2)))
    })
}

/// Splits entries of these widths into rows of at most `room` pixels; an entry wider than that has a row of its own.
fn rows(widths: &[i32], room: i32) -> Vec<std::ops::Range<usize>> {
    let mut rows = Vec::new();
    let (mut start, mut used) = (0, 0);
    for (entry, width) in widths.iter().enumerate() {
        if entry > start && used + width > room {
            rows.push(start..entry);
            (start, used) = (entry, 0);
        }
        used += width;
    }
    rows.push(start..widths.len());
    rows
}

/// A horizontal legend, wrapped to the canvas.
pub struct Legend {
    entries: Vec<(Mark, String, i32)>,
    rows: Vec<std::ops::Range<usize>>,
}

impl Legend {
    /// Measures and wraps the entries for this canvas.
    pub fn new<DB: DrawingBackend>(canvas: &Canvas<DB>, entries: Vec<(Mark, String)>) -> Legend {
        let style = text(SMALL, INK, HPos::Left, VPos::Center);
        let entries: Vec<(Mark, String, i32)> = entries
            .into_iter()
            .map(|(mark, label)| {
                // A tenth in reserve: the viewer of an SVG may have a wider font.
                let wide = 36 + width(canvas, &label, &style) * 11 / 10 + 22;
                (mark, label, wide)
            })
            .collect();
        let widths: Vec<i32> = entries.iter().map(|(_, _, wide)| *wide).collect();
        let rows = rows(&widths, canvas.dim_in_pixel().0 as i32 - 2 * MARGIN);
        Legend { entries, rows }
    }

    /// Its height in pixels.
    pub fn height(&self) -> i32 {
        ROW * self.rows.len() as i32
    }

    /// Draws it with its upper edge at `top`.
    pub fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, top: i32) -> Drawn<DB> {
        let style = text(SMALL, INK, HPos::Left, VPos::Center);
        for (row, entries) in self.rows.iter().enumerate() {
            let y = top + ROW * row as i32 + ROW / 2;
            let mut x = MARGIN;
            for (mark, label, wide) in &self.entries[entries.clone()] {
                mark.draw(canvas, (x + 14, y))?;
                canvas.draw(&Text::new(label.clone(), (x + 36, y), style.clone()))?;
                x += wide;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_entries_that_do_not_fit() {
        assert_eq!(rows(&[30, 30, 50, 200, 10], 100), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(rows(&[30, 30, 40], 100), vec![0..3; 1]);
        assert_eq!(rows(&[], 100), vec![0..0; 1]);
    }
}
