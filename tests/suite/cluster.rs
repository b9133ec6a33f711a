//! Searches whose workers are elsewhere: with the real server, the bytes are those of a search on one machine.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use criadero::cluster::{
    Announcement, Bench, Connection, Happening, Heard, MockWorkshop, NumericClass, Remote, RunId, Searcher, Server,
    Watch, Worker, Workshop,
};
use criadero::eval::{EvalSet, Evaluator, MockEvaluator, Outcome, Partial, Work};
use criadero::run::{Experiment, Front, Scorer, mock_scorer};
use criadero::search::algorithm_named;
use criadero::space::SearchSpace;
use serde_json::json;

use crate::command::{criadero, fail, succeed};
use crate::nats::{NatsServer, Process, Way};

/// What must be the same wherever networks are scored.
const FILES: [&str; 4] = ["evaluations.csv", "front.csv", "front.json", "state.json"];

/// A search of made-up scores: 40 networks of the tiny space on some chunks.
fn mock_search(out: &Path, more: &[&str]) -> Command {
    let mut words =
        vec!["search", "tiny", "--model", "none", "--evaluator", "mock", "--objective", "choice_nll:arc_easy"];
    words.extend(["--objective", "params", "--evals", "40", "--population", "10", "--out", out.to_str().unwrap()]);
    criadero(&[&words, more].concat())
}

fn worker(server: &str, more: &[&str]) -> Command {
    criadero(&[&["worker", "--nats", server], more].concat())
}

/// Workers as processes, which say what they say in a file each.
fn workers(server: &NatsServer, count: usize, more: &[&str]) -> Vec<Process> {
    let said = |number: usize| server.dir().join(format!("worker-{number}"));
    (0..count).map(|number| Process::start(worker(&server.url(), more), said(number))).collect()
}

fn same_files(one: &Path, other: &Path) {
    for name in FILES {
        let read = |dir: &Path| fs::read(dir.join(name)).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        assert!(read(one) == read(other), "{name} of {} and {}", one.display(), other.display());
    }
}

/// An experiment of made-up scores, and where it is run.
struct Trial {
    dir: tempfile::TempDir,
    experiment: Experiment,
}

impl Trial {
    fn new() -> Trial {
        let space = SearchSpace::open("tiny").unwrap();
        let experiment = Experiment::new("none", space, ["choice_nll:t", "params"]);
        // LINAS breeds thousands of networks between populations, which takes a while without optimisation.
        let algorithm = algorithm_named("nsga2").unwrap();
        let experiment = Experiment { evals: 40, population: 10, algorithm, ..experiment };
        Trial { dir: tempfile::tempdir().unwrap(), experiment }
    }

    fn scorer(&self) -> Scorer {
        mock_scorer(&self.experiment, [64, 64], Duration::ZERO, Arc::default()).unwrap()
    }

