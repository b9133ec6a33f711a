//! How routers learn: the divergence from what the whole model predicts, and what they cost over their budget.
//!
//! Letters: as in `model/forward.rs`, and `n` widths of a half layer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor, no_grad};

use super::budgeted::{Budgeted, gumbel};
use super::router::{Fit, Router};
use super::widths::{SAME, Widths, lowest_price};
use crate::error::{Error, Result};
use crate::model::{Forward, Llama, Stream, token_scores};
use crate::space::{Bits, HalfGene};
use crate::tune::Corpus;
use crate::tune::adamw::{AdamW, Parameter};
use crate::tune::batch::Batch;
use crate::tune::head_loss::{HeadLoss, Lesson};

/// What a step over the budget costs: nats for the whole model's cost.
const PENALTY: f64 = 30.0;
/// Temperature of the softmax over widths at the first and at the last step: from almost even shares to almost one width.
const TEMPERATURES: [f64; 2] = [1.0, 0.2];
/// Held-out sequences that prices are found on.
const PRICED: usize = 4;
/// Halvings of a price by forward passes.
const PRICE_STEPS: usize = 14;

/// How routers are trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RouteSettings {
    /// Steps of the static router, and as many of the adaptive one, which begins where that ends.
    pub steps: usize,
    /// Sequences of a step.
    pub batch: usize,
    /// The learning rate.
    pub learning_rate: f64,
    /// Seed of weights, orders and draws.
    pub seed: u64,
}

/// A step that is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Steps taken, of both routers together.
    pub step: usize,
    /// All of them.
    pub of: usize,
    /// Tokens of the step.
    pub tokens: usize,
    /// Its divergence from the whole model, nats a token.
    pub divergence: f64,
    /// What it cost and might, as shares of the whole model's cost.
    pub cost: f64,
    /// Its budget.
    pub budget: f64,
    /// What it took.
    pub time: Duration,
}

/// Trains the routers of a model for these widths.
///
/// # Errors
/// `Interrupted` when asked to stop; `Invalid` for a loss that is no number.
pub fn train(
    model: &Llama,
    model_digest: String,
    widths: Widths,
    corpus: &Corpus,
    settings: RouteSettings,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Router> {
    let hidden = model.config().shape.hidden;
    let mut router = Router::new(model_digest, hidden, widths, settings.seed);
    let course = Course { model, corpus, settings, stop };
    course.steps(&router, false, on_progress)?;
    router.adaptive = router.of_budget.copy();
    course.steps(&router, true, on_progress)?;
    course.find_prices(&mut router)?;
    Ok(router)
}

struct Course<'a> {
    model: &'a Llama,
    corpus: &'a Corpus,
    settings: RouteSettings,
    stop: &'a AtomicBool,
}

