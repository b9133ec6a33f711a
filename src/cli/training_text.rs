//! The text that models and routers are trained on.

use std::path::Path;

use criadero::checkpoint::Checkpoint;
use criadero::task::LeftOut;
use criadero::tune::{Corpus, CorpusSettings, Document, Reading, Records};

use super::model::tokenizer_of;
use super::phase::Phase;

/// Reads all files as sequences of `base`'s tokens, and says what is in them; gives what was left out, too.
pub fn training_text(
    base: &Checkpoint,
    files: &[impl AsRef<Path>],
    settings: CorpusSettings,
) -> anyhow::Result<(Corpus, LeftOut)> {
    let _reading = Phase::begin("reading the training text");
    let (tokenizer, chat_template) = (tokenizer_of(base)?, base.chat_template()?);
    let length = settings.length;
    let reading = Reading { tokenizer: &tokenizer, chat_template: chat_template.as_ref(), length };
    let (mut documents, mut left_out) = (Vec::new(), LeftOut::default());
    for path in files {
        let path = path.as_ref();
        let records = Records::read(path, &reading)?;
        let tokens: usize = records.documents.iter().map(Document::len).sum();
        eprintln!("{}: {}, {} documents, {tokens} tokens", path.display(), records.kind, records.documents.len());
        if !records.left_out.is_empty() {
            eprintln!("note: {}: {}", path.display(), records.left_out);
            left_out = left_out.beside(&records.left_out);
        }
        if records.assumed_chatml {
            eprintln!("note: the tokenizer has no chat template; conversations are written as ChatML");
        }
        documents.extend(records.documents);
    }
    let corpus = Corpus::new(documents, settings)?;
    eprintln!(
        "{} sequences of {length} tokens to train on, {:.0} % full; {} held out",
        corpus.train.len(),
        100.0 * corpus.fill(),
        corpus.held_out.len()
    );
    Ok((corpus, left_out))
}
