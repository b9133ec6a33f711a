//! What a network will score, learnt from those that were measured.

mod one_hot;
mod points;
mod prediction;
mod predictor;
mod ridge;

pub(super) use one_hot::OneHot;
pub(super) use points::Points;
pub use prediction::Prediction;
pub(super) use predictor::Predictor;
