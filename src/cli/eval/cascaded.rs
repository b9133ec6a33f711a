//! `eval --cascade`: networks that answer in turn.

use std::time::Instant;

use criadero::cascade::{Cascade, check_chooses};
use criadero::eval::{Answered, Escalation, EvalSet, ItemScore};
use criadero::model::Llama;
use serde_json::{Value, json};

/// A cascade on a model.
pub struct Cascaded {
    cascade: Cascade,
    networks: Escalation,
    /// MACs a token of asking up to each network.
    macs: Vec<f64>,
}

/// What a cascade answered to a task's items.
pub struct Told {
    /// Their scores, each of the last network that was asked.
    pub scores: Vec<ItemScore>,
    /// Of each the place of that network.
    pub stages: Vec<usize>,
    /// What it took.
    pub summary: Value,
    pub seconds: f64,
}

impl Cascaded {
    /// Prepares the networks.
    pub fn of(cascade: Cascade, model: &Llama) -> criadero::Result<Cascaded> {
        let networks = Escalation::of(model, &cascade.genomes())?;
        let macs = cascade.macs(&model.config().shape);
        Ok(Cascaded { cascade, networks, macs })
    }

    /// Answers all items of a set; `on_chunk` is called after each chunk.
    pub fn answer(&self, set: &EvalSet, on_chunk: &mut dyn FnMut()) -> anyhow::Result<Told> {
        check_chooses(set)?;
        let start = Instant::now();
        let mut answers: Vec<Answered> = Vec::new();
        for chunk in &set.chunks {
            let items = &set.items[chunk.items.clone()];
            answers.extend(self.cascade.answer(&self.networks, chunk, &|item| &items[item].choice_chars)?);
            on_chunk();
        }
        let seconds = start.elapsed().as_secs_f64();
        let tokens = set.item_tokens();
        let all: f64 = tokens.iter().sum();
        let macs =
            answers.iter().zip(&tokens).map(|(answer, tokens)| self.macs[answer.stage] * tokens / all).sum::<f64>();
        let share = |stage| answers.iter().filter(|answer| answer.stage == stage).count() as f64 / answers.len() as f64;
        let answered: Vec<f64> = (0..self.macs.len()).map(share).collect();
        let (stages, scores) = answers.into_iter().map(|answer| (answer.stage, answer.score)).unzip();
        Ok(Told { scores, stages, summary: json!({ "macs": macs, "answered": answered }), seconds })
    }

    /// Prints what it took.
    pub fn print(&self, told: &Value) {
        println!("  {:<16} {:.4e} a token", "macs", told["macs"].as_f64().unwrap_or(f64::NAN));
        for (stage, share) in self.cascade.stages.iter().zip(told["answered"].as_array().into_iter().flatten()) {
            println!(
                "  answered by {:<4} {:.1} %  {}",
                stage.id,
                100.0 * share.as_f64().unwrap_or(f64::NAN),
                stage.genome
            );
        }
    }
}
