//! A forest of tokens on a device: positions as angles, and who sees whom.

use tch::{Device, Kind, Tensor};

use super::blocks::{Block, blocks, windowed_blocks};
use super::token_tree::TokenTree;
use crate::checkpoint::{LlamaConfig, RopeScaling, SlidingWindow, plain_frequencies};
use crate::error::Result;
use crate::kernels::tree_attention::{self as attention, Sight};

/// Positions whose angles are computed together.
const POSITIONS: i64 = 1 << 16;

/// Rotary angles for every position: cos and sin, (positions, e), float32.
pub struct RopeTable {
    /// Cosines, (positions, e).
    pub cos: Tensor,
    /// Sines, (positions, e).
    pub sin: Tensor,
}

impl RopeTable {
    /// Angles of every position (Su et al. 2021), stretched as the checkpoint asks for it.
    ///
    /// # Errors
    /// libtorch's, when there is not so much memory.
    pub fn new(config: &LlamaConfig, device: Device) -> Result<RopeTable> {
        let e = config.shape.head_dim;
        let mut frequencies = plain_frequencies(e, config.rope_theta);
        if let Some(scaling) = &config.rope_scaling {
            for (frequency, divisor) in frequencies.iter_mut().zip(scaling.divisors(e, config.rope_theta)) {
                *frequency /= divisor;
            }
        }
        let frequencies = Tensor::from_slice(&frequencies).to_kind(Kind::Float); // (e/2)
        let factor = config.rope_scaling.as_ref().map_or(1.0, RopeScaling::attention_factor);
        let count = config.positions() as i64;
        let table = || Tensor::f_empty([count, e as i64], (Kind::Float, device)); // (p, e)
        let (cos, sin) = (table()?, table()?);
        // Some positions at a time, so that nothing is as large as the tables beside them.
        for start in (0..count).step_by(POSITIONS as usize) {
            let end = count.min(start + POSITIONS);
            let positions = Tensor::f_arange_start(start, end, (Kind::Float, Device::Cpu))?; // (q)
            let angles = positions.f_unsqueeze(1)?.f_mul(&frequencies.unsqueeze(0))?; // (q, e/2)
            let angles = Tensor::f_cat(&[&angles, &angles], 1)?; // (q, e)
            for (table, of) in [(&cos, angles.f_cos()?), (&sin, angles.f_sin()?)] {
                let of = if factor == 1.0 { of } else { of.f_mul_scalar(factor)? };
                table.f_narrow(0, start, end - start)?.f_copy_(&of)?;
            }
        }
        Ok(RopeTable { cos, sin })
    }

    /// Handles of the same tensors.
    pub(super) fn share(&self) -> RopeTable {
        RopeTable { cos: self.cos.shallow_clone(), sin: self.sin.shallow_clone() }
    }

    /// The angles of positions (t), where the table is.
    pub(super) fn at(&self, positions: &Tensor) -> Angles {
        let of = |table: &Tensor| {
            table.to_device(positions.device()).index_select(0, positions).view([-1, 1, 1, table.size()[1]])
        };
        let (cos, sin) = (of(&self.cos), of(&self.sin));
        let _ = sin.narrow(3, 0, sin.size()[3] / 2).neg_();
        Angles { cos, sin }
    }
}

/// How far the heads of each token are rotated.
pub(super) struct Angles {
    /// (t, 1, 1, e)
    pub cos: Tensor,
    /// (t, 1, 1, e), the first half negated: what rotation adds of the other half.
    pub sin: Tensor,
}

impl Angles {
    pub(super) fn to_kind(&self, kind: Kind) -> Angles {
        Angles { cos: self.cos.to_kind(kind), sin: self.sin.to_kind(kind) }
    }
}

/// A forest on a device: `t` tokens, positions already turned into rotary angles.
pub struct TreeBatch {
    /// Token ids, (t).
    pub(super) tokens: Tensor,
    pub(super) angles: Angles,
    /// Who sees whom where all ancestors are seen.
    sight: Sight,
    /// Who sees whom in layers with a window that is shorter than a sequence of the forest.
    windowed: Option<(Vec<bool>, Sight)>,
}

impl TreeBatch {
    /// A forest on a device, ready for a forward pass of this model.
    pub fn new(tree: &TokenTree, rope: &RopeTable, config: &LlamaConfig, device: Device) -> TreeBatch {
        let ids: Vec<i64> = tree.tokens().iter().map(|&token| i64::from(token)).collect();
        let positions: Vec<i64> = tree.depths().iter().map(|&depth| i64::from(depth)).collect();
        let positions = Tensor::from_slice(&positions).to_device(device);
        let group = config.shape.group();
        let short = |window: &&SlidingWindow| tree.longest() > window.width;
        let windowed = config.sliding_window.as_ref().filter(short).map(|window| {
            let blocks = windowed_blocks(tree, window.width);
            (window.layers.clone(), sight(tree, blocks, [group, window.width], device))
        });
        TreeBatch {
            tokens: Tensor::from_slice(&ids).to_device(device),
            angles: rope.at(&positions),
            sight: sight(tree, blocks(tree), [group, usize::MAX], device),
            windowed,
        }
    }

