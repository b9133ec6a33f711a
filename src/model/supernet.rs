//! `criadero.json` beside a supernet's weights: which order made it, from what, and the scores behind it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ranking::{Order, Scores};
use crate::arithmetic::Arithmetic;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::hf::CARD_FILE;
use crate::error::{Error, Result};
use crate::output::{self, Seal};
use crate::space::{Gene, ModelShape};

/// The file's name.
const FILE: &str = CARD_FILE;
/// The version of its content.
const FORMAT: u32 = 1;

/// What importances were measured on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// BLAKE3 of the text.
    pub text_digest: String,
    /// The numbers that were computed with; float32 in versions that did not say.
    #[serde(default)]
    pub arithmetic: Arithmetic,
    /// Tokens.
    pub tokens: usize,
    /// Whether every other pair of windows was [read again](super::ranking::read_again).
    #[serde(default)]
    pub read_again: bool,
    /// Tokens of a window.
    pub window: usize,
    /// Tokens of the losses; 0 when the layer order follows 1 − cos(input, output).
    #[serde(alias = "layer_loss_tokens")]
    pub loss_tokens: usize,
}

/// The content of `criadero.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupernetCard {
    /// The version of the content.
    pub format: u32,
    /// BLAKE3 of the parent.
    pub parent_digest: String,
    /// [`Checkpoint::fingerprint`] of the weights that it lies beside; none where it lies beside none, and of versions that did not
    /// bind them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Place of every head and channel in the parent, and the order in which layers go.
    pub order: Order,
    /// Importances in the parent's numbering; absent when a stored order was applied.
    pub scores: Option<Scores>,
    /// What they were measured on.
    pub calibration: Option<Calibration>,
    /// Largest difference of a logit between parent and supernet on the calibration text.
    pub largest_logit_difference: f64,
}

impl SupernetCard {
    /// The version that this program writes.
    pub const FORMAT: u32 = FORMAT;

    /// The card of a checkpoint's directory, which must be of its weights and sizes; `None` for a checkpoint that was never ranked.
    ///
    /// # Errors
    /// `Io` and `Format`; `Mismatch` for the card of other weights, and with everything in it that is not of these sizes.
    pub fn of(checkpoint: &Checkpoint) -> Result<Option<SupernetCard>> {
        let Some(card) = Self::read(checkpoint.path())? else { return Ok(None) };
        let mismatch = |what: &str, problems| {
            Err(Error::Mismatch { path: checkpoint.path().join(FILE), what: what.to_string(), problems })
        };
        let shape = &checkpoint.config().shape;
        let scores = card.scores.as_ref().map_or(Ok(()), |scores| scores.check(shape));
        let problems =
            [card.order.check(shape), scores].into_iter().filter_map(|checked| Some(checked.err()?.to_string()));
        let problems: Vec<String> = problems.collect();
        if !problems.is_empty() {
            return mismatch("the card is of another model; rank again", problems);
        }
        match &card.weights {
            Some(theirs) if *theirs != checkpoint.fingerprint()? => {
                let ours = checkpoint.fingerprint()?;
                let remedy = "put back the file that belongs to the other one, or rank again";
                let problem = format!("fingerprint of the weights: found {ours}, the card is of {theirs}; {remedy}");
                mismatch("the card is of other weights", vec![problem])
            }
            _ => Ok(Some(card)),
        }
    }

