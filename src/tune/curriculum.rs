//! Which networks learn what in every step.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::Llama;
use crate::space::{Genome, SearchSpace};

/// Random networks whose held-out loss is followed, besides the largest and the smallest.
const FOLLOWED: usize = 4;
/// The stream of random numbers that the followed networks are drawn from; those of epochs are below, those of steps above.
const FOLLOWED_STREAM: u64 = 1 << 32;
/// The largest w_i: a network that all but predicts what the largest does has nothing to learn from it.
const MOST_WEIGHT: f64 = 10.0;

/// A way to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "scheme")]
pub enum Curriculum {
    /// Every step trains the largest network on the labels and, with what it then predicts as their teacher, the smallest
    /// and two random ones (sandwich rule and in-place distillation, Yu & Huang 2019): the mean of
    /// CE(largest) and w_i · KL(largest ‖ network i) at temperature 1.
    Sandwich {
        /// Where the networks come from.
        space: SearchSpace,
        /// w_i = CE(largest) / KL(largest ‖ network i), taken as a constant, so that no network's loss outweighs the
        /// others' (loss-magnitude balancing of AmoebaLLM, Fu et al. 2024), at most 10; else w_i = 1.
        balance: bool,
    },
    /// Steps alternate between the largest network and a random one, both on the labels (InstaTune, Sarah et al. 2023,
    /// as LLaMA-NAS uses it, Sarah et al. 2024).
    Instatune {
        /// Where the networks come from.
        space: SearchSpace,
    },
    /// One network learns what its parent predicts: KL(parent ‖ network) at temperature 1 (as Minitron retrains,
    /// Muralidharan et al. 2024).
    Distill {
        /// The network, in its own sizes.
        network: Genome,
    },
}

/// What a network learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The text.
    Labels,
    /// The first network of the same step.
    First,
    /// The parent, another model.
    Parent,
}

/// A network of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Pupil {
    /// The network.
    pub genome: Genome,
    /// What it learns from.
    pub source: Source,
}

impl Curriculum {
    /// The networks of a step, a pure function of seed and step.
    pub fn pupils(&self, seed: u64, step: usize) -> Vec<Pupil> {
        let pupil = |genome, source| Pupil { genome, source };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(FOLLOWED_STREAM + 1 + step as u64);
        match self {
            Curriculum::Sandwich { space, .. } => vec![
                pupil(space.largest(), Source::Labels),
                pupil(space.smallest(), Source::First),
                pupil(space.sample(&mut rng), Source::First),
                pupil(space.sample(&mut rng), Source::First),
            ],
            Curriculum::Instatune { space } if step.is_multiple_of(2) => vec![pupil(space.largest(), Source::Labels)],
            Curriculum::Instatune { space } => vec![pupil(space.sample(&mut rng), Source::Labels)],
            Curriculum::Distill { network } => vec![pupil(network.clone(), Source::Parent)],
        }
    }

    /// The networks whose held-out loss is followed, by name; the first is the one that must not get worse.
    pub fn followed(&self, seed: u64) -> Vec<(String, Genome)> {
        match self {
            Curriculum::Sandwich { space, .. } | Curriculum::Instatune { space } => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(FOLLOWED_STREAM);
                let random = (1..=FOLLOWED).map(|place| (format!("random_{place}"), space.sample(&mut rng)));
                let ends = [("largest".to_string(), space.largest()), ("smallest".to_string(), space.smallest())];
                ends.into_iter().chain(random).collect()
            }
            Curriculum::Distill { network } => vec![("network".to_string(), network.clone())],
        }
    }

    /// Refuses networks that are no sets of prefixes of the model, and quantized ones, which training does not know.
    pub fn check(&self, model: &Llama) -> Result<()> {
        model.check(&self.largest())?;
        let (Curriculum::Sandwich { space, .. } | Curriculum::Instatune { space }) = self else { return Ok(()) };
        if let Some(bits) = space.formats().first() {
            return Err(Error::invalid(
                "space",
                format!("matrices in {}", bits.ggml()),
                "unquantized networks to train",
            ));
        }
        Ok(())
    }

    /// The factor of a network's loss, given that of the step's first.
    pub fn weight(&self, source: Source, loss: f64, first: f64) -> f64 {
        match (self, source) {
            (Curriculum::Sandwich { balance: true, .. }, Source::First) if first > 0.0 => {
                MOST_WEIGHT.min(first / loss.max(f64::MIN_POSITIVE))
            }
            _ => 1.0,
        }
    }

    /// The widest network that is trained.
    pub fn largest(&self) -> Genome {
        match self {
            Curriculum::Sandwich { space, .. } | Curriculum::Instatune { space } => space.largest(),
            Curriculum::Distill { network } => network.clone(),
        }
    }

    /// Whether networks learn from another's predictions.
    pub fn teaches(&self) -> bool {
        !matches!(self, Curriculum::Instatune { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> SearchSpace {
        SearchSpace::open("tiny").unwrap()
    }

    #[test]
    fn a_sandwich_has_both_ends_and_two_others() {
        let space = tiny();
        let sandwich = Curriculum::Sandwich { space: space.clone(), balance: true };
        let pupils = sandwich.pupils(1, 7);
        assert_eq!(pupils.len(), 4);
        assert_eq!((&pupils[0].genome, pupils[0].source), (&space.largest(), Source::Labels));
        assert_eq!((&pupils[1].genome, pupils[1].source), (&space.smallest(), Source::First));
        assert!(pupils[2..].iter().all(|pupil| space.contains(&pupil.genome) && pupil.source == Source::First));
        assert_eq!(sandwich.pupils(1, 7), pupils, "the same step of a resumed run");
        assert_ne!(sandwich.pupils(1, 8)[2..], pupils[2..]);
        assert_eq!(sandwich.weight(Source::First, 0.5, 3.0), 6.0);
        assert_eq!(sandwich.weight(Source::Labels, 0.5, 3.0), 1.0);
        assert_eq!([0.0, 1e-12].map(|loss| sandwich.weight(Source::First, loss, 3.0)), [10.0; 2], "bounded");
    }

    #[test]
    fn instatune_alternates() {
        let space = tiny();
        let instatune = Curriculum::Instatune { space: space.clone() };
        let genomes: Vec<Genome> =
            (0..6).flat_map(|step| instatune.pupils(3, step)).map(|pupil| pupil.genome).collect();
        assert!(genomes.iter().step_by(2).all(|genome| *genome == space.largest()));
        assert!(genomes.iter().skip(1).step_by(2).any(|genome| *genome != space.largest()));
    }

    #[test]
    fn follows_the_ends_and_four_random_networks() {
        let followed = Curriculum::Instatune { space: tiny() }.followed(1);
        let names: Vec<&str> = followed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["largest", "smallest", "random_1", "random_2", "random_3", "random_4"]);
    }
}
