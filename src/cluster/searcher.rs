//! A run's place at a server: its stream, its announcement, and who works for it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::context::CreateStreamErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{Message, kv};
use futures_util::StreamExt;

use super::announcement::Announcement;
use super::connection::Connection;
use super::message::{Task, written};
use super::names::{LANES, SEARCHER, workers};
use super::numeric_class::ClassId;
use super::shared_model::SharedModel;
use super::status::{Listening, Roster};
use super::stock::{Stock, files_of};
use crate::error::{Error, Result};

/// Messages of scores that are under way to the searcher.
const AHEAD: usize = 256;
/// How long the server may be silent towards a searcher that waits.
const SILENCE: Duration = Duration::from_secs(5);
/// A message of scores that is not acknowledged for so long comes again.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(60);
/// Tasks that are handed over together.
const TOGETHER: usize = 64;

/// What a searcher hears of its workers.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// Something that the user may not expect.
    Note(String),
    /// Something that somebody who looks for a fault wants to know.
    Detail(String),
    /// Tasks that are done at a time, by all workers.
    Workers(usize),
}

/// A run that asks workers at a server.
pub struct Searcher {
    pub(super) connection: Arc<Connection>,
    pub(super) announcement: Announcement,
    runs: kv::Store,
    listening: Listening,
    /// Whose consumers there are to be.
    classes: Mutex<BTreeSet<ClassId>>,
}

/// The scores of a run as they come.
pub(super) type Incoming = pull::Stream;

impl Searcher {
    /// Makes the run's stream, where there is none, and announces the run. From now on another searcher of the same run finds that it is
    /// not the one any more.
    ///
    /// # Errors
    /// [`Error::Server`] where the server does not take it.
    pub fn begin(connection: Arc<Connection>, announcement: Announcement) -> Result<Searcher> {
        let runs = connection.runs()?;
        let listening = Listening::begin(&connection)?;
        let searcher = Searcher { connection, announcement, runs, listening, classes: Mutex::default() };
        searcher.prepare(true)?;
        // What the searcher before this one asked for is not wanted any more; what was scored for it is.
        searcher.withdraw()?;
        Ok(searcher)
    }

    /// Puts a model at the server for workers who do not have it, and says so in an announcement that is still to be made.
    ///
    /// # Errors
    /// `Io`, `Interrupted`, [`Error::Server`].
    pub fn share(
        connection: &Connection,
        announcement: &mut Announcement,
        model: &Path,
        stop: &AtomicBool,
        note: &mut dyn FnMut(String),
    ) -> Result<()> {
        let (files, is_directory) = files_of(model)?;
        announcement.model = Some(Stock::open(connection)?.share(&files, is_directory, stop, note)?);
        Ok(())
    }

    /// The run at the server.
    pub fn announcement(&self) -> &Announcement {
        &self.announcement
    }

    /// Sees to it that stream, consumers and announcement are there; `anew` lets scores that went to an earlier searcher come again.
    pub(super) fn prepare(&self, anew: bool) -> Result<()> {
        let (Connection { jetstream, names, .. }, run) = (&*self.connection, &self.announcement.run);
        let name = names.stream(run);
        let config = Config {
            name: name.clone(),
            subjects: vec![names.tasks(run), names.scores(run)],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            // A full store refuses; it never drops what is there.
            discard: DiscardPolicy::New,
            num_replicas: 1,
            ..Config::default()
        };
        let consumer = |name: &str, filter_subject, ack_wait| pull::Config {
            durable_name: Some(name.to_string()),
            ack_policy: AckPolicy::Explicit,
            max_deliver: -1,
            filter_subject,
            ack_wait,
            max_ack_pending: -1,
            ..pull::Config::default()
        };
        let classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let lane = |class: &ClassId, lane| {
            consumer(&workers(class, lane), names.lane(run, class, lane), self.announcement.lease())
        };
        let lanes = classes.iter().flat_map(|class| (0..LANES).map(|number| lane(class, number)));
        let scores = consumer(SEARCHER, names.scores(run), ACKNOWLEDGED_WITHIN);
        self.connection.wait(async {
            let stream = jetstream.create_stream(config).await.map_err(|error| {
                let reason = match error.kind() {
                    CreateStreamErrorKind::JetStream(error) if error.code() == 400 => {
                        format!("{error}; delete it (`nats stream rm {name}`) where nobody needs it, or give another --nats-prefix")
                    }
                    _ => error.to_string(),
                };
                self.connection.failed(&format!("stream {name}"), reason)
            })?;
            if anew {
                let _ = stream.delete_consumer(SEARCHER).await;
            }
            for consumer in lanes.chain([scores]) {
                let made = stream.create_consumer(consumer).await;
                made.map_err(|error| self.connection.failed(&format!("consumers of stream {name}"), error))?;
            }
            let announced = self.runs.put(run.to_string(), written(&self.announcement).into()).await;
            announced.map_err(|error| self.connection.failed("announcement of the run", error))?;
            Ok(())
        })
    }

    /// Lets workers of these classes find their tasks from now on.
    pub(super) fn admit(&self, classes: &[ClassId]) -> Result<()> {
        self.classes.lock().unwrap_or_else(PoisonError::into_inner).extend(classes.iter().cloned());
        self.prepare(false)
    }

    /// Whether another searcher has announced the run since; nothing where the server does not say.
    pub(super) fn is_replaced(&self) -> Option<bool> {
        let run = self.announcement.run.to_string();
        let bytes = self.connection.wait(self.runs.get(run.clone())).ok()??;
        Announcement::read(&run, &bytes).ok().map(|there| there.searcher != self.announcement.searcher)
    }