    fn out(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn local(&self) -> PathBuf {
        let out = self.out("local");
        self.experiment.run(self.scorer(), &out, &mut |_| ()).unwrap();
        out
    }

    /// Searches at a server; `listen` hears of the workers.
    fn remote(&self, url: &str, name: &str, listen: impl FnMut(Heard) + 'static) -> criadero::Result<(Front, PathBuf)> {
        let (out, here) = (self.out(name), self.scorer());
        fs::create_dir_all(&out).unwrap();
        let announcement =
            Announcement::new(RunId::of(&out)?, &self.experiment.settings(&here), Duration::from_secs(1));
        let searcher = Arc::new(Searcher::begin(connection(url), announcement)?);
        let sets = here.evaluator.sets().clone();
        let evaluator = Box::new(Remote::new(searcher.clone(), sets, &out, Arc::default(), Box::new(listen))?);
        let front = self.experiment.run(Scorer { evaluator, ..here }, &out, &mut |_| ())?;
        searcher.end()?;
        Ok((front, out))
    }
}

fn connection(url: &str) -> Arc<Connection> {
    let server = Server { url: url.to_string(), prefix: Server::PREFIX.to_string(), ..Server::default() };
    Arc::new(Connection::open(&server).unwrap())
}

/// A worker in a thread, until `stop`.
fn in_thread(
    url: &str,
    name: &str,
    workshop: Box<dyn Workshop>,
    stop: &Arc<AtomicBool>,
) -> std::thread::JoinHandle<criadero::Result<()>> {
    let worker = Worker::begin(connection(url), name, Some(1), workshop, stop.clone()).unwrap();
    std::thread::spawn(move || {
        worker.work(None, &|happening| {
            if let Happening::Note(note) = happening {
                eprintln!("{note}");
            }
        })
    })
}

fn mock(stop: &Arc<AtomicBool>, delay: Duration) -> Box<dyn Workshop> {
    Box::new(MockWorkshop { slots: 1, delay, stop: stop.clone(), machine: None })
}

#[test]
fn any_number_of_workers_gives_the_bytes_of_one_machine() {
    let server = NatsServer::with_jetstream();
    let dir = tempfile::tempdir().unwrap();
    let local = dir.path().join("local");
    succeed(mock_search(&local, &[]));
    for count in [1, 3, 8] {
        let _workers = workers(&server, count, &["--evaluator", "mock"]);
        let out = dir.path().join(count.to_string());
        succeed(mock_search(&out, &["--nats", &server.url()]));
        same_files(&local, &out);
    }
}

/// A task of 60 questions.
fn sky(dir: &Path) -> PathBuf {
    let task = dir.join("sky.jsonl");
    let row =
        |n| format!(r#"{{"context": "Day {n}. The sky is", "choices": [" blue", " full of {n} birds"], "gold": 0}}"#);
    fs::write(&task, (0..60).map(row).collect::<Vec<_>>().join("\n")).unwrap();
    task
}

/// A search of the tiny model on them.
fn sky_search(task: &Path, out: &Path, more: &[&str]) -> Command {
    let objective = format!("choice_nll:{}", task.display());
    let words = ["search", "tiny", "--model", "tests/goldens/tiny-llama", "--objective", &objective, "--objective"];
    let rest = ["params", "--evals", "24", "--population", "8", "--chunk-tokens", "128", "--threads", "1", "--out"];
    criadero(&[&words, &rest[..], &[out.to_str().unwrap()], more].concat())
}

#[test]
fn workers_with_a_model_give_the_bytes_of_one_machine_and_others_are_refused() {
    let server = NatsServer::with_jetstream();
    let dir = tempfile::tempdir().unwrap();
    let task = sky(dir.path());
    let search = |out: &Path, more: &[&str]| sky_search(&task, out, more);
    let [local, remote] = ["local", "remote"].map(|name| dir.path().join(name));
    succeed(search(&local, &[]));
    // Another model of the same shape: the tiny one, ranked.
    let other = dir.path().join("other");
    let text = dir.path().join("text.txt");
    fs::write(&text, "The llama of the farm is larger than the fox. ".repeat(200)).unwrap();
    let rank = ["rank", "tests/goldens/tiny-llama", "--text", text.to_str().unwrap(), "--tokens", "512", "--out"];
    succeed(criadero(&[&rank[..], &[other.to_str().unwrap()]].concat()));
    let said = ["stranger", "mock"].map(|name| server.dir().join(name));
    let _stranger = Process::start(worker(&server.url(), &["--model", other.to_str().unwrap()]), said[0].clone());
    let _mock = Process::start(worker(&server.url(), &["--evaluator", "mock"]), said[1].clone());
    let _worker = workers(&server, 1, &["--workers", "1"]);
    // One that has no model takes it from the server.
    let cache = dir.path().join("cache");
    let mut fetching = worker(&server.url(), &["--fetch", "--workers", "1"]);
    fetching.env("CRIADERO_CACHE", &cache);
    let _fetching = Process::start(fetching, server.dir().join("fetching"));
    succeed(search(&remote, &["--nats", &server.url(), "--nats-share"]));
    same_files(&local, &remote);
    let said = said.map(|said| fs::read_to_string(said).unwrap());
    assert!(said[0].contains("is left to others") && said[0].contains("digest of the model is"), "{}", said[0]);
    assert!(said[1].contains("evaluator: found local, expected a mock run"), "{}", said[1]);
    let said = fs::read_to_string(server.dir().join("fetching")).unwrap();
    assert!(said.contains("works for run"), "{said}");
    let fetched: Vec<_> = fs::read_dir(cache.join("models")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let model = fetched.iter().find(|path| path.join("config.json").is_file()).unwrap();
    assert!(fs::read(model.join("config.json")).unwrap() == fs::read("tests/goldens/tiny-llama/config.json").unwrap());
    assert_eq!(fs::read_dir(cache.join("models/parts")).unwrap().count(), 0, "parts are taken away");
    // A run that began on one machine goes on elsewhere, and the other way round.
    succeed(search(&local, &["--evals", "32", "--nats", &server.url()]));
    succeed(search(&remote, &["--evals", "32"]));
    same_files(&local, &remote);
}

#[test]
fn a_hundred_killed_workers_lose_and_double_nothing() {
    let server = NatsServer::with_jetstream();
    let dir = tempfile::tempdir().unwrap();
    let [local, remote] = ["local", "remote"].map(|name| dir.path().join(name));
    let more = ["--limit", "256", "--no-racing"];
    succeed(mock_search(&local, &more));
    let command = mock_search(&remote, &[&more[..], &["--nats", &server.url(), "--nats-lease", "1"]].concat());
    let mut search = Process::start(command, server.dir().join("search"));
    let start = || Process::start(worker(&server.url(), &["--evaluator", "mock:10"]), server.dir().join("workers"));
    let mut workers: Vec<Process> = (0..5).map(|_| start()).collect();
    let mut kills = 0;
    let mut random = 1_u64;
    while search.0.try_wait().unwrap().is_none() {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        std::thread::sleep(Duration::from_millis(20 + (random >> 33) % 100));
        if kills < 100 {
            let place = (random >> 40) as usize % workers.len();
            workers[place] = start();
            kills += 1;
        }
        assert!(kills < 1000);
    }
    assert!(search.0.wait().unwrap().success(), "{}", fs::read_to_string(server.dir().join("search")).unwrap());
    assert!(kills >= 100, "only {kills} were killed before it was over");
    same_files(&local, &remote);
}

#[test]
fn a_killed_searcher_and_a_restarted_server_lose_and_double_nothing() {
    let mut server = NatsServer::with_jetstream();
    let dir = tempfile::tempdir().unwrap();
    let [local, remote] = ["local", "remote"].map(|name| dir.path().join(name));
    succeed(mock_search(&local, &[]));
    let _workers = workers(&server, 3, &["--evaluator", "mock:10"]);
    let url = server.url();
    let search = || mock_search(&remote, &["--nats", &url, "--nats-lease", "1"]);
    let lines =
        || fs::read(remote.join("chunks.log")).map_or(0, |log| log.iter().filter(|&&byte| byte == b'\n').count());
    let until = |count: usize| {
        let start = Instant::now();
        while lines() < count {
            assert!(start.elapsed() < Duration::from_secs(60), "{} lines, expected {count}", lines());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    for kill in 1..=3 {
        let mut process = Process::start(search(), server.dir().join("search"));
        until(40 * kill);
        process.kill();
    }
    let mut process = Process::start(search(), server.dir().join("search"));
    until(160);
    server.stop();
    std::thread::sleep(Duration::from_secs(1));
    server.start();
    let status = process.0.wait().unwrap();
    assert!(status.success(), "{}", fs::read_to_string(server.dir().join("search")).unwrap());
    same_files(&local, &remote);
    // Each score is in the journal once.
    let log = fs::read_to_string(remote.join("chunks.log")).unwrap();
    let keys: Vec<&str> = log.lines().map(|line| line[9..].split(",\"scored\"").next().unwrap()).collect();
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
}

#[test]
fn a_lost_network_is_waited_for() {
    let server = NatsServer::with_jetstream();
    let (trial, stop) = (Trial::new(), Arc::default());
    let local = trial.local();
    let ways = [Way::to(server.port()), Way::to(server.port())];
    let slow = Duration::from_millis(5);
    let worker = in_thread(&ways[0].url(), "behind-a-way", mock(&stop, slow), &stop);
    let cutter = std::thread::spawn({
        let ways = ways.map(Arc::new);
        let urls = ways.each_ref().map(|way| way.url());
        let cut = ways.clone();
        std::thread::spawn(move || {
            for round in 0..2 {
                std::thread::sleep(Duration::from_millis(400));
                cut[round % 2].cut();
                std::thread::sleep(Duration::from_millis(700));
                cut[round % 2].mend();
            }
        });
        move || urls
    });
    let urls = cutter.join().unwrap();
    let (_, out) = trial.remote(&urls[1], "remote", |_| ()).unwrap();
    same_files(&local, &out);
    stop.store(true, Ordering::Relaxed);
    worker.join().unwrap().unwrap();
}

/// What becomes of the scores of a bench on their way.
type Alteration = Arc<
    dyn Fn(&mut Bench, Vec<Work>, &mut dyn FnMut(Partial) -> criadero::Result<()>) -> criadero::Result<()>
        + Send
        + Sync,
>;

/// Made-up scores, altered.
struct Altered<B> {
    good: B,
    alteration: Alteration,
}

impl Workshop for Altered<Box<dyn Workshop>> {
    fn device(&self) -> String {
        self.good.device()
    }

    fn slots(&self, run: &Announcement) -> usize {
        self.good.slots(run)
    }

    fn bench(&mut self, run: &Announcement) -> criadero::Result<(Bench, NumericClass)> {
        let (good, class) = self.good.bench(run)?;
        Ok((Box::new(Altered { good, alteration: self.alteration.clone() }), class))
    }
}

impl Evaluator for Altered<Bench> {
    fn sets(&self) -> &Arc<Vec<EvalSet>> {
        self.good.sets()
    }

    fn evaluate(
        &mut self,
        work: Vec<Work>,
        sink: &mut dyn FnMut(Partial) -> criadero::Result<()>,
    ) -> criadero::Result<()> {
        (self.alteration)(&mut self.good, work, sink)
    }
}

/// Fails on one network, as a worker does that its memory ends with, and counts that.
fn poisoned(poison: String, failures: Arc<AtomicUsize>) -> Alteration {
    Arc::new(move |good, work, sink| {
        if work.iter().flat_map(|work| &work.genomes).any(|genome| genome.to_string() == poison) {
            failures.fetch_add(1, Ordering::Relaxed);
            return Err(criadero::Error::Torch("a card that is no more".into()));
        }
        good.evaluate(work, sink)
    })
}

/// A machine whose log-likelihoods are the others' times a factor.
fn times(factor: f64) -> Alteration {
    Arc::new(move |good, work, sink| {
        good.evaluate(work, &mut |mut partial| {
            if let Outcome::Scored(items) = &mut partial.outcome {
                items.iter_mut().flat_map(|item| &mut item.log_likelihoods).for_each(|value| *value *= factor);
            }
            sink(partial)
        })
    })
}

#[test]
fn a_network_that_kills_its_workers_fails_and_the_search_goes_on() {
    let server = NatsServer::with_jetstream();
    let (trial, stop) = (Trial::new(), Arc::default());
    let poison = trial.experiment.space.smallest().to_string();
    let failures: Arc<AtomicUsize> = Arc::default();
    let over = Arc::new(AtomicBool::new(false));
    // Workers that end are started again, as a scheduler does.
    let keeper = std::thread::spawn({
        let (url, stop, over, failures, poison) =
            (server.url(), Arc::clone(&stop), over.clone(), failures.clone(), poison.clone());
        move || {
            while !over.load(Ordering::Relaxed) {
                let good = mock(&stop, Duration::ZERO);
                let workshop = Altered { good, alteration: poisoned(poison.clone(), failures.clone()) };
                let _ = in_thread(&url, "keeper", Box::new(workshop), &stop).join().unwrap();
            }
        }
    });
    let (front, out) = trial.remote(&server.url(), "remote", |_| ()).unwrap();
    over.store(true, Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    keeper.join().unwrap();
    assert_eq!(front.evaluations, 40);
    let table = fs::read_to_string(out.join("evaluations.csv")).unwrap();
    let row = table.lines().find(|row| row.contains(&format!(",{poison},"))).unwrap();
    assert!(row.contains("3 workers died of it; one said: libtorch: a card that is no more"), "{row}");
    let failed = table.lines().filter(|row| row.contains("workers died of it")).count();
    assert_eq!(failed, 1, "{table}");
    assert!(failures.load(Ordering::Relaxed) >= 3);
}

#[test]
fn what_strangers_send_is_left_alone_and_what_comes_twice_counts_once() {
    let server = NatsServer::with_jetstream();
    let (trial, stop) = (Trial::new(), Arc::default());
    let local = trial.local();
    let slow = Duration::from_millis(2);
    let worker = in_thread(&server.url(), "honest", mock(&stop, slow), &stop);
    let out = trial.out("remote");
    fs::create_dir_all(&out).unwrap();
    let run = RunId::of(&out).unwrap();
    let class = NumericClass::of(&trial.experiment.settings(&trial.scorer())).id();
    let over = Arc::new(AtomicBool::new(false));
    let stranger = std::thread::spawn({
        let (url, over) = (server.url(), over.clone());
        move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                use futures_util::StreamExt;
                let client = async_nats::connect(url).await.unwrap();
                let subject = format!("criadero.{run}.scores");
                let mut heard = client.subscribe(subject.clone()).await.unwrap();
                let mut echoed = HashSet::new();
                let deep = "[".repeat(100_000);
                while !over.load(Ordering::Relaxed) {
                    let next = tokio::time::timeout(Duration::from_millis(50), heard.next()).await;
                    let Ok(Some(message)) = next else { continue };
                    // Once more what came, and nonsense.
                    if echoed.len() < 40 && echoed.insert(message.payload.clone()) {
                        client.publish(subject.clone(), message.payload.clone()).await.unwrap();
                        for nonsense in ["", "{}", "null", &deep, "{\"worker\": 1}"] {
                            client.publish(subject.clone(), nonsense.to_string().into()).await.unwrap();
                            client
                                .publish(format!("criadero.{run}.task.{class}.3"), nonsense.to_string().into())
                                .await
                                .unwrap();
                        }
                    }
                }
                echoed.len()
            })
        }
    });
    let notes: Arc<std::sync::Mutex<Vec<Heard>>> = Arc::default();
    let listen = notes.clone();
    let (_, out) = trial.remote(&server.url(), "remote", move |heard| listen.lock().unwrap().push(heard)).unwrap();
    over.store(true, Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    assert!(stranger.join().unwrap() > 10);
    worker.join().unwrap().unwrap();
    same_files(&local, &out);
    let notes = notes.lock().unwrap();
    let left_alone = notes.iter().filter(|heard| matches!(heard, Heard::Note(note) if note.contains("left alone")));
    assert_eq!(left_alone.count(), 1, "said once: {notes:?}");
}

#[test]
fn servers_that_do_not_do_are_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let search = |url: &str| fail(mock_search(&out, &["--nats", url]));
    let error = search("nats://127.0.0.1:1");
    assert!(error.contains("nats://127.0.0.1:1: no NATS server answers there"), "{error}");
    let error = search("http://me:secret@host");
    assert!(error.contains("`http://host`, expected `nats://HOST[:PORT]`") && !error.contains("secret"), "{error}");
    let plain = NatsServer::start_with(&[]);
    let error = search(&plain.url());
    assert!(error.contains("has no JetStream") && error.contains("nats-server -js"), "{error}");
    let locked = NatsServer::start_with(&["-js", "--user", "me", "--pass", "pw"]);
    let error = search(&locked.url());
    assert!(error.contains("does not let this user in") && !error.contains("pw"), "{error}");
    let worker = fail(worker(&locked.url().replace("nats://", "nats://you:pw2@"), &["--evaluator", "mock"]));
    assert!(worker.contains("does not let this user in") && !worker.contains("pw2"), "{worker}");
    // Who is let in finds no secret in what was written.
    let url = locked.url().replace("nats://", "nats://me:pw@");
    let _worker = Process::start(self::worker(&url, &["--evaluator", "mock"]), dir.path().join("worker"));
    succeed(mock_search(&out, &["--nats", &url]));
    for file in fs::read_dir(&out).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(5).any(|window| window == b"me:pw"));
    }
    let run: serde_json::Value = serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
    assert!(run["command"].as_array().unwrap().contains(&locked.url().into()), "{}", run["command"]);
}

/// A server with a configuration of its own; JSON is one.
fn configured(dir: &Path, configuration: &serde_json::Value) -> NatsServer {
    let file = dir.join("nats.conf");
    fs::write(&file, configuration.to_string()).unwrap();
    NatsServer::start_with(&["-c", file.to_str().unwrap()])
}

#[test]
fn a_stream_of_other_settings_and_missing_permissions_are_errors_that_name_them() {
    let server = NatsServer::with_jetstream();
    let trial = Trial::new();
    let out = trial.out("remote");
    fs::create_dir_all(&out).unwrap();
    let name = format!("criadero-{}", RunId::of(&out).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        let subjects = vec![name.replacen('-', ".", 1) + ".task.*.*"];
        let config = async_nats::jetstream::stream::Config { name: name.clone(), subjects, ..Default::default() };
        async_nats::jetstream::new(client).create_stream(config).await.unwrap();
    });
    let error = trial.remote(&server.url(), "remote", |_| ()).unwrap_err().to_string();
    assert!(error.contains(&format!("stream {name}")) && error.contains(&format!("nats stream rm {name}")), "{error}");
    let user = json!({ "user": "me", "password": "pw", "permissions": { "publish": { "deny": ["$JS.API.CONSUMER.CREATE.>"] } } });
    let dir = tempfile::tempdir().unwrap();
    let server = configured(dir.path(), &json!({ "jetstream": {}, "authorization": { "users": [user] } }));
    let url = server.url().replace("nats://", "nats://me:pw@");
    let error = fail(mock_search(&dir.path().join("run"), &["--nats", &url]));
    assert!(error.to_lowercase().contains("permissions violation") && !error.contains("me:pw"), "{error}");
}

