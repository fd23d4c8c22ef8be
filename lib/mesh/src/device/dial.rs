//! From `host:port` to a connection: resolve again each time, race all addresses of all gateways, QUIC before TCP.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use quinn::{ClientConfig, Endpoint, EndpointConfig, TokioRuntime};
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use super::fallback::tcp_target;
use super::netlink::Netlink;
use super::network_change::{Changes, Outlook};
use super::proxy::{self, ProxyError};
use super::race::{Race, Step, TIE, Target, Try};
use super::{Failure, Fallback, Proxy, Verdict};
use crate::carrier::{Carrier, Connection, ConnectionLost, Muxed, Side, Socket};
use crate::identity::GATEWAY_SERVER_NAME;
use crate::tls::ClientTls;
use crate::transport;

/// Addresses of one name that are tried, at most.
const MAX_ADDRESSES: usize = 8;

/// Where sockets and addresses come from. Tests put an in-memory network in its place.
pub(super) trait Network: Send + Sync + Debug {
    /// A fresh client endpoint that can reach `remote`.
    fn endpoint(&self, remote: SocketAddr) -> io::Result<Endpoint>;
    /// A TCP connection.
    fn tcp(&self, remote: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Socket>>>;
    /// The addresses of a `host:port`, as of now.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
    /// Moves an endpoint that talks to `remote` to a fresh socket; its connections migrate.
    fn rebind(&self, endpoint: &Endpoint, remote: SocketAddr) -> io::Result<()>;
    /// Reports of its changes, from now on.
    fn changes(&self) -> io::Result<Box<dyn Changes>>;
    /// How this machine would reach the world and its gateway.
    fn outlook(&self, gateway: Option<SocketAddr>) -> Outlook;
}

/// The real network: a new socket, and with it a new NAT mapping, per dial.
#[derive(Debug)]
pub(super) struct Udp;

impl Network for Udp {
    fn endpoint(&self, remote: SocketAddr) -> io::Result<Endpoint> {
        let socket = transport::udp_socket(transport::any_local(remote))?;
        Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))
    }

    fn tcp(&self, remote: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Socket>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(remote).await?;
            transport::tune_tcp(&stream)?;
            Ok(Box::new(stream) as Box<dyn Socket>)
        })
    }

    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(lookup_host(name).await?.collect()) })
    }

    fn rebind(&self, endpoint: &Endpoint, remote: SocketAddr) -> io::Result<()> {
        endpoint.rebind(transport::udp_socket(transport::any_local(remote))?)
    }

    fn changes(&self) -> io::Result<Box<dyn Changes>> {
        Ok(Box::new(Netlink::open()?))
    }

    fn outlook(&self, gateway: Option<SocketAddr>) -> Outlook {
        Outlook::now(gateway)
    }
}

/// How to dial.
#[derive(Clone)]
pub(super) struct Dial<'a> {
    /// `host:port`, as configured; the better ones first.
    pub(super) gateways: &'a [String],
    pub(super) tls: ClientTls,
    /// The wait for one address.
    pub(super) each: Duration,
    pub(super) fallback: &'a Fallback,
    /// How long QUIC is tried before TCP is.
    pub(super) head_start: Duration,
}

/// A connection, and what it took.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) connection: Connection,
    /// `host:port`, as configured.
    pub(super) gateway: String,
}

