//! AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), moments in float32.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::kernels::adamw::{AdamStep, Moving};

/// The constants of the optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Share of a matrix that a step takes away, times the learning rate; norms are left alone.
    pub weight_decay: f64,
    /// Largest L2 norm of all gradients together; larger ones are scaled down.
    pub clip: f64,
}

impl Default for AdamW {
    fn default() -> AdamW {
        AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, clip: 1.0 }
    }
}

/// A trained tensor with its moments.
pub struct Parameter {
    /// Its name in the state file.
    pub name: String,
    /// What the model computes with; gradients gather here.
    pub tensor: Tensor,
    /// Its float32 values: the tensor itself where that is float32.
    pub master: Tensor,
    /// Mean of gradients, float32.
    pub first: Tensor,
    /// Mean of their squares, float32.
    pub second: Tensor,
}

impl Parameter {
    /// Begins to gather gradients of a tensor: zeros at first.
    pub fn new(name: String, tensor: Tensor) -> Parameter {
        let tensor = tensor.set_requires_grad(true);
        // A gradient cannot be set, only gathered.
        (&tensor * 0.0).sum(Kind::Float).backward();
        let zeros = || tensor.detach().zeros_like().to_kind(Kind::Float);
        let master = tensor.detach().to_kind(Kind::Float);
        Parameter { name, first: zeros(), second: zeros(), master, tensor }
    }

    /// The gathered gradient, in the tensor's kind.
    pub fn gradient(&self) -> Tensor {
        self.tensor.grad()
    }
}

impl AdamW {
    /// Refuses constants that the algorithm does not have.
    pub fn check(&self) -> Result<()> {
        let share = |what: &str, value: f64| {
            if (0.0..1.0).contains(&value) {
                Ok(())
            } else {
                Err(Error::invalid(what, value, "at least 0 and below 1"))
            }
        };
        share("beta1", self.beta1)?;
        share("beta2", self.beta2)?;
        share("weight decay", self.weight_decay)?;
        if self.clip > 0.0 && self.epsilon > 0.0 {
            Ok(())
        } else {
            Err(Error::invalid("gradient clip and epsilon", self.clip.min(self.epsilon), "above 0"))
        }
    }

    /// The L2 norm of all gradients together.
    pub fn gradient_norm(parameters: &[Parameter]) -> f64 {
        let squares = |parameter: &Parameter| Kernels::of_cpu().squares(&parameter.gradient().view([-1]));
        no_grad(|| parameters.iter().map(squares).sum::<f64>().sqrt())
    }

    /// One step, counted from 0, with gradients whose norm is `norm`; takes the gradients away.
    pub fn step(&self, parameters: &mut [Parameter], step: usize, learning_rate: f64, norm: f64) {
        let count = step as f64 + 1.0;
        let moved = AdamStep {
            scale: if norm > self.clip { self.clip / norm } else { 1.0 },
            beta1: self.beta1,
            beta2: self.beta2,
            bias1: 1.0 - self.beta1.powf(count),
            bias2: 1.0 - self.beta2.powf(count),
            epsilon: self.epsilon,
            decay: learning_rate * self.weight_decay,
            rate: learning_rate,
        };
        no_grad(|| {
            for parameter in parameters {
                let decay = if parameter.tensor.dim() > 1 { moved.decay } else { 0.0 };
                let flat = |tensor: &Tensor| tensor.view([-1]);
                let rounded = parameter.tensor.detach();
                Kernels::of_cpu().adamw(
                    &Moving {
                        master: &flat(&parameter.master),
                        first: &flat(&parameter.first),
                        second: &flat(&parameter.second),
                        gradient: &flat(&parameter.gradient()),
                        rounded: (rounded.kind() != Kind::Float).then_some(&flat(&rounded)),
                    },
                    AdamStep { decay, ..moved },
                );
                parameter.tensor.zero_grad();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gradient of sum(w · slope) is the slope.
    fn push(parameter: &Parameter, slope: f64) {
        (&parameter.tensor * slope).sum(Kind::Float).backward();
    }

    #[test]
    fn steps_as_algorithm_2_says() {
        let adamw = AdamW { weight_decay: 0.1, clip: 1e9, ..AdamW::default() };
        let mut parameters = [Parameter::new("w".into(), Tensor::from_slice(&[1.0_f32, -2.0]).view([1, 2]))];
        let (mut w, mut m, mut v) = ([1.0, -2.0], 0.0, 0.0);
        for (step, slope) in [0.5, -3.0, 0.01].into_iter().enumerate() {
            push(&parameters[0], slope);
            adamw.step(&mut parameters, step, 0.1, 0.0);
            m = 0.9 * m + 0.1 * slope;
            v = 0.999 * v + 0.001 * slope * slope;
            let count = step as i32 + 1;
            let change = 0.1 * (m / (1.0 - 0.9_f64.powi(count))) / ((v / (1.0 - 0.999_f64.powi(count))).sqrt() + 1e-8);
            w = w.map(|w| w * (1.0 - 0.1 * 0.1) - change);
        }
        let found = Vec::<f32>::try_from(parameters[0].tensor.detach().view([-1])).unwrap();
        assert!(found.iter().zip(w).all(|(&a, b)| (f64::from(a) - b).abs() < 1e-5), "{found:?} {w:?}");
    }

    #[test]
    fn clips_the_norm_of_all_gradients_together() {
        let parameter = |values: &[f32]| Parameter::new("w".into(), Tensor::from_slice(values));
        let mut parameters = [parameter(&[0.0; 3]), parameter(&[0.0])];
        parameters.iter().for_each(|parameter| push(parameter, 2.0));
        let norm = AdamW::gradient_norm(&parameters);
        assert!((norm - 4.0).abs() < 1e-6, "sqrt(4 · 2²) = 4, found {norm}");
        AdamW::default().step(&mut parameters, 0, 0.1, norm);
        let first = parameters[0].first.double_value(&[0]);
        assert!((first - 0.1 * 0.5).abs() < 1e-6, "a quarter of the gradient, times 1 - beta1: {first}");
    }

    #[test]
    fn keeps_a_float32_master_of_half_precision_weights() {
        let mut parameters = [Parameter::new("w".into(), Tensor::from_slice(&[1.0_f32]).to_kind(Kind::BFloat16))];
        for step in 0..8 {
            push(&parameters[0], 1.0);
            AdamW::default().step(&mut parameters, step, 1e-3, 1.0);
        }
        let master = parameters[0].master.double_value(&[0]);
        assert!((master - (1.0 - 8e-3)).abs() < 1e-5, "{master}");
        assert_eq!(parameters[0].tensor.double_value(&[0]), 0.9921875, "the nearest bfloat16");
    }

    #[test]
    fn rejects_constants_out_of_range() {
        assert!(AdamW::default().check().is_ok());
        assert!(AdamW { beta2: 1.0, ..AdamW::default() }.check().is_err());
        assert!(AdamW { clip: 0.0, ..AdamW::default() }.check().is_err());
        assert!(AdamW { weight_decay: f64::NAN, ..AdamW::default() }.check().is_err());
    }
}
