//! Importance of heads, MLP channels and layers, and the order it gives: after [`Order::apply`] every
//! narrower width is a prefix and the network computes what it computed before.
//!
//! Heads and channels go by backward elimination of the inputs of their output matrices (`elimination.rs`), which also gives what
//! those matrices are best for a narrower width; layers by 1 − cos(input, output), the mean over tokens (Muralidharan et al. 2024,
//! section 2.2), or by what is lost without them (`losses.rs`).

mod elimination;
mod losses;
mod order;
mod scores;
mod windows;

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

pub use losses::{LayerLosses, losses};
pub use order::{LayerOrder, Order};
pub use scores::Scores;
pub use windows::read_again;

use elimination::{Eliminated, Elimination};
use windows::{batches, forest};

use super::network::Network;
use super::stream::Stream;
use super::tree_batch::TreeBatch;
use super::weights::Llama;
use crate::checkpoint::{LayerTensor, Narrowed, TensorName};
use crate::error::{Error, Result};
use crate::space::{Gene, SearchSpace};

/// What calibration text says of a model.
pub struct Ranking {
    /// Importances, in the parent's numbering.
    pub scores: Scores,
    /// The order that they give.
    pub order: Order,
    /// Matrices for the narrower widths of the space, their columns in this order, float64.
    pub corrections: BTreeMap<Narrowed, Tensor>,
}

/// Ranks a model on windows of calibration tokens, layer by layer. With a space also what its narrower widths are best multiplied
/// by. `on_layer` is told how many layers are done.
///
/// # Errors
/// When there is no window, an activation is not finite, or the space is of another shape.
pub fn rank(
    model: &Llama,
    windows: &[Vec<u32>],
    space: Option<&SearchSpace>,
    on_layer: &mut dyn FnMut(usize),
) -> Result<Ranking> {
    if windows.iter().all(Vec::is_empty) {
        return Err(Error::invalid("calibration text", "no tokens", "some text, a few thousand words or more"));
    }
    let (shape, network) = (model.config().shape, model.whole()?);
    let batches = batches(windows).map(|group| model.batch(&forest(group))).collect::<Result<Vec<_>>>()?;
    tch::no_grad(|| {
        let streams = batches.iter().map(|batch| Stream::new(network.parts().embed(batch))).collect();
        let mut walk = Walk { network: &network, batches: &batches, streams };
        let mut order = Order::identity(&shape);
        let (mut heads, mut mlp, mut layer_change) = (Vec::new(), Vec::new(), Vec::new());
        let mut corrections = BTreeMap::new();
        for layer in 0..shape.layers {
            let before = walk.streams.clone();
            let choices = space.map(|space| space.layer(layer));
            let (group, widths) = (shape.group(), |of: &[u32]| of.iter().map(|&width| width as usize).collect());
            let groups: Vec<usize> = choices.map_or_else(Vec::new, |own| widths(&own.heads));
            let groups = groups.into_iter().map(|heads| heads / group).collect();
            let mut keep = |tensor, unit: usize, corrected: Vec<(usize, Tensor)>| {
                let name = TensorName::Layer(layer, tensor);
                corrections.extend(corrected.into_iter().map(|(width, matrix)| ((name, width * unit), matrix)));
            };
            let mut own = [vec![0.0; shape.heads], vec![0.0; shape.mlp]];
            if let Some(found) = walk.attend(layer, group * shape.head_dim, groups)? {
                let inside = |&kv: &usize| (kv * group..(kv + 1) * group).map(|head| head as u32);
                order.layers[layer].heads = found.order.iter().flat_map(inside).collect();
                own[0] =
                    (0..shape.heads).map(|head| (found.costs[head / group] / group as f64).sqrt() as f32).collect();
                keep(LayerTensor::O, group * shape.head_dim, found.corrected);
            }
            let channels = choices.map_or_else(Vec::new, |own| widths(&own.mlp));
            if let Some(found) = walk.feed(layer, channels)? {
                order.layers[layer].mlp = found.order.iter().map(|&channel| channel as u32).collect();
                own[1] = found.costs.iter().map(|cost| cost.sqrt() as f32).collect();
                keep(LayerTensor::Down, 1, found.corrected);
            }
            let [of_heads, of_mlp] = own;
            heads.push(of_heads);
            mlp.push(of_mlp);
            layer_change.push(change(&before, &walk.streams));
            on_layer(layer + 1);
        }
        let scores = Scores { heads, mlp, layer_change, losses: None };
        order.drop = scores.drop();
        Ok(Ranking { scores, order, corrections })
    })
}

