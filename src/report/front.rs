//! The front: held-out scores against size or measured throughput.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::canvas::{Canvas, Drawn};
use super::labels::{Area, place};
use super::legend::{Legend, Mark, dashes};
use super::picture::{Drawing, Picture};
use super::style::{self, HEADING, MARGIN, MUTED, PALETTE, SMALL, pale, text};
use super::units;
use crate::error::{Error, Result};
use crate::run::{Evaluations, Front, FrontPoint};

/// What a front is plotted against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// Parameters of the mathematical network.
    Params,
    /// Bytes of the weights.
    Bytes,
    /// Measured prefill throughput.
    Throughput,
    /// Measured decode throughput.
    Decode,
}

impl Against {
    /// The size that tells this front's networks apart: parameters say nothing of bits.
    pub fn size(front: &Front) -> Against {
        let quantized = front.points.iter().any(|point| point.genome.is_quantized());
        if quantized { Against::Bytes } else { Against::Params }
    }

    /// A point's size as a whole number: its bytes, or else its parameters.
    pub fn whole(self, point: &FrontPoint) -> u64 {
        let name = if self == Against::Bytes { "weight_bytes" } else { "params" };
        point.value(name).unwrap_or(0.0) as u64
    }

    /// That size as people read it.
    pub fn text(self, point: &FrontPoint) -> String {
        let size = self.whole(point) as f64;
        if self == Against::Bytes { units::bytes(size) } else { units::count(size) }
    }

    /// The objective whose evaluated networks are shown behind the front, where there is one.
    fn objective(self) -> Option<&'static str> {
        matches!(self, Against::Params | Against::Bytes).then(|| self.column())
    }

    /// The name of its values.
    fn column(self) -> &'static str {
        match self {
            Against::Params => "params",
            Against::Bytes => "weight_bytes",
            Against::Throughput => "prefill_tps",
            Against::Decode => "decode_tps",
        }
    }

    /// A point's value; `None` where it was not measured.
    pub fn of(self, point: &FrontPoint) -> Option<f64> {
        point.value(self.column())
    }

    /// What an axis of it is called.
    pub fn axis(self) -> &'static str {
        match self {
            Against::Params => "parameters",
            Against::Bytes => "bytes of the weights",
            Against::Throughput => "prefill throughput, tokens per second (measured)",
            Against::Decode => "decode throughput, tokens per second (measured)",
        }
    }

    fn tick(self, value: f64) -> String {
        match self {
            Against::Params => units::tick(value),
            Against::Bytes => units::bytes_tick(value),
            Against::Throughput | Against::Decode => units::thousands(value),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Against::Params => "parameters",
            Against::Bytes => "bytes",
            Against::Throughput => "throughput",
            Against::Decode => "decode throughput",
        }
    }
}

const POINT: RGBColor = PALETTE[0];
const PARENT: RGBColor = PALETTE[1];
const KNEE: RGBColor = PALETTE[2];
const CLOUD: RGBColor = RGBColor(212, 212, 212);
const RADIUS: i32 = 6;
/// More points than this cannot all be named.
const NAMED: usize = 40;

/// One network in the picture.
struct Place {
    id: usize,
    x: f64,
    y: f64,
    stderr: f64,
    dominated: bool,
}

struct FrontDrawing {
    title: String,
    facts: String,
    against: Against,
    y_axis: String,
    points: Vec<Place>,
    knee: Option<usize>,
    parent: Option<Place>,
    cloud: Vec<(f64, f64)>,
    chance: Option<f64>,
}

