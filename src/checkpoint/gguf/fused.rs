//! Queries, keys and values of a layer in one tensor, as some architectures of llama.cpp have them: rows of all queries, then of
//! all keys, then of all values.

use super::metadata::FORMAT;
use crate::checkpoint::config::LlamaConfig;
use crate::checkpoint::names::{LayerTensor, TensorName};
use crate::checkpoint::raw_tensor::FoundTensors;
use crate::error::{Error, Result};

/// The parts of such a tensor, in order.
pub(crate) const PARTS: [LayerTensor; 3] = [LayerTensor::Q, LayerTensor::K, LayerTensor::V];
const BIASES: [LayerTensor; 3] = [LayerTensor::QBias, LayerTensor::KBias, LayerTensor::VBias];

/// What it is called.
pub(crate) fn name(layer: usize) -> String {
    format!("blk.{layer}.attn_qkv.weight")
}

/// The same tensors with every fused one replaced by its parts: rows of a tensor lie one after the other, in blocks of their own.
pub(super) fn split(mut found: FoundTensors, config: &LlamaConfig) -> Result<FoundTensors> {
    for layer in 0..config.shape.layers {
        for (fused, parts) in [(name(layer), PARTS), (format!("blk.{layer}.attn_qkv.bias"), BIASES)] {
            let Some(whole) = found.remove(&fused) else { continue };
            let names = parts.map(|part| TensorName::Layer(layer, part));
            let shapes = names.map(|name| config.tensor_shape(name).unwrap_or_default());
            let rows = shapes.each_ref().map(|shape| shape.first().copied().unwrap_or(0));
            let found_rows = whole.shape.first().copied().unwrap_or(0);
            if rows.iter().sum::<usize>() != found_rows || found_rows == 0 {
                let expected = format!("{} rows of queries, keys and values", rows.iter().sum::<usize>());
                return Err(Error::format(
                    &*whole.path,
                    FORMAT,
                    format!("{fused}: found {found_rows} rows, expected {expected}"),
                ));
            }
            let row_bytes = whole.len / found_rows as u64;
            let mut start = whole.start;
            for (name, count) in names.into_iter().zip(rows) {
                let mut part = whole.clone();
                part.shape[0] = count;
                (part.start, part.len) = (start, row_bytes * count as u64);
                start += part.len;
                found.insert(name.gguf(), part);
            }
        }
    }
    Ok(found)
}
