//! The text that a model is measured on.

use std::path::PathBuf;

use anyhow::Context;
use criadero::Error;
use criadero::checkpoint::{Checkpoint, Tokenizer};
use criadero::count::Tokens;
use criadero::model::ranking::read_again;

use super::model::{assets, tokenizer_of};

/// Which text, and how much of it.
#[derive(clap::Args)]
pub struct CalibrationArgs {
    /// Calibration text, never of the task that will be scored; by default the stories, news and
    /// encyclopaedia passages that `criadero fetch demo` unpacks
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Tokens to measure on
    #[arg(long, value_name = "N", default_value_t = 32_768, value_parser = Tokens::parse)]
    tokens: usize,
    /// Tokens of a window
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = Tokens::parse)]
    window: usize,
}

/// The text as windows.
pub struct Calibration {
    /// BLAKE3 of the text.
    pub text_digest: String,
    /// Tokens of a window, the model's positions at most.
    pub window: usize,
    windows: Vec<Vec<u32>>,
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
        let (windows, text_digest) =
            self.beginning(&tokenizer_of(checkpoint)?, (self.tokens / window).max(1), window)?;
        Ok(Calibration { text_digest, window, windows })
    }

    /// The beginning of the text as whole windows, so many at most, and its digest.
    fn beginning(
        &self,
        tokenizer: &Tokenizer,
        windows: usize,
        window: usize,
    ) -> anyhow::Result<(Vec<Vec<u32>>, String)> {
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
    /// Tokens.
    pub fn tokens(&self) -> usize {
        self.windows.iter().map(Vec::len).sum()
    }

    /// All windows, half of them [read again](read_again).
    pub fn windows(&self) -> Vec<Vec<u32>> {
        let mut windows = self.windows.clone();
        read_again(&mut windows);
        windows
    }
}
