//! IP and hardware addresses. Shape by hand, meaning by the parsers of the standard library.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::cues::Cue;
use super::finding::{Evidence, Finding};
use super::view::View;
use crate::kind::Kind;

/// How far before a number a word can say that it is a version.
const VERSION_REACH: usize = 16;
const ADDRESS_REACH: usize = 24;
/// Bytes of the longest IPv6 address as text.
const MAX_IPV6: usize = 45;

/// A dotted quad that starts at `start`, the first digit of a run. Also says where the dotted run ends.
pub(super) fn ipv4(view: &View<'_>, start: usize) -> Option<Finding> {
    let end = view.run(start, 64, |b| b.is_ascii_digit() || b == b'.');
    let end = end - view.slice(start, end).bytes().rev().take_while(|b| *b == b'.').count();
    let address: Ipv4Addr = view.slice(start, end).parse().ok()?;
    let part_of_a_name = view
        .before(start)
        .is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
        && !view.edge(start)
        || view.byte(end).is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        || (view.byte(end) == Some(b'-') && view.byte(end + 1).is_some_and(|b| b.is_ascii_alphanumeric()));
    if part_of_a_name || says_nothing(address) || is_version(view, start) {
        return None;
    }
    Some(Finding { start, end, kind: Kind::IpAddress, rule: "ipv4", evidence: Evidence::Checksum })
}

/// Loopback, unspecified, broadcast and netmask addresses are the same on every machine.
fn says_nothing(address: Ipv4Addr) -> bool {
    address.is_loopback()
        || address.is_unspecified()
        || address.octets()[0] == 255
        || address.octets()[0] == 0
}

/// `name==1.2.3.4`, `name@1.2.3.4` of packages, and `version 1.2.3.4`.
fn is_version(view: &View<'_>, start: usize) -> bool {
    if view.slice(start.saturating_sub(2), start) == "=="
        || view.slice(start.saturating_sub(2), start) == "~="
    {
        return true;
    }
    view.speaks_against(start, VERSION_REACH, Cue::Version, &[Cue::Network])
}

/// An IPv6 address around the colon at `colon`. Also returns where the run of its bytes ends, so that a run is
/// looked at once.
pub(super) fn ipv6(view: &View<'_>, colon: usize) -> (usize, Option<Finding>) {
    let part = |b: u8| b.is_ascii_hexdigit() || b == b':' || b == b'.';
    let start = view.run_back(colon, 4, |b| b.is_ascii_hexdigit());
    let end = view.run(colon, usize::MAX, part);
    let trimmed = end - view.slice(start, end).bytes().rev().take_while(|b| matches!(b, b'.')).count();
    // `addr: port` style colons and sentence colons after the address.
    let trimmed =
        if view.slice(start, trimmed).ends_with("::") { trimmed } else { trim_colon(view, start, trimmed) };
    (end, parse_ipv6(view, start, trimmed))
}

fn trim_colon(view: &View<'_>, start: usize, end: usize) -> usize {
    if end > start && view.before(end) == Some(b':') { end - 1 } else { end }
}

fn parse_ipv6(view: &View<'_>, start: usize, end: usize) -> Option<Finding> {
    let bounded = view.opens(start) && view.closes(end) && !matches!(view.before(start), Some(b':' | b'.'));
    if !bounded || end - start > MAX_IPV6 {
        return None;
    }
    let text = view.slice(start, end);
    let address: Ipv6Addr = text.parse().ok()?;
    let cue = view.is_near(start, ADDRESS_REACH, Cue::Network);
    (is_plausible(&address, text, cue) && !address.is_loopback() && !address.is_unspecified())
        .then_some(Finding { start, end, kind: Kind::IpAddress, rule: "ipv6", evidence: Evidence::Checksum })
}

/// `a::b` and `bad::cafe` are paths in code until a prefix in use or eight groups say otherwise.
fn is_plausible(address: &Ipv6Addr, text: &str, cue: bool) -> bool {
    let first = address.segments()[0];
    let in_use = (0x2000..0x4000).contains(&first) || first >= 0xfc00 || address.to_ipv4_mapped().is_some();
    let digit = text.bytes().any(|b| b.is_ascii_digit());
    let groups = text.split(':').filter(|group| !group.is_empty()).count();
    digit && (groups == 8 || (in_use && groups >= 2) || (cue && groups >= 2))
}

/// A hardware address whose first separator is at `separator`: six pairs, or three groups of four with dots.
pub(super) fn mac(view: &View<'_>, separator: usize) -> Option<Finding> {
    let sign = view.byte(separator)?;
    let (width, groups) = if sign == b'.' { (4, 3) } else { (2, 6) };
    let start = separator.checked_sub(width)?;
    let end = start + groups * (width + 1) - 1;
    let text = view.bytes.get(start..end)?;
    let shaped = text.iter().enumerate().all(|(i, b)| match i % (width + 1) == width {
        true => *b == sign,
        false => b.is_ascii_hexdigit(),
    });
    let outside = |b: Option<u8>| b.is_none_or(|b| !b.is_ascii_alphanumeric() && b != sign);
    let mut hex = text.iter().filter(|b| b.is_ascii_hexdigit());
    let first = hex.next()?;
    let says_something = hex.any(|b| b != first) && !is_group_address(text);
    let opens = outside(view.before(start)) || view.edge(start);
    (shaped && says_something && opens && closes(view, end, sign)).then_some(Finding {
        start,
        end,
        kind: Kind::MacAddress,
        rule: "mac-address",
        evidence: Evidence::Shape,
    })
}

/// Multicast and virtual-router prefixes (IANA 00-00-5E and 01-00-5E, IPv6 multicast 33-33) name no device.
fn is_group_address(text: &[u8]) -> bool {
    let digits: Vec<u8> = text.iter().filter(|b| b.is_ascii_hexdigit()).map(u8::to_ascii_lowercase).collect();
    [b"00005e".as_slice(), b"01005e", b"3333"].iter().any(|prefix| digits.starts_with(prefix))
}

/// Nothing follows that would make it a longer dotted or dashed word; a full stop may.
fn closes(view: &View<'_>, end: usize, sign: u8) -> bool {
    match view.byte(end) {
        Some(b) if b == sign => view.byte(end + 1).is_none_or(|b| !b.is_ascii_alphanumeric()),
        Some(b) => !b.is_ascii_alphanumeric(),
        None => true,
    }
}