impl Dial<'_> {
    /// Races until one handshake is finished; all other attempts are given up then.
    ///
    /// # Errors
    /// The failure that says most: a gateway that answered and refused, before one that did not answer.
    pub(super) async fn run(&self, network: &dyn Network) -> Result<Dialled, Failure> {
        if self.gateways.is_empty() {
            return Err(Failure::new(Verdict::Refused, "no gateway is configured", "set gateway.endpoints"));
        }
        let mut race = Race::new(self.gateways.len(), Instant::now(), self.head_start);
        let (tcp_port, proxied) = match self.fallback {
            Fallback::Off => (None, false),
            Fallback::Auto { port, proxy: None } => (Some(*port), false),
            Fallback::Auto { proxy: Some(_), .. } => (None, true),
        };
        let mut names: FuturesUnordered<_> =
            (0..self.gateways.len()).map(|gateway| self.resolve(gateway, network)).collect();
        if proxied {
            (0..self.gateways.len()).for_each(|gateway| race.proxied(gateway));
        }
        let mut attempts = FuturesUnordered::new();
        let mut failures = Failures::default();
        // A finished TCP connection, and how long QUIC may still win.
        let mut second: Option<(Dialled, Instant)> = None;
        loop {
            let now = Instant::now();
            if let Some((dialled, until)) = second.take_if(|(_, until)| race.quic_is_over() || *until <= now)
            {
                tracing::debug!(gateway = dialled.gateway, late = ?(now - until), "QUIC does not get through");
                return Ok(dialled);
            }
            let wait = match race.step(now) {
                Step::Start(next) if second.is_some() && next.target.carrier() == Carrier::Tcp => continue,
                Step::Start(next) => {
                    attempts.push(self.attempt(next, network));
                    continue;
                }
                Step::Wait(at) => [at, second.as_ref().map(|(_, until)| *until)].into_iter().flatten().min(),
                Step::Over => return Err(failures.worst()),
            };
            tokio::select! {
                Some((gateway, found)) = names.next() => match found {
                    Ok(addresses) => race.resolved(gateway, addresses, tcp_port),
                    Err(error) => {
                        race.resolved(gateway, Vec::new(), None);
                        failures.note(Failure::unresolved(&self.gateways[gateway], &error));
                    }
                },
                Some((tried, result)) = attempts.next() => match result {
                    Ok(dialled) if matches!(tried.target, Target::Quic(_)) => return Ok(dialled),
                    Ok(dialled) => {
                        second.get_or_insert((dialled, Instant::now() + TIE));
                    }
                    Err(failure) => {
                        let gateway = &self.gateways[tried.gateway];
                        tracing::debug!(gateway, target = ?tried.target, reason = failure.reason, "dial failed");
                        race.failed(&tried, !failure.verdict.may_pass(), Instant::now());
                        match tried.target {
                            Target::Quic(_) => failures.note(failure),
                            Target::Tcp(_) | Target::Proxied => failures.note_tcp(failure),
                        }
                    }
                },
                () = until(wait) => {}
            }
        }
    }

    async fn resolve(&self, gateway: usize, network: &dyn Network) -> (usize, io::Result<Vec<SocketAddr>>) {
        let found = timeout(self.each, network.resolve(&self.gateways[gateway])).await;
        let found =
            found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).and_then(|mut addresses| {
                addresses.truncate(MAX_ADDRESSES);
                if addresses.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addresses) }
            });
        (gateway, found)
    }

    async fn attempt(&self, tried: Try, network: &dyn Network) -> (Try, Result<Dialled, Failure>) {
        let gateway = &self.gateways[tried.gateway];
        let connected = match tried.target {
            Target::Quic(address) => self.quic(gateway, address, network).await,
            Target::Tcp(address) => self.tcp(gateway, address, network).await,
            Target::Proxied => self.proxied(gateway, network).await,
        };
        let dialled = connected.map(|connection| Dialled { connection, gateway: gateway.clone() });
        (tried, dialled)
    }

    async fn quic(
        &self,
        gateway: &str,
        address: SocketAddr,
        network: &dyn Network,
    ) -> Result<Connection, Failure> {
        let unreachable = |why: &dyn ToString| Failure::unreachable(gateway, &why.to_string());
        let mut config = ClientConfig::new(self.tls.quic.clone());
        config.transport_config(transport::device());
        let endpoint = network.endpoint(address).map_err(|e| unreachable(&e))?;
        let connecting =
            endpoint.connect_with(config, address, GATEWAY_SERVER_NAME).map_err(|e| unreachable(&e))?;
        let connection = timeout(self.each, connecting)
            .await
            .map_err(|_| unreachable(&no_answer(&address, self.each)))?
            .map_err(|error| Failure::connection(gateway, &error.into()))?;
        Ok(Connection::over_quic(connection, Some(endpoint)))
    }

    async fn tcp(
        &self,
        gateway: &str,
        address: SocketAddr,
        network: &dyn Network,
    ) -> Result<Connection, Failure> {
        let connect = async {
            let socket =
                network.tcp(address).await.map_err(|e| Failure::tcp(gateway, &format!("{address}: {e}")))?;
            self.secure(gateway, socket, address).await
        };
        let late = |_| Failure::tcp(gateway, &no_answer(&address, self.each));
        timeout(self.each, connect).await.map_err(late)?
    }

    async fn proxied(&self, gateway: &str, network: &dyn Network) -> Result<Connection, Failure> {
        let Fallback::Auto { port, proxy: Some(proxy) } = self.fallback else {
            return Err(Failure::tcp(gateway, "no proxy is configured"));
        };
        let target = tcp_target(gateway, *port);
        let connect = async {
            let refused =
                |error: ProxyError| Failure::proxy(&proxy.address, &error.to_string(), error.next_step());
            let (socket, remote) = through(proxy, &target, network).await.map_err(refused)?;
            self.secure(gateway, socket, remote).await
        };
        let late = |_| {
            let next = format!("check that the proxy {} runs, and gateway.proxy", proxy.address);
            Failure::proxy(&proxy.address, &no_answer(&target, self.each), next)
        };
        timeout(self.each, connect).await.map_err(late)?
    }

    /// TLS and streams on a TCP connection. Whoever listens on the port may be a stranger: nothing it says or shows is
    /// a refusal by the gateway.
    async fn secure(
        &self,
        gateway: &str,
        socket: Box<dyn Socket>,
        remote: SocketAddr,
    ) -> Result<Connection, Failure> {
        let stranger = |why: &str| Failure::tcp(gateway, &format!("who answered is not the gateway: {why}"));
        let name = ServerName::try_from(GATEWAY_SERVER_NAME).map_err(|e| stranger(&e.to_string()))?;
        let tls = TlsConnector::from(self.tls.tcp.clone()).connect(name, socket).await;
        let tls = tls.map_err(|error| stranger(&ConnectionLost::from(&error).to_string()))?;
        let wanted = self.tls.tcp.alpn_protocols.first().map(Vec::as_slice);
        if tls.get_ref().1.alpn_protocol() != wanted {
            return Err(stranger("it does not speak our protocol"));
        }
        Ok(Connection::Tcp(Muxed::start(tls, Side::Device, remote)))
    }
}

