//! How well workers at a NATS server are used: a search of SmolLM2-135M's space on ARC-Easy with real items, chunks and messages, whose
//! workers sleep as long as a worker with the model was seen to compute. `scripts/bench/cluster.py` makes tables of what it prints.
//!
//! `cluster_load record URL OUT.csv`: listens until the server goes, and writes what tasks cost and took.
//! `cluster_load run URL MODEL COSTS.csv SLOTS [LIMIT POPULATION EVALS]`: one line of JSON.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use criadero::cluster::{
    Announcement, Bench, Connection, Costs, Heard, NumericClass, Remote, RunId, Scores, Searcher, Server, Worker,
    Workshop, divided,
};
use criadero::eval::{ChunkId, EvalSet, Evaluator, MockEvaluator, Partial, Work};
use criadero::run::{Experiment, Local, Scorer};
use criadero::search::algorithm_named;
use criadero::space::{ModelShape, SearchSpace};
use futures_util::StreamExt;
use serde_json::json;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["record", url, out] => record(url, Path::new(out)),
        ["run", url, model, costs, slots] => run(url, model, Path::new(costs), slots.parse()?, [200, 48, 96]),
        ["run", url, model, costs, slots, limit, population, evals] => {
            run(url, model, Path::new(costs), slots.parse()?, [limit.parse()?, population.parse()?, evals.parse()?])
        }
        _ => Err("see the first lines of the source".into()),
    }
}

/// The demo's search, in chunks of 512 tokens.
fn experiment(model: &str, [limit, population, evals]: [usize; 3]) -> Result<(Experiment, Local), Failure> {
    let space = SearchSpace::open("smollm2-135m")?;
    let experiment = Experiment::new(model, space, ["choice_nll:arc_easy", "params"]);
    let experiment = Experiment { population, evals, algorithm: algorithm_named("nsga2")?, ..experiment };
    let local = Local {
        limit: Some(limit),
        held_out: Some(limit),
        chunk_tokens: Some(512),
        workers: Some(1),
        threads: Some(1),
        arithmetic: Some(Default::default()),
        ..Local::default()
    };
    Ok((experiment, local))
}

fn connection(url: &str) -> Result<Arc<Connection>, Failure> {
    let server = Server { url: url.to_string(), prefix: Server::PREFIX.to_string(), ..Server::default() };
    Ok(Arc::new(Connection::open(&server)?))
}

/// Writes the seconds of messages with scores beside the multiplications of their networks' layers, a token.
fn record(url: &str, out: &Path) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let client = async_nats::connect(url).await?;
        let mut messages = client.subscribe("criadero.*.scores").await?;
        let space = SearchSpace::open("smollm2-135m")?;
        let mut table = String::from("set,chunk,networks,multiplications,seconds\n");
        while let Ok(Some(message)) = tokio::time::timeout(Duration::from_secs(20), messages.next()).await {
            let scores: Scores = serde_json::from_slice(&message.payload)?;
            let Some(chunk) = scores.partials.first().map(|partial| partial.chunk) else { continue };
            let genomes = scores.partials.iter().map(|partial| partial.genome.clone()).collect();
            let costs = Costs { shape: space.shape(), tokens: &|_| [1, 0] };
            let cost: f64 = divided(vec![Work { chunk, genomes }], &costs, 1).iter().map(|offer| offer.cost).sum();
            table += &format!("{},{},{},{cost},{}\n", chunk.set, chunk.chunk, scores.partials.len(), scores.seconds);
            fs::write(out, &table)?;
        }
        Ok(())
    })
}

/// Sleeps as long as a worker would compute.
struct Sleeper {
    mock: MockEvaluator,
    shape: ModelShape,
    pace: Arc<Pace>,
}

/// Seconds of a multiplication, a token, as often as they were seen; and the seconds slept so far.
struct Pace {
    seen: Vec<f64>,
    next: AtomicU64,
    slept: Mutex<f64>,
}

impl Pace {
    fn read(costs: &Path, tokens: f64) -> Result<Pace, Failure> {
        let text = fs::read_to_string(costs)?;
        let mut seen = Vec::new();
        for line in text.lines().skip(1) {
            let cells: Vec<f64> = line.split(',').map(str::parse).collect::<Result<_, _>>()?;
            if cells[3] > 0.0 {
                seen.push(cells[4] / cells[3] / tokens);
            }
        }
        Ok(Pace { seen, next: AtomicU64::new(0), slept: Mutex::new(0.0) })
    }

