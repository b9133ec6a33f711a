//! Peak memory and disk before they are used: of evaluation, search, fine-tuning and distillation, item by item.
//!
//! Everything is counted from shapes: which tensors libtorch 2.11 holds at the moment when most are alive.

pub mod activations;
mod budget;
pub mod disk;
pub mod evaluation;
pub mod footprint;
mod numbers;
mod room;
pub mod training;

pub use budget::{available, total};
pub use footprint::{Footprint, Part};
pub use numbers::Numbers;
pub use room::{is_small_here, load, load_beside_float32};
