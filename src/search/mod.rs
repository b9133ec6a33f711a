//! Search algorithms: ask/tell over genomes and numbers, no tensors. Only [`run`], [`front`], [`settings`] and
//! [`journal`] know evaluators.

mod front;
pub mod journal;
pub mod record;
pub mod run;
pub mod seeds;
pub mod settings;
