//! The order of numbers, in linear time for the numbers that searches meet.
//!
//! A radix sort by the leading digits (Knuth, *The Art of Computer Programming* 3, section 5.2.5) of how far
//! each key is from the smallest, then an insertion sort of the little that is left to do. Keys that share
//! their leading digits in great numbers are compared instead, so the worst case is O(N log N).

/// Fewer keys than this are compared.
const FEW: usize = 48;
/// Insertion may move this many entries a key before comparing all is the better way.
const MOVES: usize = 8;

/// A number's place among all numbers: keys compare as `f64::total_cmp` does, with one sign for 0.
pub(super) fn key(value: f64) -> u64 {
    let bits = (value + 0.0).to_bits();
    bits ^ ((bits as i64 >> 63) as u64 | 1 << 63)
}

/// The value of a [`key`].
pub(super) fn value(key: u64) -> f64 {
    f64::from_bits(key ^ ((!key as i64 >> 63) as u64 | 1 << 63))
}

/// The indices of `keys` by ascending key; equal keys stay in their order.
pub(super) fn ascending(keys: &[u64]) -> Vec<u32> {
    assert!(u32::try_from(keys.len()).is_ok(), "at most 2^32 points are sorted");
    if keys.len() < FEW {
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_by_key(|&index| keys[index as usize]);
        return order;
    }
    let (least, most) = keys.iter().fold((u64::MAX, 0), |(least, most), &key| (key.min(least), key.max(most)));
    // An entry is the leading 32 bits of the distance from the smallest key, then the index.
    let width = 64 - (most - least).leading_zeros();
    let cut = width.saturating_sub(32);
    let entry = |(index, &key): (usize, &u64)| ((key - least) >> cut) << 32 | index as u64;
    let mut entries: Vec<u64> = keys.iter().enumerate().map(entry).collect();
    let sorted_bits = if keys.len() < 1024 {
        by_two_digits::<256>(&mut entries, width.min(32))
    } else {
        by_two_digits::<2048>(&mut entries, width.min(32))
    };
    if sorted_bits < width.min(32) {
        insert_the_rest(&mut entries);
    }
    if cut > 0 && entries.windows(2).any(|pair| (pair[0] ^ pair[1]) >> 32 == 0) {
        for ties in entries.chunk_by_mut(|a, b| a >> 32 == b >> 32) {
            ties.sort_unstable_by_key(|&entry| (keys[entry as u32 as usize], entry));
        }
    }
    entries.into_iter().map(|entry| entry as u32).collect()
}

/// Sorts numbers of `width` bits, which begin at bit 32, by their two leading digits of `VALUES` values, the rest
/// staying in order: two passes of counting. Returns how many bits are in order.
fn by_two_digits<const VALUES: usize>(entries: &mut Vec<u64>, width: u32) -> u32 {
    let digit = VALUES.ilog2();
    let low = 32 + width.saturating_sub(2 * digit);
    let value = |entry: u64, low: u32| (entry >> low) as usize % VALUES;
    let (mut first, mut second) = ([0u32; VALUES], [0u32; VALUES]);
    for &entry in entries.iter() {
        first[value(entry, low)] += 1;
        second[value(entry, low + digit)] += 1;
    }
    let mut moved = vec![0; entries.len()];
    for (low, places) in [(low, &mut first), (low + digit, &mut second)] {
        let mut start = 0;
        for place in places.iter_mut() {
            start += std::mem::replace(place, start);
        }
        for &entry in entries.iter() {
            let place = &mut places[value(entry, low)];
            moved[*place as usize] = entry;
            *place += 1;
        }
        std::mem::swap(entries, &mut moved);
    }
    width.min(2 * digit)
}

/// Insertion sort, which is quick on what is nearly sorted; all is compared when it is not.
fn insert_the_rest(entries: &mut [u64]) {
    let mut moves_left = MOVES * entries.len();
    for next in 1..entries.len() {
        let entry = entries[next];
        let mut place = next;
        while place > 0 && entries[place - 1] > entry {
            entries[place] = entries[place - 1];
            place -= 1;
        }
        entries[place] = entry;
        match moves_left.checked_sub(next - place) {
            Some(left) => moves_left = left,
            None => return entries.sort_unstable(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Vec<f64>> {
        let mixed = prop_oneof![
            8 => -1.0..1.0f64,
            4 => (-3..4i32).prop_map(f64::from),
            2 => any::<f64>(),
            1 => prop::sample::select(vec![f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0]),
        ];
        // Numbers a few steps of the last bit apart, which share all their leading digits.
        let close = (0..2000u64).prop_map(|step| f64::from_bits(1.0f64.to_bits() + step));
        let outlier = prop_oneof![30 => close.clone(), 1 => any::<f64>()];
        prop_oneof![
            prop::collection::vec(mixed, 0..3000),
            prop::collection::vec(close, 0..3000),
            prop::collection::vec(outlier, 0..3000)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn is_the_stable_order_of_total_cmp(values in values()) {
            let keys: Vec<u64> = values.iter().copied().map(key).collect();
            let mut expected: Vec<u32> = (0..values.len() as u32).collect();
            expected.sort_by(|&a, &b| (values[a as usize] + 0.0).total_cmp(&(values[b as usize] + 0.0)));
            prop_assert_eq!(ascending(&keys), expected);
        }
    }

    #[test]
    fn keys_turn_back_into_values() {
        for number in [0.0, 1.5, -1.5, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE] {
            assert_eq!(value(key(number)), number);
        }
        assert_eq!(key(-0.0), key(0.0));
        assert!(value(key(f64::NAN)).is_nan());
    }
}
