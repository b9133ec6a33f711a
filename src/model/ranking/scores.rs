//! Importances of heads, channels and layers.

use serde::{Deserialize, Serialize};

use super::losses::LayerLosses;

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
