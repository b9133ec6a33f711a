//! Files of our own that were damaged or made up: whatever they hold, reading them is an error that names the file, or what they
//! say is usable. Nothing panics, and no flipped bit that a seal covers goes unseen.

use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use criadero::checkpoint::Checkpoint;
use criadero::model::supernet::SupernetCard;
use criadero::output::Seal;
use criadero::report::Album;
use criadero::report::hypervolume;
use criadero::report::table::{Table, worth};
use criadero::run::{Evaluations, Experiment, Front, Pick, Progress, QuantizedFront, RunSettings, mock_scorer};
use criadero::search::algorithm_named;
use criadero::space::{Gene, Genome, SearchSpace};
use criadero::throughput::ThroughputTable;
use criadero::tune::metrics::{Means, Metrics, Row};
use criadero::{Error, Result};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::command::{criadero, fail, said};
use crate::goldens::{TINY, copy_of_tiny};

/// Changes the content of a sealed file and seals it again.
pub fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let (content, seal) = Seal::take(&fs::read(path).unwrap());
    assert_eq!(seal, Seal::Whole, "{}", path.display());
    let content = String::from_utf8(content).unwrap();
    let changed = change(content.clone());
    assert_ne!(changed, content, "{}", path.display());
    fs::write(path, Seal::put(&changed)).unwrap();
}

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(11)
}

/// What a number, a word or a list may be instead.
fn others(value: &Value) -> Vec<Value> {
    let words = [json!(null), json!("x"), json!(""), json!("-"), json!([]), json!({}), json!(true)];
    let numbers = [json!(-1), json!(0), json!(0.5), json!(1e300), json!(u64::MAX), json!(1_u64 << 32), json!(-1e-300)];
    words.into_iter().chain(numbers).filter(|other| other != value).collect()
}

/// Every way in which one place of a value is another, by the place's name.
fn mutations(value: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let mut add = |name: String, value: Value| all.push((name, value));
    others(value).into_iter().for_each(|other| add(format!(" = {other}"), other));
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let mut without = members.clone();
                without.shift_remove(key);
                add(format!(" without {key}"), without.into());
                for (name, other) in mutations(member) {
                    let mut changed = members.clone();
                    changed.insert(key.clone(), other);
                    add(format!(".{key}{name}"), changed.into());
                }
            }
        }
        Value::Array(elements) => {
            for (place, element) in elements.iter().enumerate() {
                // Lists of a kind: their ends and some in between say as much as all.
                if elements.len() > 6 && !matches!(place, 0 | 1) && place + 1 < elements.len() && place % 7 != 3 {
                    continue;
                }
                let mut without = elements.clone();
                without.remove(place);
                add(format!("[{place}] gone"), without.into());
                add(format!("[..{place}]"), elements[..place].to_vec().into());
                let mut twice = elements.clone();
                twice.push(element.clone());
                add(format!("[{place}] twice"), twice.into());
                for (name, other) in mutations(element) {
                    let mut changed = elements.clone();
                    changed[place] = other;
                    add(format!("[{place}]{name}"), changed.into());
                }
            }
        }
        _ => {}
    }
    all
}

/// So many of the ways, drawn, or all where there are fewer.
fn some_mutations(content: &[u8], count: usize) -> Vec<(String, Value)> {
    let all = mutations(&serde_json::from_slice(content).unwrap());
    all.choose_multiple(&mut rng(), count).cloned().collect()
}

/// A file with one bit flipped, so often.
fn flips(whole: &[u8], count: usize) -> Vec<(String, Vec<u8>)> {
    let mut rng = rng();
    let flip = |_| {
        let (byte, bit) = (rng.random_range(0..whole.len()), rng.random_range(0..8));
        let mut bytes = whole.to_vec();
        bytes[byte] ^= 1 << bit;
        (format!("bit {bit} of byte {byte}"), bytes)
    };
    (0..count).map(flip).collect()
}

/// A file that is damaged in many ways, and how it is read.
struct Damaged<'a, T> {
    path: &'a Path,
    /// Reads it, or the directory that it is in.
    read: &'a dyn Fn() -> Result<T>,
    /// What is done with whatever was read.
    uses: &'a dyn Fn(T),
}

/// How often something was tried, and how often it was refused.
#[derive(Debug, Default)]
struct Tries {
    made: usize,
    refused: usize,
}

