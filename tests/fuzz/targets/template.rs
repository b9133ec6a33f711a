//! `chat_template.jinja`: compiled and rendered in a sandbox.
#![no_main]

use criadero::checkpoint::{ChatTemplate, Checkpoint, Tokenizer};
use criadero::tune::template::Template;
use criadero_fuzz::{Model, keep};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

thread_local!(static TOKENIZER: Tokenizer = {
    let model = Model::copy();
    let checkpoint = Checkpoint::open(model.path()).expect("the model is whole");
    checkpoint.tokenizer().expect("so is its tokenizer")
});

fuzz_target!(init: keep(), |source: &str| TOKENIZER.with(|tokenizer| {
    let own = ChatTemplate {
        path: "model".into(),
        file: "chat_template.jinja",
        source: source.to_string(),
        special_tokens: vec![("bos_token", "<s>".to_string())],
    };
    let Ok(template) = Template::new(Some(&own), tokenizer) else { return };
    let says = |role: &str, content: &str| json!({ "role": role, "content": content });
    let messages = [says("system", "Be brief."), says("user", "Which is larger?"), says("assistant", "The goose.")];
    let _ = template.render(&messages, &json!([{ "name": "weigh", "parameters": {} }]), false);
    let _ = template.render(&messages[..2], &json!(null), true);
}));
