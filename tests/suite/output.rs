//! What is promised of everything that is written: nobody else's data is touched, a place holds the old or the new and never a mixture,
//! nothing is left behind, and one process writes at a time.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::arrows::{rust_files, without_tests};
use crate::command::{criadero, fail, succeed};
use crate::goldens::copy_of_tiny;

const TINY: &str = "tests/goldens/tiny-llama";
/// What only `output` may do.
const WRITES: [&str; 12] = [
    "fs::write",
    "File::create",
    "OpenOptions",
    "fs::rename",
    "create_dir",
    "remove_file",
    "remove_dir",
    "hard_link",
    "fs::copy",
    "set_permissions",
    "tempfile::",
    "File::options",
];

/// All files below a directory, with their bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn add(root: &Path, dir: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(root, &path, into);
            } else {
                into.insert(path.strip_prefix(root).unwrap().to_path_buf(), fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    add(dir, dir, &mut found);
    found
}

/// Names in a directory of what is under way there.
fn under_way(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains("criadero-")).collect()
}

/// A command that writes to a place.
fn to(arguments: &[&str], out: &Path) -> Command {
    let mut command = criadero(arguments);
    command.arg("--out").arg(out);
    command
}

fn synthesize(seed: &str, out: &Path) -> Command {
    to(&["synthesize", "--shape", "tiny", "--seed", seed], out)
}

fn export(genome: &str, out: &Path) -> Command {
    to(&["export", TINY, "--genome", genome, "--format", "hf"], out)
}

fn text(dir: &Path, name: &str, words: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, words.repeat(40)).unwrap();
    path.display().to_string()
}

fn rank(text: &str, out: &Path) -> Command {
    to(&["rank", TINY, "--text", text, "--tokens", "128", "--window", "64", "--loss-tokens", "64"], out)
}

/// A checkpoint that no command of ours made.
fn strangers(dir: &Path) -> PathBuf {
    let model = dir.join("model");
    fs::create_dir(&model).unwrap();
    copy_of_tiny(&model);
    fs::write(model.join("model-00001-of-00002.safetensors"), "a shard of theirs").unwrap();
    model
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

fn quiet(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn only_the_gate_writes() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for file in rust_files(&src) {
        let name = file.strip_prefix(&src).unwrap();
        // What exists for unit tests only.
        if name.starts_with("output") || name.ends_with("fixture.rs") {
            continue;
        }
        let source = fs::read_to_string(&file).unwrap();
        for (number, line) in without_tests(&source).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let writes = WRITES.iter().filter(|writes| code.contains(*writes));
            found.extend(writes.map(|writes| format!("{}:{}: {writes}", name.display(), number + 1)));
        }
    }
    assert!(found.is_empty(), "what writes goes through `output`:\n{}", found.join("\n"));
}

