//! `criadero worker`: scores networks for searches elsewhere.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use criadero::cluster::{Connection, Happening, LocalWorkshop, MockWorkshop, Worker as AtServer, Workshop};
use criadero::count::Workers;
use criadero::model::device::open_devices;
use criadero::run::Local;

use super::interrupt::stop_on_ctrl_c;
use super::model::DataArgs;
use super::nats::NatsArgs;
use super::search::EvaluatorKind;

/// Score networks for searches that ask at a NATS server
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  criadero worker --nats nats://HOST --model SUPERNET\n  \
                        criadero worker --nats tls://HOST --nats-creds worker.creds --model SUPERNET --devices all")]
pub struct Worker {
    /// NATS server with JetStream: `nats://HOST[:4222]` or `tls://HOST`; several of one cluster with commas between them
    #[arg(long, value_name = "URL")]
    nats: String,
    /// The supernet, where it does not lie where the searcher has it; its digest must be the run's
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Take the model from the server into the cache, where the search has put it there (`search --nats-share`)
    #[arg(long, conflicts_with = "model")]
    fetch: bool,
    #[command(flatten)]
    data: DataArgs,
    /// Devices that share the work: `cpu`, `cuda`, a list such as `cuda:0,cuda:1`, or `all` cards
    #[arg(long, value_name = "DEVICES", visible_alias = "device", default_value = "cpu")]
    devices: String,
    /// Tasks at a time; by default one a card, and on a CPU as many as its cores have of a run's threads
    #[arg(long, value_name = "N", value_parser = Workers::parse)]
    workers: Option<usize>,
    /// Memory for hidden states that children share with their parents; 0 keeps none. Scores do not depend on it
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u64).range(..1 << 40))]
    cache: u64,
    /// `local`, or `mock` / `mock:DELAY_MS` to work for searches without a model
    #[arg(long, value_name = "NAME", default_value = "local")]
    evaluator: EvaluatorKind,
    /// What it is called at the server; by default the host and a number
    #[arg(long, value_name = "WORD")]
    name: Option<String>,
    /// End once there was nothing to do for so many seconds
    #[arg(long, value_name = "SECONDS")]
    leave_after: Option<u64>,
    #[command(flatten, next_help_heading = "Server")]
    server: NatsArgs,
}

impl Worker {
    /// Works until it is stopped.
    ///
    /// # Errors
    /// No server, a device that is not there or is lost.
    pub fn run(self) -> anyhow::Result<()> {
        let stop = stop_on_ctrl_c("stopping after the network being scored; Ctrl-C again stops at once");
        let connection = Arc::new(Connection::open(&self.server.server(&self.nats))?);
        let workshop: Box<dyn Workshop> = match self.evaluator {
            EvaluatorKind::Mock(delay) => {
                Box::new(MockWorkshop { slots: self.workers.unwrap_or(1), delay, stop: stop.clone(), machine: None })
            }
            EvaluatorKind::Local => {
                open_devices(&self.devices, None)?;
                let local = Local {
                    data: self.data.dir(),
                    devices: self.devices.clone(),
                    cache_bytes: self.cache << 20,
                    ..Local::default()
                };
                Box::new(LocalWorkshop {
                    local,
                    model: self.model.clone(),
                    fetch: self.fetch.then(|| connection.clone()),
                    slots: self.workers,
                    stop: stop.clone(),
                    ready: HashMap::new(),
                })
            }
        };
        let name = self.name.clone().unwrap_or_else(own_name);
        eprintln!("worker {name} at {}; Ctrl-C ends it", connection.server());
        let worker = AtServer::begin(connection, &name, self.workers, workshop, stop)?;
        worker.work(self.leave_after.map(Duration::from_secs), &|happening| match happening {
            Happening::Note(note) => eprintln!("note: {note}"),
            Happening::Detail(detail) => detail!("{detail}"),
        })?;
        Ok(())
    }
}

/// The host's name and a number, in letters that a subject takes.
fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    let host: String = host.trim().chars().map(|letter| if fits(letter) { letter } else { '-' }).take(64).collect();
    format!("{}-{:06x}", if host.is_empty() { "worker" } else { &host }, rand::random::<u32>() & 0xff_ffff)
}
