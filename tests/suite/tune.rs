//! `criadero tune`, `merge` and `distill` through the real binary, on the tiny model.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criadero::checkpoint::Checkpoint;
use criadero::model::supernet::SupernetCard;
use serde_json::json;

use crate::command::{criadero, fail, said, succeed};

use crate::goldens::TINY;

/// Sentences that a small model can learn, one JSON record a line.
fn sentences(dir: &Path) -> String {
    let animals = ["llama", "fox", "dog", "goose", "trout"];
    let line = |place: usize| {
        let (animal, other) = (animals[place % 5], animals[place / 5 % 5]);
        json!({ "text": format!("The {animal} of farm {place} is larger than the {other} of farm {}.", place + 1) })
    };
    let path = dir.join("sentences.jsonl");
    fs::write(&path, (0..400).map(|place| line(place).to_string() + "\n").collect::<String>()).unwrap();
    path.display().to_string()
}

/// A text to measure on.
fn text(dir: &Path) -> String {
    let path = dir.join("text.txt");
    fs::write(&path, "The goose is larger than the trout. ".repeat(20)).unwrap();
    path.display().to_string()
}

/// A supernet of the tiny model, ranked on this text.
fn supernet(dir: &Path, name: &str, text: &str) -> String {
    let file = dir.join(format!("{name}.txt"));
    fs::write(&file, text.repeat(60)).unwrap();
    let out = dir.join(name).display().to_string();
    let text = file.display().to_string();
    succeed(criadero(&["rank", TINY, "--text", &text, "--out", &out, "--tokens", "512", "--window", "64"]));
    out
}

fn tune(supernet: &str, data: &str, out: &Path, more: &[&str]) -> Command {
    let mut command = criadero(&["tune", supernet, "--space", "tiny", "--data", data, "--out"]);
    command.arg(out).args(["--length", "64", "--steps", "30", "--measure-every", "10", "--threads", "1"]);
    command.args(["--learning-rate", "3e-3", "--save-every", "0"]).args(more);
    command
}

