//! Numbers as people read them: `134.5M`, `269.0 MB`, `+0.012`, `72.9%`.

/// Decimal prefixes from large to small.
const PREFIXES: [(f64, &str); 4] = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")];

/// A count with four significant digits: `134.5M`, `6.738B`, `960`.
pub fn count(value: f64) -> String {
    let (scaled, prefix) = prefixed(value);
    if prefix.is_empty() && value.fract() == 0.0 {
        return format!("{value}");
    }
    format!("{}{prefix}", significant(scaled, 4))
}

/// A count as an axis writes it, without zeros that say nothing: `80M`, `82.5M`.
pub fn tick(value: f64) -> String {
    let (scaled, prefix) = prefixed(value);
    let digits = significant(scaled, 4);
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { &digits };
    format!("{digits}{prefix}")
}

/// Bytes in decimal units: `269.0 MB`, `13.48 GB`.
pub fn bytes(value: f64) -> String {
    match prefixed(value) {
        (_, "") => format!("{value} B"),
        (scaled, prefix) => {
            let prefix = if prefix == "B" { "G" } else { prefix };
            format!("{} {prefix}B", significant(scaled, 4))
        }
    }
}

/// Bytes as an axis writes them: `60 MB`, `62.5 MB`.
pub fn bytes_tick(value: f64) -> String {
    match prefixed(value) {
        (_, "") => format!("{value} B"),
        (scaled, prefix) => format!("{} {}B", tick(scaled), if prefix == "B" { "G" } else { prefix }),
    }
}

/// A whole number with its thousands set apart: `1,234`.
pub fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 { format!("-{text}") } else { text }
}

/// A part of a whole: `72.9%`.
pub fn percent(ratio: f64) -> String {
    format!("{:.1}%", 100.0 * ratio)
}

/// A score and its standard error: `0.453 ± 0.029`.
pub fn with_error(value: f64, stderr: f64) -> String {
    format!("{value:.3} ± {stderr:.3}")
}

/// A difference and its standard error, with its sign: `-0.031 ± 0.012`.
pub fn signed_with_error(delta: f64, stderr: f64) -> String {
    format!("{delta:+.3} ± {stderr:.3}")
}

/// An objective's value in its unit.
pub fn measured(value: f64, unit: &str) -> String {
    match unit {
        "bytes" | "bytes per token" => bytes(value),
        _ if value.abs() >= 10_000.0 => count(value),
        _ if value.abs() >= 10.0 && value.fract() == 0.0 => format!("{value}"),
        _ => significant(value, 4),
    }
}

fn prefixed(value: f64) -> (f64, &'static str) {
    // 999,960 is written 1.000M, not 1000k.
    let found = PREFIXES.into_iter().find(|(size, _)| value.abs() >= size * 0.99995);
    found.map_or((value, ""), |(size, prefix)| (value / size, prefix))
}

fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    // Half a unit of the last digit is added first: 0.99997 has as many digits as the 1.000 that it rounds to.
    let rounded_up = value.abs() * (1.0 + 0.5 * 10f64.powi(-(digits as i32)));
    let before_point = rounded_up.log10().floor() as i32 + 1;
    let decimals = (digits as i32 - before_point).clamp(0, 12) as usize;
    format!("{value:.decimals$}")
}

/// So many decimals, and no minus in front of zero.
pub fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(zero) if zero.chars().all(|c| matches!(c, '0' | '.')) => zero.to_string(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_sizes_as_people_do() {
        assert_eq!(
            [134_515_008.0, 6_738_415_616.0, 960.0, 0.0, 999_970.0].map(count),
            ["134.5M", "6.738B", "960", "0", "1.000M"]
        );
        assert_eq!([80e6, 82.5e6, 4.5e9, 1500.0, 0.25].map(tick), ["80M", "82.5M", "4.5B", "1.5k", "0.25"]);
        assert_eq!([269_030_016.0, 13_476_831_232.0, 12.0].map(bytes), ["269.0 MB", "13.48 GB", "12 B"]);
        assert_eq!([60e6, 62.5e6, 4.5e9, 12.0].map(bytes_tick), ["60 MB", "62.5 MB", "4.5 GB", "12 B"]);
        assert_eq!(
            [0.0, 999.0, 1234.4, 1_234_567.0, -1000.0, -0.2].map(thousands),
            ["0", "999", "1,234", "1,234,567", "-1,000", "0"]
        );
    }

    #[test]
    fn keeps_signs_and_errors_together() {
        assert_eq!(with_error(0.45333, 0.0287), "0.453 ± 0.029");
        assert_eq!(signed_with_error(0.0, 0.0), "+0.000 ± 0.000");
        assert_eq!(signed_with_error(-0.0314, 0.0119), "-0.031 ± 0.012");
        assert_eq!(percent(0.7291), "72.9%");
    }

    #[test]
    fn writes_objectives_in_their_unit() {
        assert_eq!(measured(269_030_016.0, "bytes"), "269.0 MB");
        assert_eq!(measured(134_515_008.0, ""), "134.5M");
        assert_eq!(measured(1.23456, "nats per item"), "1.235");
        assert_eq!(measured(812.0, "tokens per second"), "812");
        assert_eq!(measured(0.0000123461, ""), "0.00001235");
    }

    #[test]
    fn zero_has_no_sign() {
        let cases = [(-0.001, 2), (-1e-17, 0), (-0.05, 2), (0.25, 1)];
        assert_eq!(cases.map(|(value, decimals)| fixed(value, decimals)), ["0.00", "0", "-0.05", "0.2"]);
    }
}
