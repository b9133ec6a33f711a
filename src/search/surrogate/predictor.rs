//! What a network will score, learnt from those that were measured.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::one_hot::Row;
use super::ridge::Ridge;
use super::svr::Svr;

/// How scores are predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PredictorKind {
    /// Ridge regression: additive in the genes.
    #[default]
    Ridge,
    /// Support-vector regression with a Gaussian kernel: genes may interact.
    Svr,
}

impl fmt::Display for PredictorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PredictorKind::Ridge => "ridge",
            PredictorKind::Svr => "svr",
        })
    }
}

/// A fitted prediction of one objective. Same points, same bits, on any number of threads.
#[derive(Clone, Debug)]
pub struct Predictor {
    standard: Standard,
    model: Model,
}

#[derive(Clone, Debug)]
enum Model {
    /// The mean: nothing could be learnt.
    Constant,
    Ridge(Ridge),
    Svr(Svr),
}

impl Predictor {
    /// Learns finite targets, standardised, with the penalty, and the kernel's reach, that predict left-out points
    /// best. Equal targets, and none at all, are learnt as a constant; too few points for a support-vector
    /// machine by ridge regression.
    ///
    /// # Shapes
    /// `rows` and `targets` of equal length, rows of equal lengths with columns below `columns`.
    pub fn fit(kind: PredictorKind, rows: &[Row], columns: usize, targets: &[f64]) -> Predictor {
        let standard = Standard::of(targets);
        let targets: Vec<f64> = targets.iter().map(|&target| standard.to(target)).collect();
        let ridge = || Model::Ridge(Ridge::tuned(rows, columns, &targets));
        let model = match kind {
            _ if standard.spread == 0.0 || columns == 0 => Model::Constant,
            PredictorKind::Ridge => ridge(),
            PredictorKind::Svr => Svr::tuned(rows, columns, &targets).map_or_else(ridge, Model::Svr),
        };
        Predictor { standard, model }
    }

    /// Whether predictions are sums over the columns of a row.
    pub fn is_additive(&self) -> bool {
        matches!(self.model, Model::Constant | Model::Ridge(_))
    }

    /// The finite prediction for a row.
    pub fn predict(&self, row: &[u32]) -> f64 {
        self.standard.back(match &self.model {
            Model::Constant => 0.0,
            Model::Ridge(ridge) => ridge.predict(row),
            Model::Svr(svr) => svr.predict(row),
        })
    }
}

/// Targets less their mean, over their standard deviation. Divided by the largest first, so that no finite target overflows.
#[derive(Clone, Copy, Debug)]
struct Standard {
    unit: f64,
    mean: f64,
    spread: f64,
}

impl Standard {
    fn of(targets: &[f64]) -> Standard {
        let unit = targets.iter().fold(0.0, |unit: f64, target| unit.max(target.abs()));
        if unit == 0.0 {
            return Standard { unit: 1.0, mean: 0.0, spread: 0.0 };
        }
        let n = targets.len() as f64;
        let mean = targets.iter().map(|target| target / unit).sum::<f64>() / n;
        let square = |target: &f64| (target / unit - mean) * (target / unit - mean);
        let spread = (targets.iter().map(square).sum::<f64>() / n).sqrt();
        // Equal targets differ from their mean by rounding.
        Standard { unit, mean, spread: if spread > 1e-12 { spread } else { 0.0 } }
    }

    fn to(self, target: f64) -> f64 {
        if self.spread == 0.0 { 0.0 } else { (target / self.unit - self.mean) / self.spread }
    }

    fn back(self, standardised: f64) -> f64 {
        ((self.mean + self.spread * standardised) * self.unit).clamp(f64::MIN, f64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::one_hot::OneHot;
    use super::*;
    use crate::kendall::kendall_tau;
    use crate::space::{Genome, SearchSpace};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const KINDS: [PredictorKind; 2] = [PredictorKind::Ridge, PredictorKind::Svr];

    /// Additive in the layers, with diminishing returns in a layer's width.
    fn additive(genome: &Genome) -> f64 {
        let worth = |(layer, gene): (usize, crate::space::Gene)| {
            f64::from((layer as u32 * 7 + 3) % 5 + 1) * (f64::from(gene.mlp).sqrt() + f64::from(gene.heads))
        };
        1e6 - genome.kept().map(worth).sum::<f64>()
    }

    #[test]
    fn recovers_the_order_of_an_additive_function() {
        let space = SearchSpace::from_yaml(
            "{ shape: { layers: 10, hidden: 64, heads: 4, kv_heads: 4, head_dim: 16, mlp: 128, vocab: 512 }, \
             depth: [9, 10], heads: [2, 4], mlp: [0, 32, 128] }",
        )
        .unwrap();
        let encoding = OneHot::new(&space);
        let rng = &mut ChaCha8Rng::seed_from_u64(1);
        let genomes: Vec<Genome> = (0..180).map(|_| space.sample(rng)).collect();
        let rows: Vec<Row> = genomes.iter().map(|genome| encoding.row(genome)).collect();
        let targets: Vec<f64> = genomes.iter().map(additive).collect();
        for kind in KINDS {
            let predictor = Predictor::fit(kind, &rows[..120], encoding.columns(), &targets[..120]);
            let predicted: Vec<f64> = rows[120..].iter().map(|row| predictor.predict(row)).collect();
            let tau = kendall_tau(&predicted, &targets[120..]);
            assert!(tau > 0.95, "{kind}: {tau}");
        }
    }

    #[test]
    fn only_svr_learns_that_genes_interact() {
        // Two genes of two choices each, and their exclusive or; eight more that say nothing.
        let rows: Vec<Row> = (0..96u32)
            .map(|i| (0..10).map(|gene| 2 * gene + (i.wrapping_mul(2654435761) >> (gene + 9)) % 2).collect())
            .collect();
        let targets: Vec<f64> = rows.iter().map(|row| f64::from((row[0] + row[1]) % 2)).collect();
        let tau = |kind| {
            let predictor = Predictor::fit(kind, &rows[..64], 20, &targets[..64]);
            let predicted: Vec<f64> = rows[64..].iter().map(|row| predictor.predict(row)).collect();
            kendall_tau(&predicted, &targets[64..])
        };
        let (ridge, svr) = (tau(PredictorKind::Ridge), tau(PredictorKind::Svr));
        assert!(svr > 0.6 && ridge < 0.3, "ridge {ridge}, svr {svr}");
    }

    #[test]
    fn predicts_a_finite_number_whatever_it_was_told() {
        let rows: Vec<Row> = (0..12).map(|i| vec![i % 2, 2 + i % 3]).collect();
        for kind in KINDS {
            for (targets, expected) in [
                (vec![], Some(0.0)),
                (vec![0.25], Some(0.25)),
                (vec![0.3; 12], Some(0.3)),
                (vec![1.0, 3.0], None),
                ((0..12).map(|i| f64::MAX / f64::from(2 * i - 11)).collect(), None),
                ((0..12).map(|i| f64::MIN_POSITIVE * f64::from(i)).collect(), None),
            ] {
                let predictor = Predictor::fit(kind, &rows[..targets.len()], 5, &targets);
                for row in &rows {
                    let value = predictor.predict(row);
                    assert!(value.is_finite(), "{kind}: {targets:?} gave {value}");
                    assert!(expected.is_none_or(|expected| (value - expected).abs() < 1e-12), "{value}");
                }
            }
            let none = Predictor::fit(kind, &rows[..2], 0, &[1.0, 3.0]);
            assert_eq!(none.predict(&[]), 2.0, "a space of fixed genes has no columns");
        }
    }
}
