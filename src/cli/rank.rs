//! `criadero rank`: a parent becomes a supernet.

use std::path::PathBuf;

use anyhow::Context;
use criadero::arithmetic::Arithmetic;
use criadero::checkpoint::hf::ModelCard;
use criadero::checkpoint::{Checkpoint, Corrections, TensorName, hf};
use criadero::model::ranking::{self, LayerLosses, Order, Ranking};
use criadero::model::supernet::{Calibration, SupernetCard};
use criadero::model::{Llama, TokenTree};
use criadero::output::{Output, StagedDirectory};
use criadero::run::{Headway, cores};
use criadero::space::{ModelShape, SearchSpace};
use serde_json::json;

use super::arguments::file_of;
use super::calibration::{self, CalibrationArgs};
use super::model::{self, DeviceArgs, load_beside_float32, set_threads};
use super::next::{Done, half_of};
use super::phase::Phase;
use super::progress::Bar;

/// Tokens of calibration text for each input of the widest corrected matrix, below which a note is due.
const TOKENS_AN_INPUT: usize = 4;
/// What a supernet's model card says.
const ABOUT: &str = "The model with its attention heads and MLP channels in the order of their importance, which `criadero rank` measured. It computes \
                     the same function; narrower networks are the beginnings of its matrices.";

/// Order heads, MLP channels and layers by importance, so that every narrower network is a prefix
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  criadero rank MODEL --space SPACE.yaml --out SUPERNET\n  \
                  criadero rank MODEL --space SPACE.yaml --text text.txt --tokens 65536 --out SUPERNET")]
pub struct Rank {
    /// Checkpoint: an HF directory, a GGUF file, or `smollm2-135m`
    model: PathBuf,
    #[command(flatten)]
    calibration: CalibrationArgs,
    /// Directory of the supernet: a Hugging Face checkpoint and `criadero.json`
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace what is there and was not written by this command
    #[arg(long)]
    force: bool,
    /// Correct the matrices that write to the residual stream for every width of this space, shipped or a YAML file: narrow
    /// networks are more accurate, and only those of this space can be searched
    #[arg(long, value_name = "SPACE", conflicts_with = "order")]
    space: Option<String>,
    /// Measure on N tokens what each layer, and each of its widths in the space, is worth: searches begin with what that says is best,
    /// and layers go in that order. 0: not, and layers go by how little they turn the hidden state
    #[arg(long, value_name = "N", default_value_t = 2048)]
    loss_tokens: usize,
    /// Apply the order of another supernet's `criadero.json` instead of measuring
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tokens", "loss_tokens"])]
    order: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
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
        let lineage = model::lineage_of(&checkpoint)?;
        let space = self.space.as_deref().map(SearchSpace::open).transpose()?;
        if let Some(space) = &space {
            space.check_fits(&checkpoint.config().shape)?;
        }
        let calibration = self.calibration.read(&checkpoint)?;
        if space.is_some() {
            note_short(&shape, calibration.tokens());
        }
        // Before the long part, behind everything that may be refused.
        let output =
            Output::of("rank").reading(checkpoint.path()).reading(self.calibration.path()).reading_all(&self.order);
        let output = output.reading_all(self.space.as_deref().and_then(file_of)).forced(self.force);
        let staged = hf::stage(&output, &self.out)?;
        set_threads(cores());
        let device = self.device.fast();
        let model = load_beside_float32(&checkpoint, &device)?;
        let windows = calibration.windows();
        let before = probe(&model, &windows)?;
        let (mut order, mut scores, corrections) = match &self.order {
            Some(path) => (SupernetCard::read_file(path)?.order, None, None),
            None => {
                let Ranking { scores, order, corrections } = measure(&model, &windows, space.as_ref())?;
                (order, Some(scores), Some(corrections))
            }
        };
        order.check(&shape).context("the stored order does not fit this model")?;
        drop(model);
        let writing = Phase::begin("writing the supernet");
        write_weights(&checkpoint, &order, &staged)?;
        ModelCard::of_changed(lineage, checkpoint.config(), "ranked", ABOUT)
            .write_into(&staged, checkpoint.config())?;
        let supernet = Checkpoint::open(staged.path())?;
        if let Some(corrections) = corrections.filter(|corrections| !corrections.is_empty()) {
            Corrections::write(staged.path(), &supernet.weights_digest()?, supernet.config().dtype, &corrections)?;
        }
        let supernet = Checkpoint::open(staged.path())?;
        let weights = Some(supernet.fingerprint()?);
        drop(writing);
        let supernet = load_beside_float32(&supernet, &device)?;
        if let (Some(scores), true) = (&mut scores, self.loss_tokens > 0) {
            scores.losses = Some(self.losses(&supernet, &windows, space.as_ref())?);
            order.drop = scores.drop();
        }
        let difference = (probe(&supernet, &windows)? - before).abs().max().double_value(&[]);
        let parent_digest = checkpoint.digest()?;
        let card = SupernetCard {
            format: SupernetCard::FORMAT,
            parent_digest,
            weights,
            order,
            calibration: scores.is_some().then(|| self.measured_on(&calibration, device.numbers().arithmetic())),
            scores,
            largest_logit_difference: difference,
        };
        card.write(staged.path())?;
        staged.publish()?;
        if self.json {
            let ranked = json!({
                "supernet": self.out,
                "layers_least_important_first": card.order.drop,
                "largest_logit_difference": difference,
            });
            println!("{ranked:#}");
            return Ok(());
        }
        println!("largest logit difference between parent and supernet: {difference:.2e}");
        println!("layers, least important first: {:?}", card.order.drop);
        println!("supernet: {}", self.out.display());
        self.next(&card, &shape).say_next();
        Ok(())
    }

    /// What to do with the supernet: in the given space, or else in the shipped one of its shape.
    fn next(&self, card: &SupernetCard, shape: &ModelShape) -> Done<'_> {
        let name = self.space.as_deref().or_else(|| SearchSpace::shipped_for(shape)).filter(|_| card.scores.is_some());
        let space = name.and_then(|name| Some((name, half_of(&SearchSpace::open(name).ok()?))));
        Done::Ranked { supernet: &self.out, space }
    }

    fn measured_on(&self, calibration: &calibration::Calibration, arithmetic: Arithmetic) -> Calibration {
        Calibration {
            arithmetic,
            text_digest: calibration.text_digest.clone(),
            tokens: calibration.tokens(),
            read_again: true,
            window: calibration.window,
            loss_tokens: self.loss_tokens,
        }
    }

    /// What one narrowing alone costs, on the first windows.
    fn losses(
        &self,
        supernet: &Llama,
        windows: &[Vec<u32>],
        space: Option<&SearchSpace>,
    ) -> anyhow::Result<Vec<LayerLosses>> {
        let few = take_tokens(windows, self.loss_tokens.max(windows[0].len()));
        let layers = supernet.config().shape.layers;
        let bar = Bar::new("costs", "layer");
        let losses = ranking::losses(supernet, few, space, &mut |share| bar.at(Headway::of_share(share, layers)))?;
        bar.finish();
        Ok(losses)
    }
}