#[test]
fn a_full_store_is_said_and_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let [local, remote] = ["local", "remote"].map(|name| dir.path().join(name));
    let more = ["--limit", "512", "--no-racing"];
    succeed(mock_search(&local, &more));
    let account = |room: u32| {
        let users = json!([{ "user": "me", "password": "pw" }]);
        json!({ "jetstream": {}, "accounts": { "A": { "jetstream": { "max_file": room }, "users": users } } })
    };
    let mut server = configured(dir.path(), &account(14_000));
    let (url, said) = (server.url().replace("nats://", "nats://me:pw@"), dir.path().join("said"));
    let command = mock_search(&remote, &[&more[..], &["--nats", &url]].concat());
    let mut search = Process::start(command, said.clone());
    let start = Instant::now();
    while !fs::read_to_string(&said).is_ok_and(|said| said.contains("resource")) {
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", fs::read_to_string(&said));
        std::thread::sleep(Duration::from_millis(50));
    }
    server.stop();
    fs::write(dir.path().join("nats.conf"), account(1 << 30).to_string()).unwrap();
    server.start();
    let _worker = Process::start(worker(&url, &["--evaluator", "mock"]), dir.path().join("worker"));
    assert!(search.0.wait().unwrap().success(), "{:?}", fs::read_to_string(&said));
    same_files(&local, &remote);
}

