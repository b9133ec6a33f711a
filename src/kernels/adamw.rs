//! One step of AdamW (Loshchilov and Hutter 2019, algorithm 2) on float32 masters and moments.

use half::bf16;
use tch::{Device, Kind, Tensor};

use super::cpu::{self, Band, Element};
use super::{Kernels, LoopKind};

/// Elements that the plain operations take at a time: what is made in passing stays in the cache.
const PIECE: i64 = 1 << 16;

/// The tensors of one parameter, flat: (n) each.
pub struct Moving<'a> {
    /// The weights in float32.
    pub master: &'a Tensor,
    /// Running mean of gradients, float32.
    pub first: &'a Tensor,
    /// Running mean of their squares, float32.
    pub second: &'a Tensor,
    /// Of the loss, in the kind of the weights that are multiplied.
    pub gradient: &'a Tensor,
    /// Those weights, where they are not the masters themselves.
    pub rounded: Option<&'a Tensor>,
}

/// The numbers of a step.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// What gradients are multiplied by first: less than 1 where their norm is clipped.
    pub scale: f64,
    /// How much of the first running mean stays.
    pub beta1: f64,
    /// How much of the second one stays.
    pub beta2: f64,
    /// 1 − beta1 to the power of the step, counted from 1.
    pub bias1: f64,
    /// 1 − beta2 to the power of the step.
    pub bias2: f64,
    /// Added to the root of the second running mean.
    pub epsilon: f64,
    /// Share of the weights that is taken away: learning rate times weight decay.
    pub decay: f64,
    /// Learning rate.
    pub rate: f64,
}

impl Kernels {
    /// Moves the masters, their moments, and the weights that are rounded from them.
    pub fn adamw(&self, moving: &Moving, step: AdamStep) {
        let floats = [moving.master, moving.first, moving.second];
        let rounded: Vec<&Tensor> = std::iter::once(moving.gradient).chain(moving.rounded).collect();
        match self.loop_for(&rounded, &floats) {
            Some(LoopKind::F32) => looped::<f32>(moving, step),
            Some(LoopKind::Bf16) => looped::<bf16>(moving, step),
            None => reference(moving, step),
        }
    }

    /// The sum of the squares of a flat tensor.
    pub fn squares(&self, of: &Tensor) -> f64 {
        match self.loop_for(&[of], &[]) {
            Some(LoopKind::F32) => looped_squares::<f32>(of),
            Some(LoopKind::Bf16) => looped_squares::<bf16>(of),
            None => {
                let piece = |piece: &Tensor| piece.to_kind(Kind::Float).norm().double_value(&[]).powi(2);
                pieces(of).iter().map(piece).sum()
            }
        }
    }
}

/// A flat tensor cut for its device: a card takes it whole.
fn pieces(flat: &Tensor) -> Vec<Tensor> {
    let len = if flat.device() == Device::Cpu { PIECE } else { flat.size()[0].max(1) };
    flat.split(len, 0)
}

/// The plain operations.
pub fn reference(moving: &Moving, step: AdamStep) {
    let AdamStep { scale, beta1, beta2, bias1, bias2, epsilon, decay, rate } = step;
    let states = pieces(moving.first).into_iter().zip(pieces(moving.second));
    let weights = pieces(moving.master).into_iter().zip(pieces(moving.gradient));
    for ((mut weights, gradient), (mut m, mut v)) in weights.zip(states) {
        let gradient = gradient.to_kind(Kind::Float) * scale;
        let _ = m.g_mul_scalar_(beta1).g_add_(&(&gradient * (1.0 - beta1)));
        let _ = v.g_mul_scalar_(beta2).g_add_(&(gradient.square() * (1.0 - beta2)));
        let denominator = (&v / bias2).sqrt_().g_add_scalar_(epsilon);
        let _ = weights.g_mul_scalar_(1.0 - decay).g_sub_(&(&m * (rate / bias1) / denominator));
    }
    if let Some(rounded) = moving.rounded {
        rounded.shallow_clone().copy_(moving.master);
    }
}

/// The CPU's loop: every tensor is read and written once. Each operation is rounded as the plain ones are.
fn looped<E: Element>(moving: &Moving, step: AdamStep) {
    let mut own = [moving.master, moving.first, moving.second].map(Tensor::shallow_clone);
    let size = cpu::rows_a_band(moving.master.numel(), 1);
    let [master, first, second] = own.each_mut().map(|of| cpu::values_mut::<f32>(of).chunks_mut(size));
    let gradient = cpu::values::<E>(moving.gradient).chunks(size);
    let parts = master.zip(first).zip(second).zip(gradient);
    let mut rounded = moving.rounded.map(Tensor::shallow_clone);
    let mut rounded = rounded.as_mut().map_or(&mut [][..], cpu::values_mut::<E>).chunks_mut(size);
    cpu::run(parts.map(|(((master, first), second), gradient)| {
        let rounded = rounded.next().unwrap_or_default();
        Part { master, first, second, gradient, rounded, step }
    }));
}

