//! What stays in RAM: what is there and who holds it, how much there is to have, what was used when, and what goes when
//! room is needed.
//!
//! Time is counted in uses: a clock that stands still while nothing happens forgets nothing over a weekend.

mod adopting;
mod budget;
mod holdings;
mod leasing;
mod leaving;
mod naming;
mod reserving;
mod resident;
mod totals;
mod usage;
mod victims;

pub use adopting::adopt;
pub use budget::{Budget, BudgetLimit, GroupFacts, MemoryFacts, budget};
pub use holdings::{Holder, Interest};
pub use leasing::{LEASE_GRACE, LeaseAsk, MOST_EXPIRED, MOST_LEASES, end, expired, grant, resume, revoke};
pub use leaving::{Evicted, EvictionAsk, Out, Parts, evict, lost, shrink};
pub use naming::{Identity, Sealing, abandoned, complete, identify};
pub use reserving::{Facts, Part, Reservation, Reserved, pinned, reserve};
pub use resident::Cache;
pub use totals::{CacheStatistics, Totals};
pub use usage::{Usage, Use};
pub use victims::{Candidate, Shortage, Vetoed, victims};
