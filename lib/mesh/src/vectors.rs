//! The golden bytes of the tunnel, from the file that every implementation reads (tests/vectors/mesh). They are checked
//! in here because headers and records are nobody else's to decode.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage};
use serde_json::{Map, Value, json};
use synesis_proto::mesh::v1;

use crate::carrier::Record;
use crate::frame::{self, FrameReader, PREFIX};
use crate::kind::{ErrorCode, MAX_ENROLL_FRAME, MAX_HEADER_FRAME, StreamKind};
use crate::stream::StreamHeader;

const PACKAGE: &str = "synesis.mesh.v1";

fn file() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/mesh/v1.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect(path)).expect("JSON")
}

fn list<'a>(file: &'a Value, key: &str) -> &'a [Value] {
    file[key].as_array().unwrap_or_else(|| panic!("{key} is not a list"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} of {value} is not a text"))
}

fn wire(vector: &Value) -> Vec<u8> {
    hex::decode(text(vector, "hex")).unwrap()
}

fn limit(stream: &str) -> usize {
    match stream {
        "header" => MAX_HEADER_FRAME,
        "enrolment" => MAX_ENROLL_FRAME,
        kind => StreamKind::ALL.iter().find(|known| known.as_str() == kind).expect(kind).max_frame(),
    }
}

fn pool() -> DescriptorPool {
    DescriptorPool::decode(synesis_proto::DESCRIPTORS).unwrap()
}

fn descriptor(message: &str) -> MessageDescriptor {
    pool().get_message_by_name(&format!("{PACKAGE}.{message}")).expect(message)
}

/// What this crate does with each message. A new one is added here, or its vectors fail.
macro_rules! by_name {
    ($message:expr, $call:ident($($argument:expr),*), $($name:ident)*) => {
        match $message {
            $(stringify!($name) => $call::<v1::$name>($($argument),*),)*
            other => panic!("no stream carries {other}"),
        }
    };
    ($message:expr, $call:ident($($argument:expr),*)) => {
        by_name!($message, $call($($argument),*), StreamHeader Problem ControlUp ControlDown AskUp AskDown AccountUp
            AccountDown PushUp PushDown PullUp PullDown CatalogueUp CatalogueDown EnrollRequest EnrollReply)
    };
}

/// The message's fields, and its bytes as this build writes them.
fn through<M: Message + Default>(bytes: &[u8], stream: &str, as_name: &str) -> (Value, Vec<u8>) {
    let mut input = BytesMut::from(bytes);
    let message: M = frame::decode(&mut input, limit(stream)).unwrap().expect("a whole frame");
    assert!(input.is_empty(), "something is behind the frame");
    let mut out = BytesMut::new();
    frame::encode(&message, limit(stream), &mut out).unwrap();
    let mut seen = DynamicMessage::new(descriptor(as_name));
    seen.transcode_from(&message).unwrap();
    (fields(&seen), out.to_vec())
}

/// What a reader makes of a stream that brings these bytes and ends.
fn read<M: Message + Default>(bytes: &[u8], stream: &str) -> Result<M, ErrorCode> {
    let mut reader = FrameReader::new(bytes, limit(stream));
    let message = reader.read().now_or_never().expect("there is nothing to wait for");
    message.map(|message| message.expect("a message")).map_err(|error| error.code())
}

fn refusal<M: Message + Default>(bytes: &[u8], stream: &str) -> ErrorCode {
    read::<M>(bytes, stream).expect_err("it is not refused")
}

fn header(bytes: &[u8]) -> Result<StreamHeader, ErrorCode> {
    StreamHeader::from_wire(read(bytes, "header")?).map_err(|error| error.code())
}

/// Protobuf's own JSON, with the names of the .proto file.
fn fields(message: &DynamicMessage) -> Value {
    let named = message.fields().map(|(field, value)| (field.name().to_owned(), shown(value)));
    Value::Object(named.collect::<Map<_, _>>())
}

fn shown(value: &prost_reflect::Value) -> Value {
    use prost_reflect::Value as Field;
    match value {
        Field::Bool(flag) => json!(flag),
        Field::U32(number) => json!(number),
        Field::U64(number) => json!(number.to_string()),
        Field::I64(number) => json!(number.to_string()),
        Field::F32(number) => json!(f64::from(*number)),
        Field::F64(number) => json!(number),
        Field::String(text) => json!(text),
        Field::Bytes(bytes) => json!(STANDARD.encode(bytes)),
        Field::Message(inner) => fields(inner),
        Field::List(all) => all.iter().map(shown).collect(),
        other => panic!("no field of the tunnel is like {other:?}"),
    }
}

#[test]
fn every_message_has_its_golden_bytes_and_every_golden_byte_its_message() {
    let file = file();
    for vector in list(&file, "frames") {
        let (name, stream, message) = (text(vector, "name"), text(vector, "stream"), text(vector, "message"));
        let bytes = wire(vector);
        let (seen, written) = match stream {
            "none" => bare::<v1::Prompt>(&bytes, message),
            _ => by_name!(message, through(&bytes, stream, message)),
        };
        assert_eq!(seen, vector["fields"], "{name}");
        assert_eq!(hex::encode(written), text(vector, "hex"), "{name}");
    }
    for vector in list(&file, "tolerated") {
        let (name, stream, message) = (text(vector, "name"), text(vector, "stream"), text(vector, "message"));
        let (seen, written) = by_name!(message, through(&wire(vector), stream, message));
        assert_eq!(seen, vector["fields"], "{name}");
        let (again, _) = by_name!(message, through(&written, stream, message));
        assert_eq!(again, seen, "{name}");
    }
}