/// All batches on their way through the layers.
struct Walk<'a> {
    network: &'a Network,
    batches: &'a [TreeBatch],
    streams: Vec<Stream>,
}

impl Walk<'_> {
    /// Goes through the attention of a layer, and ranks its KV groups; `None` where it has none.
    fn attend(&mut self, layer: usize, unit: usize, widths: Vec<usize>) -> Result<Option<Eliminated>> {
        let forward = self.network.parts();
        let [half, _] = self.gene(layer).halves();
        let mut moments = None;
        for (stream, batch) in self.streams.iter_mut().zip(self.batches) {
            let Some(inputs) = forward.attention_input(layer, half, stream, batch) else { return Ok(None) };
            add(&mut moments, &inputs);
            *stream = forward.attention_output(layer, half, stream, &inputs);
        }
        self.eliminate(layer, LayerTensor::O, moments, unit, widths).map(Some)
    }

    /// Goes through the MLP of a layer, and ranks its channels; `None` where it has none.
    fn feed(&mut self, layer: usize, widths: Vec<usize>) -> Result<Option<Eliminated>> {
        let forward = self.network.parts();
        let [_, half] = self.gene(layer).halves();
        let mut moments = None;
        for stream in &mut self.streams {
            let Some(inputs) = forward.mlp_input(layer, half, stream) else { return Ok(None) };
            add(&mut moments, &inputs);
            *stream = forward.mlp_output(layer, half, stream, &inputs);
        }
        self.eliminate(layer, LayerTensor::Down, moments, 1, widths).map(Some)
    }

    fn gene(&self, layer: usize) -> Gene {
        self.network.genome().genes()[layer]
    }

    fn eliminate(
        &self,
        layer: usize,
        tensor: LayerTensor,
        moments: Option<Tensor>,
        unit: usize,
        widths: Vec<usize>,
    ) -> Result<Eliminated> {
        let name = TensorName::Layer(layer, tensor);
        let weight = self.network.parts().model().tensor(name)?;
        let tokens: i64 = self.streams.iter().map(|stream| stream.hidden().size()[0]).sum();
        let moments = moments.expect("there is a batch") / tokens as f64;
        let units = moments.size()[0] as usize / unit;
        let widths: Vec<usize> = widths.into_iter().filter(|&width| width > 0 && width < units).collect();
        let elimination = Elimination { weight: &weight, moments: &moments, unit, widths: &widths };
        elimination.run().map_err(|error| of_matrix(name, error))
    }
}

/// An error about a matrix, with its name.
fn of_matrix(name: TensorName, error: Error) -> Error {
    match error {
        Error::Invalid { found, expected, .. } => Error::invalid(name.hf(), found, expected),
        other => other,
    }
}

/// Adds a batch's inputs (t, n) to the sum of their products (n, n), float64.
fn add(moments: &mut Option<Tensor>, inputs: &Tensor) {
    let inputs = inputs.to_kind(Kind::Float);
    let own = inputs.tr().matmul(&inputs).to_kind(Kind::Double); // (n, n)
    *moments = Some(match moments.take() {
        Some(sum) => sum + own,
        None => own,
    });
}

/// 1 − cos of what each token's state was and is, the mean.
fn change(before: &[Stream], after: &[Stream]) -> f64 {
    let (mut sum, mut tokens) = (0.0, 0);
    for (before, after) in before.iter().zip(after) {
        let [x, y] = [before, after].map(|stream| stream.hidden().to_kind(Kind::Float)); // (t, d)
        let cosine = Tensor::cosine_similarity(&x, &y, 1, 1e-8);
        sum += (1.0_f64 - cosine).sum(Kind::Double).double_value(&[]);
        tokens += x.size()[0];
    }
    sum / tokens as f64
}
