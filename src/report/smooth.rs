//! A bitmap drawn at twice its size and averaged: glyphs sit where they belong and slanted edges have no stairs.

use plotters::backend::BitMapBackend;
use plotters::style::{FontDesc, TextStyle};
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind};

/// Pixels drawn for one, in each direction.
const ZOOM: usize = 2;
/// Red, green, blue.
const BYTES: usize = 3;

/// The pixels that a picture of `size` is drawn on; [`average`] makes a picture of them.
pub fn blank((width, height): (u32, u32)) -> Vec<u8> {
    vec![u8::MAX; width as usize * height as usize * ZOOM * ZOOM * BYTES]
}

/// The RGB pixels of a picture of `size`, row by row.
pub fn average(zoomed: &[u8], (width, height): (u32, u32)) -> Vec<u8> {
    let (width, height) = (width as usize, height as usize);
    let mut pixels = Vec::with_capacity(width * height * BYTES);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        for byte in 0..BYTES {
            let at = |dy: usize, dx: usize| {
                u32::from(zoomed[((y * ZOOM + dy) * width * ZOOM + x * ZOOM + dx) * BYTES + byte])
            };
            pixels.push(((at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1) + 2) / 4) as u8);
        }
    }
    pixels
}

/// Draws on [`blank`] pixels what it is told in the picture's own.
pub struct Smooth<'a>(BitMapBackend<'a>);

/// A style with strokes as wide as the zoom makes them.
struct Wide<'a, S>(&'a S);

impl<S: BackendStyle> BackendStyle for Wide<'_, S> {
    fn color(&self) -> BackendColor {
        self.0.color()
    }

    fn stroke_width(&self) -> u32 {
        self.0.stroke_width() * ZOOM as u32
    }
}

impl<'a> Smooth<'a> {
    /// A surface of `size` over the pixels that [`blank`] made for it.
    pub fn new(pixels: &'a mut [u8], (width, height): (u32, u32)) -> Smooth<'a> {
        Smooth(BitMapBackend::with_buffer(pixels, (width * ZOOM as u32, height * ZOOM as u32)))
    }
}

/// The first of the pixels that stand for one.
fn zoomed((x, y): BackendCoord) -> BackendCoord {
    (x * ZOOM as i32, y * ZOOM as i32)
}

/// What all drawing on a bitmap may fail with.
type Drawn<'a> = Result<(), DrawingErrorKind<<BitMapBackend<'a> as DrawingBackend>::ErrorType>>;

impl<'a> DrawingBackend for Smooth<'a> {
    type ErrorType = <BitMapBackend<'a> as DrawingBackend>::ErrorType;

    fn get_size(&self) -> (u32, u32) {
        let (width, height) = self.0.get_size();
        (width / ZOOM as u32, height / ZOOM as u32)
    }

    fn ensure_prepared(&mut self) -> Drawn<'a> {
        self.0.ensure_prepared()
    }

    fn present(&mut self) -> Drawn<'a> {
        self.0.present()
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Drawn<'a> {
        let (x, y) = zoomed(point);
        self.0.draw_rect((x, y), (x + 2, y + 2), &color, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn<'a> {
        if from.0 != to.0 && from.1 != to.1 {
            return self.0.draw_path([zoomed(from), zoomed(to)], &Wide(style));
        }
        // Upright and level lines are whole pixels, not two half ones; a rectangle's end is not drawn.
        let (before, after) = (style.stroke_width() as i32 - 1, style.stroke_width() as i32 + 1);
        let (left, top) = zoomed((from.0.min(to.0), from.1.min(to.1)));
        let (right, bottom) = zoomed((from.0.max(to.0), from.1.max(to.1)));
        let (dx, dy) = if from.1 == to.1 { (0, before) } else { (before, 0) };
        let (ex, ey) = if from.1 == to.1 { (2, after) } else { (after, 2) };
        self.0.draw_rect((left - dx, top - dy), (right + ex, bottom + ey), &style.color(), true)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn<'a> {
        self.0.draw_rect(zoomed(upper_left), zoomed(bottom_right), &Wide(style), fill)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn<'a> {
        let path: Vec<BackendCoord> = path.into_iter().collect();
        path.windows(2).try_for_each(|ends| self.draw_line(ends[0], ends[1], style))
    }

    fn draw_circle<S: BackendStyle>(&mut self, center: BackendCoord, radius: u32, style: &S, fill: bool) -> Drawn<'a> {
        let (x, y) = zoomed(center);
        self.0.draw_circle((x + 1, y + 1), radius * ZOOM as u32, &Wide(style), fill)
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        vertices: I,
        style: &S,
    ) -> Drawn<'a> {
        self.0.fill_polygon(vertices.into_iter().map(zoomed), &Wide(style))
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, at: BackendCoord) -> Drawn<'a> {
        let font = FontDesc::new(style.family(), style.size() * ZOOM as f64, style.style());
        let font = font.transform(style.transform());
        self.0.draw_text(text, &TextStyle { font, color: style.color(), pos: style.anchor() }, zoomed(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_lines_are_sharp_and_slanted_ones_smooth() {
        let size = (12, 12);
        let black = BackendColor { alpha: 1.0, rgb: (0, 0, 0) };
        let picture = |from, to| {
            let mut pixels = blank(size);
            Smooth::new(&mut pixels, size).draw_line(from, to, &black).unwrap();
            average(&pixels, size).into_iter().step_by(BYTES).collect::<Vec<u8>>()
        };
        let level = picture((2, 5), (9, 5));
        let inked: Vec<usize> = (0..144).filter(|pixel| level[*pixel] == 0).collect();
        assert_eq!(inked, (62..70).collect::<Vec<_>>(), "row 5, columns 2 to 9");
        assert!(level.iter().all(|value| [0, 255].contains(value)));
        let slanted = picture((1, 1), (10, 6));
        assert!(slanted.iter().any(|value| (1..255).contains(value)));
    }

    #[test]
    fn averages_four_pixels_into_one() {
        let zoomed = [[0, 0, 0], [255, 0, 0], [0, 0, 0], [255, 0, 100]].concat();
        assert_eq!(average(&zoomed, (1, 1)), [128, 0, 25]);
    }
}