impl<T: Clone + PartialEq + std::fmt::Debug> Damaged<'_, T> {
    /// Reads and uses what is there now; nothing where it was refused.
    fn tried(&self, how: &str) -> Option<T> {
        let name = self.path.file_name().unwrap().to_string_lossy();
        let tried = catch_unwind(AssertUnwindSafe(|| (self.read)().inspect(|read| (self.uses)(read.clone()))));
        match tried {
            Err(_) => panic!("{name}{how}: a panic"),
            Ok(Ok(read)) => Some(read),
            Ok(Err(error)) => {
                let error = error.to_string();
                assert!(error.contains(&*name), "{name}{how}: {error}");
                None
            }
        }
    }

    /// Bits flipped in the sealed file, then so many mutations of its content, sealed again.
    fn check(&self, count: usize) -> [Tries; 2] {
        let whole = fs::read(self.path).unwrap();
        let (content, seal) = Seal::take(&whole);
        assert_eq!(seal, Seal::Whole, "{}", self.path.display());
        let expected = (self.read)().unwrap();
        (self.uses)(expected.clone());
        let (mut flipped, mut mutated) = (Tries::default(), Tries::default());
        for (how, bytes) in flips(&whole, 400) {
            fs::write(self.path, bytes).unwrap();
            flipped.made += 1;
            match self.tried(&how) {
                Some(read) => assert_eq!(read, expected, "{how}"),
                None => flipped.refused += 1,
            }
        }
        for (how, value) in some_mutations(&content, count) {
            let text = value.to_string();
            let sealed =
                if value.as_object().is_some_and(|object| !object.is_empty()) { Seal::put(&text) } else { text };
            fs::write(self.path, sealed).unwrap();
            mutated.made += 1;
            mutated.refused += usize::from(self.tried(&how).is_none());
        }
        fs::write(self.path, whole).unwrap();
        eprintln!("{}: {flipped:?} flipped, {mutated:?} mutated", self.path.display());
        // A flip in the seal's own name leaves what comes before it as it was; more than a few such are a seal that is not looked at.
        assert!(flipped.refused + 40 > flipped.made, "{flipped:?}");
        assert!(mutated.refused > mutated.made / 3, "{mutated:?}");
        [flipped, mutated]
    }
}

/// A mock search into a directory, which stops after so many networks.
fn search(dir: &Path, algorithm: &str, stop_after: usize, notes: &mut Vec<String>) -> Result<Front> {
    let space = SearchSpace::open("tiny")?;
    let experiment = Experiment {
        evals: 24,
        population: 6,
        algorithm: algorithm_named(algorithm)?,
        ..Experiment::new("none", space, ["choice_nll:t", "params"])
    };
    let stop = Arc::new(AtomicBool::new(false));
    let scorer = mock_scorer(&experiment, [16, 16], Duration::ZERO, stop.clone())?;
    experiment.run(scorer, dir, &mut |progress| match progress {
        Progress::Population { evaluations, .. } if evaluations >= stop_after => stop.store(true, Ordering::Relaxed),
        Progress::Note(note) => notes.push(note),
        _ => {}
    })
}

fn searched() -> (tempfile::TempDir, Front) {
    let dir = tempfile::tempdir().unwrap();
    let front = search(dir.path(), "nsga2", usize::MAX, &mut Vec::new()).unwrap();
    (dir, front)
}

fn picks(front: &Front) {
    for pick in ["knee", "0", "params<=100k", "choice_nll:t<=1", "decode_tps>=5"] {
        let _ = pick.parse::<Pick>().unwrap().choose(front);
    }
    let _ = Table::new(front).text();
    worth(front);
    front.points.iter().for_each(|point| _ = front.accuracies(point));
}

#[test]
fn a_damaged_front_is_refused_or_drawn() {
    let (dir, _) = searched();
    let path = dir.path().join("front.json");
    let evaluations = Evaluations::read_csv(&dir.path().join("evaluations.csv")).unwrap();
    let read = || Front::read_json(&path);
    Damaged { path: &path, read: &read, uses: &|front| picks(&front) }.check(4000);
    // Pictures take longer.
    let content = Seal::take(&fs::read(&path).unwrap()).0;
    let mut drawn = 0;
    for (how, value) in some_mutations(&content, 2000) {
        fs::write(&path, value.to_string()).unwrap();
        let Ok(front) = read() else { continue };
        if drawn == 4 {
            break;
        }
        let run = hypervolume::Run { name: "run", evaluations: &evaluations };
        let album = catch_unwind(AssertUnwindSafe(|| Album::new(&front, run, &[]).map(drop)));
        assert!(album.is_ok(), "front.json{how}: a panic");
        drawn += 1;
    }
    eprintln!("{drawn} fronts drawn");
}

