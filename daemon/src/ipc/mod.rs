//! The local API: control.v1, health and reflection over gRPC on a unix socket. Who calls is what the kernel says;
//! what they may do is one table; handlers see only requests that passed both.

mod admission;
mod authorization;
pub mod call;
mod convert;
mod gate;
mod guarded;
mod health;
mod in_progress;
mod limit;
mod peer;
mod role;
mod server;
mod services;
pub mod socket;
pub(crate) mod status;

pub use admission::AdmissionControl;
pub(crate) use admission::{Admission, GateError};
pub use authorization::{Audit, METHODS, Method};
pub(crate) use gate::REQUEST_ID;
pub(crate) use in_progress::{InProgress, Place};
pub use peer::Caller;
pub(crate) use peer::{Peer, accept};
pub use role::{Role, Roles, user_group};
pub use server::Ipc;
