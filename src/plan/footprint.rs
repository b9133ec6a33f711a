//! Bytes by what they are for, at the moment when most are in use.

use serde::Serialize;

/// One purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// What the bytes hold, such as `weights`.
    pub name: &'static str,
    /// How many.
    pub bytes: u64,
}

/// What a piece of work needs at its peak.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// By purpose, none of them empty.
    pub parts: Vec<Part>,
}

impl Footprint {
    /// Parts by name; empty ones are left out.
    pub fn new<const N: usize>(parts: [(&'static str, u64); N]) -> Footprint {
        let parts = parts.into_iter().filter(|&(_, bytes)| bytes > 0);
        Footprint { parts: parts.map(|(name, bytes)| Part { name, bytes }).collect() }
    }

    /// All parts together, bytes.
    pub fn peak(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// The largest number from 1 on whose footprint is at most `budget` bytes, where footprints grow with the number; 0 where
/// none fits, at most `most`.
pub fn largest_that_fits(budget: u64, most: usize, footprint: impl Fn(usize) -> Footprint) -> usize {
    let fits = |count: usize| footprint(count).peak() <= budget;
    let (mut fitting, mut beyond) = (0, most + 1);
    while beyond - fitting > 1 {
        let middle = fitting + (beyond - fitting) / 2;
        if fits(middle) { fitting = middle } else { beyond = middle }
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_largest_batch() {
        let footprint = |count: usize| Footprint::new([("weights", 100), ("activations", 7 * count as u64)]);
        assert_eq!(largest_that_fits(135, 1000, footprint), 5);
        assert_eq!(largest_that_fits(134, 1000, footprint), 4);
        assert_eq!(largest_that_fits(106, 1000, footprint), 0);
        assert_eq!(largest_that_fits(u64::MAX, 1000, footprint), 1000);
    }

    #[test]
    fn leaves_out_what_is_empty() {
        let footprint = Footprint::new([("weights", 3), ("caches", 0), ("logits", 4)]);
        assert_eq!(footprint.parts.len(), 2);
        assert_eq!(footprint.peak(), 7);
    }
}
