//! Importances of heads, channels and layers.

use serde::{Deserialize, Serialize};

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
    /// Increase of the mean negative log-likelihood per token when the layer is left out, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_loss: Option<Vec<f64>>,
}

impl Scores {
    /// The layers, least important first: by their loss where it was measured, else by their change.
    pub fn drop(&self) -> Vec<usize> {
        let importance = self.layer_loss.as_ref().unwrap_or(&self.layer_change);
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
        let scores = Scores { heads: none.clone(), mlp: none, layer_change: change, layer_loss: None };
        assert_eq!(scores.drop(), [1, 2, 0]);
        let scores = Scores { layer_loss: Some(vec![0.1, 0.2, 0.3]), ..scores };
        assert_eq!(scores.drop(), [0, 1, 2]);
    }
}
