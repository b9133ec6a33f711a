//! One request while it is written.

use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::request::{Ending, Event, Likely, Request, Written};
use crate::checkpoint::Tokenizer;
use crate::error::{Error, Result};
use crate::model::generation::Sampler;

/// A request under way.
pub(super) struct Sequence<'a> {
    request: Request,
    tokenizer: &'a Tokenizer,
    sampler: Sampler,
    decode: Box<dyn FnMut(u32) -> Result<String> + 'a>,
    /// Tokens so far, and the last of them.
    count: usize,
    last: u32,
    /// What is not said yet, since it may be the beginning of a stop.
    held: Written,
}

impl<'a> Sequence<'a> {
    /// A request whose prompt was read.
    ///
    /// # Errors
    /// Sampling that means nothing; tokens without text.
    pub(super) fn begin(
        request: Request,
        tokenizer: &'a Tokenizer,
    ) -> std::result::Result<Sequence<'a>, (UnboundedSender<Event>, Error)> {
        let begun = || -> Result<_> {
            let sampler = Sampler::new(request.sampling, request.seed)?;
            let mut decode = tokenizer.stream();
            // Some decoders drop the space before the first token: the prompt's last one stands before it.
            request.prompt.last().map(|&last| decode(last)).transpose()?;
            Ok((sampler, Box::new(decode)))
        };
        match begun() {
            Ok((sampler, decode)) => {
                Ok(Sequence { request, tokenizer, sampler, decode, count: 0, last: 0, held: Written::default() })
            }
            Err(error) => Err((request.events, error)),
        }
    }

    /// The token that it goes on behind.
    pub(super) fn last(&self) -> u32 {
        self.last
    }

    /// Tokens so far.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether nobody waits for it.
    pub(super) fn is_unwanted(&self) -> bool {
        self.request.events.is_closed()
    }

    /// Chooses the next token and says what is new; why it ends, if it does.
    ///
    /// # Errors
    /// Logits that are no numbers.
    pub(super) fn take(&mut self, logits: &[f32], ends: &[u32]) -> Result<Option<Ending>> {
        if Instant::now() > self.request.deadline {
            return Ok(Some(self.end(Ending::Timeout)));
        }
        let token = self.sampler.choose(logits)?;
        if ends.contains(&token) && !self.request.ignore_eos {
            return Ok(Some(self.end(Ending::Stop)));
        }
        (self.last, self.count) = (token, self.count + 1);
        let text = self.text_of(token)?;
        self.held.text += &text;
        if let Some(most) = self.request.likely {
            self.held.tokens.push(likely(logits, token, most));
        }
        if let Some(end) = first_stop(&self.held.text, &self.request.stops) {
            self.held.text.truncate(end);
            return Ok(Some(self.end(Ending::Stop)));
        }
        if self.count >= self.request.tokens {
            return Ok(Some(self.end(Ending::Length)));
        }
        let sure = self.held.text.len() - beginning_of_stop(&self.held.text, &self.request.stops);
        if sure > 0 || (self.request.stops.is_empty() && !self.held.tokens.is_empty()) {
            let rest = self.held.text.split_off(sure);
            let said = std::mem::replace(&mut self.held, Written { text: rest, tokens: Vec::new() });
            self.say(Event::Written(said));
        }
        Ok(None)
    }

    /// What a token adds.
    fn text_of(&mut self, token: u32) -> Result<String> {
        if let Ok(text) = (self.decode)(token) {
            return Ok(text);
        }
        // Bytes that are no character, behind some that were said already, cannot be taken back: it begins anew behind them.
        self.decode = Box::new(self.tokenizer.stream());
        Ok(format!("{}{}", char::REPLACEMENT_CHARACTER, (self.decode)(token)?))
    }

    /// Says that it failed.
    pub(super) fn fail(&self, reason: &str) {
        self.say(Event::Failed(reason.to_string()));
    }

    /// Says what is left, and that it is over.
    fn end(&mut self, why: Ending) -> Ending {
        let left = std::mem::take(&mut self.held);
        if left != Written::default() {
            self.say(Event::Written(left));
        }
        self.say(Event::End { why, tokens: self.count });
        why
    }

    fn say(&self, event: Event) {
        // Who has gone is seen before the next step.
        let _ = self.request.events.send(event);
    }
}

/// Where the first of the stops begins.
fn first_stop(text: &str, stops: &[String]) -> Option<usize> {
    stops.iter().filter_map(|stop| text.find(stop.as_str())).min()
}

/// Bytes at the text's end that a stop begins with.
fn beginning_of_stop(text: &str, stops: &[String]) -> usize {
    let of_one = |stop: &String| {
        let most = stop.len().saturating_sub(1).min(text.len());
        (1..=most).rev().find(|&bytes| text.as_bytes().ends_with(&stop.as_bytes()[..bytes])).unwrap_or(0)
    };
    // Both are whole characters, and no character's first byte stands inside another one.
    stops.iter().map(of_one).max().unwrap_or(0)
}

/// How likely a token was, and the `most` likely ones in its place, the first of equals first.
fn likely(logits: &[f32], token: u32, most: usize) -> (Likely, Vec<Likely>) {
    let largest = logits.iter().copied().filter(|logit| !logit.is_nan()).fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().filter(|logit| !logit.is_nan()).map(|&logit| f64::from(logit - largest).exp()).sum();
    let of = |token: u32| {
        let log_probability = f64::from(logits[token as usize] - largest) - sum.ln();
        Likely { token, log_probability }
    };
    let mut tokens: Vec<u32> = Vec::new();
    if most > 0 {
        tokens = (0..logits.len() as u32).filter(|&token| !logits[token as usize].is_nan()).collect();
        let order = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        if most < tokens.len() {
            tokens.select_nth_unstable_by(most, order);
            tokens.truncate(most);
        }
        tokens.sort_by(order);
    }
    (of(token), tokens.into_iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops(of: &[&str]) -> Vec<String> {
        of.iter().map(|stop| stop.to_string()).collect()
    }

    #[test]
    fn a_stop_is_seen_when_it_is_whole_and_held_until_then() {
        let both = stops(&["\n\n", "END"]);
        assert_eq!(first_stop("a END b\n\n", &both), Some(2));
        assert_eq!(first_stop("a EN\n", &both), None);
        assert_eq!(beginning_of_stop("a EN", &both), 2);
        assert_eq!(beginning_of_stop("a E\n", &both), 1);
        assert_eq!(beginning_of_stop("a", &both), 0);
        assert_eq!(beginning_of_stop("", &both), 0);
        assert_eq!(beginning_of_stop("an ä", &stops(&["äö"])), 2);
        assert_eq!(beginning_of_stop("END", &stops(&["ENDE"])), 3);
    }

    #[test]
    fn probabilities_are_of_all_tokens() {
        // 1/7, 2/7 and 4/7.
        let logits = [0.0, 2.0_f32.ln(), 4.0_f32.ln()];
        let (own, top) = likely(&logits, 1, 2);
        assert!((own.log_probability - (2.0_f64 / 7.0).ln()).abs() < 1e-6);
        assert_eq!(top.iter().map(|likely| likely.token).collect::<Vec<_>>(), [2, 1]);
        assert!((top[0].log_probability - (4.0_f64 / 7.0).ln()).abs() < 1e-6);
        assert_eq!(likely(&logits, 0, 0).1, []);
        assert_eq!(likely(&logits, 0, 9).1.len(), 3);
    }
}
