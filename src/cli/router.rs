//! `--router`: what `criadero route` wrote, for commands that run networks.

use std::path::PathBuf;

use criadero::checkpoint::Checkpoint;
use criadero::model::{Llama, TokenRouter};
use criadero::route::Router;
use criadero::space::{Constraint, Cost, Genome};
use serde_json::{Value, json};

/// Which router, and what it keeps to.
#[derive(Clone, clap::Args)]
pub struct RouterArgs {
    /// Widths chosen token by token: a directory that `criadero route` wrote
    #[arg(long, value_name = "DIR", requires = "budget")]
    router: Option<PathBuf>,
    /// What a router keeps to: `share<=0.8` of what the largest network costs, or `prefill_tps>=N` or `macs<=N`, as its costs are
    #[arg(long, value_name = "LIMIT", requires = "router", allow_hyphen_values = true)]
    budget: Option<Constraint>,
    /// One network for all tokens: the static router's
    #[arg(long = "static", requires = "router")]
    fixed: bool,
}

/// A router at a budget.
pub struct Routed {
    router: Router,
    share: f64,
    /// The network: with a token router the widest that it chooses from.
    pub genome: Genome,
    tokens: Option<TokenRouter>,
}

impl RouterArgs {
    /// The router, if there is one.
    /// With `by_chance` its widths are dealt to other tokens.
    pub fn read(&self, supernet: &Checkpoint, by_chance: bool) -> anyhow::Result<Option<Routed>> {
        let (Some(dir), Some(budget)) = (&self.router, &self.budget) else { return Ok(None) };
        let router = Router::read(dir, supernet)?;
        let share = router.share_of(budget)?;
        if self.fixed {
            let genome = router.network(share);
            return Ok(Some(Routed { genome, router, share, tokens: None }));
        }
        let fit = router.adaptive(share, by_chance, tch::Device::Cpu);
        Ok(Some(Routed { genome: fit.genome, tokens: Some(fit.router), router, share }))
    }

    /// Its directory.
    pub fn path(&self) -> Option<&PathBuf> {
        self.router.as_ref()
    }
}

impl Routed {
    /// Whether all tokens run through one network.
    pub fn is_static(&self) -> bool {
        self.tokens.is_none()
    }

    /// Lets a model's tokens be routed.
    pub fn apply(&self, model: &mut Llama) {
        if let Some(tokens) = &self.tokens {
            model.set_router(tokens.on(model.device()));
        }
    }

    /// What was asked for and came of it, after the network has run.
    pub fn told(&self, supernet: &Checkpoint) -> Value {
        let shape = &supernet.config().shape;
        let params = Cost::of(shape, &self.genome).params;
        let Some(tokens) = &self.tokens else {
            return json!({ "router": "static", "budget": self.share, "network": self.genome, "params": params });
        };
        let layers = tokens.tokens();
        let mean = |of: &Vec<(u32, u64)>| {
            let all: u64 = of.iter().map(|(_, count)| count).sum();
            of.iter().map(|&(width, count)| f64::from(width) * count as f64).sum::<f64>() / all.max(1) as f64
        };
        json!({
            "router": "adaptive",
            "budget": self.share,
            "cost": self.router.cost(&self.genome, tokens),
            "network": self.genome,
            "mean_widths": layers.iter().map(mean).collect::<Vec<_>>(),
            "params": params + tokens.weights(),
            "router_params": tokens.weights(),
        })
    }
}