#[test]
fn certificates_and_keys_let_in_whom_the_server_knows() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let certificate = |name: &str, issuer: &rcgen::Issuer<'_, rcgen::KeyPair>| {
        let key = rcgen::KeyPair::generate().unwrap();
        let of = rcgen::CertificateParams::new(vec!["127.0.0.1".to_string()]).unwrap();
        fs::write(path(&format!("{name}.pem")), of.signed_by(&key, issuer).unwrap().pem()).unwrap();
        fs::write(path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    };
    let (mut of, key) = (rcgen::CertificateParams::new(vec![]).unwrap(), rcgen::KeyPair::generate().unwrap());
    of.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    fs::write(path("ca.pem"), of.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(of, key);
    certificate("server", &issuer);
    certificate("client", &issuer);
    let (user, stranger) = (nkeys::KeyPair::new_user(), nkeys::KeyPair::new_user());
    fs::write(path("user.nk"), user.seed().unwrap() + "\n").unwrap();
    fs::write(path("stranger.nk"), stranger.seed().unwrap()).unwrap();
    let tls = json!({ "cert_file": path("server.pem"), "key_file": path("server.key"), "ca_file": path("ca.pem"), "verify": true });
    let users = json!({ "users": [{ "nkey": user.public_key() }] });
    let server = configured(dir.path(), &json!({ "jetstream": {}, "tls": tls, "authorization": users }));
    let url = server.url().replace("nats://", "tls://");
    let [ca, pem, key, nk, other] = ["ca.pem", "client.pem", "client.key", "user.nk", "stranger.nk"].map(path);
    let flags =
        |nkey| ["--nats-ca", &ca, "--nats-cert", &pem, "--nats-key", &key, "--nats-nkey", nkey].map(String::from);
    let words = |flags: &[String]| flags.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
    let (known, unknown) = (words(&flags(&nk)), words(&flags(&other)));
    let [known, unknown] = [&known, &unknown].map(|words| words.split('\n').collect::<Vec<&str>>());
    let _worker =
        Process::start(worker(&url, &[&["--evaluator", "mock"], &known[..]].concat()), dir.path().join("worker"));
    let search = |out: &str, more: &[&str]| mock_search(Path::new(&path(out)), &[&["--nats", &url], more].concat());
    succeed(search("run", &known));
    assert!(fail(search("other", &unknown)).contains("does not let this user in"));
    // Without the authority, its certificate proves nothing.
    let error = fail(search("third", &known[2..]));
    assert!(error.contains("certificate"), "{error}");
    // A certificate and a key come together; a seed that is none is said without being shown.
    fs::write(path("user.nk"), "SUNOSEED").unwrap();
    let error = fail(search("fourth", &known));
    assert!(!error.contains("SUNOSEED"), "{error}");
}

