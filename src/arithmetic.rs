//! The numbers that a model's matrices and products are made of on a CPU.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A kind of numbers. Sums of products, norms, softmax, the residual stream and log-probabilities are float32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arithmetic {
    /// float32.
    #[default]
    F32,
    /// bfloat16: half the memory, and several times the speed on a CPU that has instructions for it.
    Bf16,
    /// bfloat16, and products of layers in int8: of unquantized matrices, rounded in blocks. Faster again, and less exact. For what is
    /// scored and written, not for what learns.
    Int8,
}

impl Arithmetic {
    /// All of them.
    pub const ALL: [Arithmetic; 3] = [Arithmetic::F32, Arithmetic::Bf16, Arithmetic::Int8];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Arithmetic::F32 => "f32",
            Arithmetic::Bf16 => "bf16",
            Arithmetic::Int8 => "int8",
        }
    }

    /// Bytes of a number, outside of what is int8.
    pub fn bytes(self) -> u64 {
        match self {
            Arithmetic::F32 => 4,
            Arithmetic::Bf16 | Arithmetic::Int8 => 2,
        }
    }

    /// Whether this CPU has instructions for its products. Elsewhere they are emulated, several times slower than float32.
    pub fn is_native(self) -> bool {
        match self {
            Arithmetic::F32 => true,
            #[cfg(target_arch = "x86_64")]
            Arithmetic::Bf16 => is_x86_feature_detected!("avx512bf16"),
            #[cfg(target_arch = "aarch64")]
            Arithmetic::Bf16 => std::arch::is_aarch64_feature_detected!("bf16"),
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            Arithmetic::Bf16 => false,
            #[cfg(target_arch = "x86_64")]
            Arithmetic::Int8 => Arithmetic::Bf16.is_native() && is_x86_feature_detected!("avx512vnni"),
            #[cfg(not(target_arch = "x86_64"))]
            Arithmetic::Int8 => false,
        }
    }
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Arithmetic {
    type Err = Error;

    fn from_str(text: &str) -> Result<Arithmetic> {
        let known = Arithmetic::ALL.into_iter();
        known
            .clone()
            .find(|one| one.name() == text)
            .ok_or_else(|| Error::unknown("arithmetic", text, known.map(|one| one.name().to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_files_and_flags() {
        for one in Arithmetic::ALL {
            assert_eq!(serde_json::to_string(&one).unwrap(), format!("\"{one}\""));
            assert_eq!(one.name().parse::<Arithmetic>().unwrap(), one);
        }
        let error = "fp8".parse::<Arithmetic>().unwrap_err().to_string();
        assert!(error.contains("fp8") && error.contains("bf16"), "{error}");
    }
}