#[test]
fn damaged_settings_of_a_run_are_refused_or_can_be() {
    let (dir, _) = searched();
    let path = dir.path().join("run.json");
    let read = || RunSettings::read(dir.path());
    let uses = |settings: Option<RunSettings>| {
        let Some(settings) = settings else { return };
        let _ = settings.command_line();
        if let Ok(known) = settings.closed_form() {
            known(&settings.space.largest());
        }
    };
    Damaged { path: &path, read: &read, uses: &uses }.check(3000);
}

#[test]
fn damaged_tables_of_a_run_are_refused_or_drawn() {
    let (dir, front) = searched();
    let path = dir.path().join("evaluations.csv");
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let mut rng = rng();
    let cells = ["", "x", "-1", "1e300", "NaN", "inf", "99999999999999999999", "2x8", "-", "0"];
    let (mut read, tries) = (0, 600);
    for try_ in 0..tries {
        let mut table: Vec<Vec<&str>> = lines.iter().map(|line| line.split(',').collect()).collect();
        let line = if try_ % 5 == 0 { 0 } else { rng.random_range(0..table.len()) };
        let column = rng.random_range(0..table[line].len());
        match try_ % 4 {
            0 => drop(table[line].remove(column)),
            1 => table[line].insert(column, cells.choose(&mut rng).unwrap()),
            2 => table.push(table[line].clone()),
            _ => table[line][column] = cells.choose(&mut rng).unwrap(),
        }
        let text = table.iter().map(|row| row.join(",") + "\n").collect::<String>();
        fs::write(&path, &text).unwrap();
        let used = catch_unwind(AssertUnwindSafe(|| {
            let evaluations = Evaluations::read_csv(&path)?;
            evaluations.whole().count();
            if try_ % 120 == 0 {
                let run = hypervolume::Run { name: "run", evaluations: &evaluations };
                let _ = Album::new(&front, run, &[]);
            }
            Ok(())
        }));
        match used {
            Err(_) => panic!("a panic: line {line}, column {column}: {text}"),
            Ok(Err::<_, Error>(error)) => assert!(error.to_string().contains("evaluations.csv"), "{error}"),
            Ok(Ok(())) => read += 1,
        }
    }
    eprintln!("{read} of {tries} tables read");
    assert!(read < tries / 2);
}

/// A supernet of the tiny model, corrected for the widths of its space.
fn supernet(dir: &Path) -> PathBuf {
    let text = dir.join("text.txt");
    fs::write(&text, "What is which? Question one is two. The goose is larger than the trout. ".repeat(40)).unwrap();
    let (text, out) = (text.display().to_string(), dir.join("supernet"));
    let arguments = ["rank", TINY, "--text", &text, "--tokens", "1024", "--window", "64", "--space", "tiny"];
    let mut rank = criadero(&arguments);
    rank.arg("--out").arg(&out);
    said(rank);
    out
}

#[test]
fn a_damaged_card_is_refused_or_searched_by() {
    let dir = tempfile::tempdir().unwrap();
    let supernet = supernet(dir.path());
    let path = supernet.join("criadero.json");
    let checkpoint = Checkpoint::open(&supernet).unwrap();
    let space = SearchSpace::open("tiny").unwrap();
    let read = || SupernetCard::of(&checkpoint);
    let uses = |card: Option<SupernetCard>| {
        let Some(card) = card else { return };
        let _ = space.clone().with_drop_order(&card.order.drop);
        for (layer, choices) in space.layers().iter().enumerate() {
            for gene in [choices.largest(), choices.smallest(), Gene::new(3, 77), Gene::new(0, 64), Gene::DROPPED] {
                card.kept_importance(space.shape(), layer, gene);
            }
        }
        card.order.after(&card.order);
    };
    Damaged { path: &path, read: &read, uses: &uses }.check(3000);

    // Cards of versions without a seal or a binding are read as they are.
    let whole = fs::read(&path).unwrap();
    let mut card: Value = serde_json::from_slice(&Seal::take(&whole).0).unwrap();
    card.as_object_mut().unwrap().shift_remove("weights").unwrap();
    fs::write(&path, card.to_string()).unwrap();
    assert!(read().unwrap().is_some_and(|card| card.weights.is_none()));
    fs::write(&path, whole).unwrap();

    // New weights beside an old card.
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    copy_of_tiny(&other);
    fs::copy(&path, other.join("criadero.json")).unwrap();
    let error = fail(criadero(&["inspect", "tiny", "--model", other.to_str().unwrap()]));
    let checkpoint = Checkpoint::open(&other).unwrap();
    let (ours, theirs) = (checkpoint.fingerprint().unwrap(), card_weights(&path));
    assert!(error.contains("the card is of other weights") && error.contains("rank again"), "{error}");
    assert!(error.contains(&ours) && error.contains(&theirs), "{error}");
}

