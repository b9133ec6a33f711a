//! Weights in ggml's blocks and back, by candle: what a quantized file will hold.

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::checkpoint::ggml::GgmlType;
use crate::error::{Error, Result};
use crate::space::Bits;

/// Weights that one thread turns into blocks at a time: a multiple of every block length.
const PIECE: usize = 1 << 16;

/// A matrix as blocks, row after row.
///
/// # Errors
/// `Invalid` with the tensor's name when a weight is not finite: blocks would spread it over their neighbours.
pub(super) fn blocks(name: &str, matrix: &Tensor, bits: Bits) -> Result<Vec<u8>> {
    let (ty, weights) = (GgmlType::of(bits), finite(name, matrix)?);
    let pieces: Vec<Vec<u8>> =
        weights.par_chunks(PIECE).map(|piece| to_blocks(name, ty, piece)).collect::<Result<_>>()?;
    Ok(pieces.concat())
}

/// The values that a matrix has once it was stored in these bits: float32 on the CPU, bit for bit what a reader of the
/// file computes.
///
/// # Shapes
/// That of `matrix`, whose rows are whole blocks.
///
/// # Errors
/// As for a file: `Invalid` with the tensor's name when a weight is not finite.
pub fn rounded(name: &str, matrix: &Tensor, bits: Bits) -> Result<Tensor> {
    if bits.is_full() {
        return Ok(matrix.shallow_clone());
    }
    let (ty, mut weights) = (GgmlType::of(bits), finite(name, matrix)?);
    weights.par_chunks_mut(PIECE).try_for_each(|piece| -> Result<()> {
        let blocks = to_blocks(name, ty, piece)?;
        piece.copy_from_slice(&ty.dequantize(blocks).map_err(|error| failed(name, error))?);
        Ok(())
    })?;
    Ok(Tensor::f_from_slice(&weights)?.f_view(matrix.size().as_slice())?)
}

/// A matrix in Q8_0 (`block_q8_0` of `ggml-common.h`), quants and scales apart: (rows, columns) int8 and (rows, columns / 32)
/// float32 on the CPU. Their product is what [`rounded`] gives.
///
/// # Errors
/// As [`rounded`].
pub fn int8(name: &str, matrix: &Tensor) -> Result<(Tensor, Tensor)> {
    let (rows, columns) = matrix.size2()?;
    let blocks = blocks(name, matrix, Bits::Q8_0)?;
    let blocks = blocks.as_chunks::<BLOCK_Q8_0>().0;
    let scale = |block: &[u8; BLOCK_Q8_0]| half::f16::from_le_bytes([block[0], block[1]]).to_f32();
    let scales: Vec<f32> = blocks.iter().map(scale).collect();
    let quants: Vec<i8> = blocks.iter().flat_map(|block| &block[2..]).map(|&byte| byte as i8).collect();
    let scales = Tensor::f_from_slice(&scales)?.f_view([rows, columns / 32])?;
    Ok((Tensor::f_from_slice(&quants)?.f_view([rows, columns])?, scales))
}

/// Bytes of a block: a scale and 32 weights.
const BLOCK_Q8_0: usize = 34;

fn to_blocks(name: &str, ty: GgmlType, weights: &[f32]) -> Result<Vec<u8>> {
    ty.quantize(weights).map_err(|error| failed(name, error))
}

fn failed(name: &str, error: candle_core::Error) -> Error {
    Error::invalid(name, error, "weights that blocks can hold")
}

/// The largest number of F16.
const LARGEST: f32 = 65_504.0;

