//! Search algorithms: ask/tell over genomes and numbers, no tensors.

pub mod record;
