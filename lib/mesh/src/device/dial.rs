//! From `host:port` to a QUIC connection: resolve again each time, try every address in turn.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, EndpointConfig, TokioRuntime};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::{Failure, Verdict};
use crate::carrier::Connection;
use crate::identity::GATEWAY_SERVER_NAME;
use crate::transport;

/// Addresses of one name that are tried, at most.
const MAX_ADDRESSES: usize = 8;

/// Where sockets come from. Tests put an in-memory network in its place.
pub(super) trait Network: Send + Sync + Debug {
    /// A fresh client endpoint that can reach `remote`.
    fn endpoint(&self, remote: SocketAddr) -> io::Result<Endpoint>;
}

/// The real network: a new UDP socket, and with it a new NAT mapping, per dial.
#[derive(Debug)]
pub(super) struct Udp;

impl Network for Udp {
    fn endpoint(&self, remote: SocketAddr) -> io::Result<Endpoint> {
        let socket = transport::udp_socket(transport::any_local(remote))?;
        Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))
    }
}

/// A connection, and what it took.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) connection: Connection,
    /// `host:port`, as configured.
    pub(super) gateway: String,
}

/// Dials each gateway in turn until one finishes the handshake; `each` bounds the wait for one address.
///
/// # Errors
/// The failure that says most: a gateway that answered and refused, before one that did not answer.
pub(super) async fn dial(
    gateways: &[String],
    crypto: QuicClientConfig,
    each: Duration,
    network: &dyn Network,
) -> Result<Dialled, Failure> {
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport::device());
    let mut worst: Option<Failure> = None;
    for gateway in gateways {
        let failure = match resolve(gateway, each).await {
            Ok(addresses) => match first_answer(gateway, &addresses, &config, each, network).await {
                Ok(dialled) => return Ok(dialled),
                Err(failure) => failure,
            },
            Err(error) => Failure::unresolved(gateway, &error),
        };
        if worst.as_ref().is_none_or(|worst| worst.verdict == Verdict::Retry) {
            worst = Some(failure);
        }
    }
    let nothing = || Failure::new(Verdict::Refused, "no gateway is configured", "set gateway.endpoints");
    Err(worst.unwrap_or_else(nothing))
}

async fn resolve(gateway: &str, patience: Duration) -> io::Result<Vec<SocketAddr>> {
    let found = timeout(patience, lookup_host(gateway)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let addresses: Vec<_> = found.take(MAX_ADDRESSES).collect();
    if addresses.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addresses) }
}

async fn first_answer(
    gateway: &str,
    addresses: &[SocketAddr],
    config: &ClientConfig,
    each: Duration,
    network: &dyn Network,
) -> Result<Dialled, Failure> {
    let mut failure = Failure::unreachable(gateway, "it has no address");
    for address in addresses {
        failure = match one(gateway, *address, config.clone(), each, network).await {
            Ok(dialled) => return Ok(dialled),
            Err(failure) => failure,
        };
        tracing::debug!(gateway, %address, reason = failure.reason, "dial failed");
        if failure.verdict != Verdict::Retry {
            break;
        }
    }
    Err(failure)
}

async fn one(
    gateway: &str,
    address: SocketAddr,
    config: ClientConfig,
    each: Duration,
    network: &dyn Network,
) -> Result<Dialled, Failure> {
    let unreachable = |why: &dyn ToString| Failure::unreachable(gateway, &why.to_string());
    let endpoint = network.endpoint(address).map_err(|e| unreachable(&e))?;
    let connecting =
        endpoint.connect_with(config, address, GATEWAY_SERVER_NAME).map_err(|e| unreachable(&e))?;
    let seconds = each.as_secs_f64();
    let connection = timeout(each, connecting)
        .await
        .map_err(|_| unreachable(&format!("no answer from {address} within {seconds} s")))?
        .map_err(|error| Failure::connection(gateway, &error.into()))?;
    let connection = Connection::Quic { connection, endpoint: Some(endpoint) };
    Ok(Dialled { connection, gateway: gateway.to_owned() })
}
