//! The same evaluator on other machines: a searcher and workers that meet at a NATS server.
//!
//! A searcher [announces](Announcement) its run in a key-value bucket and offers [tasks](Task), a chunk and some networks each, in a
//! JetStream stream of its own; any worker takes one, prepares for the run as a resumed run on its machine would, and refuses where what
//! it would compute are not the same numbers. What it scored goes back through the same stream.
//!
//! Tasks and scores are delivered at least once and count once: a score is known by chunk and network, the first one is taken, and
//! its message is acknowledged when it is in the run's journal. A task whose worker dies is delivered again when its lease runs out;
//! one that took three workers with it is offered network by network, and a network that still does so has failed.
//! What a worker computes depends on nothing but chunk and network, so that the run's files have the bytes of a local one. Its bits depend
//! on its [class](NumericClass): a run is of one, or each of its chunks is (`hardware.rs`).
//!
//! | what | its name, behind the prefix |
//! |---|---|
//! | bucket of announcements | `PREFIX-runs`, a key a run |
//! | bucket of models | `PREFIX-models`, an object a part of a file |
//! | stream of a run | `PREFIX-RUN`, kept as a work queue in files, with the consumers `workers-CLASS-LANE` and `searcher` |
//! | its subjects | `PREFIX.RUN.task.CLASS.LANE`, `PREFIX.RUN.scores` |
//! | plain messages | `PREFIX.wake`: there are tasks; `PREFIX.worker.NAME`: a worker's [`Status`], every two seconds |

mod announcement;
mod connection;
mod division;
mod hardware;
mod message;
mod names;
mod numeric_class;
mod overview;
mod remote;
mod searcher;
mod server;
mod shared_model;
mod status;
mod stock;
mod word;
mod worker;
mod workshop;

pub use announcement::{Announcement, RunId};
pub use connection::Connection;
pub use division::{Costs, Offer, divided};
pub use message::{Scores, Task};
pub use numeric_class::{ClassId, NumericClass};
pub use overview::{Overview, Standing, Watch};
pub use remote::Remote;
pub use searcher::{Heard, Searcher};
pub use server::Server;
pub use shared_model::{SharedFile, SharedModel};
pub use status::{Crew, Roster, Status};
pub use worker::{Happening, Worker};
pub use workshop::{Bench, LocalWorkshop, MockWorkshop, Workshop};
