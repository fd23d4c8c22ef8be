//! The gateway's end: a UDP listener and, if asked for, a TCP one for both protocols ([`GatewayEndpoint`]), one-shot enrolment
//! ([`EnrollConnection`]), and a device's session after its handshake ([`DeviceConnection`], [`Session`]).

mod control;
mod dates;
mod device;
mod endpoint;
mod enroll;
mod session;
mod tally;
mod tcp;

pub use dates::{Dates, PeerCertificate};
pub use device::{DeviceConnection, HelloError};
pub use endpoint::{Accepted, BindError, GatewayEndpoint, GatewayTls, HandshakeError, Incoming};
pub use enroll::EnrollConnection;
pub use session::{DeviceReport, Renewing, Session, SessionError};
pub use tally::{Counter, Histogram, Tally};

use std::time::Duration;

/// Each step before a session exists (handshake, hello, enrolment request) may take this long.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
