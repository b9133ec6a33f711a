//! `criadero cascade`, and what `eval` and `serve` make of its file.

use std::fs;
use std::path::Path;

use criadero::eval::{Escalation, Outcome, PackingOptions, pack_task, shared_halves, walk};
use criadero::space::Genome;
use criadero::task::{Selection, Task};
use serde_json::{Value, json};

use crate::command::{criadero, fail, succeed};
use crate::eval::{per_item, questions};
use crate::goldens::{TINY, copy_of_tiny, tiny, tiny_model};
use crate::serve::Served;

/// Questions whose true choice is the one that the whole tiny model takes.
fn answered_by_tiny(dir: &Path) -> String {
    const WORDS: [&str; 10] = ["sun", "sky", "fox", "hen", "cow", "ant", "bee", "elk", "owl", "yak"];
    let (path, rows) = (dir.join("animals.jsonl"), dir.join("own.jsonl"));
    let task = path.display().to_string();
    let row = |place: usize| {
        let choices = [0, 3, 5, 6].map(|step| WORDS[(place * 7 + step + place / 10) % WORDS.len()]);
        json!({ "context": format!("Of {place} animals one is"), "choices": choices, "gold": 0 }).to_string() + "\n"
    };
    fs::write(&path, (0..160).map(row).collect::<String>()).unwrap();
    succeed(criadero(&["eval", TINY, "--task", &task, "--per-item", rows.to_str().unwrap()]));
    let lines = fs::read_to_string(&task).unwrap();
    let answered = lines.lines().zip(per_item(&rows)).map(|(line, own)| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line["gold"] = json!(likeliest(&own));
        format!("{line}\n")
    });
    fs::write(&task, answered.collect::<String>()).unwrap();
    task
}

/// The likeliest choice of an item's row.
fn likeliest(row: &Value) -> usize {
    let scores: Vec<f64> = row["log_likelihoods"].as_array().unwrap().iter().map(|ll| ll.as_f64().unwrap()).collect();
    (0..scores.len()).rev().max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap()
}

/// A finished search of the tiny model on questions, in this arithmetic.
fn run(dir: &Path, arithmetic: &str) -> (String, String) {
    let task = answered_by_tiny(dir);
    let (objective, out) = (format!("choice_nll:{task}"), dir.join("mine").display().to_string());
    let words = ["search", "tiny", "--model", TINY, "--objective", &objective, "--objective", "macs", "--evals", "24"];
    let more =
        ["--population", "8", "--threads", "1", "--chunk-tokens", "128", "--arithmetic", arithmetic, "--out", &out];
    succeed(criadero(&[&words[..], &more].concat()));
    (out, task)
}

/// MACs a token of the run's smallest and largest networks.
fn macs(run: &str) -> [f64; 2] {
    let front: Value = serde_json::from_slice(&fs::read(format!("{run}/front.json")).unwrap()).unwrap();
    let of = |point: &Value| point["values"]["macs"].as_f64().unwrap();
    let all: Vec<f64> = front["points"].as_array().unwrap().iter().map(of).collect();
    [all.iter().copied().fold(f64::INFINITY, f64::min), of(&front["parent"])]
}

fn fitted(run: &str, task: &str, budget: f64, out: &Path) -> Value {
    let (objective, limit, out) = (format!("accuracy:{task}"), format!("macs<={budget}"), out.display().to_string());
    let words = ["cascade", run, "--objective", &objective, "--budget", &limit, "--out", &out, "--json"];
    serde_json::from_str(&succeed(criadero(&words))).unwrap()
}

