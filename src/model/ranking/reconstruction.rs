//! One network fitted to its parent along its own path: when all widths are known, so are the inputs that its matrices really see.
//!
//! Layer after layer, the matrices that write to the residual stream are fitted by least squares to what is missing to the parent's
//! stream behind the same half layer: what narrowing lost before, and what layers that are gone did, is made up for as well as it can
//! be. SparseGPT's order of work (Frantar & Alistarh 2023), with the parent's own stream as the target.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::elimination::damped_factor;
use super::losses::targets;
use super::windows::{batches, forest};
use super::{add, of_matrix};
use crate::checkpoint::{LayerTensor, Narrowed, TensorName};
use crate::error::{Error, Result};
use crate::model::Llama;
use crate::model::network::Network;
use crate::model::stream::Stream;
use crate::model::targets::Targets;
use crate::model::tree_batch::TreeBatch;
use crate::space::Genome;

/// What changing a weight costs, by the mean square of the matrix's inputs.
const RIDGE: f64 = 1.0;
/// One window of so many is held out.
const HELD_OUT: usize = 8;

/// How a network's matrices are to be changed.
pub struct Reconstruction {
    /// What is added to those that write to the residual stream, by name in the parent and columns of the network, float32.
    pub changes: BTreeMap<Narrowed, Tensor>,
    /// KL divergence from the parent on windows held out, before and after, nats a token.
    pub divergence: [f64; 2],
}

/// Fits a network of this model, its matrices not quantized, to the whole of it. `on_layer` is told how many layers are done.
///
/// # Errors
/// `Invalid` for fewer than two windows, and for activations that are not finite; as [`Llama::network`] for the genome.
pub fn reconstruct(
    model: &Llama,
    genome: &Genome,
    windows: &[Vec<u32>],
    on_layer: &mut dyn FnMut(usize),
) -> Result<Reconstruction> {
    let held_out = windows.len().div_ceil(HELD_OUT);
    if held_out == windows.len() {
        let expected = "two windows of text at least, one to fit and one to hold out";
        return Err(Error::invalid("calibration text", format!("{} windows", windows.len()), expected));
    }
    let pair = Pair { whole: model.whole()?, narrow: model.network(&genome.unquantized())? };
    let (fitted, held_out) = windows.split_at(windows.len() - held_out);
    tch::no_grad(|| {
        let paths = |of: &[Vec<u32>]| batches(of).map(|group| pair.path(group)).collect::<Result<Vec<_>>>();
        let (mut fitted, mut held_out) = (paths(fitted)?, paths(held_out)?);
        held_out.iter_mut().for_each(|path| path.plain = Some(path.own.clone()));
        let mut changes = BTreeMap::new();
        for layer in 0..pair.whole.genome().genes().len() {
            for writer in [LayerTensor::O, LayerTensor::Down] {
                fitted.iter_mut().chain(&mut held_out).for_each(|path| pair.step(path, layer, writer));
                let name = TensorName::Layer(layer, writer);
                if let Some(change) = fit(&fitted, name)? {
                    fitted.iter_mut().chain(&mut held_out).for_each(|path| path.change(&change));
                    changes.insert((name, change.size()[1] as usize), change);
                }
            }
            on_layer(layer + 1);
        }
        let before = pair.divergence(&held_out, |path| path.plain.as_ref().expect("set above"));
        let after = pair.divergence(&held_out, |path| &path.own);
        Ok(Reconstruction { changes, divergence: [before, after] })
    })
}

/// The parent, and a network of it.
struct Pair {
    whole: Network,
    narrow: Network,
}

/// A batch on its way through both.
struct Path {
    batch: TreeBatch,
    targets: Targets,
    parent: Stream,
    /// Through the network as far as it is fitted.
    own: Stream,
    /// Through the network as it was; of windows held out.
    plain: Option<Stream>,
    /// What the last half layer's matrix took, (t, n); `None` where the network has none there.
    inputs: Option<Tensor>,
}

impl Pair {
    fn path(&self, windows: &[Vec<u32>]) -> Result<Path> {
        let batch = self.whole.parts().model().batch(&forest(windows))?;
        let (parent, own) = (self.whole.parts().embed(&batch), self.narrow.parts().embed(&batch));
        let targets = targets(windows);
        Ok(Path { batch, targets, parent: Stream::new(parent), own: Stream::new(own), plain: None, inputs: None })
    }

    /// Through one half layer, its matrix not changed yet.
    fn step(&self, path: &mut Path, layer: usize, writer: LayerTensor) {
        let Path { batch, parent, own, plain, inputs, .. } = path;
        let index = usize::from(writer != LayerTensor::O);
        let [whole, narrow] =
            [&self.whole, &self.narrow].map(|network| network.genome().genes()[layer].halves()[index]);
        let forward = self.narrow.parts();
        if writer == LayerTensor::O {
            *parent = self.whole.parts().attend(layer, whole, parent, batch);
            *plain = plain.take().map(|plain| forward.attend(layer, narrow, &plain, batch));
            *inputs = forward.attention_input(layer, narrow, own, batch);
            if let Some(inputs) = inputs {
                *own = forward.attention_output(layer, narrow, own, inputs);
            }
        } else {
            *parent = self.whole.parts().feed(layer, whole, parent);
            *plain = plain.take().map(|plain| forward.feed(layer, narrow, &plain));
            *inputs = forward.mlp_input(layer, narrow, own);
            if let Some(inputs) = inputs {
                *own = forward.mlp_output(layer, narrow, own, inputs);
            }
        }
    }

    /// Of what is predicted behind the last layer, the mean over tokens.
    fn divergence(&self, paths: &[Path], stream: impl Fn(&Path) -> &Stream) -> f64 {
        let (mut sum, mut tokens) = (0.0, 0);
        for path in paths {
            let reference = self.whole.parts().head().reference(path.parent.hidden(), &path.targets);
            let hidden = stream(path).hidden();
            let predicted = self.narrow.parts().head().predict(hidden, &path.targets, Some(&reference));
            sum += predicted.divergences.iter().map(|&divergence| f64::from(divergence)).sum::<f64>();
            tokens += predicted.divergences.len();
        }
        sum / tokens.max(1) as f64
    }
}

impl Path {
    /// As if the last half layer's matrix had been changed so.
    fn change(&mut self, change: &Tensor) {
        let inputs = self.inputs.take().expect("the change was fitted to it").to_kind(Kind::Float);
        let hidden = self.own.hidden();
        self.own = Stream::new(hidden + inputs.matmul(&change.tr()).to_kind(hidden.kind()));
    }
}

/// The change (d, n) of a matrix that brings what is missing to the parent's stream closest to zero.
fn fit(paths: &[Path], name: TensorName) -> Result<Option<Tensor>> {
    let (mut moments, mut products): (Option<Tensor>, Option<Tensor>) = (None, None);
    for path in paths {
        let Some(inputs) = &path.inputs else { return Ok(None) };
        let missing = path.parent.hidden().to_kind(Kind::Float) - path.own.hidden().to_kind(Kind::Float); // (t, d)
        let product = inputs.to_kind(Kind::Float).tr().matmul(&missing).to_kind(Kind::Double); // (n, d)
        add(&mut moments, inputs);
        products = Some(products.map_or_else(|| product.shallow_clone(), |sum| sum + &product));
    }
    let (Some(moments), Some(products)) = (moments, products) else { return Ok(None) };
    let factor = damped_factor(&moments, RIDGE, &products).map_err(|error| of_matrix(name, error))?;
    Ok(Some(products.f_cholesky_solve(&factor, false)?.tr().to_kind(Kind::Float).contiguous()))
}
