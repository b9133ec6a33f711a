//! Importance of heads, MLP channels and layers, and the order it gives: after [`Order::apply`] every
//! narrower width is a prefix and the network computes what it computed before.
//!
//! Measures after Minitron (Muralidharan et al. 2024, section 2.2), forward passes only: a head is the L2
//! norm of what it adds to the residual stream, a channel its |activation| times the norm of its output
//! column, a layer 1 − cos(input, output); means over a window's tokens, L2 over windows.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::forward::Forward;
use super::network::Network;
use super::stream::Stream;
use super::targets::Targets;
use super::token_tree::{TokenTree, TreeBuilder};
use super::tree_batch::TreeBatch;
use super::weights::Llama;
use crate::checkpoint::TensorName;
use crate::error::{Error, Result};
use crate::space::{ModelShape, Size};

/// Windows that share a forward pass hold at most this many tokens together.
const BATCH_TOKENS: usize = 2048;

/// How a layer's heads and channels are arranged, as numbers of the parent, most important first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerOrder {
    /// Query heads; those of one key/value head stay together.
    pub heads: Vec<u32>,
    /// MLP channels.
    pub mlp: Vec<u32>,
}

/// The order of a supernet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// One entry a layer.
    pub layers: Vec<LayerOrder>,
    /// Layers in the order in which they go when the depth shrinks, least important first.
    pub drop: Vec<usize>,
}

/// Importances in the parent's numbering.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// (layers, heads)
    pub heads: Vec<Vec<f32>>,
    /// (layers, channels)
    pub mlp: Vec<Vec<f32>>,
    /// 1 − cos(input, output) of each layer.
    pub layer_change: Vec<f64>,
    /// Increase of the mean negative log-likelihood per token when the layer is left out, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_loss: Option<Vec<f64>>,
}

/// Sums over the windows seen so far.
struct Sums {
    /// (layers) of (heads), squares of window means.
    heads: Vec<Tensor>,
    /// (layers) of (channels), squares of window means.
    mlp: Vec<Tensor>,
    /// (layers), sums over tokens.
    change: Vec<f64>,
    tokens: usize,
}

/// Measures importances on windows of calibration tokens. `on_window` is told how many tokens are done.
///
/// # Errors
/// When there is no window, or a score is not finite.
pub fn measure(model: &Llama, windows: &[Vec<u32>], on_tokens: &mut dyn FnMut(usize)) -> Result<Scores> {
    if windows.iter().all(Vec::is_empty) {
        return Err(Error::invalid("calibration text", "no tokens", "some text, a few thousand words or more"));
    }
    let (shape, network) = (model.config().shape, model.whole()?);
    let zeros = |size: usize| Tensor::zeros([size as i64], (Kind::Double, model.device()));
    let mut sums = Sums {
        heads: (0..shape.layers).map(|_| zeros(shape.heads)).collect(),
        mlp: (0..shape.layers).map(|_| zeros(shape.mlp)).collect(),
        change: vec![0.0; shape.layers],
        tokens: 0,
    };
    for group in batches(windows) {
        let batch = model.batch(&forest(group))?;
        tch::no_grad(|| accumulate(&network, group, &batch, &mut sums));
        on_tokens(sums.tokens);
    }
    let roots = |of: &[Tensor]| -> Vec<Vec<f32>> {
        of.iter().map(|sum| Vec::try_from(sum.sqrt().to_kind(Kind::Float)).expect("one-dimensional floats")).collect()
    };
    let change = sums.change.iter().map(|sum| sum / sums.tokens as f64).collect();
    let scores = Scores { heads: roots(&sums.heads), mlp: roots(&sums.mlp), layer_change: change, layer_loss: None };
    let finite = scores.heads.iter().chain(&scores.mlp).flatten().all(|score| score.is_finite());
    if finite && scores.layer_change.iter().all(|score| score.is_finite()) {
        Ok(scores)
    } else {
        Err(Error::invalid("importance", "a score that is not finite", "finite activations of the model"))
    }
}

fn accumulate(network: &Network, windows: &[Vec<u32>], batch: &TreeBatch, sums: &mut Sums) {
    let model = network.parts();
    let mut hidden = Stream::new(model.embed(batch));
    for (layer, gene) in network.genome().genes().iter().enumerate() {
        let [heads, channels] = gene.halves();
        let attended = model.attend(layer, heads, &hidden, batch); // (t, d)
        let heads = model.head_contributions(layer, &hidden, batch); // (t, h)
        let mlp = model.channel_contributions(layer, &attended); // (t, f)
        let after = model.feed(layer, channels, &attended); // (t, d)
        let mut first = 0;
        for window in windows {
            let len = window.len() as i64;
            for (scores, sum) in [(&heads, &mut sums.heads[layer]), (&mlp, &mut sums.mlp[layer])] {
                if let Some(scores) = scores {
                    let mean = scores.narrow(0, first, len).mean_dim([0_i64].as_slice(), false, Kind::Double);
                    let _ = sum.narrow(0, 0, mean.size()[0]).g_add_(&mean.square());
                }
            }
            first += len;
        }
        let [x, y] = [&hidden, &after].map(|stream| stream.hidden().to_kind(Kind::Float)); // (t, d)
        let cosine = Tensor::cosine_similarity(&x, &y, 1, 1e-8);
        sums.change[layer] += (1.0_f64 - cosine).sum(Kind::Double).double_value(&[]);
        hidden = after;
    }
    sums.tokens += windows.iter().map(Vec::len).sum::<usize>();
}

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

