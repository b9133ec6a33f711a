//! The matrices of a model as an evaluator multiplies by them, and how a network stores each.

use super::layer_tensor::{Joint, LAYER, LayerRow};
use super::{Bits, Ends, Gene, Genome, ModelShape};

/// A matrix of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Matrix {
    /// The embedding.
    Embedding,
    /// The output matrix.
    Head,
    /// A matrix of one layer.
    Layer(usize, Joint),
}

impl Joint {
    /// The tensors that it is made of, in order.
    pub fn parts(self) -> impl Iterator<Item = &'static LayerRow> {
        LAYER.iter().filter(move |row| row.joint == Some(self))
    }
}

impl Matrix {
    /// Whether it lies before or behind the layers.
    pub fn is_end(self) -> bool {
        matches!(self, Matrix::Embedding | Matrix::Head)
    }

    /// How many weights it has in the parent, whose layers are those of `whole`.
    pub fn weights(self, shape: &ModelShape, whole: &Genome) -> u64 {
        match self {
            Matrix::Embedding | Matrix::Head => (shape.vocab * shape.hidden) as u64,
            Matrix::Layer(layer, joint) => {
                let gene = whole.genes().get(layer).copied().unwrap_or(Gene::DROPPED);
                joint.parts().map(|row| row.values(shape, gene) as u64).sum()
            }
        }
    }

    /// The matrices that a gene owns, each with how it is stored; nothing where there is no type for its rows.
    pub fn of_gene(
        shape: &ModelShape,
        layer: usize,
        gene: Gene,
    ) -> impl Iterator<Item = (Matrix, Option<Bits>)> + use<'_> {
        // Queries, keys and values have rows of one length.
        let first_of_joint = |row: &&LayerRow| {
            row.joint.is_some_and(|joint| joint.parts().next().map(|first| first.tensor) == Some(row.tensor))
        };
        let own = move |row: &&LayerRow| row.is_in(shape, gene) && first_of_joint(row);
        LAYER
            .iter()
            .filter(own)
            .filter_map(move |row| Some((Matrix::Layer(layer, row.joint?), row.stored(shape, gene))))
    }

    /// The matrices before and behind the layers, each with how it is stored.
    pub fn of_ends(shape: &ModelShape, ends: Ends) -> [(Matrix, Option<Bits>); 2] {
        let stored = |bits: Bits| bits.stored(shape.hidden as u64);
        [(Matrix::Embedding, stored(ends.embedding)), (Matrix::Head, stored(ends.head))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::shape::tests::OF_BLOCKS as SHAPE;

    #[test]
    fn a_gene_owns_the_matrices_of_its_halves() {
        let of = |text: &str| {
            let genome: Genome = text.parse().unwrap();
            let all = Matrix::of_gene(&SHAPE, 0, genome.genes()[0]);
            all.map(|(matrix, bits)| format!("{matrix:?} {}", bits.map_or("-", Bits::ggml))).collect::<Vec<_>>()
        };
        let q8 = [
            "Layer(0, Qkv) Q8_0",
            "Layer(0, O) Q8_0",
            "Layer(0, Gate) Q8_0",
            "Layer(0, Up) Q8_0",
            "Layer(0, Down) Q8_0",
        ];
        assert_eq!(of("8x1024@8:8x1024"), q8);
        assert_eq!(of("4x0@8:8x1024"), q8[..2]);
        assert_eq!(of("0x1024@8:8x1024"), q8[2..]);
        assert_eq!(of("4x320@q6_k:8x1024")[4], "Layer(0, Down) Q8_0", "320 channels are no blocks of 256");
        let whole = SHAPE.parent();
        assert_eq!(Matrix::Layer(0, Joint::Qkv).weights(&SHAPE, &whole), (512 + 2 * 128) * 512);
        assert_eq!(Matrix::Head.weights(&SHAPE, &whole), 512 * 1000);
    }
}
