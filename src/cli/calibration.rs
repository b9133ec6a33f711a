//! What a model is measured on: a text that is given, and text that it writes itself.

use std::path::PathBuf;

use anyhow::Context;
use criadero::Error;
use criadero::checkpoint::{Checkpoint, Tokenizer};
use criadero::count::Tokens;
use criadero::model::Llama;
use criadero::model::ranking::{own_text, read_again};

use super::model::{assets, tokenizer_of};
use super::progress::Bar;

/// Which text, and how much of it.
#[derive(Clone, clap::Args)]
pub struct CalibrationArgs {
    /// Calibration text, never of the task that will be scored; by default the stories, news and
    /// encyclopaedia passages that `criadero fetch demo` unpacks
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Tokens to measure on
    #[arg(long, value_name = "N", default_value_t = 32_768, value_parser = Tokens::parse)]
    tokens: usize,
    /// Of these tokens, the share that the model writes itself, drawn at temperature 1: of everything it learnt, where the text is of
    /// a few sources
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    own_text: f64,
    /// Tokens of a window
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = Tokens::parse)]
    window: usize,
}

/// The text that is given, as windows, and how many more the model is to write.
pub struct Calibration {
    /// BLAKE3 of the text; of nothing, where none is read.
    pub text_digest: String,
    /// Tokens of a window, the model's positions at most.
    pub window: usize,
    given: Vec<Vec<u32>>,
    own: usize,
}

/// The text that is given, or the one that `criadero fetch demo` unpacks.
pub fn text_or_default(given: Option<&PathBuf>) -> PathBuf {
    given.cloned().unwrap_or_else(|| assets().join("calibration.txt"))
}

impl CalibrationArgs {
    /// The text that is given.
    pub fn path(&self) -> PathBuf {
        text_or_default(self.text.as_ref())
    }

    /// Reads the text, as far as it is needed.
    pub fn read(&self, checkpoint: &Checkpoint) -> anyhow::Result<Calibration> {
        let window = self.window.min(checkpoint.config().positions());
        if window < 2 {
            return Err(Error::invalid("--window", self.window, "at least 2 tokens").into());
        }
        if !(0.0..=1.0).contains(&self.own_text) {
            return Err(Error::invalid("--own-text", self.own_text, "a share from 0 to 1").into());
        }
        let all = (self.tokens / window).max(1);
        let own = (self.own_text * all as f64).floor() as usize;
        let (given, text_digest) = match all - own {
            0 => (Vec::new(), blake3::hash(b"").to_hex().to_string()),
            windows => self.given(&tokenizer_of(checkpoint)?, windows, window)?,
        };
        Ok(Calibration { text_digest, window, given, own })
    }

    /// The same without what the model would write.
    pub fn read_given(&self, checkpoint: &Checkpoint) -> anyhow::Result<Calibration> {
        CalibrationArgs { own_text: 0.0, ..self.clone() }.read(checkpoint)
    }

    /// The beginning of the text as whole windows, so many at most, and its digest.
    fn given(&self, tokenizer: &Tokenizer, windows: usize, window: usize) -> anyhow::Result<(Vec<Vec<u32>>, String)> {
        let path = self.path();
        detail!("calibration text: {}", path.display());
        let text = std::fs::read_to_string(&path)
            .map_err(Error::io(&path))
            .context("calibration text; give one with --text")?;
        // A token is rarely longer than 16 bytes: enough text, and not a gigabyte of it.
        let end = (0..=text.len().min(self.tokens.saturating_mul(16))).rev().find(|&end| text.is_char_boundary(end));
        let tokens = tokenizer.encode(&text[..end.unwrap_or(0)])?;
        let mut given: Vec<Vec<u32>> = tokens.chunks(window).map(<[u32]>::to_vec).collect();
        if given.len() > 1 {
            given.retain(|tokens| tokens.len() == window);
        }
        given.truncate(windows);
        if given.iter().map(Vec::len).sum::<usize>() < 2 {
            return Err(Error::invalid(path.display().to_string(), "fewer than 2 tokens", "some text").into());
        }
        Ok((given, blake3::hash(text.as_bytes()).to_hex().to_string()))
    }
}

impl Calibration {
    /// Tokens, those that the model writes among them.
    pub fn tokens(&self) -> usize {
        self.given.iter().map(Vec::len).sum::<usize>() + self.own_tokens()
    }

    /// Tokens that the model writes.
    pub fn own_tokens(&self) -> usize {
        self.own * self.window
    }

    /// All windows, after the model has written its own: one of these, one of those, and half of both [read again](read_again), so
    /// that the first four have all of it.
    pub fn windows(&self, model: &Llama) -> anyhow::Result<Vec<Vec<u32>>> {
        let mut own = Vec::new();
        if self.own > 0 {
            let bar = Bar::new("own text", "token");
            own = own_text(model, self.own, self.window, &mut |done| bar.set(done, self.own_tokens()))?;
            bar.finish();
        }
        let (mut given, mut own) = (self.given.iter().cloned(), own.into_iter());
        let pairs = std::iter::from_fn(|| match [given.next(), own.next()] {
            [None, None] => None,
            pair => Some(pair),
        });
        let mut windows: Vec<Vec<u32>> = pairs.flatten().flatten().collect();
        read_again(&mut windows);
        Ok(windows)
    }
}