fn forest(windows: &[Vec<u32>]) -> TokenTree {
    let mut builder = TreeBuilder::default();
    for window in windows {
        builder.insert_alone(window);
    }
    builder.finish().0
}

/// Consecutive windows of [`BATCH_TOKENS`] together, at least one each.
fn batches(windows: &[Vec<u32>]) -> impl Iterator<Item = &[Vec<u32>]> {
    let mut rest = windows;
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fits = rest.iter().take_while(|window| {
            tokens += window.len();
            tokens <= BATCH_TOKENS
        });
        let count = fits.count().max(1).min(rest.len());
        let (group, others) = rest.split_at(count);
        rest = others;
        (!group.is_empty()).then_some(group)
    })
}

/// Places by score, largest first, equal ones by place.
fn descending(scores: &[f64]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scores.len()).collect();
    places.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    places
}

impl Scores {
    /// The order these scores give. Layers go by their loss where it was measured, else by their change.
    pub fn order(&self, shape: &ModelShape) -> Order {
        let layers = (0..shape.layers).map(|layer| LayerOrder {
            heads: head_order(&self.heads[layer], shape.group()),
            mlp: descending(&widen(&self.mlp[layer])).into_iter().map(|channel| channel as u32).collect(),
        });
        let importance = self.layer_loss.as_ref().unwrap_or(&self.layer_change);
        let mut drop = descending(importance);
        drop.reverse();
        Order { layers: layers.collect(), drop }
    }
}

fn widen(scores: &[f32]) -> Vec<f64> {
    scores.iter().map(|&score| f64::from(score)).collect()
}

/// Whole groups by the L2 norm over their heads, then heads inside each group.
fn head_order(scores: &[f32], group: usize) -> Vec<u32> {
    let groups: Vec<f64> =
        scores.chunks(group).map(|heads| widen(heads).iter().map(|score| score * score).sum()).collect();
    let inside = |kv: usize| {
        let heads = widen(&scores[kv * group..(kv + 1) * group]);
        descending(&heads).into_iter().map(move |head| (kv * group + head) as u32)
    };
    descending(&groups).into_iter().flat_map(inside).collect()
}

impl Order {
    /// The parent's own order.
    pub fn identity(shape: &ModelShape) -> Order {
        let layer = LayerOrder { heads: (0..shape.heads as u32).collect(), mlp: (0..shape.mlp as u32).collect() };
        Order { layers: vec![layer; shape.layers], drop: (0..shape.layers).rev().collect() }
    }

    /// Refuses an order that is none of this shape: every list must be a permutation, heads of a group together.
    pub fn check(&self, shape: &ModelShape) -> Result<()> {
        let wrong = |what: String, found: String, expected: String| Err(Error::invalid(what, found, expected));
        if self.layers.len() != shape.layers {
            return wrong("order".into(), format!("{} layers", self.layers.len()), format!("{}", shape.layers));
        }
        let drop: Vec<u32> = self.drop.iter().map(|&layer| layer as u32).collect();
        if !is_permutation(&drop, shape.layers) {
            return wrong("order, drop".into(), format!("{drop:?}"), format!("each of 0..{} once", shape.layers));
        }
        for (layer, LayerOrder { heads, mlp }) in self.layers.iter().enumerate() {
            if !is_permutation(mlp, shape.mlp) {
                let found = format!("{} channels that are no permutation", mlp.len());
                return wrong(format!("order, layer {layer}, mlp"), found, format!("each of 0..{} once", shape.mlp));
            }
            let together =
                |heads: &[u32]| heads.iter().all(|head| head / shape.group() as u32 == heads[0] / shape.group() as u32);
            if !is_permutation(heads, shape.heads) || !heads.chunks(shape.group()).all(together) {
                let expected = format!("each of 0..{} once, groups of {} together", shape.heads, shape.group());
                return wrong(format!("order, layer {layer}, heads"), format!("{heads:?}"), expected);
            }
        }
        Ok(())
    }

    /// This order applied after `first`: one order that does both.
    pub fn after(&self, first: &Order) -> Order {
        let compose = |outer: &[u32], inner: &[u32]| outer.iter().map(|&place| inner[place as usize]).collect();
        let layers = self.layers.iter().zip(&first.layers).map(|(outer, inner)| LayerOrder {
            heads: compose(&outer.heads, &inner.heads),
            mlp: compose(&outer.mlp, &inner.mlp),
        });
        Order { layers: layers.collect(), drop: self.drop.clone() }
    }

