//! `criadero generate`: text behind a prompt, as it comes.

use std::time::Instant;

use anyhow::bail;
use criadero::checkpoint::{Checkpoint, Tokenizer};
use criadero::count::{Threads, Tokens};
use criadero::model::generation::{Generation, Sampler, Sampling};
use criadero::run::cores;
use criadero::space::Genome;
use criadero::tune::template::Template;
use serde_json::json;

use super::model::{DeviceArgs, load_for, set_threads, tokenizer_of, with_int8};
use super::picked::{MovedArgs, model_or_pick};
use super::router::RouterArgs;
use super::said::raw;

/// Write text behind a prompt, and say how fast
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  criadero generate small.gguf --prompt \"Once upon a time\"\n  \
                  criadero generate \"results/mine#knee\" --chat --prompt \"Who wrote Hamlet?\" --max-tokens 64")]
#[command(mut_arg("arithmetic", with_int8))]
pub struct Generate {
    /// Checkpoint, or RUN#ID: a network of a finished run by its id, `knee` or a limit
    #[arg(value_name = "MODEL|RUN#ID")]
    network: String,
    #[command(flatten)]
    moved: MovedArgs,
    /// The text to go on from
    #[arg(long)]
    prompt: String,
    /// Network as genome text; the whole model, or the run's network, by default
    #[arg(long, value_name = "GENOME", allow_hyphen_values = true)]
    genome: Option<Genome>,
    #[command(flatten)]
    router: RouterArgs,
    /// The prompt is what a user says, written as the model's chat template has it
    #[arg(long)]
    chat: bool,
    /// Tokens to write at most; the model's own end of text ends it sooner
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = Tokens::parse)]
    max_tokens: usize,
    /// Go on behind the model's own end of text
    #[arg(long)]
    ignore_eos: bool,
    /// Logits are divided by it; 0 takes the most likely token each time
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f64,
    /// Draw from so many of the most likely tokens; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    top_k: usize,
    /// Draw from the most likely tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// Seed of what is drawn
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// One JSON object at the end instead of text as it comes
    #[arg(long)]
    json: bool,
    /// libtorch threads; all cores by default
    #[arg(long, value_name = "N", value_parser = Threads::parse)]
    threads: Option<usize>,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Generate {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let Generate { temperature, top_k, top_p, .. } = self;
        let sampler = Sampler::new(Sampling { temperature, top_k, top_p }, self.seed)?;
        let (checkpoint, network) = model_or_pick(&self.network, &self.moved)?;
        let routed = self.router.read(&checkpoint, false)?;
        if routed.is_some() && self.genome.is_some() {
            bail!("--router chooses the network, and --genome names another");
        }
        let genome =
            routed.as_ref().map(|routed| routed.genome.clone()).or_else(|| self.genome.clone()).unwrap_or(network);
        let tokenizer = tokenizer_of(&checkpoint)?;
        let prompt = tokenizer.encode(&self.text(&checkpoint, &tokenizer)?)?;
        let mut model = load_for(&checkpoint, &self.device, std::slice::from_ref(&genome))?;
        if let Some(routed) = &routed {
            routed.apply(&mut model);
        }
        set_threads(self.threads.unwrap_or_else(cores));
        let ends: Vec<u32> = if self.ignore_eos { Vec::new() } else { checkpoint.ends(&tokenizer)? };
        // What it multiplies by is made once, on nobody's clock.
        model.network(&genome)?;
        let start = Instant::now();
        let mut generation = Generation::begin(&model, &genome, &prompt, self.max_tokens)?;
        let logits = Vec::<f32>::try_from(generation.logits())?;
        let read = start.elapsed().as_secs_f64();
        let mut stream = tokenizer.stream();
        // Some decoders drop the space before the first token: the prompt's last one stands before it.
        prompt.last().map(|&last| stream(last)).transpose()?;
        let start = Instant::now();
        let Written { tokens: written, text, steps } =
            self.write(&mut generation, logits, sampler, &ends, &mut stream)?;
        let wrote = start.elapsed().as_secs_f64();
        let rate = |tokens: usize, seconds: f64| tokens as f64 / seconds.max(1e-9);
        if self.json {
            let result = json!({
                "text": text,
                "tokens": written,
                "prompt_tokens": prompt.len(),
                "prompt_tokens_per_second": rate(prompt.len(), read),
                "tokens_per_second": rate(steps, wrote),
                "cache_bytes": generation.cache_bytes(),
                "routed": routed.map(|routed| routed.told(&checkpoint)),
            });
            println!("{result}");
            return Ok(());
        }
        println!();
        eprintln!(
            "prompt: {} tokens, {:.0} per second; written: {} tokens, {:.1} per second; keys and values: {:.1} MB",
            prompt.len(),
            rate(prompt.len(), read),
            written.len(),
            rate(steps, wrote),
            generation.cache_bytes() as f64 / 1e6
        );
        Ok(())
    }

    /// The prompt, with --chat as the model's template puts it.
    fn text(&self, checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> anyhow::Result<String> {
        if !self.chat {
            return Ok(self.prompt.clone());
        }
        let template = Template::new(checkpoint.chat_template()?.as_ref(), tokenizer)?;
        let message = json!({ "role": "user", "content": self.prompt });
        template.render(&[message], &serde_json::Value::Null, true).map_err(anyhow::Error::msg)
    }

    /// Token by token, said as it comes, until one of `ends`. The first comes with the prompt's own `logits`; each later
    /// one takes a step.
    fn write(
        &self,
        generation: &mut Generation,
        mut logits: Vec<f32>,
        mut sampler: Sampler,
        ends: &[u32],
        stream: &mut impl FnMut(u32) -> criadero::Result<String>,
    ) -> anyhow::Result<Written> {
        let mut written = Written::default();
        while written.tokens.len() < self.max_tokens {
            let token = sampler.choose(&logits)?;
            if ends.contains(&token) {
                break;
            }
            written.tokens.push(token);
            let more = stream(token)?;
            if !self.json {
                raw(more.as_bytes());
            }
            written.text += &more;
            if written.tokens.len() < self.max_tokens {
                generation.push(token)?;
                written.steps += 1;
                logits = Vec::<f32>::try_from(generation.logits())?;
            }
        }
        Ok(written)
    }
}

/// What came after the prompt.
#[derive(Default)]
struct Written {
    tokens: Vec<u32>,
    text: String,
    /// Forward passes that it took.
    steps: usize,
}
