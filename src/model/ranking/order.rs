//! Where a supernet's heads and channels were in its parent, and in which order layers go.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::checkpoint::TensorName;
use crate::error::{Error, Result};
use crate::space::{ModelShape, Size};

/// How a layer's heads and channels are arranged, as numbers of the parent, most important first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerOrder {
    /// Query heads; those of one key/value head stay together.
    pub heads: Vec<u32>,
    /// MLP channels.
    pub mlp: Vec<u32>,
}

/// The order of a supernet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// One entry a layer.
    pub layers: Vec<LayerOrder>,
    /// Layers in the order in which they go when the depth shrinks, least important first.
    pub drop: Vec<usize>,
}

impl Order {
    /// The parent's own order.
    pub fn identity(shape: &ModelShape) -> Order {
        let layer = LayerOrder { heads: (0..shape.heads as u32).collect(), mlp: (0..shape.mlp as u32).collect() };
        Order { layers: vec![layer; shape.layers], drop: (0..shape.layers).rev().collect() }
    }

    /// Refuses an order that is none of this shape: every list must be a permutation, heads of a group together.
    pub fn check(&self, shape: &ModelShape) -> Result<()> {
        let wrong = |what: String, found: String, expected: String| Err(Error::invalid(what, found, expected));
        if self.layers.len() != shape.layers {
            return wrong("order".into(), format!("{} layers", self.layers.len()), format!("{}", shape.layers));
        }
        let drop: Vec<u32> = self.drop.iter().map(|&layer| u32::try_from(layer).unwrap_or(u32::MAX)).collect();
        if !is_permutation(&drop, shape.layers) {
            return wrong("order, drop".into(), format!("{drop:?}"), format!("each of 0..{} once", shape.layers));
        }
        for (layer, LayerOrder { heads, mlp }) in self.layers.iter().enumerate() {
            if !is_permutation(mlp, shape.mlp) {
                let found = format!("{} channels that are no permutation", mlp.len());
                return wrong(format!("order, layer {layer}, mlp"), found, format!("each of 0..{} once", shape.mlp));
            }
            let together =
                |heads: &[u32]| heads.iter().all(|head| head / shape.group() as u32 == heads[0] / shape.group() as u32);
            if !is_permutation(heads, shape.heads) || !heads.chunks(shape.group()).all(together) {
                let expected = format!("each of 0..{} once, groups of {} together", shape.heads, shape.group());
                return wrong(format!("order, layer {layer}, heads"), format!("{heads:?}"), expected);
            }
        }
        Ok(())
    }

    /// This order applied after `first`: one order that does both.
    pub fn after(&self, first: &Order) -> Order {
        let compose = |outer: &[u32], inner: &[u32]| outer.iter().map(|&place| inner[place as usize]).collect();
        let layers = self.layers.iter().zip(&first.layers).map(|(outer, inner)| LayerOrder {
            heads: compose(&outer.heads, &inner.heads),
            mlp: compose(&outer.mlp, &inner.mlp),
        });
        Order { layers: layers.collect(), drop: self.drop.clone() }
    }

    /// A parent's tensor as the supernet holds it: rows of q, k, v, gate and up and columns of o and down
    /// moved, everything else as it is.
    pub fn apply(&self, name: TensorName, tensor: Tensor, shape: &ModelShape) -> Tensor {
        let TensorName::Layer(layer, kind) = name else { return tensor };
        let LayerOrder { heads, mlp } = &self.layers[layer];
        let kv_heads: Vec<u32> = heads.iter().step_by(shape.group()).map(|head| head / shape.group() as u32).collect();
        let moved = |size: Size| match size {
            Size::Hidden | Size::Head => None,
            Size::Queries => Some(spread(heads, shape.head_dim)),
            Size::Keys => Some(spread(&kv_heads, shape.head_dim)),
            Size::Channels => Some(spread(mlp, 1)),
        };
        let row = kind.row();
        let sizes = std::iter::once(row.rows).chain(row.columns).enumerate();
        let moved = sizes.filter_map(|(dim, size)| Some((dim as i64, moved(size)?)));
        moved.fold(tensor, |tensor, (dim, places)| tensor.index_select(dim, &Tensor::from_slice(&places)))
    }
}

/// Each place as `width` consecutive rows.
fn spread(places: &[u32], width: usize) -> Vec<i64> {
    places.iter().flat_map(|&place| (0..width).map(move |row| (place as usize * width + row) as i64)).collect()
}

fn is_permutation(places: &[u32], count: usize) -> bool {
    let mut seen = vec![false; count];
    let fresh = |&place: &u32| seen.get_mut(place as usize).is_some_and(|seen| !std::mem::replace(seen, true));
    places.len() == count && places.iter().all(fresh)
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::space::LayerTensor;
    use crate::space::shape::tests::TINY;

    const SHAPE: ModelShape = ModelShape { heads: 4, kv_heads: 2, head_dim: 2, mlp: 3, ..TINY };

    #[test]
    fn moves_rows_of_whole_heads() {
        let order = Order { layers: vec![LayerOrder { heads: vec![3, 2, 0, 1], mlp: vec![2, 0, 1] }], drop: vec![0] };
        order.check(&SHAPE).unwrap();
        let rows = |name, count: i64| -> Vec<i64> {
            let tensor = Tensor::arange(count, (Kind::Int64, tch::Device::Cpu)).unsqueeze(1);
            Vec::try_from(order.apply(TensorName::Layer(0, name), tensor, &SHAPE).squeeze_dim(1)).unwrap()
        };
        assert_eq!(rows(LayerTensor::Q, 8), [6, 7, 4, 5, 0, 1, 2, 3]);
        assert_eq!(rows(LayerTensor::K, 4), [2, 3, 0, 1]);
        assert_eq!(rows(LayerTensor::Up, 3), [2, 0, 1]);
    }

    #[test]
    fn rejects_orders_that_split_a_group_or_repeat() {
        let order = |heads: &[u32], mlp: &[u32]| Order {
            layers: vec![LayerOrder { heads: heads.to_vec(), mlp: mlp.to_vec() }],
            drop: vec![0],
        };
        assert!(
            order(&[0, 2, 1, 3], &[0, 1, 2]).check(&SHAPE).unwrap_err().to_string().contains("groups of 2 together")
        );
        assert!(order(&[0, 1, 2, 3], &[0, 1, 1]).check(&SHAPE).is_err());
        assert!(order(&[0, 1, 2, 9], &[0, 1, 2]).check(&SHAPE).is_err());
        assert!(Order::identity(&SHAPE).check(&SHAPE).is_ok());
    }
}
