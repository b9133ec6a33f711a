//! Networks worth trying first: the extremes, uniform ladders, and the ranking's greedy ladder.

use std::collections::BTreeSet;

use crate::space::{Bits, Ends, Gene, Genome, LayerChoices, SearchSpace};

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

/// `count` of the networks, in order, as evenly spread by the logarithm of their size as they allow; the size falls along
/// the slice.
fn spread_by_size(space: &SearchSpace, from: &[Genome], count: usize) -> Vec<Genome> {
    let size = |genome: &Genome| (space.size(genome).max(1) as f64).ln();
    let (Some(first), Some(last)) = (from.first(), from.last()) else { return Vec::new() };
    let (high, low) = (size(first), size(last));
    let mut chosen: Vec<Genome> = (0..count)
        .filter_map(|step| {
            let target = high - (high - low) * (step as f64 + 0.5) / count as f64;
            let distance = |genome: &Genome| (size(genome) - target).abs();
            from.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).cloned()
        })
        .collect();
    chosen.dedup();
    chosen
}

/// What each gene does by itself: the parent (the space's largest network), the smallest, the user's own, and
/// the parent with exactly one gene changed, `count` networks at most, each once. Every half of a layer goes to its
/// narrowest choice first, then, while there is room, depth, the ends, bits and the other widths follow. Where not all of one
/// kind fit, they are taken evenly over the layers; all are in layer order, so that neighbours share their first layers.
pub fn sensitivities(space: &SearchSpace, own: &[Genome], count: usize) -> Vec<Genome> {
    let parent = space.largest();
    let depth = space.depth_of(&parent);
    let changed = |gene: &dyn Fn(&LayerChoices, Gene) -> Option<Gene>| -> Vec<Genome> {
        let change = |(layer, old): (usize, Gene)| {
            let new = gene(space.layer(layer), old)?;
            Some(space.express(depth, parent.ends(), |place| if place == layer { new } else { parent.genes()[place] }))
        };
        parent.kept().filter_map(change).filter(|genome| space.contains(genome)).collect()
    };
    let steps = space.layers().iter().map(|layer| layer.heads.len().max(layer.mlp.len()).max(layer.bits.len())).max();
    let mut kinds: Vec<Vec<Genome>> = Vec::new();
    for step in 0..steps.unwrap_or(0) {
        let heads = changed(&|choices, gene| Some(Gene { heads: *choices.heads.get(step)?, ..gene }));
        let mlp = changed(&|choices, gene| Some(Gene { mlp: *choices.mlp.get(step)?, ..gene }));
        kinds.push(heads.into_iter().chain(mlp).collect());
        if step == 0 {
            let depths = space.depths().iter();
            let of_depth = |&depth: &usize| space.express(depth, parent.ends(), |layer| parent.genes()[layer]);
            kinds.push(depths.map(of_depth).collect());
            let one_end = |ends: &Ends| ends.embedding == parent.ends().embedding || ends.head == parent.ends().head;
            let ends = space.ends().all().into_iter().filter(one_end);
            kinds.push(ends.map(|ends| parent.clone().with_ends(ends)).collect());
        }
        kinds.push(changed(&|choices, gene| Some(Gene { bits: *choices.bits.get(step)?, ..gene })));
    }
    let mut networks = vec![parent.clone(), space.smallest()];
    networks.extend_from_slice(own);
    let mut seen = std::collections::HashSet::new();
    networks.retain(|genome| seen.insert(genome.clone()));
    let first_change = |genome: &Genome| genome.genes().iter().zip(parent.genes()).position(|(a, b)| a != b);
    for mut kind in kinds {
        kind.retain(|genome| seen.insert(genome.clone()));
        kind.sort_by_key(first_change);
        let room = count.saturating_sub(networks.len()).min(kind.len());
        networks.extend((0..room).map(|place| kind[place * kind.len() / room].clone()));
    }
    networks
}

/// The largest widths, everything in one format, for each that layers offer.
fn in_every_format(space: &SearchSpace) -> Vec<Genome> {
    let formats: BTreeSet<Bits> = space.layers().iter().flat_map(|layer| layer.bits.iter().copied()).collect();
    let of = |&bits: &Bits| space.repair(&space.largest().in_bits(bits).with_ends(Ends::both(bits)));
    formats.iter().rev().map(of).collect()
}

