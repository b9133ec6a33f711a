//! Tables and pictures of a finished run, from the plain values of [`crate::run`]: nothing here reads
//! or writes a file, and every picture is both an SVG and a PNG.

mod album;
mod canvas;
pub mod curve;
mod explore;
#[cfg(test)]
mod fixture;
mod front;
mod heatmap;
pub mod html;
pub mod hypervolume;
mod labels;
mod legend;
mod picture;
mod probabilities;
pub mod quantized;
mod scale;
mod smooth;
mod standing;
mod style;
pub mod table;
mod units;

pub use album::{Album, Page, front_stems};
pub use explore::Answering;
pub use picture::Picture;
pub use standing::standing;