#[test]
fn what_is_judged_is_what_eval_and_serve_do() {
    for arithmetic in ["f32", "bf16"] {
        let dir = tempfile::tempdir().unwrap();
        let (run, task) = run(dir.path(), arithmetic);
        let file = dir.path().join("cascade.json");
        let path = file.to_str().unwrap();
        let [least, most] = macs(&run);
        // With all the room that there is, and with little, some budget needs more than one network.
        let budgets = [0.9, 0.7, 0.5, 0.3].map(|share| least + share * (most - least));
        let (budget, cascade) = budgets
            .into_iter()
            .map(|budget| (budget, fitted(&run, &task, budget, &file)))
            .find(|(_, cascade)| cascade["stages"].as_array().unwrap().len() > 1)
            .expect("one of several networks");
        let stages = cascade["stages"].as_array().unwrap();
        assert!(cascade["search"]["cascade"]["cost"].as_f64().unwrap() <= budget * (1.0 + 1e-9));
        let right = |name: &str| cascade["search"][name]["accuracy"].as_f64().unwrap();
        assert!(right("cascade") >= right("single"), "a single network is a cascade, too: {cascade}");
        assert!(right("oracle") >= right("cascade"));
        let bootstrap = &cascade["bootstrap"];
        assert!(bootstrap["draws"] == 400 && bootstrap["accuracy"][0].as_f64() <= bootstrap["accuracy"][1].as_f64());
        // The run has float32 scores of both sides, as `eval` makes them.
        for (split, judged) in [("search", &cascade["search"]), ("held-out", &cascade["held_out"])] {
            let rows = dir.path().join("rows.jsonl");
            let words = ["eval", TINY, "--task", &task, "--split", split, "--cascade", path, "--json", "--per-item"];
            let told: Value =
                serde_json::from_str(&succeed(criadero(&[&words[..], &[rows.to_str().unwrap()]].concat()))).unwrap();
            let close = |a: &Value, b: &Value| {
                (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-9 * b.as_f64().unwrap().max(1.0)
            };
            assert!(close(&told["acc"], &judged["cascade"]["accuracy"]), "{split}: {told} {judged}");
            assert!(close(&told["macs"], &judged["cascade"]["cost"]), "{split}: {told} {judged}");
            let rows = per_item(&rows);
            assert!(rows.iter().all(|row| row["stage"].as_u64().unwrap() < stages.len() as u64));
            let first = rows.iter().filter(|row| row["stage"] == 0).count() as f64 / rows.len() as f64;
            assert!((first - judged["answered"][0].as_f64().unwrap()).abs() < 1e-9);
        }
        if arithmetic == "bf16" {
            continue;
        }
        // A question of the file, answered by the server.
        let served = Served::start(&[&run, "--cascade", path, "--threads", "1", "--arithmetic", "f32"]);
        let rows = dir.path().join("rows.jsonl");
        let words = ["eval", TINY, "--task", &task, "--cascade", path, "--json", "--per-item", rows.to_str().unwrap()];
        succeed(criadero(&words));
        let own = per_item(&rows);
        for place in [3_usize, 8, 21] {
            let row: Value =
                serde_json::from_str(fs::read_to_string(&task).unwrap().lines().nth(place).unwrap()).unwrap();
            let choices: Vec<String> = row["choices"]
                .as_array()
                .unwrap()
                .iter()
                .map(|choice| format!(" {}", choice.as_str().unwrap()))
                .collect();
            let asked = json!({ "model": "mine#cascade", "prompt": row["context"], "guided_choice": choices });
            let answer = served.complete(asked);
            let own = own.iter().find(|row| row["index"] == place).unwrap();
            assert_eq!(answer["choices"][0]["text"], choices[likeliest(own)], "{own} {answer}");
            let stage = own["stage"].as_u64().unwrap() as usize;
            assert_eq!(answer["model"], format!("mine#{}", stages[stage]["id"]), "who answered");
            // The whole model takes its own likeliest choice.
            let asked = json!({ "model": "mine#parent", "prompt": row["context"], "guided_choice": choices });
            let answer = served.complete(asked);
            assert!(answer["model"] == "mine#parent" && answer["choices"][0]["share"].as_f64().unwrap() >= 0.25);
        }
        let (status, answer) = served.post("/v1/completions", json!({ "model": "mine#cascade", "prompt": "x" }));
        assert!(status == 400 && answer["error"]["message"].as_str().unwrap().contains("guided_choice"), "{answer}");
        let long = json!({ "model": "mine#cascade", "prompt": "x ".repeat(400), "guided_choice": ["a", "b"] });
        assert_eq!(served.post("/v1/completions", long).0, 400);
    }
}

#[test]
fn cascades_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (run, task) = run(dir.path(), "f32");
    let file = dir.path().join("cascade.json");
    let path = file.to_str().unwrap();
    let [least, most] = macs(&run);
    let cascade = fitted(&run, &task, most, &file);
    let ask = |objective: &str, budget: &str, out: &str| {
        fail(criadero(&["cascade", &run, "--objective", objective, "--budget", budget, "--out", out]))
    };
    let objective = format!("accuracy:{task}");
    let error = ask(&objective, &format!("macs<={}", least * 0.9), path);
    assert!(error.contains("the nearest are") && error.contains("with macs"), "{error}");
    assert!(ask(&objective, "params<=3", path).contains("prefill_tps>=N"));
    assert!(ask(&objective, "prefill_tps>=3", path).contains("--throughput"));
    assert!(ask(&format!("choice_nll:{task}"), "macs<=1G", path).contains("`accuracy:TASK`"));
    assert!(ask("accuracy:piqa", "macs<=1G", path).contains("unknown task of the run `piqa`"));
    let strange = dir.path().join("mine.txt");
    fs::write(&strange, "my own").unwrap();
    assert!(ask(&objective, "macs<=1G", strange.to_str().unwrap()).contains("--force"));
    assert_eq!(fs::read_to_string(&strange).unwrap(), "my own");

    let eval = |model: &str| fail(criadero(&["eval", model, "--task", &task, "--cascade", path]));
    let mut other = cascade.clone();
    other.as_object_mut().unwrap().remove("seal");
    for (pointer, value, expected) in [
        ("/stages/0/temperature", json!(0.0), "temperature: found 0"),
        ("/stages/0/threshold", json!(1.5), "threshold: found"),
        ("/stages/0/threshold", json!("NaN"), "invalid type"),
        ("/format", json!(9), "format 9, expected 1"),
        ("/stages", json!([]), "stages: found 0, expected 1 to 3"),
        ("/model_digest", json!("0123"), "a cascade of another model"),
        ("/stages/0/genome", json!("9x9*9"), "9x9"),
    ] {
        let mut wrong = other.clone();
        match (wrong.pointer_mut(pointer), pointer.strip_prefix("/stages/0/")) {
            (Some(place), _) => *place = value,
            (None, Some(name)) => wrong["stages"][0][name] = value,
            (None, None) => unreachable!("{pointer}"),
        }
        fs::write(&file, wrong.to_string()).unwrap();
        let error = eval(TINY);
        assert!(error.contains(expected), "{pointer}: {error}");
    }
    let moved = dir.path().join("other");
    fs::create_dir(&moved).unwrap();
    copy_of_tiny(&moved);
    fs::write(&file, other.to_string()).unwrap();
    let text = dir.path().join("text.jsonl");
    fs::write(&text, json!({ "text": "The llama." }).to_string()).unwrap();
    let error = fail(criadero(&["eval", TINY, "--task", text.to_str().unwrap(), "--cascade", path]));
    assert!(error.contains("a cascade goes by its choice"), "{error}");
}

