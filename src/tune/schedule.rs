//! The learning rate of every step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Linear warm-up, then half a cosine down to zero (Loshchilov & Hutter 2017, equation 5, one cycle).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The largest learning rate.
    pub learning_rate: f64,
    /// Steps until it is reached.
    pub warmup: usize,
    /// All steps.
    pub steps: usize,
}

impl Schedule {
    /// Refuses what trains nothing or breaks everything.
    pub fn check(&self) -> Result<()> {
        if !self.learning_rate.is_finite() || self.learning_rate <= 0.0 {
            return Err(Error::invalid("learning rate", self.learning_rate, "a finite number above 0, such as 1e-4"));
        }
        if self.steps == 0 {
            return Err(Error::invalid("steps", 0, "at least one"));
        }
        if self.warmup >= self.steps {
            Err(Error::invalid("warm-up", format!("{} steps", self.warmup), format!("fewer than {}", self.steps)))
        } else {
            Ok(())
        }
    }

    /// The learning rate of a step, from 0.
    pub fn at(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.learning_rate * (step + 1) as f64 / self.warmup as f64;
        }
        let part = (step - self.warmup) as f64 / (self.steps - self.warmup) as f64;
        self.learning_rate * 0.5 * (1.0 + (PI * part).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_in_a_line_and_falls_as_a_cosine() {
        let schedule = Schedule { learning_rate: 2.0, warmup: 4, steps: 12 };
        let rates: Vec<f64> = [0, 1, 3, 4, 8].map(|step| schedule.at(step)).to_vec();
        for (found, expected) in rates.iter().zip([0.5, 1.0, 2.0, 2.0, 1.0]) {
            assert!((found - expected).abs() < 1e-12, "{rates:?}");
        }
        assert!(schedule.at(11) > 0.0 && schedule.at(11) < 0.1);
        assert_eq!(Schedule { warmup: 0, ..schedule }.at(0), 2.0);
    }

    #[test]
    fn rejects_rates_that_train_nothing() {
        for learning_rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Schedule { learning_rate, warmup: 0, steps: 1 }.check().is_err(), "{learning_rate}");
        }
        let error = Schedule { learning_rate: 1.0, warmup: 5, steps: 5 }.check().unwrap_err().to_string();
        assert_eq!(error, "warm-up: found 5 steps, expected fewer than 5");
    }
}
