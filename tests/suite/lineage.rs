//! What an upload needs: model cards, licences and base models, from a parent to what is exported of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use criadero::checkpoint::{Checkpoint, Lineage, Relation};
use criadero::run::{Front, FrontPoint};

use crate::command::{criadero, fail, said, succeed};
use crate::eval::questions;
use crate::goldens::{TINY, copy_of_tiny};

/// What the parent says of itself.
const CARD: &str = "---\nlicense: llama3.2\nlicense_link: https://example.org/LICENSE\nbase_model: org/first\nlanguage: [en, no]\n\
                    tags: [text-generation]\n---\n# Tiny\n";

/// The tiny model with this card and a licence.
fn parent(dir: &Path, card: &str) -> PathBuf {
    let model = dir.join("model");
    fs::create_dir(&model).unwrap();
    copy_of_tiny(&model);
    fs::write(model.join("README.md"), card).unwrap();
    fs::write(model.join("LICENSE.txt"), "All of the licence.").unwrap();
    model
}

fn export(from: &Path, more: &[&str], out: &Path) -> Command {
    let mut command = criadero(&["export"]);
    command.arg(from).args(more).arg("--out").arg(out);
    command
}

fn rank(model: &Path, dir: &Path) -> PathBuf {
    let (text, out) = (dir.join("text.txt"), dir.join("supernet"));
    fs::write(&text, "The goose is larger than the trout. ".repeat(40)).unwrap();
    let mut command = criadero(&["rank"]);
    command.arg(model).arg("--text").arg(text).arg("--out").arg(&out);
    command.args(["--tokens", "128", "--window", "64", "--loss-tokens", "64"]);
    succeed(command);
    out
}

fn card(dir: &Path) -> String {
    fs::read_to_string(dir.join("README.md")).unwrap()
}

fn lineage(path: &Path) -> Lineage {
    Checkpoint::open(path).unwrap().lineage().unwrap()
}

/// The files of a directory.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.file_name().unwrap().into(), fs::read(&path).unwrap())).collect()
}

/// Whether a GGUF file has this text under this key.
fn has(gguf: &Path, key: &str, text: &str) -> bool {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let pair = [string(key), 8_u32.to_le_bytes().to_vec(), string(text)].concat();
    fs::read(gguf).unwrap().windows(pair.len()).any(|found| found == pair)
}

