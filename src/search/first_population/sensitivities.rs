//! What each gene does by itself: the parent with one gene changed.

use std::collections::HashSet;

use crate::space::{Ends, Gene, Genome, LayerChoices, SearchSpace};

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
    let mut seen = HashSet::new();
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

#[cfg(test)]
mod tests {
    use super::*;

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