fn read(dir: &Path, name: &str) -> Vec<u8> {
    let path = dir.join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Waits until a file holds more than so many lines, then kills the process.
fn kill_after_lines(mut child: Child, file: PathBuf, lines: usize) {
    let start = Instant::now();
    while fs::read_to_string(&file).map_or(0, |text| text.lines().count()) <= lines {
        assert!(child.try_wait().unwrap().is_none(), "it ended before {}", file.display());
        assert!(start.elapsed() < Duration::from_secs(120), "{} never came", file.display());
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The column of a network in `metrics.csv`.
fn losses(dir: &Path, network: &str) -> Vec<f64> {
    let mut reader = csv::Reader::from_path(dir.join("metrics.csv")).unwrap();
    let place = reader.headers().unwrap().iter().position(|header| header == network).unwrap();
    reader.records().map(|record| record.unwrap()[place].parse().unwrap()).collect()
}

#[test]
fn a_killed_fine_tuning_goes_on_to_the_same_bytes_and_small_networks_learn() {
    let dir = tempfile::tempdir().unwrap();
    let data = sentences(dir.path());
    let supernet = supernet(dir.path(), "supernet", "The llama is larger than the fox. ");
    for scheme in ["sandwich", "instatune"] {
        let more = ["--scheme", scheme];
        let (whole, killed) = (dir.path().join(format!("{scheme}-whole")), dir.path().join(format!("{scheme}-killed")));
        let out = succeed(tune(&supernet, &data, &whole, &more));
        assert!(out.contains("checkpoint: "), "{out}");
        for lines in [4, 17] {
            let mut command = tune(&supernet, &data, &killed, &more);
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            kill_after_lines(child, killed.join("timings.csv"), lines);
            assert!(!killed.join("config.json").exists(), "nothing is there that looks finished");
        }
        let output = tune(&supernet, &data, &killed, &more).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.contains("resuming after step"), "{stderr}");
        for file in ["model.safetensors", "metrics.csv", "criadero.json", "config.json"] {
            assert!(read(&killed, file) == read(&whole, file), "{scheme}: {file} differs");
        }
        let card = |dir: &Path| SupernetCard::of(&Checkpoint::open(dir).unwrap()).unwrap().unwrap();
        let (ours, theirs) = (card(&whole), card(Path::new(&supernet)));
        assert!(ours.weights.is_some() && ours.weights != theirs.weights, "each is of its own weights");
        assert_eq!(SupernetCard { weights: theirs.weights.clone(), ..ours }, theirs, "the same order and scores");
        assert!(whole.join("curve.svg").is_file() && !whole.join("state.safetensors").exists());
        for network in ["smallest", "random_1", "random_4"] {
            let losses = losses(&whole, network);
            assert_eq!(losses.len(), 4);
            assert!(losses[3] < losses[0] - 0.5, "{scheme}, {network}: {losses:?}");
        }
        let again = tune(&supernet, &data, &whole, &more).output().unwrap();
        assert!(String::from_utf8_lossy(&again.stdout).contains("finished"), "{again:?}");
    }
}

/// Flips a bit of a file, so many bytes before its end.
fn flip(path: &Path, before_end: usize) -> Vec<u8> {
    let whole = fs::read(path).unwrap();
    let mut bytes = whole.clone();
    let at = bytes.len() - before_end;
    bytes[at] ^= 4;
    fs::write(path, bytes).unwrap();
    whole
}

#[test]
fn a_damaged_state_goes_on_from_the_last_good_one_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let data = sentences(dir.path());
    let [whole, killed] = ["whole", "killed"].map(|name| dir.path().join(name));
    succeed(tune(TINY, &data, &whole, &[]));
    let mut command = tune(TINY, &data, &killed, &[]);
    kill_after_lines(
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(),
        killed.join("timings.csv"),
        14,
    );
    // What it was begun with.
    let settings = flip(&killed.join("tune.json"), 100);
    let error = fail(tune(TINY, &data, &killed, &[]));
    assert!(error.contains("tune.json") && error.contains("damaged or changed since it was written"), "{error}");
    fs::write(killed.join("tune.json"), settings).unwrap();
    // The table is as the state has it, whatever lies beside it.
    for table in ["", "step,tokens\n0,0\n", "step,tokens,learning_rate,train_loss,gradient_norm\n0,0,0,,\n"] {
        fs::write(killed.join("metrics.csv"), table).unwrap();
        let good = fs::read(killed.join("good.safetensors")).unwrap();
        let state = flip(&killed.join("state.safetensors"), 1000);
        flip(&killed.join("good.safetensors"), 2000);
        let error = fail(tune(TINY, &data, &killed, &[]));
        assert!(error.contains("state.safetensors") && error.contains("its checksum is"), "{error}");
        // Another name for the same file would have been written to, too.
        fs::remove_file(killed.join("good.safetensors")).unwrap();
        fs::write(killed.join("good.safetensors"), good).unwrap();
        fs::write(killed.join("state.safetensors"), state).unwrap();
    }
    flip(&killed.join("state.safetensors"), 1000);
    let (_, notes) = said(tune(TINY, &data, &killed, &[]));
    assert!(notes.contains("goes on from good.safetensors") && notes.contains("resuming after step 10"), "{notes}");
    for file in ["model.safetensors", "metrics.csv"] {
        assert!(read(&killed, file) == read(&whole, file), "{file} differs");
    }
    // A table of another end is no reason to train again.
    let lines = String::from_utf8(read(&whole, "metrics.csv")).unwrap();
    fs::write(whole.join("metrics.csv"), lines.lines().take(3).map(|line| format!("{line}\n")).collect::<String>())
        .unwrap();
    let error = fail(tune(TINY, &data, &whole, &[]));
    assert!(error.contains("metrics.csv") && error.contains("it ends with step 10"), "{error}");
}

#[test]
fn damaged_adapters_are_not_merged() {
    let dir = tempfile::tempdir().unwrap();
    let data = sentences(dir.path());
    let tuned = dir.path().join("tuned");
    succeed(tune(TINY, &data, &tuned, &["--lora", "2", "--targets", "q_proj", "--steps", "4", "--measure-every", "2"]));
    let adapter = tuned.join("adapter");
    let merged = dir.path().join("merged").display().to_string();
    let merge = || criadero(&["merge", TINY, adapter.to_str().unwrap(), "--out", &merged]);
    let refused = |name: &str, expected: &str| {
        let error = fail(merge());
        assert!(error.contains(name) && error.contains(expected), "{error}");
    };
    let weights = flip(&adapter.join("adapter_model.safetensors"), 10);
    refused("adapter_model.safetensors", "its checksum is");
    fs::write(adapter.join("adapter_model.safetensors"), weights).unwrap();
    let base = flip(&adapter.join("supernet.json"), 60);
    refused("supernet.json", "damaged or changed");
    fs::write(adapter.join("supernet.json"), base).unwrap();
    let config = fs::read_to_string(adapter.join("adapter_config.json")).unwrap();
    let mut other: serde_json::Value = serde_json::from_str(&config).unwrap();
    other["lora_alpha"] = json!(2.0 * other["lora_alpha"].as_f64().unwrap());
    fs::write(adapter.join("adapter_config.json"), other.to_string()).unwrap();
    refused("adapter_config.json", "rank and alpha: found");
    fs::write(adapter.join("adapter_config.json"), config).unwrap();
    succeed(merge());
}

#[test]
fn adapters_are_merged_and_can_be_applied_again_to_the_same_order_only() {
    let dir = tempfile::tempdir().unwrap();
    let data = sentences(dir.path());
    let base = supernet(dir.path(), "supernet", "The llama is larger than the fox. ");
    let tuned = dir.path().join("tuned");
    let lora = ["--lora", "4", "--targets", "q_proj,v_proj,o_proj,down_proj", "--learning-rate", "3e-3"];
    succeed(tune(&base, &data, &tuned, &lora));
    let losses = losses(&tuned, "smallest");
    assert!(losses.windows(2).all(|pair| pair[1] < pair[0]), "it falls at every measurement: {losses:?}");
    let adapter = tuned.join("adapter").display().to_string();
    let merged = dir.path().join("merged");
    let merge = |supernet: &str| criadero(&["merge", supernet, &adapter, "--out", merged.to_str().unwrap()]);
    succeed(merge(&base));
    // Of the weights: the files' headers name the commands that made them.
    let weights = |dir: &Path| Checkpoint::open(dir).unwrap().digest().unwrap();
    assert_eq!(weights(&merged), weights(&tuned), "the same merge");
    assert_ne!(weights(&merged), weights(Path::new(&base)));

    let other = supernet(dir.path(), "other", "Water boils at 100 degrees and freezes at 0. ");
    let error = fail(merge(&other));
    assert!(error.contains("order of heads and channels"), "{error}");
    let error = fail(criadero(&["merge", &base, &adapter, "--out", &base]));
    assert!(error.contains("which is read"), "{error}");
    let again = dir.path().join("again").display().to_string();
    let file = dir.path().join("supernet.txt").display().to_string();
    let order = format!("{adapter}/criadero.json");
    succeed(criadero(&["rank", TINY, "--text", &file, "--out", &again, "--order", &order]));
    assert!(
        read(Path::new(&again), "model.safetensors") == read(Path::new(&base), "model.safetensors"),
        "the order lies beside"
    );
    let error = fail(merge(TINY));
    assert!(error.contains("none (never ranked)"), "{error}");
    let error = fail(tune(&base, &data, &dir.path().join("x"), &["--lora", "4", "--targets", "q_proj,w_proj"]));
    assert!(error.contains("`w_proj`") && error.contains("gate_proj"), "{error}");
}

#[test]
fn recomputation_changes_no_more_than_rounding() {
    let dir = tempfile::tempdir().unwrap();
    let data = sentences(dir.path());
    let [kept, again] = ["kept", "again"].map(|name| dir.path().join(name));
    succeed(tune(TINY, &data, &kept, &[]));
    succeed(tune(TINY, &data, &again, &["--recompute"]));
    for network in ["largest", "smallest"] {
        for (a, b) in losses(&kept, network).iter().zip(losses(&again, network)) {
            assert!((a - b).abs() < 1e-3, "{network}: {a} {b}");
        }
    }
}

#[test]
fn a_network_of_a_front_is_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let data = sentences(dir.path());
    let row = |place: usize| {
        json!({ "context": format!("Farm {place}:"), "choices": ["llama", "fox"], "gold": place % 2 }).to_string()
            + "\n"
    };
    let task = dir.path().join("task.jsonl").display().to_string();
    fs::write(&task, (0..20).map(row).collect::<String>()).unwrap();
    let (nll, run) = (format!("choice_nll:{task}"), dir.path().join("run").display().to_string());
    let mut search = criadero(&["search", "tiny", "--model", TINY, "--objective", &nll, "--objective", "params"]);
    search.args(["--evals", "8", "--population", "4", "--threads", "1", "--out", &run]);
    succeed(search);
    let distill = |pick: &str, out: &Path| {
        let mut command = criadero(&["distill", &run, "--pick", pick, "--data", &data, "--out"]);
        command.arg(out).args(["--length", "64", "--steps", "30", "--measure-every", "10", "--threads", "1"]);
        command.args(["--learning-rate", "3e-3"]);
        command
    };
    let out = dir.path().join("distilled");
    // The smallest network is the second that every search measures, and always on its front.
    let said = succeed(distill("1", &out));
    assert!(said.starts_with("network 1: "), "{said}");
    let losses = losses(&out, "network");
    assert!(losses[3] < 0.9 * losses[0], "its divergence from the parent: {losses:?}");
    let scored = succeed(criadero(&["eval", out.to_str().unwrap(), "--task", &task, "--json"]));
    assert!(scored.contains("\"items\":20") || scored.contains("\"items\": 20"), "{scored}");
    let error = fail(criadero(&["distill", TINY, "--pick", "knee", "--data", &data, "--out", "/tmp/never"]));
    assert!(error.contains("is no run"), "{error}");
}

