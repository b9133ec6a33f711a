//! What one narrowing alone costs: the parent with one half of one layer narrower, or a layer less.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::windows::{batches, forest};
use crate::error::Result;
use crate::model::head::Reference;
use crate::model::network::Network;
use crate::model::stream::Stream;
use crate::model::targets::Targets;
use crate::model::tree_batch::TreeBatch;
use crate::model::weights::Llama;
use crate::space::{Gene, SearchSpace};

/// What a layer's narrowings cost, each alone: the forward KL divergence from the parent, nats per token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerLosses {
    /// Without the layer.
    pub dropped: f64,
    /// With so many query heads.
    pub heads: BTreeMap<u32, f64>,
    /// With so many MLP channels.
    pub mlp: BTreeMap<u32, f64>,
}

impl LayerLosses {
    /// What a gene costs, its halves added: measured widths as they were measured, others between their neighbours.
    pub fn of(&self, whole: Gene, gene: Gene) -> f64 {
        if gene.is_dropped() {
            return self.dropped;
        }
        let half = |measured: &BTreeMap<u32, f64>, whole: u32, width: u32| {
            let below = measured.range(..=width).next_back().map_or((0, self.dropped), |(&width, &loss)| (width, loss));
            let above = measured.range(width..).next().map_or((whole, 0.0), |(&width, &loss)| (width, loss));
            let share = if above.0 > below.0 { f64::from(width - below.0) / f64::from(above.0 - below.0) } else { 0.0 };
            below.1 + share * (above.1 - below.1)
        };
        half(&self.heads, whole.heads, gene.heads) + half(&self.mlp, whole.mlp, gene.mlp)
    }
}

/// What every layer's narrowings to the widths of a space cost, and what losing each layer does. What comes before a change is
/// computed once, so that each costs half a forward pass on average. `on_share` is told which share of the work is done.
///
/// # Errors
/// For widths that the model has no corrections for, where it has some.
pub fn losses(
    model: &Llama,
    windows: &[Vec<u32>],
    space: Option<&SearchSpace>,
    on_share: &mut dyn FnMut(f64),
) -> Result<Vec<LayerLosses>> {
    let network = model.whole()?;
    let genes = network.genome().genes();
    let changes: Vec<Vec<Change>> =
        genes.iter().enumerate().map(|(layer, &gene)| changes(gene, layer, space)).collect();
    let mut losses = vec![LayerLosses::default(); genes.len()];
    let work_of = |layer: usize| (changes[layer].len() * (genes.len() - layer)) as f64;
    let work = (0..genes.len()).map(work_of).sum::<f64>() * batches(windows).count() as f64;
    let (mut scored, mut done) = (0, 0.0);
    for group in batches(windows) {
        let batch = model.batch(&forest(group))?;
        let targets = targets(group);
        tch::no_grad(|| {
            let after = OnBatch { network: &network, batch: &batch, targets: &targets };
            let mut stream = Stream::new(network.parts().embed(&batch));
            let reference = network.reference(&batch, &targets);
            for (layer, &gene) in genes.iter().enumerate() {
                for change in &changes[layer] {
                    let changed = network.parts().layer(layer, change.gene(gene), &stream, &batch);
                    *change.place(&mut losses[layer]) += after.divergence(layer + 1, &changed, &reference);
                }
                stream = network.parts().layer(layer, gene, &stream, &batch);
                done += work_of(layer);
                on_share(done / work);
            }
        });
        scored += targets.rows.len();
    }
    let all = losses.iter_mut().flat_map(|LayerLosses { dropped, heads, mlp }| {
        std::iter::once(dropped).chain(heads.values_mut()).chain(mlp.values_mut())
    });
    all.for_each(|loss| *loss = (*loss / scored.max(1) as f64).max(0.0));
    Ok(losses)
}

/// One narrowing of a layer.
enum Change {
    Dropped,
    Heads(u32),
    Mlp(u32),
}

impl Change {
    fn gene(&self, whole: Gene) -> Gene {
        match *self {
            Change::Dropped => Gene::DROPPED,
            Change::Heads(heads) => Gene { heads, ..whole },
            Change::Mlp(mlp) => Gene { mlp, ..whole },
        }
    }

    fn place<'a>(&self, losses: &'a mut LayerLosses) -> &'a mut f64 {
        match *self {
            Change::Dropped => &mut losses.dropped,
            Change::Heads(heads) => losses.heads.entry(heads).or_default(),
            Change::Mlp(mlp) => losses.mlp.entry(mlp).or_default(),
        }
    }
}

fn changes(whole: Gene, layer: usize, space: Option<&SearchSpace>) -> Vec<Change> {
    let mut changes = vec![Change::Dropped];
    if let Some(choices) = space.map(|space| space.layer(layer)) {
        let narrower = |of: &[u32], whole: u32| of.iter().copied().filter(|&width| width < whole).collect::<Vec<_>>();
        changes.extend(narrower(&choices.heads, whole.heads).into_iter().map(Change::Heads));
        changes.extend(narrower(&choices.mlp, whole.mlp).into_iter().map(Change::Mlp));
    }
    changes
}

/// A batch, and what is predicted of it.
struct OnBatch<'a> {
    network: &'a Network,
    batch: &'a TreeBatch,
    targets: &'a Targets,
}

impl OnBatch<'_> {
    /// The last layer's output when the layers from this one on are the parent's.
    fn rest(&self, from: usize, before: &Stream) -> Tensor {
        let rest = self.network.genome().genes().iter().enumerate().skip(from);
        let next =
            |stream, (layer, &gene): (usize, &Gene)| self.network.parts().layer(layer, gene, &stream, self.batch);
        rest.fold(before.clone(), next).into_hidden()
    }

    /// The sum over tokens.
    fn divergence(&self, from: usize, before: &Stream, reference: &Reference) -> f64 {
        let predicted = self.network.parts().head().predict(&self.rest(from, before), self.targets, Some(reference));
        predicted.divergences.iter().map(|&divergence| f64::from(divergence)).sum()
    }
}

/// Every token but the first of each window, by the row before it.
fn targets(windows: &[Vec<u32>]) -> Targets {
    let mut targets = Targets::default();
    let mut first = 0;
    for window in windows {
        for (offset, &token) in window.iter().enumerate().skip(1) {
            targets.pairs.push((targets.rows.len() as u32, token));
            targets.rows.push((first + offset - 1) as i64);
        }
        first += window.len();
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_that_were_not_measured_lie_between_those_that_were() {
        let losses =
            LayerLosses { dropped: 4.0, heads: BTreeMap::from([(2, 1.0)]), mlp: BTreeMap::from([(0, 3.0), (64, 1.0)]) };
        let of = |heads, mlp| losses.of(Gene::new(4, 128), Gene::new(heads, mlp));
        assert_eq!(of(4, 128), 0.0);
        assert_eq!(of(2, 64), 2.0);
        assert_eq!(of(4, 32), 2.0, "half-way from 3 to 1");
        assert_eq!(of(3, 96), 0.5 + 0.5);
        assert_eq!(of(1, 128), 2.5, "no heads were not measured: as if the layer went");
        assert_eq!(losses.of(Gene::new(4, 128), Gene::DROPPED), 4.0);
    }
}
