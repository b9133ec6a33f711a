//! Times as people write and read them.

/// Seconds of `90s`, `20m`, `1.5h` or `1d`.
pub fn parse(text: &str) -> Result<f64, String> {
    let units = [('s', 1.0), ('m', 60.0), ('h', 3600.0), ('d', 86_400.0)];
    let unit = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, *seconds)));
    let seconds = unit.and_then(|(number, unit)| Some(number.parse::<f64>().ok()? * unit));
    let expected = "expected a time such as `90s`, `20m`, `2h` or `1d`";
    seconds.filter(|seconds| seconds.is_finite() && *seconds > 0.0).ok_or_else(|| expected.to_string())
}

/// Seconds as an estimate is said: `40 s`, `12 min`, `2.5 h`.
pub fn said(seconds: f64) -> String {
    match seconds {
        ..1.0 => "1 s".to_string(),
        ..90.0 => format!("{seconds:.0} s"),
        ..5400.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_said() {
        assert_eq!(["90s", "20m", "1.5h", "1d"].map(|text| parse(text).unwrap()), [90.0, 1200.0, 5400.0, 86_400.0]);
        for text in ["", "2", "h", "-1h", "0s", "infs", "2 hours"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!([0.2, 40.4, 90.0, 5000.0, 9000.0].map(said), ["1 s", "40 s", "2 min", "83 min", "2.5 h"]);
    }
}
