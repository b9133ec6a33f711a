//! Token ids of texts, as the commands see them: one text a line, as JSON, on the standard input; one list a line on the
//! standard output. `scripts/parity/tokens.py` compares them with other tokenizers.
//!
//!     cargo run --release --example token_ids -- MODEL < TEXTS

use std::env::args_os;
use std::error::Error;
use std::io::{BufWriter, Write, stdin, stdout};

use criadero::checkpoint::open_model;

fn main() -> Result<(), Box<dyn Error>> {
    let model = args_os().nth(1).ok_or("give a model: a Hugging Face directory or a GGUF file")?;
    let tokenizer = open_model(model.as_ref())?.tokenizer()?;
    tokenizer.notes().iter().for_each(|note| eprintln!("note: {note}"));
    let mut out = BufWriter::new(stdout().lock());
    for line in stdin().lines() {
        let text: String = serde_json::from_str(&line?)?;
        writeln!(out, "{}", serde_json::to_string(&tokenizer.encode(&text)?)?)?;
    }
    Ok(out.flush()?)
}