#[test]
fn bad_input_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = sentences(dir.path());
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let empty = write("empty.jsonl", "");
    let short = write("short.txt", "One.");
    let fieldless = write("fieldless.jsonl", "{\"text\": \"good\"}\n{\"txt\": \"bad\"}\n{\"txt\": \"bad\"}\n");
    let out = dir.path().join("out");
    for (data, more, expected) in [
        (empty.as_str(), vec![], "empty.jsonl"),
        (&short, vec![], "short.txt"),
        (&fieldless, vec![], "fieldless.jsonl"),
        (&fieldless, vec![], "line 2; line 3: found `txt`, expected"),
        ("/no/such/file.jsonl", vec![], "/no/such/file.jsonl"),
        (&data, vec!["--learning-rate", "0"], "learning rate"),
        (&data, vec!["--learning-rate", "NaN"], "learning rate"),
        (&data, vec!["--learning-rate", "-1e-4"], "learning rate"),
        (&data, vec!["--steps", "0"], "steps"),
        (&data, vec!["--warmup", "30"], "warm-up"),
        (&data, vec!["--space", "smollm2-135m"], "search space"),
        (&data, vec!["--lora", "0"], "rank 0"),
        (&data, vec!["--length", "100000"], "positions"),
        (&data, vec!["--memory", "0.0001"], "this needs"),
        (&data, vec!["--held-out-sequences", "0"], "held-out sequences"),
        (&data, vec!["--scheme", "instatune", "--no-balancing"], "sandwich"),
    ] {
        let mut command = criadero(&["tune", TINY, "--data", data, "--out"]);
        command.arg(&out).args(["--length", "64", "--steps", "30", "--threads", "1"]);
        if !more.contains(&"--space") {
            command.args(["--space", "tiny"]);
        }
        command.args(&more);
        let error = fail(command);
        assert!(error.contains(expected), "{more:?}, {data}: {error}");
    }
    assert!(!out.join("tune.json").exists(), "nothing was begun");
}

