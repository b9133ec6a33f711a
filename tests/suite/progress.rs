//! What long work says of itself: one bar for all of it on a terminal, and results beside it that stay whole.

use std::fs;

use crate::command::criadero;
use crate::goldens::TINY;
use crate::terminal::{on_a_terminal, screen};

#[test]
fn a_search_has_one_bar_of_networks_with_a_label_from_the_first_frame_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut search = criadero(&["search", "tiny", "--objective", "choice_nll:arc_easy", "--objective", "params"]);
    search
        .args(["--evals", "40", "--population", "10", "--limit", "64", "--evaluator", "mock:10", "--out"])
        .arg(dir.path());
    let written = on_a_terminal(search);
    assert!(written.status.success(), "{}", written.text);
    let frames: Vec<String> = written.text.split('\r').flat_map(screen).filter(|frame| !frame.is_empty()).collect();
    assert!(frames[0].starts_with("searching ") && frames[0].contains(" 0 of 40 networks"), "{}", frames[0]);
    let bars: Vec<&String> = frames.iter().filter(|frame| frame.contains('░') || frame.contains('█')).collect();
    assert!(bars.len() > 10, "{frames:?}");
    for bar in &bars {
        let label = bar.starts_with("searching ") || bar.starts_with("measuring the front ");
        assert!(label && bar.contains(" networks") && !bar.contains("chunk"), "{bar}");
        assert!(bar.chars().count() <= 80, "{bar}");
    }
    assert!(bars.iter().any(|bar| bar.contains(" of 40 networks, about ") && bar.contains(" left, ")), "{bars:?}");
    assert!(bars.iter().any(|bar| bar.starts_with("measuring the front ")), "{bars:?}");
    let counts = bars.iter().filter(|bar| bar.starts_with("searching "));
    let counts: Vec<usize> =
        counts.filter_map(|bar| bar.split(" of 40 ").next()?.rsplit(' ').next()?.parse().ok()).collect();
    assert!(counts.is_sorted() && counts.iter().any(|count| count % 10 != 0), "networks under way count: {counts:?}");
    let left = screen(&written.text);
    assert!(!left.iter().any(|line| line.contains("searching")), "the bar is taken away: {left:?}");
}

#[test]
fn scores_of_a_task_stand_above_the_bar_of_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let task = |name: &str| {
        let path = dir.path().join(format!("{name}.jsonl"));
        let row =
            |n: usize| format!("{{\"context\": \"{name} {n} and\", \"choices\": [\"one\", \"two\"], \"gold\": 0}}\n");
        fs::write(&path, (0..24).map(row).collect::<String>()).unwrap();
        path.display().to_string()
    };
    let (first, second) = (task("first"), task("second"));
    let eval = || criadero(&["eval", TINY, "--task", &first, "--task", &second, "--chunk-tokens", "64"]);
    let written = on_a_terminal(eval());
    assert!(written.status.success(), "{}", written.text);
    assert!(written.text.contains("scoring first") && written.text.contains(" of 48 questions"), "{}", written.text);
    let plain = String::from_utf8(eval().output().unwrap().stdout).unwrap();
    // Times differ.
    let lines = |text: &str| {
        let lines = text.lines().filter(|line| !line.contains("packed tokens") && !line.is_empty());
        lines.map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(lines(&screen(&written.text).join("\n")), lines(&plain));
}
