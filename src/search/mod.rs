//! Search algorithms: ask and tell over genomes and numbers. Every objective is minimised.

pub mod algorithm;
pub mod first_population;
pub mod linas;
pub mod nsga2;
pub mod operators;
pub mod random;
pub mod seeds;
pub mod surrogate;

pub use algorithm::{Algorithm, AlgorithmState, ClosedForm, Exact, Told};
pub use first_population::{first_population, stratified};
pub use linas::{Linas, LinasSettings};
pub use nsga2::{Nsga2, Nsga2Settings};
pub use operators::Crossover;
pub use random::RandomSearch;
pub use surrogate::PredictorKind;
