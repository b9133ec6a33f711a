//! `criadero shrink` through the real binary, on a tiny model: from a budget to a file, killed on the way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use criadero::checkpoint::Checkpoint;
use criadero::run::{Front, RunSettings};
use criadero::space::SearchSpace;
use tempfile::TempDir;

use crate::command::{criadero, fail, fail_with, said, succeed};
use crate::goldens::copy_of_tiny;

/// In 16 bits no network of the space is so small.
const BUDGET: &str = "weight_bytes<=100kB";

/// A directory with the tiny model, of so few positions that no throughput is measured, a task and a text.
fn place() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    fs::create_dir(&model).unwrap();
    copy_of_tiny(&model);
    let config = fs::read_to_string(model.join("config.json")).unwrap();
    let short = config.replace("\"max_position_embeddings\": 256", "\"max_position_embeddings\": 128");
    assert_ne!(config, short);
    fs::write(model.join("config.json"), short).unwrap();
    let animals = ["fox", "llama", "goose", "trout", "dog"];
    let row = |place: usize| {
        let (one, other) = (animals[place % 5], animals[(place + 1 + place / 5 % 4) % 5]);
        format!(
            "{{\"context\": \"{place}. A {one} met a {other}, and the {one} said to the\", \
             \"choices\": [\" {other}\", \" {one}\"], \"gold\": 0}}\n"
        )
    };
    fs::write(dir.path().join("task.jsonl"), (0..60).map(row).collect::<String>()).unwrap();
    let sentence = |place: usize| format!("The llama of farm {place} is larger than the fox of farm {}. ", place + 1);
    fs::write(dir.path().join("text.txt"), (0..60).map(sentence).collect::<String>()).unwrap();
    dir
}

