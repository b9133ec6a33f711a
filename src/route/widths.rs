//! The widths that a router chooses from, and what each costs.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::space::{Cost, Gene, Genome, SearchSpace};
use crate::throughput::ThroughputTable;

/// The choices of half layers, attention and MLP in turn, with their costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Widths {
    /// Of each half layer its widths, ascending.
    pub halves: Vec<Vec<u32>>,
    /// What each costs, as a share of what the largest network costs.
    pub costs: Vec<Vec<f64>>,
    /// What all networks have in common, as such a share.
    pub constant: f64,
    /// Milliseconds or MACs a token of the largest network.
    pub whole: f64,
    /// Whether costs are times: of a prompt's token.
    pub timed: bool,
}

impl Widths {
    /// The widths of a space, and where it has networks of fewer layers 0 beside them. Costs are those of a table's prompts, or MACs
    /// without one.
    ///
    /// # Errors
    /// `Invalid` for a space that quantizes, and for a table without prompts.
    pub fn of(space: &SearchSpace, table: Option<&ThroughputTable>) -> Result<Widths> {
        if space.quantizes() {
            return Err(Error::invalid(
                "space",
                "bits among its choices",
                "one of widths: a router needs every width in 16 bits",
            ));
        }
        let shape = space.shape();
        let drops = space.depths().iter().any(|&depth| depth < shape.layers);
        let cost = |genome: &Genome| match table {
            None => Ok(Cost::of(shape, genome).macs as f64),
            Some(table) => {
                let tps = table.prefill_tps(genome);
                tps.map(|tps| 1e3 / tps)
                    .ok_or_else(|| Error::invalid("table", "no prompts", "one with a prefill phase"))
            }
        };
        let layers = shape.layers;
        let one = |layer: usize, gene: Gene| {
            Genome::new((0..layers).map(|other| if other == layer { gene } else { Gene::DROPPED }))
        };
        let empty = cost(&Genome::uniform(layers, Gene::DROPPED))?;
        let whole = cost(&space.largest())?;
        if cost(&space.smallest())? >= whole {
            return Err(Error::invalid(
                "space",
                "networks that cost the same",
                "one to choose in: cheaper networks and dearer ones",
            ));
        }
        let (mut halves, mut costs) = (Vec::new(), Vec::new());
        for (layer, choices) in space.layers().iter().enumerate() {
            for (widths, is_mlp) in [(&choices.heads, false), (&choices.mlp, true)] {
                let mut widths = widths.clone();
                if drops && !widths.contains(&0) {
                    widths.insert(0, 0);
                }
                let of = |&width: &u32| {
                    let gene = if is_mlp { Gene::new(0, width) } else { Gene::new(width, 0) };
                    Ok(if width == 0 { 0.0 } else { (cost(&one(layer, gene))? - empty).max(0.0) / whole })
                };
                costs.push(widths.iter().map(of).collect::<Result<_>>()?);
                halves.push(widths);
            }
        }
        Ok(Widths { halves, costs, constant: empty / whole, whole, timed: table.is_some() })
    }

    /// The share of the cheapest network.
    pub fn least(&self) -> f64 {
        self.constant + self.costs.iter().map(|costs| costs.iter().copied().fold(f64::INFINITY, f64::min)).sum::<f64>()
    }

    /// The place of each half layer's likeliest width, by scores of all choices, that fill a share and keep to it: from the scores a multiple
    /// of the costs is taken away, or given to them. Shares below the cheapest network's give the cheapest.
    pub fn within(&self, scores: &[f32], share: f64) -> Vec<usize> {
        let chosen = |price: f64| -> Vec<usize> {
            let mut first = 0;
            let best = |costs: &Vec<f64>| {
                let value = |place: usize| f64::from(scores[first + place]) - price * costs[place];
                let best =
                    (0..costs.len()).fold(0, |best, place| if value(place) > value(best) { place } else { best });
                first += costs.len();
                best
            };
            self.costs.iter().map(best).collect()
        };
        let cost = |chosen: &[usize]| {
            self.constant + chosen.iter().zip(&self.costs).map(|(&place, costs)| costs[place]).sum::<f64>()
        };
        chosen(lowest_price(STEPS, &mut |price| cost(&chosen(price)) <= share * (1.0 + SAME)))
    }

    /// A network of these widths, by their places.
    pub fn network(&self, chosen: &[usize]) -> Genome {
        let width = |half: usize| self.halves[half][chosen[half]];
        Genome::new((0..self.halves.len() / 2).map(|layer| Gene::new(width(2 * layer), width(2 * layer + 1))))
    }

