//! Models of the Hugging Face hub, from a small hub on loopback.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::command::{criadero, fail, succeed};
use crate::goldens::TINY;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER_COMMIT: &str = "fedcba9876543210fedcba9876543210fedcba98";

/// A hub with one model, `org/tiny`: its branch `main` is [`COMMIT`], its tag `v2` [`OTHER_COMMIT`].
struct Hub {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    /// Method-less first lines of requests and where in the file they begin.
    requests: Mutex<Vec<(String, usize)>>,
    token: Option<&'static str>,
    /// Answers of so many bytes break off after half of them, so many times.
    breaks: AtomicUsize,
    closed: AtomicBool,
}

impl Hub {
    fn of(shared: Shared) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(shared);
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if theirs.closed.load(Ordering::Relaxed) {
                    return;
                }
                // A client that was killed hangs up; the hub stays.
                let _ = theirs.answer(stream.unwrap());
            }
        });
        Hub { address, shared }
    }

    /// The tiny model's files, and weights in a format that is never read.
    fn files() -> BTreeMap<String, Vec<u8>> {
        let names =
            ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
        let read = |name: &str| (name.to_string(), std::fs::read(Path::new(TINY).join(name)).unwrap());
        let mut files: BTreeMap<_, _> = names.into_iter().map(read).collect();
        files.insert("pytorch_model.bin".into(), vec![0; 100]);
        files.insert("onnx/config.json".into(), b"{}".to_vec());
        files.insert("README.md".into(), b"---\nlicense: mit\n---\n# Tiny\n".to_vec());
        files.insert("LICENSE".into(), b"All of it.".to_vec());
        files.insert("onnx/README.md".into(), b"onnx".to_vec());
        files
    }

    fn tiny() -> Hub {
        Hub::of(Shared { files: Hub::files(), ..Shared::default() })
    }

    /// A command that asks this hub and keeps what it gets in `home`.
    fn ask(&self, home: &Path, arguments: &[&str]) -> Command {
        let mut command = criadero(arguments);
        ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
            .iter()
            .for_each(|name| _ = command.env_remove(name));
        command.env("HF_HOME", home).env("HF_ENDPOINT", &self.address);
        command
    }

    fn generate(&self, home: &Path, model: &str) -> Command {
        self.ask(
            home,
            &["generate", model, "--prompt", "The llama", "--max-tokens", "8", "--threads", "1", "--ignore-eos"],
        )
    }

    /// Files that were asked for, each with the places it was read from.
    fn read(&self) -> BTreeMap<String, Vec<usize>> {
        let mut read: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let requests = self.shared.requests.lock().unwrap();
        let files = requests
            .iter()
            .filter_map(|(path, from)| Some((path.split_once("/resolve/")?.1.split_once('/')?.1, *from)));
        files.for_each(|(name, from)| read.entry(name.into()).or_default().push(from));
        read
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
    }
}

