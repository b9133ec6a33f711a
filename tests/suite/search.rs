//! Searches through the real binary with the mock evaluator: what they write, how they resume, what they refuse.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::command::{criadero, fail_with, said, succeed};
use crate::damage::edit;

const EVALS: usize = 60;

fn search(out: &Path, extra: &[&str]) -> Command {
    let mut command = criadero(&[]);
    command.args(["search", "tiny", "--objective", "choice_nll:arc_easy", "--objective", "params"]);
    command.args(["--evals", &EVALS.to_string(), "--population", "12", "--seed", "3", "--limit", "64"]);
    command.args(["--evaluator", "mock", "--algorithm", "nsga2"]).args(["--out", out.to_str().unwrap()]).args(extra);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The two files that must repeat byte for byte.
fn results(dir: &Path) -> (String, String) {
    let read = |name| fs::read_to_string(dir.join(name)).unwrap();
    (read("evaluations.csv"), read("front.csv"))
}

#[test]
fn finds_a_front_and_writes_everything() {
    let dir = tempfile::tempdir().unwrap();
    let stdout = succeed(search(dir.path(), &[]));
    let (evaluations, front) = results(dir.path());
    assert_eq!(evaluations.lines().count(), EVALS + 1);
    assert!(evaluations.starts_with("id,population,genome,items,choice_nll:arc_easy,params,violation,"));
    assert!(front.lines().count() > 5, "{front}");
    let header = front.lines().next().unwrap();
    for column in
        ["held_out:accuracy:arc_easy", "held_out:accuracy:arc_easy_stderr", "held_out:accuracy:arc_easy_delta"]
    {
        assert!(header.contains(column), "{header}");
    }
    for name in ["run.json", "chunks.log", "state.json", "front.json", "timings.csv"] {
        assert!(dir.path().join(name).is_file(), "{name}");
    }
    let front: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(dir.path().join("front.json")).unwrap()).unwrap();
    let over = &front["over_budgets"];
    let value = over["scores"][0]["value"].as_f64().unwrap();
    assert!(
        stdout.contains(&format!("accuracy:arc_easy over all budgets from 42.3% to 100% of the parent: {value:.3} ± ")),
        "{stdout}"
    );
    // Once more by hand: points ascend in size and descend in the loss that was searched, so the largest within a budget is the best.
    let (from, to) = (over["from"].as_f64().unwrap(), over["to"].as_f64().unwrap());
    let points = front["points"].as_array().unwrap();
    let size = |point: &serde_json::Value| point["values"]["params"].as_f64().unwrap();
    let mut sum = 0.25 * (size(&points[0]) - from);
    for (place, point) in points.iter().enumerate() {
        let until = points.get(place + 1).map_or(to, size);
        sum += point["held_out"][0]["value"].as_f64().unwrap() * (until - size(point));
    }
    assert!((sum / (to - from) - value).abs() < 1e-9, "{} or {value}", sum / (to - from));
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    succeed(search(dirs[0].path(), &[]));
    succeed(search(dirs[1].path(), &[]));
    succeed(search(dirs[2].path(), &["--algorithm", "random"]));
    assert_eq!(results(dirs[0].path()), results(dirs[1].path()));
    assert_ne!(results(dirs[0].path()), results(dirs[2].path()));
}

#[test]
fn nothing_is_exported_from_a_run_without_a_model() {
    let dir = tempfile::tempdir().unwrap();
    succeed(search(dir.path(), &[]));
    let mut export = criadero(&["export"]);
    export.arg(dir.path()).args(["--pick", "knee", "--format", "hf", "--out"]).arg(dir.path().join("out"));
    let error = fail_with(export, 1);
    assert!(error.contains("which has no model, expected a search on a model"), "{error}");
}

