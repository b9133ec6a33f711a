//! The routers of a supernet: their weights, their file, and what they choose.

use std::collections::BTreeMap;
use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::budgeted::{Budgeted, normal};
use super::widths::{SAME, Widths};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::tensor_file::{self, TensorFile};
use crate::error::{Error, Result};
use crate::model::{LayerRouter, TokenRouter};
use crate::space::{Bound, Constraint, Genome};

/// The version of the file.
const FORMAT: u32 = 1;
const FILE: &str = Router::FILE;
/// Budgets that routers are trained on, from the cheapest network's to the largest's, evenly spread.
const BUDGETS: usize = 6;
/// Prices between two budgets, the first one's with them.
const BETWEEN: usize = 4;
/// Rank of what a token's hidden state goes through.
const RANK: usize = 32;
/// The word with everything but tensors.
const CARD: &str = "router";

/// What a router is of, beside its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Card {
    format: u32,
    /// BLAKE3 of the supernet.
    model_digest: String,
    hidden: usize,
    widths: Widths,
    /// The budgets, ascending.
    shares: Vec<f64>,
    /// Of each priced share the price of the whole model's cost at which tokens filled it and kept to it on held-out text.
    prices: Vec<f64>,
}

/// Static and adaptive routers of a supernet.
pub struct Router {
    card: Card,
    /// From a budget to a network.
    pub(super) of_budget: Budgeted,
    /// From a budget to heads, and to what every token is given beforehand.
    pub(super) adaptive: Budgeted,
    /// Of each layer, (r, d).
    pub(super) down: Vec<Tensor>,
    /// Of each layer, (n, r).
    pub(super) up: Vec<Tensor>,
}

/// What an adaptive router makes of a budget.
pub struct Fit {
    /// Heads, and the widest of each MLP's choices.
    pub genome: Genome,
    /// What chooses among them.
    pub router: TokenRouter,
}

impl Router {
    /// The file's name in its directory.
    pub const FILE: &str = "router.safetensors";

    /// Routers that know nothing yet.
    pub(super) fn new(model_digest: String, hidden: usize, widths: Widths, seed: u64) -> Router {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let least = widths.least();
        let shares: Vec<f64> =
            (0..BUDGETS).map(|place| least + (1.0 - least) * place as f64 / (BUDGETS - 1) as f64).collect();
        let of_budget = Budgeted::new(&mut rng, BUDGETS, &widths.halves);
        let mlps = || widths.halves.iter().skip(1).step_by(2);
        let down = mlps().map(|_| normal(&mut rng, [RANK, hidden], 1.0 / (hidden as f64).sqrt())).collect();
        // At first a token's state says nothing.
        let up = mlps()
            .map(|widths| Tensor::zeros([widths.len() as i64, RANK as i64], (Kind::Float, Device::Cpu)))
            .collect();
        let prices = vec![0.0; (BUDGETS - 1) * BETWEEN + 1];
        let card = Card { format: FORMAT, model_digest, hidden, widths, shares, prices };
        Router { card, adaptive: of_budget.copy(), of_budget, down, up }
    }

    /// What it chooses from.
    pub fn widths(&self) -> &Widths {
        &self.card.widths
    }

    /// The budgets that it was trained on: shares of what the largest network costs.
    pub fn shares(&self) -> &[f64] {
        &self.card.shares
    }

    /// The shares that have prices: the budgets, and some between each two.
    pub(super) fn priced(&self) -> Vec<f64> {
        let shares = &self.card.shares;
        let (least, all) = (shares[0], self.card.prices.len() - 1);
        (0..=all).map(|place| least + (shares[shares.len() - 1] - least) * place as f64 / all as f64).collect()
    }

    pub(super) fn set_price(&mut self, place: usize, price: f64) {
        self.card.prices[place] = price;
    }

    /// How a share lies between the budgets: their weights, (b).
    pub(super) fn mixture(&self, share: f64) -> Vec<f32> {
        let shares = &self.card.shares;
        let above = shares.partition_point(|known| *known < share).clamp(1, shares.len() - 1);
        let part = ((share - shares[above - 1]) / (shares[above] - shares[above - 1])).clamp(0.0, 1.0) as f32;
        let mut mixture = vec![0.0; shares.len()];
        (mixture[above - 1], mixture[above]) = (1.0 - part, part);
        mixture
    }

