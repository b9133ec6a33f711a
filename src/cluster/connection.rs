//! A connection to a server, over its disappearances.

use std::fmt::Display;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::Info;
use async_nats::jetstream::context::{AccountErrorKind, CreateKeyValueErrorKind};
use async_nats::jetstream::{self, Context, kv};
use async_nats::{Client, ConnectErrorKind, Event};
use futures_util::TryStreamExt;
use tokio::runtime::{Builder, Runtime};

use super::announcement::{Announcement, RunId};
use super::names::{Names, SEARCHER, lanes_of};
use super::numeric_class::ClassId;
use super::server::Server;
use crate::error::{Error, Result};

/// The first wait before something is tried again, and the longest.
const WAITS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];
/// How often a silent server is asked whether it is there.
const PING: Duration = Duration::from_secs(10);
/// A server that is away for so long is worth a word.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server that one is connected to. The connection comes back by itself, and what was asked meanwhile is repeated.
pub struct Connection {
    runtime: Runtime,
    pub(super) client: Client,
    pub(super) jetstream: Context,
    pub(super) names: Names,
    shown: String,
    /// What the server refused last.
    refusal: Arc<Mutex<Option<String>>>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Server`] where no server is, or one that does not let this user in or has no JetStream; an address or a file that is wrong.
    pub fn open(server: &Server) -> Result<Connection> {
        let names = Names::new(&server.prefix)?;
        let shown = server.shown();
        let failed = |reason: String| Error::Server { server: shown.clone(), reason };
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("nats").enable_all().build();
        let runtime = runtime.map_err(|error| failed(format!("no threads for the connection: {error}")))?;
        let refusal: Arc<Mutex<Option<String>>> = Arc::default();
        let heard = refusal.clone();
        let (client, jetstream) = runtime.block_on(async {
            let (addresses, options) = server.options().await?;
            // A cable that is pulled ends no connection: this finds it.
            let options = options.ping_interval(PING).event_callback(move |event| {
                if let Event::ServerError(error) = event {
                    *heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                }
                async {}
            });
            let client = options.connect(addresses).await.map_err(|error| {
                failed(match error.kind() {
                    ConnectErrorKind::Io | ConnectErrorKind::Dns | ConnectErrorKind::TimedOut => {
                        format!("no NATS server answers there: {error}; start one (`nats-server -js`), or give another --nats")
                    }
                    ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                        "the server does not let this user in; see NATS_USER and NATS_PASSWORD, NATS_TOKEN, --nats-creds and --nats-nkey".to_string()
                    }
                    _ => error.to_string(),
                })
            })?;
            let jetstream = jetstream::new(client.clone());
            jetstream.query_account().await.map_err(|error| {
                failed(match error.kind() {
                    AccountErrorKind::JetStreamUnavailable => {
                        "the server has no JetStream, or not for this account; start it with `nats-server -js`, or enable it there"
                            .to_string()
                    }
                    _ => said(&refusal, format!("JetStream does not answer: {error}")),
                })
            })?;
            Ok::<_, Error>((client, jetstream))
        })?;
        Ok(Connection { runtime, client, jetstream, names, shown, refusal })
    }

    /// The server as it may be shown.
    pub fn server(&self) -> &str {
        &self.shown
    }

    /// What a server does not do.
    pub(super) fn failed(&self, what: &str, reason: impl Display) -> Error {
        let reason = said(&self.refusal, format!("{what}: {reason}"));
        Error::Server { server: self.shown.clone(), reason }
    }

    /// Waits for what is asked of the server.
    pub(super) fn wait<T>(&self, asked: impl Future<Output = T>) -> T {
        self.runtime.block_on(asked)
    }

    /// Does something beside.
    pub(super) fn beside(&self, work: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
        self.runtime.spawn(work)
    }

    /// Asks until the server answers, less and less often. `note` gets a line when that takes long, and one when it is over.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once `stop` is set.
    pub(super) fn persist<T, E: Display, F: Future<Output = std::result::Result<T, E>>>(
        &self,
        what: &str,
        stop: &AtomicBool,
        note: &mut dyn FnMut(String),
        mut ask: impl FnMut() -> F,
    ) -> Result<T> {
        let start = Instant::now();
        let (mut wait, mut noted) = (WAITS[0], false);
        loop {
            let error = match self.wait(ask()) {
                Ok(answer) => {
                    if noted {
                        note(format!("{} is there again", self.shown));
                    }
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            if !noted && start.elapsed() > PATIENCE {
                noted = true;
                note(format!("{}; it is tried again until it works", self.failed(what, error)));
            }
            std::thread::sleep(wait);
            wait = (2 * wait).min(WAITS[1]);
        }
    }

    /// Tasks of a run, or of a class of its workers, that nobody has taken, and those that somebody has.
    pub(super) fn queue(&self, run: &RunId, class: Option<&ClassId>) -> Result<(u64, usize)> {
        let is_asked = |name: &str| match class {
            Some(class) => name.starts_with(&lanes_of(class)),
            None => name != SEARCHER,
        };
        let info = self.wait(async {
            let stream = self.jetstream.get_stream_no_info(self.names.stream(run)).await;
            let stream = stream.map_err(|error| error.to_string())?;
            let lanes: Vec<_> = stream.consumers().try_collect().await.map_err(|error| error.to_string())?;
            Ok(lanes.into_iter().filter(|lane| is_asked(&lane.name)).collect::<Vec<_>>())
        });
        let lanes = info.map_err(|reason: String| self.failed("queue", reason))?;
        let count = |sum: (u64, usize), lane: &Info| (sum.0 + lane.num_pending, sum.1 + lane.num_ack_pending);
        Ok(lanes.iter().fold((0, 0), count))
    }

    /// The runs that want workers; what is no announcement of this version is left out.
    ///
    /// # Errors
    /// [`Error::Server`].
    pub(super) fn announced(&self) -> Result<Vec<Announcement>> {
        let store = self.runs()?;
        let announced = self.wait(async {
            let keys = store.keys().await.map_err(|error| error.to_string())?;
            let keys: Vec<String> = keys.try_collect().await.map_err(|error| error.to_string())?;
            let mut announced = Vec::new();
            for key in keys {
                if let Some(bytes) = store.get(key.clone()).await.map_err(|error| error.to_string())? {
                    announced.extend(Announcement::read(&key, &bytes));
                }
            }
            Ok::<_, String>(announced)
        });
        announced.map_err(|reason| self.failed("runs", reason))
    }

    /// The bucket of announcements, made where there is none.
    ///
    /// # Errors
    /// [`Error::Server`].
    pub(super) fn runs(&self) -> Result<kv::Store> {
        let bucket = self.names.runs();
        self.wait(async {
            if let Ok(store) = self.jetstream.get_key_value(&bucket).await {
                return Ok(store);
            }
            let description = "Runs that want workers".to_string();
            let config = kv::Config { bucket: bucket.clone(), description, history: 1, ..kv::Config::default() };
            match self.jetstream.create_key_value(config).await {
                Ok(store) => Ok(store),
                // Somebody else was as quick.
                Err(error) if error.kind() == CreateKeyValueErrorKind::BucketCreate => {
                    self.jetstream.get_key_value(&bucket).await.map_err(|_| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            }
        })
        .map_err(|reason| self.failed(&format!("bucket {bucket}"), reason))
    }
}

/// With what the server refused, where it said so: requests that it drops only run out of time.
fn said(refusal: &Mutex<Option<String>>, reason: String) -> String {
    match refusal.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(words) => format!("{reason} (the server says: {words})"),
        None => reason,
    }
}