    /// Problems that no table and space can have given, for files that are read again.
    pub fn problem(&self) -> Option<String> {
        let shapes = self.halves.len() == self.costs.len() && self.halves.len().is_multiple_of(2);
        let rows = self.halves.iter().zip(&self.costs);
        let sound = |(widths, costs): (&Vec<u32>, &Vec<f64>)| {
            !widths.is_empty()
                && widths.is_sorted()
                && widths.len() == costs.len()
                && costs.iter().all(|cost| (0.0..=1.0).contains(cost))
        };
        let all = shapes
            && rows.clone().all(sound)
            && (0.0..=1.0).contains(&self.constant)
            && self.whole > 0.0
            && self.whole.is_finite();
        (!all).then(|| {
            "widths: found lists that do not fit, expected ascending widths, each with a share from 0 to 1".to_string()
        })
    }
}

/// Sums of shares differ by less.
pub(super) const SAME: f64 = 1e-9;
/// Halvings of a price.
const STEPS: usize = 50;
/// The logarithm of the highest price of the whole model's cost, and of the lowest below 0: scores differ by far less.
const FARTHEST: f64 = 16.0;

/// What comes of the lowest price at which something `fits`, to so many halvings: below 0 what costs more is preferred.
pub(super) fn lowest_price(halvings: usize, fits: &mut dyn FnMut(f64) -> bool) -> f64 {
    let (mut low, mut high) = (-FARTHEST, FARTHEST);
    if fits(low.sinh()) {
        return low.sinh();
    }
    for _ in 0..halvings {
        let middle = f64::midpoint(low, high);
        if fits(middle.sinh()) { high = middle } else { low = middle }
    }
    high.sinh()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::throughput::{BlockTimes, LatencyOptions, Phase, PhaseTable, key_of_tests as key};

    fn widths() -> Widths {
        Widths {
            halves: vec![vec![0, 4], vec![0, 64, 128]],
            costs: vec![vec![0.0, 0.3], vec![0.0, 0.25, 0.5]],
            constant: 0.2,
            whole: 10.0,
            timed: true,
        }
    }

    #[test]
    fn what_is_chosen_keeps_to_the_budget() {
        let widths = widths();
        assert_eq!((widths.least(), widths.problem()), (0.2, None));
        let scores = [0.0, 1.0, 0.0, 2.0, 2.5];
        for (share, expected) in [(1.0, "4x128"), (0.8, "4x64"), (0.7, "0x64"), (0.49, "0x64"), (0.2, "-"), (0.1, "-")]
        {
            let network = widths.network(&widths.within(&scores, share));
            let cost: f64 = 0.2
                + if network.genes()[0].heads > 0 { 0.3 } else { 0.0 }
                + 0.5 * f64::from(network.genes()[0].mlp) / 128.0;
            assert!(cost <= share.max(0.2), "{share}: {network}");
            assert_eq!(network.to_string(), expected, "{share}");
        }
        assert!(Widths { costs: vec![vec![0.0]], ..widths.clone() }.problem().is_some());
        assert!(Widths { constant: f64::NAN, ..widths }.problem().is_some());
    }

    #[test]
    fn a_table_says_what_widths_cost() {
        let space = SearchSpace::shipped("tiny").unwrap();
        let times = |widths: &[u32], each: f64| widths.iter().map(|&width| (width, each * f64::from(width))).collect();
        let times =
            BlockTimes { constant_ms: 10.0, heads_ms: times(&[2, 4], 0.5), mlp_ms: times(&[32, 64, 96, 128], 0.03125) };
        let phase = PhaseTable { phase: Phase::Prefill { tokens: 100 }, times, checks: vec![] };
        let table = ThroughputTable { format: 1, key: key(), options: LatencyOptions::default(), phases: vec![phase] };
        let widths = Widths::of(&space, Some(&table)).unwrap();
        // Four layers of 2 and 4 ms, and 10: 34 for a hundred tokens.
        assert!(widths.timed && (widths.whole - 0.34).abs() < 1e-9 && (widths.constant - 10.0 / 34.0).abs() < 1e-9);
        let cost = |half: usize, width: u32| {
            widths.costs[half][widths.halves[half].iter().position(|&one| one == width).unwrap()]
        };
        assert!((cost(0, 4) - 2.0 / 34.0).abs() < 1e-9 && (cost(0, 2) - 1.0 / 34.0).abs() < 1e-9);
        assert!((cost(3, 128) - 4.0 / 34.0).abs() < 1e-9 && (cost(3, 64) - 2.0 / 34.0).abs() < 1e-9);
        let prompts = ThroughputTable { phases: vec![], ..table };
        assert!(Widths::of(&space, Some(&prompts)).unwrap_err().to_string().contains("a prefill phase"));
    }
}