/// Random search asks for the same networks whatever it is told, so the fronts can be compared.
#[test]
fn racing_drops_only_networks_that_are_not_on_the_front() {
    let (raced, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    succeed(search(raced.path(), &["--algorithm", "random", "--limit", "128"]));
    succeed(search(whole.path(), &["--algorithm", "random", "--limit", "128", "--no-racing"]));
    assert_eq!(results(raced.path()).1, results(whole.path()).1);
    let scores = |dir: &Path| fs::read_to_string(dir.join("chunks.log")).unwrap().lines().count();
    assert!(scores(raced.path()) < scores(whole.path()), "something was saved");

    let items = column(raced.path(), "evaluations.csv", "items");
    assert!(column(whole.path(), "evaluations.csv", "items").iter().all(|items| items == "128"));
    let number = |name: &str| -> Vec<f64> {
        column(raced.path(), "evaluations.csv", name).iter().map(|value| value.parse().unwrap()).collect()
    };
    let (nll, params) = (number("choice_nll:arc_easy"), number("params"));
    let dropped: Vec<usize> = (0..EVALS).filter(|&row| items[row] != "128").collect();
    assert!(!dropped.is_empty());
    for row in dropped {
        assert!(["32", "64"].contains(&items[row].as_str()), "with fewer items nothing is dropped: {}", items[row]);
        let beaten =
            (0..EVALS).any(|rival| items[rival] == "128" && params[rival] <= params[row] && nll[rival] < nll[row]);
        assert!(beaten, "row {row} stays dominated by a network that was scored to the end");
    }
}

#[test]
fn resumes_after_five_kills_with_the_same_bytes() {
    let whole = tempfile::tempdir().unwrap();
    succeed(search(whole.path(), &["--evaluator", "mock:2"]));
    let torn = tempfile::tempdir().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let scored = || fs::read_to_string(torn.path().join("chunks.log")).map_or(0, |log| log.lines().count());
    for kill in 0..5 {
        let before = scored();
        let more = rng.random_range(5..25);
        let mut child = search(torn.path(), &["--evaluator", "mock:2"]).spawn().unwrap();
        while scored() < before + more {
            assert!(child.try_wait().unwrap().is_none(), "kill {kill} came after the end");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(scored() + 1 >= before + more, "kill {kill} lost more than a torn line");
    }
    assert!(!torn.path().join("front.csv").exists(), "the kills came before the end");
    let (_, notes) = said(search(torn.path(), &["--evaluator", "mock:2"]));
    assert!(notes.contains("resuming"));
    assert_eq!(results(torn.path()), results(whole.path()));
}

#[test]
fn stops_on_ctrl_c_and_resumes_with_the_same_bytes() {
    let whole = tempfile::tempdir().unwrap();
    succeed(search(whole.path(), &[]));
    let stopped = tempfile::tempdir().unwrap();
    let child = search(stopped.path(), &["--evaluator", "mock:20"]).spawn().unwrap();
    while fs::metadata(stopped.path().join("chunks.log")).map_or(0, |log| log.len()) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("the same command again resumes"), "{stderr}");
    succeed(search(stopped.path(), &[]));
    assert_eq!(results(stopped.path()), results(whole.path()));
}

#[test]
fn replays_the_journal_when_the_state_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    succeed(search(dir.path(), &[]));
    let before = results(dir.path());
    let log = fs::read(dir.path().join("chunks.log")).unwrap();
    for name in ["state.json", "evaluations.csv", "front.csv"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    succeed(search(dir.path(), &[]));
    assert_eq!(results(dir.path()), before);
    assert_eq!(fs::read(dir.path().join("chunks.log")).unwrap(), log, "nothing was scored twice");
}

#[test]
fn a_damaged_state_is_replayed_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    succeed(search(dir.path(), &[]));
    let before = results(dir.path());
    let path = dir.path().join("state.json");
    let whole = fs::read(&path).unwrap();
    let (_, notes) = said(search(dir.path(), &[]));
    assert!(!notes.contains("state.json"), "{notes}");
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut flipped = whole.clone();
    flipped[rng.random_range(0..whole.len() / 2)] ^= 1 << rng.random_range(0..8);
    let text = String::from_utf8(whole.clone()).unwrap();
    let (unsealed, _) = text.rsplit_once(",\"seal\":").unwrap();
    // Rows that are listed again, in a state that has no seal.
    let (start, rest) = unsealed.split_once("\"evaluations\":[").unwrap();
    let (rows, end) = rest.split_once("],\"populations\"").unwrap();
    let thrice = format!("{start}\"evaluations\":[{rows},{rows},{rows}],\"populations\"{end}}}");
    let cases = [flipped, whole[..whole.len() / 3].to_vec(), b"{}".to_vec(), thrice.into_bytes()];
    for (case, bytes) in cases.into_iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        let (_, notes) = said(search(dir.path(), &[]));
        assert!(notes.contains("state.json: damaged; the run is replayed from chunks.log"), "case {case}: {notes}");
        assert_eq!(results(dir.path()), before, "case {case}");
        assert!(fs::read(&path).unwrap() == whole, "case {case}: it is whole again");
    }
    fs::write(&path, format!("{unsealed}}}")).unwrap();
    let (_, notes) = said(search(dir.path(), &[]));
    assert!(notes.contains("of a version that did not seal it"), "{notes}");
    assert_eq!(results(dir.path()), before);
}