fn card_weights(path: &Path) -> String {
    SupernetCard::read_file(path).unwrap().weights.unwrap()
}

#[test]
fn a_damaged_throughput_table_is_refused_or_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table.json");
    let older = concat!(env!("CARGO_MANIFEST_DIR"), "/results/bench-latency/table.json");
    ThroughputTable::read(Path::new(older)).unwrap().write(&path).unwrap();
    let genome: Genome = "9x1536:3x100:-:6x768*27".parse().unwrap();
    let uses = |table: ThroughputTable| {
        let _ = (table.prefill_tps(&genome), table.decode_tps(&genome), table.latency_ms(&genome));
        table.phases.iter().for_each(|phase| _ = (phase.mean_error(), phase.kendall_tau()));
    };
    Damaged { path: &path, read: &|| ThroughputTable::read(&path), uses: &uses }.check(3000);
}

#[test]
fn a_damaged_comparison_of_bits_is_refused_or_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let change = json!({ "name": "accuracy:t", "items": 3, "before": 0.5, "before_stderr": 0.1, "after": 0.4,
        "after_stderr": 0.12, "change": -0.1, "change_stderr": 0.03 });
    let point = |id: usize| json!({ "id": id, "genome": "E@8:4x128@8*4", "bytes_before": 200, "bytes": 106, "changes": [change] });
    let front = json!({ "parent_quantized": false, "model": "tiny", "format": "Q8_0", "points": [point(1), point(4)],
        "mean": [change] });
    let path = dir.path().join("quantized.json");
    fs::write(&path, Seal::put(&front.to_string())).unwrap();
    // Pictures take longer.
    let drawn = Cell::new(0);
    let uses = |front: QuantizedFront| {
        front.bytes_share();
        drawn.set(drawn.get() + 1);
        if drawn.get() % 40 == 0 {
            let _ = criadero::report::quantized::pictures(&front);
        }
    };
    Damaged { path: &path, read: &|| QuantizedFront::read(dir.path()), uses: &uses }.check(400);
}

#[test]
fn damaged_measurements_of_a_fine_tuning_are_refused() {
    let networks = ["largest", "smallest"].map(String::from);
    let row = |step: usize| Row {
        step,
        tokens: 7 * step as u64,
        learning_rate: 1e-3,
        training: (step > 0).then_some(Means { loss: 2.5, gradient_norm: 0.5 }),
        losses: vec![1.5, 2.5],
    };
    let metrics = Metrics { networks: networks.to_vec(), rows: vec![row(0), row(10), row(20)] };
    let whole = metrics.to_csv();
    let lines: Vec<Vec<&str>> = whole.lines().map(|line| line.split(',').collect()).collect();
    let cells = ["", "x", "-1", "1e300", "NaN", "inf", "99999999999999999999", "0"];
    let (mut tries, mut refused) = (0, 0);
    let mut check = |table: Vec<Vec<&str>>| {
        let text = table.iter().map(|row| row.join(",") + "\n").collect::<String>();
        tries += 1;
        match Metrics::parse(&text, Path::new("metrics.csv"), &networks) {
            Ok(read) => assert!(read.rows.iter().all(|row| row.losses.len() == 2), "{text}"),
            Err(error) => {
                refused += 1;
                assert!(error.to_string().starts_with("metrics.csv: "), "{error}");
            }
        }
    };
    for line in 0..lines.len() {
        for column in 0..lines[line].len() {
            let changed = |change: &dyn Fn(&mut Vec<&'static str>)| {
                let mut table = lines.clone();
                let mut row: Vec<&'static str> = table[line].iter().map(|cell| &*cell.to_string().leak()).collect();
                change(&mut row);
                table[line] = row;
                table
            };
            check(changed(&|row| _ = row.remove(column)));
            check(changed(&|row| row.truncate(column)));
            for cell in cells {
                check(changed(&|row| row[column] = cell));
            }
        }
        check([&lines[..], &lines[line..=line]].concat());
        check(lines[line..].to_vec());
    }
    eprintln!("{refused} of {tries} refused");
    assert!(refused > tries / 2);
}

