//! What is on devices: what shall be there and for whom, what is there, where something new would go, and what a worker's
//! word means for all that.
//!
//! ```text
//!  admit: a device, room reserved ─► (staged to RAM) ─► place: replicas, wanted by the operation ─► worker: ACTIVE
//!                                     each as it comes: place_early, if nobody has to make room
//!    ─► settle: wanted by the model's intent (durable), no more by the operation
//!  unload: no more wanted by the intent ─► nobody wants it: UNLOADING ─► worker: gone
//! ```
//!
//! A replica is there for those that want it: operations that load it, and models whose intent names it. What nobody wants is
//! not desired, and its worker gives it back. Which replicas are desired of a device, in which order, is told by its
//! generation: whatever changes the one raises the other, in the same revision.
//!
//! An intent whose replicas are not all there is unmet: that is to be mended, not forgotten.

mod choosing;
mod landed;
mod leased;
mod observing;
mod placing;
mod resident;
mod room;
mod settling;
mod unloading;

pub use choosing::{LoadAsk, Offer, Wanted, choose, must_exist, offers};
pub use landed::landed;
pub(crate) use leased::leasable;
pub use leased::{Holdable, holdable};
pub use observing::{Heard, Removal, Report, lost, observed};
pub use placing::{PlaceAsk, Placed, PlacedPart, admit, place, place_early};
pub use resident::{Account, Desire, Loading, LoadingPart, Residency, Want};
pub use room::free;
pub use settling::settle;
pub use unloading::{Leaving, UnloadAsk, unload};
