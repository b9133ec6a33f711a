//! Devices that fail: their work is done all the same, with the same scores.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use criadero::checkpoint::Checkpoint;
use criadero::eval::{
    ChunkId, EvalSet, Evaluator, Fault, Faults, LocalEvaluator, Outcome, PackingOptions, Work, Workers, pack_items,
};
use criadero::model::Llama;
use criadero::space::{Genome, SearchSpace};
use criadero::task::{Item, Place, Request, RowNumber, Scoring};
use criadero::{Error, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind};

use crate::command::criadero;
use crate::goldens::TINY;

type Scores = HashMap<(ChunkId, Genome), Outcome>;

struct Bench {
    model: Llama,
    set: EvalSet,
    genomes: Vec<Genome>,
}

fn bench() -> Bench {
    let checkpoint = Checkpoint::open(TINY).unwrap();
    let request = |context: String, continuation: &str| Request { context, continuation: continuation.into() };
    let items: Vec<Item> = (0..24)
        .map(|index| {
            let context = format!("Question {index} of the drill:");
            let requests = [" yes", " no"].map(|choice| request(context.clone(), choice));
            let mut key = [0; 32];
            key[0] = index as u8;
            let place = Place { file: Path::new("drill").into(), row: RowNumber::Line(index + 1) };
            Item {
                place,
                preamble: 0,
                index,
                requests: requests.into(),
                gold: vec![index % 2],
                choice_chars: vec![3, 2],
                answers: vec![],
                key,
            }
        })
        .collect();
    let packing = PackingOptions { chunk_tokens: 64, max_length: 128 };
    let items: Vec<&Item> = items.iter().collect();
    let set = pack_items("drill", Scoring::Choices, &items, &checkpoint.tokenizer().unwrap(), packing).unwrap();
    assert!(set.chunks.len() > 4);
    let space = SearchSpace::open("tiny").unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut genomes: Vec<Genome> = (0..8).map(|_| space.sample(&mut rng)).collect();
    genomes.sort();
    genomes.dedup();
    Bench { model: Llama::load(&checkpoint, Device::Cpu, Kind::Float).unwrap(), set, genomes }
}

impl Bench {
    fn scored(&self, mut evaluator: LocalEvaluator) -> (Result<Scores>, LocalEvaluator) {
        let chunks = (0..self.set.chunks.len()).map(|chunk| ChunkId { set: 0, chunk });
        let work = chunks.map(|chunk| Work { chunk, genomes: self.genomes.clone() }).collect();
        let mut scores = Scores::new();
        let result = evaluator.evaluate(work, &mut |partial| {
            let again = scores.insert((partial.chunk, partial.genome), partial.outcome);
            assert!(again.is_none(), "a score is handed over once");
            Ok(())
        });
        (result.map(|()| scores), evaluator)
    }

    fn drill(&self, faults: Faults) -> (Result<Scores>, LocalEvaluator) {
        let workers = Workers { count: 2, threads: 1 };
        self.scored(LocalEvaluator::start_drill(&[self.model.share()], vec![self.set.clone()], workers, faults))
    }

    fn calm(&self) -> Scores {
        let workers = Workers { count: 1, threads: 1 };
        let models = [self.model.share()];
        self.scored(LocalEvaluator::start(&models, vec![self.set.clone()], workers, 0, Arc::default())).0.unwrap()
    }
}

#[test]
fn a_sink_that_fails_stops_the_work_at_hand_and_nothing_else() {
    let bench = bench();
    let expected = bench.calm();
    let stop = Arc::new(AtomicBool::new(false));
    let (models, workers) = ([bench.model.share()], Workers { count: 2, threads: 1 });
    let mut evaluator = LocalEvaluator::start(&models, vec![bench.set.clone()], workers, 0, stop.clone());
    let work = |chunk| Work { chunk: ChunkId { set: 0, chunk }, genomes: bench.genomes.clone() };
    let mut handed_over = 0;
    let failed = evaluator.evaluate((0..bench.set.chunks.len()).map(work).collect(), &mut |_| {
        handed_over += 1;
        Err(Error::invalid("disk", "full", "room"))
    });
    assert!(failed.unwrap_err().to_string().contains("disk: found full"));
    assert!(handed_over < expected.len(), "the rest is not scored: {handed_over}");
    assert!(!stop.load(Ordering::SeqCst), "the flag is the user's");
    let (scores, evaluator) = bench.scored(evaluator);
    assert!(scores.unwrap() == expected, "the same evaluator goes on");
    drop(evaluator);
    stop.store(true, Ordering::SeqCst);
    let stopped = LocalEvaluator::start(&models, vec![bench.set.clone()], workers, 0, stop);
    assert!(matches!(bench.scored(stopped).0, Err(Error::Interrupted)));
}

