//! Crossover and mutation of genomes. Every child is a member of the space, whatever its parents are.
//!
//! A genome's genes are its depth and, in each layer that the depth keeps, its heads, its MLP width and its bits.
//! Layers that the depth drops have no genes: they are erased, and get new ones when a larger depth revives them.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::space::search_space::LayerChoices;
use crate::space::{Gene, Genome, SearchSpace};

/// How a child's layers are divided between its parents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crossover {
    /// The layers before a random point from one parent, the others from the other: children share whole
    /// starts with a parent, which evaluation reuses.
    #[default]
    OnePoint,
    /// Each layer from either parent with equal chances.
    Uniform,
}

/// A child of two parents. Its depth is one parent's; each layer that this keeps is the gene of the parent
/// that the crossover names, or of the other where that one has none, or a random one where neither has.
pub fn crossover(
    space: &SearchSpace,
    kind: Crossover,
    first: &Genome,
    second: &Genome,
    rng: &mut (impl Rng + ?Sized),
) -> Genome {
    let (first, second) = (Parent::new(space, first), Parent::new(space, second));
    let depth = if rng.random() { first.depth } else { second.depth };
    let layers = space.shape().layers;
    let point = rng.random_range(1..layers.max(2));
    space.express(depth, |layer| {
        let from_first = match kind {
            Crossover::OnePoint => layer < point,
            Crossover::Uniform => rng.random(),
        };
        let (chosen, other) = if from_first { (&first, &second) } else { (&second, &first) };
        chosen.gene(layer).or_else(|| other.gene(layer)).unwrap_or_else(|| sample(space.layer(layer), rng))
    })
}

/// The genome with each gene changed with probability `rate` to another choice of its list, all others equally
/// likely. Genes with one choice stay. Layers that a larger depth revives get random genes. A rate is held to 0..=1.
pub fn mutate(space: &SearchSpace, genome: &Genome, rate: f64, rng: &mut (impl Rng + ?Sized)) -> Genome {
    let rate = if rate.is_nan() { 0.0 } else { rate.clamp(0.0, 1.0) };
    let parent = Parent::new(space, genome);
    let depth = change(space.depths(), parent.depth, rate, rng);
    space.express(depth, |layer| {
        let choices = space.layer(layer);
        match parent.gene(layer) {
            Some(gene) => {
                let heads = change(&choices.heads, gene.heads, rate, rng);
                let mlp = change(&choices.mlp, gene.mlp, rate, rng);
                // A dropped layer's bits say nothing, so one that comes back draws them.
                let bits = match gene.is_dropped() {
                    true => pick(&choices.bits, rng),
                    false => change(&choices.bits, gene.bits, rate, rng),
                };
                Gene { heads, mlp, bits }
            }
            None => sample(choices, rng),
        }
    })
}

/// How many genes of the space have a choice; at least 1. One over it is the customary mutation rate.
pub fn variable_genes(space: &SearchSpace) -> usize {
    let layers = (0..space.shape().layers).map(|layer| space.layer(layer));
    let lists = layers.flat_map(|choices| [choices.heads.len(), choices.mlp.len(), choices.bits.len()]);
    lists.chain([space.depths().len()]).filter(|&choices| choices > 1).count().max(1)
}

/// A parent seen as genes of the space.
struct Parent<'a> {
    space: &'a SearchSpace,
    genome: &'a Genome,
    depth: usize,
}

impl<'a> Parent<'a> {
    fn new(space: &'a SearchSpace, genome: &'a Genome) -> Parent<'a> {
        Parent { space, genome, depth: space.depth_of(genome) }
    }

    /// The layer's gene, unless the parent's depth drops the layer or the gene is none of the space's.
    fn gene(&self, layer: usize) -> Option<Gene> {
        let gene = *self.genome.genes().get(layer)?;
        let kept = !self.space.dropped_at(self.depth).contains(&layer);
        (kept && self.space.layer(layer).contains(gene)).then_some(gene)
    }
}

fn sample(choices: &LayerChoices, rng: &mut (impl Rng + ?Sized)) -> Gene {
    Gene { heads: pick(&choices.heads, rng), mlp: pick(&choices.mlp, rng), bits: pick(&choices.bits, rng) }
}

fn pick<T: Copy>(choices: &[T], rng: &mut (impl Rng + ?Sized)) -> T {
    choices[rng.random_range(0..choices.len())]
}

