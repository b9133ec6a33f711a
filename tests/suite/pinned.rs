//! Searches whose results are known: what they find must not change by itself.
//!
//! `tests/goldens/pinned/make.sh` made the files, and says with which version.

use std::fs;
use std::path::{Path, PathBuf};

use criadero::run::{Evaluations, Front, RunSettings};

use crate::command::{criadero, fail, succeed};
use crate::goldens::{GOLDENS, TINY};

fn pinned(name: &str) -> PathBuf {
    Path::new(GOLDENS).join("pinned").join(name)
}

fn read(dir: &Path, name: &str) -> String {
    let path = dir.join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The arguments that `make.sh` gave, all but the binary and the directory of the result.
fn arguments(name: &str) -> Vec<String> {
    read(&pinned(name), "arguments.txt").split_whitespace().map(String::from).collect()
}

fn search(name: &str, out: &Path) {
    let mut command = criadero(&[]);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments(name)).arg("--out").arg(out);
    succeed(command);
}

#[test]
fn mock_searches_find_the_same_to_the_byte() {
    for name in ["mock-nsga2", "mock-linas", "mock-random"] {
        let dir = tempfile::tempdir().unwrap();
        search(name, dir.path());
        for file in ["evaluations.csv", "front.csv"] {
            assert_eq!(read(dir.path(), file), read(&pinned(name), file), "{name}/{file}");
        }
    }
}

/// Scores of libtorch differ in their last bits between kinds of CPU; float32 sums of a few hundred terms agree to this.
const TOLERANCE: f64 = 1e-4;

fn close(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= TOLERANCE * expected.abs().max(1.0)
}

#[test]
fn a_search_on_the_tiny_model_finds_the_same_front() {
    let dir = tempfile::tempdir().unwrap();
    search("tiny", dir.path());
    let of = |dir: &Path| Evaluations::read_csv(&dir.join("evaluations.csv")).unwrap();
    let (found, expected) = (of(dir.path()), of(&pinned("tiny")));
    assert_eq!((&found.objectives, &found.tasks), (&expected.objectives, &expected.tasks));
    assert_eq!(found.rows.len(), expected.rows.len());
    for (found, expected) in found.rows.iter().zip(&expected.rows) {
        let exact = |row: &criadero::run::Evaluation| (row.id, row.population, row.items, row.failed.clone());
        assert_eq!((exact(found), &found.genome), (exact(expected), &expected.genome));
        let pairs = found.objectives.iter().zip(&expected.objectives);
        assert!(pairs.clone().all(|(a, b)| close(*a, *b)), "{}: {:?}", found.genome, pairs.collect::<Vec<_>>());
    }
    let cells = |line: &str| line.split(',').map(String::from).collect();
    let front = |dir: &Path| -> Vec<Vec<String>> { read(dir, "front.csv").lines().map(cells).collect() };
    let (found, expected) = (front(dir.path()), front(&pinned("tiny")));
    let columns = expected[0].clone();
    assert_eq!((found.len(), &found[0]), (expected.len(), &expected[0]));
    for (found, expected) in found[1..].iter().zip(&expected[1..]) {
        for ((found, expected), column) in found.iter().zip(expected).zip(&columns) {
            let same = match (found.parse::<f64>(), expected.parse::<f64>()) {
                (Ok(a), Ok(b)) => close(a, b),
                _ => found == expected,
            };
            assert!(same, "{column}: {found}, expected {expected}");
        }
    }
}

/// A run directory as an older version left it: of `results/example` in the project's history, on a mock.
fn older_run(dir: &Path, format: u32) {
    let out = dir.display().to_string();
    let mut search = criadero(&["search", "tiny", "--model", TINY, "--evaluator", "mock", "--evals", "24"]);
    search.args(["--population", "8", "--objective", "choice_nll:arc_easy", "--objective", "params", "--out", &out]);
    succeed(search);
    let path = dir.join("run.json");
    let mut run: serde_json::Value = serde_json::from_str(&read(dir, "run.json")).unwrap();
    run["format"] = format.into();
    run.as_object_mut().unwrap().remove("seal").expect("a run is sealed");
    if format < 3 {
        // Before tables had phases.
        run["frozen"]["throughput"] =
            serde_json::json!({ "options": {}, "device": "cpu", "constant_ms": 1.0, "heads_ms": {}, "mlp_ms": {} });
    }
    if format < 2 {
        run.as_object_mut().unwrap().remove("racing");
    }
    fs::write(path, serde_json::to_string_pretty(&run).unwrap()).unwrap();
}

#[test]
fn runs_of_older_versions_are_read_or_refused_with_what_to_do() {
    for format in [1, 2, 3] {
        let dir = tempfile::tempdir().unwrap();
        older_run(dir.path(), format);
        let settings = RunSettings::read(dir.path()).unwrap().unwrap();
        assert_eq!((settings.format, settings.frozen.throughput.is_none()), (format, true));
        let out = dir.path().display().to_string();
        succeed(criadero(&["plot", &out]));
        let front = Front::read_json(&dir.path().join("front.json")).unwrap();
        assert!(!front.points.is_empty());
        let mut resumed = criadero(&["search", "tiny", "--model", TINY, "--evaluator", "mock", "--evals", "24"]);
        resumed.args([
            "--population",
            "8",
            "--objective",
            "choice_nll:arc_easy",
            "--objective",
            "params",
            "--out",
            &out,
        ]);
        if format == RunSettings::FORMAT {
            succeed(resumed);
        } else {
            let error = fail(resumed);
            let expected = format!("format is {format} there, {} here", RunSettings::FORMAT);
            assert!(error.contains(&expected) && error.contains("give another --out"), "{error}");
        }
    }
    // A version to come.
    let dir = tempfile::tempdir().unwrap();
    older_run(dir.path(), RunSettings::FORMAT + 1);
    let error = fail(criadero(&[
        "export",
        &dir.path().display().to_string(),
        "--pick",
        "knee",
        "--format",
        "gguf",
        "--out",
        "x",
    ]));
    assert!(error.contains("run.json") && error.contains("a newer criadero"), "{error}");
}