#[test]
fn questions_go_on_from_where_networks_part() {
    let (model, tokenizer, dir) = (tiny_model(), tiny().tokenizer().unwrap(), tempfile::tempdir().unwrap());
    let task = Task::open(&questions(dir.path(), 12), None).unwrap();
    let selection = Selection::in_order(&task, None).unwrap();
    let packing = PackingOptions { chunk_tokens: 4096, max_length: 256 };
    let set = pack_task("t", &task, &selection, &tokenizer, packing).unwrap();
    let chunk = &set.chunks[0];
    let genomes: Vec<Genome> =
        ["4x128:4x128:2x64:-", "4x128:4x128:4x64:4x64", "4x128*4"].iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!([shared_halves(&genomes[0], &genomes[1]), shared_halves(&genomes[1], &genomes[2])], [4, 5]);
    assert_eq!(shared_halves(&genomes[0], &genomes[2]), 4);
    let alone = |genome: &Genome| {
        let mut found = Vec::new();
        let leaf = &mut |_: usize, outcome: Outcome| {
            let Outcome::Scored(scores) = outcome else { panic!("{outcome:?}") };
            found = scores;
            true
        };
        walk(&model, chunk, None, std::slice::from_ref(genome), None, leaf).unwrap();
        found
    };
    let networks = Escalation::of(&model, &genomes).unwrap();
    // All go on: the same batches, so the same bits.
    let mut heard = Vec::new();
    let answers = networks
        .answer(chunk, &mut |stage, item, score| {
            heard.push((stage, item, score.clone()));
            true
        })
        .unwrap();
    assert!(
        answers.iter().map(|answer| &answer.score).eq(&alone(&genomes[2])) && answers.iter().all(|one| one.stage == 2)
    );
    for (stage, genome) in genomes.iter().enumerate().take(2) {
        let of_stage = heard.iter().filter(|(of, ..)| *of == stage).map(|(_, _, score)| score.clone());
        assert!(of_stage.eq(alone(genome)));
    }
    // Some go on: who answers, and the scores of each but for the last digits of sums in other batches.
    let goes_on = |stage: usize, item: usize| item % 3 > stage;
    let answers = networks.answer(chunk, &mut |stage, item, _| goes_on(stage, item)).unwrap();
    for (item, answer) in answers.iter().enumerate() {
        assert_eq!(answer.stage, item % 3);
        let own = &alone(&genomes[answer.stage])[item];
        for (a, b) in answer.score.log_likelihoods.iter().zip(&own.log_likelihoods) {
            assert!((a - b).abs() < 1e-4, "item {item}: {a} and {b}");
        }
    }
}