/// Held-out score number `score` of every point of the front, with one standard error, `against` size or
/// throughput. `evaluated`, where given, adds the search-split accuracies of all evaluated networks behind them, for
/// a score that is a task's accuracy and where the parameters were an objective.
///
/// Errors: no point has both numbers.
pub fn front(front: &Front, score: usize, against: Against, evaluated: Option<&Evaluations>) -> Result<Picture> {
    let knee = front.knee();
    let at = |point: &FrontPoint| {
        let held_out = point.held_out.get(score)?;
        let (x, y, stderr) = (against.of(point)?, held_out.value, held_out.stderr);
        let drawable = [x, y, stderr].iter().all(|value| value.abs() < style::BEYOND);
        drawable.then_some(Place { id: point.id, x, y, stderr, dominated: point.dominated_on_held_out })
    };
    let placed: Vec<(usize, Place)> =
        front.points.iter().enumerate().filter_map(|(row, point)| Some((row, at(point)?))).collect();
    let (Some(held_out), false) = (front.parent.held_out.get(score), placed.is_empty()) else {
        return Err(Error::invalid(
            format!("picture of the front against {}", against.word()),
            "no point with both a held-out score and that number",
            "at least one",
        ));
    };
    let (metric, task) = held_out.name.split_once(':').unwrap_or((&held_out.name, ""));
    let on = if task.is_empty() { String::new() } else { format!(" on {task}") };
    // Only accuracies can be compared with guessing.
    let is_fraction = held_out.is_fraction();
    let chance = front.chance.get(score).copied().filter(|_| is_fraction);
    let cloud = match (evaluated, against.objective()) {
        (Some(evaluated), Some(size)) if score < front.chance.len() => cloud(evaluated, size, (score, is_fraction)),
        _ => Vec::new(),
    };
    let drawing = FrontDrawing {
        title: format!("{}{on}: {metric} against {}", front.model, against.word()),
        facts: format!(
            "{} held-out items, bars are ± 1 standard error; {} evaluated{}",
            units::thousands(held_out.items as f64),
            match front.evaluations {
                1 => "1 network".to_string(),
                many => format!("{} networks", units::thousands(many as f64)),
            },
            if placed.len() <= NAMED { ", numbers are ids" } else { "" }
        ),
        against,
        y_axis: format!("{metric}{on} (held-out)"),
        knee: placed.iter().position(|(row, _)| Some(*row) == knee),
        points: placed.into_iter().map(|(_, place)| place).collect(),
        parent: at(&front.parent),
        cloud,
        chance,
    };
    Picture::of(&drawing)
}

/// Size and search-split accuracy of every network that has both, scored on all items. Where networks did not write in the search, the
/// column has a perplexity, which is no fraction.
fn cloud(evaluated: &Evaluations, size: &str, (task, is_fraction): (usize, bool)) -> Vec<(f64, f64)> {
    let Some(size) = evaluated.objectives.iter().position(|name| name == size) else {
        return Vec::new();
    };
    let both = evaluated.whole().filter_map(|row| Some((*row.objectives.get(size)?, *row.search_accuracy.get(task)?)));
    let most = if is_fraction { 1.0 } else { style::BEYOND };
    both.filter(|(x, y)| x.abs() < style::BEYOND && y.abs() <= most).collect()
}

impl FrontDrawing {
    /// Small where there are many, so that they stay behind the front.
    fn cloud_mark(&self) -> Mark {
        Mark::Dot(CLOUD, if self.cloud.len() > 500 { 2 } else { 3 })
    }

    fn mark(&self, place: &Place) -> Mark {
        Mark::Dot(if place.dominated { pale(POINT) } else { POINT }, RADIUS)
    }

    fn legend(&self) -> Vec<(Mark, String)> {
        let mut entries = Vec::new();
        let dominated = self.points.iter().filter(|point| point.dominated).count();
        if dominated < self.points.len() {
            entries.push((Mark::Dot(POINT, RADIUS), "front".to_string()));
        }
        if dominated > 0 {
            entries.push((Mark::Dot(pale(POINT), RADIUS), "front, dominated on held-out items".to_string()));
        }
        if self.knee.is_some() {
            entries.push((Mark::Ring(KNEE, RADIUS + 5), "knee of the search scores".to_string()));
        }
        if let Some(parent) = &self.parent {
            entries.push((Mark::Diamond(PARENT, RADIUS + 3), format!("parent, {:.3}", parent.y)));
        }
        if let Some(chance) = self.chance {
            entries.push((Mark::Dashes(MUTED), format!("guessing, {chance:.3}")));
        }
        if !self.cloud.is_empty() {
            entries.push((self.cloud_mark(), "all evaluated networks, on search items (not held-out)".to_string()));
        }
        entries
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.points.iter().chain(&self.parent)
    }
}

