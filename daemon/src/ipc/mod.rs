//! The local API: control.v1, health and reflection over gRPC on a unix socket. Who calls is what the kernel says;
//! what they may do is one table; handlers see only requests that passed both.

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
mod status;

pub use authorization::{Audit, METHODS, Method};
pub use peer::Caller;
pub use role::{Role, Roles, user_group};
pub use server::Ipc;
