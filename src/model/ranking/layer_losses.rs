//! What the model loses with each layer: an order in which they may go.

use tch::Tensor;

use super::windows::{batches, forest};
use crate::error::Result;
use crate::model::forward::Forward;
use crate::model::network::Network;
use crate::model::stream::Stream;
use crate::model::targets::Targets;
use crate::model::tree_batch::TreeBatch;
use crate::model::weights::Llama;

/// How much the mean negative log-likelihood per token grows when each layer is left out. A layer's input is
/// computed once, so all layers together cost half as many passes as there are layers.
pub fn layer_losses(model: &Llama, windows: &[Vec<u32>], on_tokens: &mut dyn FnMut(usize)) -> Result<Vec<f64>> {
    let network = model.whole()?;
    let (genome, forward) = (network.genome(), network.parts());
    let (mut whole, mut without) = (0.0, vec![0.0; genome.genes().len()]);
    let (mut scored, mut done) = (0, 0);
    for group in batches(windows) {
        let batch = model.batch(&forest(group))?;
        tch::no_grad(|| {
            let mut hidden = Stream::new(forward.embed(&batch));
            for (layer, gene) in genome.genes().iter().enumerate() {
                without[layer] += total_nll(forward, &continue_from(&network, layer + 1, &hidden, &batch), group);
                hidden = forward.layer(layer, *gene, &hidden, &batch);
            }
            whole += total_nll(forward, hidden.hidden(), group);
        });
        scored += group.iter().map(|window| window.len().saturating_sub(1)).sum::<usize>();
        done += group.iter().map(Vec::len).sum::<usize>();
        on_tokens(done);
    }
    Ok(without.iter().map(|sum| (sum - whole) / scored.max(1) as f64).collect())
}

fn continue_from(network: &Network, from: usize, before: &Stream, batch: &TreeBatch) -> Tensor {
    let rest = network.genome().genes().iter().enumerate().skip(from);
    rest.fold(before.clone(), |stream, (layer, gene)| network.parts().layer(layer, *gene, &stream, batch)).into_hidden()
}

fn total_nll(forward: &Forward, hidden: &Tensor, windows: &[Vec<u32>]) -> f64 {
    let mut targets = Targets::default();
    let mut first = 0;
    for window in windows {
        for (offset, &token) in window.iter().enumerate().skip(1) {
            targets.pairs.push((targets.rows.len() as u32, token));
            targets.rows.push((first + offset - 1) as i64);
        }
        first += window.len();
    }
    -forward.head().predict(hidden, &targets, None).log_probs.iter().map(|&log_prob| f64::from(log_prob)).sum::<f64>()
}
