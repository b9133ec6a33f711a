//! Networks of one model behind an address: what OpenAI's API asks for, written by any network of a front.
//!
//! All networks are views of one model in memory, so another network is another genome. A [`Request`] waits in the [`Engine`]'s queue until there
//! is room for it; then its prompt is read, and it is written together with the other requests of its network, a token of each a
//! step. Requests come and go between steps. A [`Question`] has its choices with it; one of them is
//! taken, by one network or by a cascade of them, between two steps. One thread computes; HTTP, tokens and templates are the others' work.

mod engine;
mod http;
mod menu;
mod meter;
mod openai;
mod question;
mod request;
mod sequence;

pub use engine::{Engine, Limits, Loaded, Refusal};
pub use http::{Page, Service, serve};
pub use menu::{Menu, Served};
pub use meter::Meter;
pub use question::{Picked, Question};
pub use request::{Ending, Event, Likely, Request, Written};
