//! `criadero rank`: a parent becomes a supernet.

use std::path::PathBuf;

use anyhow::Context;
use criadero::Error;
use criadero::checkpoint::{Checkpoint, Corrections, LlamaConfig, TensorName};
use criadero::model::ranking::{self, LayerLosses, Order, Ranking};
use criadero::model::supernet::{Calibration, SupernetCard};
use criadero::model::{Llama, TokenTree};
use criadero::run::cores;
use criadero::space::{ModelShape, SearchSpace};

use super::model::{self, DeviceArgs, assets, load, tokenizer_of};
use super::progress::Bar;

/// Tokens of calibration text for each input of the widest corrected matrix, below which a note is due.
const TOKENS_AN_INPUT: usize = 4;

/// Order heads, MLP channels and layers by importance, so that every narrower network is a prefix
#[derive(clap::Args)]
pub struct Rank {
    /// Checkpoint: an HF directory, a GGUF file, or `smollm2-135m`
    model: PathBuf,
    /// Calibration text, never of the task that will be scored; by default the stories, news and
    /// encyclopaedia passages that `criadero fetch demo` unpacks
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Directory of the supernet: a Hugging Face checkpoint and `criadero.json`
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Tokens to measure on
    #[arg(long, value_name = "N", default_value_t = 32_768)]
    tokens: usize,
    /// Of these tokens, the share that the model writes itself, drawn at temperature 1: of everything it learnt, where the text is of
    /// a few sources. 0: none
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    own_text: f64,
    /// Correct the matrices that write to the residual stream for every width of this space, shipped or a YAML file: narrow
    /// networks are more accurate, and only those of this space can be searched
    #[arg(long, value_name = "SPACE", conflicts_with = "order")]
    space: Option<String>,
    /// Tokens of a window
    #[arg(long, value_name = "N", default_value_t = 512)]
    window: usize,
    /// Measure on N tokens what each layer, and each of its widths in the space, is worth: searches begin with what that says is best,
    /// and layers go in that order. 0: not, and layers go by how little they turn the hidden state
    #[arg(long, value_name = "N", default_value_t = 1024)]
    loss_tokens: usize,
    /// Apply the order of another supernet's `criadero.json` instead of measuring
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tokens", "own_text", "loss_tokens"])]
    order: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Rank {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let checkpoint = model::open(&self.model)?;
        let shape = checkpoint.config().shape;
        if checkpoint.config().genome != shape.parent() {
            anyhow::bail!(
                "{} is no parent: its layers have different sizes ({})",
                self.model.display(),
                checkpoint.config().genome
            );
        }
        let space = self.space.as_deref().map(SearchSpace::open).transpose()?;
        if let Some(space) = &space {
            space.check_fits(&checkpoint.config().shape)?;
        }
        let own = self.own_windows(checkpoint.config())?;
        let (mut windows, text_digest) = self.windows(&checkpoint, own)?;
        if space.is_some() {
            let given: usize = windows.iter().map(Vec::len).sum();
            note_short(&shape, given + own * self.window_of(checkpoint.config()));
        }
        // Before the long part, behind everything that may be refused.
        std::fs::create_dir_all(&self.out).map_err(Error::io(&self.out))?;
        tch::set_num_threads(cores() as i32);
        let model = load(&checkpoint, &self.device)?;
        if own > 0 {
            windows = alternate(windows, self.write_own(&model, own)?);
        }
        let before = probe(&model, &windows)?;
        let (mut order, mut scores, calibration, corrections) = match &self.order {
            Some(path) => (SupernetCard::read_file(path)?.order, None, None, None),
            None => {
                let (ranking, calibration) = self.measure(&model, &windows, text_digest, space.as_ref())?;
                let Ranking { scores, order, corrections } = ranking;
                (order, Some(scores), Some(calibration), Some(corrections))
            }
        };
        order.check(&shape).context("the stored order does not fit this model")?;
        drop(model);
        self.write_weights(&checkpoint, &order)?;
        let supernet = Checkpoint::open(&self.out)?;
        if let Some(corrections) = corrections.filter(|corrections| !corrections.is_empty()) {
            Corrections::write(&self.out, &supernet.weights_digest()?, supernet.config().dtype, &corrections)?;
        }
        let supernet = load(&Checkpoint::open(&self.out)?, &self.device)?;
        if let (Some(scores), true) = (&mut scores, self.loss_tokens > 0) {
            scores.losses = Some(self.losses(&supernet, &windows, space.as_ref())?);
            order.drop = scores.drop();
        }
        let difference = (probe(&supernet, &windows)? - before).abs().max().double_value(&[]);
        let parent_digest = checkpoint.digest()?;
        let card = SupernetCard {
            format: SupernetCard::FORMAT,
            parent_digest,
            order,
            scores,
            calibration,
            largest_logit_difference: difference,
        };
        card.write(&self.out)?;
        println!("largest logit difference between parent and supernet: {difference:.2e}");
        println!("layers, least important first: {:?}", card.order.drop);
        println!("supernet: {}", self.out.display());
        Ok(())
    }

    /// What the text says of heads, neurons and layers.
    fn measure(
        &self,
        model: &Llama,
        windows: &[Vec<u32>],
        text_digest: String,
        space: Option<&SearchSpace>,
    ) -> anyhow::Result<(Ranking, Calibration)> {
        let tokens: usize = windows.iter().map(Vec::len).sum();
        let layers = model.config().shape.layers;
        let bar = Bar::new("ranking", layers);
        let ranking = ranking::rank(model, windows, space, &mut |done| bar.set(done, layers))?;
        bar.finish();
        let own_tokens = self.own_windows(model.config())? * self.window_of(model.config());
        let (window, loss_tokens) = (self.window, self.loss_tokens);
        Ok((ranking, Calibration { text_digest, tokens, own_tokens, window, loss_tokens }))
    }

