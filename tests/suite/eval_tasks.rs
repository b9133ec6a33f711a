//! `criadero eval` on several tasks, and the file of their scores.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use criadero::checkpoint::Checkpoint;
use serde_json::{Value, json};

use crate::command::{criadero, fail, succeed};
use crate::goldens::TINY;

#[test]
fn several_tasks_score_as_each_alone_and_fill_one_results_file() {
    let dir = tempfile::tempdir().unwrap();
    let rows = |words: [&str; 2], count: usize| -> String {
        let row = |gold| json!({ "context": format!("Which is larger, {gold}?"), "choices": words, "gold": gold % 2 });
        (0..count).map(|place| format!("{}\n", row(place))).collect()
    };
    let [animals, sizes, items, out] =
        ["animals.jsonl", "sizes.jsonl", "items.jsonl", "results.json"].map(|name| dir.path().join(name));
    fs::write(&animals, rows(["the goose", "a trout"], 9)).unwrap();
    fs::write(&sizes, rows(["large", "small"], 5)).unwrap();
    let eval = |tasks: &[&Path], more: &[&OsStr]| {
        let mut command = criadero(&["eval", TINY, "--json", "--threads", "1"]);
        tasks.iter().for_each(|task| _ = command.arg("--task").arg(task));
        command.args(more);
        command
    };
    let printed = |command| -> Vec<Value> {
        let mut lines: Vec<Value> = succeed(command).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.iter_mut().for_each(|line| _ = line.as_object_mut().unwrap().shift_remove("seconds"));
        lines
    };
    let to = [OsStr::new("--out"), out.as_os_str(), OsStr::new("--per-item"), items.as_os_str()];
    let both = printed(eval(&[&animals, &sizes], &to));
    assert_eq!(both, [printed(eval(&[&animals], &[])), printed(eval(&[&sizes], &[]))].concat());

    let results: Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    for (task, line) in ["animals", "sizes"].into_iter().zip(&both) {
        assert_eq!(results["results"][task]["acc,none"], line["acc"]);
        assert_eq!(results["results"][task]["acc_stderr,none"], line["acc_stderr"]);
        assert_eq!(results["n-samples"][task]["effective"], line["items"]);
        assert_eq!(results["n-shot"][task], 0);
        assert_eq!(results["task_hashes"][task].as_str().unwrap().len(), 64);
    }
    assert_eq!(results["config"]["model_digest"], Checkpoint::open(TINY).unwrap().digest().unwrap());
    assert_eq!(results["criadero_versions"]["libtorch"], "2.11.0");
    let items = fs::read_to_string(&items).unwrap();
    let tasks: Vec<Value> =
        items.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["task"].take()).collect();
    assert_eq!((tasks.len(), &tasks[8], &tasks[9]), (14, &json!("animals"), &json!("sizes")));

    succeed(eval(&[&sizes], &to[..2]));
    fs::write(&out, "{\"results\": {}}").unwrap();
    let error = fail(eval(&[&sizes], &to[..2]));
    assert!(error.contains("was not written by this command"), "{error}");
    let error = fail(eval(&[&sizes, &sizes], &[]));
    assert!(error.contains("two tasks are named `sizes`"), "{error}");
    let error = fail(eval(&[&sizes], &["--shots", "2"].map(OsStr::new)));
    assert!(error.contains("few-shot examples of task `sizes`: found 2, expected 0"), "{error}");
}

#[test]
fn answers_that_are_written_are_compared_by_the_rule() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let prompts = ["The capital of Peru", "Question: which of these animals", "the llama"];
    let write = |answers: &[String]| {
        let row =
            |(prompt, answer): (&&str, &String)| json!({ "context": prompt, "answers": ["no such thing", answer] });
        let rows: String = prompts.iter().zip(answers).map(|row_of| format!("{}\n", row(row_of))).collect();
        fs::write(place("rows.jsonl"), rows).unwrap();
    };
    let yaml = |rule: &str| {
        let text = "name: mine\ndata: rows.jsonl\nscoring: generate\ncontext: '{{context}}'\nanswers: answers\n";
        fs::write(place("mine.yaml"), format!("{text}exact_match: {{ max_tokens: 12{rule} }}\n")).unwrap();
    };
    let eval = |task: &str, genome: &str| -> (Value, Vec<Value>) {
        let mut command = criadero(&["eval", TINY, "--json", "--threads", "1", "--genome", genome, "--task"]);
        command.arg(place(task)).arg("--per-item").arg(place("items.jsonl"));
        let summary = serde_json::from_str(&succeed(command)).unwrap();
        let items = fs::read_to_string(place("items.jsonl")).unwrap();
        (summary, items.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    };
    let (whole, narrow) = ("4x128*4", "2x64*2:-:4x128");
    let unknown = prompts.map(|_| "?".to_string());
    write(&unknown);
    yaml("");
    let (summary, items) = eval("mine.yaml", whole);
    assert_eq!((summary["exact_match"].as_f64(), summary["items"].as_u64()), (Some(0.0), Some(3)));
    assert!(summary["bits_per_byte"].as_f64().is_some_and(|bits| bits > 0.0), "{summary}");
    let answers: Vec<String> = items.iter().map(|item| item["answer"].as_str().unwrap().to_string()).collect();
    // What `generate` writes behind the same prompt, alone.
    for (prompt, answer) in prompts.iter().zip(&answers) {
        let command =
            criadero(&["generate", TINY, "--prompt", prompt, "--max-tokens", "12", "--json", "--threads", "1"]);
        let alone: Value = serde_json::from_str(&succeed(command)).unwrap();
        assert_eq!(alone["text"].as_str().unwrap().trim(), answer, "{prompt}");
        assert!(answer.len() > 3, "{answer}");
    }
    write(&answers);
    let exact = |task: &str, genome: &str| eval(task, genome).0["exact_match"].as_f64().unwrap();
    assert_eq!([exact("mine.yaml", whole), exact("mine.yaml", narrow)], [1.0, 0.0]);
    // The rule's parts: a stop, what is taken out of the text, what does not count.
    let first_letter =
        |answer: &String| answer.chars().find(char::is_ascii_lowercase).unwrap().to_uppercase().to_string();
    write(&answers.iter().map(first_letter).collect::<Vec<_>>());
    yaml(", regex: '[a-z]', ignore_case: true");
    assert_eq!(exact("mine.yaml", whole), 1.0);
    yaml(", regex: '[a-z]'");
    assert_eq!(exact("mine.yaml", whole), 0.0);
    write(&answers);
    let stop = answers[0].chars().nth(2).unwrap();
    yaml(&format!(", until: ['{stop}']"));
    let (_, items) = eval("mine.yaml", whole);
    assert_eq!(items[0]["answer"].as_str().unwrap(), answers[0][..2].trim());
    // Rows without a task file end at the line's end.
    write(&unknown);
    let (_, items) = eval("rows.jsonl", whole);
    for (item, answer) in items.iter().zip(&answers) {
        let line = answer.lines().next().unwrap();
        assert!(item["answer"].as_str().unwrap().starts_with(line.trim()), "{item}: {answer}");
    }

    yaml(", regex: '('");
    let error = fail(criadero(&["eval", TINY, "--task", place("mine.yaml").to_str().unwrap()]));
    assert!(error.contains("`exact_match.regex`: `(`: unclosed group"), "{error}");
    yaml(", max_tokens: 100000");
    let error = fail(criadero(&["eval", TINY, "--task", place("mine.yaml").to_str().unwrap()]));
    assert!(error.contains("max_tokens"), "{error}");
}

