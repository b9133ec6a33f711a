//! Ladders: networks from the largest to the smallest, evenly narrowed or by what the ranking says they are worth.

use crate::space::{Bits, Ends, Gene, Genome, SearchSpace};

/// The importance that a layer's widths keep, in any additive unit.
pub type Kept<'a> = dyn Fn(usize, Gene) -> f64 + 'a;

/// What a network keeps of the largest one's importance. Fewer bits lose the share of it that is
/// [noise](crate::space::Bits::noise); embedding and output matrix count like a mean layer.
fn worth<'a>(space: &SearchSpace, kept: &'a Kept) -> impl Fn(&Genome) -> f64 + 'a {
    let layers = |genome: &Genome| -> f64 {
        genome.kept().map(|(layer, gene)| kept(layer, gene) * (1.0 - gene.bits.noise())).sum()
    };
    let whole = space.largest();
    let mean = layers(&whole) / whole.depth() as f64;
    move |genome| {
        let Ends { embedding, head } = genome.ends();
        layers(genome) - mean * (embedding.noise() + head.noise())
    }
}

/// From the largest network to the smallest, one narrowing at a time, both left out: always the one that loses the least
/// worth per parameter saved, or per byte where bits differ.
pub fn greedy_ladder(space: &SearchSpace, kept: &Kept) -> Vec<Genome> {
    let size = |genome: &Genome| space.size(genome);
    let worth = worth(space, kept);
    let mut path = vec![space.largest()];
    loop {
        let here = path.last().expect("starts with the largest network");
        let (here_size, here_worth) = (size(here), worth(here));
        let price = |next: &Genome| (here_worth - worth(next)) / (here_size - size(next)) as f64;
        let next = narrowings(space, here)
            .into_iter()
            .filter(|next| size(next) < here_size)
            .min_by(|a, b| price(a).total_cmp(&price(b)).then_with(|| a.cmp(b)));
        match next {
            Some(next) => path.push(next),
            None => break,
        }
    }
    path.drain(1..path.len().max(2) - 1).collect()
}

/// Networks in which all layers have the same widths and bits, where the layer offers them, at each depth, the largest first;
/// the largest and the smallest of all left out. Where importance is known those are left out too that another one of them beats
/// in size and worth.
pub fn uniform_ladder(space: &SearchSpace, kept: Option<&Kept>) -> Vec<Genome> {
    let mut ladder = space.uniform_ladder();
    ladder.retain(|genome| *genome != space.largest() && *genome != space.smallest());
    ladder.sort_by_key(|genome| std::cmp::Reverse((space.size(genome), genome.clone())));
    if let Some(kept) = kept {
        let (worth, mut best) = (worth(space, kept), f64::NEG_INFINITY);
        ladder.reverse();
        ladder.retain(|genome| {
            let worth = worth(genome);
            let better = worth > best;
            best = best.max(worth);
            better
        });
        ladder.reverse();
    }
    ladder
}

/// All networks one step down: one layer's heads, channels or bits or one end's bits to the next smaller choice, or the next
/// depth.
fn narrowings(space: &SearchSpace, from: &Genome) -> Vec<Genome> {
    let (depth, ends) = (space.depth_of(from), from.ends());
    let mut steps: Vec<Genome> = Vec::new();
    let mut replace = |layer: usize, gene: Gene| {
        steps.push(space.express(depth, ends, |place| if place == layer { gene } else { from.genes()[place] }));
    };
    for (layer, gene) in from.kept() {
        let choices = space.layer(layer);
        let below = |choices: &[u32], width: u32| choices.iter().rev().copied().find(|&choice| choice < width);
        if let Some(heads) = below(&choices.heads, gene.heads) {
            replace(layer, Gene { heads, ..gene });
        }
        if let Some(mlp) = below(&choices.mlp, gene.mlp) {
            replace(layer, Gene { mlp, ..gene });
        }
        if let Some(bits) = fewer(&choices.bits, gene.bits) {
            replace(layer, Gene { bits, ..gene });
        }
    }
    let choices = space.ends();
    let embedding = fewer(&choices.embedding, ends.embedding).map(|embedding| Ends { embedding, ..ends });
    let head = fewer(&choices.head, ends.head).map(|head| Ends { head, ..ends });
    steps.extend(embedding.into_iter().chain(head).map(|ends| from.clone().with_ends(ends)));
    if let Some(&depth) = space.depths().iter().rev().find(|&&choice| choice < depth) {
        steps.push(space.express(depth, ends, |layer| from.genes()[layer]));
    }
    steps.retain(|step| space.contains(step));
    steps
}

/// The next fewer bits of a list.
fn fewer(ascending: &[Bits], than: Bits) -> Option<Bits> {
    ascending.iter().rev().copied().find(|&bits| bits < than)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Cost;

    #[test]
    fn greedy_ladder_takes_the_cheapest_loss_first() {
        let space = SearchSpace::open("tiny").unwrap();
        // Layer 0 is precious, the others lose nothing.
        let kept =
            |layer: usize, gene: Gene| if layer == 0 { f64::from(gene.heads) + f64::from(gene.mlp) } else { 0.0 };
        let ladder = greedy_ladder(&space, &kept);
        assert!(!ladder.is_empty());
        let size = |genome: &Genome| space.size(genome);
        assert!(ladder.is_sorted_by(|a, b| size(a) > size(b)), "sizes fall");
        assert!(ladder.iter().all(|genome| space.contains(genome)));
        assert_eq!(ladder[0].genes()[0], space.largest().genes()[0], "the precious layer is whole at first");
    }

    #[test]
    fn ladders_step_down_in_bits_where_bytes_differ() {
        let text = "shape: { layers: 3, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, mlp: 128, vocab: 512 }\n\
                    heads: [2, 4]\nmlp: [64, 128]\nbits: [4, 8, 16]\nembedding_bits: [4, 8, 16]\n";
        let space = SearchSpace::from_yaml(text).unwrap();
        let kept = |_: usize, gene: Gene| f64::from(gene.heads) / 4.0 + f64::from(gene.mlp) / 128.0;
        for ladder in [greedy_ladder(&space, &kept), uniform_ladder(&space, Some(&kept))] {
            let bytes: Vec<u64> = ladder.iter().map(|genome| Cost::of(space.shape(), genome).weight_bytes).collect();
            assert!(ladder.len() > 2 && bytes.is_sorted_by(|a, b| a > b), "{bytes:?}");
            assert!(ladder.iter().any(Genome::is_quantized), "{ladder:?}");
        }
        // 8 bits cost next to nothing, so that the first steps are all of them.
        let ladder = greedy_ladder(&space, &kept);
        assert_eq!(ladder[0].unquantized(), space.largest(), "{}", ladder[0]);
        let embeddings: std::collections::BTreeSet<Bits> =
            ladder.iter().map(|genome| genome.ends().embedding).collect();
        assert!(embeddings.len() > 1, "the embedding steps down too: {ladder:?}");
        // Narrow networks in 16 bits lose to whole ones in 8, so that they are no rungs.
        let narrow = |genome: &Genome| genome.genes()[1].mlp == 64 && !genome.is_quantized();
        assert!(uniform_ladder(&space, None).iter().any(narrow));
        assert!(!uniform_ladder(&space, Some(&kept)).iter().any(narrow));
    }
}
