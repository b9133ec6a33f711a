//! Tables and pictures of a finished run, from the plain values of [`crate::run`]: nothing here reads
//! or writes a file, and every picture is both an SVG and a PNG.

pub mod album;
mod canvas;
pub mod curve;
#[cfg(test)]
mod fixture;
pub mod front;
pub mod heatmap;
pub mod html;
pub mod hypervolume;
pub mod labels;
pub mod legend;
pub mod picture;
pub mod probabilities;
pub mod quantized;
pub mod scale;
pub mod smooth;
pub mod style;
pub mod table;
pub mod units;

pub use album::{Album, Page};
pub use picture::Picture;