impl Shared {
    /// One request of one connection.
    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().unwrap_or(Ok(String::new()))?;
        let path = first.split(' ').nth(1).unwrap_or_default().to_string();
        let mut headers = BTreeMap::new();
        for line in lines {
            let line = line?;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_string());
        }
        let range = headers.get("range").map(|range| range.trim_start_matches("bytes=").to_string());
        let (from, to) = range.as_deref().and_then(|range| range.split_once('-')).unwrap_or_default();
        let from: usize = from.parse().unwrap_or(0);
        if to.is_empty() {
            self.requests.lock().unwrap().push((path.clone(), from));
        }
        let authorized =
            self.token.is_none_or(|token| headers.get("authorization") == Some(&format!("Bearer {token}")));
        if !authorized {
            return respond(&stream, "401 Unauthorized", "", b"", 0);
        }
        let revisions = [("main", COMMIT), ("v2", OTHER_COMMIT), (COMMIT, COMMIT), (OTHER_COMMIT, OTHER_COMMIT)];
        for (name, commit) in revisions {
            if path == format!("/api/models/org/tiny/revision/{name}") {
                let siblings: Vec<_> = self.files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
                let info = serde_json::json!({"sha": commit, "siblings": siblings}).to_string();
                return respond(&stream, "200 OK", "", info.as_bytes(), info.len());
            }
            let file = path
                .strip_prefix(&format!("/org/tiny/resolve/{name}/"))
                .and_then(|name| self.files.get_key_value(name));
            if let Some((name, bytes)) = file {
                let end = to.parse().map_or(bytes.len(), |last: usize| last + 1);
                let (part, etag) = (&bytes[from..end], blake3::hash(name.as_bytes()));
                let range = format!("Content-Range: bytes {from}-{}/{}\r\n", end - 1, bytes.len());
                let headers = format!("{range}ETag: \"{etag}\"\r\nX-Repo-Commit: {commit}\r\n");
                let large = part.len() > 100_000;
                let breaks = large
                    && self
                        .breaks
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                        .is_ok();
                return respond(
                    &stream,
                    "206 Partial Content",
                    &headers,
                    part,
                    if breaks { part.len() / 2 } else { part.len() },
                );
            }
        }
        respond(&stream, "404 Not Found", "", b"", 0)
    }
}

fn respond(mut stream: &TcpStream, status: &str, headers: &str, body: &[u8], sent: usize) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body[..sent])
}

/// What the model says when it is given by its path.
fn expected() -> String {
    succeed(Hub::tiny().generate(Path::new("/"), TINY))
}

#[test]
fn a_model_is_fetched_once_and_found_again_without_the_hub() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::tiny();
    for name in ["org/tiny", "hf://org/tiny", "hf://org/tiny@main"] {
        assert_eq!(succeed(hub.generate(home.path(), name)), expected(), "{name}");
    }
    let names = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
        "LICENSE",
    ];
    let once: BTreeMap<_, _> = names.map(|name| (name.to_string(), vec![0])).into();
    assert_eq!(hub.read(), once, "only what is needed, each file once");
    let snapshot = home.path().join(format!("hub/models--org--tiny/snapshots/{COMMIT}"));
    assert!(snapshot.join("model.safetensors").is_file(), "where huggingface_hub looks");

    let mut offline = hub.generate(home.path(), "org/tiny");
    offline.env("HF_HUB_OFFLINE", "1").env("HF_ENDPOINT", "http://127.0.0.1:9");
    assert_eq!(succeed(offline), expected());
    let mut unreachable = hub.generate(home.path(), "org/tiny");
    unreachable.env("HF_ENDPOINT", "http://127.0.0.1:9");
    assert_eq!(succeed(unreachable), expected());
    assert_eq!(succeed(hub.generate(home.path(), &format!("org/tiny@{COMMIT}"))), expected());
    assert_eq!(hub.read(), once);
    succeed(hub.generate(home.path(), "org/tiny@v2"));
    assert_eq!(hub.read()["model.safetensors"], [0, 0], "another commit's");
}

#[test]
fn a_network_of_a_model_of_the_hub_names_it_and_its_licence() {
    let home = tempfile::tempdir().unwrap();
    let (hub, out) = (Hub::tiny(), home.path().join("out"));
    let export = ["export", "org/tiny", "--genome", "2x64*4", "--format", "hf", "--out", out.to_str().unwrap()];
    succeed(hub.ask(home.path(), &export));
    let card = std::fs::read_to_string(out.join("README.md")).unwrap();
    assert!(card.starts_with("---\nlicense: \"mit\"\nbase_model: \"org/tiny\"\nlibrary_name"), "{card}");
    assert!(card.contains("\n# `org/tiny`, ") && card.contains("criadero export org/tiny --genome"), "{card}");
    assert_eq!(std::fs::read(out.join("LICENSE")).unwrap(), b"All of it.");
}

