//! What a front is worth: the held-out score of the network that is had for a budget, the mean over budgets.
//!
//! Which network that is was decided by search scores. So no maximum is taken over held-out scores and their noise, and a front of more
//! points is not worth more for that alone, as its hypervolume is.

use std::ops::Range;

use crate::eval::Contribution;

/// A network of a front on one task.
pub(super) struct Offer {
    pub size: u64,
    /// How bad the search found it.
    pub loss: f64,
    /// What its held-out items contribute.
    pub contributions: Vec<Contribution>,
}

/// What items contribute to the mean over `budgets`; `offers` ascend by size and are as many items each, `guess` is the score of guessing.
/// Items weigh the same in all networks, so that the mean of the scores is the score of these contributions.
pub(super) fn mean_contributions(offers: &[Offer], budgets: Range<u64>, guess: f64) -> Vec<Contribution> {
    let items = offers.first().map_or(&[][..], |offer| &offer.contributions);
    let mut mean: Vec<Contribution> = items.iter().map(|one| Contribution { value: 0.0, weight: one.weight }).collect();
    let width = budgets.end.saturating_sub(budgets.start).max(1) as f64;
    let mut best: Option<&Offer> = None;
    let mut from = budgets.start;
    for next in offers.iter().map(Some).chain([None]) {
        let to = next.map_or(budgets.end, |offer| offer.size.clamp(budgets.start, budgets.end));
        let share = to.saturating_sub(from) as f64 / width;
        for (item, sum) in mean.iter_mut().enumerate() {
            sum.value += share * best.map_or(guess * sum.weight, |offer| offer.contributions[item].value);
        }
        from = from.max(to);
        // Of equals the larger one: a run whose objectives score no task has nothing else to choose by.
        best = next.filter(|offer| best.is_none_or(|best| offer.loss <= best.loss)).or(best);
    }
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(size: u64, loss: f64, values: [f64; 2]) -> Offer {
        let contributions = values.map(|value| Contribution { value, weight: 1.0 }).to_vec();
        Offer { size, loss, contributions }
    }

    fn values(offers: &[Offer], budgets: Range<u64>) -> Vec<f64> {
        mean_contributions(offers, budgets, 0.25).iter().map(|one| one.value).collect()
    }

    #[test]
    fn each_budget_has_the_network_that_the_search_found_best_within_it() {
        // A tenth of the budgets has none, four tenths the first, three the second, two the third.
        let offers = [offer(60, 3.0, [0.0, 1.0]), offer(100, 2.0, [1.0, 0.0]), offer(130, 1.0, [1.0, 1.0])];
        let expected = [0.1 * 0.25 + 0.3 + 0.2, 0.1 * 0.25 + 0.4 + 0.2];
        let found = values(&offers, 50..150);
        assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12), "{found:?}");
    }

    #[test]
    fn a_network_that_the_search_found_worse_changes_nothing_however_lucky_it_is() {
        let offers = || vec![offer(50, 3.0, [0.0, 1.0]), offer(100, 1.0, [1.0, 0.0])];
        let mut more = offers();
        more.push(offer(120, 2.0, [1.0, 1.0]));
        assert_eq!(values(&more, 50..150), values(&offers(), 50..150));
    }

    #[test]
    fn sizes_outside_of_the_budgets_are_cut() {
        let offers = [offer(10, 2.0, [0.0, 0.0]), offer(50, 1.0, [1.0, 0.0]), offer(200, 0.5, [1.0, 1.0])];
        assert_eq!(values(&offers, 50..150), [1.0, 0.0]);
        assert_eq!(values(&offers[2..], 50..150), [0.25, 0.25]);
        assert_eq!(values(&[], 50..150), [0.0; 0]);
    }
}
