//! A search space: which genomes there are.

use std::collections::BTreeSet;

use rand::Rng;
use serde::{Deserialize, Serialize};

pub use super::choices::{EndChoices, LayerChoices};
use super::place::{At, Place};
use super::{Bits, BlockWeights, Constraint, Cost, Ends, Gene, Genome, ModelShape, choices};
use crate::error::{Error, Result};

/// Which layers go first when depth shrinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DropRule {
    /// The ranking's least important ones; until a ranking is given, the last ones.
    #[default]
    Ranking,
    /// The last ones.
    Last,
}

/// A checked search space: for each layer what it may be, how many layers may be kept, and how what lies before and behind
/// them may be stored.
///
/// A genome of the space takes one of the depths, which drops the first layers of the drop order, one choice for each
/// layer that is left, and one for each end. No genome of it is without a layer.
///
/// Two spaces are equal when they hold the same genomes under the same rules, wherever those were written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Resolved", into = "Resolved")]
pub struct SearchSpace {
    pub(super) shape: ModelShape,
    pub(super) depths: Vec<usize>,
    pub(super) drop: DropRule,
    /// All layers; a depth drops a prefix.
    pub(super) drop_order: Vec<usize>,
    pub(super) layers: Vec<LayerChoices>,
    pub(super) ends: EndChoices,
    pub(super) constraints: Vec<Constraint>,
    pub(super) places: Places,
}

/// Where the fields that later checks may complain about were written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Places {
    /// In the order of [`ModelShape::fields`].
    pub shape: [Place; 9],
    pub depth: Place,
    pub bits: Place,
    pub embedding_bits: Place,
    pub head_bits: Place,
}

impl PartialEq for Places {
    /// Places are no part of what a space is.
    fn eq(&self, _: &Places) -> bool {
        true
    }
}

impl SearchSpace {
    /// The space, unless it allows a network with no layer. Layers kept at the smallest depth are kept at every depth.
    pub(super) fn never_empty(self) -> Result<SearchSpace> {
        let depth = self.depths[0];
        if self.kept_at(depth).iter().all(|&layer| self.layers[layer].can_drop()) {
            let reason = format!(
                "at depth {depth} every layer that is kept may still lose both halves (0 in heads and in mlp), which \
                 leaves a network with no layer; keep one of them with an override under `layers`"
            );
            return Err(self.places.depth.wrong("depth", reason));
        }
        Ok(self)
    }

    /// The space, unless one of its networks has matrices whose rows are no whole blocks of its bits.
    pub(super) fn in_blocks(self) -> Result<SearchSpace> {
        let genes = self
            .layers
            .iter()
            .enumerate()
            .flat_map(|(layer, choices)| choices.genes().into_iter().map(move |gene| (layer, gene)));
        let problem = |(layer, gene)| Some(format!("layer {layer}: {}", self.shape.blocks_problem(gene)?));
        if let Some(problem) = genes.filter_map(problem).next() {
            return Err(self.places.bits.wrong("bits", problem));
        }
        let Places { embedding_bits, head_bits, .. } = self.places;
        let embeddings = self.ends.embedding.iter().map(|&embedding| Ends { embedding, ..Ends::default() });
        let heads = self.ends.head.iter().map(|&head| Ends { head, ..Ends::default() });
        let embeddings = embeddings.map(|ends| (ends, "embedding_bits", embedding_bits));
        for (ends, field, place) in embeddings.chain(heads.map(|ends| (ends, "head_bits", head_bits))) {
            if let Some(problem) = self.shape.ends_problem(ends) {
                return Err(place.wrong(field, problem));
            }
        }
        Ok(self)
    }

