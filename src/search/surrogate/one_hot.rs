//! Genomes as one-hot rows, for predictors.

use crate::space::{Genome, SearchSpace};

/// The columns of a one-hot row that are 1, one a gene, ascending; the others are 0.
pub type Row = Vec<u32>;

/// How the genomes of a space become one-hot rows.
///
/// The genes are those of the canonical form: the depth, in each layer the heads, the MLP width and the bits, and the bits
/// of both ends. Each has a column for each of its choices and, in layers, one for a layer that is not there, whatever dropped it. Genes
/// with one choice carry nothing and have no columns. A gene that is none of the space's counts as the nearest one.
#[derive(Clone, Debug)]
pub struct OneHot {
    space: SearchSpace,
    columns: usize,
}

impl OneHot {
    /// The encoding of a space's genomes.
    pub fn new(space: &SearchSpace) -> OneHot {
        let layers = space.layers().iter();
        let lists = layers.flat_map(|layer| [layer.heads.len(), layer.mlp.len(), layer.bits.len()]);
        let columns: usize = lists.filter(|&choices| choices > 1).map(|choices| choices + 1).sum();
        let depths = if space.depths().len() > 1 { space.depths().len() } else { 0 };
        let ends = [&space.ends().embedding, &space.ends().head].map(Vec::len);
        let ends: usize = ends.into_iter().filter(|&choices| choices > 1).sum();
        OneHot { space: space.clone(), columns: columns + depths + ends }
    }

    /// Columns of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// A genome's row.
    pub fn row(&self, genome: &Genome) -> Row {
        let mut row = Row::new();
        let mut start = 0;
        let mut push = |choices: usize, place: usize| {
            row.push((start + place) as u32);
            start += choices;
        };
        let depths = self.space.depths();
        if depths.len() > 1 {
            push(depths.len(), place(depths, self.space.depth_of(genome)));
        }
        for (layer, choices) in self.space.layers().iter().enumerate() {
            let gene = genome.genes().get(layer).filter(|gene| !gene.is_dropped()).map(|gene| choices.nearest(*gene));
            let halves = [(&choices.heads, gene.map(|gene| gene.heads)), (&choices.mlp, gene.map(|gene| gene.mlp))];
            for (list, gene) in halves.into_iter().filter(|(list, _)| list.len() > 1) {
                push(list.len() + 1, gene.map_or(list.len(), |gene| place(list, gene)));
            }
            if choices.bits.len() > 1 {
                let dropped = choices.bits.len();
                push(dropped + 1, gene.map_or(dropped, |gene| place(&choices.bits, gene.bits)));
            }
        }
        let (choices, ends) = (self.space.ends(), self.space.ends().nearest(genome.ends()));
        for (list, bits) in [(&choices.embedding, ends.embedding), (&choices.head, ends.head)] {
            if list.len() > 1 {
                push(list.len(), place(list, bits));
            }
        }
        row
    }
}

/// Place of a choice in its ascending list.
fn place<T: Ord>(choices: &[T], choice: T) -> usize {
    choices.binary_search(&choice).expect("a gene of the space is one of its choices")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_each_choice_and_each_dropped_layer_a_column() {
        let space = SearchSpace::from_yaml(
            "{ shape: { layers: 3, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, mlp: 128, vocab: 512 }, \
             depth: [2, 3], heads: [0, 2, 4], mlp: [0, 128], bits: [8], layers: { 0: { heads: [4], mlp: [64, 128] } } }",
        )
        .unwrap();
        let encoding = OneHot::new(&space);
        // Depth 2: columns 0, 1. Layer 0: two widths and dropped, 2..5; its heads are fixed. Layers 1 and 2: three head
        // counts and dropped, 5..9 and 12..16; two widths and dropped, 9..12 and 16..19. Bits are fixed.
        assert_eq!(encoding.columns(), 19);
        for (genome, row) in [
            ("4x64@8:2x128@8:4x0@8", vec![1, 2, 6, 10, 14, 16]),
            ("4x128@8:0x128@8:-", vec![0, 3, 5, 10, 15, 18]),
            ("4x128@8:-:4x128@8", vec![1, 3, 8, 11, 14, 17]),
            // Of no network of the space: 96 is as near to 64 as to 128, ties to the larger.
            ("4x96@8:3x128@8", vec![0, 3, 7, 10, 15, 18]),
        ] {
            assert_eq!(encoding.row(&genome.parse().unwrap()), row, "{genome}");
        }
    }

    #[test]
    fn the_ends_have_columns_where_they_have_a_choice() {
        let text = "{ shape: { layers: 1, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, mlp: 128, vocab: 512 }, \
                    heads: [2, 4], mlp: [128], embedding_bits: [4, 8, 16], head_bits: [8] }";
        let encoding = OneHot::new(&SearchSpace::from_yaml(text).unwrap());
        assert_eq!(encoding.columns(), 6);
        assert_eq!(encoding.row(&"E@8:4x128:H@8".parse().unwrap()), [1, 4]);
        assert_eq!(encoding.row(&"2x128:H@8".parse().unwrap()), [0, 5]);
    }
}
