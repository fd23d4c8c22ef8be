//! What comes through the tunnel and before it: frames, headers, the carrier's records, a proxy's answer, connection ids.

use std::cell::OnceCell;

use bytes::BytesMut;
use prost::Message;
use synesis_mesh::connection_id::gateway_of;
use synesis_mesh::frame;
use synesis_mesh::fuzzing::{self, ENROLL_LIMIT, Front, HEADER_LIMIT};
use synesis_mesh::kind::StreamKind;
use synesis_proto::mesh::v1;
use tokio::runtime::{Builder, Runtime};

use crate::{pieces, vectors};

type Check = fn(&[u8], usize, u8);

/// Every message that a stream carries, with its limit.
const MESSAGES: &[(&str, usize, Check)] = &[
    ("ControlUp", StreamKind::Control.max_frame(), check::<v1::ControlUp>),
    ("ControlDown", StreamKind::Control.max_frame(), check::<v1::ControlDown>),
    ("AskUp", StreamKind::Ask.max_frame(), check::<v1::AskUp>),
    ("AskDown", StreamKind::Ask.max_frame(), check::<v1::AskDown>),
    ("AccountUp", StreamKind::Account.max_frame(), check::<v1::AccountUp>),
    ("AccountDown", StreamKind::Account.max_frame(), check::<v1::AccountDown>),
    ("PushUp", StreamKind::AdapterPush.max_frame(), check::<v1::PushUp>),
    ("PushDown", StreamKind::AdapterPush.max_frame(), check::<v1::PushDown>),
    ("PullUp", StreamKind::AdapterPull.max_frame(), check::<v1::PullUp>),
    ("PullDown", StreamKind::AdapterPull.max_frame(), check::<v1::PullDown>),
    ("CatalogueUp", StreamKind::Adapters.max_frame(), check::<v1::CatalogueUp>),
    ("CatalogueDown", StreamKind::Adapters.max_frame(), check::<v1::CatalogueDown>),
    ("EnrollRequest", ENROLL_LIMIT, check::<v1::EnrollRequest>),
    ("EnrollReply", ENROLL_LIMIT, check::<v1::EnrollReply>),
    ("StreamHeader", HEADER_LIMIT, check::<v1::StreamHeader>),
    ("Problem", HEADER_LIMIT, check::<v1::Problem>),
    // Inside of a field, so it has no frame of its own; with one, it is read the same way.
    ("Prompt", StreamKind::Ask.max_frame(), check::<v1::Prompt>),
];

/// Which message, in pieces of which length, the bytes.
pub(crate) fn frames(data: &[u8]) {
    let Some(([which, length], wire)) = data.split_first_chunk() else { return };
    let (_, limit, check) = MESSAGES[usize::from(*which) % MESSAGES.len()];
    check(wire, limit, *length);
}

fn check<M: Message + Default>(wire: &[u8], limit: usize, length: u8) {
    let whole = read::<M>([wire], limit);
    assert_eq!(read::<M>(pieces(wire, length), limit), whole, "it depends on how the bytes are cut");
    for written in whole.0 {
        let again = M::decode(&written[..]).expect("what is written is read");
        assert_eq!(again.encode_to_vec(), written);
    }
}

/// Each message as this end writes it, and how it ended.
fn read<'a, M: Message + Default>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limit: usize,
) -> (Vec<Vec<u8>>, String) {
    let (mut input, mut messages) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match frame::decode::<M>(&mut input, limit) {
                Ok(Some(message)) => messages.push(message.encode_to_vec()),
                Ok(None) => break,
                Err(error) => return (messages, error.to_string()),
            }
        }
    }
    (messages, format!("{} bytes wait", input.len()))
}

pub(crate) fn frame_seeds() -> Vec<Vec<u8>> {
    let which = |message: &str| MESSAGES.iter().position(|(name, ..)| *name == message).expect(message);
    let frames = vectors::frames().into_iter();
    frames
        .map(|(message, bytes)| [&[u8::try_from(which(&message)).unwrap(), 3], &bytes[..]].concat())
        .collect()
}

/// The frame.
pub(crate) fn headers(data: &[u8]) {
    let Ok(Some(message)) = frame::decode::<v1::StreamHeader>(&mut BytesMut::from(data), HEADER_LIMIT) else {
        return;
    };
    if let Some(header) = fuzzing::header(message) {
        assert_ne!(header.kind, StreamKind::Control);
        assert_eq!(fuzzing::header(v1::StreamHeader::from(&header)), Some(header));
    }
}

pub(crate) fn header_seeds() -> Vec<Vec<u8>> {
    let headers = vectors::frames().into_iter().filter(|(message, _)| message == "StreamHeader");
    headers.map(|(_, bytes)| bytes).collect()
}

/// In pieces of which length, the bytes.
pub(crate) fn records(data: &[u8]) {
    let Some((length, wire)) = data.split_first() else { return };
    let whole = said([wire]);
    assert_eq!(said(pieces(wire, *length)), whole, "it depends on how the bytes are cut");
    for mut written in whole.0 {
        let read = fuzzing::record(&mut written.clone());
        assert!(matches!(&read, Front::Record(again, _) if *again == written), "{read:?}");
        written.truncate(written.len() - 1);
        assert!(matches!(fuzzing::record(&mut written), Front::Waits));
    }
}

