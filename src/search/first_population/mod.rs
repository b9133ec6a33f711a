//! First populations: networks worth trying first, topped up with a sample that covers the range of sizes.

mod given;
mod ladders;
mod sensitivities;
mod stratified;

use serde::{Deserialize, Serialize};

pub use ladders::worthiest;
pub use stratified::{first_population, stratified};

use super::worth::Worth;
use crate::space::{Genome, SearchSpace};

/// How a first population is made beside the extremes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// What the ranking says is best at each size; without a ranking, evenly narrowed networks.
    #[default]
    Ranking,
    /// The parent with one gene changed.
    Sensitivities,
}

/// The networks that a first population of `count` is given: the parent and the smallest, the user's own, and what the start
/// adds; [`first_population`] tops them up. `worth` is what the model's ranking says of networks.
pub fn given_networks(
    space: &SearchSpace,
    start: Start,
    own: &[Genome],
    worth: Option<&Worth>,
    count: usize,
) -> Vec<Genome> {
    match start {
        Start::Ranking => given::between_extremes(space, own, worth, count),
        Start::Sensitivities => sensitivities::sensitivities(space, own, count),
    }
}