#[test]
fn rows_of_items_are_there_once_all_are_and_never_in_place_of_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let task = text(
        dir.path(),
        "task.jsonl",
        "{\"context\": \"The sky is\", \"choices\": [\" blue\", \" red\"], \"gold\": 0}\n",
    );
    let rows = dir.path().join("rows.jsonl");
    let eval = |model: &Path, rows: &Path| {
        let mut command = criadero(&["eval", model.to_str().unwrap(), "--task", &task, "--limit", "2", "--per-item"]);
        command.arg(rows);
        command
    };
    let tiny = Path::new(TINY);
    succeed(eval(tiny, &rows));
    let before = fs::read(&rows).unwrap();
    fail(eval(&dir.path().join("no-such-model"), &rows));
    let mut misfit = eval(tiny, &rows);
    misfit.args(["--genome", "9x128*4"]);
    fail(misfit);
    assert_eq!(fs::read(&rows).unwrap(), before, "a model that is not there, or another one, costs nothing");
    // Links of both kinds lead to the same model.
    let model = strangers(dir.path());
    fs::remove_file(model.join("model-00001-of-00002.safetensors")).unwrap();
    let (soft, hard) = (dir.path().join("soft"), dir.path().join("hard.jsonl"));
    std::os::unix::fs::symlink(&model, &soft).unwrap();
    fs::hard_link(model.join("model.safetensors"), &hard).unwrap();
    let before = contents(&model);
    for place in [model.join("model.safetensors"), soft.join("model.safetensors"), hard, PathBuf::from(&task)] {
        let error = fail(eval(&model, &place));
        assert!(error.contains("which is read"), "{}: {error}", place.display());
    }
    assert_eq!(contents(&model), before);
    // Someone's notes are none of our rows.
    let notes = text(dir.path(), "notes.txt", "dear diary\n");
    let error = fail(eval(tiny, Path::new(&notes)));
    assert!(error.contains("was not written by this command") && error.contains("--force"), "{error}");
    assert!(fs::read_to_string(&notes).unwrap().starts_with("dear diary"));
    let mut forced = eval(tiny, Path::new(&notes));
    forced.arg("--force");
    succeed(forced);
    succeed(eval(tiny, Path::new(&notes)));
    // A link stays a link, and a device stays a device.
    let link = dir.path().join("link.jsonl");
    std::os::unix::fs::symlink(&rows, &link).unwrap();
    succeed(eval(tiny, &link));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && fs::metadata(&rows).unwrap().len() > 0);
    let printed = succeed(eval(tiny, Path::new("/dev/stdout")));
    assert!(printed.contains("log_likelihoods"), "{printed}");
}

#[test]
fn what_others_made_is_refused_by_everything_that_writes_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let words = text(dir.path(), "text.txt", "The goose is larger than the trout. ");
    let model = strangers(dir.path());
    let named = model.display().to_string();
    let before = contents(&model);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&model, &link).unwrap();
    let tune = ["tune", TINY, "--space", "tiny", "--length", "64", "--steps", "1", "--data", &words];
    for place in [&model, &link] {
        let mut own = criadero(&["rank", &named, "--text", &words, "--out"]);
        own.arg(place);
        let error = fail(own);
        assert!(error.contains("which is read"), "{error}");
        for command in [rank(&words, place), export("4x128*4", place), synthesize("1", place), to(&tune, place)] {
            let error = fail(command);
            assert!(error.contains(" holds ") && error.contains("give another --out"), "{error}");
        }
        assert_eq!(contents(&model), before, "nothing was touched");
    }
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && under_way(dir.path()).is_empty());
    // What reads it never replaces it; what does not, replaces all of it when told to.
    let mut own = to(&["export", &named, "--format", "hf", "--force"], &model);
    own.stderr(Stdio::piped());
    assert!(fail(own).contains("which is read"));
    let mut forced = synthesize("1", &model);
    forced.arg("--force");
    succeed(forced);
    succeed(synthesize("2", &model));
    let error = fail(export("4x128*4", &model));
    assert!(error.contains("was made by `criadero synthesize`"), "{error}");
    // Whatever lies in a place to be replaced would go with it.
    let inner = model.join("inner");
    succeed(export("4x128*4", &inner));
    let mut outer = to(&["export", inner.to_str().unwrap(), "--format", "hf", "--force"], &model);
    outer.stderr(Stdio::piped());
    assert!(fail(outer).contains("which is read"));
    assert!(inner.join("model.safetensors").is_file());
}

