//! What a network will score, learnt from those that were measured.

pub(crate) mod one_hot;
pub mod prediction;
pub mod predictor;
pub(crate) mod ridge;
pub(crate) mod svr;

pub use prediction::Prediction;
pub use predictor::PredictorKind;
