//! One-shot fine-tuning: text becomes sequences, a curriculum says which networks learn what from them, gradients go through
//! the elastic forward, and a run takes a supernet from its first step to an ordinary checkpoint.

pub mod adamw;
mod alpaca;
pub mod backward;
pub mod batch;
mod chat;
mod conversation;
mod corpus;
pub mod curriculum;
mod document;
#[cfg(test)]
mod fixture;
pub mod head_loss;
mod kind;
mod message;
pub mod metrics;
mod part;
mod record;
mod records;
pub mod run;
pub mod schedule;
mod sequence;
pub mod settings;
mod state;
pub mod template;
pub mod tuned;

pub use corpus::{Corpus, CorpusSettings};
pub use document::Document;
pub use kind::Kind;
pub use records::{Reading, Records};
pub use sequence::Sequence;