impl Drawing for FrontDrawing {
    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Drawn<DB> {
        style::heading(canvas, &self.title, &self.facts)?;
        let legend = Legend::new(canvas, self.legend());
        let (width, height) = canvas.dim_in_pixel();
        let bottom = height as i32 - legend.height() - 16;
        legend.draw(canvas, bottom + 6)?;

        let x = style::padded_range(self.places().map(|p| p.x).chain(self.cloud.iter().map(|c| c.0)), 0.06);
        let bars = self.places().flat_map(|p| [p.y - p.stderr, p.y + p.stderr]);
        let y = style::padded_range(bars.chain(self.cloud.iter().map(|c| c.1)).chain(self.chance), 0.06);
        let (decimals, steps) = (style::decimals(&y), y.clone());
        let plot = canvas.clone().shrink((MARGIN, HEADING), (width - 2 * MARGIN as u32, (bottom - HEADING) as u32));
        let mut chart =
            ChartBuilder::on(&plot).x_label_area_size(60).y_label_area_size(82).build_cartesian_2d(x, steps)?;
        style::quiet(&mut chart.configure_mesh())
            .x_labels(8)
            .y_labels(9)
            .x_label_formatter(&|value| self.against.tick(*value))
            .y_label_formatter(&|value| units::fixed(*value, decimals))
            .x_desc(self.against.axis())
            .y_desc(&self.y_axis)
            .draw()?;

        let pixel = |x: f64, y: f64| chart.backend_coord(&(x, y));
        let (columns, rows) = chart.plotting_area().get_pixel_range();
        if let Some(chance) = self.chance {
            dashes(canvas, columns.clone(), pixel(0.0, chance).1, MUTED)?;
        }
        for &(x, y) in &self.cloud {
            self.cloud_mark().draw(canvas, pixel(x, y))?;
        }
        let bars: Vec<Area> =
            self.places().map(|place| self.draw_bar(canvas, place, &pixel)).collect::<Result<_, _>>()?;
        // Those that stay on held-out items lie above those that do not, and the parent above all.
        for dominated in [true, false] {
            for place in self.points.iter().filter(|place| place.dominated == dominated) {
                self.mark(place).draw(canvas, pixel(place.x, place.y))?;
            }
        }
        if let Some(knee) = self.knee.map(|knee| &self.points[knee]) {
            Mark::Ring(KNEE, RADIUS + 5).draw(canvas, pixel(knee.x, knee.y))?;
        }
        if let Some(parent) = &self.parent {
            Mark::Diamond(PARENT, RADIUS + 3).draw(canvas, pixel(parent.x, parent.y))?;
        }

        if self.points.len() > NAMED {
            return Ok(());
        }
        let inside = Area { left: columns.start, top: rows.start, right: columns.end, bottom: rows.end };
        self.draw_names(canvas, bars, inside, &pixel)
    }
}

impl FrontDrawing {
    /// One standard error up and down; the pixels that it takes.
    fn draw_bar<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        place: &Place,
        pixel: &impl Fn(f64, f64) -> (i32, i32),
    ) -> Drawn<DB, Area> {
        let color = if self.parent.as_ref().is_some_and(|parent| std::ptr::eq(parent, place)) {
            PARENT
        } else if place.dominated {
            pale(POINT)
        } else {
            POINT
        };
        let (x, low) = pixel(place.x, place.y - place.stderr);
        let high = pixel(place.x, place.y + place.stderr).1;
        let cap = |y| PathElement::new([(x - 4, y), (x + 5, y)], color);
        canvas.draw(&PathElement::new([(x, low), (x, high)], color))?;
        canvas.draw(&cap(low))?;
        canvas.draw(&cap(high))?;
        Ok(Area { left: x - 1, top: high, right: x + 2, bottom: low })
    }

    /// The points' ids where there is room `inside`, beside what is drawn already.
    fn draw_names<DB: DrawingBackend>(
        &self,
        canvas: &Canvas<DB>,
        mut obstacles: Vec<Area>,
        inside: Area,
        pixel: &impl Fn(f64, f64) -> (i32, i32),
    ) -> Drawn<DB> {
        let style = text(SMALL, MUTED, HPos::Left, VPos::Top);
        let anchors: Vec<(i32, i32)> = self.points.iter().map(|place| pixel(place.x, place.y)).collect();
        let reach = RADIUS + 2;
        if let Some(knee) = self.knee.map(|knee| &self.points[knee]) {
            let ((x, y), ring) = (pixel(knee.x, knee.y), RADIUS + 7);
            obstacles.push(Area::at(x - ring, y - ring, (2 * ring, 2 * ring)));
        }
        let dots = self.places().map(|place| pixel(place.x, place.y));
        obstacles.extend(dots.map(|(x, y)| Area::at(x - reach, y - reach, (2 * reach, 2 * reach))));
        let sizes: Vec<(i32, i32)> = self
            .points
            .iter()
            .map(|place| (style::width(canvas, &place.id.to_string(), &style) + 4, SMALL as i32))
            .collect();
        for (place, label) in self.points.iter().zip(place(&anchors, &sizes, &obstacles, inside)) {
            if let Some(label) = label {
                canvas.draw(&Text::new(place.id.to_string(), (label.left + 2, label.top), style.clone()))?;
            }
        }
        Ok(())
    }
}
