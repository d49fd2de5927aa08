//! What stays in RAM: how much there is to have, what was used when, and what goes when room is needed.
//!
//! Time is counted in uses: a clock that stands still while nothing happens forgets nothing over a weekend.

mod budget;
mod usage;
mod victims;

pub use budget::{Budget, BudgetLimit, GroupFacts, MemoryFacts, budget};
pub use usage::{Usage, Use};
pub use victims::{Candidate, Shortage, Vetoed, victims};
