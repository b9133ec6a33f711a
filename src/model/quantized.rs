//! Matrices as blocks can hold them, made when a network first needs them and then shared by all threads.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use super::matrix::{by_group, parts_of};
use crate::checkpoint::TensorName;
use crate::checkpoint::quantize::{int8, rounded};
use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::kernels::int8::Int8Matrix;
use crate::kernels::int8_product::PackedInt8;
use crate::space::{Bits, Matrix};

/// Quantized matrices by type: as wide as the model's own, so that every narrower width is a prefix here too. A block never
/// crosses the border of a width, which is a whole number of blocks.
///
/// Most are kept as the values of their blocks, in the kind of the model: on the CPU, in float32, the file's own weights bit for
/// bit; on a card those values rounded to bfloat16. In layers Q8_0 with kernels stays int8 with its scales and is made into
/// bfloat16 for each product. Products are no faster than unquantized ones. The others of a model whose products are int8 are
/// kept here too, as these products take them.
#[derive(Clone, Default)]
pub(super) struct QuantizedMatrices(Arc<Mutex<HashMap<Quantized, Stored>>>);

/// A matrix, of so many columns where it is corrected for them, and its type; F16 for products in int8.
pub(super) type Quantized = (Matrix, Option<usize>, Bits);

/// How a quantized matrix is kept.
enum Stored {
    Values(Tensor),
    Int8(Int8Matrix),
    /// For products in int8; nothing where they would lose too much.
    Packed(Option<PackedInt8>),
}

/// What quantized matrices are made of, and where they go.
pub(super) struct Source<'a> {
    /// The checkpoint's tensors, as exact as they are known.
    pub(super) read: &'a dyn Fn(TensorName) -> Result<Tensor>,
    /// KV groups of the matrix's layer.
    pub(super) groups: i64,
    pub(super) device: Device,
    pub(super) kind: Kind,
    pub(super) kernels: &'a Kernels,
}

impl QuantizedMatrices {
    /// Makes a matrix, unless it was made: all of its rows, and as many whole blocks of them as there are.
    pub(super) fn prepare(&self, of: Quantized, source: &Source) -> Result<()> {
        // A panic elsewhere leaves at worst a matrix less.
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Vacant(place) = made.entry(of) {
            let (matrix, _, bits) = of;
            place.insert(source.make(matrix, bits)?);
        }
        Ok(())
    }

    /// Unquantized matrices that products in int8 would lose too much of, and those that they are made with.
    pub(super) fn unpacked(&self) -> [usize; 2] {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let packed = made.values().filter_map(|stored| match stored {
            Stored::Packed(packed) => Some(packed.is_some()),
            Stored::Values(_) | Stored::Int8(_) => None,
        });
        packed.fold([0, 0], |[lost, kept], is_kept| if is_kept { [lost, kept + 1] } else { [lost + 1, kept] })
    }

    /// Handles of matrices that were made.
    ///
    /// # Panics
    /// When one was not: whoever asks has just made them.
    pub(super) fn prepared(&self, matrices: &[Quantized]) -> Prepared {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Prepared(matrices.iter().map(|of| (*of, made[of].share())).collect())
    }
}

/// The quantized matrices of some networks, at hand without a lock.
pub(super) struct Prepared(HashMap<Quantized, Stored>);

impl Prepared {
    /// The first `rows` by `columns` of a matrix, corrected for these where it is, with the values that blocks hold, in the kind of
    /// the model.
    ///
    /// # Panics
    /// When it is no matrix of these networks.
    pub(super) fn weight(
        &self,
        matrix: Matrix,
        bits: Bits,
        [rows, columns]: [i64; 2],
        kind: Kind,
        kernels: &Kernels,
    ) -> Tensor {
        let own = self.0.get(&(matrix, Some(columns as usize), bits));
        match own.or_else(|| self.0.get(&(matrix, None, bits))).expect("made when the networks were checked") {
            Stored::Values(values) => values.narrow(0, 0, rows).narrow(1, 0, columns),
            Stored::Int8(int8) => kernels.dequantized(int8, rows, columns, kind),
            Stored::Packed(_) => unreachable!("an unquantized matrix is asked for by `packed`"),
        }
    }

    /// A matrix for products in int8, corrected for so many columns where it is; `None` where such products are not
    /// wanted of it, or would lose too much.
    pub(super) fn packed(&self, matrix: Matrix, columns: i64) -> Option<&PackedInt8> {
        let own = self.0.get(&(matrix, Some(columns as usize), Bits::F16));
        match own.or_else(|| self.0.get(&(matrix, None, Bits::F16)))? {
            Stored::Packed(packed) => packed.as_ref(),
            Stored::Values(_) | Stored::Int8(_) => None,
        }
    }
}