    /// A limit as a share: `share<=0.8` of what the largest network costs, or in the unit of the costs, `prefill_tps>=N` or `macs<=N`.
    ///
    /// # Errors
    /// `Invalid` for other limits, and for those below the cheapest network, with what there is.
    pub fn share_of(&self, limit: &Constraint) -> Result<f64> {
        let Widths { whole, timed, .. } = self.card.widths;
        let share = match (limit.objective.as_str(), limit.bound, timed) {
            ("share", Bound::AtMost, _) => limit.value,
            ("prefill_tps", Bound::AtLeast, true) => 1e3 / limit.value / whole,
            ("macs", Bound::AtMost, false) => limit.value / whole,
            _ => {
                let unit = if timed { "`prefill_tps>=N`" } else { "`macs<=N`" };
                return Err(Error::invalid(
                    "budget",
                    limit,
                    format!("`share<=S` of the largest network's cost, or {unit}"),
                ));
            }
        };
        let least = self.card.shares[0];
        if share.is_nan() || share < least * (1.0 - 1e-9) {
            let said = |share: f64| {
                if timed {
                    format!("prefill_tps>={:.0}", 1e3 / (share * whole))
                } else {
                    format!("macs<={:.4e}", share * whole)
                }
            };
            let (one, two) = (least, self.card.shares[1]);
            let expected = format!(
                "one that a network meets; the nearest are share<={one:.3} ({}) and share<={two:.3} ({})",
                said(one),
                said(two)
            );
            return Err(Error::invalid("budget", limit, expected));
        }
        Ok(share.min(1.0))
    }

    /// The network of the static router for a share of the largest one's cost.
    pub fn network(&self, share: f64) -> Genome {
        let Card { widths, .. } = &self.card;
        widths.network(&widths.within(&self.scores(&self.of_budget, share), share))
    }

    fn scores(&self, budgeted: &Budgeted, share: f64) -> Vec<f32> {
        let scores = tch::no_grad(|| budgeted.scores(&Tensor::from_slice(&self.mixture(share))));
        Vec::<f32>::try_from(scores).expect("one-dimensional floats")
    }

    /// What the adaptive router makes of the nearest priced share that is no larger, at the price that kept to it on held-out text.
    pub fn adaptive(&self, share: f64, by_chance: bool, device: Device) -> Fit {
        let priced = self.priced();
        let below = priced.partition_point(|priced| *priced <= share * (1.0 + SAME)).saturating_sub(1);
        self.adaptive_at(priced[below], self.card.prices[below], by_chance, device)
    }

    /// The same at a price of the whole model's cost.
    pub(super) fn adaptive_at(&self, share: f64, price: f64, by_chance: bool, device: Device) -> Fit {
        let Card { widths, .. } = &self.card;
        let scores = self.scores(&self.adaptive, share);
        let (mut layers, mut chosen, mut first) = (Vec::new(), Vec::new(), 0);
        for (half, (of, costs)) in widths.halves.iter().zip(&widths.costs).enumerate() {
            let biases: Vec<f32> = scores[first..first + of.len()]
                .iter()
                .zip(costs)
                .map(|(&score, &cost)| (f64::from(score) - price * cost) as f32)
                .collect();
            first += of.len();
            if half.is_multiple_of(2) {
                chosen
                    .push((0..of.len()).fold(0, |best, place| if biases[place] > biases[best] { place } else { best }));
                continue;
            }
            chosen.push(of.len() - 1);
            let layer = half / 2;
            let own = |tensor: &Tensor| tensor.detach().to_device(device);
            let bias = Tensor::from_slice(&biases).to_device(device);
            layers.push(Some(LayerRouter {
                widths: of.clone(),
                down: own(&self.down[layer]),
                up: own(&self.up[layer]),
                bias,
            }));
        }
        Fit { genome: widths.network(&chosen), router: TokenRouter::new(layers, by_chance) }
    }