    /// The same space, dropping layers in this order (the first entry goes first) when depth shrinks.
    /// A space with [`DropRule::Last`] keeps its own order.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the order does not name each layer once; [`Error::Space`] when it allows
    /// a network with no layer.
    pub fn with_drop_order(self, least_important_first: &[usize]) -> Result<SearchSpace> {
        let mut sorted = least_important_first.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..self.shape.layers) {
            let expected = format!("each layer from 0 to {} once", self.shape.layers - 1);
            return Err(Error::invalid(
                "order in which layers are dropped",
                format!("{least_important_first:?}"),
                expected,
            ));
        }
        match self.drop {
            DropRule::Last => Ok(self),
            DropRule::Ranking => SearchSpace { drop_order: least_important_first.to_vec(), ..self }.never_empty(),
        }
    }

    /// Whether `model` is the parent this space was written for.
    ///
    /// # Errors
    /// [`Error::Space`] at the first size that differs; the others are listed behind it.
    pub fn check_fits(&self, model: &ModelShape) -> Result<()> {
        let fields = self.shape.fields().into_iter().zip(model.fields()).zip(self.places.shape);
        let mut differing = fields.filter(|((ours, theirs), _)| ours != theirs);
        let Some((((field, ours), (_, theirs)), place)) = differing.next() else { return Ok(()) };
        let mut reason = format!("the space says {ours}, the model has {theirs}");
        for (((field, ours), (_, theirs)), _) in differing {
            reason += &format!("; {field}: {ours}, the model has {theirs}");
        }
        Err(place.wrong(format!("shape.{field}"), reason))
    }

    /// The parent's sizes.
    pub fn shape(&self) -> &ModelShape {
        &self.shape
    }

    /// How many layers may be kept, ascending.
    pub fn depths(&self) -> &[usize] {
        &self.depths
    }

    /// Which layers go first when depth shrinks.
    pub fn drop_rule(&self) -> DropRule {
        self.drop
    }

    /// All layers, the first to go first.
    pub fn drop_order(&self) -> &[usize] {
        &self.drop_order
    }

    /// The layers that are gone at this depth, the first to go first.
    pub fn dropped_at(&self, depth: usize) -> &[usize] {
        &self.drop_order[..self.shape.layers.saturating_sub(depth)]
    }

    /// The layers that are left at this depth, ascending: those whose genes count.
    pub fn kept_at(&self, depth: usize) -> Vec<usize> {
        let mut kept = self.drop_order[self.dropped_at(depth).len()..].to_vec();
        kept.sort_unstable();
        kept
    }

    /// The depth choice a genome expresses: the smallest of [`Self::depths`] whose dropped layers are all
    /// dropped in it, or the largest when there is none.
    pub fn depth_of(&self, genome: &Genome) -> usize {
        let genes = genome.genes();
        let gone = |layer: &usize| genes.get(*layer).is_none_or(Gene::is_dropped);
        let smallest = self.depths.iter().find(|&&depth| self.dropped_at(depth).iter().all(gone));
        *smallest.unwrap_or_else(|| self.depths.last().expect("a space has a depth"))
    }

    /// What a layer may be.
    pub fn layer(&self, layer: usize) -> &LayerChoices {
        &self.layers[layer]
    }

    /// What each layer may be, from the input on.
    pub fn layers(&self) -> &[LayerChoices] {
        &self.layers
    }

    /// The block types that matrices of its networks are stored in.
    pub fn formats(&self) -> BTreeSet<Bits> {
        let layers = self.layers.iter().flat_map(|layer| layer.bits.iter().copied());
        layers.chain(self.ends_formats()).filter(|bits| !bits.is_full()).collect()
    }

    /// What scoring its networks keeps beside the parent.
    pub fn block_weights(&self) -> BlockWeights {
        let genes = self.layers.iter().enumerate().flat_map(|(layer, LayerChoices { heads, mlp, bits })| {
            // Each half by itself: what a matrix is stored in depends on one width.
            let widths = heads.iter().map(|&heads| (heads, 0)).chain(mlp.iter().map(|&mlp| (0, mlp)));
            let in_bits = move |(heads, mlp)| bits.iter().map(move |&bits| (layer, Gene { heads, mlp, bits }));
            widths.flat_map(in_bits)
        });
        BlockWeights::of(&self.shape, &self.shape.parent(), genes, self.ends.all())
    }

    fn ends_formats(&self) -> impl Iterator<Item = Bits> {
        self.ends.embedding.iter().chain(&self.ends.head).copied()
    }

    /// Whether any of its networks is quantized.
    pub fn quantizes(&self) -> bool {
        !self.formats().is_empty()
    }

    /// What networks of this space are called large or small by: parameters, or the bytes of their weights where any is
    /// quantized.
    pub fn size(&self, genome: &Genome) -> u64 {
        let cost = Cost::of(&self.shape, genome);
        if self.quantizes() { cost.weight_bytes } else { cost.params }
    }

    /// How what lies before and behind the layers may be stored.
    pub fn ends(&self) -> &EndChoices {
        &self.ends
    }

    /// The hard constraints, in the order they were written.
    pub fn constraints(&self) -> &[Constraint] {
        &self.constraints
    }

    /// The genome of this depth with these ends and genes; those of layers that the depth drops are never asked for.
    pub fn express(&self, depth: usize, ends: Ends, mut gene: impl FnMut(usize) -> Gene) -> Genome {
        let mut genes = vec![Gene::DROPPED; self.shape.layers];
        for layer in self.kept_at(depth) {
            genes[layer] = gene(layer);
        }
        Genome::new(genes).with_ends(ends)
    }

    /// The widest network.
    pub fn largest(&self) -> Genome {
        self.express(self.depths[self.depths.len() - 1], self.ends.largest(), |layer| self.layers[layer].largest())
    }

    /// The narrowest network.
    pub fn smallest(&self) -> Genome {
        self.express(self.depths[0], self.ends.smallest(), |layer| self.layers[layer].smallest())
    }

    /// A genome drawn gene by gene: each depth, in each layer that is left each head count, width and number of bits, and
    /// at each end each number of bits, is equally likely.
    pub fn sample(&self, rng: &mut (impl Rng + ?Sized)) -> Genome {
        let depth = pick(rng, &self.depths);
        let ends = Ends { embedding: pick(rng, &self.ends.embedding), head: pick(rng, &self.ends.head) };
        self.express(depth, ends, |layer| {
            let LayerChoices { heads, mlp, bits } = &self.layers[layer];
            Gene { heads: pick(rng, heads), mlp: pick(rng, mlp), bits: pick(rng, bits) }
        })
    }

    /// Whether every gene is a choice of its layer and the depth is one of the space's.
    pub fn contains(&self, genome: &Genome) -> bool {
        let genes = genome.genes();
        // A smaller depth asks less of the other layers, and the smallest is the one expressed.
        let depth = self.depth_of(genome);
        genes.len() == self.shape.layers
            && self.ends.contains(genome.ends())
            && self.dropped_at(depth).iter().all(|&layer| genes[layer].is_dropped())
            && self.kept_at(depth).into_iter().all(|layer| self.layers[layer].contains(genes[layer]))
    }
}