/// With probability `rate` another of the choices, else `current`.
fn change<T: Copy + PartialEq>(choices: &[T], current: T, rate: f64, rng: &mut (impl Rng + ?Sized)) -> T {
    if choices.len() < 2 || !rng.random_bool(rate) {
        return current;
    }
    let place = choices.iter().position(|&choice| choice == current).unwrap_or(choices.len() - 1);
    let other = rng.random_range(0..choices.len() - 1);
    choices[if other < place { other } else { other + 1 }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use std::collections::BTreeSet;

    /// Every kind of gene: depth that drops from the middle, lost halves, layers that may go, bits without 16.
    const EVERYTHING: &str = "
shape: { layers: 6, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, mlp: 128, vocab: 512 }
depth: [3, 4, 6]
heads: [0, 2, 4]
mlp: [0, 32, 128]
bits: [4, 8]
layers:
  0-1: { heads: [2, 4], mlp: [64, 128], bits: [8, 16] }
";

    fn everything() -> SearchSpace {
        SearchSpace::from_yaml(EVERYTHING).unwrap().with_drop_order(&[3, 5, 2, 4, 0, 1]).unwrap()
    }

    fn rng(seed: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(seed)
    }

    proptest! {
        #[test]
        fn children_are_members_of_the_space(seed: u64, rate in 0.0..=1.0f64, uniform: bool) {
            let (space, rng) = (everything(), &mut rng(seed));
            let kind = if uniform { Crossover::Uniform } else { Crossover::OnePoint };
            let (mut a, mut b) = (space.sample(rng), space.sample(rng));
            for _ in 0..20 {
                let child = crossover(&space, kind, &a, &b, rng);
                prop_assert!(space.contains(&child), "{child} of {a} and {b}");
                let mutant = mutate(&space, &child, rate, rng);
                prop_assert!(space.contains(&mutant), "{mutant} of {child}");
                (a, b) = (child, mutant);
            }
        }

        #[test]
        fn children_of_strangers_are_members_too(seed: u64, genes in prop::collection::vec((0..5u32, 0..200u32), 0..9)) {
            let (space, rng) = (everything(), &mut rng(seed));
            let stranger = Genome::new(genes.into_iter().map(|(heads, mlp)| Gene::new(heads, mlp)));
            let native = space.sample(rng);
            prop_assert!(space.contains(&crossover(&space, Crossover::Uniform, &stranger, &native, rng)));
            prop_assert!(space.contains(&mutate(&space, &stranger, 0.1, rng)));
        }

        #[test]
        fn crossover_invents_nothing(seed: u64, uniform: bool) {
            let (space, rng) = (everything(), &mut rng(seed));
            let kind = if uniform { Crossover::Uniform } else { Crossover::OnePoint };
            let (a, b) = (space.sample(rng), space.sample(rng));
            let child = crossover(&space, kind, &a, &b, rng);
            for (layer, gene) in child.kept() {
                prop_assert!(gene == a.genes()[layer] || gene == b.genes()[layer], "layer {layer} of {child}");
            }
        }
    }

    #[test]
    fn one_point_takes_a_start_from_one_parent() {
        let space = SearchSpace::from_yaml(
            "{ shape: { layers: 8, hidden: 64, heads: 4, kv_heads: 4, head_dim: 16, mlp: 128, vocab: 512 }, \
             depth: [8], heads: [4], mlp: [64, 128] }",
        )
        .unwrap();
        let (narrow, wide) = (space.smallest(), space.largest());
        let mut points = BTreeSet::new();
        for seed in 0..200 {
            let child = crossover(&space, Crossover::OnePoint, &narrow, &wide, &mut rng(seed));
            let point = child.genes().iter().take_while(|gene| gene.mlp == 64).count();
            assert!(child.genes()[point..].iter().all(|gene| gene.mlp == 128), "{child}");
            points.insert(point);
        }
        assert_eq!(points, (1..8).collect(), "every point between two layers, and both parents have a part");
    }

    #[test]
    fn erases_what_depth_drops_and_revives_it_with_choices() {
        let space = everything();
        let deep = Genome::uniform(6, Gene { heads: 4, mlp: 128, bits: 8 });
        assert!(space.contains(&deep));
        let mut depths = BTreeSet::new();
        for seed in 0..100 {
            let child = mutate(&space, &deep, 0.3, &mut rng(seed));
            let depth = space.depth_of(&child);
            assert!(space.dropped_at(depth).iter().all(|&layer| child.genes()[layer].is_dropped()));
            depths.insert(depth);
        }
        assert_eq!(depths, BTreeSet::from([3, 4, 6]));
        let shallow = space.smallest();
        let revived = (0..100).map(|seed| mutate(&space, &shallow, 1.0, &mut rng(seed)));
        let in_layer_3: BTreeSet<Gene> = revived.map(|genome| genome.genes()[3]).collect();
        assert!(in_layer_3.len() > 8, "random genes, not one of them: {in_layer_3:?}");
    }

    #[test]
    fn changes_genes_at_the_stated_rate() {
        let space = SearchSpace::shipped("smollm2-135m").unwrap();
        let genome = space.largest();
        assert_eq!(mutate(&space, &genome, 0.0, &mut rng(1)), genome);
        let shape = "{ layers: 100, hidden: 64, heads: 4, kv_heads: 4, head_dim: 16, mlp: 128, vocab: 512 }";
        let space =
            SearchSpace::from_yaml(&format!("{{ shape: {shape}, depth: [100], heads: [2, 4], mlp: [32, 64, 128] }}"))
                .unwrap();
        assert_eq!(variable_genes(&space), 200);
        let genome = space.largest();
        let everywhere = mutate(&space, &genome, 1.0, &mut rng(1));
        assert!(everywhere.genes().iter().all(|gene| gene.heads != 4 && gene.mlp != 128), "a change is a change");
        let changed: usize = (0..200)
            .map(|seed| mutate(&space, &genome, 0.02, &mut rng(seed)))
            .map(|mutant| mutant.genes().iter().filter(|gene| gene.mlp != 128).count())
            .sum();
        // 20,000 draws at 0.02: 400 with a standard deviation of 20.
        assert!((320..480).contains(&changed), "{changed}");
    }
}
