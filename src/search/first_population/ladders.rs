//! Networks from the largest to the smallest: evenly narrowed, or the best by what the ranking says they are worth.

use crate::search::knapsack::knapsack_front;
use crate::search::worth::Worth;
use crate::space::{Genome, SearchSpace};

/// The networks of which none is smaller and keeps more of the largest one's importance, the largest first; the largest and the
/// smallest of all left out.
pub fn worthiest(space: &SearchSpace, worth: &Worth) -> Vec<Genome> {
    let mut front = knapsack_front(space, &|genome| -worth.of_network(genome));
    front.retain(|genome| *genome != space.largest() && *genome != space.smallest());
    front.reverse();
    front
}

/// Networks in which all layers have the same widths and bits, where the layer offers them, at each depth, the largest first;
/// the largest and the smallest of all left out.
pub fn uniform_ladder(space: &SearchSpace) -> Vec<Genome> {
    let mut ladder = space.uniform_ladder();
    ladder.retain(|genome| *genome != space.largest() && *genome != space.smallest());
    ladder.sort_by_key(|genome| std::cmp::Reverse((space.size(genome), genome.clone())));
    ladder
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::{Bits, Cost, Gene};

    #[test]
    fn the_worthiest_keep_what_is_precious() {
        let space = SearchSpace::open("tiny").unwrap();
        // Layer 0 is precious, the others lose nothing.
        let kept =
            |layer: usize, gene: Gene| if layer == 0 { f64::from(gene.heads) + f64::from(gene.mlp) } else { 0.0 };
        let front = worthiest(&space, &Worth::of(&space, kept));
        let size = |genome: &Genome| space.size(genome);
        assert!(front.is_sorted_by(|a, b| size(a) > size(b)), "sizes fall: {front:?}");
        assert!(front.iter().all(|genome| space.contains(genome)));
        assert_eq!(front[0].genes()[0], space.largest().genes()[0], "the precious layer is whole at first");
        assert_eq!(front[0].genes()[1], space.layer(1).smallest(), "and all others are narrow");
    }

    #[test]
    fn the_worthiest_step_down_in_bits_where_bytes_differ() {
        let text = "shape: { layers: 3, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, mlp: 128, vocab: 512 }\n\
                    heads: [2, 4]\nmlp: [64, 128]\nbits: [4, 8, 16]\nembedding_bits: [4, 8, 16]\n";
        let space = SearchSpace::from_yaml(text).unwrap();
        let kept = |_: usize, gene: Gene| f64::from(gene.heads) / 4.0 + f64::from(gene.mlp) / 128.0;
        for ladder in [worthiest(&space, &Worth::of(&space, kept)), uniform_ladder(&space)] {
            let bytes: Vec<u64> = ladder.iter().map(|genome| Cost::of(space.shape(), genome).weight_bytes).collect();
            assert!(ladder.len() > 2 && bytes.is_sorted_by(|a, b| a > b), "{bytes:?}");
            assert!(ladder.iter().any(Genome::is_quantized), "{ladder:?}");
        }
        // 8 bits cost next to nothing, so that the first steps are all of them.
        let front = worthiest(&space, &Worth::of(&space, kept));
        assert_eq!(front[0].unquantized(), space.largest(), "{}", front[0]);
        let embeddings: std::collections::BTreeSet<Bits> = front.iter().map(|genome| genome.ends().embedding).collect();
        assert!(embeddings.len() > 1, "the embedding steps down too: {front:?}");
    }
}
