//! A NATS server of a test's own, and a way to it that can be cut.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use criadero::cache_dir::cache_dir;

/// A server with JetStream, which keeps its files when it is stopped.
pub struct NatsServer {
    dir: tempfile::TempDir,
    port: u16,
    words: Vec<String>,
    child: Option<Child>,
}

impl NatsServer {
    /// Starts one with more words for its command line.
    pub fn start_with(words: &[&str]) -> NatsServer {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let words = words.iter().map(|word| word.to_string()).collect();
        let mut server = NatsServer { dir: tempfile::tempdir().unwrap(), port, words, child: None };
        server.start();
        server
    }

    /// Starts one with JetStream.
    pub fn with_jetstream() -> NatsServer {
        NatsServer::start_with(&["-js"])
    }

    /// Starts it, again with the files that it had.
    pub fn start(&mut self) {
        let program = cache_dir().join("nats-server/nats-server");
        assert!(program.is_file(), "{}: `make nats-server` gets it", program.display());
        let mut command = Command::new(program);
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-sd"]).arg(self.dir.path()).args(&self.words);
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A way to a port that drops what goes through it while it is cut: nobody is told, as when a cable is pulled.
pub struct Way {
    pub port: u16,
    cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Way {
    pub fn to(port: u16) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let way = Way { port: listener.local_addr().unwrap().port(), cut: Arc::default(), open: Arc::default() };
        let (cut, open) = (way.cut.clone(), way.open.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                open.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                for (from, to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                    let cut = cut.clone();
                    std::thread::spawn(move || carry(from, to, &cut));
                }
            }
        });
        way
    }

    /// From now on nothing comes through.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// New connections come through; those that were there have ended.
    pub fn mend(&self) {
        self.cut.store(false, Ordering::Relaxed);
        self.open.lock().unwrap().drain(..).for_each(|stream| _ = stream.shutdown(Shutdown::Both));
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut bytes = [0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if !cut.load(Ordering::Relaxed) && to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// A process that ends with its test.
pub struct Process(pub Child);

impl Process {
    /// Starts a command whose words to the user go to a file.
    pub fn start(mut command: Command, said: PathBuf) -> Process {
        let file = fs::File::options().create(true).append(true).open(said).unwrap();
        Process(command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap())
    }

    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
