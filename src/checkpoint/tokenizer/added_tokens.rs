//! Tokens that are found in a text before it is cut: those of `tokenizer.json`, and those listed beside it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::checkpoint::tokenizer::config::{TOKENIZER_CONFIG_FILE, TokenizerConfig};
use crate::error::{Error, Result};

/// How many tokens a note names.
const NAMED: usize = 3;

/// Adds the tokens that `tokenizer_config.json` and the files beside it list, and says what they disagree in.
///
/// The rule is that of transformers 5.23 (`TokenizersBackend.__init__`): how a token is found in a text is the list's
/// say, its id is tokenizer.json's, and a token that tokenizer.json does not have gets the next free id.
///
/// # Errors
/// `Mismatch` where that gives a token another id than the one it is listed with, and no file says which is right.
pub(super) fn add(
    tokenizer: &mut tokenizers::Tokenizer,
    path: &Path,
    settings: &TokenizerConfig,
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let mut problems = Vec::new();
    let mut other_ids = Vec::new();
    let mut other_flags = Vec::new();
    let wrong = |error: tokenizers::Error| Error::format(path, TOKENIZER_CONFIG_FILE, error.to_string());
    let known = tokenizer.get_added_tokens_decoder();
    for (id, token, file) in settings.listed(path)?.into_iter().filter(|(_, token, _)| !token.content.is_empty()) {
        let text = token.content.clone();
        let own = tokenizer.token_to_id(&text);
        if let Some(own) = own.filter(|&own| own != id) {
            other_ids.push(format!("`{text}` {own} instead of {id}"));
        }
        if own.is_some() && file != TOKENIZER_CONFIG_FILE {
            continue; // The older list has no flags of its own.
        }
        if let (None, Some(holder)) = (own, tokenizer.id_to_token(id)) {
            problems.push(format!("id {id}: `{text}` in {file}, `{holder}` in tokenizer.json"));
            continue;
        }
        if own.and_then(|own| known.get(&own)).is_some_and(|known| is_found_otherwise(known, &token)) {
            other_flags.push(format!("`{text}`"));
        }
        tokenizer.add_tokens([token]).map_err(wrong)?;
        if let Some(given) = tokenizer.token_to_id(&text).filter(|&given| own.is_none() && given != id) {
            problems.push(format!("`{text}`: id {id} in {file}, {given} is tokenizer.json's next free one"));
        }
    }
    if !problems.is_empty() {
        let what = "tokens that the tokenizer's files number differently; save it again with transformers, from where \
                    its ids are right"
            .into();
        return Err(Error::Mismatch { path: path.into(), what, problems });
    }
    let added: BTreeSet<String> =
        tokenizer.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
    let named = settings.named().into_iter().filter(|token| !added.contains(&token.content));
    tokenizer.add_tokens(named.collect::<Vec<_>>()).map_err(wrong)?;
    if !other_ids.is_empty() {
        let list = some_of(&other_ids);
        notes.push(format!(
            "tokenizer.json and the tokens listed beside it differ in ids; tokenizer.json is followed, as transformers \
             does: {list}"
        ));
    }
    if !other_flags.is_empty() {
        let list = some_of(&other_flags);
        notes.push(format!(
            "tokenizer.json and tokenizer_config.json differ in how tokens are found in a text; tokenizer_config.json is \
             followed, as transformers does: {list}"
        ));
    }
    Ok(notes)
}

/// Whether a token is found in other places of a text. A space more or less beside it changes ids.
fn is_found_otherwise(one: &tokenizers::AddedToken, other: &tokenizers::AddedToken) -> bool {
    let flags = |token: &tokenizers::AddedToken| (token.single_word, token.lstrip, token.rstrip, token.normalized);
    flags(one) != flags(other)
}

/// What to say of tokens that the model has no row for, if there are some.
pub(super) fn past_the_end(tokenizer: &tokenizers::Tokenizer, rows: usize) -> Option<String> {
    let vocabulary = tokenizer.get_vocab(true).into_iter();
    let mut past: Vec<(u32, String)> =
        vocabulary.filter(|&(_, id)| id as usize >= rows).map(|(text, id)| (id, text)).collect();
    past.sort();
    let list: Vec<String> = past.iter().map(|(id, text)| format!("`{text}` {id}")).collect();
    (!list.is_empty()).then(|| {
        let list = some_of(&list);
        format!("the tokenizer has tokens past the model's {rows} rows; a text with one of them is refused: {list}")
    })
}

fn some_of(list: &[String]) -> String {
    let shown = list[..list.len().min(NAMED)].join(", ");
    if list.len() > NAMED { format!("{shown} and {} more", list.len() - NAMED) } else { shown }
}
