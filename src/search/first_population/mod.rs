//! First populations: networks worth trying first, topped up with a sample that covers the range of sizes.

mod given;
mod ladders;
mod sensitivities;
mod stratified;

use serde::{Deserialize, Serialize};

pub use ladders::worthiest;
pub use stratified::{first_population, stratified};

use super::worth::Kept;
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
/// adds; [`first_population`] tops them up. `importance` is what the model's ranking says that widths keep.
pub fn given_networks(
    space: &SearchSpace,
    start: Start,
    own: &[Genome],
    importance: Option<&Kept>,
    count: usize,
) -> Vec<Genome> {
    match start {
        Start::Ranking => given::between_extremes(space, own, importance, count),
        Start::Sensitivities => sensitivities::sensitivities(space, own, count),
    }
}
