//! Connection ids that a balancer can route by (docs/protocol-connection-ids.md): they name the gateway that gave them
//! out, and carry a tag by which a restarted gateway knows its own.

use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use rand::Rng;
use ring::hmac;

/// Bytes in every id that a gateway gives out.
pub const LENGTH: usize = 1 + NUMBER + NONCE + TAG;
/// The gateway's number, big-endian.
const NUMBER: usize = 2;
/// Enough that two of a gateway's connections almost never draw the same; quinn draws again when they do.
const NONCE: usize = 5;
/// A stranger's guess passes once in 2^32 times, and then gains an answer to a packet that nobody asked for.
const TAG: usize = 4;
const TAGGED: usize = LENGTH - TAG;

/// The three high bits of the first byte: which layout this is. 7 means "not to be routed" in QUIC-LB.
const ROTATION: u8 = 0;
/// The five low bits of the first byte: how many bytes follow.
#[allow(clippy::cast_possible_truncation, reason = "far below 32")]
const FIRST: u8 = ROTATION << 5 | (LENGTH - 1) as u8;

/// The number of the gateway that gave out `connection_id`, or `None` when it is not one of this layout. Needs no key: it
/// is what a balancer in front of several gateways does with the 12 bytes after the first of a packet with a short
/// header, and with the destination id of one with a long header. A client's very first id is its own invention, and a
/// long header is usually that: route it by this only when it has exactly these 12 bytes, and otherwise anywhere.
pub fn gateway_of(connection_id: &[u8]) -> Option<u16> {
    let id: &[u8; LENGTH] = connection_id.try_into().ok()?;
    (id[0] == FIRST).then(|| u16::from_be_bytes([id[1], id[2]]))
}

/// Gives out the ids of one gateway.
pub(crate) struct NumberedIds {
    number: u16,
    key: hmac::Key,
}

impl NumberedIds {
    pub(crate) fn new(number: u16, key: hmac::Key) -> Self {
        Self { number, key }
    }

    fn id(&self, nonce: [u8; NONCE]) -> [u8; LENGTH] {
        let mut id = [FIRST; LENGTH];
        id[1..=NUMBER].copy_from_slice(&self.number.to_be_bytes());
        id[1 + NUMBER..TAGGED].copy_from_slice(&nonce);
        let tag = hmac::sign(&self.key, &id[..TAGGED]);
        id[TAGGED..].copy_from_slice(&tag.as_ref()[..TAG]);
        id
    }
}

impl ConnectionIdGenerator for NumberedIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut nonce = [0; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        ConnectionId::new(&self.id(nonce))
    }

    /// Another gateway's id is none of ours even with the same key: a packet that a balancer led astray must not be
    /// answered with a reset, which its device would believe.
    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let nonce = id.get(1 + NUMBER..TAGGED).and_then(|nonce| nonce.try_into().ok()).ok_or(InvalidCid)?;
        if self.id(nonce) == **id { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(number: u16, key: &[u8]) -> NumberedIds {
        NumberedIds::new(number, hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        // The vector of docs/protocol-connection-ids.md; the tag was computed there by another implementation.
        let key: Vec<u8> = (0..32).collect();
        let id = ids(0x1234, &key).id([0xa0, 0xa1, 0xa2, 0xa3, 0xa4]);
        assert_eq!(hex::encode(id), "0b1234a0a1a2a3a4618b3130");
        assert_eq!(gateway_of(&id), Some(0x1234));
    }

    #[test]
    fn a_restarted_gateway_knows_its_ids_and_no_others() {
        let id = ids(7, b"key").generate_cid();
        assert!(ids(7, b"key").validate(&id).is_ok());
        assert!(ids(8, b"key").validate(&id).is_err(), "another gateway of the same key");
        assert!(ids(7, b"other").validate(&id).is_err());
        assert!(ids(7, b"key").validate(&ConnectionId::new(&id[..LENGTH - 1])).is_err());
        assert!(ids(7, b"key").validate(&ConnectionId::new(b"")).is_err());
    }

    #[test]
    fn a_balancer_reads_no_number_from_what_is_no_id_of_ours() {
        let id = ids(7, b"key").generate_cid();
        assert_eq!(gateway_of(&id), Some(7));
        assert_eq!(gateway_of(&id[..LENGTH - 1]), None);
        assert_eq!(gateway_of(&[&id[..], b"x"].concat()), None);
        let mut other_layout = id.to_vec();
        other_layout[0] |= 1 << 5;
        assert_eq!(gateway_of(&other_layout), None);
        assert_eq!(gateway_of(&[]), None);
    }

    proptest! {
        #[test]
        fn every_id_names_its_gateway_and_no_changed_byte_passes(
            number: u16, nonce: [u8; NONCE], at in 0..LENGTH, flip in 1..=u8::MAX,
        ) {
            let mut generator = ids(number, b"key");
            let mut id = generator.id(nonce);
            prop_assert_eq!(gateway_of(&id), Some(number));
            id[at] ^= flip;
            prop_assert!(generator.validate(&ConnectionId::new(&id)).is_err());
            prop_assert_eq!(generator.generate_cid().len(), generator.cid_len());
        }
    }
}