#[test]
fn linas_resumes_with_the_same_bytes_and_says_how_well_it_predicts() {
    let dir = tempfile::tempdir().unwrap();
    let linas = ["--algorithm", "linas"];
    succeed(search(dir.path(), &linas));
    let read = || results(dir.path()).0 + &fs::read_to_string(dir.path().join("predictors.csv")).unwrap();
    let before = read();
    let taus = column(dir.path(), "predictors.csv", "kendall_tau");
    assert_eq!(taus.len(), EVALS / 12 - 1, "one row for each population but the first: params is known");
    assert!(taus.iter().all(|tau| tau.parse::<f64>().unwrap() > 0.5), "{taus:?}");
    assert_eq!(column(dir.path(), "predictors.csv", "points"), ["12", "24", "36", "48"]);
    // Stopped after the second population: the state of a shorter run.
    let short = tempfile::tempdir().unwrap();
    succeed(search(short.path(), &[&linas[..], &["--evals", "24"]].concat()));
    fs::copy(short.path().join("state.json"), dir.path().join("state.json")).unwrap();
    fs::remove_file(dir.path().join("predictors.csv")).unwrap();
    let (_, notes) = said(search(dir.path(), &linas));
    assert!(notes.contains("resuming: 24 networks"));
    assert_eq!(read(), before);
    // Without a state the journal is replayed.
    fs::remove_file(dir.path().join("state.json")).unwrap();
    succeed(search(dir.path(), &linas));
    assert_eq!(read(), before);
}

#[test]
fn refuses_the_directory_of_another_run_and_names_the_differences() {
    let dir = tempfile::tempdir().unwrap();
    succeed(search(dir.path(), &[]));
    let before = results(dir.path());
    let error = fail_with(search(dir.path(), &["--population", "13"]), 1);
    assert!(
        error.contains("holds another run") && error.contains("algorithm.population is 12 there, 13 here"),
        "{error}"
    );
    assert_eq!(results(dir.path()), before);
}

#[test]
fn lists_the_known_names_for_unknown_ones() {
    let dir = tempfile::tempdir().unwrap();
    let error = fail_with(search(dir.path(), &["--objective", "size"]), 1);
    assert!(error.contains("unknown objective `size`") && error.contains("params"), "{error}");
    let error = fail_with(search(dir.path(), &["--constraint", "weight<=3"]), 1);
    assert!(error.contains("unknown objective `weight`"), "{error}");
    let error = fail_with(search(dir.path(), &["--evaluator", "remote"]), 2);
    assert!(error.contains("mock:DELAY_MS"), "{error}");
}

#[test]
fn keeps_to_hard_constraints() {
    let dir = tempfile::tempdir().unwrap();
    succeed(search(dir.path(), &[]));
    let largest: Vec<u64> =
        column(dir.path(), "front.csv", "params").iter().map(|text| text.parse().unwrap()).collect();
    let limit = largest.iter().max().unwrap() * 3 / 4;
    let constrained = tempfile::tempdir().unwrap();
    succeed(search(constrained.path(), &["--constraint", &format!("params<={limit}")]));
    let sizes = column(constrained.path(), "front.csv", "params");
    assert!(!sizes.is_empty());
    assert!(sizes.iter().all(|size| size.parse::<u64>().unwrap() <= limit), "{sizes:?} > {limit}");
}

#[test]
fn starts_from_the_networks_of_another_run() {
    let dir = tempfile::tempdir().unwrap();
    succeed(search(dir.path(), &[]));
    let genomes = column(dir.path(), "front.csv", "genome");
    let next = tempfile::tempdir().unwrap();
    let from = dir.path().to_str().unwrap();
    succeed(search(next.path(), &["--seed-genomes", from, "--evals", "30"]));
    let first = column(next.path(), "evaluations.csv", "genome");
    assert!(genomes.iter().all(|genome| first.contains(genome)));
}

#[test]
fn says_which_directory_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = fail_with(search(&file.join("run"), &[]), 1);
    assert!(error.contains("file/run"), "{error}");
}

/// A full disk, as a limit on the size of files: writing fails in the middle of a record.
#[test]
fn a_full_disk_ends_the_run_and_loses_nothing() {
    let whole = tempfile::tempdir().unwrap();
    succeed(search(whole.path(), &[]));
    let full = tempfile::tempdir().unwrap();
    let command = search(full.path(), &[]);
    let mut limited = Command::new("bash");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args());
    let error = fail_with(limited, 1);
    assert!(error.contains("chunks.log: File too large"), "{error}");
    assert!(fs::metadata(full.path().join("chunks.log")).unwrap().len() > 10_000, "it had begun");
    succeed(command);
    assert_eq!(results(full.path()), results(whole.path()));
}

fn column(dir: &Path, file: &str, name: &str) -> Vec<String> {
    let mut reader = csv::Reader::from_path(dir.join(file)).unwrap();
    let place = reader.headers().unwrap().iter().position(|header| header == name).unwrap();
    reader.records().map(|record| record.unwrap()[place].to_string()).collect()
}