/// Each record as this end writes it, and how it ended.
fn said<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<BytesMut>, &'static str) {
    let (mut input, mut records, mut data_left) = (BytesMut::new(), Vec::new(), 0);
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let data = input.split_to(input.len().min(data_left));
            data_left -= data.len();
            match fuzzing::record(&mut input) {
                Front::Record(written, len) => {
                    records.push(written);
                    data_left = len;
                }
                Front::Waits => break,
                Front::Bad => return (records, "bad"),
            }
        }
    }
    (records, "waits")
}

pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    let records = vectors::records();
    let all = records.concat();
    records.into_iter().chain([all]).map(|bytes| [&[3], &bytes[..]].concat()).collect()
}

/// A peer that speaks TCP, after TLS. First byte even: the bytes of yamux; odd: what it says on its streams, in pieces of
/// which stream and flags, length, data.
pub(crate) fn carrier(data: &[u8]) {
    thread_local!(static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() });
    let Some((how, said)) = data.split_first() else { return };
    let wire = if how % 2 == 0 { said.to_vec() } else { on_streams(said) };
    RUNTIME.with(|runtime| {
        let make = || Builder::new_current_thread().enable_time().build().expect("a runtime");
        let (_, lost) = runtime.get_or_init(make).block_on(fuzzing::carried(&wire));
        assert!(!lost.contains("task ended"), "it panicked");
    });
}

/// Frames of yamux: version, type, flags (1 opens, 4 ends, 8 resets), stream, length.
fn on_streams(mut said: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    while let Some(([which, length], rest)) = said.split_first_chunk() {
        let (data, after) = rest.split_at(rest.len().min(usize::from(*length)));
        said = after;
        wire.extend([0, 0, 0, which >> 4]);
        wire.extend(u32::from((which & 7) * 2 + 1).to_be_bytes());
        wire.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        wire.extend(data);
    }
    wire
}

pub(crate) fn carrier_seeds() -> Vec<Vec<u8>> {
    let on = |which: u8, data: &[u8]| [&[which, u8::try_from(data.len()).unwrap()], data].concat();
    let mut seeds: Vec<_> = vectors::records()
        .into_iter()
        .filter(|record| record.len() < 256)
        .flat_map(|record| {
            let data = on(1, b"\0\0\0\x05hello");
            let opened = [vec![1], on(0x10, &record)].concat();
            [opened.clone(), [opened, data, on(0x40, b"\x01\0\0\0")].concat()]
        })
        .collect();
    let many: Vec<u8> = (0..8).flat_map(|stream| on(0x10 | stream, b"\0\0\0\x01x")).collect();
    seeds.push([vec![1], many].concat());
    // The first of them as yamux has them, a ping, and a goodbye.
    let whole = on_streams(&seeds[0][1..]);
    seeds.push([&[0], &whole[..]].concat());
    seeds.push([0, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7].to_vec());
    seeds.push([0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec());
    seeds.push([0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 0, 0].to_vec());
    seeds
}

/// The answer of an HTTP proxy to CONNECT.
pub(crate) fn proxy(data: &[u8]) {
    let (status, taken) = fuzzing::proxy_answer(data);
    assert!(taken <= 8 * 1024, "{taken} bytes of a head");
    if status.is_some() {
        let head = &data[..taken];
        assert!(
            head.ends_with(b"\n\n") || head.ends_with(b"\r\n\r\n"),
            "what follows belongs to the gateway"
        );
        assert_eq!(fuzzing::proxy_answer(head), (status, taken));
    }
}

pub(crate) fn proxy_seeds() -> Vec<Vec<u8>> {
    let heads: [&[u8]; 6] = [
        b"HTTP/1.1 200 Connection established\r\nVia: 1.1 x\r\n\r\n\x16\x03",
        b"HTTP/1.0 200 OK\n\nx",
        b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nsorry",
        b"HTTP/1.1 abc\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ];
    heads.iter().map(|head| head.to_vec()).collect()
}

/// The key of docs/protocol-connection-ids.md.
const ID_KEY: [u8; 32] = {
    let mut key = [0; 32];
    let mut at = 1;
    while at < key.len() {
        key[at] = key[at - 1] + 1;
        at += 1;
    }
    key
};

/// The gateway's number, the id.
pub(crate) fn connection_ids(data: &[u8]) {
    let Some((number, id)) = data.split_first_chunk() else { return };
    let number = u16::from_be_bytes(*number);
    if fuzzing::is_own_connection_id(number, &ID_KEY, id) {
        assert_eq!(gateway_of(id), Some(number));
    }
}

pub(crate) fn connection_id_seeds() -> Vec<Vec<u8>> {
    let id = hex::decode("12340b1234a0a1a2a3a4618b3130").expect("hex");
    assert!(fuzzing::is_own_connection_id(0x1234, &ID_KEY, &id[2..]), "the documented one");
    vec![id.clone(), id[..13].to_vec(), [&id[..], b"x"].concat()]
}