/// The given part of a first population: the parent (the space's largest network), the smallest, and networks of both ladders,
/// spread over their sizes, `count` of them together; the largest widths in every other format; and the user's own. Each network
/// once.
pub fn first_networks(space: &SearchSpace, own: &[Genome], ladders: [Vec<Genome>; 2], count: usize) -> Vec<Genome> {
    let mut networks = vec![space.largest(), space.smallest()];
    networks.extend(in_every_format(space));
    networks.extend_from_slice(own);
    let room = count.saturating_sub(2);
    let filled = ladders.iter().filter(|ladder| !ladder.is_empty()).count().max(1);
    let shares = if filled < 2 { [room; 2] } else { [room.div_ceil(2), room / 2] };
    for (ladder, share) in ladders.iter().zip(shares) {
        networks.extend(spread_by_size(space, ladder, share));
    }
    let mut seen = std::collections::HashSet::new();
    networks.retain(|genome| seen.insert(genome.clone()));
    networks
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

    #[test]
    fn first_networks_hold_the_largest_in_every_format() {
        let space = SearchSpace::shipped("smollm2-135m-mixed").unwrap();
        let networks = first_networks(&space, &[], [vec![], uniform_ladder(&space, None)], 4);
        for text in ["E@8:9x1536@8*30", "E@q4_1:9x1536@q4_1*30", "E@4:9x1536@4*30"] {
            assert!(networks.contains(&text.parse().unwrap()), "{text} in {networks:?}");
        }
    }

    #[test]
    fn first_networks_take_from_the_whole_of_each_ladder() {
        let space = SearchSpace::shipped("smollm2-135m").unwrap();
        let kept = |_: usize, gene: Gene| f64::from(gene.heads) / 9.0 + f64::from(gene.mlp) / 1536.0;
        let ladders = [greedy_ladder(&space, &kept), uniform_ladder(&space, Some(&kept))];
        let networks = first_networks(&space, &[], ladders, 10);
        assert_eq!(networks.len(), 10);
        let (high, low) = (space.size(&networks[0]) as f64, space.size(&networks[1]) as f64);
        for of in [&networks[2..6], &networks[6..]] {
            let sizes: Vec<f64> = of.iter().map(|genome| (space.size(genome) as f64 - low) / (high - low)).collect();
            assert!(sizes[0] > 0.6 && sizes[3] < 0.4, "{sizes:?}");
        }
    }

    #[test]
    fn first_networks_are_distinct_and_keep_the_users_own() {
        let space = SearchSpace::open("tiny").unwrap();
        let shallow = space.express(space.depths()[0], space.ends().largest(), |layer| space.layer(layer).largest());
        let own = [space.smallest(), shallow];
        let ladders = [uniform_ladder(&space, None), uniform_ladder(&space, None)];
        let networks = first_networks(&space, &own, ladders, 4);
        assert_eq!(networks[..2], [space.largest(), space.smallest()]);
        assert!(own.iter().all(|genome| networks.contains(genome)));
        let distinct: std::collections::HashSet<_> = networks.iter().collect();
        assert_eq!(distinct.len(), networks.len());
    }

    #[test]
    fn sensitivities_change_one_gene_of_the_parent() {
        let space = SearchSpace::open("tiny").unwrap();
        let texts = |count| sensitivities(&space, &[], count).iter().map(Genome::to_string).collect::<Vec<_>>();
        let halves = [
            "2x128:4x128*3",
            "4x32:4x128*3",
            "4x128:2x128:4x128*2",
            "4x128:4x32:4x128*2",
            "4x128*2:2x128:4x128",
            "4x128*2:4x32:4x128",
            "4x128*3:2x128",
            "4x128*3:4x32",
        ];
        let all = texts(99);
        assert_eq!(all[..2], ["4x128*4", "2x32*2:-*2"], "the parent and the smallest");
        assert_eq!(all[2..10], halves);
        assert_eq!(all[10..12], ["4x128*2:-*2", "4x128*3:-"], "depths");
        assert_eq!(all[12..16], ["4x64:4x128*3", "4x128:4x64:4x128*2", "4x128*2:4x64:4x128", "4x128*3:4x64"]);
        assert_eq!(all.len(), 20, "four layers at width 96 are the last");
        let few = texts(6);
        assert_eq!(few[2..], [halves[0], halves[2], halves[4], halves[6]], "over all layers");
        let own = ["2x64*4".parse().unwrap()];
        assert_eq!(sensitivities(&space, &own, 1).len(), 3, "what was given is never thrown away");
    }
}
