//! What is said on a yamux stream. yamux ends a stream in one way only, and a reset there reads like an end; these
//! records give each direction its own end, reset and stop, with their codes, and the connection a close with a
//! reason. A record is a type, a length of three bytes (big-endian), and that many bytes.

use bytes::{Buf, BufMut, BytesMut};

/// Bytes in front of each record.
pub(super) const HEAD: usize = 4;
/// Data bytes that we put into a record: record and head fit one yamux frame.
pub(super) const MAX_SENT: usize = 16 * 1024 - HEAD;
/// Data bytes that we take in a record.
const MAX_DATA: usize = 64 * 1024;
/// Bytes of a close's words.
const MAX_REASON: usize = 1024;
const CODE: usize = 4;

const DATA: u8 = 0;
const END: u8 = 1;
const RESET: u8 = 2;
const STOP: u8 = 3;
const CLOSE: u8 = 4;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// So many bytes of the stream follow.
    Data(usize),
    /// The direction ended as it should.
    End,
    /// The direction was given up.
    Reset(u32),
    /// The other direction is not read any more.
    Stop(u32),
    /// The connection ends. On a stream of its own.
    Close(u32, String),
}

/// Bytes that are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadRecord;

impl Record {
    /// Appends the record; the bytes of [`Self::Data`] are the caller's to append.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let (kind, len) = match self {
            Self::Data(len) => (DATA, *len),
            Self::End => (END, 0),
            Self::Reset(_) => (RESET, CODE),
            Self::Stop(_) => (STOP, CODE),
            Self::Close(_, reason) => (CLOSE, CODE + cut(reason).len()),
        };
        out.put_u8(kind);
        // At most MAX_SENT or CODE + MAX_REASON.
        out.put_uint(len as u64, HEAD - 1);
        match self {
            Self::Data(_) | Self::End => {}
            Self::Reset(code) | Self::Stop(code) => out.put_u32(*code),
            Self::Close(code, reason) => {
                out.put_u32(*code);
                out.put_slice(cut(reason).as_bytes());
            }
        }
    }

    /// Takes a record off the front of `input`, or nothing while it is not whole. Of [`Self::Data`] only the head is
    /// taken.
    pub(crate) fn decode(input: &mut BytesMut) -> Result<Option<Self>, BadRecord> {
        let Some([kind, len @ ..]) = input.first_chunk::<HEAD>() else { return Ok(None) };
        let (kind, len) = (*kind, len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)));
        let body = match (kind, len) {
            (DATA, 1..=MAX_DATA) | (END, 0) => 0,
            (RESET | STOP, CODE) => len,
            (CLOSE, CODE..) if len <= CODE + MAX_REASON => len,
            _ => return Err(BadRecord),
        };
        if input.len() < HEAD + body {
            return Ok(None);
        }
        input.advance(HEAD);
        let mut body = input.split_to(body);
        Ok(Some(match kind {
            DATA => Self::Data(len),
            END => Self::End,
            RESET => Self::Reset(body.get_u32()),
            STOP => Self::Stop(body.get_u32()),
            _ => Self::Close(body.get_u32(), String::from_utf8_lossy(&body).into_owned()),
        }))
    }
}

fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(record: &Record) -> BytesMut {
        let mut out = BytesMut::new();
        record.encode(&mut out);
        out
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        assert_eq!(encoded(&Record::Data(0x01_02_03))[..], [0, 1, 2, 3]);
        assert_eq!(encoded(&Record::End)[..], [1, 0, 0, 0]);
        assert_eq!(encoded(&Record::Reset(21))[..], [2, 0, 0, 4, 0, 0, 0, 21]);
        assert_eq!(encoded(&Record::Stop(21))[..], [3, 0, 0, 4, 0, 0, 0, 21]);
        assert_eq!(encoded(&Record::Close(6, "no".into()))[..], [4, 0, 0, 6, 0, 0, 0, 6, b'n', b'o']);
    }

    #[test]
    fn every_record_survives_the_wire_and_waits_for_its_last_byte() {
        let records = [
            Record::Data(1),
            Record::Data(MAX_SENT),
            Record::End,
            Record::Reset(u32::MAX),
            Record::Stop(0),
            Record::Close(20, String::new()),
            Record::Close(20, "the gateway is stopping".into()),
        ];
        for record in records {
            let bytes = encoded(&record);
            for end in 0..bytes.len() {
                assert_eq!(Record::decode(&mut BytesMut::from(&bytes[..end])), Ok(None), "{record:?}");
            }
            assert_eq!(Record::decode(&mut bytes.clone()), Ok(Some(record)));
        }
    }

    #[test]
    fn what_is_too_long_or_unknown_is_refused_before_it_has_come() {
        for bytes in
            [[0, 0, 0, 0], [0, 1, 0, 1], [1, 0, 0, 1], [2, 0, 0, 3], [4, 0, 0, 3], [4, 0, 5, 0], [5, 0, 0, 0]]
        {
            assert_eq!(Record::decode(&mut BytesMut::from(&bytes[..])), Err(BadRecord), "{bytes:?}");
        }
    }

    #[test]
    fn long_words_are_cut_between_two_characters() {
        let long = "ä".repeat(MAX_REASON);
        let mut bytes = encoded(&Record::Close(1, format!("x{long}")));
        let Ok(Some(Record::Close(1, reason))) = Record::decode(&mut bytes) else { panic!("no close") };
        assert_eq!(reason, format!("x{}", "ä".repeat(MAX_REASON / 2 - 1)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Record::decode(&mut input) {}
        }
    }
}