    /// Tokens `t` of the batch.
    pub fn len(&self) -> i64 {
        self.tokens.size()[0]
    }

    /// Who sees whom, without windows.
    pub fn sight(&self) -> &Sight {
        &self.sight
    }

    /// Who sees whom in a layer.
    pub(super) fn sight_of(&self, layer: usize) -> &Sight {
        match &self.windowed {
            Some((layers, sight)) if layers[layer] => sight,
            _ => &self.sight,
        }
    }

    /// Whether the batch holds no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batch with masks of this kind, and rotary angles of that.
    pub fn to_kinds(self, kind: Kind, of_angles: Kind) -> TreeBatch {
        let mask =
            |block: attention::Block| attention::Block { mask: block.mask.map(|mask| mask.to_kind(kind)), ..block };
        let masks = |sight: Sight| Sight { blocks: sight.blocks.into_iter().map(mask).collect(), ..sight };
        let windowed = self.windowed.map(|(layers, sight)| (layers, masks(sight)));
        TreeBatch { angles: self.angles.to_kind(of_angles), sight: masks(self.sight), windowed, ..self }
    }
}

/// Who sees whom of the forest in these blocks, on a device. Tokens see themselves and the `window − 1` before them.
fn sight(tree: &TokenTree, blocks: Vec<Block>, [group, window]: [usize; 2], device: Device) -> Sight {
    let block = |block: Block| {
        let queries = block.queries.clone();
        let chain = queries.clone().skip(1).all(|node| tree.parent(node) == Some(node - 1));
        let causal = block.ancestors.is_empty() && chain && queries.len() <= window;
        let mask = (!causal).then(|| mask(tree, &block, group, window).to_device(device));
        let ancestors = (!block.ancestors.is_empty()).then(|| {
            let nodes: Vec<i64> = block.ancestors.iter().map(|&node| node as i64).collect();
            Tensor::from_slice(&nodes).to_device(device)
        });
        attention::Block { start: queries.start as i64, len: queries.len() as i64, ancestors, mask }
    };
    let places = |of: &[u32]| {
        let of: Vec<i32> = of.iter().map(|&place| place as i32).collect();
        Tensor::from_slice(&of).to_device(device)
    };
    let (ends, roots) = (places(tree.ends()), places(&roots(tree)));
    Sight { blocks: blocks.into_iter().map(block).collect(), ends, roots, windowed: window < tree.longest() }
}

/// The first token of every token's tree.
fn roots(tree: &TokenTree) -> Vec<u32> {
    let mut root = 0;
    let of = |node: usize| {
        root = if tree.parent(node).is_none() { node as u32 } else { root };
        root
    };
    (0..tree.len()).map(of).collect()
}

/// 0 where a query of the block sees a key, −∞ elsewhere, repeated for each head of a group:
/// (group · queries, ancestors + queries), float32.
fn mask(tree: &TokenTree, block: &Block, group: usize, window: usize) -> Tensor {
    let (stem, count) = (block.ancestors.len(), block.queries.len());
    let mut seen = vec![f32::NEG_INFINITY; count * (stem + count)];
    for query in 0..count {
        let row = &mut seen[query * (stem + count)..(query + 1) * (stem + count)];
        let depth = |node: usize| tree.depths()[node] as usize;
        let last = depth(block.queries.start + query);
        for (place, &node) in block.ancestors.iter().enumerate() {
            if last - depth(node) < window {
                row[place] = 0.0;
            }
        }
        let mut node = Some(block.queries.start + query);
        while let Some(key) = node.filter(|&key| block.queries.contains(&key) && last - depth(key) < window) {
            row[stem + key - block.queries.start] = 0.0;
            node = tree.parent(key);
        }
    }
    Tensor::from_slice(&seen).view([count as i64, (stem + count) as i64]).repeat([group as i64, 1])
}

#[cfg(test)]
mod tests {
    use super::super::token_tree::tests::forest;
    use super::*;

    #[test]
    fn masks_everything_but_ancestors() {
        let (tree, _) = forest();
        let block = Block { queries: 0..9, ancestors: vec![] };
        let mask = Vec::<Vec<f32>>::try_from(mask(&tree, &block, 1, usize::MAX)).unwrap();
        let seen: Vec<Vec<usize>> = mask.iter().map(|row| (0..9).filter(|&key| row[key] == 0.0).collect()).collect();
        assert_eq!(
            seen,
            [
                vec![0],
                vec![0, 1],
                vec![0, 1, 2],
                vec![0, 1, 2, 3],
                vec![0, 1, 2, 4],
                vec![0, 1, 2, 4, 5],
                vec![0, 6],
                vec![7],
                vec![7, 8]
            ]
        );
    }
}