impl Source<'_> {
    fn make(&self, matrix: Matrix, bits: Bits) -> Result<Stored> {
        if bits.is_full() {
            let parts = parts_of(matrix).iter().map(|&name| (self.read)(name)).collect::<Result<Vec<_>>>()?;
            return Ok(Stored::Packed(PackedInt8::of(&by_group(&parts, self.groups)?)));
        }
        let part = |name: &TensorName| -> Result<(String, Tensor)> {
            let whole = (self.read)(*name)?;
            let block = bits.block_len() as i64;
            Ok((name.hf(), whole.f_narrow(1, 0, whole.size()[1] / block * block)?))
        };
        let parts = parts_of(matrix).iter().map(part).collect::<Result<Vec<_>>>()?;
        let join = |parts: &[Tensor]| Ok::<_, Error>(by_group(parts, self.groups)?.f_to_device(self.device)?);
        if bits == Bits::Q8_0 && !matrix.is_end() && self.kernels.on_card() {
            let parts = parts.iter().map(|(name, part)| int8(name, part)).collect::<Result<Vec<_>>>()?;
            let (quants, scales): (Vec<Tensor>, Vec<Tensor>) = parts.into_iter().unzip();
            return Ok(Stored::Int8(Int8Matrix { quants: join(&quants)?, scales: join(&scales)? }));
        }
        let parts = parts.iter().map(|(name, part)| rounded(name, part, bits)).collect::<Result<Vec<_>>>()?;
        Ok(Stored::Values(join(&parts)?.f_to_kind(self.kind)?))
    }
}

impl Stored {
    /// The same tensors.
    fn share(&self) -> Stored {
        match self {
            Stored::Values(values) => Stored::Values(values.shallow_clone()),
            Stored::Int8(int8) => Stored::Int8(int8.share()),
            Stored::Packed(packed) => Stored::Packed(packed.as_ref().map(PackedInt8::share)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::checkpoint::LayerTensor;
    use crate::space::Joint;

    const O3: Matrix = Matrix::Layer(3, Joint::O);

    /// A model of matrices that `read` gives, on the CPU.
    fn source<'a>(read: &'a dyn Fn(TensorName) -> Result<Tensor>, kernels: &'a Kernels) -> Source<'a> {
        Source { read, groups: 2, device: Device::Cpu, kind: Kind::Float, kernels }
    }

    #[test]
    fn makes_a_matrix_once_and_in_whole_blocks() {
        let whole = Tensor::rand([4, 300], (Kind::Float, Device::Cpu));
        let (reads, kernels) = (Cell::new(0), Kernels::none());
        let read = |_| {
            reads.set(reads.get() + 1);
            Ok(whole.shallow_clone())
        };
        let source = source(&read, &kernels);
        let matrices = QuantizedMatrices::default();
        let shared = matrices.clone();
        for (bits, columns) in [(Bits::Q6K, 256), (Bits::Q8_0, 288)] {
            let of = (O3, None, bits);
            matrices.prepare(of, &source).unwrap();
            shared.prepare(of, &source).unwrap();
            let all = shared.prepared(&[of]).weight(O3, bits, [4, columns], Kind::Float, &kernels);
            assert_eq!(all, rounded("o", &whole.narrow(1, 0, columns), bits).unwrap());
            let part = matrices.prepared(&[of]).weight(O3, bits, [2, 64], Kind::Float, &kernels);
            assert_eq!(part, all.narrow(0, 0, 2).narrow(1, 0, 64));
        }
        assert_eq!(reads.get(), 2, "once in either type");
    }

    #[test]
    fn names_the_tensor_that_blocks_cannot_hold() {
        let bad = Tensor::full([4, 32], f64::NAN, (Kind::Float, Device::Cpu));
        let read = |name| {
            Ok(if name == TensorName::Layer(5, LayerTensor::K) { bad.shallow_clone() } else { bad.zeros_like() })
        };
        let kernels = Kernels::none();
        let qkv = (Matrix::Layer(5, Joint::Qkv), None, Bits::Q4_0);
        let error = QuantizedMatrices::default().prepare(qkv, &source(&read, &kernels));
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("model.layers.5.self_attn.k_proj.weight: found the weight NaN"), "{error}");
    }
}
