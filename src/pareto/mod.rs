//! Pareto sets, pure mathematics on arrays: sorting, crowding, hypervolume, knee. Every objective is minimised.

mod bit_sort;
mod crowding;
mod grid_sort;
mod hypervolume;
mod knee;
mod local_bounds;
mod radix;
mod ranks;
mod sorting;

pub use crowding::crowding_distance;
pub use hypervolume::hypervolume;
pub use knee::knee;
pub use sorting::{Fronts, constrained_sort, dominates, non_dominated, non_dominated_sort};
