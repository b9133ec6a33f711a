//! Inputs that strangers made, all of `tests/hostile/`: each command ends by itself, with 0, 1 or 2, within memory and time, and says why.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::goldens::{TINY, copy_files, copy_of_tiny};

/// Address space of a command, in kB: libtorch takes some of it.
const MEMORY: u64 = 8_000_000;
/// Stack of its first thread and of those that read for it, in kB: `chat-not` needs about the usual 8,192, more or less by what the
/// environment takes of them.
const STACK: u64 = 4096;
/// A debug build on a busy machine; what hangs takes longer than any of this.
const TIME: Duration = Duration::from_secs(120);

/// A copy of the corpus in which every model has weights.
fn corpus() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile"));
    copy_files(root, dir.path());
    let entries = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    for folder in entries.filter(|path| path.is_dir()) {
        let place = dir.path().join(folder.file_name().unwrap());
        fs::create_dir(&place).unwrap();
        copy_files(&folder, &place);
        if place.join("config.json").is_file() {
            fs::copy(Path::new(TINY).join("model.safetensors"), place.join("model.safetensors")).unwrap();
        }
    }
    dir
}

/// Runs the binary on the corpus under limits; nothing when it does not end.
fn run(dir: &Path, arguments: &[&str]) -> Option<Output> {
    let child = Command::new("sh")
        .args([
            "-c",
            &format!("ulimit -v {MEMORY}; ulimit -s {STACK}; ulimit -c 0; exec \"$@\""),
            "sh",
            env!("CARGO_BIN_EXE_criadero"),
        ])
        .args(arguments)
        .current_dir(dir)
        .env("OMP_NUM_THREADS", "1")
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    ended(child, Duration::from_millis(20), || ())
}

/// What a process said, once it has ended; `meanwhile` is called every so often. Nothing when it does not end.
fn ended(mut child: Child, every: Duration, mut meanwhile: impl FnMut()) -> Option<Output> {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > TIME {
            child.kill().unwrap();
            return None;
        }
        meanwhile();
        std::thread::sleep(every);
    }
    Some(child.wait_with_output().unwrap())
}

#[test]
fn whatever_strangers_made_is_an_error_that_says_why() {
    let corpus = corpus();
    let model = TINY;
    let search = ["search", "s.yaml", "--objective", "choice_nll:t.jsonl", "--objective", "params", "--out", "run"];
    let searched = |more: &[&'static str]| [&search[..], more].concat();
    let searched_on_card = searched(&["--model", "card-no-layers", "--threads", "1"]);
    let on = |task: &'static str| vec!["eval", model, "--task", task, "--limit", "1"];
    let with = |model: &'static str| vec!["eval", model, "--task", "t.jsonl", "--limit", "2"];
    let chat = |model: &'static str| vec!["generate", model, "--chat", "--prompt", "hi", "--max-tokens", "2"];
    let cases: Vec<(Vec<&str>, i32, &str)> = vec![
        (
            vec!["inspect", "s.yaml", "--model", "string-alignment.gguf"],
            1,
            "general.alignment: value 0: expected count",
        ),
        (with("tok-cut-in-decoder"), 1, "tokenizer.json"),
        (with("tok-fixedlength0"), 1, "tokenizer.json file: it is damaged: "),
        (with("tok-replace-empty"), 1, "tokenizer.json file: it"),
        (with("tok-precompiled"), 1, "tokenizer.json file: it is damaged: "),
        (with("tok-template-missing"), 1, "tokenizer.json file: it is damaged: "),
        (with("tok-prefix"), 1, "tokenizer.json file: it is damaged: "),
        (
            searched_on_card,
            1,
            "criadero.json: the card is of another model; rank again:\n  order: found 0 layers, expected 4",
        ),
        (on("deep-schema.parquet"), 1, "nested too deeply"),
        (on("children-2^31.parquet"), 1, "more than 4 GiB of memory"),
        (on("nulls33.arrow"), 1, "found 8589934592 rows at once"),
        (on("bigcell.parquet"), 1, "found more than 16777216 bytes"),
        (on("numbers.jsonl.gz"), 1, "without a line end"),
        (chat("chat-loops"), 1, "steps to render"),
        (chat("chat-indent"), 1, "more than 2 GiB of memory"),
        (chat("chat-double"), 1, "more than 2 GiB of memory"),
        (chat("chat-not"), 1, "nested too deeply"),
        (chat("chat-list"), 1, "more than 2 GiB of memory"),
        (on("task-loops/t.yaml"), 1, "steps to render"),
        (with("cfg-positions"), 1, "error: "),
        (searched(&["--evaluator", "mock", "--limit", "0"]), 2, "from 1 to"),
        (searched(&["--evaluator", "mock", "--population", "1000000000000"]), 2, "from 1 to 1000000"),
        (searched(&["--evaluator", "mock", "--workers", "100000"]), 2, "from 1 to 1024"),
        (vec!["generate", model, "--prompt", "hi", "--threads", "0"], 2, "from 1 to 1024"),
        (vec!["eval", model, "--task", "t.jsonl", "--threads", "4294967296"], 2, "from 1 to 1024"),
        (vec!["eval", model, "--task", "x.txt", "--max-length", "0"], 2, "from 1 to"),
    ];
    for (arguments, code, words) in cases {
        let Some(output) = run(corpus.path(), &arguments) else { panic!("{arguments:?} does not end") };
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert!(said.lines().count() <= 10, "{arguments:?}: {said}");
    }
}

#[test]
fn a_space_with_long_lists_is_searched_at_once() {
    let corpus = corpus();
    let arguments =
        ["search", "real.yaml", "--evaluator", "mock", "--objective", "choice_nll:t.jsonl", "--objective", "params"];
    let more = ["--evals", "8", "--population", "8", "--algorithm", "nsga2", "--out", "run"];
    let output = run(corpus.path(), &[&arguments[..], &more].concat()).expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_real_search_does_not_go_on_where_a_mock_was() {
    let corpus = corpus();
    let search = ["search", "s.yaml", "--objective", "perplexity:para.txt", "--objective", "params", "--evals", "12"];
    let search = [&search[..], &["--population", "6", "--algorithm", "nsga2", "--out", "run"]].concat();
    let mock = run(corpus.path(), &[&search[..], &["--evaluator", "mock"]].concat()).expect("it ends");
    assert!(mock.status.success(), "{}", String::from_utf8_lossy(&mock.stderr));
    let real = run(corpus.path(), &[&search[..], &["--model", TINY, "--threads", "1"]].concat());
    let said = real.expect("it ends").stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("run holds another run: evaluator is mock there, local here"), "{said}");
}

#[test]
fn what_cannot_be_looked_at_is_not_said_to_be_missing() {
    let corpus = corpus();
    std::os::unix::fs::symlink("loop.jsonl", corpus.path().join("loop.jsonl")).unwrap();
    let output = run(corpus.path(), &["eval", TINY, "--task", "./loop.jsonl"]).expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("error: ./loop.jsonl: Too many levels of symbolic links"), "{said}");
    for name in ["config.json", "model.safetensors", "criadero.json", "corrections.safetensors"] {
        let model = corpus.path().join(format!("model of {name}"));
        fs::create_dir(&model).unwrap();
        copy_of_tiny(&model);
        let _ = fs::remove_file(model.join(name));
        std::os::unix::fs::symlink(name, model.join(name)).unwrap();
        let output = run(corpus.path(), &["inspect", "tiny", "--model", model.to_str().unwrap()]).expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        let expected = format!("error: {}: Too many levels of symbolic links", model.join(name).display());
        assert!(said.starts_with(&expected), "{name}: {said}");
    }
}

