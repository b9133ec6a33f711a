//! What a model's numbers take on a device.

use crate::arithmetic::Arithmetic;

/// The numbers of a model and of what it computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// A CPU's, with a residual stream in float32 whatever the arithmetic is.
    Cpu(Arithmetic),
    /// A card's: bfloat16, and blocks of Q8_0 that its kernels take as they are.
    Card,
}

impl Numbers {
    /// Their arithmetic.
    pub fn arithmetic(self) -> Arithmetic {
        match self {
            Numbers::Cpu(arithmetic) => arithmetic,
            Numbers::Card => Arithmetic::Bf16,
        }
    }

    /// Bytes of a weight, and of what is multiplied by it.
    pub fn word(self) -> u64 {
        self.arithmetic().bytes()
    }

    /// Bytes of a number of the residual stream.
    pub fn stream(self) -> u64 {
        match self {
            Numbers::Cpu(_) => Arithmetic::F32.bytes(),
            Numbers::Card => self.word(),
        }
    }
}