#[test]
fn a_lost_device_gives_its_chunk_back() {
    let bench = bench();
    let expected = bench.calm();
    let faults: Faults = Arc::new(|worker, _| (worker == 1).then_some(Fault::Lost));
    let (scores, evaluator) = bench.drill(faults);
    assert!(scores.unwrap() == expected);
    let lost: Vec<&str> = evaluator.lost().iter().map(|lost| lost.device.as_str()).collect();
    // The other worker may have done everything before this one took a task.
    assert!(lost.is_empty() || lost == ["cpu, worker 1"], "{lost:?}");
}

#[test]
fn a_device_is_lost_in_the_middle_of_a_chunk() {
    let bench = bench();
    let expected = bench.calm();
    // Whoever comes first is lost at its second attempt, after some of a chunk's networks were scored.
    let asked = AtomicUsize::new(0);
    let first = AtomicUsize::new(usize::MAX);
    let faults: Faults = Arc::new(move |worker, work| {
        let _ = first.compare_exchange(usize::MAX, worker, Ordering::SeqCst, Ordering::SeqCst);
        if first.load(Ordering::SeqCst) != worker {
            return None;
        }
        match asked.fetch_add(1, Ordering::SeqCst) {
            _ if work.genomes.len() > 2 => Some(Fault::OutOfMemory),
            0..6 => None,
            _ => Some(Fault::Lost),
        }
    });
    let (scores, evaluator) = bench.drill(faults);
    assert!(scores.unwrap() == expected);
    assert_eq!(evaluator.lost().len(), 1, "{:?}", evaluator.lost());
    assert!(evaluator.lost()[0].reason.contains("Lost"));
}

#[test]
fn too_little_memory_makes_walks_smaller_and_changes_no_bit() {
    let bench = bench();
    let most = Arc::new(AtomicUsize::new(0));
    let seen = most.clone();
    let faults: Faults = Arc::new(move |_, work| {
        if work.genomes.len() > 1 {
            return Some(Fault::OutOfMemory);
        }
        seen.fetch_max(work.genomes.len(), Ordering::SeqCst);
        None
    });
    let (scores, evaluator) = bench.drill(faults);
    assert!(scores.unwrap() == bench.calm());
    assert!(evaluator.lost().is_empty());
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[test]
fn rows_in_tiles_are_the_same_function() {
    let bench = bench();
    let genome: Genome = "4x128:2x64:4x32:2x128".parse().unwrap();
    let batch = bench.model.batch(&bench.set.chunks[0].tree).unwrap();
    let whole = bench.model.network(&genome).unwrap().forward(&batch);
    let mut tiled = bench.model.share();
    tiled.set_row_tile(Some(7));
    let difference = (tiled.network(&genome).unwrap().forward(&batch) - whole).abs().max().double_value(&[]);
    assert!(difference < 1e-5, "{difference}");
}

#[test]
fn the_last_device_that_fails_ends_the_evaluation() {
    let bench = bench();
    let faults: Faults = Arc::new(|_, _| Some(Fault::OutOfMemory));
    let (scores, mut evaluator) = bench.drill(faults);
    let error = scores.unwrap_err().to_string();
    assert!(error.contains("on the last device") && error.contains("OutOfMemory"), "{error}");
    assert_eq!(evaluator.lost().len(), 2);
    let work = vec![Work { chunk: ChunkId { set: 0, chunk: 0 }, genomes: bench.genomes.clone() }];
    assert!(evaluator.evaluate(work, &mut |_| Ok(())).is_err(), "and every later one");
}

#[test]
fn a_worker_that_dies_ends_the_evaluation_and_nobody_waits_for_it() {
    let bench = bench();
    // Outside what an attempt catches.
    let faults: Faults = Arc::new(|worker, _| if worker == 0 { panic!("a drill of worker {worker}") } else { None });
    let (scores, _) = bench.drill(faults);
    let error = scores.unwrap_err().to_string();
    assert_eq!(error, "evaluating by worker 0: a drill of worker 0");
}

#[test]
fn devices_that_are_not_there_are_named() {
    for (devices, expected) in [
        ("cuda:9", "unknown device `cuda:9`; known: cpu"),
        ("cpu,cpu", "`cpu` twice"),
        ("cpu,tpu", "unknown device `tpu`"),
    ] {
        let arguments = ["eval", TINY, "--task", "arc_easy", "--limit", "1", "--devices", devices];
        let output = criadero(&[]).args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        // Without the task's data that is said first.
        assert!(output.status.code() == Some(1) && (error.contains(expected) || error.contains("arc")), "{error}");
    }
}
