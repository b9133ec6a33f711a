//! A question with its choices, of which one is the answer.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::menu::Menu;
use crate::cascade::{Choosing, Confidence};
use crate::error::Result;
use crate::eval::{Escalation, pack_choices};
use crate::model::Llama;

/// A prompt and what may stand behind it. Once nobody waits for its answer it is dropped.
pub struct Question {
    /// Place of the network, or of the cascade, in the [`Menu`].
    pub network: usize,
    /// The prompt's tokens.
    pub prompt: Arc<[u32]>,
    /// The tokens of each choice.
    pub choices: Arc<[Vec<u32>]>,
    /// The Unicode characters of each choice, without the blank that joins it to the prompt.
    pub chars: Arc<[usize]>,
    /// When it is given up.
    pub deadline: Instant,
    /// Where the answer goes, or why there is none.
    pub done: oneshot::Sender<std::result::Result<Picked, String>>,
}

/// The choice that a network takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Picked {
    /// Its place among the choices.
    pub choice: usize,
    /// Its share among them; at a cascade's temperature, where one is asked.
    pub share: f64,
    /// What the network that answered is called.
    pub network: String,
}

impl Question {
    /// Tokens of prompt and choices together: what is computed at once.
    pub fn tokens(&self) -> usize {
        self.prompt.len() + self.choices.iter().map(Vec::len).sum::<usize>()
    }

    /// The likeliest choice, as networks of the menu have it.
    pub(super) fn answer(&self, model: &Llama, menu: &Menu) -> Result<Picked> {
        let chunk = pack_choices(&self.prompt, &self.choices)?;
        let served = &menu.networks()[self.network];
        let (answers, choosing, asked) = match menu.cascade(self.network) {
            Some(cascade) => {
                let networks = Escalation::of(model, &cascade.genomes())?;
                let stages = cascade.stages.iter();
                let asked = stages.map(|stage| (menu.id_of(&stage.genome, &served.id), stage.confidence)).collect();
                (cascade.answer(&networks, &chunk, &|_| &self.chars)?, cascade.choosing, asked)
            }
            None => {
                let network = Escalation::of(model, std::slice::from_ref(&served.genome))?;
                let asked = vec![(served.id.clone(), Confidence { temperature: 1.0, relative: false })];
                (network.answer(&chunk, &mut |_, _, _| false)?, Choosing::Accuracy, asked)
            }
        };
        let answer = &answers[0];
        let (network, confidence) = &asked[answer.stage];
        let (choice, share) = confidence.of(&choosing.scores(&answer.score.log_likelihoods, &self.chars));
        Ok(Picked { choice, share, network: network.clone() })
    }
}