/// The drop order of [`DropRule::Last`], and of a ranked space that was not given its ranking yet.
pub(super) fn last_first(shape: &ModelShape) -> Vec<usize> {
    (0..shape.layers).rev().collect()
}

fn pick<T: Copy>(rng: &mut (impl Rng + ?Sized), choices: &[T]) -> T {
    choices[rng.random_range(0..choices.len())]
}

/// A space as `run.json` stores it: nothing left to look up.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolved {
    shape: ModelShape,
    depth: Vec<usize>,
    drop: DropRule,
    drop_order: Vec<usize>,
    layers: Vec<LayerChoices>,
    #[serde(default = "unquantized", skip_serializing_if = "is_full")]
    embedding_bits: Vec<Bits>,
    #[serde(default = "unquantized", skip_serializing_if = "is_full")]
    head_bits: Vec<Bits>,
    constraints: Vec<Constraint>,
}

fn unquantized() -> Vec<Bits> {
    vec![Bits::F16]
}

fn is_full(bits: &[Bits]) -> bool {
    *bits == [Bits::F16]
}

impl From<SearchSpace> for Resolved {
    fn from(space: SearchSpace) -> Resolved {
        let SearchSpace { shape, depths, drop, drop_order, layers, ends, constraints, places: _ } = space;
        let EndChoices { embedding, head } = ends;
        Resolved {
            shape,
            depth: depths,
            drop,
            drop_order,
            layers,
            embedding_bits: embedding,
            head_bits: head,
            constraints,
        }
    }
}

