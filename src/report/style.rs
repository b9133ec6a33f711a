//! One look for all pictures: colours that colour-blind eyes tell apart, sizes, headings.

use plotters::chart::MeshStyle;
use plotters::coord::Shift;
use plotters::coord::ranged1d::Ranged;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::canvas::{Canvas, Drawn, FONT};

/// Width of every picture in pixels.
pub const WIDTH: u32 = 1000;
/// Height of a picture that has no reason for another, in pixels.
pub const HEIGHT: u32 = 700;
/// Pixels that the heading takes from the top.
pub const HEADING: i32 = 82;
/// Pixels left free at the sides.
pub const MARGIN: i32 = 24;

/// Text and axes.
pub const INK: RGBColor = RGBColor(34, 34, 34);
/// Text of second rank.
pub const MUTED: RGBColor = RGBColor(100, 100, 100);
/// Grid lines.
pub const GRID: RGBColor = RGBColor(228, 228, 228);

/// Okabe and Ito's colours for curves that must be told apart (Color Universal Design, 2008), strongest first.
pub const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(60, 60, 60),
];

/// Size of ticks and legends, in plotters' units (1.24 to the em).
pub const SMALL: f64 = 20.0;
/// Size of axis names and panel titles.
pub const MEDIUM: f64 = 22.0;
/// Size of the title.
pub const LARGE: f64 = 30.0;

/// Text of this size and colour, its reference point at `h`, `v`.
pub fn text(size: f64, color: RGBColor, h: HPos, v: VPos) -> TextStyle<'static> {
    TextStyle { font: (FONT, size).into_font(), color: color.to_backend_color(), pos: Pos::new(h, v) }
}

/// Axes that stay behind the data: small ticks, pale lines.
pub fn quiet<'m, 'a, 'b, X: Ranged, Y: Ranged, DB: DrawingBackend>(
    mesh: &'m mut MeshStyle<'a, 'b, X, Y, DB>,
) -> &'m mut MeshStyle<'a, 'b, X, Y, DB> {
    mesh.label_style(text(SMALL, INK, HPos::Left, VPos::Top))
        .axis_desc_style(text(MEDIUM, INK, HPos::Left, VPos::Top))
        .bold_line_style(GRID)
        .light_line_style(WHITE)
        .axis_style(MUTED)
}

/// Width of `text` in pixels when written with `style`.
pub fn width<DB: DrawingBackend>(canvas: &Canvas<DB>, text: &str, style: &TextStyle) -> i32 {
    canvas.estimate_text_size(text, style).map_or(0, |(width, _)| width as i32)
}

/// Writes the title and the line of facts under it; a line too long for the picture gets a smaller font.
pub fn heading<DB: DrawingBackend>(canvas: &DrawingArea<DB, Shift>, title: &str, facts: &str) -> Drawn<DB> {
    for (line, y, size, color) in [(title, 12, LARGE, INK), (facts, 48, SMALL, MUTED)] {
        let style = |size| text(size, color, HPos::Left, VPos::Top);
        // SVG viewers may have a wider font than ours, so a tenth is kept in reserve.
        let room = 0.9 * f64::from(canvas.dim_in_pixel().0 as i32 - 2 * MARGIN);
        let needed = f64::from(width(canvas, line, &style(size)));
        let size = if needed > room { size * room / needed } else { size };
        canvas.draw(&Text::new(line.to_string(), (MARGIN, y), style(size)))?;
    }
    Ok(())
}

/// `color` mixed with white: what a dominated point or an uncertain thing is drawn in.
pub fn pale(color: RGBColor) -> RGBColor {
    let mix = |channel: u8| ((u16::from(channel) + 2 * 255) / 3) as u8;
    RGBColor(mix(color.0), mix(color.1), mix(color.2))
}

/// Numbers of this size have no place on an axis: its ticks would overflow.
pub const BEYOND: f64 = 1e30;

/// The range of `values` with a margin of `share` on both sides; never empty, whatever the values.
pub fn padded_range(values: impl IntoIterator<Item = f64>, share: f64) -> std::ops::Range<f64> {
    let finite = values.into_iter().filter(|value| value.abs() < BEYOND);
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), value| (l.min(value), h.max(value)));
    if low > high {
        return 0.0..1.0;
    }
    let span = high - low;
    let margin = if span > 1e-9 * high.abs() { span * share } else { (high.abs() * 0.1).max(1e-3) };
    low - margin..high + margin
}

/// Decimals that tell the ticks of an axis of this length apart.
pub fn decimals(range: &std::ops::Range<f64>) -> usize {
    let step = (range.end - range.start) / 10.0;
    (-step.log10().floor()).clamp(0.0, 6.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_never_empty() {
        assert_eq!(padded_range([1.0, 3.0, f64::NAN], 0.5), 0.0..4.0);
        for values in [vec![], vec![0.0], vec![5e8, 5e8], vec![f64::INFINITY], vec![f64::MAX, -f64::MAX]] {
            let range = padded_range(values.clone(), 0.05);
            assert!(range.start < range.end, "{values:?}: {range:?}");
        }
    }

    #[test]
    fn ticks_of_a_short_axis_get_more_decimals() {
        assert_eq!(decimals(&(0.2..0.6)), 2);
        assert_eq!(decimals(&(0.41..0.44)), 3);
        assert_eq!(decimals(&(0.0..1000.0)), 0);
    }
}