    /// A parent's tensor as the supernet holds it: rows of q, k, v, gate and up and columns of o and down
    /// moved, everything else as it is.
    pub fn apply(&self, name: TensorName, tensor: Tensor, shape: &ModelShape) -> Tensor {
        let TensorName::Layer(layer, kind) = name else { return tensor };
        let LayerOrder { heads, mlp } = &self.layers[layer];
        let kv_heads: Vec<u32> = heads.iter().step_by(shape.group()).map(|head| head / shape.group() as u32).collect();
        let moved = |size: Size| match size {
            Size::Hidden | Size::Head => None,
            Size::Queries => Some(spread(heads, shape.head_dim)),
            Size::Keys => Some(spread(&kv_heads, shape.head_dim)),
            Size::Channels => Some(spread(mlp, 1)),
        };
        let row = kind.row();
        let sizes = std::iter::once(row.rows).chain(row.columns).enumerate();
        let moved = sizes.filter_map(|(dim, size)| Some((dim as i64, moved(size)?)));
        moved.fold(tensor, |tensor, (dim, places)| tensor.index_select(dim, &Tensor::from_slice(&places)))
    }
}

/// Each place as `width` consecutive rows.
fn spread(places: &[u32], width: usize) -> Vec<i64> {
    places.iter().flat_map(|&place| (0..width).map(move |row| (place as usize * width + row) as i64)).collect()
}

fn is_permutation(places: &[u32], count: usize) -> bool {
    let mut seen = vec![false; count];
    let fresh = |&place: &u32| seen.get_mut(place as usize).is_some_and(|seen| !std::mem::replace(seen, true));
    places.len() == count && places.iter().all(fresh)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::LayerTensor;
    use crate::space::shape::tests::TINY;

    const SHAPE: ModelShape = ModelShape { heads: 4, kv_heads: 2, head_dim: 2, mlp: 3, ..TINY };

    #[test]
    fn orders_groups_then_heads_and_ties_by_index() {
        assert_eq!(head_order(&[1.0, 2.0, 3.0, 0.5], 2), [2, 3, 1, 0]);
        assert_eq!(head_order(&[1.0, 1.0, 1.0, 1.0], 2), [0, 1, 2, 3]);
        let scores = Scores {
            heads: vec![vec![0.0; 4]],
            mlp: vec![vec![1.0, 5.0, 1.0]],
            layer_change: vec![0.1],
            layer_loss: None,
        };
        assert_eq!(scores.order(&SHAPE).layers[0].mlp, [1, 0, 2]);
    }

    #[test]
    fn loss_decides_the_layer_order_where_it_was_measured() {
        let shape = ModelShape { layers: 3, ..SHAPE };
        let scores = Scores {
            heads: vec![vec![0.0; 4]; 3],
            mlp: vec![vec![0.0; 3]; 3],
            layer_change: vec![0.3, 0.1, 0.2],
            layer_loss: None,
        };
        assert_eq!(scores.order(&shape).drop, [1, 2, 0]);
        let scores = Scores { layer_loss: Some(vec![0.1, 0.2, 0.3]), ..scores };
        assert_eq!(scores.order(&shape).drop, [0, 1, 2]);
    }

    #[test]
    fn moves_rows_of_whole_heads() {
        let order = Order { layers: vec![LayerOrder { heads: vec![3, 2, 0, 1], mlp: vec![2, 0, 1] }], drop: vec![0] };
        order.check(&SHAPE).unwrap();
        let rows = |name, count: i64| -> Vec<i64> {
            let tensor = Tensor::arange(count, (Kind::Int64, tch::Device::Cpu)).unsqueeze(1);
            Vec::try_from(order.apply(TensorName::Layer(0, name), tensor, &SHAPE).squeeze_dim(1)).unwrap()
        };
        assert_eq!(rows(LayerTensor::Q, 8), [6, 7, 4, 5, 0, 1, 2, 3]);
        assert_eq!(rows(LayerTensor::K, 4), [2, 3, 0, 1]);
        assert_eq!(rows(LayerTensor::Up, 3), [2, 0, 1]);
    }

    #[test]
    fn rejects_orders_that_split_a_group_or_repeat() {
        let order = |heads: &[u32], mlp: &[u32]| Order {
            layers: vec![LayerOrder { heads: heads.to_vec(), mlp: mlp.to_vec() }],
            drop: vec![0],
        };
        assert!(
            order(&[0, 2, 1, 3], &[0, 1, 2]).check(&SHAPE).unwrap_err().to_string().contains("groups of 2 together")
        );
        assert!(order(&[0, 1, 2, 3], &[0, 1, 1]).check(&SHAPE).is_err());
        assert!(order(&[0, 1, 2, 9], &[0, 1, 2]).check(&SHAPE).is_err());
        assert!(Order::identity(&SHAPE).check(&SHAPE).is_ok());
    }
}