#[test]
fn bad_records_are_left_out_and_listed_with_the_settings() {
    let dir = tempfile::tempdir().unwrap();
    let turns = |n: usize| {
        format!("{{\"from\": \"human\", \"value\": \"{n}?\"}}, {{\"from\": \"gpt\", \"value\": \"the cat {n}\"}}")
    };
    let mut lines: Vec<String> = (0..20).map(|n| format!("{{\"conversations\": [{}]}}", turns(n))).collect();
    lines.insert(1, "{\"conversations\": [{\"from\": \"narrator\", \"value\": \"\"}]}".to_string());
    lines.push("{\"conversations\"".to_string());
    let data = dir.path().join("chat.jsonl");
    fs::write(&data, lines.join("\n")).unwrap();
    let out = dir.path().join("out");
    let (_, notes) = said(tune(TINY, &data.display().to_string(), &out, &[]));
    assert!(
        notes.contains("chat.jsonl: 2 of 22 rows were left out\n  line 2: `conversations[0]`: found the role"),
        "{notes}"
    );
    let settings: serde_json::Value = serde_json::from_slice(&read(&out, "tune.json")).unwrap();
    let left_out = &settings["left_out"];
    assert_eq!((&left_out["count"], &left_out["reasons"][1]["rows"][0]), (&2.into(), &"line 22".into()), "{left_out}");
}

