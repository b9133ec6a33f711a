//! A genome with its objectives.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::algorithm::Told;
use crate::space::Genome;

/// A genome with its objectives, measured or predicted: finite all of them, smaller is better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scored {
    /// The network.
    pub genome: Genome,
    /// One value an objective.
    pub objectives: Vec<f64>,
    /// By how much hard constraints are violated; 0 when they are met.
    pub violation: f64,
}

impl Scored {
    /// What was told about a genome; nothing where its evaluation failed.
    pub fn of(genome: &Genome, told: &Told) -> Option<Scored> {
        let objectives = told.score()?.to_vec();
        Some(Scored { genome: genome.clone(), objectives, violation: told.violation.max(0.0) })
    }

    /// As an algorithm is told of it.
    pub fn told(&self) -> Told {
        Told { violation: self.violation, ..Told::feasible(self.objectives.clone()) }
    }

    /// Whether each is what was told of its genome.
    pub fn are_of(known: &[Scored], genomes: &[Genome], results: &[Told]) -> bool {
        let told: HashMap<&Genome, &Told> = genomes.iter().zip(results).collect();
        known.iter().all(|known| {
            told.get(&known.genome).and_then(|told| Scored::of(&known.genome, told)).as_ref() == Some(known)
        })
    }

    /// Objectives and violations of several, as selection takes them.
    pub fn columns(all: &[Scored]) -> (Vec<&[f64]>, Vec<f64>) {
        all.iter().map(|scored| (&scored.objectives[..], scored.violation)).unzip()
    }

    /// Takes what is told of genomes into `known`: what is told last of a genome counts, and failures are forgotten.
    pub fn learn(known: &mut Vec<Scored>, genomes: &[Genome], results: &[Told]) {
        for (genome, told) in genomes.iter().zip(results) {
            known.retain(|scored| scored.genome != *genome);
            known.extend(Scored::of(genome, told));
        }
    }
}