/// Some of the elements.
struct Part<'a, E> {
    master: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    gradient: &'a [E],
    /// As many, or none.
    rounded: &'a mut [E],
    step: AdamStep,
}

impl<E: Element> Band for Part<'_, E> {
    #[inline(always)]
    fn run(self) {
        let AdamStep { scale, beta1, beta2, bias1, bias2, epsilon, decay, rate } = self.step;
        let [scale, beta1, beta2, bias2, epsilon] = [scale, beta1, beta2, bias2, epsilon].map(|one| one as f32);
        let [rest1, rest2, kept, rate] =
            [1.0 - self.step.beta1, 1.0 - self.step.beta2, 1.0 - decay, rate / bias1].map(|one| one as f32);
        let moments = self.first.iter_mut().zip(self.second);
        let weights = self.master.iter_mut().zip(self.gradient);
        for ((weight, gradient), (m, v)) in weights.zip(moments) {
            let gradient = gradient.load() * scale;
            *m = *m * beta1 + gradient * rest1;
            *v = *v * beta2 + gradient * gradient * rest2;
            *weight = *weight * kept - *m * rate / ((*v / bias2).sqrt() + epsilon);
        }
        for (rounded, weight) in self.rounded.iter_mut().zip(self.master.iter()) {
            *rounded = E::store(*weight);
        }
    }
}

/// Sums of pieces, added in their order whatever the number of threads.
fn looped_squares<E: Element>(of: &Tensor) -> f64 {
    let values = cpu::values::<E>(of);
    let mut sums = vec![0.0_f32; values.len().div_ceil(PIECE as usize)];
    let pieces = cpu::rows_a_band(sums.len(), PIECE as usize);
    let parts = values.chunks(pieces * PIECE as usize).zip(sums.chunks_mut(pieces));
    cpu::run(parts.map(|(values, sums)| Squares { values, sums }));
    sums.into_iter().map(f64::from).sum()
}

/// Some pieces and the sums of their squares.
struct Squares<'a, E> {
    values: &'a [E],
    sums: &'a mut [f32],
}

impl<E: Element> Band for Squares<'_, E> {
    #[inline(always)]
    fn run(self) {
        for (piece, sum) in self.values.chunks(PIECE as usize).zip(self.sums) {
            *sum = cpu::sum(piece, |sum, value| value.mul_add(value, sum));
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    #[test]
    fn the_loop_moves_weights_as_the_plain_operations_do() {
        // Not torch's generator, from which tests beside this one draw as well.
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut random = || {
            let normal = |_| StandardNormal.sample(&mut rng);
            Tensor::from_slice(&(0..(1 << 17) + 77).map(normal).collect::<Vec<f32>>())
        };
        let step = AdamStep {
            scale: 0.3,
            beta1: 0.9,
            beta2: 0.95,
            bias1: 0.19,
            bias2: 0.0975,
            epsilon: 1e-8,
            decay: 1e-5,
            rate: 1e-3,
        };
        for kind in [Kind::Float, Kind::BFloat16] {
            let (master, first, second, gradient) = (random(), random(), random().square(), random().to_kind(kind));
            let moved = |kernels: Kernels| {
                let [master, first, second] = [&master, &first, &second].map(Tensor::copy);
                let rounded = (kind != Kind::Float).then(|| gradient.zeros_like());
                let moving = Moving {
                    master: &master,
                    first: &first,
                    second: &second,
                    gradient: &gradient,
                    rounded: rounded.as_ref(),
                };
                kernels.adamw(&moving, step);
                (master, first, second, rounded)
            };
            let (ours, plain) = (moved(Kernels::of_cpu()), moved(Kernels::none()));
            let pairs = [(&ours.0, &plain.0), (&ours.1, &plain.1), (&ours.2, &plain.2)];
            for ((ours, plain), before) in pairs.into_iter().zip([&master, &first, &second]) {
                // What is added may cancel: sums are rounded by the size of their terms.
                let terms = before.abs() + plain.abs() + 1e-6;
                let difference = ((ours - plain).abs() / terms).max().double_value(&[]);
                assert!(difference < 1e-6, "{kind:?}: {difference:e}");
            }
            let rounded = |of: &(Tensor, Tensor, Tensor, Option<Tensor>)| {
                of.3.as_ref().is_none_or(|rounded| *rounded == of.0.to_kind(kind))
            };
            assert!(rounded(&ours) && rounded(&plain));
            let [ours, plain] = [Kernels::of_cpu(), Kernels::none()].map(|kernels| kernels.squares(&gradient));
            assert!((ours - plain).abs() < 1e-5 * plain, "{ours}, {plain}");
        }
    }
}