/// All weights in row order, float32.
fn finite(name: &str, matrix: &Tensor) -> Result<Vec<f32>> {
    let flat = matrix.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?.f_view([-1])?;
    let weights = Vec::<f32>::try_from(flat)?;
    match weights.iter().find(|weight| weight.is_nan() || weight.abs() > LARGEST) {
        Some(weight) => {
            let expected = format!("finite weights to quantize, at most {LARGEST}: scales of blocks are F16");
            Err(Error::invalid(name, format!("the weight {weight}"), expected))
        }
        None => Ok(weights),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    const STORED: [Bits; 9] =
        [Bits::Q2K, Bits::Q3K, Bits::Q4_0, Bits::Q4K, Bits::Q4_1, Bits::Q5_0, Bits::Q5K, Bits::Q6K, Bits::Q8_0];

    /// Standard normal weights, the same ones each time: libtorch's generator belongs to all tests at once.
    fn matrix() -> Tensor {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let weights: Vec<f32> = (0..300 * 256).map(|_| StandardNormal.sample(&mut rng)).collect();
        Tensor::from_slice(&weights).view([300, 256])
    }

    fn error_of(bits: Bits) -> f64 {
        let all = matrix();
        let difference = (rounded("w", &all, bits).unwrap() - &all).square().mean(Kind::Float);
        difference.double_value(&[]).sqrt()
    }

    #[test]
    fn rounds_to_what_the_blocks_say() {
        for bits in STORED {
            let blocks = blocks("w", &matrix(), bits).unwrap();
            assert_eq!(blocks.len() as u128, bits.bytes(300 * 256), "{bits}");
            let read = GgmlType::of(bits).dequantize(blocks).unwrap();
            let ours = Vec::<f32>::try_from(rounded("w", &matrix(), bits).unwrap().view([-1])).unwrap();
            assert!(read == ours, "{bits}");
        }
    }

    #[test]
    fn int8_and_scales_are_the_blocks() {
        let (quants, scales) = int8("w", &matrix()).unwrap();
        assert_eq!((quants.size(), scales.size()), (vec![300, 256], vec![300, 8]));
        let values = quants.to_kind(Kind::Float).view([300, 8, 32]) * scales.unsqueeze(2);
        assert_eq!(values.view([300, 256]), rounded("w", &matrix(), Bits::Q8_0).unwrap());
    }

    #[test]
    fn loses_less_with_more_bits() {
        // Standard normal weights; a uniform quantizer of n levels over ±3 has an error of about 6 / n / √12.
        let errors: Vec<f64> =
            [Bits::Q2K, Bits::Q3K, Bits::Q4_0, Bits::Q5_0, Bits::Q6K, Bits::Q8_0].map(error_of).into();
        assert!(errors.is_sorted_by(|more, less| more > less), "{errors:?}");
        assert!((0.05..0.12).contains(&errors[2]) && errors[5] < 0.01, "{errors:?}");
    }

    #[test]
    fn a_prefix_of_whole_blocks_rounds_as_the_whole_does() {
        for bits in [Bits::Q4_0, Bits::Q4_1, Bits::Q8_0] {
            let narrow = rounded("w", &matrix().narrow(1, 0, 96), bits).unwrap();
            assert_eq!(narrow, rounded("w", &matrix(), bits).unwrap().narrow(1, 0, 96), "{bits}");
        }
        let wide = Tensor::cat(&[matrix(), matrix() * 0.5], 1);
        for bits in [Bits::Q2K, Bits::Q3K, Bits::Q4K, Bits::Q5K, Bits::Q6K] {
            let narrow = rounded("w", &wide.narrow(1, 0, 256), bits).unwrap();
            assert_eq!(narrow, rounded("w", &wide, bits).unwrap().narrow(1, 0, 256), "{bits}");
        }
    }

    #[test]
    fn names_the_tensor_with_a_weight_that_is_no_number() {
        for bad in [f32::NAN, f32::INFINITY, -7e4] {
            let all = matrix();
            let _ = all.narrow(0, 5, 1).fill_(f64::from(bad));
            let error = rounded("blk.3.ffn_up.weight", &all, Bits::Q8_0).unwrap_err().to_string();
            assert!(error.starts_with("blk.3.ffn_up.weight: found the weight"), "{error}");
        }
    }
}