#[test]
fn a_chat_template_writes_each_question_as_what_a_user_says() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let model = place("model");
    fs::create_dir(&model).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(Path::new(TINY).join(file), model.join(file)).unwrap();
    }
    let template = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}\
                    {% if add_generation_prompt %}<bot>{% endif %}";
    fs::write(model.join("chat_template.jinja"), template).unwrap();
    let rows: String = (0..4)
        .map(|place| format!("{}\n", json!({ "q": format!("Which is larger, {place}?"), "gold": place % 2 })))
        .collect();
    fs::write(place("rows.jsonl"), rows).unwrap();
    let task = |name: &str, preamble: &str, context: &str, delimiter: &str| {
        let text = format!(
            "name: {name}\ndata: rows.jsonl\nscoring: choices\npreamble: '{preamble}'\ncontext: '{context}'\n\
             choices: [the goose, a trout]\ngold: gold\ntarget_delimiter: '{delimiter}'\n"
        );
        fs::write(place(&format!("{name}.yaml")), text).unwrap();
    };
    let eval = |name: &str, more: &[&str]| {
        let mut command = criadero(&["eval", model.to_str().unwrap(), "--threads", "1", "--task"]);
        command.arg(place(&format!("{name}.yaml"))).arg("--per-item").arg(place("items.jsonl")).args(more);
        command
    };
    let items = |command| {
        succeed(command);
        fs::read_to_string(place("items.jsonl")).unwrap()
    };
    task("plain", "Be brief. ", "{{q}}", " ");
    task("by_hand", "", "<system>Be brief. <user>{{q}}<bot>", "");
    let out = place("results.json");
    let in_chat = items(eval("plain", &["--chat-template", "--out", out.to_str().unwrap()]));
    assert_eq!(in_chat, items(eval("by_hand", &[])));
    assert_ne!(in_chat, items(eval("plain", &[])));
    let results: Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    assert_eq!(results["chat_template"], template);

    fs::write(model.join("chat_template.jinja"), "{{ raise_exception('no questions') }}").unwrap();
    let error = fail(eval("plain", &["--chat-template"]));
    assert!(
        error.contains("rows.jsonl") && error.contains("the chat template (chat_template.jinja) cannot"),
        "{error}"
    );
    fs::remove_file(model.join("chat_template.jinja")).unwrap();
    let error = fail(eval("plain", &["--chat-template"]));
    assert!(error.contains("has no chat template: leave out --chat-template"), "{error}");
}

#[test]
fn a_search_by_what_is_written_reports_exact_match_on_held_out_questions() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let row =
        |number: usize| json!({ "context": format!("Question {number}: what is it?"), "answers": ["a llama", "it"] });
    let rows: String = (0..40).map(|number| format!("{}\n", row(number))).collect();
    fs::write(place("it.jsonl"), rows).unwrap();
    let task = place("it.jsonl");
    let (by_bits, by_match) = ("bits_per_byte:it", "exact_match:it");
    for objective in [by_bits, by_match] {
        let out = place(&objective.replace(':', "-"));
        let objective = objective.replace(":it", &format!(":{}", task.display()));
        let goals = ["search", "tiny", "--model", TINY, "--objective", &objective, "--objective", "params"];
        let mut command = criadero(&goals);
        command.args(["--evals", "6", "--population", "4", "--limit", "6", "--held-out", "6"]);
        command.args(["--threads", "1", "--workers", "1", "--out"]).arg(&out);
        succeed(command);
        let front: Value = serde_json::from_slice(&fs::read(out.join("front.json")).unwrap()).unwrap();
        let text = front.to_string();
        assert!(text.contains("exact_match"), "{text}");
    }
}
