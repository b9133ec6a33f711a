//! The search engine's numbers: non-dominated sorting of 10,000 points, hypervolumes of fronts of 500.
//!
//! `scripts/bench/pymoo_engine.py` times pymoo and moocore on the same arrays. Both make them from the same generator
//! and print the same check values: the number of fronts, and the volume.

use criadero::search::{hypervolume, non_dominated_sort};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const SORTED: usize = 10_000;
const FRONT: usize = 500;

/// SplitMix64 (Steele et al. 2014), the upper 53 bits as a number in 0..1.
fn uniform(seed: u64, place: u64) -> f64 {
    let mut bits = seed.wrapping_add((place + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Points anywhere in the unit cube.
fn cloud(count: usize, objectives: usize) -> Vec<Vec<f64>> {
    let place = |point: usize, objective: usize| (point * objectives + objective) as u64;
    let point = |point| (0..objectives).map(|objective| uniform(objectives as u64, place(point, objective))).collect();
    (0..count).map(point).collect()
}

/// Points on the unit sphere, none of which dominates another.
fn front(count: usize, objectives: usize) -> Vec<Vec<f64>> {
    let mut points = cloud(count, objectives);
    for point in &mut points {
        let length = point.iter().map(|value| value * value).sum::<f64>().sqrt();
        point.iter_mut().for_each(|value| *value /= length);
    }
    points
}

fn sort(criterion: &mut Criterion) {
    for objectives in [2, 3, 4] {
        for (kind, points) in [("cloud", cloud(SORTED, objectives)), ("front", front(SORTED, objectives))] {
            let name = format!("sort {SORTED} points of a {kind}, {objectives} objectives");
            println!("{name}: {} fronts", non_dominated_sort(&points).fronts().len());
            criterion.bench_function(&name, |bencher| bencher.iter(|| non_dominated_sort(black_box(&points))));
        }
    }
}

fn volume(criterion: &mut Criterion) {
    for objectives in [2, 3, 4] {
        let (points, reference) = (front(FRONT, objectives), vec![1.1; objectives]);
        let name = format!("hypervolume of a front of {FRONT}, {objectives} objectives");
        println!("{name}: {:.12}", hypervolume(&points, &reference));
        criterion.bench_function(&name, |bencher| bencher.iter(|| hypervolume(black_box(&points), &reference)));
    }
}

criterion_group! {
    name = engine;
    config = Criterion::default().sample_size(20);
    targets = sort, volume
}
criterion_main!(engine);