#[test]
fn a_finished_search_goes_on_as_if_all_had_been_asked_for_at_once() {
    for algorithm in ["nsga2", "linas", "random"] {
        let [whole, extended] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let with = |out: &Path, evals: &str| search(out, &["--algorithm", algorithm, "--evals", evals]);
        succeed(with(whole.path(), "36"));
        // In the middle of the second population of 12, and at the end of it.
        succeed(with(extended.path(), "16"));
        succeed(with(extended.path(), "24"));
        let before = fs::metadata(extended.path().join("chunks.log")).unwrap().len();
        succeed(with(extended.path(), "36"));
        assert_eq!(results(extended.path()), results(whole.path()), "{algorithm}");
        assert!(fs::metadata(extended.path().join("chunks.log")).unwrap().len() > before);
        let error = fail_with(with(extended.path(), "24"), 1);
        assert!(error.contains("evals is 36 there, 24 here"), "{error}");
    }
}

#[test]
fn show_says_what_made_a_run_and_what_it_found() {
    let dir = tempfile::tempdir().unwrap();
    succeed(search(dir.path(), &["--constraint", "params<=200k"]));
    let show = || succeed(criadero(&["show", dir.path().to_str().unwrap()]));
    let shown = show();
    let command = format!(
        "criadero search tiny --objective choice_nll:arc_easy --objective params --evals {EVALS} --population 12 --seed 3 --limit 64 \
         --evaluator mock --algorithm nsga2 --out {} --constraint 'params<=200k'",
        dir.path().display()
    );
    assert!(shown.starts_with(&format!("command      {command}\n")), "{shown}");
    for part in [
        "mock scores: no model was asked",
        &format!("evaluations  {EVALS} of {EVALS}, seed 3"),
        "constraint   params <= 200000",
    ] {
        assert!(shown.contains(part), "{part} not in {shown}");
    }
    assert!(
        shown.contains("(held-out)") && shown.contains("over all budgets") && !shown.contains("not finished"),
        "{shown}"
    );
    let page = || {
        succeed(criadero(&["plot", dir.path().to_str().unwrap()]));
        fs::read_to_string(dir.path().join("report.html")).unwrap()
    };
    assert!(page().contains("--constraint &#39;params&lt;=200k&#39;</pre>"));
    assert!(page().contains("mock scores"), "a made-up front says so");
    fs::remove_file(dir.path().join("front.json")).unwrap();
    assert!(show().contains("not finished; the same command goes on"));
    let empty = tempfile::tempdir().unwrap();
    assert!(fail_with(criadero(&["show", empty.path().to_str().unwrap()]), 1).contains("is no run"));
}

#[test]
fn limits_that_no_network_meets_are_refused_before_anything_is_scored() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let refused = |limits: &[&str]| {
        let flags: Vec<&str> = limits.iter().flat_map(|limit| ["--constraint", limit]).collect();
        let error = fail_with(search(&out, &flags), 1);
        assert!(!out.exists(), "nothing was begun");
        error
    };
    assert!(
        refused(&["params<=10k"])
            .contains("constraint: found params <= 10000, expected a limit that a network of the space can meet")
    );
    assert!(refused(&["params<=100k", "params>=120k"]).contains("with the other limits"));
    assert!(refused(&["parms<=1e9"]).contains("unknown objective `parms`"));
}

#[test]
fn a_mock_search_refuses_what_a_real_one_would() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |flags: &[&str]| {
        let mut command = criadero(&["search", "tiny", "--evaluator", "mock", "--out", dir.path().to_str().unwrap()]);
        command.args(["--objective", "params"]).args(flags);
        fail_with(command, 1)
    };
    assert!(refused(&["--objective", "choice_nll:no_such_task"]).contains("unknown task"));
    let error = refused(&["--objective", "choice_nll:wikitext"]);
    let expected =
        "objective choice_nll of `wikitext`: found a task of running text, without choices, expected one of perplexity";
    assert!(error.contains(expected), "{error}");
    assert!(refused(&["--objective", "choice_nll:arc_easy", "--device", "cuda:7"]).contains("cuda:7"));
}

#[test]
fn made_up_scores_and_a_models_do_not_share_a_picture() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    dirs.iter().for_each(|dir| _ = succeed(search(dir.path(), &[])));
    let [mock, other] = dirs.each_ref().map(|dir| dir.path().to_str().unwrap());
    succeed(criadero(&["plot", mock, other]));
    let local = |settings: String| {
        let settings = settings.replace("\"evaluator\": \"mock\"", "\"evaluator\": \"local\"");
        settings.replace("\"chunk_tokens\": 0", "\"chunk_tokens\": 1").replace("\"max_length\": 0", "\"max_length\": 1")
    };
    edit(&dirs[1].path().join("run.json"), local);
    for pair in [[mock, other], [other, mock]] {
        let error = fail_with(criadero(&["plot", pair[0], pair[1]]), 1);
        assert!(error.contains(&format!("{mock} has mock scores, {other} has a model's")), "{error}");
    }
}
