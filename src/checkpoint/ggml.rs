//! ggml's tensor types: their codes in GGUF files, and their blocks turned into singles by candle.

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Error as CandleError, Tensor};

use crate::checkpoint::config::Dtype;
use crate::space::Bits;

/// One row a type that can be read: candle's name, the code in a GGUF file, ggml's name, the code of a file whose weights
/// mostly have this type.
/// (`ggml.h`, `enum ggml_type`; Q8_1 and Q8_K are intermediate formats that no file holds. `llama.h`, `enum llama_ftype`.)
const TYPES: [(GgmlDType, u32, &str, u32); 13] = [
    (GgmlDType::F32, 0, "F32", 0),
    (GgmlDType::F16, 1, "F16", 1),
    (GgmlDType::Q4_0, 2, "Q4_0", 2),
    (GgmlDType::Q4_1, 3, "Q4_1", 3),
    (GgmlDType::Q5_0, 6, "Q5_0", 8),
    (GgmlDType::Q5_1, 7, "Q5_1", 9),
    (GgmlDType::Q8_0, 8, "Q8_0", 7),
    (GgmlDType::Q2K, 10, "Q2_K", 10),
    (GgmlDType::Q3K, 11, "Q3_K", 11),
    (GgmlDType::Q4K, 12, "Q4_K", 14),
    (GgmlDType::Q5K, 13, "Q5_K", 16),
    (GgmlDType::Q6K, 14, "Q6_K", 18),
    (GgmlDType::BF16, 30, "BF16", 32),
];

/// Types of ggml's that are not read, by their codes: neither candle nor another kept crate turns their blocks into numbers.
const UNREAD: [(u32, &str); 22] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
    (42, "Q2_0"),
];

/// A tensor type that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GgmlType(GgmlDType);

impl GgmlType {
    pub(super) const F32: GgmlType = GgmlType(GgmlDType::F32);
    pub(super) const F16: GgmlType = GgmlType(GgmlDType::F16);
    pub(super) const BF16: GgmlType = GgmlType(GgmlDType::BF16);

    /// The type of this code in a GGUF file.
    pub(super) fn from_code(code: u32) -> Option<GgmlType> {
        TYPES.iter().find(|row| row.1 == code).map(|row| GgmlType(row.0))
    }

    /// What ggml calls a type of this code, read or not.
    pub(super) fn name_of(code: u32) -> String {
        let unread = UNREAD.iter().find(|row| row.0 == code).map(|row| row.1);
        let name = GgmlType::from_code(code).map(GgmlType::name).or(unread);
        name.map_or_else(|| format!("ggml type {code}"), str::to_string)
    }

    /// The code in a GGUF file.
    pub(super) fn code(self) -> u32 {
        self.row().1
    }

    /// ggml's name, such as `Q4_K`.
    pub(super) fn name(self) -> &'static str {
        self.row().2
    }

    /// The names of all types that can be read.
    pub(super) fn names() -> String {
        TYPES.map(|row| row.2).join(", ")
    }

    /// The type in which weights of these bits are stored.
    pub(super) fn of(bits: Bits) -> GgmlType {
        let row =
            TYPES.iter().find(|row| row.2 == bits.ggml()).expect("the table has every type that weights may have");
        GgmlType(row.0)
    }

    /// What a file says about itself whose weights mostly have this type.
    pub(super) fn file_type(self) -> u32 {
        self.row().3
    }

    fn row(self) -> (GgmlDType, u32, &'static str, u32) {
        *TYPES.iter().find(|row| row.0 == self.0).expect("a GgmlType is made from a row of the table")
    }

    /// The checkpoint dtype of matrices of this type.
    pub(super) fn dtype(self) -> Dtype {
        match self.0 {
            GgmlDType::F32 => Dtype::F32,
            GgmlDType::F16 => Dtype::F16,
            GgmlDType::BF16 => Dtype::BF16,
            _ => Dtype::Quantized,
        }
    }

    /// Weights in a block.
    pub(super) fn block_len(self) -> usize {
        self.0.block_size()
    }

    /// Bytes of a block.
    pub(super) fn block_bytes(self) -> usize {
        self.0.type_size()
    }

    /// Weights, whole blocks of them, as this type stores them.
    pub(super) fn quantize(self, weights: &[f32]) -> Result<Vec<u8>, CandleError> {
        let weights = Tensor::from_slice(weights, weights.len(), &Device::Cpu)?;
        Ok(QTensor::quantize(&weights, self.0)?.data()?.into_owned())
    }

    /// The weights of whole blocks.
    pub(super) fn dequantize(self, blocks: Vec<u8>) -> Result<Vec<f32>, CandleError> {
        let len = blocks.len() / self.block_bytes() * self.block_len();
        let storage = QStorage::from_data(Cow::Owned(blocks), &Device::Cpu, self.0)?;
        QTensor::new(storage, len)?.dequantize(&Device::Cpu)?.to_vec1()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dequantizes_every_type_it_names() {
        for (dtype, code, name, _) in TYPES {
            let ggml = GgmlType::from_code(code).unwrap();
            assert_eq!((ggml.0, ggml.name(), ggml.code()), (dtype, name, code));
            let weights = ggml.dequantize(vec![0; 3 * ggml.block_bytes()]).unwrap();
            assert_eq!(weights, vec![0.0; 3 * ggml.block_len()], "{name}");
        }
        assert_eq!(GgmlType::from_code(9), None);
    }

    #[test]
    fn reads_a_q4_1_block_as_scale_and_minimum() {
        // ggml-quants.c: d and m in half precision, then 16 bytes; low nibbles are the first 16 weights.
        let mut block = vec![];
        block.extend(half::f16::from_f32(0.5).to_le_bytes());
        block.extend(half::f16::from_f32(-1.0).to_le_bytes());
        block.extend([0x21; 16]);
        let weights = GgmlType::from_code(3).unwrap().dequantize(block).unwrap();
        assert_eq!(weights[..16], [-0.5; 16]);
        assert_eq!(weights[16..], [0.0; 16]);
    }
}
