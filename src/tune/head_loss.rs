//! The loss at the output matrix and its gradients, a few rows at a time: no (rows, vocabulary) tensor of a whole batch
//! is ever in memory, with or without a teacher.
//!
//! Letters: `r` rows that predict something, `d` hidden, `v` vocabulary.

use tch::{Kind, Tensor, no_grad};

use crate::model::{HEAD_ROWS, Head};

/// What the rows should predict.
pub enum Lesson<'a> {
    /// The tokens that follow, (r): cross entropy.
    Labels(&'a Tensor),
    /// What another network predicts at the same rows: forward divergence KL(teacher ‖ student) at temperature 1.
    Teacher {
        /// Its end.
        head: &'a Head,
        /// What it takes, (r, d).
        normed: &'a Tensor,
    },
}

/// The sum of the rows' losses in nats, and the gradients of that sum.
pub struct HeadLoss {
    /// Nats.
    pub sum: f64,
    /// By what the output matrix takes, (r, d).
    pub normed: Tensor,
    /// By the output matrix, (v, d), float32; where it is asked for.
    pub head: Option<Tensor>,
}

impl HeadLoss {
    /// The loss of rows `normed` (r, d) of a network with this end.
    pub fn of(end: &Head, normed: &Tensor, lesson: &Lesson, with_head: bool) -> HeadLoss {
        no_grad(|| {
            let (rows, head) = (normed.size()[0], end.matrix().detach());
            let zeros = || Tensor::zeros(head.size(), (Kind::Float, head.device()));
            let mut by_head = with_head.then(zeros); // (v, d)
            let mut by_normed = Vec::new();
            let mut sum = Tensor::zeros([], (Kind::Double, head.device()));
            for first in (0..rows).step_by(HEAD_ROWS as usize) {
                let count = HEAD_ROWS.min(rows - first);
                let part = normed.narrow(0, first, count); // (r, d)
                let log_probs = end.logits_of_normed(&part).log_softmax(1, Kind::Float); // (r, v)
                let (loss, slope) = match lesson {
                    Lesson::Labels(labels) => by_labels(log_probs, &labels.narrow(0, first, count)),
                    Lesson::Teacher { head, normed } => {
                        let logits = head.logits_of_normed(&normed.narrow(0, first, count));
                        by_teacher(log_probs, &logits.log_softmax(1, Kind::Float))
                    }
                };
                sum += loss;
                let slope = slope.to_kind(head.kind()); // (r, v)
                by_normed.push(slope.matmul(&head)); // (r, d)
                if let Some(by_head) = &mut by_head {
                    match head.kind() {
                        Kind::Float => drop(by_head.addmm_(&slope.tr(), &part)),
                        _ => drop(by_head.g_add_(&slope.tr().matmul(&part).to_kind(Kind::Float))),
                    }
                }
            }
            HeadLoss { sum: sum.double_value(&[]), normed: Tensor::cat(&by_normed, 0), head: by_head }
        })
    }
}

/// The loss of rows and its gradient by their logits, softmax − one-hot.
fn by_labels(mut log_probs: Tensor, labels: &Tensor) -> (Tensor, Tensor) {
    let labels = labels.unsqueeze(1); // (r, 1)
    let loss = -log_probs.gather(1, &labels, false).sum(Kind::Double);
    let minus = Tensor::full(labels.size(), -1.0, (Kind::Float, labels.device()));
    (loss, log_probs.exp_().scatter_add_(1, &labels, &minus))
}

/// The loss of rows and its gradient by their logits, softmax − the teacher's.
fn by_teacher(mut log_probs: Tensor, teacher: &Tensor) -> (Tensor, Tensor) {
    let probs = teacher.exp(); // (r, v)
    let by_row = (teacher - &log_probs).g_mul_(&probs).sum_dim_intlist([1_i64].as_slice(), false, Kind::Float); // (r)
    (by_row.sum(Kind::Double), log_probs.exp_().g_sub_(&probs))
}
