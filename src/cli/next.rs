//! What is worth trying next: two commands behind one that did its work, with the user's own paths.

use std::path::Path;

use criadero::run::{Front, command_line};
use criadero::space::{Cost, SearchSpace};

use super::verbosity::Verbosity;

/// A task to begin with, which `criadero fetch demo` brings.
const TASK: &str = "arc_easy";

/// What a command did, and what the next ones need of it.
pub enum Done<'a> {
    /// A model was ranked: where the supernet is, and a space with a limit of parameters that half of its range meets, if one is known.
    Ranked { supernet: &'a Path, space: Option<(&'a str, u64)> },
    /// A supernet was trained for a space.
    Tuned { checkpoint: &'a Path, space: &'a str },
    /// A run has a front: which network of it to begin with.
    Searched { run: &'a Path, pick: String, mock: bool },
    /// A throughput table is there: of a model and a space, good for these objectives.
    Measured { table: &'a Path, model: &'a Path, space: &'a str, speeds: Vec<&'static str> },
    /// A model was shrunk: the network, its run, and which other network of that to look at.
    Shrunk { out: &'a Path, network: &'a Path, run: &'a Path, pick: String },
    /// A network was written, which these tasks can score.
    Exported { written: &'a Path, task: Option<&'a str> },
    /// A front or model was scored in so many bits, such as `8`: how a command names a network of it, and its bytes then.
    Quantized { from: &'a Path, pick: Option<String>, task: Option<&'a str>, bits: String, bytes: u64 },
    /// A network of a run was recovered: with the bits of `bits_of`, if it had any.
    Distilled { checkpoint: &'a Path, task: Option<&'a str>, bits_of: Option<String> },
}

/// How a network of a front is picked to begin with: the knee, or where there is none the one in the middle.
pub fn pick_of(front: &Front) -> String {
    match (front.knee(), front.points.get(front.points.len() / 2)) {
        (None, Some(point)) => point.id.to_string(),
        _ => "knee".to_string(),
    }
}

impl Done<'_> {
    /// Says it, unless the command is a step of another one.
    pub fn say_next(&self) {
        if !Verbosity::is_step() {
            self.lines().iter().for_each(|line| eprintln!("next: {line}"));
        }
    }

    /// The two commands.
    fn lines(&self) -> [String; 2] {
        match self {
            Done::Ranked { supernet, space: Some((space, params)) } => {
                let limit = format!("params<={}", limit_of(*params));
                let (model, out) = (shown(supernet), beside(supernet, "-small.gguf"));
                let export = ["export", &model, "--space", space, "--pick", &limit, "--format", "gguf", "--out", &out];
                [search(space, supernet, &["params"], &[], &beside(supernet, "-run")), line(&export)]
            }
            Done::Ranked { supernet, space: None } => [line(&["space", &shown(supernet)]), eval(supernet, None)],
            Done::Tuned { checkpoint, space } => {
                [search(space, checkpoint, &["params"], &[], &beside(checkpoint, "-run")), eval(checkpoint, None)]
            }
            Done::Searched { run, mock: true, .. } => [line(&["show", &shown(run)]), line(&["plot", &shown(run)])],
            Done::Searched { run, pick, .. } => {
                [line(&["plot", &shown(run)]), export(run, pick, &[], "gguf", &beside(run, ".gguf"))]
            }
            Done::Measured { table, model, space, speeds } => {
                let from_table = ["--table", &shown(table)];
                let by =
                    |speed: &&str| search(space, model, &[speed], &from_table, &beside(table, &format!("-{speed}")));
                let inspect = || line(&["inspect", space, "--model", &shown(model)]);
                [speeds.first().map_or_else(inspect, by), speeds.get(1).map_or_else(inspect, by)]
            }
            Done::Shrunk { out, network, run, pick } => {
                [generate(network), export(run, pick, &[], "hf", &shown(&out.join("another")))]
            }
            Done::Exported { written, task } => [generate(written), eval(written, *task)],
            Done::Quantized { from, pick, task, bits, bytes } => {
                let (out, model) = (beside(from, &format!("-{bits}.gguf")), shown(from));
                let bytes = bytes.to_string();
                let of =
                    pick.iter().flat_map(|pick| ["--pick", pick]).chain(task.iter().flat_map(|task| ["--task", task]));
                let mixed = ["quantize", &model].into_iter().chain(of).chain(["--bits", "mixed", "--budget", &bytes]);
                let mixed: Vec<&str> = mixed.chain(["--out"]).collect();
                let pick = pick.iter().flat_map(|pick| ["--pick", pick]);
                let plain = ["export", &model]
                    .into_iter()
                    .chain(pick)
                    .chain(["--bits", bits, "--format", "gguf", "--out", &out]);
                [line(&plain.collect::<Vec<_>>()), line(&[&mixed[..], &[&beside(from, "-mixed")]].concat())]
            }
            Done::Distilled { checkpoint, task, bits_of } => {
                let (model, out) = (shown(checkpoint), beside(checkpoint, ".gguf"));
                let bits = bits_of.iter().flat_map(|other| ["--bits-of", other]);
                let words = ["export", &model].into_iter().chain(bits).chain(["--format", "gguf", "--out", &out]);
                [eval(checkpoint, *task), line(&words.collect::<Vec<_>>())]
            }
        }
    }
}

