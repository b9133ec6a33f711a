//! Crossover and mutation of genomes. Every child is a member of the space, whatever its parents are.
//!
//! A genome's genes are its depth, in each layer that the depth keeps its heads, its MLP width and its bits, and the bits
//! of both ends.
//! Layers that the depth drops have no genes: they are erased, and get new ones when a larger depth revives them.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::survival::{Survival, rank_and_crowding};
use crate::space::{Ends, Gene, Genome, LayerChoices, SearchSpace};

/// A child of two parents: the layers before a random point are one's, the others the other's, so that children share whole starts with
/// a parent, which evaluation reuses. Its depth is one parent's; where the parent that a layer is taken from has no gene for it, the
/// other's stands there, or a random one where neither has any. The embedding goes with the first layer and the output matrix with the last.
pub fn crossover(space: &SearchSpace, first: &Genome, second: &Genome, rng: &mut (impl Rng + ?Sized)) -> Genome {
    let (first, second) = (Parent::new(space, first), Parent::new(space, second));
    let depth = if rng.random() { first.depth } else { second.depth };
    let layers = space.shape().layers;
    let point = rng.random_range(1..layers.max(2));
    let ends = Ends { embedding: first.ends.embedding, head: second.ends.head };
    space.express(depth, ends, |layer| {
        let (chosen, other) = if layer < point { (&first, &second) } else { (&second, &first) };
        chosen.gene(layer).or_else(|| other.gene(layer)).unwrap_or_else(|| sample(space.layer(layer), rng))
    })
}

/// Makes a child of two parents.
pub type CrossoverOperator = dyn Fn(&SearchSpace, &Genome, &Genome, &mut ChaCha8Rng) -> Genome + Send + Sync;
/// Changes a genome.
pub type MutationOperator = dyn Fn(&SearchSpace, &Genome, &mut ChaCha8Rng) -> Genome + Send + Sync;

/// The operators of an algorithm that breeds. Children are bred on several threads, each with a generator of its own.
#[derive(Clone)]
pub struct Operators {
    /// Of two parents.
    pub crossover: Arc<CrossoverOperator>,
    /// Of a child.
    pub mutation: Arc<MutationOperator>,
    /// Of a population.
    pub survival: Survival,
}

impl Default for Operators {
    /// The operators of this file, each gene changing with one over the number of genes that have a choice, and survival by rank and
    /// crowding.
    fn default() -> Operators {
        Operators {
            crossover: Arc::new(crossover),
            mutation: Arc::new(|space, genome, rng| {
                mutate(space, genome, 1.0 / variable_places(space).count().max(1) as f64, rng)
            }),
            survival: |points, violations, count| rank_and_crowding(points, violations, count),
        }
    }
}

/// Genes of a layer: heads, MLP width, bits.
const GENES: usize = 3;

/// The place of the embedding's bits; those of the output matrix follow.
fn embedding_place(layers: usize) -> usize {
    1 + GENES * layers
}

/// Places of the genes that have a choice: 0 is the depth, `1 + 3 * layer` the layer's heads, and so on; the ends are last.
fn variable_places(space: &SearchSpace) -> impl Iterator<Item = usize> {
    let layers = (0..space.shape().layers).map(|layer| space.layer(layer));
    let lists = layers.flat_map(|choices| [choices.heads.len(), choices.mlp.len(), choices.bits.len()]);
    let ends = [space.ends().embedding.len(), space.ends().head.len()];
    std::iter::once(space.depths().len())
        .chain(lists)
        .chain(ends)
        .enumerate()
        .filter(|(_, choices)| *choices > 1)
        .map(|(place, _)| place)
}

/// The genome with each gene changed with probability `rate`, to another choice of its list, all others equally likely. Layers that a
/// larger depth revives get random genes.
///
/// # Panics
/// A rate that is no probability.
pub fn mutate(space: &SearchSpace, genome: &Genome, rate: f64, rng: &mut (impl Rng + ?Sized)) -> Genome {
    let parent = Parent::new(space, genome);
    let places: BTreeSet<usize> = variable_places(space).filter(|_| rng.random_bool(rate)).collect();
    let depth = change(space.depths(), parent.depth, places.contains(&0), rng);
    let (embedding, choices) = (embedding_place(space.shape().layers), space.ends());
    let ends = Ends {
        embedding: change(&choices.embedding, parent.ends.embedding, places.contains(&embedding), rng),
        head: change(&choices.head, parent.ends.head, places.contains(&(embedding + 1)), rng),
    };
    space.express(depth, ends, |layer| {
        let choices = space.layer(layer);
        let changes = |gene: usize| places.contains(&(1 + GENES * layer + gene));
        match parent.gene(layer) {
            Some(gene) => {
                let heads = change(&choices.heads, gene.heads, changes(0), rng);
                let mlp = change(&choices.mlp, gene.mlp, changes(1), rng);
                // A dropped layer's bits say nothing, so one that comes back draws them.
                let bits = if gene.is_dropped() {
                    pick(&choices.bits, rng)
                } else {
                    change(&choices.bits, gene.bits, changes(2), rng)
                };
                Gene { heads, mlp, bits }
            }
            None => sample(choices, rng),
        }
    })
}

