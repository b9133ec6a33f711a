//! Which matrices of a parent networks have in blocks, how many weights those are, and in which types they end up.

use std::collections::BTreeSet;
use std::fmt;

use super::matrix::Matrix;
use super::{Bits, Ends, Gene, Genome, ModelShape};

/// Weights of the parent's matrices that some networks have in blocks: whole matrices, each once for every type that it is
/// wanted in. What an evaluator keeps beside the parent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockWeights {
    /// Of layers, as Q8_0.
    pub layers_q8_0: u64,
    /// Of layers in other types, and of the ends in any.
    pub others: u64,
}

/// The types in which matrices of some networks are stored, those of llama.cpp's fallbacks included.
///
/// Printed as `Q8_0`, or `Q4_K, Q5_0; ends Q8_0` where what lies before and behind the layers is stored otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockTypes {
    /// Of layers.
    pub layers: BTreeSet<Bits>,
    /// Of the embedding and the output matrix.
    pub ends: BTreeSet<Bits>,
}

/// Every matrix of these genes and ends that is stored in blocks, and its type.
fn in_blocks(
    shape: &ModelShape,
    genes: impl IntoIterator<Item = (usize, Gene)>,
    ends: impl IntoIterator<Item = Ends>,
) -> BTreeSet<(Matrix, Bits)> {
    let of_genes = genes.into_iter().flat_map(|(layer, gene)| Matrix::of_gene(shape, layer, gene));
    let of_ends = ends.into_iter().flat_map(|ends| Matrix::of_ends(shape, ends));
    let stored = of_genes.chain(of_ends).filter_map(|(matrix, bits)| Some((matrix, bits?)));
    stored.filter(|(_, bits)| !bits.is_full()).collect()
}

impl BlockWeights {
    /// Of networks that have these genes of these layers, and these ends. `whole` is the parent: its layers may differ.
    pub fn of(
        shape: &ModelShape,
        whole: &Genome,
        genes: impl IntoIterator<Item = (usize, Gene)>,
        ends: impl IntoIterator<Item = Ends>,
    ) -> BlockWeights {
        let mut sum = BlockWeights::default();
        for (matrix, bits) in in_blocks(shape, genes, ends) {
            match bits {
                Bits::Q8_0 if !matrix.is_end() => sum.layers_q8_0 += matrix.weights(shape, whole),
                _ => sum.others += matrix.weights(shape, whole),
            }
        }
        sum
    }

    /// Of these networks.
    pub fn of_networks<'a>(
        shape: &ModelShape,
        whole: &Genome,
        networks: impl IntoIterator<Item = &'a Genome> + Clone,
    ) -> BlockWeights {
        let ends = networks.clone().into_iter().map(Genome::ends);
        BlockWeights::of(shape, whole, networks.into_iter().flat_map(Genome::kept), ends)
    }
}

impl BlockTypes {
    /// Of these networks.
    pub fn of_networks<'a>(shape: &ModelShape, networks: impl IntoIterator<Item = &'a Genome> + Clone) -> BlockTypes {
        let ends = networks.clone().into_iter().map(Genome::ends);
        let mut types = BlockTypes::default();
        for (matrix, bits) in in_blocks(shape, networks.into_iter().flat_map(Genome::kept), ends) {
            if matrix.is_end() {
                types.ends.insert(bits)
            } else {
                types.layers.insert(bits)
            };
        }
        types
    }
}

impl fmt::Display for BlockTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |types: &BTreeSet<Bits>| {
            if types.is_empty() {
                "16 bits".to_string()
            } else {
                types.iter().map(|bits| bits.ggml()).collect::<Vec<_>>().join(", ")
            }
        };
        f.write_str(&list(&self.layers))?;
        if self.ends != self.layers { write!(f, "; ends {}", list(&self.ends)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Cost;
    use crate::space::shape::tests::OF_BLOCKS as SHAPE;

    fn parse(genomes: &[&str]) -> Vec<Genome> {
        genomes.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn of(genomes: &[&str]) -> BlockWeights {
        BlockWeights::of_networks(&SHAPE, &SHAPE.parent(), &parse(genomes))
    }

    #[test]
    fn counts_each_matrix_once_in_every_type() {
        let layer = (512 + 256) * 512 + 512 * 512 + 3 * 1024 * 512;
        assert_eq!(of(&["8x1024*2"]), BlockWeights::default());
        assert_eq!(of(&["8x1024@8*2"]), BlockWeights { layers_q8_0: 2 * layer, others: 0 });
        // Narrower networks are prefixes of the same copies.
        assert_eq!(of(&["8x1024@8*2", "4x512@8:8x512@8"]), of(&["8x1024@8*2"]));
        assert_eq!(of(&["8x1024@8*2", "8x1024@4*2"]), BlockWeights { layers_q8_0: 2 * layer, others: 2 * layer });
        assert_eq!(of(&["E@8:8x1024*2"]), BlockWeights { layers_q8_0: 0, others: 512 * 1000 });
        // Absent halves have no copies, and 4 heads of 64 hold blocks of 256 while 320 channels do not.
        let (attention, down) = ((512 + 256) * 512 + 512 * 512, 1024 * 512);
        assert_eq!(of(&["4x0@q6_k:8x1024"]), BlockWeights { layers_q8_0: 0, others: attention });
        let narrow = BlockWeights::of_networks(&SHAPE, &"8x1024:4x0".parse().unwrap(), &parse(&["-:4x0@4"]));
        assert_eq!(narrow.others, (256 + 2 * 64) * 512 + 512 * 256, "of a parent whose second layer is narrow");
        assert_eq!(of(&["4x320@q6_k:8x1024"]), BlockWeights { layers_q8_0: down, others: attention + 2 * down });
    }

    #[test]
    fn all_matrices_in_blocks_are_all_weights_but_norms() {
        let whole = of(&["E@4:8x1024@4*2:H@4"]);
        assert_eq!(whole.others + 5 * 512, Cost::of(&SHAPE, &"8x1024*2".parse().unwrap()).params);
    }

    #[test]
    fn says_what_is_really_stored() {
        let said = |genomes: &[&str]| BlockTypes::of_networks(&SHAPE, &parse(genomes)).to_string();
        assert_eq!(said(&["E@8:8x1024@8*2:H@8"]), "Q8_0");
        assert_eq!(said(&["E@8:8x1024@4*2"]), "Q4_0; ends Q8_0");
        assert_eq!(said(&["E@q4_k:4x320@q4_k:8x1024:H@q4_k"]), "Q4_K, Q5_0; ends Q4_K");
        assert_eq!(said(&["8x1024@4*2"]), "Q4_0; ends 16 bits");
    }
}
