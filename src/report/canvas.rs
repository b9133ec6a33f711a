//! Surfaces to draw on.

use plotters::coord::Shift;
use plotters::prelude::*;

/// The family that pictures ask for, a CSS list: PNGs use the embedded Noto Sans (SIL Open Font License 1.1),
/// viewers of an SVG fall back to their own.
pub const FONT: &str = "Noto Sans, sans-serif";

/// A surface to draw on, in pixels.
pub type Canvas<DB> = DrawingArea<DB, Shift>;

/// What drawing on a surface returns.
pub type Drawn<DB, T = ()> = std::result::Result<T, DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;
