//! Search spaces and genomes: pure values, no tensors, no input or output but YAML text.

pub mod cost;
pub mod genome;
pub mod search_space;
pub mod shape;

pub use cost::Cost;
pub use genome::{Gene, Genome};
pub use search_space::SearchSpace;
pub use shape::ModelShape;
