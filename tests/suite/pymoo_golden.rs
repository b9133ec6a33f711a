//! The search engine against pymoo and moocore: `tests/goldens/pymoo/make.py` made the numbers.

use criadero::pareto::{crowding_distance, hypervolume, non_dominated_sort};
use criadero::search::rank_and_crowding;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize)]
struct Golden {
    sorting: Vec<Sorting>,
    hypervolume: Vec<Hypervolume>,
}

#[derive(Deserialize)]
struct Sorting {
    name: String,
    points: Vec<Vec<f64>>,
    ranks: Vec<usize>,
    crowding: Vec<Option<f64>>,
    survivors: BTreeMap<usize, BTreeSet<usize>>,
    violations: Vec<f64>,
    constrained_survivors: BTreeMap<usize, BTreeSet<usize>>,
}

#[derive(Deserialize)]
struct Hypervolume {
    name: String,
    points: Vec<Vec<f64>>,
    references: Vec<Vec<f64>>,
    hypervolumes: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../goldens/pymoo/engine.json")).expect("the golden file is valid")
}

/// Crowding distances of all points, each on its own front.
fn crowding(points: &[Vec<f64>]) -> Vec<f64> {
    let mut crowding = vec![0.0; points.len()];
    for front in non_dominated_sort(points).fronts() {
        let members: Vec<&Vec<f64>> = front.iter().map(|&point| &points[point]).collect();
        for (&point, distance) in front.iter().zip(crowding_distance(&members)) {
            crowding[point] = distance;
        }
    }
    crowding
}

fn close(ours: f64, theirs: f64, tolerance: f64) -> bool {
    ours == theirs || (ours - theirs).abs() <= tolerance * theirs.abs()
}

#[test]
fn ranks_are_pymoos() {
    let cases = golden().sorting;
    assert_eq!(cases.len(), 18, "six sets of points with two, three and four objectives");
    for case in cases {
        assert_eq!(non_dominated_sort(&case.points).ranks(), case.ranks, "{}", case.name);
    }
}

#[test]
fn crowding_distances_are_pymoos() {
    for case in golden().sorting {
        for (point, (ours, theirs)) in crowding(&case.points).into_iter().zip(&case.crowding).enumerate() {
            let theirs = theirs.unwrap_or(f64::INFINITY);
            assert!(close(ours, theirs, 1e-12), "{}, point {point}: {ours} against {theirs}", case.name);
        }
    }
}

/// pymoo breaks ties at random, so where the last survivors are tied, any choice among equals is right; apart from
/// that the survivors are the same points.
#[test]
fn survivors_are_pymoos_up_to_ties() {
    let mut exact = 0;
    for case in golden().sorting {
        let crowding = crowding(&case.points);
        // Distances that differ by rounding are tied.
        let standing = |point: usize| (case.ranks[point], format!("{:.9}", crowding[point]));
        for (&count, theirs) in &case.survivors {
            let ours: BTreeSet<usize> =
                rank_and_crowding(&case.points, &vec![0.0; case.points.len()], count).into_iter().collect();
            assert_eq!(ours.len(), count, "{}", case.name);
            let only = |a: &BTreeSet<usize>, b: &BTreeSet<usize>| {
                let mut standings: Vec<_> = a.difference(b).map(|&point| standing(point)).collect();
                standings.sort();
                standings
            };
            let (only_ours, only_theirs) = (only(&ours, theirs), only(theirs, &ours));
            assert_eq!(only_ours, only_theirs, "{}, {count} survivors", case.name);
            assert!(only_ours.windows(2).all(|pair| pair[0] == pair[1]), "{}, {count} survivors", case.name);
            exact += usize::from(ours == *theirs);
        }
    }
    assert!(exact >= 54, "most selections have no tie at the cut, {exact} of 108 were equal");
}

#[test]
fn survivors_under_constraints_are_pymoos_up_to_ties() {
    for case in golden().sorting {
        let feasible = case.violations.iter().filter(|&&violation| violation == 0.0).count();
        assert!((20..40).contains(&feasible), "{}: both kinds occur", case.name);
        for (&count, theirs) in &case.constrained_survivors {
            let ours: BTreeSet<usize> = rank_and_crowding(&case.points, &case.violations, count).into_iter().collect();
            assert_eq!(ours.len(), count);
            let infeasible = |survivors: &BTreeSet<usize>| -> Vec<usize> {
                survivors.iter().copied().filter(|&point| case.violations[point] > 0.0).collect()
            };
            // Violations have no ties, so that from the first infeasible survivor on the choice is free of chance.
            assert_eq!(infeasible(&ours), infeasible(theirs), "{}, {count} survivors", case.name);
            if count >= feasible {
                assert_eq!(ours, *theirs, "{}, {count} survivors", case.name);
            }
        }
    }
}

#[test]
fn hypervolumes_are_moocores() {
    let mut inside = 0;
    for case in golden().hypervolume {
        for (reference, theirs) in case.references.iter().zip(case.hypervolumes) {
            let ours = hypervolume(&case.points, reference);
            assert!(close(ours, theirs, 1e-12), "{}, up to {reference:?}: {ours} against {theirs}", case.name);
            inside += usize::from(theirs > 0.0);
        }
    }
    assert!(inside > 50, "most volumes are above 0: {inside}");
}
