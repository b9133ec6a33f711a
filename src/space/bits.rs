//! How weights are stored: unquantized, or in one of ggml's block types.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;

/// The type in which a layer's matrices are stored, by bits per weight ascending. People write 16, 8 and 4 for
/// unquantized, Q8_0 and Q4_0, and the others by ggml's name in small letters, such as `q4_1`.
///
/// A block is some consecutive weights of a row that share a scale (`ggml-common.h`): 32 of them, 256 in the K-quants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bits {
    /// 2.6 bits.
    Q2K,
    /// 3.4 bits.
    Q3K,
    /// 4 bits and a scale: 4.5 bits.
    Q4_0,
    /// 4 bits with scales and minima of sub-blocks: 4.5 bits.
    Q4K,
    /// 4 bits, a scale and a minimum: 5 bits.
    Q4_1,
    /// 5 bits and a scale: 5.5 bits.
    Q5_0,
    /// 5 bits with scales and minima of sub-blocks: 5.5 bits.
    Q5K,
    /// 5 bits, a scale and a minimum: 6 bits.
    Q5_1,
    /// 6 bits with scales of sub-blocks: 6.6 bits.
    Q6K,
    /// 8 bits and a scale: 8.5 bits.
    Q8_0,
    /// Unquantized: as the checkpoint has them, F16 in a GGUF file.
    F16,
}

/// What is known about a type: what people write, ggml's name, weights and bytes of a block, and what llama.cpp takes for
/// a row that is no whole number of blocks (`tensor_type_fallback` of `llama-quant.cpp`), where we write that type too.
type Row = (Bits, &'static str, &'static str, u64, u64, Option<Bits>);

/// In the order of [`Bits`].
const TYPES: [Row; 11] = [
    (Bits::Q2K, "q2_k", "Q2_K", 256, 84, None),
    (Bits::Q3K, "q3_k", "Q3_K", 256, 110, None),
    (Bits::Q4_0, "4", "Q4_0", 32, 18, None),
    (Bits::Q4K, "q4_k", "Q4_K", 256, 144, Some(Bits::Q5_0)),
    (Bits::Q4_1, "q4_1", "Q4_1", 32, 20, None),
    (Bits::Q5_0, "q5_0", "Q5_0", 32, 22, None),
    (Bits::Q5K, "q5_k", "Q5_K", 256, 176, Some(Bits::Q5_1)),
    (Bits::Q5_1, "q5_1", "Q5_1", 32, 24, None),
    (Bits::Q6K, "q6_k", "Q6_K", 256, 210, Some(Bits::Q8_0)),
    (Bits::Q8_0, "8", "Q8_0", 32, 34, None),
    (Bits::F16, "16", "F16", 1, 2, None),
];

impl Bits {
    fn row(self) -> Row {
        TYPES[self as usize]
    }

    /// ggml's name, such as `Q8_0`.
    pub fn ggml(self) -> &'static str {
        self.row().2
    }

    /// Bits of a weight without its share of scales, as the name says: 2 to 8, or 16.
    pub fn nominal(self) -> u32 {
        let digits = self.row().2.trim_start_matches(['Q', 'F']);
        digits.split('_').next().and_then(|digits| digits.parse().ok()).expect("names begin with their bits")
    }

    /// Power of the rounding error as a share of the weights': that of a uniform quantizer over ±3 standard deviations,
    /// (6/2^b)² / 12.
    pub fn noise(self) -> f64 {
        if self.is_full() { 0.0 } else { 3.0 * 0.25_f64.powi(self.nominal() as i32) }
    }

    /// Weights of a block.
    pub fn block_len(self) -> u64 {
        self.row().3
    }

    /// Whether weights are stored as they are.
    pub fn is_full(self) -> bool {
        self == Bits::F16
    }

    /// The type in which rows of this many weights are stored: this one where they hold whole blocks, else llama.cpp's
    /// fallback. `None` where there is no such type.
    pub fn stored(self, row_len: u64) -> Option<Bits> {
        [Some(self), self.row().5].into_iter().flatten().find(|bits| row_len.is_multiple_of(bits.block_len()))
    }

    /// Row lengths that can be stored are multiples of this.
    pub fn step(self) -> u64 {
        self.row().5.unwrap_or(self).block_len()
    }

    /// Bytes of whole blocks with this many weights.
    pub fn bytes(self, weights: u128) -> u128 {
        weights / u128::from(self.block_len()) * u128::from(self.row().4)
    }
}

/// Nearness of types: bits per weight come first, and no two are the same.
impl From<Bits> for u32 {
    fn from(bits: Bits) -> u32 {
        let (.., len, bytes, _) = bits.row();
        (bytes * 8 * 256 / len) as u32 * TYPES.len() as u32 + bits as u32
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.row().1)
    }
}