impl Course<'_> {
    /// The steps of one of the routers.
    fn steps(&self, router: &Router, adaptive: bool, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let RouteSettings { steps, batch: size, learning_rate, seed } = self.settings;
        let budgeted = if adaptive { &router.adaptive } else { &router.of_budget };
        let mut named: Vec<(String, Tensor)> =
            budgeted.named().iter().map(|(name, tensor)| (name.to_string(), tensor.shallow_clone())).collect();
        if adaptive {
            let layers = router.down.iter().chain(&router.up).enumerate();
            named.extend(layers.map(|(place, tensor)| (place.to_string(), tensor.shallow_clone())));
        }
        let mut parameters: Vec<Parameter> =
            named.into_iter().map(|(name, tensor)| Parameter::new(name, tensor)).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(1 + u64::from(adaptive));
        for step in 0..steps {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let start = Instant::now();
            let sequences = self.corpus.sequences(seed, step * size..(step + 1) * size);
            let batch = Batch::new(self.model, &sequences)?;
            let budget = rng.random_range(0..router.shares().len());
            let share = router.shares()[budget];
            let temperature = TEMPERATURES[0] * (TEMPERATURES[1] / TEMPERATURES[0]).powf(step as f64 / steps as f64);
            let drawn = Drawn { router, budgeted, adaptive, share, temperature };
            let (divergence, cost) = self.step(&drawn, &batch, &mut rng)?;
            let norm = AdamW::gradient_norm(&parameters);
            if !divergence.is_finite() || !norm.is_finite() {
                let found = format!("divergence {divergence}, gradient norm {norm} at step {step}");
                return Err(Error::invalid("loss of the router", found, "numbers; a smaller --learning-rate may help"));
            }
            AdamW::default().step(&mut parameters, step, learning_rate, norm);
            let (step, of) = (step + 1 + if adaptive { steps } else { 0 }, 2 * steps);
            on_progress(Progress {
                step,
                of,
                tokens: batch.tokens,
                divergence,
                cost,
                budget: share,
                time: start.elapsed(),
            });
        }
        Ok(())
    }

    /// Gradients of a step: its divergence, nats a token, and its cost.
    fn step(&self, drawn: &Drawn, batch: &Batch, rng: &mut ChaCha8Rng) -> Result<(f64, f64)> {
        let whole = self.model.whole()?;
        let normed_of = |hidden: &Tensor| self.model.head().final_norm(&hidden.index_select(0, &batch.rows));
        let parents = no_grad(|| normed_of(&whole.hidden(&batch.forest))); // (r, d)
        let (hidden, cost) = drawn.run(whole.parts(), batch, rng);
        let normed = normed_of(&hidden); // (r, d)
        let lesson = Lesson::Teacher { head: self.model.head(), normed: &parents };
        let loss = HeadLoss::of(self.model.head(), &normed.detach(), &lesson, false);
        let each = 1.0 / batch.targets as f64;
        let gradient = (loss.normed * each).to_kind(normed.kind());
        let over = (&cost - drawn.share).clamp_min(0.0) * PENALTY;
        ((normed * gradient).sum(Kind::Float) + over).backward();
        Ok((loss.sum * each, cost.double_value(&[])))
    }

    /// The lowest prices at which tokens of held-out text keep to shares.
    fn find_prices(&self, router: &mut Router) -> Result<()> {
        let sequences = self.corpus.held_out.iter().take(PRICED);
        let batches: Vec<Batch> = sequences.map(|one| Batch::new(self.model, &[one])).collect::<Result<_>>()?;
        for (place, share) in router.priced().into_iter().enumerate() {
            let mut failed = None;
            let price = lowest_price(PRICE_STEPS, &mut |price| {
                let cost = self.cost_at(router, share, price, &batches);
                failed = failed.take().or(cost.as_ref().err().map(ToString::to_string));
                cost.is_ok_and(|cost| cost <= share * (1.0 + SAME))
            });
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            if let Some(reason) = failed {
                return Err(Error::invalid("price of the router", reason, "networks that run"));
            }
            router.set_price(place, price);
        }
        Ok(())
    }

    /// What tokens cost at a price; nothing is computed once it is to stop.
    fn cost_at(&self, router: &Router, share: f64, price: f64, batches: &[Batch]) -> Result<f64> {
        let Fit { genome, router: tokens } = router.adaptive_at(share, price, false, self.model.device());
        let counts = tokens.share();
        let mut model = self.model.share();
        model.set_router(tokens);
        let network = model.network(&genome)?;
        for batch in batches.iter().take_while(|_| !self.stop.load(Ordering::Relaxed)) {
            drop(no_grad(|| network.hidden(&batch.forest)));
        }
        Ok(router.cost(&genome, &counts))
    }
}

/// Routers at one budget, as softly as a step has them.
struct Drawn<'a> {
    router: &'a Router,
    budgeted: &'a Budgeted,
    adaptive: bool,
    share: f64,
    temperature: f64,
}

impl Drawn<'_> {
    /// The last layer's output, (t, d), and what it cost as a share: every half layer is the mean of its widths by their shares.
    fn run(&self, forward: &Forward, batch: &Batch, rng: &mut ChaCha8Rng) -> (Tensor, Tensor) {
        let widths = self.router.widths();
        let device = batch.rows.device();
        let mixture = Tensor::from_slice(&self.router.mixture(self.share));
        let scores = self.budgeted.scores(&mixture).to_device(device); // (c)
        let mut hidden = forward.embed(&batch.forest); // (t, d)
        let mut paid = vec![Tensor::from(widths.constant as f32).to_device(device)];
        let mut first = 0;
        for (half, (of, costs)) in widths.halves.iter().zip(&widths.costs).enumerate() {
            let (layer, is_mlp, count) = (half / 2, half % 2 == 1, of.len() as i64);
            let given = scores.narrow(0, first, count).view([1, count]); // (1, n)
            first += count;
            let own = if is_mlp && self.adaptive {
                let [down, up] = [&self.router.down, &self.router.up].map(|of| of[layer].to_device(device));
                given + token_scores(&down, &up, &hidden) // (t, n)
            } else {
                given
            };
            let noise = gumbel(rng, &own.size()).to_device(device);
            let shares = ((own + noise) / self.temperature).softmax(1, Kind::Float); // (t or 1, n)
            let of_costs =
                Tensor::from_slice(&costs.iter().map(|&cost| cost as f32).collect::<Vec<_>>()).to_device(device);
            paid.push(shares.matmul(&of_costs).mean(Kind::Float));
            let before = Stream::new(hidden);
            let mut mean: Option<Tensor> = None;
            for (place, &width) in of.iter().enumerate() {
                let gene = HalfGene { width, bits: Bits::F16 };
                let after = match is_mlp {
                    true => forward.feed(layer, gene, &before),
                    false => forward.attend(layer, gene, &before, &batch.forest),
                };
                let share = shares.narrow(1, place as i64, 1).to_kind(after.hidden().kind()); // (t or 1, 1)
                let part = after.into_hidden() * share;
                mean = Some(match mean {
                    None => part,
                    Some(sum) => sum + part,
                });
            }
            hidden = mean.expect("a half layer has a width");
        }
        (hidden, Tensor::stack(&paid, 0).sum(Kind::Float))
    }
}
