//! The residual stream between half layers.

use std::cell::RefCell;

use tch::Tensor;

/// Hidden states (t, d) in front of a half layer. Clones share their memory; nothing writes to it.
pub struct Stream {
    hidden: Tensor,
    /// What the norm of a half layer makes of them, where a kernel computed it along the way. The first that asks takes it:
    /// it would be a second state to keep.
    normed: RefCell<Option<(usize, Tensor)>>,
}

impl Stream {
    /// Hidden states alone.
    pub fn new(hidden: Tensor) -> Stream {
        Stream { hidden, normed: RefCell::new(None) }
    }

    /// Hidden states with what the norm in front of half layer `level` makes of them.
    pub(super) fn with_normed(hidden: Tensor, level: usize, normed: Tensor) -> Stream {
        Stream { hidden, normed: RefCell::new(Some((level, normed))) }
    }

    /// The states, (t, d).
    pub fn hidden(&self) -> &Tensor {
        &self.hidden
    }

    /// The states alone, (t, d).
    pub fn into_hidden(self) -> Tensor {
        self.hidden
    }

    /// What the norm in front of half layer `level` makes of them, if it is there and nobody took it.
    pub(super) fn take_normed(&self, level: usize) -> Option<Tensor> {
        let taken = self.normed.borrow_mut().take_if(|(of, _)| *of == level);
        taken.map(|(_, normed)| normed)
    }
}

impl Clone for Stream {
    fn clone(&self) -> Stream {
        Stream::new(self.hidden.shallow_clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_norm_is_taken_once_and_by_its_own_half_layer() {
        let stream = Stream::with_normed(Tensor::from(1.0), 3, Tensor::from(2.0));
        assert!(stream.take_normed(4).is_none());
        assert!(stream.clone().take_normed(3).is_none(), "a clone is a state to keep");
        assert_eq!(stream.take_normed(3), Some(Tensor::from(2.0)));
        assert!(stream.take_normed(3).is_none());
    }
}