#[test]
fn a_worker_of_two_runs_serves_both() {
    let server = NatsServer::with_jetstream();
    let dir = tempfile::tempdir().unwrap();
    let [long, short] = ["long", "short"].map(|name| dir.path().join(name));
    let more = ["--limit", "512", "--no-racing", "--nats"];
    let mut first =
        Process::start(mock_search(&long, &[&more[..], &[&server.url()]].concat()), server.dir().join("long"));
    let _worker = workers(&server, 1, &["--evaluator", "mock:2"]);
    while !long.join("chunks.log").is_file() {
        std::thread::sleep(Duration::from_millis(20));
    }
    succeed(mock_search(&short, &["--limit", "8", "--nats", &server.url()]));
    assert!(first.0.try_wait().unwrap().is_none(), "the run that came first and is long is not over");
    let shown = succeed(criadero(&["workers", "--nats", &server.url(), "--json"]));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["runs"].as_array().unwrap().len(), 1, "{shown}");
    assert_eq!(shown["workers"][0]["slots"], 1, "{shown}");
}

/// A worker in a thread on a machine of some kind, the searcher's own one where it has no name, that scores with a factor.
fn of_kind(
    url: &str,
    machine: &str,
    factor: f64,
    stop: &Arc<AtomicBool>,
) -> std::thread::JoinHandle<criadero::Result<()>> {
    let delay = Duration::from_millis(2);
    let good: Box<dyn Workshop> =
        Box::new(MockWorkshop { slots: 1, delay, stop: stop.clone(), machine: Some(machine.to_string()) });
    let name = format!("worker-{machine}");
    in_thread(url, &name, Box::new(Altered { good, alteration: times(factor) }), stop)
}

