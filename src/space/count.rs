//! How large a space is, exactly.

use num_bigint::BigUint;

use super::SearchSpace;

impl SearchSpace {
    /// The number of genomes: depths times the choices of the ends and of all layers, those that a depth drops included.
    ///
    /// ```
    /// use criadero::space::SearchSpace;
    /// let space = SearchSpace::open("llama2-7b-llama-nas")?;
    /// assert_eq!(space.genomes().to_string(), "12884901888"); // 3 · 2^32
    /// assert_eq!(space.distinct_networks().to_string(), "4580179968"); // 2^32 + 2^28 + 2^24
    /// # Ok::<(), criadero::Error>(())
    /// ```
    pub fn genomes(&self) -> BigUint {
        let choices = self.layers().iter().map(|layer| product([layer.heads.len(), layer.mlp.len(), layer.bits.len()]));
        choices.product::<BigUint>() * self.depths().len() * self.ends().all().len()
    }

    /// The number of networks, that is of genomes in canonical form.
    ///
    /// Depths drop nested sets of layers. A network of one depth is also one of a smaller depth exactly
    /// when its own genes drop every layer that separates the two; it is counted at the smallest depth
    /// only. So each depth adds its networks, less those that drop all layers between it and the
    /// next smaller one.
    pub fn distinct_networks(&self) -> BigUint {
        let genes = |layers: &[usize]| -> BigUint {
            layers.iter().map(|&layer| BigUint::from(self.layer(layer).genes().len())).product()
        };
        let mut networks = BigUint::ZERO;
        let mut smaller: Option<usize> = None;
        for &depth in self.depths() {
            networks += genes(&self.kept_at(depth));
            if let Some(smaller) = smaller {
                let between = &self.dropped_at(smaller)[self.dropped_at(depth).len()..];
                if between.iter().all(|&layer| self.layer(layer).can_drop()) {
                    networks -= genes(&self.kept_at(smaller));
                }
            }
            smaller = Some(depth);
        }
        networks * self.ends().all().len()
    }
}

fn product(sizes: [usize; 3]) -> BigUint {
    sizes.into_iter().map(BigUint::from).product()
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::space::{Gene, Genome};

    /// Every network of a small space, gene by gene, with the number of genomes that give them.
    pub fn enumerate(space: &SearchSpace) -> (usize, BTreeSet<Genome>) {
        let mut tuples: Vec<Vec<Gene>> = vec![Vec::new()];
        for layer in space.layers() {
            let mut longer = Vec::new();
            for tuple in &tuples {
                for &heads in &layer.heads {
                    for &mlp in &layer.mlp {
                        for &bits in &layer.bits {
                            longer.push([tuple.as_slice(), &[Gene { heads, mlp, bits }]].concat());
                        }
                    }
                }
            }
            tuples = longer;
        }
        let depths = space.depths().iter();
        let ends = space.ends().all();
        let frames = depths.flat_map(|&depth| ends.iter().map(move |&ends| (depth, ends)));
        let genomes = frames
            .flat_map(|(depth, ends)| tuples.iter().map(move |genes| space.express(depth, ends, |layer| genes[layer])));
        let (mut count, mut networks) = (0, BTreeSet::new());
        for genome in genomes {
            count += 1;
            networks.insert(genome);
        }
        (count, networks)
    }

    /// Spaces in which depth, zeros, bits and overrides meet in every way, with their drop orders.
    pub fn small_spaces() -> Vec<SearchSpace> {
        let shape = "shape: { layers: 3, hidden: 32, heads: 4, kv_heads: 2, head_dim: 16, mlp: 32, vocab: 9 }\n";
        let texts = [
            "depth: [3]\nheads: [4]\nmlp: [4]\n",
            "depth: [1, 2, 3]\nheads: [2, 4]\nmlp: [2, 4]\n",
            "depth: [1, 3]\nheads: [0, 4]\nmlp: [32]\nbits: [4, 16]\nembedding_bits: 8\nhead_bits: [16, q4_1]\n",
            "depth: [2, 3]\nheads: [4]\nmlp: [0, 32]\nembedding_bits: [8, 4]\nhead_bits: [8, 16]\n",
            "depth: [1, 2, 3]\nheads: [0, 4]\nmlp: [0, 32]\nbits: [q4_1, 8, 16]\nlayers: { 0: { heads: [2, 4] } }\n",
            "depth: [1, 2]\nheads: [0, 4]\nmlp: [0, 4]\nlayers: { 0: { heads: [4] } }\n",
            "depth: [2, 3]\nheads: [0, 4]\nmlp: [0, 2, 4]\nlayers: { 1: { mlp: [4] } }\n",
            "depth: [1, 3]\nheads: [0, 2, 4]\nmlp: [0, 4]\nlayers: { 0: { mlp: [4] }, 1: { mlp: [2, 3] } }\n",
            "depth: [2]\nheads: [0, 4]\nmlp: [0, 4]\nlayers: { 0-1: { mlp: [0, 1], heads: [2] } }\n",
        ];
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let mut spaces = Vec::new();
        for text in texts {
            let space = SearchSpace::from_yaml(&format!("{shape}{text}")).unwrap();
            // Orders that would allow an empty network are refused.
            spaces.extend(orders.iter().filter_map(|order| space.clone().with_drop_order(order).ok()));
        }
        assert!(spaces.len() > 25, "{}", spaces.len());
        spaces
    }

    #[test]
    fn counts_what_brute_force_finds() {
        let mut overlapping = 0;
        for space in small_spaces() {
            let (genomes, networks) = enumerate(&space);
            assert_eq!(space.genomes(), BigUint::from(genomes), "{space:?}");
            assert_eq!(space.distinct_networks(), BigUint::from(networks.len()), "{space:?}");
            let ends = space.ends().all().len();
            let apart: usize = space
                .depths()
                .iter()
                .map(|&depth| {
                    space.kept_at(depth).iter().map(|&layer| space.layer(layer).genes().len()).product::<usize>()
                })
                .sum();
            overlapping += usize::from(apart * ends != networks.len());
        }
        assert!(overlapping > 4, "{overlapping}: some spaces reach one network through two depths");
    }

    #[test]
    fn counts_beyond_any_machine_word() {
        let text = "shape: { layers: 4096, hidden: 8, heads: 4, kv_heads: 4, head_dim: 2, mlp: 4, vocab: 9 }\n\
                    heads: [1, 2, 3, 4]\nmlp: [1, 2, 3, 4]\n";
        let space = SearchSpace::from_yaml(text).unwrap();
        assert_eq!(space.genomes(), BigUint::from(2u8).pow(4 * 4096));
        assert_eq!(space.distinct_networks(), space.genomes());
    }
}
