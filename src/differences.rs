//! In which settings two runs differ, for whoever is about to mix them up.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

/// Characters of a value that are shown.
const SHOWN: usize = 100;

/// One line a leaf in which two pieces of plain data differ: what is `there` and what is `here`.
///
/// # Panics
/// When one of them has no JSON form.
pub fn differences<T: Serialize>(there: &T, here: &T) -> Vec<String> {
    let json = |value: &T| serde_json::to_value(value).expect("settings are plain data");
    let mut lines = Vec::new();
    compare("", &json(there), &json(here), &mut lines);
    lines
}

fn compare(name: &str, there: &Value, here: &Value, lines: &mut Vec<String>) {
    match (there, here) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                compare(&path, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), lines);
            }
        }
        (a, b) if a != b => lines.push(format!("{name} is {} there, {} here", short(a), short(b))),
        _ => {}
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > SHOWN { text.chars().take(SHOWN - 3).chain("...".chars()).collect() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_the_leaves() {
        let there = json!({ "seed": 1, "space": { "depth": [2], "name": "a" }, "same": true });
        let here = json!({ "seed": 2, "space": { "depth": [2, 4], "name": "a" }, "same": true, "new": null });
        assert_eq!(differences(&there, &here), ["seed is 1 there, 2 here", "space.depth is [2] there, [2,4] here"]);
        assert!(differences(&there, &there).is_empty());
        let long = differences(&json!({ "x": "y".repeat(200) }), &json!({ "x": 1 }));
        assert!(long[0].contains("...") && long[0].len() < 140, "{long:?}");
    }
}
