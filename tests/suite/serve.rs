//! `criadero serve`, by plain HTTP as clients speak it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::command::{criadero, fail, succeed};
use crate::goldens::TINY;

/// A server on a port of its own.
pub struct Served {
    child: Child,
    address: String,
    /// What it says is read to the end, since it may not wait for that.
    said: Option<std::thread::JoinHandle<String>>,
}

impl Served {
    pub fn start(words: &[&str]) -> Served {
        let mut command = criadero(&[&["serve"], words, &["--addr", "127.0.0.1:0"]].concat());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut before = String::new();
        let address = loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it ended: {before}");
            if let Some((_, rest)) = line.split_once("http://") {
                break rest.split_once("/v1").unwrap().0.to_string();
            }
            before += &line;
        };
        let said = std::thread::spawn(move || {
            let mut rest = String::new();
            lines.read_to_string(&mut rest).unwrap();
            before + &rest
        });
        Served { child, address, said: Some(said) }
    }

    /// A connection that has sent a request.
    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        stream.write_all((head + body).as_bytes()).unwrap();
        stream
    }

    /// Status, head and body of an answer.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, String) {
        let mut answer = String::new();
        self.send(method, path, headers, body).read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body =
            if head.to_lowercase().contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_string() };
        (status, head.to_string(), body)
    }

    pub fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let (status, _, answer) = self.ask("POST", path, "Content-Type: application/json\r\n", &body.to_string());
        (status, serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}")))
    }

    pub fn complete(&self, body: Value) -> Value {
        let (status, answer) = self.post("/v1/completions", body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The JSON lines of a stream, which ends with `[DONE]`.
    fn stream(&self, path: &str, body: Value) -> Vec<Value> {
        let (status, head, text) = self.ask("POST", path, "", &body.to_string());
        assert!(status == 200 && head.contains("text/event-stream"), "{head}\n{text}");
        let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(lines.last(), Some(&"[DONE]"));
        lines[..lines.len() - 1].iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn metric(&self, name: &str) -> u64 {
        let (_, _, text) = self.ask("GET", "/metrics", "", "");
        let line = text.lines().find(|line| line.starts_with(&format!("criadero_{name} "))).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    fn signal(&self) {
        // SAFETY: a signal to a child of this process.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) }, 0);
    }

    /// Ends it, and gives what it said.
    fn end(mut self) -> String {
        self.signal();
        assert!(self.child.wait().unwrap().success());
        self.said.take().unwrap().join().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A body that was sent in chunks.
fn unchunked(body: &str) -> String {
    let (mut rest, mut text) = (body, String::new());
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        text += &more[..size];
        rest = &more[size + 2..];
    }
    text
}

/// A finished search of the tiny model.
fn run(dir: &Path) -> String {
    let task = dir.join("sky.jsonl");
    let row = |n| format!(r#"{{"text": "Day {n}. The sky is full of {n} birds, and the farm of llamas and foxes."}}"#);
    fs::write(&task, (0..40).map(row).collect::<Vec<_>>().join("\n")).unwrap();
    let (objective, out) = (format!("kl:{}", task.display()), dir.join("mine").display().to_string());
    let words =
        ["search", "tiny", "--model", TINY, "--objective", &objective, "--objective", "params", "--evals", "24"];
    succeed(criadero(
        &[&words, &["--population", "8", "--threads", "1", "--chunk-tokens", "128", "--out", &out][..]].concat(),
    ));
    out
}

#[test]
fn networks_of_a_front_write_what_they_write_alone() {
    let dir = tempfile::tempdir().unwrap();
    let run = run(dir.path());
    let served = Served::start(&[&run, "--threads", "1", "--arithmetic", "f32"]);
    let (_, _, models) = served.ask("GET", "/v1/models", "", "");
    let models: Value = serde_json::from_str(&models).unwrap();
    let ids: Vec<&str> = models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert!(ids[0] == "mine#parent" && ids.len() > 3, "{ids:?}");
    let params = |place: usize| models["data"][place]["values"]["params"].as_f64().unwrap();
    let prompt = "The llama of the farm";
    for id in [ids[0], ids[1], ids[ids.len() - 1]] {
        let asked = json!({ "model": id, "prompt": prompt, "temperature": 0, "max_tokens": 12, "ignore_eos": true });
        let answer = served.complete(asked.clone());
        assert_eq!(answer["model"], id);
        if id != ids[0] {
            let network = format!("{run}{}", id.strip_prefix("mine").unwrap());
            let alone = [
                "generate",
                &network,
                "--prompt",
                prompt,
                "--max-tokens",
                "12",
                "--ignore-eos",
                "--json",
                "--threads",
                "1",
            ];
            let alone: Value = serde_json::from_str(&succeed(criadero(&alone))).unwrap();
            assert_eq!(answer["choices"][0]["text"], alone["text"], "{id}");
        }
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
        assert_eq!(answer["usage"]["completion_tokens"], 12);
        // The same in pieces, beside others of this network and another one.
        let several = json!({ "model": ids[2], "prompt": ["x", "The fox"], "max_tokens": 30, "n": 2, "seed": 7 });
        std::thread::scope(|scope| {
            let company = scope.spawn(|| served.complete(several));
            let mut streamed = asked.clone();
            streamed["stream"] = true.into();
            streamed["stream_options"] = json!({ "include_usage": true });
            let pieces = served.stream("/v1/completions", streamed);
            let text: String = pieces.iter().filter_map(|piece| piece["choices"][0]["text"].as_str()).collect();
            assert_eq!(text, answer["choices"][0]["text"].as_str().unwrap());
            assert_eq!(pieces.last().unwrap()["usage"], answer["usage"]);
            assert_eq!(pieces[pieces.len() - 2]["choices"][0]["finish_reason"], "length");
            assert_eq!(company.join().unwrap()["choices"].as_array().unwrap().len(), 4);
        });
    }
    // The same seed draws the same, another one something else.
    let drawn = |seed: u64| {
        served.complete(json!({ "model": ids[1], "prompt": prompt, "max_tokens": 20, "seed": seed }))["choices"][0]["text"].clone()
    };
    assert_eq!(drawn(3), drawn(3));
    assert!((4..9).any(|seed| drawn(seed) != drawn(3)));
    // A page for browsers, with the front and a box to ask in.
    let (status, head, page) = served.ask("GET", "/", "", "");
    assert!(status == 200 && head.to_lowercase().contains("content-security-policy: default-src 'none'"), "{head}");
    assert!(page.contains("\"model\":\"mine#parent\"") && page.contains("\"served\":true"), "{}", &page[..2000]);
    // Budgets, as fields and as headers; speeds are measured when they are first asked for.
    let smallest = (1..ids.len()).min_by(|&a, &b| params(a).total_cmp(&params(b))).unwrap();
    let few = json!({ "model": "mine", "prompt": "x", "params": params(smallest), "max_tokens": 1 });
    assert_eq!(served.complete(few)["model"], ids[smallest]);
    let (_, _, by_header) =
        served.ask("POST", "/v1/completions", &format!("X-Params: {}\r\n", params(smallest)), r#"{"prompt": "x"}"#);
    assert_eq!(serde_json::from_str::<Value>(&by_header).unwrap()["model"], ids[smallest]);
    let fast = json!({ "prompt": "x", "latency_ms": 1e9, "decode_tps": 1e-3, "max_tokens": 1 });
    assert_eq!(served.complete(fast)["usage"]["completion_tokens"], 1);
    let (_, _, known) = served.ask("GET", "/v1/models", "", "");
    assert!(known.contains("latency_ms"), "{known}");
    let (status, answer) = served.post("/v1/completions", json!({ "prompt": "x", "params": 1 }));
    assert!(status == 404 && answer["error"]["message"].as_str().unwrap().contains("params runs from"), "{answer}");
    let said = served.end();
    assert!(said.contains("ending when all that was asked for is written"), "{said}");
}

#[test]
fn chats_probabilities_and_stops_are_as_the_api_has_them() {
    let served = Served::start(&[TINY, "--threads", "1"]);
    let messages = json!([{ "role": "user", "content": [{ "type": "text", "text": "Who are you?" }] }]);
    let asked = json!({ "model": "tiny-llama", "messages": messages, "temperature": 0, "max_tokens": 8, "logprobs": true,
        "top_logprobs": 3, "ignore_eos": true });
    let (status, answer) = served.post("/v1/chat/completions", asked.clone());
    assert_eq!(status, 200, "{answer}");
    let choice = &answer["choices"][0];
    assert_eq!((&answer["object"], &choice["message"]["role"]), (&"chat.completion".into(), &"assistant".into()));
    let content = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), 8);
    for token in content {
        let top = token["top_logprobs"].as_array().unwrap();
        assert!(top.len() == 3 && top[0]["logprob"] == token["logprob"], "the most likely one is taken: {token}");
        let sum: f64 = top.iter().map(|one| one["logprob"].as_f64().unwrap().exp()).sum();
        assert!((0.0..1.0).contains(&sum));
    }
    let mut streamed = asked;
    streamed["stream"] = true.into();
    let pieces = served.stream("/v1/chat/completions", streamed);
    assert_eq!(pieces[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    let text: String = pieces.iter().filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, choice["message"]["content"].as_str().unwrap());
    assert_eq!(pieces.last().unwrap()["choices"][0]["finish_reason"], "length");
    let tokens: usize =
        pieces.iter().filter_map(|piece| piece["choices"][0]["logprobs"]["content"].as_array()).map(Vec::len).sum();
    assert_eq!(tokens, 8);
    // A stop ends the text before it, also where it comes in two tokens.
    let asked = |stop: Value| json!({ "prompt": "The llama", "temperature": 0, "max_tokens": 24, "ignore_eos": true, "logprobs": 2, "stop": stop });
    let whole = served.complete(asked(Value::Null))["choices"][0]["text"].as_str().unwrap().to_string();
    let characters: Vec<char> = whole.chars().collect();
    let (before, stop) = (characters[..9].iter().collect::<String>(), characters[9..12].iter().collect::<String>());
    let stopped = served.complete(asked(json!([stop, "never"])));
    let first = whole.find(&stop).unwrap();
    assert_eq!(stopped["choices"][0]["text"], whole[..first], "{whole:?} at {stop:?}, after {before:?}");
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    let logprobs = &stopped["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().unwrap().len(), logprobs["text_offset"].as_array().unwrap().len());
    // Tokens as a prompt.
    let by_tokens = served.complete(json!({ "prompt": [5, 6, 7], "max_tokens": 2 }));
    assert_eq!(by_tokens["usage"]["prompt_tokens"], 3);
}

#[test]
fn what_does_not_do_is_answered_with_what_does() {
    let served = Served::start(&[TINY, "--threads", "1", "--api-key", "secret", "--context", "64"]);
    let key = "Authorization: Bearer secret\r\n";
    let ask = |body: &str| served.ask("POST", "/v1/completions", key, body);
    for (headers, expected) in [("", 401), ("Authorization: Bearer other\r\n", 401), (key, 200)] {
        assert_eq!(served.ask("GET", "/v1/models", headers, "").0, expected, "{headers}");
    }
    assert_eq!(served.ask("GET", "/health", "", "").0, 200);
    assert!(served.ask("GET", "/metrics", "", "").2.contains("# TYPE criadero_requests_waiting gauge"));
    let too_large = format!(r#"{{"prompt": "{}"}}"#, "x".repeat(5 << 20));
    for (body, status, words) in [
        ("{", 400, "JSON"),
        (r#"{"prompt": "x", "echo": true}"#, 400, "not served here"),
        (r#"{"prompt": "x", "model": "gpt-4"}"#, 404, "`tiny-llama`"),
        (r#"{"prompt": "x", "max_tokens": 100}"#, 400, "64 tokens together"),
        (r#"{"prompt": [99999]}"#, 400, "vocabulary"),
        (r#"{"prompt": "x", "n": 100}"#, 400, "64 at most"),
        (r#"{"prompt": "x", "seed": -1, "max_tokens": 1}"#, 200, "text"),
        (r#"{"prompt": ""}"#, 400, "a prompt of 0 tokens"),
        (r#"{"prompt": "x", "params": "5M"}"#, 404, "not a run"),
        (too_large.as_str(), 413, "limit"),
    ] {
        let (found, _, answer) = ask(body);
        let shown = &body[..body.len().min(60)];
        assert!(found == status && answer.contains(words), "{shown}: {found} {answer}");
    }
    assert_eq!(served.ask("GET", "/v1/completions", key, "").0, 405);
    assert_eq!(served.ask("GET", "/nowhere", "", "").0, 404);
    // Pages of other sites, which a browser names, and names that others can give to loopback.
    let foreign = format!("{key}Origin: http://evil.example\r\n");
    assert_eq!(served.ask("GET", "/v1/models", &foreign, "").0, 403);
    let own = format!("{key}Origin: http://localhost\r\n");
    assert_eq!(served.ask("GET", "/v1/models", &own, "").0, 200);
    let head = served.ask("GET", "/v1/models", key, "").1.to_lowercase();
    assert!(!head.contains("access-control"), "no other site's pages may ask: {head}");
    let taken = fail(criadero(&["serve", TINY, "--addr", &served.address]));
    assert!(taken.contains("give another --addr"), "{taken}");
    assert!(!served.end().contains("secret"));
}

#[test]
fn who_leaves_is_forgotten_who_finds_no_room_is_told_and_nothing_is_lost() {
    let served = Served::start(&[TINY, "--threads", "1", "--batch", "4", "--queue", "3"]);
    let (answered, refused, left) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for number in 0..12_u64 {
            let (served, answered, refused, left) = (&served, &answered, &refused, &left);
            scope.spawn(move || {
                for round in 0..8_u64 {
                    let tokens = 1 + (number * 7 + round * 13) % 120;
                    let stream = (number + round) % 2 == 0;
                    let body =
                        json!({ "prompt": "The llama", "max_tokens": tokens, "ignore_eos": true, "stream": stream })
                            .to_string();
                    if (number + round) % 3 == 0 {
                        let mut leaving = served.send("POST", "/v1/completions", "", &body);
                        let mut some = [0; 16];
                        leaving.set_read_timeout(Some(Duration::from_millis(5 * round))).ok();
                        let _ = leaving.read(&mut some);
                        left.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let (status, head, answer) = served.ask("POST", "/v1/completions", "", &body);
                    match status {
                        200 if stream => assert!(
                            answer.contains("\"finish_reason\":\"length\"") && answer.contains("[DONE]"),
                            "{answer}"
                        ),
                        200 => {
                            let answer: Value = serde_json::from_str(&answer).unwrap();
                            assert_eq!(answer["usage"]["completion_tokens"], tokens);
                        }
                        429 => assert!(head.to_lowercase().contains("retry-after: 1"), "{head}"),
                        _ => panic!("{status} {answer}"),
                    }
                    (if status == 200 { answered } else { refused }).fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let start = Instant::now();
    // Gauges are asked for one after the other, and who waited may have become active in between: totals say when all have ended.
    let finished = loop {
        let [taken, finished, cancelled] =
            ["taken", "finished", "cancelled"].map(|what| served.metric(&format!("requests_{what}_total")));
        let here = served.metric("requests_active") + served.metric("requests_waiting");
        if here == 0 && taken == finished + cancelled {
            break finished;
        }
        let counts = format!("{here} here; of {taken} taken {finished} finished, {cancelled} cancelled");
        assert!(start.elapsed() < Duration::from_secs(30), "somebody is still there, or lost: {counts}");
        std::thread::sleep(Duration::from_millis(20));
    };
    let [answered, refused, left] = [answered, refused, left].map(|count| count.into_inner() as u64);
    assert_eq!(answered + refused + left, 96);
    assert!(answered > 0 && refused > 0 && left > 0, "{answered} {refused} {left}");
    assert!(finished >= answered && served.metric("requests_refused_total") >= refused);
    assert_eq!((served.metric("requests_failed_total"), served.metric("cache_bytes")), (0, 0));
    // One that is asked to end writes what it has begun, and takes nothing in any more.
    std::thread::scope(|scope| {
        let body = json!({ "prompt": "The llama", "max_tokens": 200, "ignore_eos": true });
        let last = scope.spawn(|| served.complete(body));
        while served.metric("requests_active") == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        served.signal();
        assert_eq!(last.join().unwrap()["usage"]["completion_tokens"], 200);
    });
    let start = Instant::now();
    while TcpStream::connect(&served.address).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(10), "it still listens");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_takes_too_long_is_given_up() {
    let served = Served::start(&[TINY, "--threads", "1", "--timeout", "1", "--batch", "1"]);
    let body = json!({ "prompt": "The llama", "max_tokens": 250, "ignore_eos": true, "n": 30 });
    let (status, answer) = served.post("/v1/completions", body.clone());
    assert!(status == 504 && answer["error"]["message"].as_str().unwrap().contains("within 1 s"), "{answer}");
    let mut streamed = body;
    streamed["stream"] = true.into();
    let (_, _, text) = served.ask("POST", "/v1/completions", "", &streamed.to_string());
    assert!(text.contains("within 1 s") && text.contains("[DONE]"), "{text}");
    assert!(served.metric("requests_late_total") > 0);
}

#[test]
fn a_conversation_that_ends_its_sandbox_ends_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("tiny");
    fs::create_dir(&model).unwrap();
    for file in fs::read_dir(TINY).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), model.join(file.file_name())).unwrap();
    }
    // Doubled until there is no more memory.
    let grow =
        "{% set ns = namespace(x='x') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}";
    let template = format!(
        "{{% if messages[0].content == 'grow' %}}{grow}{{% else %}}User: {{{{ messages[0].content }}}}{{% endif %}}"
    );
    fs::write(model.join("chat_template.jinja"), template).unwrap();
    let served = Served::start(&[model.to_str().unwrap(), "--threads", "1"]);
    let say = |words: &str| {
        let messages = json!([{ "role": "user", "content": words }]);
        served.post("/v1/chat/completions", json!({ "messages": messages, "max_tokens": 2 }))
    };
    assert_eq!(say("Hello").0, 200);
    let (status, answer) = say("grow");
    assert!(status == 400 && answer["error"]["message"].as_str().unwrap().contains("memory"), "{answer}");
    assert_eq!(say("Hello").0, 200);
}
