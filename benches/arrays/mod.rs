//! The arrays that the search engine is timed on. `scripts/bench/pymoo_engine.py` makes the same ones.

/// Points to sort.
pub const SORTED: usize = 10_000;
/// Points of a front to measure.
pub const FRONT: usize = 500;

/// SplitMix64 (Steele et al. 2014), the upper 53 bits as a number in 0..1.
fn uniform(seed: u64, place: u64) -> f64 {
    let mut bits = seed.wrapping_add((place + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Points anywhere in the unit cube.
pub fn cloud(count: usize, objectives: usize) -> Vec<Vec<f64>> {
    let place = |point: usize, objective: usize| (point * objectives + objective) as u64;
    let point = |point| (0..objectives).map(|objective| uniform(objectives as u64, place(point, objective))).collect();
    (0..count).map(point).collect()
}

/// Points on the unit sphere, none of which dominates another.
pub fn front(count: usize, objectives: usize) -> Vec<Vec<f64>> {
    let mut points = cloud(count, objectives);
    for point in &mut points {
        let length = point.iter().map(|value| value * value).sum::<f64>().sqrt();
        point.iter_mut().for_each(|value| *value /= length);
    }
    points
}
