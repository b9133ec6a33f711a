//! What a fine-tuning leaves: an ordinary checkpoint, and its adapters where they were what was trained.

use std::path::Path;

use tch::no_grad;

use crate::checkpoint::hf::{ADAPTER_DIR, ModelCard};
use crate::checkpoint::peft::AdapterBase;
use crate::checkpoint::{Adapters, Checkpoint, Corrections, hf};
use crate::error::{Error, Result};
use crate::model::Llama;
use crate::model::supernet::SupernetCard;
use crate::output::StagedDirectory;

/// What its model card says.
const ABOUT: &str = "Its weights after a fine-tuning with criadero.";

/// Writes a model that began as `base` into a directory under way, adapters merged in, with the base's order if it is a
/// supernet's. Adapters lie on their own beside it, too, in [`ADAPTER_DIR`].
///
/// # Errors
/// `Io`; `Invalid` for a weight that is not finite.
pub fn write(model: &Llama, base: &Checkpoint, staged: &StagedDirectory) -> Result<()> {
    let (config, dir) = (base.config(), staged.path());
    let tensor = |name| no_grad(|| Ok(model.tensor(name)?.detach()));
    hf::write_into(staged, config, &tensor, &base.tokenizer_files()?, config.dtype.unquantized())?;
    let card = ModelCard::of_changed(base.lineage()?.trained(), config, "fine-tuned", ABOUT);
    card.write_into(staged, config)?;
    if let Some(card) = SupernetCard::of(base)? {
        let weights = Some(Checkpoint::open(dir)?.fingerprint()?);
        SupernetCard { weights, ..card }.write(dir)?;
    }
    let corrections = no_grad(|| model.corrections());
    if !corrections.is_empty() {
        let weights = Checkpoint::open(dir)?.weights_digest()?;
        let detached = corrections.into_iter().map(|(at, tensor)| (at, tensor.detach())).collect();
        Corrections::write(dir, &weights, config.dtype, &detached)?;
    }
    let Some(adapters) = model.adapters() else { return Ok(()) };
    let beside = dir.join(ADAPTER_DIR);
    adapters.write(&beside, &adapter_base(base)?)?;
    if let Some(card) = SupernetCard::of(base)? {
        // The order alone, for whoever has the parent: `criadero rank --order`.
        SupernetCard { scores: None, weights: None, ..card }.write(&beside)?;
    }
    Ok(())
}

/// Reads adapters that were trained on `base`.
///
/// # Errors
/// `Mismatch` when they belong to another model or another order of its heads and channels.
pub fn read_adapters(dir: &Path, base: &Checkpoint) -> Result<Adapters> {
    let (adapters, theirs) = Adapters::read(dir, &|name| base.config().tensor_shape(name))?;
    let ours = adapter_base(base)?;
    let mut problems = Vec::new();
    if theirs.order_digest != ours.order_digest {
        let name = |digest: &Option<String>| digest.clone().unwrap_or_else(|| "none (never ranked)".to_string());
        let (theirs, ours) = (name(&theirs.order_digest), name(&ours.order_digest));
        problems.push(format!(
            "order of heads and channels: trained on {theirs}, found {ours}; other rows are other heads"
        ));
    } else if theirs.supernet_digest != ours.supernet_digest {
        let (theirs, ours) = (&theirs.supernet_digest, &ours.supernet_digest);
        problems.push(format!("weights: trained on {theirs}, found {ours}"));
    }
    if problems.is_empty() {
        Ok(adapters)
    } else {
        let what = format!("the adapters are not of {}", base.path().display());
        Err(Error::Mismatch { path: dir.into(), what, problems })
    }
}

fn adapter_base(base: &Checkpoint) -> Result<AdapterBase> {
    let order = SupernetCard::of(base)?.map(|card| {
        let json = serde_json::to_vec(&card.order).expect("an order is plain numbers");
        blake3::hash(&json).to_hex().to_string()
    });
    Ok(AdapterBase { supernet_digest: base.digest()?, order_digest: order })
}