    /// Windows that the model writes.
    fn write_own(&self, model: &Llama, windows: usize) -> anyhow::Result<Vec<Vec<u32>>> {
        let window = self.window_of(model.config());
        let bar = Bar::new("own text", windows * window);
        let written = ranking::own_text(model, windows, window, &mut |done| bar.set(done, windows * window))?;
        bar.finish();
        Ok(written)
    }

    /// What one narrowing alone costs, on the first windows.
    fn losses(
        &self,
        supernet: &Llama,
        windows: &[Vec<u32>],
        space: Option<&SearchSpace>,
    ) -> anyhow::Result<Vec<LayerLosses>> {
        let few = take_tokens(windows, self.loss_tokens.max(windows[0].len()));
        let tokens = few.iter().map(Vec::len).sum();
        let bar = Bar::new("losses", tokens);
        let losses = ranking::losses(supernet, few, space, &mut |done| bar.set(done, tokens))?;
        bar.finish();
        Ok(losses)
    }

    /// Tokens of a window, the model's positions at most.
    fn window_of(&self, config: &LlamaConfig) -> usize {
        self.window.min(config.positions())
    }

    /// Windows that the model is to write.
    fn own_windows(&self, config: &LlamaConfig) -> anyhow::Result<usize> {
        if !(0.0..=1.0).contains(&self.own_text) {
            return Err(Error::invalid("--own-text", self.own_text, "a share from 0 to 1").into());
        }
        let all = (self.tokens / self.window_of(config).max(1)).max(1);
        Ok(if self.order.is_some() { 0 } else { (self.own_text * all as f64).floor() as usize })
    }

    /// The calibration text as whole windows, so many that `own` more make `--tokens`, and its digest.
    fn windows(&self, checkpoint: &Checkpoint, own: usize) -> anyhow::Result<(Vec<Vec<u32>>, String)> {
        let window = self.window_of(checkpoint.config());
        if window < 2 {
            return Err(Error::invalid("--window", self.window, "at least 2 tokens").into());
        }
        let count = (self.tokens / window).max(1) - own;
        if count == 0 {
            return Ok((Vec::new(), blake3::hash(b"").to_hex().to_string()));
        }
        let path = self.text.clone().unwrap_or_else(|| assets().join("calibration.txt"));
        let text = std::fs::read_to_string(&path)
            .map_err(Error::io(&path))
            .context("calibration text; give one with --text")?;
        // A token is rarely longer than 16 bytes: enough text, and not a gigabyte of it.
        let end = (0..=text.len().min(self.tokens.saturating_mul(16))).rev().find(|&end| text.is_char_boundary(end));
        let tokens = tokenizer_of(checkpoint)?.encode(&text[..end.unwrap_or(0)])?;
        let mut windows: Vec<Vec<u32>> = tokens.chunks(window).map(<[u32]>::to_vec).collect();
        if windows.len() > 1 {
            windows.retain(|tokens| tokens.len() == window);
        }
        windows.truncate(count);
        if windows.iter().map(Vec::len).sum::<usize>() < 2 {
            return Err(Error::invalid(path.display().to_string(), "fewer than 2 tokens", "some text").into());
        }
        Ok((windows, blake3::hash(text.as_bytes()).to_hex().to_string()))
    }

    fn write_weights(&self, checkpoint: &Checkpoint, order: &Order) -> anyhow::Result<()> {
        let config = checkpoint.config();
        let dtype = config.dtype.unquantized();
        let tensor = |name: TensorName| {
            let tensor = checkpoint.tensor(name, dtype.kind())?;
            Ok(order.apply(name, tensor, &config.shape))
        };
        criadero::checkpoint::hf::write(&self.out, config, &tensor, &checkpoint.tokenizer_files()?, dtype)?;
        Ok(())
    }
}

/// Says when there are so few tokens that corrected matrices learn the text by heart.
fn note_short(shape: &ModelShape, tokens: usize) {
    let inputs = shape.mlp.max(shape.heads * shape.head_dim);
    let enough = TOKENS_AN_INPUT * inputs;
    if tokens < enough {
        eprintln!(
            "note: {tokens} tokens of calibration text for matrices of {inputs} inputs: their corrections fit this text more than the \
             model; {enough} tokens or more are better (--text, --tokens)"
        );
    }
}

/// One of these, one of those, so that any beginning has both.
fn alternate(these: Vec<Vec<u32>>, those: Vec<Vec<u32>>) -> Vec<Vec<u32>> {
    let (mut these, mut those) = (these.into_iter(), those.into_iter());
    let pairs = std::iter::from_fn(|| match (these.next(), those.next()) {
        (None, None) => None,
        pair => Some([pair.0, pair.1]),
    });
    pairs.flatten().flatten().collect()
}

/// Windows from the front until they hold this many tokens.
fn take_tokens(windows: &[Vec<u32>], tokens: usize) -> &[Vec<u32>] {
    let mut sum = 0;
    let count = windows.iter().take_while(|window| {
        sum += window.len();
        sum <= tokens
    });
    &windows[..count.count()]
}

/// Logits of the whole network on the first window, float32 on the CPU.
fn probe(model: &Llama, windows: &[Vec<u32>]) -> anyhow::Result<tch::Tensor> {
    let (network, batch) = (model.whole()?, model.batch(&TokenTree::chain(&windows[0]))?);
    Ok(tch::no_grad(|| network.forward(&batch)).to_device(tch::Device::Cpu))
}
