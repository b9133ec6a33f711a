//! `criadero plot` through the real binary, on the made-up run of `goldens/report/make_run.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use criadero::run::{Evaluations, Front};

use crate::command::{criadero, fail, fail_with, succeed};

const PICTURES: [&str; 5] = ["front", "throughput", "heatmap", "probabilities", "hypervolume"];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/report/run")
}

/// A copy of the golden run under another name.
fn copy(dir: &Path, name: &str) -> PathBuf {
    let run = dir.join(name);
    fs::create_dir(&run).unwrap();
    for file in ["front.json", "evaluations.csv"] {
        fs::copy(golden().join(file), run.join(file)).unwrap();
    }
    run
}

fn plot(arguments: &[&Path]) -> Command {
    let mut command = criadero(&["plot"]);
    command.args(arguments);
    command
}

#[test]
fn writes_every_picture_and_lists_it() {
    let dir = tempfile::tempdir().unwrap();
    let run = copy(dir.path(), "run");
    let stdout = succeed(plot(&[&run]));
    for picture in PICTURES {
        let (svg, png) = (run.join(format!("plots/{picture}.svg")), run.join(format!("plots/{picture}.png")));
        assert!(stdout.contains(&svg.display().to_string()) && stdout.contains(&png.display().to_string()), "{stdout}");
        assert!(fs::read_to_string(svg).unwrap().starts_with("<svg"));
        let png = png::Decoder::new(std::io::BufReader::new(fs::File::open(png).unwrap())).read_info().unwrap();
        assert_eq!(png.info().width, 1000);
    }
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), PICTURES.len());
    let front = Front::read_json(&run.join("front.json")).unwrap();
    for point in &front.points {
        let first = format!("{} ", point.id);
        assert!(stdout.lines().any(|line| line.trim_start().starts_with(&first)), "row {} in:\n{stdout}", point.id);
    }
}

#[test]
fn overlays_runs_in_another_directory_and_leaves_the_run_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (run, other) = (copy(dir.path(), "nsga2"), copy(dir.path(), "random"));
    let out = dir.path().join("out");
    succeed(plot(&[&run, &other, Path::new("--out"), &out]));
    let svg = fs::read_to_string(out.join("plots/hypervolume.svg")).unwrap();
    assert!(svg.contains("nsga2: 0.") && svg.contains("random: 0."), "both runs are in the legend");
    assert!(out.join("report.html").exists());
    assert_eq!(fs::read_dir(&run).unwrap().count(), 2, "nothing was written beside the run's own files");
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let run = copy(dir.path(), "run");
    let files = ["plots/front.png", "plots/heatmap.svg", "report.html"].map(|file| run.join(file));
    succeed(plot(&[&run]));
    let first = files.clone().map(|file| fs::read(file).unwrap());
    succeed(plot(&[&run]));
    assert_eq!(first, files.map(|file| fs::read(file).unwrap()));
}

#[test]
fn a_run_that_is_not_there_or_not_finished_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let error = fail(plot(&[&dir.path().join("nowhere")]));
    assert!(error.starts_with("error: front.json not found: ") && error.contains("nowhere"), "{error}");
    let run = copy(dir.path(), "run");
    fs::remove_file(run.join("evaluations.csv")).unwrap();
    let error = fail(plot(&[&run]));
    assert!(error.starts_with("error: evaluations.csv not found: "), "{error}");
    fail_with(plot(&[]), 2);
}

#[test]
fn broken_and_empty_runs_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let run = copy(dir.path(), "run");
    let (json, csv) = (run.join("front.json"), run.join("evaluations.csv"));
    let whole = fs::read_to_string(&json).unwrap();
    let mut empty = Front::read_json(&json).unwrap();
    empty.points.clear();
    empty.write_json(&json).unwrap();
    let error = fail(plot(&[&run]));
    assert!(error.contains("front of run: found no points after"), "{error}");

    for (text, expected) in [
        (whole[..whole.len() / 2].to_string(), "not a valid front.json file: EOF"),
        (whole.replacen("\"layers\": 30", "\"layers\": 31", 1), "30 layers, expected 31"),
        (whole.replace("\"chance\": [", "\"chance\": [0.1, 0.2, 0.3,"), "4 tasks, 2 held-out scores"),
    ] {
        assert_ne!(text, whole);
        fs::write(&json, text).unwrap();
        let error = fail(plot(&[&run]));
        assert!(error.contains(expected), "{error}");
    }

    fs::write(&json, &whole).unwrap();
    let mut other = Evaluations::read_csv(&csv).unwrap();
    other.objectives[1] = "macs".into();
    other.write_csv(&csv).unwrap();
    let error = fail(plot(&[&run]));
    assert!(error.contains("objectives choice_nll:arc_easy, macs, expected choice_nll:arc_easy, params"), "{error}");
    assert!(!run.join("plots").exists() && !run.join("report.html").exists());
}
