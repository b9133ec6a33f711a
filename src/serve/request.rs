//! A text to be written, and what comes of it.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use crate::model::generation::Sampling;

/// A text to be written behind a prompt. Once nobody receives its events it is dropped.
pub struct Request {
    /// Place of the network in the [`Menu`](super::Menu).
    pub network: usize,
    /// The prompt's tokens.
    pub prompt: Arc<[u32]>,
    /// Tokens to write at most.
    pub tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Seed of what is drawn.
    pub seed: u64,
    /// Texts that end it, and are left away.
    pub stops: Vec<String>,
    /// Go on behind the model's own end of text.
    pub ignore_eos: bool,
    /// Say how likely each token was, and so many of the most likely ones in its place.
    pub likely: Option<usize>,
    /// When it is given up.
    pub deadline: Instant,
    /// Where its events go.
    pub events: UnboundedSender<Event>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Some of its text.
    Written(Written),
    /// The last event: all is written.
    End {
        /// Why there is no more.
        why: Ending,
        /// Tokens written.
        tokens: usize,
    },
    /// The last event: it failed, with the reason.
    Failed(String),
}

/// Some text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// The text; tokens may add none where a character is not whole.
    pub text: String,
    /// Its tokens, where the request asks how likely they were.
    pub tokens: Vec<(Likely, Vec<Likely>)>,
}

/// How likely a token was.
#[derive(Clone, Debug, PartialEq)]
pub struct Likely {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability, as the network has it: at temperature 1, of all tokens.
    pub log_probability: f64,
}

/// Why a text ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model ended it, or one of its stops came.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
    /// Its time was up.
    Timeout,
}