fn write_weights(checkpoint: &Checkpoint, order: &Order, staged: &StagedDirectory) -> criadero::Result<()> {
    let config = checkpoint.config();
    let dtype = config.dtype.unquantized();
    let tensor = |name: TensorName| {
        let tensor = checkpoint.tensor(name, dtype.kind())?;
        Ok(order.apply(name, tensor, &config.shape))
    };
    hf::write_into(staged, config, &tensor, &checkpoint.tokenizer_files()?, dtype)
}

/// What the text says of heads, neurons and layers.
fn measure(model: &Llama, windows: &[Vec<u32>], space: Option<&SearchSpace>) -> anyhow::Result<Ranking> {
    let layers = model.config().shape.layers;
    let bar = Bar::new(if space.is_some() { "order, corrected matrices" } else { "order" }, "layer");
    let ranking = ranking::rank(model, windows, space, &mut |done| bar.set(done, layers))?;
    bar.finish();
    Ok(ranking)
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

/// Windows from the front until they hold this many tokens.
fn take_tokens(windows: &[Vec<u32>], tokens: usize) -> &[Vec<u32>] {
    let mut sum = 0;
    let count = windows.iter().take_while(|window| {
        sum += window.len();
        sum <= tokens
    });
    &windows[..count.count()]
}

/// Logits of the whole network on the first window, on the CPU, computed in float32 where the model is there in it.
fn probe(model: &Llama, windows: &[Vec<u32>]) -> anyhow::Result<tch::Tensor> {
    let model = model.float32().unwrap_or(model);
    let (network, batch) = (model.whole()?, model.batch(&TokenTree::chain(&windows[0]))?);
    Ok(tch::no_grad(|| network.forward(&batch)).to_device(tch::Device::Cpu))
}