/// A parent seen as genes of the space.
struct Parent<'a> {
    space: &'a SearchSpace,
    genome: &'a Genome,
    depth: usize,
    ends: Ends,
}

impl<'a> Parent<'a> {
    fn new(space: &'a SearchSpace, genome: &'a Genome) -> Parent<'a> {
        Parent { space, genome, depth: space.depth_of(genome), ends: space.ends().nearest(genome.ends()) }
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

/// Another of the choices, where there is one and it is to change; else `current`.
fn change<T: Copy + PartialEq>(choices: &[T], current: T, change: bool, rng: &mut (impl Rng + ?Sized)) -> T {
    if choices.len() < 2 || !change {
        return current;
    }
    let place = choices.iter().position(|&choice| choice == current).unwrap_or(choices.len() - 1);
    let other = rng.random_range(0..choices.len() - 1);
    choices[if other < place { other } else { other + 1 }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Bits;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    /// Every kind of gene: depth that drops from the middle, lost halves, layers that may go, bits without 16, ends.
    const EVERYTHING: &str = "
shape: { layers: 6, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, mlp: 128, vocab: 512 }
depth: [3, 4, 6]
heads: [0, 2, 4]
mlp: [0, 32, 128]
bits: [4, 8]
embedding_bits: [8, 4]
head_bits: [q4_1, 8, 16]
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
        fn children_are_members_of_the_space(seed: u64, rate in 0.0..=1.0f64) {
            let (space, rng) = (everything(), &mut rng(seed));
            let (mut a, mut b) = (space.sample(rng), space.sample(rng));
            for _ in 0..20 {
                let child = crossover(&space, &a, &b, rng);
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
            prop_assert!(space.contains(&crossover(&space, &stranger, &native, rng)));
            prop_assert!(space.contains(&mutate(&space, &stranger, 0.1, rng)));
        }

        #[test]
        fn crossover_invents_nothing(seed: u64) {
            let (space, rng) = (everything(), &mut rng(seed));
            let (a, b) = (space.sample(rng), space.sample(rng));
            let child = crossover(&space, &a, &b, rng);
            for (layer, gene) in child.kept() {
                prop_assert!(gene == a.genes()[layer] || gene == b.genes()[layer], "layer {layer} of {child}");
            }
            let (ends, a, b) = (child.ends(), a.ends(), b.ends());
            prop_assert!(ends.embedding == a.embedding || ends.embedding == b.embedding);
            prop_assert!(ends.head == a.head || ends.head == b.head);
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
            let child = crossover(&space, &narrow, &wide, &mut rng(seed));
            let point = child.genes().iter().take_while(|gene| gene.mlp == 64).count();
            assert!(child.genes()[point..].iter().all(|gene| gene.mlp == 128), "{child}");
            points.insert(point);
        }
        assert_eq!(points, (1..8).collect(), "every point between two layers, and both parents have a part");
    }

    #[test]
    fn erases_what_depth_drops_and_revives_it_with_choices() {
        let space = everything();
        let deep = Genome::uniform(6, Gene { heads: 4, mlp: 128, bits: Bits::Q8_0 }).with_ends(Ends::both(Bits::Q8_0));
        assert!(space.contains(&deep));
        let (mut depths, mut ends) = (BTreeSet::new(), BTreeSet::new());
        for seed in 0..100 {
            let child = mutate(&space, &deep, 0.3, &mut rng(seed));
            let depth = space.depth_of(&child);
            assert!(space.dropped_at(depth).iter().all(|&layer| child.genes()[layer].is_dropped()));
            depths.insert(depth);
            ends.insert(child.ends());
        }
        assert_eq!(depths, BTreeSet::from([3, 4, 6]));
        assert_eq!(ends.len(), 6, "the ends change too: {ends:?}");
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
        assert_eq!(variable_places(&space).count(), 200);
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