#[test]
fn repeating_a_command_replaces_its_own_result_also_one_of_an_older_version() {
    let dir = tempfile::tempdir().unwrap();
    let words = text(dir.path(), "text.txt", "The goose is larger than the trout. ");
    let out = dir.path().join("supernet");
    succeed(rank(&words, &out));
    let first = contents(&out);
    succeed(rank(&words, &out));
    assert_eq!(contents(&out), first);
    // Older versions wrote no `made_by` into the header: the card says who it was.
    fs::copy(format!("{TINY}/model.safetensors"), out.join("model.safetensors")).unwrap();
    succeed(rank(&words, &out));
    assert_eq!(contents(&out), first);
    // A shipped shape is no file, whatever else has its name here.
    for seed in ["1", "2"] {
        let mut command = synthesize(seed, Path::new("tiny"));
        command.current_dir(dir.path());
        succeed(command);
    }
    let gguf = dir.path().join("small.gguf");
    for genome in ["4x128*4", "2x64*4"] {
        succeed(to(&["export", TINY, "--genome", genome, "--format", "gguf"], &gguf));
    }
    fs::write(&gguf, [b"GGUF".as_slice(), &[3; 400]].concat()).unwrap();
    let error = fail(to(&["export", TINY, "--format", "gguf"], &gguf));
    assert!(error.contains("was not written by this command"), "{error}");
    assert_eq!(under_way(dir.path()), [""; 0]);
}

/// Kills commands that replace `old` by `new` at random moments: the place holds one or the other, whole.
fn kill_at_random(name: &str, old: &dyn Fn(&Path) -> Command, new: &dyn Fn(&Path) -> Command, kills: usize) {
    let dir = tempfile::tempdir().unwrap();
    let [place, whole] = ["place", "whole"].map(|name| dir.path().join(name));
    let start = Instant::now();
    succeed(new(&whole));
    let took = start.elapsed();
    let (after, mut rng) = (contents(&whole), ChaCha8Rng::seed_from_u64(5));
    succeed(old(&place));
    let before = contents(&place);
    assert_ne!(before, after);
    let mut left = 0;
    for kill in 0..kills {
        let mut child = quiet(new(&place));
        // Most of the time goes by before anything is written: half of the kills come late.
        let share = if kill % 2 == 0 { rng.random_range(0.0..1.1) } else { rng.random_range(0.8..1.05) };
        std::thread::sleep(took.mul_f64(share));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = contents(&place);
        assert!(found == before || found == after, "{name}, kill {kill}: a mixture of old and new");
        left += under_way(dir.path()).len();
    }
    eprintln!("{name}: {kills} kills left {left} things behind");
    succeed(new(&place));
    assert_eq!(contents(&place), after, "{name}");
    assert_eq!(under_way(dir.path()), [""; 0], "{name}: the next start sweeps");
}

#[test]
fn a_kill_at_any_moment_leaves_the_old_or_the_new() {
    let dir = tempfile::tempdir().unwrap();
    let [one, other] = ["llama", "fox"].map(|word| text(dir.path(), word, &format!("The {word} sees the sea. ")));
    kill_at_random("rank", &|out| rank(&one, out), &|out| rank(&other, out), 6);
    kill_at_random("synthesize", &|out| synthesize("1", out), &|out| synthesize("2", out), 8);
    kill_at_random("export", &|out| export("4x128*4", out), &|out| export("2x64:4x32:4x128*2", out), 6);
}