impl TryFrom<Resolved> for SearchSpace {
    type Error = Error;

    fn try_from(resolved: Resolved) -> Result<SearchSpace> {
        let Resolved { shape, depth, drop, drop_order, layers, embedding_bits, head_bits, constraints } = resolved;
        if let Some((field, reason)) = shape.problems().into_iter().next() {
            return Err(Place::default().wrong(format!("shape.{field}"), reason));
        }
        if layers.len() != shape.layers {
            let reason = format!("found {}, the parent has {}", layers.len(), shape.layers);
            return Err(Place::default().wrong("layers", reason));
        }
        let depths = choices::depths(&shape, "depth", At::unplaced(depth))?;
        let check = |(layer, LayerChoices { heads, mlp, bits })| {
            Ok(LayerChoices {
                heads: choices::heads(&shape, &format!("layers.{layer}.heads"), At::unplaced(heads))?,
                mlp: choices::mlp(&shape, &format!("layers.{layer}.mlp"), At::unplaced(mlp))?,
                bits: choices::bits(&format!("layers.{layer}.bits"), At::unplaced(bits))?,
            })
        };
        let layers = layers.into_iter().enumerate().map(check).collect::<Result<_>>()?;
        let space = SearchSpace {
            shape,
            depths,
            drop,
            drop_order: last_first(&shape),
            layers,
            ends: EndChoices {
                embedding: choices::bits("embedding_bits", At::unplaced(embedding_bits))?,
                head: choices::bits("head_bits", At::unplaced(head_bits))?,
            },
            constraints,
            places: Places::default(),
        };
        space.with_drop_order(&drop_order)?.never_empty()?.in_blocks()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::space::count::tests::{enumerate, small_spaces};
    use crate::space::shape::tests::SMOLLM2;

    const SHAPE: &str = "shape: { layers: 4, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, mlp: 128, vocab: 512 }\n";

    fn space(rest: &str) -> SearchSpace {
        SearchSpace::from_yaml(&format!("{SHAPE}{rest}")).unwrap()
    }

    #[test]
    fn samples_members_of_every_kind() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for space in small_spaces() {
            let (_, networks) = enumerate(&space);
            let drawn: std::collections::BTreeSet<Genome> = (0..3000).map(|_| space.sample(&mut rng)).collect();
            assert!(drawn.is_subset(&networks), "{space:?}");
            // Enough draws to miss no network of a small space.
            assert!(networks.len() > 64 || drawn == networks, "{space:?}");
        }
    }

    #[test]
    fn contains_exactly_its_networks() {
        let all: Vec<Genome> = small_spaces().iter().flat_map(|space| enumerate(space).1).collect();
        for space in small_spaces() {
            let (_, networks) = enumerate(&space);
            for genome in &all {
                assert_eq!(space.contains(genome), networks.contains(genome), "{genome} in {space:?}");
            }
            assert!(!space.contains(&"4x4*2".parse().unwrap()), "a genome of two layers");
            assert!(networks.contains(&space.smallest()) && networks.contains(&space.largest()));
        }
    }

    #[test]
    fn expresses_the_smallest_depth_that_a_genome_allows() {
        let space = space("depth: [2, 3, 4]\nheads: [0, 4]\nmlp: [0, 128]\nlayers: { 0: { heads: [4] } }\n");
        let space = space.with_drop_order(&[2, 1, 3, 0]).unwrap();
        let depth = |text: &str| space.depth_of(&text.parse().unwrap());
        assert_eq!(depth("4x128*4"), 4);
        assert_eq!(depth("4x128*2:-:4x128"), 3);
        assert_eq!(depth("4x128:-*2:4x128"), 2);
        assert_eq!(depth("4x128:-:4x128*2"), 4, "layer 1 is gone by its own genes: layer 2 goes first");
        assert_eq!(space.dropped_at(2), [2, 1]);
        assert_eq!(space.kept_at(2), [0, 3]);
        assert_eq!(space.dropped_at(9), [0; 0]);
    }

