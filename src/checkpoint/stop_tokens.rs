//! Which tokens end a generated text.

use serde::Deserialize;

use super::Checkpoint;
use super::hf::OneOrMany;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

const GENERATION_CONFIG_FILE: &str = "generation_config.json";
/// Keys of a GGUF file whose tokens end a text, as llama.cpp takes them: of a text, of a turn, of a message.
const GGUF_KEYS: [&str; 3] =
    ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

#[derive(Deserialize)]
struct GenerationConfig {
    eos_token_id: Option<OneOrMany>,
}

impl Checkpoint {
    /// All tokens that end a text: those of [`Checkpoint::stop_tokens`], and the tokenizer's own.
    ///
    /// # Errors
    /// As there.
    pub fn ends(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        Ok(self.stop_tokens()?.into_iter().chain(tokenizer.eos()).collect())
    }

    /// Tokens that end a generated text. Two files may say it: `generation_config.json` goes before `config.json`, as in
    /// transformers' `generate`; a GGUF has a key for each kind of end.
    ///
    /// # Errors
    /// `Format` for a generation configuration that is none, `Invalid` for a token outside the vocabulary.
    pub fn stop_tokens(&self) -> Result<Vec<u32>> {
        let of_config = || self.config.eos_token_ids.clone();
        let tokens = match &self.metadata {
            Some(metadata) => {
                let found = GGUF_KEYS.iter().map(|key| metadata.count(key)).collect::<Result<Vec<_>>>()?;
                found.into_iter().flatten().collect()
            }
            None => match self.tokenizer_files()?.0.get(GENERATION_CONFIG_FILE) {
                None => of_config(),
                Some(bytes) => {
                    let wrong = |error: serde_json::Error| {
                        Error::format(self.path.join(GENERATION_CONFIG_FILE), "JSON", error.to_string())
                    };
                    let read: GenerationConfig = serde_json::from_slice(bytes).map_err(wrong)?;
                    read.eos_token_id.map_or_else(of_config, OneOrMany::list)
                }
            },
        };
        let vocab = self.config.shape.vocab;
        match tokens.iter().find(|&&token| token as usize >= vocab) {
            None => Ok(tokens),
            Some(token) => {
                let expected = format!("less than the vocabulary's {vocab}");
                Err(Error::invalid(format!("token that ends a text of {}", self.path.display()), token, expected))
            }
        }
    }
}