/// Resumes a copy of a run in which one file was replaced.
fn resumed(run: &Path, algorithm: &str, name: &str, bytes: &[u8], how: &str) -> (Result<Front>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(run).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    fs::write(dir.path().join(name), bytes).unwrap();
    let mut notes = Vec::new();
    let front = catch_unwind(AssertUnwindSafe(|| search(dir.path(), algorithm, usize::MAX, &mut notes)));
    (front.unwrap_or_else(|_| panic!("{algorithm}, {name}{how}: a panic")), notes)
}

#[test]
fn a_damaged_state_or_journal_is_replayed_refused_or_leads_to_the_same_front() {
    for (algorithm, count) in [("nsga2", 160), ("random", 40)] {
        let [whole, half] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let front = search(whole.path(), algorithm, usize::MAX, &mut Vec::new()).unwrap();
        assert!(matches!(search(half.path(), algorithm, 12, &mut Vec::new()), Err(Error::Interrupted)));
        let [state, journal] = ["state.json", "chunks.log"].map(|name| fs::read(half.path().join(name)).unwrap());
        let mut replayed = 0;
        for (how, bytes) in flips(&state, count / 2) {
            let (found, notes) = resumed(half.path(), algorithm, "state.json", &bytes, &how);
            assert_eq!(found.unwrap(), front, "{algorithm}, state.json, {how}");
            replayed += usize::from(notes.iter().any(|note| note.contains("replayed")));
        }
        assert!(replayed + 10 > count / 2, "{replayed}");
        let (mut replayed, mut refused) = (0, 0);
        for (how, value) in some_mutations(&Seal::take(&state).0, count) {
            let text = value.to_string();
            let sealed =
                if value.as_object().is_some_and(|object| !object.is_empty()) { Seal::put(&text) } else { text };
            let (found, notes) = resumed(half.path(), algorithm, "state.json", sealed.as_bytes(), &how);
            match found {
                // What an algorithm has drawn is in no journal.
                Ok(found) if how.starts_with(".algorithm") => assert_eq!(found.evaluations, front.evaluations, "{how}"),
                Ok(found) => assert_eq!(found, front, "{algorithm}, state.json{how}"),
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().contains("state.json"), "{how}: {error}");
                }
            }
            replayed += usize::from(notes.iter().any(|note| note.contains("replayed")));
        }
        eprintln!("{algorithm}: of {count} states {replayed} replayed, {refused} refused");
        assert!(replayed > count / 3, "{replayed}");
        let mut refused = 0;
        for (how, bytes) in flips(&journal, count / 4) {
            match resumed(half.path(), algorithm, "chunks.log", &bytes, &how).0 {
                Ok(found) => assert_eq!(found, front, "{algorithm}, chunks.log, {how}"),
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().contains("chunks.log"), "{how}: {error}");
                }
            }
        }
        assert!(refused + 10 > count / 4, "{refused}");
        refused += crafted_journals(half.path(), algorithm, &journal, count / 2, &front);
        eprintln!("{algorithm}: {refused} journals refused");
    }
}

/// Lines of a journal whose checksum is right and whose content is not; how many were refused.
fn crafted_journals(run: &Path, algorithm: &str, journal: &[u8], count: usize, front: &Front) -> usize {
    let text = std::str::from_utf8(journal).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut refused = 0;
    for (how, value) in some_mutations(&lines[1].as_bytes()[9..], count) {
        let json = value.to_string();
        let line = format!("{:08x} {json}", crc32fast::hash(json.as_bytes()));
        let mut changed = lines.clone();
        changed[1] = &line;
        let bytes = changed.join("\n") + "\n";
        match resumed(run, algorithm, "chunks.log", bytes.as_bytes(), &how).0 {
            // Other scores are another journal, and are believed.
            Ok(found) => assert_eq!(found.evaluations, front.evaluations, "{how}"),
            Err(error) => {
                refused += 1;
                assert!(
                    error.to_string().contains("chunks.log") && error.to_string().contains("line 2"),
                    "{how}: {error}"
                );
            }
        }
    }
    refused
}

