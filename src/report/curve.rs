//! Held-out loss over a fine-tuning run, one line a network.

use plotters::prelude::*;

use super::canvas::{Canvas, Drawn};
use super::legend::{Legend, Mark};
use super::picture::{Drawing, Picture};
use super::style::{self, HEADING, MARGIN, PALETTE};
use super::units;
use crate::error::{Error, Result};

/// Of more measurements than this only the last has a dot: they would be one thick line.
const DOTTED: usize = 40;

/// How one network fared while the weights were trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// What the legend calls it, such as `largest`.
    pub name: String,
    /// (tokens trained on so far, held-out loss in nats per token), in the order in which they were measured.
    pub points: Vec<(f64, f64)>,
}

impl Curve {
    /// The points that have a place in a picture: a loss that is not a number is passed over.
    fn drawable(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().copied().filter(|(tokens, loss)| has_place(*tokens) && has_place(*loss))
    }

    /// Its name, and the loss before and after, be it a number or not.
    fn label(&self) -> String {
        let loss = |(_, loss): &(f64, f64)| if has_place(*loss) { format!("{loss:.3}") } else { format!("{loss:e}") };
        match &self.points[..] {
            [] => format!("{}: not measured", self.name),
            [only] => format!("{}: {}", self.name, loss(only)),
            [first, .., last] => format!("{}: {} to {}", self.name, loss(first), loss(last)),
        }
    }
}

fn has_place(value: f64) -> bool {
    value.abs() < style::BEYOND
}

struct Curves<'a> {
    title: &'a str,
    facts: String,
    curves: &'a [Curve],
}

