//! The kernel's reports of links, addresses and routes, over a netlink socket (docs/adr/0017). Only what a report is about
//! is read, never what it says: the routing tables are asked afterwards.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram as Datagrams;
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::network_change::{Change, Changes};

/// RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR and _IPV6_ROUTE of linux/rtnetlink.h.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// Of linux/rtnetlink.h: new and gone links, addresses, routes.
const LINKS_AND_ADDRESSES: [u16; 4] = [16, 17, 20, 21];
const ROUTES: [u16; 2] = [24, 25];
/// struct nlmsghdr: length, type, flags, sequence, port.
const HEADER: usize = 16;
/// RT_TABLE_MAIN and RTN_UNICAST.
const MAIN_TABLE: u8 = 254;
const UNICAST: u8 = 1;
/// The kernel's own messages are at most a page or two.
const BUFFER: usize = 16 * 1024;

/// A netlink socket that listens to changes.
#[derive(Debug)]
pub(super) struct Netlink {
    /// A netlink socket in truth. Tokio has no type for those, and polls any datagram socket alike; receiving is done here.
    socket: UnixDatagram,
    buffer: Vec<u8>,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Self { socket: UnixDatagram::from_std(Datagrams::from(fd))?, buffer: vec![0; BUFFER] })
    }
}

impl Changes for Netlink {
    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Change>> {
        loop {
            ready!(self.socket.poll_recv_ready(cx))?;
            let Self { socket, buffer } = self;
            let received = socket
                .try_io(Interest::READABLE, || Ok(recvfrom::<NetlinkAddr>(socket.as_raw_fd(), buffer)?));
            match received {
                // Only the kernel has port 0; other processes may send to us too.
                Ok((len, Some(from))) if from.pid() == 0 => {
                    if let Some(change) = self.buffer.get(..len).and_then(reported) {
                        return Poll::Ready(Ok(change));
                    }
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                // There were more reports than the socket could hold: anything may have changed.
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    return Poll::Ready(Ok(Change::DefaultRoute));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// What a datagram of reports is about; the weightiest of them.
fn reported(mut datagram: &[u8]) -> Option<Change> {
    let mut found = None;
    while let Some((length, kind)) = header(datagram) {
        let Some(message) = datagram.get(HEADER..length) else { break };
        match kind {
            kind if ROUTES.contains(&kind) && is_default(message) => return Some(Change::DefaultRoute),
            kind if ROUTES.contains(&kind) || LINKS_AND_ADDRESSES.contains(&kind) => {
                found = Some(Change::Other);
            }
            _ => {}
        }
        // Messages start at multiples of four.
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn header(datagram: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*datagram.get(4..)?.first_chunk()?);
    Some((length, kind)).filter(|_| length >= HEADER)
}

/// struct rtmsg: family, length of the destination prefix, of the source's, tos, table, protocol, scope, type.
fn is_default(route: &[u8]) -> bool {
    matches!(route, [_, 0, _, _, MAIN_TABLE, _, _, UNICAST, ..])
}

#[cfg(test)]
#[path = "netlink_tests.rs"]
mod tests;
