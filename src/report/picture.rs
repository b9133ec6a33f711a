//! One drawing, two files: the same pixels as an SVG and as a PNG.

use std::sync::OnceLock;

use plotters::prelude::*;
use plotters::style::register_font;

use super::canvas::{Canvas, Drawn, FONT};
use super::smooth::{self, Smooth};
use super::style::{HEIGHT, WIDTH};
use crate::error::{Error, Result};

/// What can be drawn on any surface.
pub trait Drawing {
    /// Width and height in pixels.
    fn size(&self) -> (u32, u32) {
        (WIDTH, HEIGHT)
    }

    /// Draws all of it on a white canvas of that size.
    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn<DB>;
}

/// A finished picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// The text of an SVG file.
    pub svg: String,
    /// The bytes of a PNG file.
    pub png: Vec<u8>,
}

impl Picture {
    /// Draws it twice.
    pub fn of(drawing: &impl Drawing) -> Result<Picture> {
        register();
        let size = drawing.size();
        let mut svg = String::new();
        draw_on(SVGBackend::with_string(&mut svg, size), drawing)?;
        let mut pixels = smooth::blank(size);
        draw_on(Smooth::new(&mut pixels, size), drawing)?;
        Ok(Picture { svg, png: encode_png(&smooth::average(&pixels, size), size)? })
    }
}

fn draw_on<DB: DrawingBackend>(backend: DB, drawing: &impl Drawing) -> Result<()> {
    let canvas = backend.into_drawing_area();
    let drawn = canvas.fill(&WHITE).and_then(|()| drawing.draw(&canvas)).and_then(|()| canvas.present());
    drawn.map_err(|error| Error::invalid("drawing a picture", error, "numbers that have a place on it"))
}

/// Makes the embedded font known to plotters, once.
fn register() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let registered = register_font(FONT, FontStyle::Normal, notosans::REGULAR_TTF);
        assert!(registered.is_ok(), "the embedded Noto Sans is a valid font");
    });
}

/// Eight bits a channel, no alpha.
fn encode_png(pixels: &[u8], (width, height): (u32, u32)) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(pixels)?;
        writer.finish()
    });
    written.map_err(|error| Error::invalid("encoding a PNG", error, format!("{width} x {height} pixels")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Square;

    impl Drawing for Square {
        fn size(&self) -> (u32, u32) {
            (40, 30)
        }

        fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn<DB> {
            canvas.draw(&Rectangle::new([(10, 10), (20, 20)], RGBColor(1, 2, 3).filled()))?;
            canvas.draw(&Text::new("A<B", (22, 2), (FONT, 20.0)))
        }
    }

    #[test]
    fn both_files_show_the_same_drawing() {
        let picture = Picture::of(&Square).unwrap();
        assert!(picture.svg.contains("#010203") && picture.svg.contains("A&lt;B"), "{}", picture.svg);
        let mut reader = png::Decoder::new(std::io::Cursor::new(&picture.png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        let at = |x: usize, y: usize| &pixels[(y * 40 + x) * 3..][..3];
        assert_eq!((at(15, 15), at(5, 25)), ([1, 2, 3].as_slice(), [255, 255, 255].as_slice()));
        assert!((22..40).any(|x| (0..20).any(|y| at(x, y)[0] < 100)), "text is drawn without any installed font");
    }

    #[test]
    fn the_same_drawing_gives_the_same_bytes() {
        assert_eq!(Picture::of(&Square).unwrap(), Picture::of(&Square).unwrap());
    }
}