    /// Of the next task: in the order seen, so that one of few tasks is not always the same.
    fn of_task(&self, cost: f64) -> f64 {
        let place = self.next.fetch_add(1, Ordering::Relaxed) as usize % self.seen.len();
        cost * self.seen[place]
    }
}

impl Evaluator for Sleeper {
    fn sets(&self) -> &Arc<Vec<EvalSet>> {
        self.mock.sets()
    }

    fn evaluate(
        &mut self,
        work: Vec<Work>,
        sink: &mut dyn FnMut(Partial) -> criadero::Result<()>,
    ) -> criadero::Result<()> {
        let start = Instant::now();
        let sets = self.mock.sets().clone();
        let tokens = |id: ChunkId| [sets[id.set].chunks[id.chunk].tree.len(), 0];
        let costs = Costs { shape: &self.shape, tokens: &tokens };
        let cost: f64 = divided(work.clone(), &costs, 1).iter().map(|offer| offer.cost).sum();
        let seconds = self.pace.of_task(cost);
        self.mock.evaluate(work, sink)?;
        std::thread::sleep(Duration::from_secs_f64(seconds).saturating_sub(start.elapsed()));
        *self.pace.slept.lock().unwrap() += seconds;
        Ok(())
    }
}

struct Bedroom {
    shape: ModelShape,
    sets: Arc<Vec<EvalSet>>,
    pace: Arc<Pace>,
}

impl Workshop for Bedroom {
    fn device(&self) -> String {
        "sleep".to_string()
    }

    fn slots(&self, _: &Announcement) -> usize {
        1
    }

    fn bench(&mut self, run: &Announcement) -> criadero::Result<(Bench, NumericClass)> {
        let mock = MockEvaluator::on(self.shape, self.sets.clone(), Duration::ZERO, Arc::default());
        let sleeper = Sleeper { mock, shape: self.shape, pace: self.pace.clone() };
        Ok((Box::new(sleeper), NumericClass::of(&run.settings)))
    }
}

fn run(url: &str, model: &str, costs: &Path, slots: usize, size: [usize; 3]) -> Result<(), Failure> {
    let (experiment, local) = experiment(model, size)?;
    let out = tempfile::tempdir()?;
    let here = local.prepare(&experiment, out.path(), &Arc::default(), &mut |_| ())?;
    let sets = here.evaluator.sets().clone();
    let tokens: usize = sets.iter().map(|set| set.packed_tokens).sum();
    let chunks: usize = sets.iter().map(|set| set.chunks.len()).sum();
    let pace = Arc::new(Pace::read(costs, tokens as f64 / chunks as f64)?);
    let announcement = Announcement::new(RunId::new(), &experiment.settings(&here), Duration::from_secs(30));
    let searcher = Arc::new(Searcher::begin(connection(url)?, announcement)?);
    let stop: Arc<AtomicBool> = Arc::default();
    let there = Arc::new(Mutex::new(0));
    let workers: Vec<_> = (0..slots)
        .map(|number| {
            let room = Bedroom { shape: *experiment.space.shape(), sets: sets.clone(), pace: pace.clone() };
            let worker = Worker::begin(connection(url)?, &format!("w{number}"), Some(1), Box::new(room), stop.clone())?;
            Ok(std::thread::spawn(move || worker.work(None, &|_| ())))
        })
        .collect::<Result<_, Failure>>()?;
    // All of them have spoken.
    std::thread::sleep(Duration::from_secs(5));
    let seen = there.clone();
    let hear = move |heard| {
        if let Heard::Workers(count) = heard {
            *seen.lock().unwrap() = count;
        }
    };
    let evaluator = Remote::new(searcher.clone(), sets.clone(), out.path(), stop.clone(), Box::new(hear))?;
    let evaluator = Box::new(evaluator);
    let start = Instant::now();
    let front = experiment.run(Scorer { evaluator, ..here }, &out.path().join("run"), &mut |_| ())?;
    let seconds = start.elapsed().as_secs_f64();
    searcher.end()?;
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.join().expect("a worker")?;
    }
    let slept = *pace.slept.lock().unwrap();
    let tasks = pace.next.load(Ordering::Relaxed);
    let line = json!({
        "workers": slots, "seen": *there.lock().unwrap(), "chunks": sets[0].chunks.len(), "networks": front.evaluations,
        "seconds": seconds, "computed_seconds": slept, "tasks": tasks,
    });
    println!("{line}");
    Ok(())
}
