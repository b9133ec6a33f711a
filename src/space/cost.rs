//! Sizes of a network in closed form.
/// Sizes of one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Parameters of the mathematical network.
    pub params: u64,
}
