//! The colours of widths: pale for narrow, dark for the parent's, and one of its own for what was removed.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::canvas::{Canvas, Drawn};
use super::style::{INK, MUTED, SMALL, text, width};
use super::units;

/// Colour of a half-layer that is not there.
pub const REMOVED: RGBColor = RGBColor(244, 205, 160);

/// From narrow to full: one hue, evenly darker, so that it survives any printer and any eye.
const STOPS: [RGBColor; 5] = [
    RGBColor(226, 238, 247),
    RGBColor(158, 199, 226),
    RGBColor(86, 150, 201),
    RGBColor(26, 97, 163),
    RGBColor(8, 40, 90),
];

/// Colours for 0..=`full`.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// The parent's width.
    pub full: f64,
}

impl Scale {
    /// The colour of `value`; nothing kept has a colour of its own.
    pub fn color(&self, value: f64) -> RGBColor {
        if value <= 0.0 {
            return REMOVED;
        }
        let place = (value / self.full.max(1.0)).clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
        let stop = (place as usize).min(STOPS.len() - 2);
        let share = place - stop as f64;
        let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * share).round() as u8;
        let (a, b) = (STOPS[stop], STOPS[stop + 1]);
        RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
    }

    /// A horizontal bar of all colours from `left` on, with a tick under each of `values` that has room, and a
    /// swatch for what was removed when 0 is among them.
    pub fn legend<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        (left, top): (i32, i32),
        room: i32,
        values: &[u32],
    ) -> Drawn<DB> {
        const BAR: i32 = 14;
        const SWATCH: i32 = 100;
        let style = text(SMALL, INK, HPos::Center, VPos::Top);
        let start = if values.contains(&0) {
            canvas.draw(&Rectangle::new([(left, top), (left + 24, top + BAR)], REMOVED.filled()))?;
            let below = text(SMALL, INK, HPos::Left, VPos::Top);
            canvas.draw(&Text::new("removed", (left, top + BAR + 6), below))?;
            left + SWATCH
        } else {
            left
        };
        let length = room - (start - left) - 20;
        for x in 0..length {
            let color = self.color(self.full * f64::from(x + 1) / f64::from(length));
            canvas.draw(&Rectangle::new([(start + x, top), (start + x + 1, top + BAR)], color.filled()))?;
        }
        // The full width first: it is the one label that must be there.
        let mut labels: Vec<std::ops::Range<i32>> = Vec::new();
        for value in values.iter().rev().filter(|value| **value > 0) {
            let x = start + (f64::from(length) * f64::from(*value) / self.full.max(1.0)).round() as i32;
            canvas.draw(&PathElement::new([(x, top + BAR), (x, top + BAR + 5)], MUTED))?;
            let label = units::thousands(f64::from(*value));
            let half = width(canvas, &label, &style) * 6 / 10 + 4;
            if labels.iter().all(|other| x + half < other.start || x - half > other.end) {
                canvas.draw(&Text::new(label, (x, top + BAR + 6), style.clone()))?;
                labels.push(x - half..x + half);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_is_darker_and_nothing_is_apart() {
        let scale = Scale { full: 1536.0 };
        let light = |value: f64| {
            let RGBColor(r, g, b) = scale.color(value);
            u32::from(r) + u32::from(g) + u32::from(b)
        };
        assert!((1..1536).step_by(64).all(|width| light(width.into()) > light((width + 64).into())));
        assert_eq!(scale.color(0.0), REMOVED);
        assert_eq!(scale.color(1536.0), STOPS[4]);
        assert_eq!(scale.color(9999.0), STOPS[4], "a width beyond the parent's is drawn, not a crash");
    }
}
