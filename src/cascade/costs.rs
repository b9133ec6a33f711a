//! What networks cost on a question, and what two of them need to compute only once.

use std::fmt;

use crate::error::{Error, Result};
use crate::eval::shared_halves;
use crate::space::{Bound, Constraint, Cost, Gene, Genome, ModelShape};
use crate::throughput::ThroughputTable;

/// Costs that differ by less, of each other, are the same.
pub(super) const SAME: f64 = 1e-9;

/// What a cascade may cost on the mean: multiply-accumulates a token, or the time that a token takes when prompts are read.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    limit: Constraint,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// A token.
    Macs,
    /// Milliseconds a token, said as tokens a second.
    Time,
}

impl Budget {
    /// A limit on `macs` or `prefill_tps`.
    ///
    /// # Errors
    /// `Invalid` for other limits.
    pub fn new(limit: Constraint) -> Result<Budget> {
        let unit = match (limit.objective.as_str(), limit.bound) {
            ("macs", Bound::AtMost) => Unit::Macs,
            ("prefill_tps", Bound::AtLeast) => Unit::Time,
            _ => return Err(Error::invalid("budget", &limit, "`macs<=N`, MACs a token, or `prefill_tps>=N`")),
        };
        if limit.value > 0.0 {
            Ok(Budget { limit, unit })
        } else {
            Err(Error::invalid("budget", &limit, "a number above 0"))
        }
    }

    /// The limit as costs a token.
    pub fn most(&self) -> f64 {
        match self.unit {
            Unit::Macs => self.limit.value,
            Unit::Time => 1e3 / self.limit.value,
        }
    }

    /// Costs a token as people read them.
    pub fn said(&self, cost: f64) -> f64 {
        match self.unit {
            Unit::Macs => cost,
            Unit::Time => 1e3 / cost,
        }
    }

    /// What [`Budget::said`] counts, as the column of a front: `macs` or `prefill_tps`.
    pub fn name(&self) -> &str {
        &self.limit.objective
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.limit.fmt(f)
    }
}

/// Costs a token of some networks.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    /// Of each network.
    pub of: Vec<f64>,
    /// Of each pair of networks what their common first half layers cost.
    pub shared: Vec<Vec<f64>>,
}

impl Costs {
    /// The costs of networks of this shape, in the budget's unit.
    ///
    /// # Errors
    /// `Invalid` for a budget of time without a table that knows it.
    pub fn new(
        budget: &Budget,
        shape: &ModelShape,
        table: Option<&ThroughputTable>,
        genomes: &[Genome],
    ) -> Result<Costs> {
        match budget.unit {
            Unit::Macs => Ok(Costs::in_macs(shape, genomes)),
            Unit::Time => Costs::by(genomes, |genome| {
                let tps = table.and_then(|table| table.prefill_tps(genome));
                let none =
                    || Error::invalid("budget", budget, "`macs<=N`: the run has no throughput table (--throughput)");
                tps.map(|tps| 1e3 / tps).ok_or_else(none)
            }),
        }
    }

    /// The multiply-accumulates a token of networks of this shape.
    pub fn in_macs(shape: &ModelShape, genomes: &[Genome]) -> Costs {
        let known = Costs::by(genomes, |genome| Ok(Cost::of(shape, genome).macs as f64));
        known.unwrap_or_else(|_| unreachable!("every network has a size"))
    }

    fn by(genomes: &[Genome], cost: impl Fn(&Genome) -> Result<f64>) -> Result<Costs> {
        let shared = |a: &Genome, b: &Genome| {
            let begun = first_halves(a, shared_halves(a, b));
            Ok(cost(&begun)? - cost(&first_halves(a, 0))?)
        };
        let of_row = |a| genomes.iter().map(|b| shared(a, b)).collect();
        Ok(Costs {
            of: genomes.iter().map(&cost).collect::<Result<_>>()?,
            shared: genomes.iter().map(of_row).collect::<Result<_>>()?,
        })
    }

    /// Of networks that are asked in this order, what asking up to each one costs.
    pub fn up_to(&self, asked: &[usize]) -> Vec<f64> {
        let added = (0..asked.len()).map(|last| self.added(&asked[..=last]));
        added
            .scan(0.0, |sum, added| {
                *sum += added;
                Some(*sum)
            })
            .collect()
    }

    /// What the last of `asked` costs where the others were asked before.
    pub fn added(&self, asked: &[usize]) -> f64 {
        let Some((&last, before)) = asked.split_last() else { return 0.0 };
        self.of[last] - before.iter().map(|&one| self.shared[one][last]).fold(0.0, f64::max)
    }
}

/// A network that ends after some half layers.
fn first_halves(genome: &Genome, halves: usize) -> Genome {
    let begun = |(layer, &gene): (usize, &Gene)| match halves.saturating_sub(2 * layer) {
        0 => Gene::DROPPED,
        1 => Gene { mlp: 0, ..gene },
        _ => gene,
    };
    Genome::new(genome.genes().iter().enumerate().map(begun)).with_ends(genome.ends())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::shape::tests::SMOLLM2;

    fn genomes(texts: &[&str]) -> Vec<Genome> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn common_first_halves_are_counted_once() {
        let budget = Budget::new("macs<=100M".parse().unwrap()).unwrap();
        let networks = genomes(&["9x1536*3:-*27", "9x1536*2:9x768:-*27", "6x1536*3:-*27", "9x1536*3:-*27"]);
        let costs = Costs::new(&budget, &SMOLLM2, None, &networks).unwrap();
        let [whole, begun] =
            ["9x1536*2:9x0:-*27", "-*30"].map(|text| Cost::of(&SMOLLM2, &text.parse().unwrap()).macs as f64);
        assert_eq!(costs.shared[0][1], whole - begun);
        assert_eq!(costs.shared[0][2], 0.0, "they part at the first attention");
        assert_eq!(costs.added(&[0, 3]), begun, "the head alone");
        assert_eq!(costs.added(&[2, 0]), costs.of[0]);
        assert_eq!(costs.added(&[2, 1, 0]), costs.of[0] - costs.shared[1][0]);
    }

    #[test]
    fn budgets_are_of_what_a_token_costs() {
        for wrong in ["macs>=3", "params<=3", "prefill_tps<=3", "macs<=0", "macs<=-1"] {
            assert!(Budget::new(wrong.parse().unwrap()).is_err(), "{wrong}");
        }
        let budget = Budget::new("prefill_tps>=4k".parse().unwrap()).unwrap();
        assert_eq!((budget.most(), budget.said(0.25)), (0.25, 4000.0));
        let error = Costs::new(&budget, &SMOLLM2, None, &genomes(&["-*30"])).unwrap_err().to_string();
        assert!(error.contains("--throughput"), "{error}");
    }
}
