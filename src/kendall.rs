//! Kendall's rank correlation: how well a prediction orders what it predicts.

/// Kendall's τ-b of two equally long slices: 1 when they order alike, −1 when they order oppositely; 0 when either
/// orders nothing. Ties count as in Kendall, "The treatment of ties in ranking problems" (1945), and as in
/// `scipy.stats.kendalltau`; without ties it is τ-a.
///
/// ```
/// assert_eq!(criadero::kendall::kendall_tau(&[1.0, 2.0, 3.0], &[10.0, 30.0, 20.0]), 1.0 / 3.0);
/// ```
pub fn kendall_tau(a: &[f64], b: &[f64]) -> f64 {
    let sign = |difference: f64| if difference == 0.0 { 0.0 } else { difference.signum() };
    let (mut agree, mut in_a, mut in_b) = (0.0, 0.0, 0.0);
    let pairs = a.iter().zip(b).enumerate();
    for (place, (a_one, b_one)) in pairs {
        for (a_other, b_other) in a[..place].iter().zip(b) {
            let (order_a, order_b) = (sign(a_one - a_other), sign(b_one - b_other));
            agree += order_a * order_b;
            in_a += order_a.abs();
            in_b += order_b.abs();
        }
    }
    let pairs = f64::sqrt(in_a * in_b);
    if pairs > 0.0 { agree / pairs } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_pairs_in_order() {
        assert_eq!(kendall_tau(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 4.0]), 1.0);
        assert_eq!(kendall_tau(&[1.0, 2.0, 3.0, 4.0], &[8.0, 7.0, 6.0, 5.0]), -1.0);
        // scipy 1.17 stats.kendalltau.
        let tau = kendall_tau(&[1.0, 2.0, 2.0, 3.0, 5.0], &[2.0, 1.0, 3.0, 3.0, 4.0]);
        assert!((tau - 2.0 / 3.0).abs() < 1e-12, "{tau}");
    }

    #[test]
    fn orders_nothing_where_all_are_equal() {
        assert_eq!(kendall_tau(&[1.0, 1.0], &[1.0, 2.0]), 0.0);
        assert_eq!(kendall_tau(&[1.0], &[1.0]), 0.0);
        assert_eq!(kendall_tau(&[], &[]), 0.0);
    }
}
