//! What networks are worth by a model's ranking: importances of single layers, added up.

use std::collections::BTreeMap;

use crate::space::{Ends, Gene, Genome, LayerChoices, SearchSpace};

/// The importance that a layer's widths keep, in any additive unit.
pub type Kept<'a> = dyn Fn(usize, Gene) -> f64 + 'a;

/// What each choice of each layer of a space keeps, and so what networks do.
///
/// Fewer bits lose the share of a layer's importance that is [noise](crate::space::Bits::noise); embedding and output matrix count like
/// a mean layer.
#[derive(Clone, Debug)]
pub struct Worth {
    space: SearchSpace,
    /// By layer, of heads and MLP width.
    layers: Vec<BTreeMap<(u32, u32), f64>>,
    /// Of a layer of the largest network, on the mean.
    mean: f64,
}

impl Worth {
    /// Asks `kept` for every choice of a space.
    pub fn of(space: &SearchSpace, kept: &Kept) -> Worth {
        let layer = |(layer, choices): (usize, &LayerChoices)| {
            choices.genes().into_iter().map(|gene| ((gene.heads, gene.mlp), kept(layer, gene))).collect()
        };
        let layers = space.layers().iter().enumerate().map(layer).collect();
        let mut worth = Worth { space: space.clone(), layers, mean: 0.0 };
        let whole = space.largest();
        worth.mean = worth.of_network(&whole) / whole.depth() as f64;
        worth
    }

    /// What a network keeps; a gene that is none of the space's counts as the nearest one.
    pub fn of_network(&self, genome: &Genome) -> f64 {
        let layer = |(layer, gene): (usize, Gene)| {
            let Gene { heads, mlp, .. } = self.space.layer(layer).nearest(gene);
            self.layers[layer][&(heads, mlp)] * (1.0 - gene.bits.noise())
        };
        let Ends { embedding, head } = genome.ends();
        genome.kept().map(layer).sum::<f64>() - self.mean * (embedding.noise() + head.noise())
    }

    /// BLAKE3 of all that it knows.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (layer, choices) in self.layers.iter().enumerate() {
            for ((heads, mlp), kept) in choices {
                hasher.update(format!("{layer} {heads} {mlp} {:016x}\n", kept.to_bits()).as_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}