impl FromStr for Bits {
    type Err = Error;

    fn from_str(text: &str) -> Result<Bits, Error> {
        let named = |row: &&Row| row.1 == text || row.2.eq_ignore_ascii_case(text);
        let unknown = || {
            // llama.cpp's names of mixtures, such as Q4_K_M.
            let kind =
                text.rsplit_once('_').filter(|(_, size)| ["s", "m", "l", "xs"].contains(&size.to_lowercase().as_str()));
            let kind = kind.and_then(|(kind, _)| TYPES.iter().find(|row| row.2.eq_ignore_ascii_case(kind)));
            match kind {
                Some(row) => {
                    let expected =
                        format!("`{0}` for {0} in all layers, or `--bits mixed`, which searches the mixture", row.1);
                    Error::invalid("bits", format!("`{text}`, a mixture of llama.cpp's"), expected)
                }
                None => Error::unknown("bits", text, TYPES.iter().rev().map(|row| row.1)),
            }
        };
        TYPES.iter().find(named).map(|row| row.0).ok_or_else(unknown)
    }
}

/// A number where there is one, else text.
impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.row().1;
        match text.parse() {
            Ok(number) => serializer.serialize_u8(number),
            Err(_) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bits, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Name(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Number(number) => number.to_string(),
            Written::Name(name) => name,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_listed_in_its_own_order() {
        for (place, row) in TYPES.iter().enumerate() {
            assert_eq!(row.0 as usize, place);
            assert_eq!(row.1.parse::<Bits>().unwrap(), row.0);
            assert_eq!(row.2.parse::<Bits>().unwrap(), row.0);
        }
        let near: Vec<u32> = TYPES.iter().map(|row| u32::from(row.0)).collect();
        assert!(near.is_sorted_by(|a, b| a < b), "{near:?}");
    }

    #[test]
    fn falls_back_as_llama_cpp_does() {
        // SmolLM2's rows of 576 and the LLaMA-NAS width 5504 hold blocks of 32 and none of 256.
        for row in [576, 5504] {
            assert_eq!(Bits::Q4K.stored(row), Some(Bits::Q5_0));
            assert_eq!(Bits::Q5K.stored(row), Some(Bits::Q5_1));
            assert_eq!(Bits::Q6K.stored(row), Some(Bits::Q8_0));
            assert_eq!(Bits::Q3K.stored(row), None, "IQ4_NL is not written");
            assert_eq!(Bits::Q4_0.stored(row), Some(Bits::Q4_0));
        }
        assert_eq!(Bits::Q4K.stored(4096), Some(Bits::Q4K));
        assert_eq!(Bits::Q8_0.stored(1000), None);
        assert_eq!(Bits::F16.stored(1000), Some(Bits::F16));
        assert_eq!([Bits::Q4K, Bits::Q2K, Bits::F16].map(Bits::step), [32, 256, 1]);
    }

    #[test]
    fn is_a_number_where_people_say_one() {
        let list = [Bits::F16, Bits::Q8_0, Bits::Q4_0, Bits::Q4_1];
        let text = serde_json::to_string(&list).unwrap();
        assert_eq!(text, r#"[16,8,4,"q4_1"]"#);
        assert_eq!(serde_json::from_str::<[Bits; 4]>(&text).unwrap(), list);
        for text in ["5", "\"q9\"", "-4", "4.5"] {
            assert!(serde_json::from_str::<Bits>(text).is_err(), "{text}");
        }
        let error = "5".parse::<Bits>().unwrap_err().to_string();
        assert!(error.starts_with("unknown bits `5`; known: 16, 8, q6_k"), "{error}");
    }

    #[test]
    fn says_its_bits_without_scales() {
        let nominal = [Bits::Q2K, Bits::Q4_0, Bits::Q4_1, Bits::Q6K, Bits::Q8_0, Bits::F16].map(Bits::nominal);
        assert_eq!(nominal, [2, 4, 4, 6, 8, 16]);
        assert!(TYPES.iter().all(|row| row.0.nominal() > 0));
        assert_eq!([Bits::F16, Bits::Q4_0].map(Bits::noise), [0.0, 3.0 / 256.0]);
    }

    #[test]
    fn counts_whole_blocks() {
        assert_eq!([Bits::F16, Bits::Q8_0, Bits::Q4_0, Bits::Q4_1].map(|bits| bits.bytes(64)), [128, 68, 36, 40]);
        assert_eq!(Bits::Q6K.bytes(512), 420);
    }
}