#[test]
fn licence_and_base_model_go_from_the_parent_into_every_export() {
    let dir = tempfile::tempdir().unwrap();
    let model = parent(dir.path(), CARD);
    let supernet = rank(&model, dir.path());
    let of_parent = lineage(&model);
    assert_eq!((of_parent.parents(), of_parent.languages.len()), (vec!["org/first".to_string()], 2));
    assert_eq!(lineage(&supernet), of_parent, "rank hands on what it finds");
    assert!(card(&supernet).contains("\n# `org/first`, ranked\n"), "{}", card(&supernet));

    let pruned = Lineage { is_pruned: true, ..of_parent };
    for format in ["hf", "hf-padded"] {
        let out = dir.path().join(format);
        succeed(export(&supernet, &["--genome", "4x128:2x64:4x128:-", "--format", format], &out));
        assert_eq!(lineage(&out), pruned, "{format}");
        assert_eq!(fs::read_to_string(out.join("LICENSE.txt")).unwrap(), "All of the licence.");
        let text = card(&out);
        let front = "---\nlicense: \"llama3.2\"\nlicense_link: \"https://example.org/LICENSE\"\nbase_model: \"org/first\"\n\
                     language:\n- \"en\"\n- \"no\"\nlibrary_name: \"transformers\"\npipeline_tag: \"text-generation\"\n\
                     tags:\n- \"criadero\"\n- \"pruned\"\n---\n\n# `org/first`, ";
        assert!(text.starts_with(front), "{text}");
        for part in ["| genome | `4x128:2x64:4x128:-` |", "| layers | 3 of the parent's 4 |", "from_pretrained(path"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let command = format!("criadero export supernet --genome 4x128:2x64:4x128:- --format {format} --out DIR\n");
        assert!(text.contains(&command), "{text}");
        assert_eq!(text.contains("trust_remote_code=True"), format == "hf", "{text}");
        assert!(!text.contains(dir.path().to_str().unwrap()), "no place of this machine is in {text}");
        assert!(!text.contains("Held-out"), "nothing was scored: {text}");
    }
    let gguf = dir.path().join("small.gguf");
    succeed(export(&supernet, &["--genome", "4x128:2x64:4x128:-", "--format", "gguf"], &gguf));
    for (key, text) in [
        ("general.name", "supernet"),
        ("general.license", "llama3.2"),
        ("general.license.link", "https://example.org/LICENSE"),
        ("general.base_model.0.name", "first"),
        ("general.base_model.0.organization", "org"),
        ("general.base_model.0.repo_url", "https://huggingface.co/org/first"),
    ] {
        assert!(has(&gguf, key, text), "{key}");
    }
    assert_eq!(lineage(&gguf), Lineage { notices: BTreeMap::new(), ..pruned.clone() });

    // From there into a supernet again, and into what is made of that.
    let again = dir.path().join("again");
    fs::create_dir(&again).unwrap();
    let whole = again.join("whole.gguf");
    succeed(export(&supernet, &["--format", "gguf"], &whole));
    let out = again.join("out");
    succeed(export(&rank(&whole, &again), &["--genome", "4x128@8*4", "--format", "hf"], &out));
    let expected =
        Lineage { relation: Some(Relation::Quantized), is_pruned: false, notices: BTreeMap::new(), ..pruned };
    assert_eq!(lineage(&out), expected);
}

#[test]
fn what_was_trained_says_so_and_so_do_its_networks() {
    let dir = tempfile::tempdir().unwrap();
    let model = parent(dir.path(), CARD);
    let (data, tuned, out) = (dir.path().join("text.txt"), dir.path().join("tuned"), dir.path().join("out"));
    fs::write(&data, "The goose is larger than the trout. ".repeat(200)).unwrap();
    let mut tune = criadero(&["tune"]);
    tune.arg(&model).args(["--space", "tiny", "--length", "64", "--steps", "1", "--data"]).arg(&data);
    tune.arg("--out").arg(&tuned);
    succeed(tune);
    assert_eq!(lineage(&tuned), lineage(&model).trained());
    succeed(export(&tuned, &["--genome", "2x64*4", "--format", "hf"], &out));
    assert!(card(&out).contains("\nbase_model_relation: \"finetune\"\n"), "{}", card(&out));
}

#[test]
fn a_network_of_a_run_shows_what_it_scored_and_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let model = parent(dir.path(), CARD);
    let (task, run) = (questions(dir.path(), 60), dir.path().join("run"));
    let mut search =
        criadero(&["search", "tiny", "--objective", &format!("choice_nll:{task}"), "--objective", "params"]);
    search.args(["--evals", "12", "--population", "6", "--seed", "1", "--threads", "1", "--workers", "1"]);
    search.arg("--model").arg(&model).arg("--out").arg(&run);
    succeed(search);
    let front = Front::read_json(&run.join("front.json")).unwrap();
    let FrontPoint { id, genome, held_out, .. } = &front.points[0];
    let id = id.to_string();
    let pick = ["--pick", id.as_str(), "--format", "hf"];
    let (bare, shown) = (dir.path().join("bare"), dir.path().join("shown"));
    fs::remove_dir_all(run.join("plots")).ok();
    succeed(export(&run, &pick, &bare));
    let text = card(&bare);
    let score = &held_out[0];
    let row = format!("| {} | {:.3} ± {:.3} | ", score.items, score.value, score.stderr);
    assert!(text.contains(&row) && text.contains(&format!("| {:+.3} ± {:.3} |", score.delta, score.delta_stderr)));
    let place = format!("It is network {id} of the front, number 1 of {} from the smallest on", front.points.len());
    assert!(text.contains(&place), "{text}");
    assert!(
        text.contains(&format!("| genome | `{genome}` |")) && !text.contains("![") && !bare.join("front.png").exists()
    );
    assert!(text.contains("Searched for with\n\n```sh\ncriadero search tiny --objective choice_nll:questions.jsonl "));
    assert!(!text.contains(dir.path().to_str().unwrap()), "no place of this machine is in {text}");

    let mut plot = criadero(&["plot"]);
    plot.arg(&run);
    succeed(plot);
    succeed(export(&run, &pick, &shown));
    assert!(card(&shown).contains("(front.png)\n"), "{}", card(&shown));
    assert_eq!(fs::read(shown.join("front.png")).unwrap(), fs::read(run.join("plots/front.png")).unwrap());
    // What was not scored says so, or shows nothing.
    let other = dir.path().join("other");
    succeed(export(&run, &[&pick[..], &["--bits", "8"]].concat(), &other));
    assert!(card(&other).contains("The network was scored before `--bits` changed it."), "{}", card(&other));
    let unscored = ["--genome", "2x32:-*3", "--format", "hf"];
    succeed(export(&run, &unscored, &dir.path().join("unscored")));
    let text = card(&dir.path().join("unscored"));
    assert!(text.contains("criadero search tiny") && !text.contains("Held-out"), "{text}");
    // The same wherever it is written, and again.
    let elsewhere = dir.path().join("elsewhere");
    succeed(export(&run, &pick, &elsewhere));
    assert_eq!(contents(&elsewhere), contents(&shown));
    succeed(export(&run, &pick, &elsewhere));
    assert_eq!(contents(&elsewhere), contents(&shown));
}

