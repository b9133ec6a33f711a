//! What a run says while it goes on.

use super::headway::Headway;

/// Something worth telling the user.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// Something that the user may not expect.
    Note(String),
    /// Something that somebody who looks for a fault wants to know.
    Detail(String),
    /// What was measured and chosen before the search, in one line.
    Chosen(String),
    /// Timings before the search: of the division of the cores, or of a throughput table.
    Timed {
        /// Timings that are done.
        done: usize,
        /// Timings that are needed.
        total: usize,
    },
    /// The run goes on with this many networks already measured.
    Resumed {
        /// Networks.
        evaluations: usize,
    },
    /// Networks are about to be scored, or one more partial score is on disk: how far the whole run is. What is counted is networks of
    /// the search, and behind it those of the front.
    Scored(Headway),
    /// A population is measured.
    Population {
        /// Networks measured so far.
        evaluations: usize,
        /// Networks to measure in all.
        of: usize,
    },
    /// The search is over; the front is being measured on held-out items.
    HeldOut {
        /// Networks of the front, the parent included.
        networks: usize,
    },
}