    #[test]
    fn drops_layers_in_the_rankings_order_unless_told_otherwise() {
        let ranked = space("depth: [2, 4]\nheads: [4]\nmlp: [128]\n").with_drop_order(&[1, 3, 0, 2]).unwrap();
        assert_eq!(ranked.smallest().to_string(), "4x128:-:4x128:-");
        let last = space("depth: [2, 4]\nheads: [4]\nmlp: [128]\ndrop: last\n").with_drop_order(&[1, 3, 0, 2]).unwrap();
        assert_eq!(last.smallest().to_string(), "4x128*2:-*2");
    }

    #[test]
    fn refuses_drop_orders_that_cannot_be() {
        let space = space("depth: [2, 4]\nheads: [0, 4]\nmlp: [0, 128]\nlayers: { 0: { heads: [4] } }\n");
        for order in [&[0, 1, 2][..], &[0, 1, 2, 2], &[1, 2, 3, 4], &[]] {
            let error = space.clone().with_drop_order(order).unwrap_err().to_string();
            assert!(error.ends_with("expected each layer from 0 to 3 once"), "{error}");
        }
        let error = space.with_drop_order(&[0, 1, 2, 3]).unwrap_err().to_string();
        assert!(error.starts_with("search space, line 2 column 8: depth: at depth 2 every layer"), "{error}");
    }

    #[test]
    fn names_every_size_in_which_the_model_differs() {
        let space = space("heads: [4]\nmlp: [128]\n");
        space.check_fits(&space.shape().clone()).unwrap();
        let error = space.check_fits(&SMOLLM2).unwrap_err().to_string();
        assert_eq!(
            error,
            "search space, line 1 column 18: shape.layers: the space says 4, the model has 30; \
             hidden: 64, the model has 576; heads: 4, the model has 9; kv_heads: 2, the model has 3; \
             head_dim: 16, the model has 64; mlp: 128, the model has 1536; vocab: 512, the model has 49152; \
             tied: false, the model has true"
        );
        let error = space.check_fits(&ModelShape { vocab: 513, ..*space.shape() }).unwrap_err().to_string();
        assert_eq!(error, "search space, line 1 column 87: shape.vocab: the space says 512, the model has 513");
    }

    #[test]
    fn is_the_same_space_after_a_round_trip() {
        for space in small_spaces() {
            let text = serde_json::to_string(&space).unwrap();
            assert_eq!(serde_json::from_str::<SearchSpace>(&text).unwrap(), space, "{text}");
        }
        let last = space("depth: [2]\nheads: [4]\nmlp: [128]\ndrop: last\nconstraints: { params: \"<= 0.1\" }\n");
        let text = serde_json::to_string(&last).unwrap();
        assert_eq!(serde_json::from_str::<SearchSpace>(&text).unwrap(), last);
    }

    #[test]
    fn checks_a_stored_space_like_a_written_one() {
        let text = serde_json::to_string(&space("depth: [2, 4]\nheads: [4]\nmlp: [128]\n")).unwrap();
        for (old, new, complaint) in [
            ("\"kv_heads\":2", "\"kv_heads\":0", "shape.kv_heads: found 0"),
            ("\"layers\":4", "\"layers\":5", "layers: found 4, the parent has 5"),
            ("\"depth\":[2,4]", "\"depth\":[2,5]", "depth: depth 5 is not between"),
            ("\"heads\":[4]", "\"heads\":[3]", "layers.0.heads: 3 heads are no multiple"),
            ("[3,2,1,0]", "[3,2,1,1]", "order in which layers are dropped: found [3, 2, 1, 1]"),
            ("\"drop\":", "\"pick\":", "unknown field `pick`"),
        ] {
            assert!(text.contains(old), "{old} in {text}");
            let error = serde_json::from_str::<SearchSpace>(&text.replacen(old, new, 1)).unwrap_err().to_string();
            assert!(error.contains(complaint), "{new}: {error}");
        }
    }
}
