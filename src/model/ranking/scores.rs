//! Importances of heads, channels and layers.

use serde::{Deserialize, Serialize};

use super::losses::LayerLosses;
use crate::error::{Error, Result};
use crate::space::ModelShape;

/// Importances in the parent's numbering.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// (layers, heads): the square root of what the residual stream lost, as the mean square error of a token, when the head's
    /// group went; an equal share for each head of a group.
    pub heads: Vec<Vec<f32>>,
    /// (layers, channels): the same of each channel.
    pub mlp: Vec<Vec<f32>>,
    /// 1 − cos(input, output) of each layer.
    pub layer_change: Vec<f64>,
    /// (layers): what each layer's narrowings cost in the supernet, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub losses: Option<Vec<LayerLosses>>,
}

impl Scores {
    /// Refuses scores that are none of this shape: as many as it has layers, heads and channels, and finite.
    ///
    /// # Errors
    /// `Invalid` with the list that is wrong.
    pub fn check(&self, shape: &ModelShape) -> Result<()> {
        let wrong = |what: String, found: String, expected: String| Err(Error::invalid(what, found, expected));
        let counts = [
            ("heads", self.heads.len()),
            ("mlp", self.mlp.len()),
            ("layer_change", self.layer_change.len()),
            ("losses", self.losses.as_ref().map_or(shape.layers, Vec::len)),
        ];
        if let Some((name, found)) = counts.into_iter().find(|(_, found)| *found != shape.layers) {
            return wrong(format!("scores.{name}"), format!("{found} layers"), shape.layers.to_string());
        }
        for (name, rows, size) in [("heads", &self.heads, shape.heads), ("mlp", &self.mlp, shape.mlp)] {
            for (layer, row) in rows.iter().enumerate() {
                if row.len() != size || !row.iter().all(|score| score.is_finite()) {
                    let finite = row.iter().filter(|score| score.is_finite()).count();
                    let found = format!("{} numbers, {finite} of them finite", row.len());
                    return wrong(format!("scores.{name}, layer {layer}"), found, format!("{size} finite ones"));
                }
            }
        }
        if let Some(change) = self.layer_change.iter().find(|change| !change.is_finite()) {
            return wrong("scores.layer_change".into(), change.to_string(), "finite numbers".into());
        }
        for (layer, losses) in self.losses.iter().flatten().enumerate() {
            let LayerLosses { dropped, heads, mlp } = losses;
            for (name, losses, size) in [("heads", heads, shape.heads), ("mlp", mlp, shape.mlp)] {
                if let Some(width) = losses.keys().find(|width| **width as usize >= size) {
                    let expected = format!("narrower than {size}");
                    return wrong(format!("scores.losses, layer {layer}, {name}"), width.to_string(), expected);
                }
            }
            let mut all = std::iter::once(dropped).chain(heads.values()).chain(mlp.values());
            if let Some(loss) = all.find(|loss| !loss.is_finite() || **loss < 0.0) {
                return wrong(format!("scores.losses, layer {layer}"), loss.to_string(), "nats from 0 on".into());
            }
        }
        Ok(())
    }

    /// How much each layer is worth: what is lost without it where that was measured, else its change.
    pub fn of_layers(&self) -> Vec<f64> {
        match &self.losses {
            Some(losses) => losses.iter().map(|layer| layer.dropped).collect(),
            None => self.layer_change.clone(),
        }
    }

    /// The layers, least important first.
    pub fn drop(&self) -> Vec<usize> {
        let importance = self.of_layers();
        let mut layers: Vec<usize> = (0..importance.len()).collect();
        layers.sort_by(|&a, &b| importance[a].total_cmp(&importance[b]).then(b.cmp(&a)));
        layers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_decides_the_layer_order_where_it_was_measured() {
        let none = vec![vec![]; 3];
        let change = vec![0.3, 0.1, 0.2];
        let scores = Scores { heads: none.clone(), mlp: none, layer_change: change, losses: None };
        assert_eq!(scores.drop(), [1, 2, 0]);
        let losses = [0.1, 0.2, 0.3].map(|dropped| LayerLosses { dropped, ..LayerLosses::default() });
        let scores = Scores { losses: Some(losses.to_vec()), ..scores };
        assert_eq!(scores.drop(), [0, 1, 2]);
    }
}