/// By which factor the scores of each chunk differ from those of made-up ones; every network of a chunk by the same.
fn factors_of_chunks(trial: &Trial, run: &Path) -> BTreeMap<(String, u64), i64> {
    let sets = ["t/search", "t/held_out"].map(|name| (name.to_string(), 64));
    let mut plain = MockEvaluator::new(*trial.experiment.space.shape(), &sets, Duration::ZERO, Arc::default());
    let mut factors = BTreeMap::new();
    for line in fs::read_to_string(run.join("chunks.log")).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(&line[9..]).unwrap();
        let (set, chunk) = (line["set"].as_str().unwrap().to_string(), line["chunk"].as_u64().unwrap());
        let place = plain.sets().iter().position(|known| known.name == set).unwrap();
        let genomes = vec![line["genome"].as_str().unwrap().parse().unwrap()];
        let mut score = 0.0;
        let work = Work { chunk: criadero::eval::ChunkId { set: place, chunk: chunk as usize }, genomes };
        plain
            .evaluate(vec![work], &mut |partial| {
                let Outcome::Scored(items) = partial.outcome else { panic!("it is scored") };
                score = items[0].log_likelihoods[0];
                Ok(())
            })
            .unwrap();
        let factor = (line["scored"][0]["ll"][0].as_f64().unwrap() / score * 1000.0).round() as i64;
        assert_eq!(
            *factors.entry((set, chunk)).or_insert(factor),
            factor,
            "networks of a chunk are scored by one kind"
        );
    }
    factors
}