#[test]
fn a_signal_takes_away_what_is_being_written() {
    for name in ["-INT", "-TERM"] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("model");
        // So large that there is time.
        let mut child = quiet(to(&["synthesize", "--shape", "smollm2-135m"], &out));
        let start = Instant::now();
        while !under_way(dir.path())
            .iter()
            .any(|name| fs::read_dir(dir.path().join(name)).is_ok_and(|made| made.count() > 0))
        {
            assert!(child.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
        signal(&child, name);
        let status = child.wait().unwrap();
        assert!(!status.success() && status.code() != Some(0), "{status}");
        assert_eq!(contents(dir.path()), BTreeMap::new(), "{name}: nothing is left");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{name}");
    }
}

fn search(out: &Path, delay: &str) -> Command {
    let mut command = criadero(&["search", "tiny", "--objective", "choice_nll:arc_easy", "--objective", "params"]);
    command.args(["--evals", "24", "--population", "8", "--limit", "64", "--evaluator", delay, "--out"]).arg(out);
    command
}

#[test]
fn a_run_directory_is_one_processes_own() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let mut first = quiet(search(&run, "mock:100"));
    let start = Instant::now();
    while fs::metadata(run.join("chunks.log")).map_or(0, |log| log.len()) == 0 {
        assert!(first.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(2));
    }
    let error = fail(search(&run, "mock"));
    let expected = format!("is in use by process {} (criadero search) since 20", first.id());
    assert!(error.contains(&expected) && error.contains("UTC"), "{error}");
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(under_way(&run), [".criadero-lock"], "what says so is left, but holds nobody back");
    succeed(search(&run, "mock"));
    assert_eq!(under_way(&run), [""; 0]);
    let whole = dir.path().join("whole");
    succeed(search(&whole, "mock"));
    for name in ["evaluations.csv", "front.csv", "front.json"] {
        assert_eq!(fs::read(run.join(name)).unwrap(), fs::read(whole.join(name)).unwrap(), "{name}");
    }
    // A directory with other things in it is no run.
    fs::create_dir(dir.path().join("other")).unwrap();
    let notes = text(&dir.path().join("other"), "notes.txt", "dear diary");
    let error = fail(search(&dir.path().join("other"), "mock"));
    assert!(error.contains("holds notes.txt, and no run.json"), "{error}");
    assert!(Path::new(&notes).is_file() && under_way(&dir.path().join("other")).is_empty());
}

#[test]
fn a_picture_is_as_new_as_its_table_wherever_the_process_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let data = text(dir.path(), "text.txt", "The goose is larger than the trout. The fox sees the sea. ");
    let out = dir.path().join("tuned");
    let tune = || {
        let steps = ["--steps", "4", "--measure-every", "2", "--length", "32", "--threads", "1", "--held-out", "0.3"];
        to(&[&["tune", TINY, "--space", "tiny", "--data", &data][..], &steps].concat(), &out)
    };
    // Trained to the end, but the result finds no place: as if the process had been killed before it.
    let child = quiet(tune());
    let start = Instant::now();
    while !out.join("tune.json").is_file() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    fs::create_dir_all(out.join("config.json/full")).unwrap();
    assert!(!child.wait_with_output().unwrap().status.success());
    assert!(out.join("state.safetensors").is_file());
    fs::write(out.join("curve.svg"), "an older picture").unwrap();
    fs::remove_dir_all(out.join("config.json")).unwrap();
    succeed(tune());
    assert!(fs::read_to_string(out.join("curve.svg")).unwrap().contains("<svg"));
    assert!(out.join("config.json").is_file() && !out.join("state.safetensors").exists());
    assert_eq!(under_way(&out), [""; 0]);
}

#[test]
fn files_have_the_permissions_that_the_umask_leaves() {
    let dir = tempfile::tempdir().unwrap();
    for (umask, file, folder) in [("022", 0o644, 0o755), ("077", 0o600, 0o700), ("002", 0o664, 0o775)] {
        let out = dir.path().join(umask);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {umask} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_criadero")]);
        command.args(["synthesize", "--shape", "tiny", "--out"]).arg(&out);
        succeed(command);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&out.join("model.safetensors")), mode(&out)), (file, folder), "umask {umask}");
    }
    // What replaces a directory has the permissions that it had.
    let out = dir.path().join("077");
    succeed(synthesize("2", &out));
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_place_that_cannot_be_written_is_refused_before_the_work() {
    // Not even root makes anything there.
    let error = fail(synthesize("1", Path::new("/proc/criadero/out")));
    assert!(error.contains("/proc"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    if fs::metadata(dir.path()).unwrap().uid() != 0 {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
        for command in [synthesize("1", &dir.path().join("out")), search(&dir.path().join("run"), "mock")] {
            assert!(fail(command).contains("denied"));
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let file = text(dir.path(), "file", "x");
    let error = fail(synthesize("1", Path::new(&file)));
    assert!(error.contains("is a file, not a directory"), "{error}");
    let mut here = synthesize("1", Path::new("."));
    here.current_dir(dir.path());
    assert!(fail(here).contains("is the working directory"));
}