#[test]
fn networks_that_a_state_lists_again_are_not_counted() {
    let [whole, half] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let front = search(whole.path(), "nsga2", usize::MAX, &mut Vec::new()).unwrap();
    assert!(search(half.path(), "nsga2", 6, &mut Vec::new()).is_err());
    let state = fs::read(half.path().join("state.json")).unwrap();
    let state: Value = serde_json::from_slice(&Seal::take(&state).0).unwrap();
    let rows = state["evaluations"].as_array().unwrap().clone();
    let populations = state["populations"].as_u64().unwrap();
    let renumbered = |time: usize, numbers: bool| {
        let rows = rows.clone();
        let count = rows.len();
        rows.into_iter().map(move |mut row| {
            if numbers {
                row["id"] = (row["id"].as_u64().unwrap() + (time * count) as u64).into();
                row["population"] = (row["population"].as_u64().unwrap() + time as u64 * populations).into();
            }
            row
        })
    };
    for (times, numbers) in [(2, false), (3, false), (2, true), (3, true)] {
        let mut again = state.clone();
        again["evaluations"] = (0..times).flat_map(|time| renumbered(time, numbers)).collect();
        again["populations"] = (populations * times as u64).into();
        let sealed = Seal::put(&again.to_string());
        let (found, notes) = resumed(half.path(), "nsga2", "state.json", sealed.as_bytes(), " listed again");
        assert_eq!(found.unwrap(), front, "{times} times, numbered anew: {numbers}");
        assert!(notes.iter().any(|note| note.contains("the run is replayed")), "{notes:?}");
    }
    // A better score than the journal has.
    let mut better = state.clone();
    better["evaluations"][3]["objectives"][0] = 0.0.into();
    let (found, notes) = resumed(half.path(), "nsga2", "state.json", Seal::put(&better.to_string()).as_bytes(), "");
    assert_eq!(found.unwrap(), front);
    assert!(notes.iter().any(|note| note.contains("not what chunks.log says")), "{notes:?}");
    // What the algorithm believes of a network.
    let mut believed = state.clone();
    believed["algorithm"]["nsga2"]["survivors"][0]["objectives"][0] = 0.0.into();
    let (found, notes) = resumed(half.path(), "nsga2", "state.json", Seal::put(&believed.to_string()).as_bytes(), "");
    assert_eq!(found.unwrap(), front);
    assert!(notes.iter().any(|note| note.contains("not what chunks.log says")), "{notes:?}");
}

#[test]
fn every_command_that_reads_a_front_refuses_a_damaged_one() {
    let (dir, _) = searched();
    let path = dir.path().join("front.json");
    let run = dir.path().display().to_string();
    let out = dir.path().join("out").display().to_string();
    let pick = format!("{run}#knee");
    let commands: [&[&str]; 3] = [
        &["show", &run],
        &["plot", &run],
        &["export", TINY, "--genome", "4x128*4", "--bits-of", &pick, "--format", "gguf", "--out", &out],
    ];
    let whole = fs::read(&path).unwrap();
    let (content, seal) = whole.split_at(whole.len() - 80);
    for (how, mut bytes) in flips(content, 2) {
        bytes.extend(seal);
        fs::write(&path, bytes).unwrap();
        for command in commands {
            let error = fail(criadero(command));
            let expected = "damaged or changed since it was written";
            assert!(error.contains("front.json") && error.contains(expected), "{how}: {error}");
        }
    }
    // Lists that are shorter than what reads them expects.
    fs::write(&path, whole).unwrap();
    edit(&path, |content| {
        let mut front: Value = serde_json::from_str(&content).unwrap();
        front["points"][0]["held_out"] = json!([]);
        front["objectives"] = json!([]);
        front.to_string()
    });
    for command in commands {
        let error = fail(criadero(command));
        assert!(
            error.contains("held-out scores are not the parent's") && error.contains("objectives: found none"),
            "{error}"
        );
    }
}