#[test]
fn a_card_or_licence_that_people_changed_is_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (parent(dir.path(), CARD), dir.path().join("out"));
    let once = |more: &[&str]| export(&model, &[&["--genome", "2x64*4", "--format", "hf"], more].concat(), &out);
    succeed(once(&[]));
    let written = contents(&out);
    for (name, text) in
        [("README.md", card(&out) + "\nBetter.\n"), ("LICENSE.txt", "Mine.".into()), ("NOTICE", "Me.".into())]
    {
        fs::write(out.join(name), &text).unwrap();
        let error = fail(once(&[]));
        assert!(error.contains("also holds") && error.contains(name) && error.contains("--force"), "{error}");
        assert_eq!(fs::read_to_string(out.join(name)).unwrap(), text);
        succeed(once(&["--force"]));
        assert_eq!(contents(&out), written);
    }
}

#[test]
fn a_strangers_card_forges_nothing_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let hostile = "---\nlicense: \"mit\\n---\\n# forged\\nbase_model: a/b\"\nbase_model: [\"org/x](http://evil)\", org/fine]\n\
                   license_name: \"```\\n<script>\"\nlanguage: [\"en\\u2028tags: x\"]\n---\n";
    let (model, out) = (parent(dir.path(), hostile), dir.path().join("out"));
    let pruned = ["--genome", "2x64*4", "--format", "hf", "--force"];
    succeed(export(&model, &pruned, &out));
    let text = card(&out);
    assert_eq!(text.lines().filter(|line| *line == "---").count(), 2, "{text}");
    assert!(text.lines().all(|line| line != "# forged") && !text.contains("evil"), "{text}");
    let (of_parent, of_network) = (lineage(&model), lineage(&out));
    assert_eq!((&of_network.languages, of_network.parents()), (&of_parent.languages, vec!["org/fine".to_string()]));
    assert_eq!(of_network.license.unwrap().name, of_parent.license.unwrap().name, "it reads as what was read");

    // A card that grows without end, and one that is none.
    let bomb = format!("a: &a [{}]\nbase_model: [{}]\n", "x,".repeat(10_000), "*a,".repeat(10_000));
    for yaml in [bomb.as_str(), "license: [", "license: mit\nlicense: mit"] {
        fs::write(model.join("README.md"), format!("---\n{yaml}\n---\n")).unwrap();
        let (_, note) = said(export(&model, &pruned, &out));
        assert!(
            note.contains("README.md: its front matter cannot be read") && note.lines().count() < 4,
            "{yaml:.40}: {note}"
        );
        assert!(!card(&out).contains("license:") && !card(&out).contains("base_model"), "{}", card(&out));
        assert!(out.join("LICENSE.txt").is_file());
    }
}

#[test]
fn what_is_not_known_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    succeed(export(Path::new(TINY), &["--format", "hf"], &out));
    let text = card(&out);
    let front = "---\nlibrary_name: \"transformers\"\npipeline_tag: \"text-generation\"\ntags:\n- \"criadero\"\n---\n\n# `tiny-llama`\n";
    assert!(text.starts_with(front), "{text}");
    let gguf = dir.path().join("whole.gguf");
    succeed(export(Path::new(TINY), &["--format", "gguf"], &gguf));
    let bytes = fs::read(&gguf).unwrap();
    for key in ["general.license", "general.base_model", "general.languages"] {
        assert!(!bytes.windows(key.len()).any(|found| found == key.as_bytes()), "{key}");
    }
    assert!(has(&gguf, "general.name", "tiny-llama") && has(&gguf, "general.size_label", "214K"));
}
