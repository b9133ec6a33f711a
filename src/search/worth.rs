//! What networks are worth by a model's ranking: importances of single layers, added up.

use std::collections::BTreeMap;

use crate::space::{Ends, Gene, Genome, LayerChoices, SearchSpace};

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
    /// Asks for every choice of a space what a layer's gene keeps, in any additive unit.
    pub fn of(space: &SearchSpace, kept: impl Fn(usize, Gene) -> f64) -> Worth {
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
        genome.kept().map(|(layer, gene)| self.of_layer(layer, gene)).sum::<f64>() - self.of_ends(genome)
    }

    fn of_layer(&self, layer: usize, gene: Gene) -> f64 {
        let Gene { heads, mlp, .. } = self.space.layer(layer).nearest(gene);
        self.layers[layer][&(heads, mlp)] * (1.0 - gene.bits.noise())
    }

    /// What is lost in the bits of both ends.
    fn of_ends(&self, genome: &Genome) -> f64 {
        let Ends { embedding, head } = genome.ends();
        self.mean * (embedding.noise() + head.noise())
    }

    /// What a network lacks of the largest one, unquantized: in layers that are dropped, and in those that are narrower. Tasks may forgive one more than
    /// the other.
    pub fn lacks(&self, genome: &Genome) -> [f64; 2] {
        let mut lacks = [0.0; 2];
        for (layer, choices) in self.space.layers().iter().enumerate() {
            let Gene { heads, mlp, .. } = choices.largest();
            let whole = self.of_layer(layer, Gene::new(heads, mlp));
            match genome.genes().get(layer).filter(|gene| !gene.is_dropped()) {
                None => lacks[0] += whole,
                Some(&gene) => lacks[1] += whole - self.of_layer(layer, gene),
            }
        }
        lacks[1] += self.of_ends(genome);
        lacks
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_network_lacks_is_what_it_does_not_keep() {
        let space = SearchSpace::from_yaml(
            "{ shape: { layers: 3, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, mlp: 128, vocab: 512 }, \
             depth: [2, 3], heads: [2, 4], mlp: [64, 128], bits: [4, 16], embedding_bits: [4, 16] }",
        )
        .unwrap();
        let worth = Worth::of(&space, |layer, gene| {
            (layer + 1) as f64 * (f64::from(gene.heads) / 4.0 + f64::from(gene.mlp) / 128.0)
        });
        assert_eq!(worth.lacks(&space.largest()), [0.0; 2]);
        for (text, dropped, narrower) in
            [("4x128*2:-", 6.0, 0.0), ("4x128:2x128:4x64", 0.0, 2.5), ("-:4x64:4x128", 2.0, 1.0)]
        {
            assert_eq!(worth.lacks(&text.parse().unwrap()), [dropped, narrower], "{text}");
        }
        for text in ["E@4:4x128@4:2x64*2", "2x64@4*2:-"] {
            let genome: Genome = text.parse().unwrap();
            let [dropped, narrower] = worth.lacks(&genome);
            let kept = worth.of_network(&space.largest()) - worth.of_network(&genome);
            assert!(
                (kept - dropped - narrower).abs() < 1e-12 && narrower > 0.0,
                "{text}: {dropped}, {narrower}, {kept}"
            );
        }
        let other = Worth::of(&space, |layer, _| layer as f64);
        assert_ne!(worth.digest(), other.digest());
    }
}