#[test]
fn shards_are_those_of_the_index() {
    let home = tempfile::tempdir().unwrap();
    let mut files = Hub::files();
    let weights = files.remove("model.safetensors").unwrap();
    let header_bytes = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&weights[8..8 + header_bytes]).unwrap();
    let shard = "model-00001-of-00001.safetensors";
    let map: BTreeMap<_, _> = header.keys().filter(|name| *name != "__metadata__").map(|name| (name, shard)).collect();
    let index = serde_json::json!({"metadata": {}, "weight_map": map});
    files.insert("model.safetensors.index.json".into(), index.to_string().into_bytes());
    files.insert(shard.into(), weights);
    files.insert("model-00002-of-00002.safetensors".into(), vec![0; 9]);
    let hub = Hub::of(Shared { files: files.clone(), ..Shared::default() });
    assert_eq!(succeed(hub.generate(home.path(), "org/tiny")), expected());
    assert!(!hub.read().contains_key("model-00002-of-00002.safetensors"));

    let elsewhere = index.to_string().replace(shard, "../../../../config");
    files.insert("model.safetensors.index.json".into(), elsewhere.into_bytes());
    let hub = Hub::of(Shared { files, ..Shared::default() });
    let home = tempfile::tempdir().unwrap();
    assert!(fail(hub.generate(home.path(), "org/tiny")).contains("not a plain file name"));
}

#[test]
fn a_download_that_breaks_off_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let half = std::fs::metadata(Path::new(TINY).join("model.safetensors")).unwrap().len() as usize / 2;
    let hub = Hub::of(Shared { files: Hub::files(), breaks: AtomicUsize::new(1), ..Shared::default() });
    assert_eq!(succeed(hub.generate(home.path(), "org/tiny")), expected());
    assert_eq!(hub.read()["model.safetensors"], [0, half], "within one command");

    // What a command that was killed has left.
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::tiny();
    let blob = home.path().join(format!("hub/models--org--tiny/blobs/{}.part", blake3::hash(b"model.safetensors")));
    std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
    std::fs::write(&blob, &Hub::files()["model.safetensors"][..1000]).unwrap();
    assert_eq!(succeed(hub.generate(home.path(), "org/tiny")), expected());
    assert_eq!(hub.read()["model.safetensors"], [1000]);
}

#[test]
fn what_the_hub_does_not_give_is_said() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::of(Shared { files: Hub::files(), token: Some("secret"), ..Shared::default() });
    let refused = fail(hub.generate(home.path(), "org/tiny"));
    assert!(refused.contains("no such path here, and the hub") && refused.contains("HF_TOKEN"), "{refused}");
    let mut with_token = hub.generate(home.path(), "org/tiny");
    with_token.env("HF_TOKEN", "secret");
    assert_eq!(succeed(with_token), expected());
    std::fs::write(home.path().join("token"), "secret\n").unwrap();
    succeed(hub.generate(home.path(), "org/tiny@v2"));

    let hub = Hub::tiny();
    let home = tempfile::tempdir().unwrap();
    let refused = |name: &str| fail(hub.generate(home.path(), name));
    assert!(refused("results/mine").contains("no such path here, and the hub has no model results/mine"));
    assert!(refused("hf://org/tiny@v9").contains("a revision v9"));
    assert!(refused("hf://tiny").contains("expected hf://ORG/NAME"));
    let mut files = Hub::files();
    files.remove("model.safetensors");
    let pickled = Hub::of(Shared { files, ..Shared::default() });
    let refused = fail(pickled.generate(home.path(), "org/tiny"));
    assert!(refused.contains("pytorch_model.bin") && refused.contains("safetensors"), "{refused}");
    let mut offline = hub.generate(home.path(), "org/other");
    offline.env("HF_HUB_OFFLINE", "1");
    assert!(fail(offline).contains("HF_HUB_OFFLINE"));
    let mut unreachable = hub.generate(home.path(), "org/other");
    unreachable.env("HF_ENDPOINT", "http://127.0.0.1:9");
    assert!(fail(unreachable).contains("check the network"));
}