#[test]
fn names_out_of_files_move_no_cursor_and_begin_no_line() {
    let corpus = corpus();
    let rows = "{\"context\": \"a\", \"choices\": [\"b\", \"c\"], \"gold\": \"x\\u001b[2J\\nerror: forged\"}\n";
    fs::write(corpus.path().join("forged.jsonl"), rows).unwrap();
    let output = run(corpus.path(), &["eval", TINY, "--task", "forged.jsonl"]).expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("forged") && !said.contains('\u{1b}'), "{said:?}");
    assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
}

#[test]
fn an_output_that_takes_no_more_is_an_error() {
    let corpus = corpus();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_criadero"));
    let output = command.args(["inspect", "tiny"]).current_dir(corpus.path()).stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        (output.status.code(), said.as_ref()),
        (Some(1), "error: standard output: No space left on device (os error 28)\n")
    );
}

/// The processes that a process has started.
fn children(of: u32) -> Vec<u32> {
    let said = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    said.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

/// Runs the binary on rows that take their time, and kills one of its processes once it is there.
fn killed(dir: &Path, whom: impl Fn(u32) -> Option<u32>) -> Output {
    let child = Command::new(env!("CARGO_BIN_EXE_criadero"))
        .args(["eval", TINY, "--task", "long.jsonl", "--limit", "2"])
        .current_dir(dir)
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (id, mut victim) = (child.id(), None);
    let output = ended(child, Duration::from_millis(1), || {
        victim = victim.or_else(|| {
            let victim = whom(id)?;
            Command::new("kill").args(["-KILL", &victim.to_string()]).status().unwrap();
            Some(victim)
        });
    });
    assert!(output.is_none() || victim.is_some(), "nobody was killed");
    output.expect("it waits for nobody")
}

#[test]
fn a_killed_reader_is_an_error_that_names_the_file_and_a_killed_keeper_is_waited_for_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let choice = "x".repeat(20_000);
    let row = format!("{{\"context\": \"a\", \"choices\": [\"{choice}\", \"b\"], \"gold\": 0}}\n");
    fs::write(dir.path().join("long.jsonl"), row.repeat(2000)).unwrap();
    let keeper = |of| children(of).first().copied();
    let output = killed(dir.path(), |of| children(keeper(of)?).first().copied());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("error: long.jsonl: "), "{said}");
    let output = killed(dir.path(), keeper);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || said.contains("error: long.jsonl: "), "{said}");
}