/// Held-out loss of every network against the tokens trained on, with the losses before and after in the legend.
///
/// Errors: no curve has a point that can be drawn.
pub fn curves(title: &str, curves: &[Curve]) -> Result<Picture> {
    let measured = curves.iter().map(|curve| curve.points.len()).max().unwrap_or(0);
    let tokens = curves.iter().flat_map(Curve::drawable).map(|(tokens, _)| tokens).reduce(f64::max);
    let Some(tokens) = tokens else {
        return Err(Error::invalid(
            "curves of held-out loss",
            format!("no finite loss in {} of at most {}", counted(curves.len(), "curve"), counted(measured, "point")),
            "at least one",
        ));
    };
    let facts = format!(
        "{} on held-out text, {} over {} training tokens; numbers are the loss before and after",
        counted(curves.len(), "network"),
        counted(measured, "measurement"),
        units::tick(tokens)
    );
    Picture::of(&Curves { title, facts, curves })
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

impl Drawing for Curves<'_> {
    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn<DB> {
        style::heading(canvas, self.title, &self.facts)?;
        let color = |curve: usize| PALETTE[curve % PALETTE.len()];
        let entries = self.curves.iter().enumerate();
        let legend =
            Legend::new(canvas, entries.map(|(index, curve)| (Mark::Line(color(index)), curve.label())).collect());
        let (width, height) = canvas.dim_in_pixel();
        let bottom = height as i32 - legend.height() - 16;
        legend.draw(canvas, bottom + 6)?;

        let points = || self.curves.iter().flat_map(Curve::drawable);
        let first = points().map(|(tokens, _)| tokens).fold(0.0, f64::min);
        let last = points().map(|(tokens, _)| tokens).fold(first + 1.0, f64::max);
        let y = style::padded_range(points().map(|(_, loss)| loss), 0.06);
        let decimals = style::decimals(&y);
        let plot = canvas.clone().shrink((MARGIN, HEADING), (width - 2 * MARGIN as u32, (bottom - HEADING) as u32));
        let mut chart = ChartBuilder::on(&plot)
            .x_label_area_size(60)
            .y_label_area_size(82)
            .margin_right(24)
            .build_cartesian_2d(first..last, y)?;
        style::quiet(&mut chart.configure_mesh())
            .x_labels(9)
            .y_labels(9)
            .x_label_formatter(&|value| units::tick(*value))
            .y_label_formatter(&|value| units::fixed(*value, decimals))
            .x_desc("training tokens")
            .y_desc("held-out loss, nats per token")
            .draw()?;
        for (index, curve) in self.curves.iter().enumerate() {
            let places: Vec<(i32, i32)> = curve.drawable().map(|point| chart.backend_coord(&point)).collect();
            let dots = if places.len() <= DOTTED { &places[..] } else { &places[places.len() - 1..] };
            for dot in dots {
                Mark::Dot(color(index), 4).draw(canvas, *dot)?;
            }
            if places.len() > 1 {
                canvas.draw(&PathElement::new(places, color(index).stroke_width(3)))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::style::{HEIGHT, WIDTH};

    fn curve(name: &str, points: &[(f64, f64)]) -> Curve {
        Curve { name: name.into(), points: points.to_vec() }
    }

    /// The places of each line of this many points.
    fn lines(svg: &str, points: usize) -> Vec<Vec<(f64, f64)>> {
        let paths = svg.split("<polyline").skip(1).map(|rest| rest.split("points=\"").nth(1).unwrap());
        let place = |pair: &str| {
            let (x, y) = pair.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        };
        let places = paths.map(|rest| rest.split('"').next().unwrap().split_whitespace().map(place).collect());
        places.filter(|places: &Vec<(f64, f64)>| places.len() == points).collect()
    }

    #[test]
    fn every_network_has_one_line_and_its_losses_in_the_legend() {
        let networks = [
            curve("largest", &[(0.0, 3.5), (1e6, 3.25), (2e6, 3.0), (3e6, 2.875), (4e6, 2.75)]),
            curve("smallest", &[(0.0, 9.5), (1e6, 5.0), (2e6, 4.5), (3e6, 4.25), (4e6, 4.125)]),
        ];
        let svg = curves("tiny: fine-tuning", &networks).unwrap().svg;
        let lines = lines(&svg, 5);
        assert_eq!(lines.len(), 2);
        for line in lines {
            assert!(line.windows(2).all(|ends| ends[0].0 < ends[1].0 && ends[0].1 < ends[1].1), "{line:?} falls");
        }
        let labels =
            ["largest: 3.500 to 2.750", "smallest: 9.500 to 4.125", "training tokens", "nats per token", ">\n4M\n"];
        for label in labels {
            assert!(svg.contains(label), "{label} in {svg}");
        }
        assert!(svg.contains("2 networks on held-out text, 5 measurements over 4M training tokens"), "{svg}");
    }

    #[test]
    fn all_text_begins_on_the_canvas() {
        let names = (0..24).map(|index| format!("random_{index} of a space with a long name"));
        let networks: Vec<Curve> = names.map(|name| curve(&name, &[(0.0, 1e-4), (1.5e12, 1.1e-4)])).collect();
        let svg = curves("a title", &networks).unwrap().svg;
        let number = |tag: &str, name: &str| -> f64 {
            tag.split(&format!(" {name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
        };
        let tags: Vec<&str> = svg.split("<text").skip(1).map(|rest| rest.split('>').next().unwrap()).collect();
        assert!(tags.len() > 24 + 4);
        for tag in tags {
            let (x, y) = (number(tag, "x"), number(tag, "y"));
            assert!((0.0..f64::from(WIDTH)).contains(&x) && (0.0..f64::from(HEIGHT)).contains(&y), "{tag}");
        }
    }

    #[test]
    fn a_loss_that_is_no_number_is_passed_over_and_named() {
        let networks = [
            curve("diverged", &[(0.0, 3.0), (1.0, f64::NAN), (2.0, 4.0), (3.0, f64::INFINITY)]),
            curve("absent", &[]),
            curve("once", &[(3.0, 3.5)]),
        ];
        let svg = curves("a title", &networks).unwrap().svg;
        for label in ["diverged: 3.000 to inf", "absent: not measured", "once: 3.500"] {
            assert!(svg.contains(label), "{label} in {svg}");
        }
    }

    #[test]
    fn nothing_to_draw_is_an_error() {
        for (networks, found) in [
            (vec![], "found no finite loss in 0 curves of at most 0 points"),
            (vec![curve("a", &[(0.0, f64::NAN)])], "found no finite loss in 1 curve of at most 1 point"),
        ] {
            let error = curves("a title", &networks).unwrap_err().to_string();
            assert!(error.contains(found), "{error}");
        }
    }

    #[test]
    fn numbers_at_the_edges_are_drawn_without_a_crash() {
        for points in [
            vec![(0.0, 0.0)],
            vec![(0.0, 3.0), (0.0, 3.0)],
            vec![(-1e9, -5.0), (9e29, 9e29)],
            vec![(f64::NAN, 1.0), (f64::MAX, 1.0), (5.0, f64::MIN_POSITIVE)],
            (0..5000).map(|step| (f64::from(step), f64::from(step % 7))).collect(),
        ] {
            let svg = curves("a title", &[curve("a", &points)]).unwrap().svg;
            assert!(svg.len() < 200_000, "{} bytes", svg.len());
        }
    }
}