#[test]
fn machines_of_several_kinds_score_a_run_each_its_own_chunks() {
    let server = NatsServer::with_jetstream();
    let mut trial = Trial::new();
    trial.experiment.mixed_hardware = true;
    let stop: Arc<AtomicBool> = Arc::default();
    let start = |machine, factor| of_kind(&server.url(), machine, factor, &stop);
    let workers = vec![start("", 1.0), start("two", 1.01), start("wrong", 2.0)];
    let notes: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let listen = |notes: &Arc<std::sync::Mutex<Vec<String>>>| {
        let notes = notes.clone();
        move |heard| {
            if let Heard::Note(note) = heard {
                notes.lock().unwrap().push(note);
            }
        }
    };
    // All of them are there before the first chunk is given away.
    let watch = Watch::begin(connection(&server.url())).unwrap();
    while watch.look().unwrap().workers.len() < 3 {
        std::thread::sleep(Duration::from_millis(50));
    }
    let (front, out) = trial.remote(&server.url(), "mixed", listen(&notes)).unwrap();
    assert_eq!(front.evaluations, 40);
    let factors = factors_of_chunks(&trial, &out);
    let kinds: HashSet<i64> = factors.values().copied().collect();
    let said = notes.lock().unwrap().join("\n");
    assert!(said.contains("left out"), "{said}");
    assert_eq!(kinds.len(), 2, "{factors:?}\n{said}");
    stop.store(true, Ordering::Relaxed);
    workers.into_iter().for_each(|worker| worker.join().unwrap().unwrap());

    // With the same kinds for the same chunks it is the same run, whoever comes first; who is missing is waited for.
    stop.store(false, Ordering::Relaxed);
    let again = trial.out("again");
    fs::create_dir_all(&again).unwrap();
    fs::copy(out.join("hardware.json"), again.join("hardware.json")).unwrap();
    let hardware: serde_json::Value = serde_json::from_slice(&fs::read(out.join("hardware.json")).unwrap()).unwrap();
    let factor = |machine: &str| if machine == "two" { 1.01 } else { 1.0 };
    let good: Vec<&str> = hardware["kinds"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|kind| kind["difference"].as_f64().unwrap() < 0.05)
        .map(|kind| kind["class"]["machine"].as_str().unwrap())
        .collect();
    assert_eq!(good.len(), 2);
    let first = start(good[1], factor(good[1]));
    let (url, late) = (server.url(), good[0].to_string());
    let waited = Arc::new(AtomicBool::new(false));
    let comes_late = std::thread::spawn({
        let (waited, stop, factor) = (waited.clone(), stop.clone(), factor(good[0]));
        move || {
            while !waited.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
            }
            of_kind(&url, &late, factor, &stop)
        }
    });
    let listen = move |heard| {
        if let Heard::Note(note) = heard
            && note.contains("wait for a worker of the machines that they belong to")
        {
            waited.store(true, Ordering::Relaxed);
        }
    };
    trial.remote(&server.url(), "again", listen).unwrap();
    same_files(&out, &again);
    stop.store(true, Ordering::Relaxed);
    first.join().unwrap().unwrap();
    comes_late.join().unwrap().join().unwrap().unwrap();
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_cpu_with_fewer_instructions_is_of_another_kind() {
    let server = NatsServer::with_jetstream();
    let dir = tempfile::tempdir().unwrap();
    let task = sky(dir.path());
    let said = ["all", "fewer", "search"].map(|name| dir.path().join(name));
    let _all = Process::start(worker(&server.url(), &["--workers", "1"]), said[0].clone());
    let mut fewer = worker(&server.url(), &["--workers", "1"]);
    fewer.env("ATEN_CPU_CAPABILITY", "avx2");
    let _fewer = Process::start(fewer, said[1].clone());
    succeed(sky_search(&task, &dir.path().join("plain"), &["--nats", &server.url()]));
    let refused = fs::read_to_string(&said[1]).unwrap();
    assert!(refused.contains("is left to others") && refused.contains("ATEN_CPU_CAPABILITY=avx2"), "{refused}");
    let mixed = dir.path().join("mixed");
    let command = sky_search(&task, &mixed, &["--nats", &server.url(), "--mixed-hardware"]);
    let mut search = Process::start(command, said[2].clone());
    assert!(search.0.wait().unwrap().success());
    let notes = fs::read_to_string(&said[2]).unwrap();
    assert!(notes.contains("log-likelihoods differ from the first kind's by 0.00 %"), "{notes}");
    let hardware = fs::read_to_string(mixed.join("hardware.json")).unwrap();
    let hardware: serde_json::Value = serde_json::from_str(&hardware).unwrap();
    let kinds = hardware["kinds"].as_array().unwrap();
    let chunks = hardware["chunks"].as_object().unwrap().values();
    let owners: HashSet<&str> =
        chunks.flat_map(|set| set.as_object().unwrap().values()).map(|id| id.as_str().unwrap()).collect();
    assert_eq!((kinds.len(), owners.len()), (2, 2), "{hardware}");
}

#[test]
fn a_run_of_several_kinds_stays_one_and_another_never_becomes_one() {
    let server = NatsServer::with_jetstream();
    let dir = tempfile::tempdir().unwrap();
    let _worker = workers(&server, 1, &["--evaluator", "mock"]);
    let [mixed, plain] = ["mixed", "plain"].map(|name| dir.path().join(name));
    let url = server.url();
    succeed(mock_search(&mixed, &["--nats", &url, "--mixed-hardware"]));
    assert!(mixed.join("hardware.json").is_file());
    let error = fail(mock_search(&mixed, &["--evals", "50"]));
    assert!(error.contains("mixed_hardware is true there, false here"), "{error}");
    succeed(mock_search(&mixed, &["--nats", &url, "--mixed-hardware", "--evals", "50"]));
    succeed(mock_search(&plain, &[]));
    let error = fail(mock_search(&plain, &["--nats", &url, "--mixed-hardware", "--evals", "50"]));
    assert!(error.contains("mixed_hardware is false there, true here"), "{error}");
    // One kind alone has the bytes of one machine.
    succeed(mock_search(&plain, &["--evals", "50"]));
    same_files(&mixed, &plain);
}
