//! Search algorithms: ask and tell over genomes and numbers. Every objective is minimised.

mod algorithm;
mod asked;
mod first_population;
mod kind;
mod knapsack;
mod linas;
mod nsga2;
mod operators;
mod random;
mod registry;
mod scored;
mod surrogate;
mod survival;
mod worth;

pub use algorithm::{Algorithm, ClosedForm, Exact, Told};
pub use asked::Asked;
pub use first_population::{first_population, given_networks, stratified, worthiest};
pub use kind::{AlgorithmKind, Beginning};
pub use knapsack::knapsack_front;
pub use linas::{Linas, LinasSettings};
pub use nsga2::{Nsga2, Nsga2Settings};
pub use operators::{Operators, crossover, mutate};
pub use random::RandomSearch;
pub use registry::{ALGORITHMS, algorithm_named};
pub use scored::Scored;
pub use surrogate::Prediction;
pub use survival::rank_and_crowding;
pub use worth::Worth;
