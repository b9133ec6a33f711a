//! The search engine's numbers: non-dominated sorting and crowding of 10,000 points, hypervolumes of fronts of 500.
//!
//! `scripts/bench/pymoo_engine.py` compares with pymoo and moocore on the same arrays, by `examples/engine_times.rs`.

mod arrays;

use arrays::{FRONT, SORTED, cloud, front};
use criadero::pareto::{Fronts, crowding_distance, hypervolume, non_dominated_sort};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

/// The crowding distances of each front.
fn crowding(fronts: &[Vec<&Vec<f64>>]) -> Vec<Vec<f64>> {
    fronts.iter().map(|front| crowding_distance(front)).collect()
}

fn members<'a>(points: &'a [Vec<f64>], fronts: &Fronts) -> Vec<Vec<&'a Vec<f64>>> {
    fronts.fronts().iter().map(|front| front.iter().map(|&point| &points[point]).collect()).collect()
}

fn sort(criterion: &mut Criterion) {
    for objectives in [2, 3, 4] {
        for (kind, points) in [("cloud", cloud(SORTED, objectives)), ("front", front(SORTED, objectives))] {
            let name = format!("sort {SORTED} points of a {kind}, {objectives} objectives");
            println!("{name}: {} fronts", non_dominated_sort(&points).fronts().len());
            criterion.bench_function(&name, |bencher| bencher.iter(|| non_dominated_sort(black_box(&points))));
            let fronts = members(&points, &non_dominated_sort(&points));
            let name = format!("crowding of {SORTED} points of a {kind}, {objectives} objectives");
            criterion.bench_function(&name, |bencher| bencher.iter(|| crowding(black_box(&fronts))));
            let name = format!("sort and crowding of {SORTED} points of a {kind}, {objectives} objectives");
            let both = |points| crowding(&members(points, &non_dominated_sort(points)));
            criterion.bench_function(&name, |bencher| bencher.iter(|| both(black_box(&points))));
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
    config = Criterion::default().sample_size(20).without_plots();
    targets = sort, volume
}
criterion_main!(engine);
