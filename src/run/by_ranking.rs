//! The best network within a limit by a supernet's ranking alone: nothing is scored, nothing is searched.

use super::limits;
use super::prepare::{never_ranked, space_of, worth};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::eval::Objective;
use crate::search::worthiest;
use crate::space::{Constraint, Cost, Genome, SearchSpace};

/// Of the networks that `rank`'s costs, added up, say are best at each size, the best one within a limit of what sizes decide.
///
/// # Errors
/// `Invalid` for a model that was never ranked, a limit of what must be measured, and one that no network of the space meets; as
/// [`space_of`].
pub fn best_by_ranking(supernet: &Checkpoint, space: SearchSpace, limit: &Constraint) -> Result<Genome> {
    let (space, card) = space_of(space, supernet)?;
    let Some(worth) = card.and_then(|card| worth(&card, &space)) else {
        return Err(Error::invalid("supernet", never_ranked(supernet), "one that `criadero rank` measured"));
    };
    limits::check(&space, std::iter::once(limit))?;
    let objective = Objective::parse(&limit.objective)?;
    let size = |genome: &Genome| objective.size(&Cost::of(space.shape(), genome));
    let (largest, smallest) = (space.largest(), space.smallest());
    let between = worthiest(&space, &worth);
    let mut networks = std::iter::once(largest).chain(between).chain(std::iter::once(smallest));
    let fits = |genome: &Genome| size(genome).is_some_and(|size| limit.violation(size) == 0.0);
    networks.find(fits).ok_or_else(|| {
        let expected =
            "a limit of what sizes decide, such as params<=100M or weight_bytes<=200MB; others need a search";
        Error::invalid("pick", limit, expected)
    })
}