    /// Hands tasks over, and wakes workers.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once `stop` is set; the server's being away is waited for.
    pub(super) fn offer(&self, tasks: &[Task], stop: &AtomicBool, note: &mut dyn FnMut(String)) -> Result<()> {
        let (Connection { jetstream, names, client, .. }, run) = (&*self.connection, &self.announcement.run);
        let largest = client.max_payload();
        for tasks in tasks.chunks(TOGETHER) {
            // The same name each time it is tried: what arrived though nobody said so does not count twice.
            let message = |task: &Task| {
                let name = format!("{:032x}", rand::random::<u128>());
                (names.lane(run, &task.class, task.lane), name, written(task))
            };
            let messages: Vec<(String, String, Vec<u8>)> = tasks.iter().map(message).collect();
            if let Some((.., bytes)) = messages.iter().find(|(.., bytes)| bytes.len() > largest) {
                let reason =
                    format!("it takes messages of {largest} bytes, and a task has {}; see `max_payload`", bytes.len());
                return Err(self.connection.failed("task", reason));
            }
            self.connection.persist("tasks", stop, note, || async {
                let mut taken = Vec::with_capacity(messages.len());
                for (subject, name, bytes) in &messages {
                    let message = PublishMessage::build().message_id(name).payload(bytes.clone().into());
                    taken.push(jetstream.send_publish(subject.clone(), message).await?);
                }
                for one in taken {
                    one.await?;
                }
                let _ = client.publish(names.wake(), run.to_string().into()).await;
                Ok::<(), async_nats::jetstream::context::PublishError>(())
            })?;
        }
        Ok(())
    }

    /// Takes back what no worker has begun.
    pub(super) fn withdraw(&self) -> Result<()> {
        let (Connection { jetstream, names, .. }, run) = (&*self.connection, &self.announcement.run);
        self.connection
            .wait(async {
                let stream = jetstream.get_stream(names.stream(run)).await.map_err(|error| error.to_string())?;
                stream.purge().filter(names.tasks(run)).await.map(drop).map_err(|error| error.to_string())
            })
            .map_err(|reason| self.connection.failed("tasks to take back", reason))
    }

    /// The scores from now on.
    pub(super) fn incoming(&self) -> Result<Incoming> {
        let (Connection { jetstream, names, .. }, run) = (&*self.connection, &self.announcement.run);
        self.connection
            .wait(async {
                let consumer = jetstream.get_consumer_from_stream(SEARCHER, names.stream(run)).await;
                let consumer: PullConsumer = consumer.map_err(|error| error.to_string())?;
                let stream = consumer.stream().max_messages_per_batch(AHEAD).heartbeat(SILENCE).expires(4 * SILENCE);
                stream.messages().await.map_err(|error| error.to_string())
            })
            .map_err(|reason| self.connection.failed("scores", reason))
    }

    /// The next message of scores, if one comes within `wait`.
    pub(super) fn next(&self, incoming: &mut Incoming, wait: Duration) -> Result<Option<Message>> {
        match self.connection.wait(async { tokio::time::timeout(wait, incoming.next()).await }) {
            Err(_) => Ok(None),
            Ok(Some(Ok(message))) => Ok(Some(message)),
            Ok(Some(Err(error))) => Err(self.connection.failed("scores", error)),
            Ok(None) => Err(self.connection.failed("scores", "no more of them")),
        }
    }

    /// Says that a message's scores are in the journal.
    pub(super) fn acknowledge(&self, message: &Message) {
        // Where that is lost they come again, and count once.
        let _ = self.connection.wait(message.ack());
    }

    /// Tasks of a class of workers, or all, that nobody has taken, and those that somebody has.
    pub(super) fn queue(&self, class: Option<&ClassId>) -> Result<(u64, usize)> {
        self.connection.queue(&self.announcement.run, class)
    }

    /// Looks at the workers.
    pub(super) fn workers<T>(&self, look: impl FnOnce(&mut Roster) -> T) -> T {
        self.listening.look(look)
    }

    /// Takes away the parts of the model that no other run needs.
    fn unshare(&self) {
        let Some(model) = &self.announcement.model else { return };
        let Ok(others) = self.connection.announced() else { return };
        let others: Vec<Announcement> = others.into_iter().filter(|other| other.run != self.announcement.run).collect();
        let needed: BTreeSet<&String> =
            others.iter().filter_map(|other| other.model.as_ref()).flat_map(SharedModel::parts).collect();
        if let Ok(stock) = Stock::open(&self.connection) {
            stock.remove(model.parts().difference(&needed).copied());
        }
    }

    /// Takes everything of the run away from the server: it is over.
    ///
    /// # Errors
    /// [`Error::Server`] where the server does not answer; the run itself is whole.
    pub fn end(&self) -> Result<()> {
        self.unshare();
        let (Connection { jetstream, names, .. }, run) = (&*self.connection, &self.announcement.run);
        self.connection
            .wait(async {
                self.runs.purge(run.to_string()).await.map_err(|error| error.to_string())?;
                jetstream.delete_stream(names.stream(run)).await.map_err(|error| error.to_string())
            })
            .map(drop)
            .map_err(|reason| self.connection.failed("end of the run", reason))
    }
}

/// What is said of a searcher whose run somebody else goes on with.
pub(super) fn replaced(server: &str) -> Error {
    let reason = "another process has gone on with this run, and this one ends; nothing is lost, but two of them on copies of one \
                  directory do the work twice";
    Error::Server { server: server.to_string(), reason: reason.to_string() }
}
