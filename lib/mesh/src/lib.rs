//! Both ends of the tunnel between a device and its gateway: who they are ([`identity`]), what they say
//! ([`kind`], [`frame`], [`stream`]), and how each end keeps its side up ([`device`], [`gateway`]).
//!
//! One UDP port carries QUIC with TLS 1.3. Enrolment (`synesis-enroll/1`) proves the gateway by a pinned CA and
//! the device by a one-time token; everything after it (`synesis-mesh/1`) runs on certificates of both sides.

pub mod carrier;
pub mod connection_id;
pub mod device;
pub mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod gateway;
pub mod identity;
pub mod kind;
pub mod stream;

mod patience;
mod tls;
mod transport;
#[cfg(test)]
mod vectors;

pub use tls::CertificateFault;