/// A message that is kept as the bytes of a field.
fn bare<M: Message + Default>(bytes: &[u8], as_name: &str) -> (Value, Vec<u8>) {
    let message = M::decode(bytes).unwrap();
    let mut seen = DynamicMessage::new(descriptor(as_name));
    seen.transcode_from(&message).unwrap();
    (fields(&seen), message.encode_to_vec())
}

#[test]
fn what_is_left_of_a_header_is_the_documented_rest() {
    let file = file();
    let mut kinds = BTreeSet::new();
    for vector in list(&file, "frames").iter().filter(|vector| text(vector, "message") == "StreamHeader") {
        let name = text(vector, "name");
        let read = header(&wire(vector)).expect(name);
        kinds.insert(read.kind);
        let mut expected = json!({ "kind": read.kind.as_str() });
        if let Some(timeout) = read.timeout {
            expected["timeout_ms"] = json!(timeout.as_millis().to_string());
        }
        if let Some(traceparent) = &read.traceparent {
            expected["traceparent"] = json!(traceparent);
        }
        assert_eq!(read.request_id.to_string(), text(&vector["fields"], "request_id"), "{name}");
        assert_eq!(expected, vector["read"], "{name}");
    }
    let work: BTreeSet<_> =
        StreamKind::ALL.iter().copied().filter(|kind| *kind != StreamKind::Control).collect();
    assert_eq!(kinds, work, "each kind of work stream has a header");
}

#[test]
fn what_is_not_a_message_is_refused_with_its_code() {
    for vector in list(&file(), "bad_frames") {
        let (name, stream, message) = (text(vector, "name"), text(vector, "stream"), text(vector, "message"));
        let bytes = wire(vector);
        let code = match message {
            "StreamHeader" => header(&bytes).expect_err(name),
            _ => by_name!(message, refusal(&bytes, stream)),
        };
        assert_eq!(code.as_str(), text(vector, "error"), "{name}");
    }
}

#[test]
fn every_record_of_the_carrier_has_its_golden_bytes() {
    let file = file();
    let mut seen = BTreeSet::new();
    for vector in list(&file, "records") {
        let (name, kind, fields) = (text(vector, "name"), text(vector, "record"), &vector["fields"]);
        seen.insert(kind);
        let code = || u32::try_from(fields["code"].as_u64().unwrap()).unwrap();
        let data = || hex::decode(text(fields, "bytes_hex")).unwrap();
        let (record, body) = match kind {
            "data" => (Record::Data(data().len()), data()),
            "end" => (Record::End, Vec::new()),
            "reset" => (Record::Reset(code()), Vec::new()),
            "stop" => (Record::Stop(code()), Vec::new()),
            "close" => (Record::Close(code(), text(fields, "reason").to_owned()), Vec::new()),
            other => panic!("no record is called {other}"),
        };
        let mut out = BytesMut::new();
        record.encode(&mut out);
        out.extend_from_slice(&body);
        assert_eq!(hex::encode(&out), text(vector, "hex"), "{name}");
        assert_eq!(Record::decode(&mut out), Ok(Some(record)), "{name}");
        assert_eq!(&out[..], body, "{name}");
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
    for vector in list(&file, "bad_records") {
        assert!(Record::decode(&mut BytesMut::from(&wire(vector)[..])).is_err(), "{}", text(vector, "name"));
        // What the pump makes of it (`mux/tests.rs`).
        assert_eq!(text(vector, "error"), ErrorCode::BadFrame.as_str());
    }
}

#[test]
fn the_registry_is_the_vectors_registry() {
    let file = file();
    let kinds: Vec<_> = StreamKind::ALL
        .iter()
        .map(|kind| json!({ "number": kind.number(), "name": kind.as_str(), "max_frame": kind.max_frame() }))
        .collect();
    assert_eq!(list(&file, "kinds"), kinds);
    let codes: Vec<_> = ErrorCode::ALL
        .iter()
        .map(|code| json!({ "number": code.number(), "name": code.as_str(), "retryable": code.retryable() }))
        .collect();
    assert_eq!(list(&file, "codes"), codes);
    assert_eq!(file["limits"], json!({ "header": MAX_HEADER_FRAME, "enrolment": MAX_ENROLL_FRAME }));
    assert_eq!(text(&file, "protocol").as_bytes(), crate::kind::ALPN_MESH);
}

/// A new message, or a new field of an old one, needs a vector.
#[test]
fn no_field_of_any_message_is_without_a_vector() {
    let mut missing = BTreeSet::new();
    for message in pool().all_messages().filter(|message| message.package_name() == PACKAGE) {
        missing.insert(message.name().to_owned());
        missing.extend(message.fields().map(|field| format!("{}.{}", message.name(), field.name())));
    }
    assert!(missing.len() > 150, "only {} messages and fields are known", missing.len());
    for vector in list(&file(), "frames") {
        let skip = if text(vector, "stream") == "none" { 0 } else { PREFIX };
        let body = Bytes::from(wire(vector)).slice(skip..);
        found(&DynamicMessage::decode(descriptor(text(vector, "message")), body).unwrap(), &mut missing);
    }
    assert!(missing.is_empty(), "without a vector: {missing:?}");
}

fn found(message: &DynamicMessage, missing: &mut BTreeSet<String>) {
    let descriptor = message.descriptor();
    missing.remove(descriptor.name());
    for (field, value) in message.fields() {
        missing.remove(&format!("{}.{}", descriptor.name(), field.name()));
        let values = value.as_list().map_or(std::slice::from_ref(value), |all| all);
        values.iter().filter_map(prost_reflect::Value::as_message).for_each(|inner| found(inner, missing));
    }
}
