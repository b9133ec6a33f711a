//! A search space: which genomes there are, read from YAML and checked.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{Genome, ModelShape};
use crate::error::Result;

/// What one layer may be. Lists are ascending and without repeats; 0 loses that half of the layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerChoices {
    /// Query heads.
    pub heads: Vec<u32>,
    /// MLP channels.
    pub mlp: Vec<u32>,
    /// Bits of the weights.
    pub bits: Vec<u8>,
}

/// A checked search space.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchSpace {
    shape: ModelShape,
}

impl SearchSpace {
    /// Reads and checks the YAML of a space.
    pub fn from_yaml(_text: &str) -> Result<SearchSpace> {
        todo!()
    }
    /// The parent's sizes.
    pub fn shape(&self) -> &ModelShape {
        &self.shape
    }
    /// The same space, dropping layers in this order (the first entry goes first) when depth shrinks.
    pub fn with_drop_order(self, _least_important_first: &[usize]) -> Result<SearchSpace> {
        todo!()
    }
    /// How many layers may be kept, ascending.
    pub fn depths(&self) -> &[usize] {
        todo!()
    }
    /// The layers that are gone at this depth.
    pub fn dropped_at(&self, _depth: usize) -> &[usize] {
        todo!()
    }
    /// The depth choice a genome expresses: the smallest of [`Self::depths`] whose dropped layers are all dropped in it.
    pub fn depth_of(&self, _genome: &Genome) -> usize {
        todo!()
    }
    /// What a layer may be.
    pub fn layer(&self, _layer: usize) -> &LayerChoices {
        todo!()
    }
    /// The widest network.
    pub fn largest(&self) -> Genome {
        todo!()
    }
    /// The narrowest network.
    pub fn smallest(&self) -> Genome {
        todo!()
    }
    /// A genome drawn gene by gene, each choice equally likely.
    pub fn sample(&self, _rng: &mut impl Rng) -> Genome {
        todo!()
    }
    /// Whether every gene is a choice of its layer and the depth is one of the space's.
    pub fn contains(&self, _genome: &Genome) -> bool {
        todo!()
    }
}
