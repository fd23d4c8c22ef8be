//! Adapters on their way to the gateway and back: jobs of the daemon that go on by themselves after a restart, a lost
//! tunnel or a restarted gateway, until they are done, refused or cancelled.

mod attempt;
mod catalogue;
mod error;
mod files;
mod handle;
mod job;
mod keeper;
mod plan;
mod pull;
mod push;

pub use catalogue::StoredAdapter;
pub use error::TransferError;
pub use handle::{TransferEvent, Transfers, Wait};
pub use job::{Direction, Ending, Job, Phase, Transfer};
pub use keeper::TransferKeeper;