    /// What a network with a router cost, as a share: by its heads, and by the widths that its tokens got.
    pub fn cost(&self, fit: &Genome, router: &TokenRouter) -> f64 {
        let Widths { halves, costs, constant, .. } = &self.card.widths;
        let at = |half: usize, width: u32| {
            halves[half].iter().position(|&one| one == width).map_or(0.0, |place| costs[half][place])
        };
        let tokens = router.tokens();
        let of_layer = |(layer, gene): (usize, &crate::space::Gene)| {
            let all: u64 = tokens[layer].iter().map(|(_, count)| count).sum();
            let mlp: f64 = tokens[layer].iter().map(|&(width, count)| at(2 * layer + 1, width) * count as f64).sum();
            at(2 * layer, gene.heads) + mlp / all.max(1) as f64
        };
        constant + fit.genes().iter().enumerate().map(of_layer).sum::<f64>()
    }

    fn tensors(&self) -> BTreeMap<String, Tensor> {
        let mut tensors = BTreeMap::new();
        for (name, budgeted) in [("static", &self.of_budget), ("adaptive", &self.adaptive)] {
            tensors.extend(budgeted.named().map(|(part, tensor)| (format!("{name}.{part}"), tensor.detach())));
        }
        for (name, of) in [("down", &self.down), ("up", &self.up)] {
            let named = |(layer, tensor): (usize, &Tensor)| (format!("layers.{layer}.{name}"), tensor.detach());
            tensors.extend(of.iter().enumerate().map(named));
        }
        tensors
    }

    /// Writes it into a directory.
    ///
    /// # Errors
    /// `Io`, and weights that are no numbers.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let card = serde_json::to_string(&self.card).expect("a card is plain data");
        tensor_file::write(&dir.join(FILE), &self.tensors(), &BTreeMap::from([(CARD.to_string(), card)]))
    }

    /// Reads a directory, for the networks of a supernet.
    ///
    /// # Errors
    /// `Missing` and `Format` for what is no router, `Mismatch` for that of another supernet, with both digests.
    pub fn read(dir: &Path, supernet: &Checkpoint) -> Result<Router> {
        let path = dir.join(FILE);
        if !path.is_file() {
            let remedy = "make one with `criadero route`".to_string();
            return Err(Error::Missing { what: FILE.into(), path, remedy });
        }
        let file = TensorFile::open(&path)?;
        let wrong = |reason: String| Error::format(&path, "router", reason);
        let text = file.words.get(CARD).ok_or_else(|| wrong(format!("no word `{CARD}`")))?;
        let card: Card = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let Card { format, model_digest, hidden, widths, shares, prices } = &card;
        if *format != FORMAT {
            return Err(wrong(format!("format {format}, expected {FORMAT}")));
        }
        let digest = supernet.digest()?;
        if *model_digest != digest {
            let what = format!("it is a router of another supernet than {}", supernet.path().display());
            return Err(Error::Mismatch {
                path,
                what,
                problems: vec![format!("digest {model_digest}, expected {digest}")],
            });
        }
        let rises = shares.windows(2).all(|pair| pair[0] < pair[1]);
        let budgets = shares.len() == BUDGETS && rises && prices.len() == (BUDGETS - 1) * BETWEEN + 1;
        let numbers =
            shares.iter().chain(prices).all(|number| number.is_finite()) && shares.iter().all(|share| *share > 0.0);
        let layers = supernet.config().shape.layers;
        if let Some(problem) = widths.problem() {
            return Err(wrong(problem));
        }
        if !budgets || !numbers || widths.halves.len() != 2 * layers || *hidden != supernet.config().shape.hidden {
            return Err(wrong("budgets, prices or sizes that do not fit the supernet".into()));
        }
        let mut router = Router::new(model_digest.clone(), *hidden, widths.clone(), 0);
        for (name, mut own) in router.tensors() {
            let stored = file.read(&name)?.ok_or_else(|| wrong(format!("no tensor {name}")))?;
            if stored.size() != own.size() {
                return Err(wrong(format!("{name} is {:?}, expected {:?}", stored.size(), own.size())));
            }
            tch::no_grad(|| own.f_copy_(&stored))?;
        }
        router.card = card;
        Ok(router)
    }
}
