//! The shortest times of the search engine's numbers, as JSON: `scripts/bench/pymoo_engine.py` runs this beside pymoo.
//!
//! One line a number: its name, a value to check (fronts, the sum of finite distances, the volume) and milliseconds.

#[path = "../benches/arrays/mod.rs"]
mod arrays;

use arrays::{FRONT, SORTED, cloud, front};
use criadero::pareto::{Fronts, crowding_distance, hypervolume, non_dominated_sort};
use std::hint::black_box;
use std::time::Instant;

fn report<T>(name: &str, runs: usize, check: impl Fn(&T) -> f64, mut work: impl FnMut() -> T) {
    let mut shortest = f64::INFINITY;
    for _ in 0..runs {
        let start = Instant::now();
        let result = black_box(work());
        shortest = shortest.min(start.elapsed().as_secs_f64());
        drop(result);
    }
    let line = serde_json::json!({ "name": name, "check": check(&work()), "ms": 1e3 * shortest });
    println!("{line}");
}

/// The crowding distance of each point on its own front.
fn crowding(points: &[Vec<f64>], sorted: &Fronts) -> Vec<f64> {
    let mut distances = vec![0.0; points.len()];
    for front in sorted.fronts() {
        let members: Vec<&Vec<f64>> = front.iter().map(|&point| &points[point]).collect();
        for (&point, distance) in front.iter().zip(crowding_distance(&members)) {
            distances[point] = distance;
        }
    }
    distances
}

fn main() {
    let finite = |distances: &Vec<f64>| distances.iter().filter(|distance| distance.is_finite()).sum();
    for objectives in [2, 3, 4] {
        for (kind, points) in [("cloud", cloud(SORTED, objectives)), ("front", front(SORTED, objectives))] {
            let of = format!("{SORTED} points of a {kind}, {objectives} objectives");
            let points = black_box(&points);
            report(
                &format!("sort {of}"),
                100,
                |sorted: &Fronts| sorted.fronts().len() as f64,
                || non_dominated_sort(points),
            );
            let sorted = non_dominated_sort(points);
            report(&format!("crowding of {of}"), 100, finite, || crowding(points, &sorted));
            let both = || crowding(points, &non_dominated_sort(points));
            report(&format!("sort and crowding of {of}"), 100, finite, both);
        }
    }
    for objectives in [2, 3, 4] {
        let (points, reference) = (front(FRONT, objectives), vec![1.1; objectives]);
        let name = format!("hypervolume of a front of {FRONT}, {objectives} objectives");
        report(&name, 1000, |&volume| volume, || hypervolume(black_box(&points), &reference));
    }
}
