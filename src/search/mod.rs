//! Search algorithms: ask/tell over genomes and numbers, no tensors. Every objective is minimised. Only [`run`],
//! `race`, `scoring`, `front`, [`settings`] and [`journal`] know evaluators.

mod ascending;
mod bit_sort;
mod grid_sort;
mod local_bounds;
mod table;

pub mod crowding;
pub mod hypervolume;
pub mod knee;
pub mod pareto;

pub mod algorithm;
pub mod first_population;
pub mod linas;
pub mod nsga2;
pub mod one_hot;
pub mod operators;
pub mod prediction;
pub mod predictor;
pub mod random;
pub mod ridge;
pub mod seeds;
pub mod svr;

pub mod evaluations;
pub mod pick;
pub mod quantized;
pub mod record;

mod front;
pub mod journal;
mod race;
pub mod racing;
pub mod run;
mod scoring;
pub mod settings;

pub use algorithm::{Algorithm, AlgorithmState, ClosedForm, Exact, Told};
pub use crowding::crowding_distance;
pub use first_population::{first_population, stratified};
pub use hypervolume::hypervolume;
pub use knee::knee;
pub use linas::{Linas, LinasSettings};
pub use nsga2::{Nsga2, Nsga2Settings};
pub use operators::Crossover;
pub use pareto::{Fronts, constrained_sort, dominates, non_dominated, non_dominated_sort};
pub use pick::Pick;
pub use predictor::PredictorKind;
pub use random::RandomSearch;