    /// Writes the card into a supernet's directory.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let json = serde_json::to_string(self).expect("a card is plain data");
        output::write(&dir.join(FILE), Seal::put(&(json + "\n")))
    }

    /// Reads the card of a directory, whatever it lies beside; `None` for a checkpoint that was never ranked.
    ///
    /// # Errors
    /// As [`SupernetCard::read_file`].
    pub fn read(dir: &Path) -> Result<Option<SupernetCard>> {
        let path = dir.join(FILE);
        if Error::is_absent(&path)? {
            return Ok(None);
        }
        Self::read_file(&path).map(Some)
    }

    /// Reads a card by its own path.
    ///
    /// # Errors
    /// `Io`; `Format` for what is damaged, no card, or of another version.
    pub fn read_file(path: &Path) -> Result<SupernetCard> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let json = Seal::open(path, FILE, &bytes, "put back a copy of it, or rank again")?;
        let card: SupernetCard =
            serde_json::from_slice(&json).map_err(|error| Error::format(path, FILE, error.to_string()))?;
        match card.format {
            FORMAT => Ok(card),
            other => Err(Error::format(path, FILE, format!("format {other}, expected {FORMAT}"))),
        }
    }

    /// The importance that a layer's gene keeps, of what the layer is worth: less what the gene's widths cost where that was measured;
    /// else the share of the squared scores that the kept prefixes hold; what is wider than the layer keeps all of it. 0 without scores.
    pub fn kept_importance(&self, shape: &ModelShape, layer: usize, gene: Gene) -> f64 {
        let Some(scores) = &self.scores else { return 0.0 };
        if let Some(losses) = &scores.losses {
            let whole = Gene::new(shape.heads as u32, shape.mlp as u32);
            return losses[layer].dropped - losses[layer].of(whole, gene);
        }
        let squares = |scores: &[f32], places: &[u32], width: usize| -> f64 {
            places.iter().take(width).map(|&place| f64::from(scores[place as usize]).powi(2)).sum()
        };
        let order = &self.order.layers[layer];
        let of = |heads: usize, mlp: usize| {
            squares(&scores.heads[layer], &order.heads, heads) + squares(&scores.mlp[layer], &order.mlp, mlp)
        };
        let whole = of(shape.heads, shape.mlp);
        let importance = scores.of_layers()[layer].max(0.0);
        if whole > 0.0 { importance * of(gene.heads as usize, gene.mlp as usize) / whole } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ranking::LayerOrder;
    use crate::space::shape::tests::TINY;

    const SHAPE: ModelShape = ModelShape { kv_heads: 2, mlp: 2, ..TINY };

    fn card() -> SupernetCard {
        let scores =
            Scores { heads: vec![vec![1.0, 2.0]], mlp: vec![vec![2.0, 0.0]], layer_change: vec![0.9], losses: None };
        let order = Order { layers: vec![LayerOrder { heads: vec![1, 0], mlp: vec![0, 1] }], drop: vec![0] };
        let calibration = Calibration {
            arithmetic: Arithmetic::F32,
            text_digest: "ab".into(),
            tokens: 5,
            read_again: true,
            window: 5,
            loss_tokens: 0,
        };
        SupernetCard {
            format: FORMAT,
            parent_digest: "cd".into(),
            weights: None,
            order,
            scores: Some(scores),
            calibration: Some(calibration),
            largest_logit_difference: 1e-5,
        }
    }

    #[test]
    fn reads_what_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(SupernetCard::read(dir.path()).unwrap(), None);
        card().write(dir.path()).unwrap();
        assert_eq!(SupernetCard::read(dir.path()).unwrap(), Some(card()));
    }

    #[test]
    fn a_prefix_keeps_the_share_of_its_squares() {
        let kept = |heads, mlp| card().kept_importance(&SHAPE, 0, Gene::new(heads, mlp));
        // Squares: heads 4 then 1, channels 4 then 0.
        assert!((kept(2, 2) - 0.9).abs() < 1e-9);
        assert!((kept(1, 0) - 0.9 * 4.0 / 9.0).abs() < 1e-9);
        assert!((kept(0, 1) - 0.9 * 4.0 / 9.0).abs() < 1e-9);
        assert_eq!(kept(3, 77), kept(2, 2), "there is no more to keep");
    }

    #[test]
    fn rejects_cards_of_another_format() {
        let dir = tempfile::tempdir().unwrap();
        SupernetCard { format: 9, ..card() }.write(dir.path()).unwrap();
        assert!(SupernetCard::read(dir.path()).unwrap_err().to_string().contains("format 9, expected 1"));
    }
}
