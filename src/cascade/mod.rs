//! Cascades: a small network is asked first, and a larger one where the small one is not sure (FrugalGPT, Chen, Zaharia and Zou
//! 2023, arXiv:2305.05176; here confidence is the calibrated share of the choice that is taken, and no model scores it).
//!
//! A cascade is fitted to the scores that a run has of its search items, and judged once on its held-out ones. `eval` and `serve`
//! ask its networks, whose common first half layers are computed once.

mod answers;
mod bootstrap;
#[expect(clippy::module_inception, reason = "a file is named after its type")]
mod cascade;
mod confidence;
mod costs;
mod fitting;
mod judgement;
mod of_run;

pub use answers::{Answers, Choosing, check_chooses};
pub use bootstrap::{Bootstrap, DRAWS, Interval};
pub use cascade::{Cascade, Stage};
pub use confidence::Confidence;
pub use costs::{Budget, Costs};
pub use fitting::{Chain, fit};
pub use judgement::{Judged, Judgement};
pub use of_run::OfRun;
