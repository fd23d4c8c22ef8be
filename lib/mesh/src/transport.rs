//! The settings of QUIC and of the sockets, for both ends. The numbers are measured starting values; each is justified beside it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt};
use ring::hmac;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::connection_id::NumberedIds;
use crate::kind::MAX_WORK_STREAMS;

/// A connection without any packet for this long is gone.
const IDLE_TIMEOUT_MS: u32 = 65_000;
/// Keeps the mapping in a device's NAT alive; only the device's side can.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Over TCP the kernel probes at that pace, and gives a peer up that leaves this many probes unanswered ...
const TCP_PROBES: u32 = 3;
/// ... or what was sent to it.
const TCP_PATIENCE: Duration = Duration::from_secs(60);
/// Peers that may wait for a TCP handshake of ours in the kernel.
const TCP_BACKLOG: i32 = 1024;
/// What a connection may have under way, and so what a peer can make us hold.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// What a stream may have under way. All work streams together stay below the connection's window: however many are
/// stuck, the control stream can still send.
const STREAM_WINDOW: u32 = 448 * 1024;
const _: () = assert!(MAX_WORK_STREAMS * STREAM_WINDOW + 512 * 1024 <= CONNECTION_WINDOW);
/// Of a UDP socket, in bytes; the kernel may grant less.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// The default of 20 ms allows 50 resets a second, for all devices together, after a restart.
const MIN_RESET_INTERVAL: Duration = Duration::from_micros(100);

/// First packets that may wait for [`GatewayEndpoint::accept`](crate::gateway::GatewayEndpoint::accept), and what
/// they may buffer: each, and in all. Handshakes under way are not among them; whoever accepts has to bound those.
pub(crate) const MAX_INCOMING: usize = 1024;
pub(crate) const INCOMING_BUFFER: u64 = 64 * 1024;
pub(crate) const INCOMING_BUFFER_TOTAL: u64 = 16 * 1024 * 1024;

/// What both ends have in common.
fn shared() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(CONNECTION_WINDOW.into())
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        // Probing for a bigger MTU is three quarters of a handshake's bytes, and gains nothing on small frames.
        .mtu_discovery_config(None);
    config
}

/// A device: keeps the path open, accepts no streams from the gateway.
pub(crate) fn device() -> Arc<TransportConfig> {
    let mut config = shared();
    config.keep_alive_interval(Some(KEEP_ALIVE)).max_concurrent_bidi_streams(VarInt::from_u32(0));
    Arc::new(config)
}

/// A gateway: one control stream and a bounded number of work streams per device.
pub(crate) fn gateway() -> Arc<TransportConfig> {
    let mut config = shared();
    config.max_concurrent_bidi_streams(VarInt::from_u32(1 + MAX_WORK_STREAMS));
    Arc::new(config)
}

/// The gateway's endpoint. With a seed that survives restarts, a restarted gateway tells devices at once that it
/// forgot them. That takes both keys: the connection-id key, or it would not answer packets of its former
/// life at all, and the reset key, or devices would not believe the answer. Without a number, the seed gives one.
pub(crate) fn gateway_endpoint(
    seed: Option<&[u8; 32]>,
    number: Option<u16>,
) -> Result<quinn::EndpointConfig, getrandom::Error> {
    let mut random = [0; 32];
    let seed = match seed {
        Some(seed) => seed,
        None => {
            getrandom::fill(&mut random)?;
            &random
        }
    };
    let derive = |label: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, seed), label);
    let key = |label: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, derive(label).as_ref());
    let number = number.unwrap_or_else(|| {
        let drawn = derive(b"synesis gateway number 1");
        u16::from_be_bytes([drawn.as_ref()[0], drawn.as_ref()[1]])
    });
    let id_key = key(b"synesis connection id 2");
    let mut config = quinn::EndpointConfig::new(Arc::new(key(b"synesis stateless reset 1")));
    config
        .cid_generator(move || Box::new(NumberedIds::new(number, id_key.clone())))
        .min_reset_interval(MIN_RESET_INTERVAL);
    Ok(config)
}

/// A UDP socket bound to `address`, with large buffers where the kernel allows them.
pub(crate) fn udp_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    for sized in [socket.set_recv_buffer_size(SOCKET_BUFFER), socket.set_send_buffer_size(SOCKET_BUFFER)] {
        if let Err(error) = sized {
            tracing::debug!(%error, "the kernel keeps its own UDP buffer size");
        }
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A TCP listener on `address`.
pub(crate) fn tcp_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Connections of a former process in their last state don't keep this one from starting.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(TCP_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// No waiting for more bytes to send, and a dead peer is noticed although nothing is sent.
pub(crate) fn tune_tcp(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE).with_retries(TCP_PROBES);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(TCP_PATIENCE))
}

/// The local address to dial `remote` from: any port of its family.
pub(crate) fn any_local(remote: SocketAddr) -> SocketAddr {
    match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}
