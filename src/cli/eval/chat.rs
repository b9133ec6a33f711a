//! Questions in a model's own chat template.

use anyhow::bail;
use criadero::checkpoint::{Checkpoint, Tokenizer};
use criadero::task::{Scoring, Selection, Task};
use criadero::tune::template::Template;
use serde_json::{Value, json};

/// A model's chat template.
pub struct Chat {
    template: Template,
    /// As the model has it.
    pub source: String,
}

impl Chat {
    /// The template of a checkpoint.
    ///
    /// # Errors
    /// When it has none, or none that compiles.
    pub fn of(checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> anyhow::Result<Chat> {
        let Some(own) = checkpoint.chat_template()? else {
            bail!("{} has no chat template: leave out --chat-template", checkpoint.path().display());
        };
        Ok(Chat { template: Template::new(Some(&own), tokenizer)?, source: own.source })
    }

    /// Writes a task's items with it.
    ///
    /// # Errors
    /// A task of running text; what the template cannot render.
    pub fn ask(&self, task: &Task, selection: &mut Selection) -> anyhow::Result<()> {
        let scoring = task.scoring();
        if scoring == Scoring::Rolling {
            bail!("{} is {}: nobody says it, leave out --chat-template", task.name(), scoring.about());
        }
        // The choices of a question mostly share its context.
        let mut last = None;
        let mut render = |system: &str, user: &str| {
            let asked = (system.to_string(), user.to_string());
            match &last {
                Some((before, text)) if *before == asked => Ok(String::clone(text)),
                _ => {
                    let text = self.render(system, user)?;
                    last = Some((asked, text.clone()));
                    Ok(text)
                }
            }
        };
        for item in &mut selection.items {
            let asked = item.in_chat(scoring, &mut render).map_err(|reason: String| {
                let reason = format!("the chat template ({}) cannot write it: {reason}", self.template.name());
                item.place.error("task data", reason)
            });
            *item = asked?;
        }
        Ok(())
    }

    /// A conversation that waits for its answer. Some templates know no system; then it says nothing, as in the harness.
    fn render(&self, system: &str, user: &str) -> Result<String, String> {
        let user = json!({ "role": "user", "content": user });
        let alone = || self.template.render(std::slice::from_ref(&user), &Value::Null, true);
        match system {
            "" => alone(),
            _ => {
                let system = json!({ "role": "system", "content": system });
                self.template.render(&[system, user.clone()], &Value::Null, true).or_else(|_| alone())
            }
        }
    }
}