/// A connection to `target` through the proxy, and the proxy's address.
async fn through(
    proxy: &Proxy,
    target: &str,
    network: &dyn Network,
) -> Result<(Box<dyn Socket>, SocketAddr), ProxyError> {
    let authorization = match &proxy.credentials_file {
        Some(file) => Some(proxy::credentials(file).await?),
        None => None,
    };
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in network.resolve(&proxy.address).await?.into_iter().take(MAX_ADDRESSES) {
        match network.tcp(address).await {
            Ok(mut socket) => {
                proxy::connect(&mut socket, target, authorization.as_ref().map(|text| text.as_str())).await?;
                return Ok((socket, address));
            }
            Err(error) => failed = error,
        }
    }
    Err(failed.into())
}

fn no_answer(from: &dyn std::fmt::Display, within: Duration) -> String {
    format!("no answer from {from} within {} s", within.as_secs_f64())
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// How the attempts failed.
#[derive(Default)]
struct Failures {
    refused: Option<Failure>,
    silent: Option<Failure>,
    tcp: Option<Failure>,
}

impl Failures {
    fn note(&mut self, failure: Failure) {
        if failure.verdict.may_pass() {
            self.silent = Some(failure);
        } else {
            self.refused.get_or_insert(failure);
        }
    }

    fn note_tcp(&mut self, failure: Failure) {
        self.tcp = Some(failure);
    }

    fn worst(self) -> Failure {
        match (self.refused, self.silent, self.tcp) {
            (Some(refused), ..) => refused,
            (None, Some(silent), Some(tcp)) => silent.and_over_tcp(tcp),
            (None, Some(failure), None) | (None, None, Some(failure)) => failure,
            // Every gateway was tried, and every try ends in one of the three.
            (None, None, None) => Failure::lost("no gateway could be tried"),
        }
    }
}