/// A short search: on the task to begin with, and on what else is wanted.
fn search(space: &str, model: &Path, objectives: &[&str], more: &[&str], out: &str) -> String {
    let (model, scored) = (shown(model), format!("choice_nll:{TASK}"));
    let mut words = vec!["search", space, "--model", &model, "--objective", &scored];
    words.extend(objectives.iter().flat_map(|objective| ["--objective", objective]));
    words.extend(more);
    words.extend(["--limit", "64", "--held-out", "200", "--evals", "64", "--out", out]);
    line(&words)
}

fn export(run: &Path, pick: &str, more: &[&str], format: &str, out: &str) -> String {
    let run = shown(run);
    line(&[&["export", &run, "--pick", pick][..], more, &["--format", format, "--out", out]].concat())
}

fn eval(model: &Path, task: Option<&str>) -> String {
    line(&["eval", &shown(model), "--task", task.unwrap_or(TASK), "--limit", "200"])
}

fn generate(model: &Path) -> String {
    line(&["generate", &shown(model), "--prompt", "Once upon a time"])
}

/// A line to paste.
fn line(words: &[&str]) -> String {
    command_line(&std::iter::once("criadero").chain(words.iter().copied()).map(String::from).collect::<Vec<_>>())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A name beside a path; in it where it has no name of its own, such as `.`.
fn beside(path: &Path, ending: &str) -> String {
    let name = if path.file_name().is_some() { "" } else { "/criadero" };
    format!("{}{name}{ending}", shown(path).trim_end_matches('/'))
}

/// A count as a limit has it.
fn limit_of(count: u64) -> String {
    let units = [(1_000_000, "M"), (1_000, "k")];
    let unit = units.into_iter().find(|(unit, _)| count > 0 && count.is_multiple_of(*unit));
    unit.map_or(count.to_string(), |(unit, name)| format!("{}{name}", count / unit))
}

/// A limit of parameters that some networks of a space meet and others do not: half of its range, rounded where that is one, too.
pub fn half_of(space: &SearchSpace) -> u64 {
    let [least, most] = [space.smallest(), space.largest()].map(|genome| Cost::of(space.shape(), &genome).params);
    let half = least + (most - least) / 2;
    let digits = 10_u64.pow(half.checked_ilog10().unwrap_or(0).saturating_sub(1));
    let rounded = half / digits * digits;
    if rounded >= least { rounded } else { half }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Cli;
    use super::super::tests::words;
    use super::*;

    #[test]
    fn every_next_command_parses_and_has_the_users_paths() {
        for path in ["results/mine", "my models/it's #1/", "a$b", "."] {
            let path = Path::new(path);
            let all = [
                Done::Ranked { supernet: path, space: Some(("a b.yaml", 100_000)) },
                Done::Ranked { supernet: path, space: None },
                Done::Tuned { checkpoint: path, space: "smollm2-135m" },
                Done::Searched { run: path, pick: "knee".into(), mock: false },
                Done::Searched { run: path, pick: "12".into(), mock: true },
                Done::Measured { table: path, model: path, space: "s", speeds: vec!["latency_ms", "prefill_tps"] },
                Done::Measured { table: path, model: path, space: "s", speeds: vec![] },
                Done::Shrunk { out: path, network: path, run: path, pick: "weight_bytes<=80MB".into() },
                Done::Exported { written: path, task: Some("my own.jsonl") },
                Done::Quantized { from: path, pick: Some("knee".into()), task: None, bits: "8".into(), bytes: 1 },
                Done::Quantized { from: path, pick: None, task: Some("t"), bits: "q4_k".into(), bytes: 1 },
                Done::Distilled { checkpoint: path, task: None, bits_of: Some("a run#params<=1M".into()) },
                Done::Distilled { checkpoint: path, task: Some("t"), bits_of: None },
            ];
            for line in all.iter().flat_map(Done::lines) {
                let read = words(&line);
                let parsed = Cli::try_parse_from(&read);
                assert!(parsed.is_ok(), "{line}\n{}", parsed.err().unwrap());
                let begins = path.display().to_string();
                assert!(read.iter().any(|word| word.starts_with(begins.trim_end_matches('/'))), "{line}");
            }
        }
    }

    #[test]
    fn limits_are_half_way_and_short() {
        assert_eq!([97_000_000, 97_500, 98_000, 7].map(limit_of), ["97M", "97500", "98k", "7"]);
        for name in ["tiny", "smollm2-135m", "smollm2-135m-mixed", "llama2-7b", "qwen3-0.6b"] {
            let space = SearchSpace::open(name).unwrap();
            let [least, most] =
                [space.smallest(), space.largest()].map(|genome| Cost::of(space.shape(), &genome).params);
            assert!((least..most).contains(&half_of(&space)), "{name}");
        }
    }

    #[test]
    fn names_beside_a_directory_are_none_in_it() {
        assert_eq!(beside(Path::new("a/b/"), "-run"), "a/b-run");
        assert_eq!(beside(Path::new("."), "-run"), "./criadero-run");
        let [first, second] = Done::Exported { written: Path::new("it's.gguf"), task: None }.lines();
        assert_eq!(first, "criadero generate 'it'\\''s.gguf' --prompt 'Once upon a time'");
        assert_eq!(second, "criadero eval 'it'\\''s.gguf' --task arc_easy --limit 200");
    }
}
