//! Gradients of one network on one batch, through autograd and the elastic forward.
//!
//! The graph is cut below the output matrix, whose gradients [`HeadLoss`] gives without a graph, and, with
//! recomputation, at every layer: only the layers' inputs are kept, and each layer runs a second time when its gradient
//! is due (Chen et al. 2016, "Training deep nets with sublinear memory cost").

use tch::{Kind, Tensor, no_grad};

use super::batch::Batch;
use super::head_loss::{HeadLoss, Lesson};
use crate::model::{Network, Stream};

/// What one pass through a network gave, besides the gradients that the model's tensors gathered.
pub struct Learned {
    /// Mean loss of the scored rows, nats.
    pub loss: f64,
    /// What the output matrix took, (r, d): a teacher's side of another network's lesson.
    pub normed: Tensor,
}

/// Adds the gradients of a network's loss to those that the trained tensors have gathered, see
/// [`Parameter`](super::adamw::Parameter). `weight` says by what the
/// mean loss is multiplied before, when it is known.
pub fn learn(
    network: &Network,
    batch: &Batch,
    lesson: &Lesson,
    weight: &dyn Fn(f64) -> f64,
    recompute: bool,
) -> Learned {
    let (forward, head) = (network.parts(), network.parts().head());
    let embedded = forward.embed(&batch.forest); // (t, d)
    let mut inputs = Vec::new();
    let last = if recompute {
        no_grad(|| layers(network, &embedded, batch, |input| inputs.push(input.detach())))
    } else {
        layers(network, &embedded, batch, |_| {})
    };
    let top = last.detach().set_requires_grad(true); // (t, d)
    let normed = head.final_norm(&top.index_select(0, &batch.rows)); // (r, d)
    let loss = HeadLoss::of(head, &normed.detach(), lesson, head.matrix().requires_grad());
    let mean = loss.sum / batch.targets as f64;
    let factor = weight(mean) / batch.targets as f64;
    push(&normed, &(loss.normed * factor));
    if let Some(mut gradient) = loss.head {
        let _ = no_grad(|| head.matrix().grad().g_add_(&gradient.g_mul_scalar_(factor)));
    }
    let mut gradient = top.grad(); // (t, d)
    if recompute {
        for ((layer, gene), input) in network.genome().kept().zip(inputs).collect::<Vec<_>>().into_iter().rev() {
            let input = input.set_requires_grad(true);
            let output = forward.layer(layer, gene, &Stream::new(input.shallow_clone()), &batch.forest);
            push(output.hidden(), &gradient);
            gradient = input.grad();
        }
        push(&embedded, &gradient);
    } else {
        push(&last, &gradient);
    }
    Learned { loss: mean, normed: normed.detach() }
}

/// The last layer's output, (t, d); each layer's input is shown to `on_input`.
fn layers(network: &Network, embedded: &Tensor, batch: &Batch, mut on_input: impl FnMut(&Tensor)) -> Tensor {
    network.genome().kept().fold(embedded.shallow_clone(), |hidden, (layer, gene)| {
        on_input(&hidden);
        network.parts().layer(layer, gene, &Stream::new(hidden), &batch.forest).into_hidden()
    })
}

/// Sends the gradient of a loss by `output` down the graph that made it; nothing where nothing below is trained.
fn push(output: &Tensor, gradient: &Tensor) {
    if output.requires_grad() {
        (output * gradient.to_kind(output.kind())).sum(Kind::Float).backward();
    }
}