#[test]
fn other_settings_are_refused_with_the_difference() {
    let dir = tempfile::tempdir().unwrap();
    let data = sentences(dir.path());
    let out = dir.path().join("out");
    let mut command = tune(TINY, &data, &out, &[]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    kill_after_lines(child, out.join("timings.csv"), 3);
    let error = fail(tune(TINY, &data, &out, &["--learning-rate", "1e-3", "--scheme", "instatune"]));
    assert!(error.contains("schedule.learning_rate is 0.003 there, 0.001 here"), "{error}");
    assert!(error.contains("curriculum.scheme is \"sandwich\" there, \"instatune\" here"), "{error}");
    let other = dir.path().join("other.jsonl");
    let more = fs::read_to_string(&data).unwrap() + "{\"text\": \"one more\"}\n";
    fs::write(&other, more).unwrap();
    let error = fail(tune(TINY, other.to_str().unwrap(), &out, &[]));
    assert!(error.contains("data_digest"), "{error}");
}

#[test]
fn divergence_stops_and_names_the_last_good_state() {
    let dir = tempfile::tempdir().unwrap();
    let data = sentences(dir.path());
    let out = dir.path().join("out");
    let error = fail(tune(TINY, &data, &out, &["--learning-rate", "10", "--warmup", "0", "--clip", "1e9"]));
    assert!(error.contains("diverged at step") && error.contains("out/last-good"), "{error}");
    assert!(!out.join("config.json").exists());
    // What was good is the supernet itself: the first measurement after it was already worse.
    let good = out.join("last-good").display().to_string();
    let perplexity = |model: &str| {
        let out = succeed(criadero(&["eval", model, "--task", &text(dir.path()), "--json"]));
        serde_json::from_str::<serde_json::Value>(&out).unwrap()["perplexity"].as_f64().unwrap()
    };
    assert_eq!(perplexity(&good), perplexity(TINY));
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    let dir = tempfile::tempdir().unwrap();
    let data = sentences(dir.path());
    let plan = |batch: &str| -> Vec<u64> {
        let out = succeed(criadero(&["plan", TINY, "--space", "tiny", "--length", "64", "--batch", batch, "--json"]));
        let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
        let of = |work: &str| plan["work"].as_array().unwrap().iter().find(|row| row["work"] == work).unwrap().clone();
        ["tune, sandwich", "tune, sandwich, recompute"].map(|work| of(work)["peak_bytes"].as_u64().unwrap()).into()
    };
    let (large, small) = (plan("8"), plan("4"));
    assert!(small[0] < large[0] && large[1] < large[0], "{small:?} {large:?}");
    // Between what four and what eight sequences need.
    let gigabytes = format!("{}", (small[0] + large[0]) as f64 / 2e9);
    let error = fail(tune(TINY, &data, &dir.path().join("out"), &["--batch", "8", "--memory", &gigabytes]));
    assert!(error.contains("--batch 4 --accumulate 2 (") && error.contains("--recompute"), "{error}");
    succeed(tune(TINY, &data, &dir.path().join("out"), &["--batch", "4", "--accumulate", "2", "--memory", &gigabytes]));
}

#[test]
fn a_plan_fits_a_screen_and_says_what_a_killed_tune_leaves() {
    let card = ["plan", "--space", "llama2-7b", "--memory", "80", "--device", "cuda"];
    for arguments in [&["plan", TINY, "--space", "tiny"][..], &["plan", TINY], &card] {
        let (out, beside) = said(criadero(arguments));
        assert!(out.lines().count() + beside.lines().count() < 24, "{out}{beside}");
        assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
        let details = succeed(criadero(&[arguments, &["-v"]].concat()));
        assert!(details.contains("  moments ") && details.contains("  last good state "), "{details}");
    }
    let dir = tempfile::tempdir().unwrap();
    let data = sentences(dir.path());
    let out = dir.path().join("out");
    let child = tune(TINY, &data, &out, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    kill_after_lines(child, out.join("timings.csv"), 12);
    // The header of safetensors, whose length it begins with, is not counted.
    let tensors = |name: &str| {
        let bytes = read(&out, name);
        bytes.len() as u64 - 8 - u64::from_le_bytes(bytes[..8].try_into().unwrap())
    };
    let plan: serde_json::Value = serde_json::from_str(&succeed(criadero(&["plan", TINY, "--json"]))).unwrap();
    let rows = plan["work"].as_array().unwrap();
    let row = rows.iter().find(|row| row["work"] == "tune, sandwich").unwrap();
    let part = |name: &str| {
        let parts = row["disk_parts"].as_array().unwrap();
        parts.iter().find(|part| part["name"] == name).unwrap()["bytes"].as_u64().unwrap()
    };
    assert_eq!(tensors("state.safetensors"), part("state"));
    assert_eq!(tensors("good.safetensors"), part("last good state"));
    assert_eq!(row["disk_peak_bytes"].as_u64().unwrap(), 3 * part("state"));
    succeed(tune(TINY, &data, &out, &[]));
    assert_eq!(tensors("model.safetensors"), row["disk_end_bytes"].as_u64().unwrap());
}

#[test]
fn a_teacher_is_loaded_with_its_corrected_matrices() {
    let dir = tempfile::tempdir().unwrap();
    let (text, supernet) = (text(dir.path()), dir.path().join("supernet").display().to_string());
    let rank =
        ["rank", TINY, "--space", "tiny", "--text", &text, "--tokens", "512", "--window", "64", "--out", &supernet];
    succeed(criadero(&rank));
    let teacher = |model: &str| {
        let plan: serde_json::Value = serde_json::from_str(&succeed(criadero(&["plan", model, "--json"]))).unwrap();
        let rows = plan["work"].as_array().unwrap();
        let row = rows.iter().find(|row| row["work"] == "distill (the largest network)").unwrap();
        let parts = row["parts"].as_array().unwrap();
        let part = |name: &str| parts.iter().find(|part| part["name"] == name).unwrap()["bytes"].as_u64().unwrap();
        assert_eq!(part("teacher"), part("weights"), "both are the whole model");
        part("teacher")
    };
    assert!(teacher(&supernet) > teacher(TINY));
}

#[test]
fn a_plan_for_seven_billion_parameters_needs_no_weights() {
    let out = succeed(criadero(&["plan", "--space", "llama2-7b", "--memory", "80", "--device", "cuda", "--json"]));
    let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
    let row = |work: &str| plan["work"].as_array().unwrap().iter().find(|row| row["work"] == work).unwrap().clone();
    let bytes = |work: &str| row(work)["peak_bytes"].as_u64().unwrap();
    // 6.74 billion weights of two bytes, and little else.
    assert!((13_476_831_232..16_000_000_000).contains(&bytes("eval")), "{}", bytes("eval"));
    let quantize = bytes("quantize (a front in 4 bits)");
    assert!((26_953_662_464..29_500_000_000).contains(&quantize), "the weights twice: {quantize}");
    assert_eq!(row("tune, sandwich")["fits"], false, "16 bytes a weight and more");
    assert_eq!(row("tune, sandwich, LoRA, recompute")["fits"], true);
    assert!(row("tune, sandwich, LoRA, recompute")["largest_batch"].as_u64().unwrap() >= 2);
}

/// A full disk, as a limit on the size of files: the state before stays whole.
#[test]
fn a_full_disk_keeps_the_state_before() {
    let dir = tempfile::tempdir().unwrap();
    let data = sentences(dir.path());
    let (out, whole) = (dir.path().join("out"), dir.path().join("whole"));
    let mut command = tune(TINY, &data, &out, &[]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    kill_after_lines(child, out.join("timings.csv"), 5);
    let before = read(&out, "state.safetensors");
    let command = tune(TINY, &data, &out, &[]);
    let mut limited = Command::new("bash");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 500; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args());
    let error = fail(limited);
    assert!(error.contains("state.safetensors: File too large"), "{error}");
    assert!(read(&out, "state.safetensors") == before, "the state before is whole");
    succeed(tune(TINY, &data, &out, &[]));
    succeed(tune(TINY, &data, &whole, &[]));
    assert!(read(&out, "model.safetensors") == read(&whole, "model.safetensors"));
}
