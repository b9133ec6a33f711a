//! Routers (Flextron, Cai et al. 2024, arXiv:2406.10260, sections 3.2 and 3.3): from a budget to a network, and from a token to the widths
//! of its MLPs. The supernet stays as it is; only the routers learn, from what the whole model predicts and from a table of what widths
//! cost.
//!
//! A budget is a share of what the largest network costs. A small MLP makes scores of all widths of it; budgets between those that it
//! was trained on are interpolated. The adaptive router adds scores of its own for each token's hidden state. What is chosen fills
//! the budget and keeps to it: from all scores a multiple of the widths' costs is taken away, just large enough.

mod budgeted;
mod router;
mod training;
mod widths;

pub use router::{Fit, Router};
pub use training::{Progress, RouteSettings, train};
pub use widths::Widths;
