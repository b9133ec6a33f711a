//! What a network will score, learnt from those that were measured.

use super::points::Points;
use super::ridge::Ridge;

/// A fitted prediction of one objective. Same points, same bits, on any number of threads.
#[derive(Clone, Debug)]
pub struct Predictor {
    standard: Standard,
    /// A plane through what the ranking says that networks lack, in standardised targets.
    plane: Plane,
    /// What is left of them; nothing where nothing could be learnt.
    ridge: Option<Ridge>,
}

impl Predictor {
    /// Learns finite targets, standardised: a plane through what the ranking says that the points lack, and the rest from their rows, with the
    /// penalty that would have predicted each population best from those before it. Equal targets, and none at all, are learnt as a constant.
    ///
    /// # Shapes
    /// `targets` one a point.
    pub fn fit(points: &Points, targets: &[f64]) -> Predictor {
        let standard = Standard::of(targets);
        let targets: Vec<f64> = targets.iter().map(|&target| standard.to(target)).collect();
        let plane = Plane::through(&points.lacks, &targets);
        let left: Vec<f64> =
            points.lacks.iter().zip(&targets).map(|(&lacks, target)| target - plane.at(lacks)).collect();
        let learnt = standard.spread > 0.0 && points.columns > 0;
        Predictor { standard, plane, ridge: learnt.then(|| Ridge::tuned(points, &left)) }
    }

    /// The finite prediction for a row, and what the ranking says that the network lacks.
    pub fn predict(&self, row: &[u32], lacks: [f64; 2]) -> f64 {
        let left = self.ridge.as_ref().map_or(0.0, |ridge| ridge.predict(row));
        self.standard.back(self.plane.at(lacks) + left)
    }
}

/// A plane through two coordinates by least squares.
#[derive(Clone, Copy, Debug)]
struct Plane {
    slopes: [f64; 2],
    means: [f64; 2],
}

impl Plane {
    /// Through places whose targets have a mean of 0; flat in a coordinate that is the same everywhere.
    fn through(places: &[[f64; 2]], targets: &[f64]) -> Plane {
        let n = places.len().max(1) as f64;
        let means = [0, 1].map(|axis| places.iter().map(|place| place[axis]).sum::<f64>() / n);
        let sum = |of: &dyn Fn([f64; 2], f64) -> f64| -> f64 {
            places
                .iter()
                .zip(targets)
                .map(|(place, &target)| of([0, 1].map(|axis| place[axis] - means[axis]), target))
                .sum()
        };
        let (aa, bb, ab) = (sum(&|p, _| p[0] * p[0]), sum(&|p, _| p[1] * p[1]), sum(&|p, _| p[0] * p[1]));
        let (at, bt) = (sum(&|p, t| p[0] * t), sum(&|p, t| p[1] * t));
        // So little that it only decides between coordinates that are the same.
        let (aa, bb) = (aa + 1e-9 * (aa + bb), bb + 1e-9 * (aa + bb));
        let determinant = aa * bb - ab * ab;
        let slopes = [(at * bb - bt * ab) / determinant, (bt * aa - at * ab) / determinant];
        Plane { slopes: slopes.map(|slope| if slope.is_finite() { slope } else { 0.0 }), means }
    }

    fn at(self, place: [f64; 2]) -> f64 {
        (0..2).map(|axis| self.slopes[axis] * (place[axis] - self.means[axis])).sum()
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
    use super::super::one_hot::{OneHot, Row};
    use super::*;
    use crate::kendall::kendall_tau;
    use crate::space::{Genome, SearchSpace};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    /// Points that no ranking knows.
    fn unranked(rows: &[Row], columns: usize) -> Points {
        Points { rows: rows.to_vec(), columns, lacks: vec![[0.0; 2]; rows.len()], population: 16 }
    }

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
        let predictor = Predictor::fit(&unranked(&rows[..120], encoding.columns()), &targets[..120]);
        let predicted: Vec<f64> = rows[120..].iter().map(|row| predictor.predict(row, [0.0; 2])).collect();
        let tau = kendall_tau(&predicted, &targets[120..]);
        assert!(tau > 0.95, "{tau}");
    }

    #[test]
    fn begins_with_what_the_ranking_says() {
        // Each network has a gene that no other has: only what it lacks says how good it is, and dropped layers cost less than they seem.
        let rows: Vec<Row> = (0..32).map(|i| vec![i, 32 + i % 2]).collect();
        let lacks: Vec<[f64; 2]> = (0..32).map(|i| [f64::from(i % 5), f64::from(i * 7 % 32)]).collect();
        let target = |place: usize| {
            let [dropped, narrower] = lacks[place];
            1.0 + 0.02 * dropped + 0.05 * narrower + 0.1 * (place % 2) as f64
        };
        let targets: Vec<f64> = (0..16).map(target).collect();
        let points = Points { rows: rows[..16].to_vec(), columns: 34, lacks: lacks[..16].to_vec(), population: 16 };
        let predictor = Predictor::fit(&points, &targets);
        for place in 16..32 {
            let found = predictor.predict(&rows[place], lacks[place]);
            assert!((found - target(place)).abs() < 0.1, "{found} instead of {}", target(place));
        }
    }

    #[test]
    fn a_plane_is_flat_where_all_places_are_one() {
        let targets = [-1.0, 0.0, 1.0];
        let at = |places: [[f64; 2]; 3], place| Plane::through(&places, &targets).at(place);
        assert_eq!(at([[0.0; 2]; 3], [5.0, 5.0]), 0.0, "nothing is known of any");
        let one = at([[2.0, 0.0], [2.0, 1.0], [2.0, 2.0]], [7.0, 2.0]);
        assert!((one - 1.0).abs() < 1e-6, "one coordinate says all: {one}");
        let same = at([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], [2.0, 2.0]);
        assert!((same - 1.0).abs() < 1e-6, "both say the same: {same}");
    }

    #[test]
    fn predicts_a_finite_number_whatever_it_was_told() {
        let rows: Vec<Row> = (0..12).map(|i| vec![i % 2, 2 + i % 3]).collect();
        for (targets, expected) in [
            (vec![], Some(0.0)),
            (vec![0.25], Some(0.25)),
            (vec![0.3; 12], Some(0.3)),
            (vec![1.0, 3.0], None),
            ((0..12).map(|i| f64::MAX / f64::from(2 * i - 11)).collect(), None),
            ((0..12).map(|i| f64::MIN_POSITIVE * f64::from(i)).collect(), None),
        ] {
            let predictor = Predictor::fit(&unranked(&rows[..targets.len()], 5), &targets);
            for row in &rows {
                let value = predictor.predict(row, [0.0; 2]);
                assert!(value.is_finite(), "{targets:?} gave {value}");
                assert!(expected.is_none_or(|expected| (value - expected).abs() < 1e-12), "{value}");
            }
        }
        let none = Predictor::fit(&unranked(&rows[..2], 0), &[1.0, 3.0]);
        assert_eq!(none.predict(&[], [0.0; 2]), 2.0, "a space of fixed genes has no columns");
    }
}