/// The command in such a directory.
fn shrink(dir: &Path, budget: &str, more: &[&str]) -> Command {
    let mut command = criadero(&["shrink", "model", "--to", budget, "--task", "task.jsonl", "--text", "text.txt"]);
    command.args(["--arithmetic", "f32", "--out", "small"]).args(more).current_dir(dir);
    command
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn changed(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

/// The commands of a plan, in order.
fn lines(plan: &str) -> Vec<String> {
    plan.lines().filter_map(|line| line.strip_prefix("   criadero ")).map(|line| format!("criadero {line}")).collect()
}

/// Runs a line as a user would who pastes it.
fn paste(dir: &Path, line: &str) {
    let mut shell = Command::new("sh");
    let line = format!("criadero() {{ '{}' \"$@\"; }}; {line}", env!("CARGO_BIN_EXE_criadero"));
    shell.args(["-c", &line]).current_dir(dir);
    said(shell);
}

/// A shrinking that was killed in its search and ended by the same command, and what that said.
fn whole() -> &'static (TempDir, String) {
    static WHOLE: OnceLock<(TempDir, String)> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let dir = place();
        let at = |name: &str| dir.path().join("small").join(name);
        let mut command = shrink(dir.path(), BUDGET, &["--quick"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while fs::metadata(at("run/chunks.log")).map_or(0, |log| log.len()) < 1000 {
            assert!(child.try_wait().unwrap().is_none(), "it ended before its search began");
            assert!(start.elapsed() < Duration::from_secs(300), "no search");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // The search dies with it; one that goes on would write where the next one does.
        std::thread::sleep(Duration::from_millis(200));
        let log = fs::metadata(at("run/chunks.log")).unwrap().len();
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(fs::metadata(at("run/chunks.log")).unwrap().len(), log, "the search went on alone");
        assert!(!at("run/front.json").exists());
        let ranked = changed(&at("supernet/criadero.json"));
        let (printed, _) = said(shrink(dir.path(), BUDGET, &["--quick"]));
        assert_eq!(changed(&at("supernet/criadero.json")), ranked, "ranked once");
        (dir, printed)
    })
}

/// A copy of it.
fn copy_of_whole() -> TempDir {
    let (whole, _) = whole();
    let copy = tempfile::tempdir().unwrap();
    for file in files(whole.path()) {
        let to = copy.path().join(file.strip_prefix(whole.path()).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&file, to).unwrap();
    }
    copy
}

#[test]
fn steps_print_beside_a_result_that_is_one_object_and_say_no_next_commands() {
    let copy = copy_of_whole();
    let export = copy.path().join("small/export");
    let again = |more: &[&str]| {
        fs::remove_dir_all(&export).unwrap();
        said(shrink(copy.path(), BUDGET, &[&["--quick"], more].concat()))
    };
    let (printed, beside) = again(&["--json"]);
    let result: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(result["export"], "small/export/model.gguf");
    assert!(result["tasks"][0]["difference_stderr"].is_number() && result["network"]["id"].is_u64(), "{printed}");
    assert!(beside.contains("1. rank: done before") && beside.contains("bytes of tensors"), "{beside}");
    assert!(!beside.contains("next: "), "{beside}");

    let (_, beside) = again(&[]);
    let next: Vec<&str> = beside.lines().filter_map(|line| line.strip_prefix("next: ")).collect();
    assert_eq!(next.len(), 2, "the steps say none: {beside}");
    // The model has fewer positions than `generate` writes.
    assert!(next[0].starts_with("criadero generate small/export/model.gguf --prompt "), "{next:?}");
    paste(copy.path(), next[1]);

    let (printed, beside) = again(&["--quiet"]);
    assert_eq!(beside, "");
    let report = fs::read_to_string(copy.path().join("small/report.md")).unwrap();
    assert_eq!(printed, format!("{report}\nreport: small/report.md\n"));
}

#[test]
fn a_budget_of_bytes_becomes_a_quantized_file_that_keeps_to_it() {
    let (dir, printed) = whole();
    let small = dir.path().join("small");
    let file = Checkpoint::open(small.join("export/model.gguf")).unwrap();
    assert!(file.weight_bytes() <= 100_000, "{}", file.weight_bytes());
    assert!(file.config().quantized);
    let front = Front::read_json(&small.join("run/front.json")).unwrap();
    assert!(front.points.iter().all(|point| point.value("weight_bytes").unwrap() <= 100_000.0));
    assert!(front.points.iter().any(|point| point.genome.is_quantized()) && !front.parent.genome.is_quantized());
    let report = fs::read_to_string(small.join("report.md")).unwrap();
    assert!(report.contains("| task.jsonl | ") && report.contains("criadero search small/space-bits.yaml"), "{report}");
    assert!(report.contains("Left out: tune; --quick trains nothing."), "{report}");
    assert!(printed.contains(&report), "{printed}");
    let planned = lines(printed);
    assert_eq!(planned.len(), 6, "{printed}");
    let ran: Vec<&str> =
        printed.lines().filter_map(|line| line.strip_prefix('[')?.split_once("] ")).map(|(_, line)| line).collect();
    assert_eq!(ran, planned[1..], "what was ranked before the kill is not ranked again");
    assert!(printed.contains("1. rank: done before"), "{printed}");
    // The search was started by the very line.
    let settings = RunSettings::read(&small.join("run")).unwrap().unwrap();
    assert_eq!(settings.command_line().unwrap(), planned[1]);
}

#[test]
fn the_same_command_does_only_what_is_not_there() {
    let dir = copy_of_whole();
    let at = |name: &str| dir.path().join("small").join(name);
    let exported = fs::read(at("export/model.gguf")).unwrap();
    let before = [changed(&at("run/front.json")), changed(&at("parent-1.json"))];
    fs::remove_dir_all(at("export")).unwrap();
    fs::write(at("exported-1.json"), "").unwrap();
    let printed = succeed(shrink(dir.path(), BUDGET, &["--quick"]));
    let ran: Vec<&str> = printed.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!(ran.len(), 2, "{printed}");
    assert!(ran[0].starts_with("[4/6] criadero export") && ran[1].starts_with("[6/6] criadero eval"), "{ran:?}");
    assert_eq!([changed(&at("run/front.json")), changed(&at("parent-1.json"))], before);
    assert_eq!(fs::read(at("export/model.gguf")).unwrap(), exported);
}

#[test]
fn a_step_that_fails_stops_it_and_it_goes_on_from_there() {
    let dir = copy_of_whole();
    let at = |name: &str| dir.path().join("small").join(name);
    fs::remove_dir_all(at("export")).unwrap();
    fs::write(at("export"), "in the way").unwrap();
    let error = fail(shrink(dir.path(), BUDGET, &["--quick"]));
    assert!(error.contains("the step `export` ended with exit status: 1; once it can go on"), "{error}");
    fs::remove_file(at("export")).unwrap();
    let printed = succeed(shrink(dir.path(), BUDGET, &["--quick"]));
    assert!(printed.contains("[4/6] ") && !printed.contains("[5/6] "), "{printed}");
}

#[test]
fn pasted_lines_do_what_the_steps_did() {
    let dir = copy_of_whole();
    let at = |name: &str| dir.path().join("small").join(name);
    let read = |name: &str| fs::read(at(name)).unwrap();
    let results = ["export/model.gguf", "exported-1.jsonl"];
    let before = results.map(read);
    let planned = lines(&succeed(shrink(dir.path(), BUDGET, &["--quick", "--dry-run"])));
    for name in ["export/model.gguf", "exported-1.jsonl", "exported-1.json"] {
        fs::remove_file(at(name)).unwrap();
    }
    [3, 5].iter().for_each(|&step| paste(dir.path(), &planned[step]));
    assert!(results.map(read) == before);
    let summary: serde_json::Value = serde_json::from_slice(&read("exported-1.json")).unwrap();
    assert_eq!(summary["items"], fs::read_to_string(at("exported-1.jsonl")).unwrap().lines().count());
}

#[test]
fn a_recovered_network_is_exported_in_the_bits_that_were_searched() {
    let dir = copy_of_whole();
    let at = |name: &str| dir.path().join("small").join(name);
    fs::remove_file(at("shrink.json")).unwrap();
    // What it would have been with more time.
    let plan = succeed(shrink(dir.path(), BUDGET, &["--time", "9d", "--dry-run"]));
    let planned = lines(&plan);
    assert!(planned[1].starts_with("criadero tune small/supernet --space tiny --data text.txt"), "{plan}");
    assert!(planned[2].contains(" --model small/tuned "), "{plan}");
    let exported = at("export/model.gguf");
    let before = Checkpoint::open(&exported).unwrap();
    let (bytes, genome) = (before.weight_bytes(), before.config().genome.clone());
    let old = fs::read(&exported).unwrap();
    assert!(planned[3].contains(" --steps 200 "), "{plan}");
    paste(dir.path(), &planned[3].replace(" --steps 200 ", " --steps 2 "));
    assert!(planned[5].contains("export small/recovered --bits-of 'small/run#weight_bytes<=100kB'"), "{plan}");
    paste(dir.path(), &planned[5]);
    let after = Checkpoint::open(&exported).unwrap();
    assert_eq!((after.weight_bytes(), &after.config().genome), (bytes, &genome));
    assert!(fs::read(&exported).unwrap() != old, "other weights");
}

#[test]
fn another_request_in_the_same_directory_is_refused_with_both() {
    let dir = copy_of_whole();
    for (budget, more, expected) in [
        (
            "weight_bytes<=90kB",
            &["--quick"][..],
            "to is [\"weight_bytes <= 100000\"] there, [\"weight_bytes <= 90000\"] here",
        ),
        (BUDGET, &["--quick", "--seed", "2"], "seed is 1 there, 2 here"),
        (BUDGET, &[], "effort is \"quick\" there, \"moderate\" here"),
        (BUDGET, &["--quick", "--time", "2h"], "seconds is null there, 7200.0 here"),
    ] {
        let error = fail(shrink(dir.path(), budget, more));
        assert!(error.contains("small holds another run: ") && error.contains(expected), "{error}");
    }
    let same = succeed(shrink(dir.path(), "weight_bytes<=0.1M", &["--quick", "--dry-run"]));
    assert!(same.contains("3. plot: done before"), "the same limit in other words: {same}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let dir = place();
    for (budget, more, expected) in [
        (
            "params<=1k",
            &[][..],
            "constraint: found params <= 1000, expected a limit that a network of the space can meet; they have 90432 to 213568",
        ),
        ("weight_bytes<=50kB", &[], "expected a limit that a network of the space can meet; they have 51968 to 428288"),
        ("weight_bytes<=100kB", &["--format", "hf"], "they have 181504 to 428288"),
        (
            "params<=213568",
            &[],
            "model is within that budget as it is (params 213568); `criadero export model --format gguf`",
        ),
        ("accuracy:task.jsonl>=0.5", &[], "a score, expected a size or a speed"),
        ("parms<=100k", &[], "unknown objective `parms`"),
        ("latency_ms<=300", &[], "a model of 128 positions, expected more than 256 positions"),
        ("params<=150k", &["--task", "arc_eezy"], "arc_eezy"),
        ("params<=150k", &["--space", "smollm2-135m"], "the model has"),
        ("params<=150k", &["--supernet", "model"], "model was never ranked; leave --supernet out"),
        ("params<=150k", &["--time", "1s"], "--time allows 1 s; what cannot be left out takes about"),
    ] {
        let error = fail(shrink(dir.path(), budget, more));
        assert!(error.contains(expected), "{budget} {more:?}: {error}");
        assert!(!dir.path().join("small").exists(), "{budget} {more:?}");
    }
    for (budget, more) in
        [("params<150k", &[][..]), ("params<=150k", &["--time", "2"]), ("params<=1k", &["--quick", "--thorough"])]
    {
        fail_with(shrink(dir.path(), budget, more), 2);
    }
    fs::write(dir.path().join("small"), "a file").unwrap();
    assert!(fail(shrink(dir.path(), "params<=150k", &[])).contains("small/shrink.json"));
    fs::remove_file(dir.path().join("small")).unwrap();
    fs::create_dir_all(dir.path().join("small/run")).unwrap();
    let error = fail(shrink(dir.path(), "params<=150k", &[]));
    assert!(error.contains("--out: found small/run, of something else"), "{error}");
    assert!(!dir.path().join("small/shrink.json").exists());
}

#[test]
fn a_model_without_a_shipped_space_gets_one_to_begin_with() {
    let dir = place();
    let shape = "shape: { layers: 2, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, mlp: 512, vocab: 300 }";
    fs::write(dir.path().join("shape.yaml"), format!("{shape}\nheads: [4]\nmlp: [512]\n")).unwrap();
    let mut model = criadero(&["synthesize", "--shape", "shape.yaml", "--out", "model", "--force"]);
    model.current_dir(dir.path());
    succeed(model);
    // Nothing to rank by: the first step fails, as soon as it begins.
    fs::write(dir.path().join("text.txt"), "").unwrap();
    let error = fail(shrink(dir.path(), "weight_bytes<=150kB", &["--quick"]));
    assert!(error.contains("fewer than 2 tokens") && error.contains("the step `rank` ended with"), "{error}");
    let mut space = criadero(&["space", "model"]);
    space.current_dir(dir.path());
    let at = |name: &str| fs::read_to_string(dir.path().join("small").join(name)).unwrap();
    assert_eq!(at("space.yaml"), succeed(space));
    assert!(SearchSpace::from_yaml(&at("space-bits.yaml")).unwrap().quantizes());
}

#[test]
fn a_dry_run_writes_nothing_and_a_supernet_is_not_ranked_again() {
    let dir = place();
    let mut rank =
        criadero(&["rank", "model", "--space", "tiny", "--text", "text.txt", "--tokens", "256", "--out", "mine"]);
    rank.args(["--loss-tokens", "0"]).current_dir(dir.path());
    succeed(rank);
    let before = files(dir.path());
    let plan = succeed(shrink(dir.path(), "params<=150k", &["--supernet", "mine", "--quick", "--dry-run"]));
    assert_eq!(files(dir.path()), before);
    assert!(plan.contains("left out: rank; --supernet is ranked"), "{plan}");
    assert!(lines(&plan).iter().any(|line| line.starts_with("criadero search tiny --model mine ")), "{plan}");
    // A limit of parameters needs no bits.
    assert!(!plan.contains("--bits-of") && !plan.contains("space-bits"), "{plan}");
    let mut other = criadero(&["synthesize", "--shape", "tiny", "--out", "model", "--seed", "5", "--force"]);
    other.current_dir(dir.path());
    succeed(other);
    let error = fail(shrink(dir.path(), "params<=150k", &["--supernet", "mine", "--dry-run"]));
    assert!(error.contains("--supernet: found a supernet of the model ") && error.contains(", model"), "{error}");
}
