//! Tests of the frame layer: golden bytes, round trips, and hostile input.

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1024;

fn heartbeat() -> v1::ControlUp {
    let vitals = v1::Vitals { cpu: Some(0.5), ..v1::Vitals::default() };
    let beat = v1::Heartbeat { seq: 7, sent_at_ms: 1000, vitals: Some(vitals), last_rtt_us: Some(250) };
    v1::ControlUp { message: Some(v1::control_up::Message::Heartbeat(beat)) }
}

fn framed<M: Message>(message: &M) -> BytesMut {
    let mut out = BytesMut::new();
    encode(message, LIMIT, &mut out).unwrap();
    out
}

#[test]
fn a_heartbeat_has_these_bytes_forever() {
    let golden = "0000001512130807" // 21 bytes; field 2 (heartbeat), 19 bytes; seq 7
        .to_owned()
        + "10e807" // sent_at_ms 1000
        + "1a0909000000000000e03f" // vitals, cpu 0.5
        + "20fa01"; // last_rtt_us 250
    assert_eq!(hex::encode(framed(&heartbeat())), golden);
}

#[test]
fn a_stream_header_has_these_bytes_forever() {
    let header = v1::StreamHeader {
        kind: 2,
        request_id: "01JD0000000000000000000000".into(),
        timeout_ms: 0,
        traceparent: String::new(),
    };
    let id = hex::encode("01JD0000000000000000000000");
    assert_eq!(hex::encode(framed(&header)), format!("0000001e0802121a{id}"));
}

#[test]
fn a_frame_comes_out_only_when_its_last_byte_is_there() {
    let whole = framed(&heartbeat());
    let mut input = BytesMut::new();
    for (at, byte) in whole.iter().enumerate() {
        input.put_u8(*byte);
        let message: Option<v1::ControlUp> = decode(&mut input, LIMIT).unwrap();
        assert_eq!(message.is_some(), at + 1 == whole.len());
    }
    assert!(input.is_empty());
}

#[test]
fn an_oversized_frame_is_refused_by_its_length_alone() {
    let mut input = BytesMut::from(&u32::MAX.to_be_bytes()[..]);
    let error = decode::<v1::ControlUp>(&mut input, LIMIT).unwrap_err();
    assert!(matches!(error, FrameError::TooLarge { len: 4_294_967_295, limit: LIMIT }));
    assert_eq!(error.code(), ErrorCode::TooLarge);
    assert!(input.capacity() < LIMIT);
}

#[test]
fn an_oversized_message_is_not_sent() {
    let header = v1::StreamHeader { traceparent: "x".repeat(LIMIT), ..v1::StreamHeader::default() };
    let mut out = BytesMut::new();
    assert!(matches!(encode(&header, LIMIT, &mut out), Err(FrameError::TooLarge { .. })));
    assert!(out.is_empty());
}

#[test]
fn a_bare_problem_is_understood_where_another_message_was_expected() {
    let mut input = framed(&ErrorCode::UnknownKind.problem("kind 99 is not known here", "update"));
    match decode::<v1::AskDown>(&mut input, LIMIT).unwrap_err() {
        FrameError::Refused(problem) => assert_eq!(problem.code, ErrorCode::UnknownKind.number()),
        other => panic!("{other}"),
    }
}

#[test]
fn garbage_is_malformed_and_the_next_frame_still_reads() {
    let mut input = BytesMut::from(&[0, 0, 0, 2, 0xff, 0xff][..]);
    input.extend_from_slice(&framed(&heartbeat()));
    let error = decode::<v1::ControlUp>(&mut input, LIMIT).unwrap_err();
    assert!(matches!(error, FrameError::Malformed(_)));
    assert_eq!(error.code(), ErrorCode::BadFrame);
    assert_eq!(decode::<v1::ControlUp>(&mut input, LIMIT).unwrap(), Some(heartbeat()));
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_frame_is_an_error_and_between_frames_is_an_end() {
    let whole = framed(&heartbeat());
    let mut reader = FrameReader::new(&whole[..], LIMIT);
    assert_eq!(reader.read::<v1::ControlUp>().await.unwrap(), Some(heartbeat()));
    assert_eq!(reader.read::<v1::ControlUp>().await.unwrap(), None);
    let mut reader = FrameReader::new(&whole[..whole.len() - 1], LIMIT);
    assert!(matches!(reader.read::<v1::ControlUp>().await, Err(FrameError::Truncated)));
}

#[tokio::test]
async fn a_reader_holds_what_arrived_and_not_what_was_announced() {
    let limit = 1 << 20;
    let (mut far, near) = tokio::io::duplex(64);
    far.write_all(&(limit as u32).to_be_bytes()).await.unwrap();
    let mut reader = FrameReader::new(near, limit);
    {
        let read = reader.read::<v1::ControlUp>();
        tokio::pin!(read);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(1), &mut read).await.is_err());
    }
    assert!(reader.buffer.capacity() <= 2 * READ_STEP, "{}", reader.buffer.capacity());
}

#[tokio::test]
async fn a_cancelled_write_never_leaves_half_a_frame() {
    let (near, far) = tokio::io::duplex(8);
    let mut writer = FrameWriter::new(near, LIMIT);
    let short = std::time::Duration::from_millis(1);
    assert!(tokio::time::timeout(short, writer.write(&heartbeat())).await.is_err(), "8 bytes do not suffice");
    let mut reader = FrameReader::new(far, LIMIT);
    let both = async {
        let first = reader.read::<v1::ControlUp>().await.unwrap();
        let second = reader.read::<v1::ControlUp>().await.unwrap();
        (first, second)
    };
    let again = heartbeat();
    let (written, (first, second)) = tokio::join!(writer.write(&again), both);
    written.unwrap();
    assert_eq!((first, second), (Some(heartbeat()), Some(heartbeat())));
}

fn any_delta() -> impl Strategy<Value = v1::AskDown> {
    (any::<u64>(), ".{0,64}").prop_map(|(seq, text)| v1::AskDown {
        message: Some(v1::ask_down::Message::Delta(v1::AskDelta { seq, text })),
    })
}

proptest! {
    #[test]
    fn what_goes_in_comes_out_however_it_is_cut(messages in prop::collection::vec(any_delta(), 1..8), cut in 1usize..64) {
        let mut wire = BytesMut::new();
        for message in &messages {
            encode(message, LIMIT, &mut wire).unwrap();
        }
        let mut input = BytesMut::new();
        let mut got = Vec::new();
        for chunk in wire.chunks(cut) {
            input.extend_from_slice(chunk);
            while let Some(message) = decode::<v1::AskDown>(&mut input, LIMIT).unwrap() {
                got.push(message);
            }
        }
        prop_assert_eq!(got, messages);
    }

    #[test]
    fn perturbed_bytes_never_panic(message in any_delta(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut wire = framed(&message);
        let at = at.index(wire.len());
        wire[at] = to;
        while let Ok(Some(_)) = decode::<v1::AskDown>(&mut wire, LIMIT) {}
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = decode::<v1::ControlUp>(&mut BytesMut::from(&bytes[..]), LIMIT);
        let _ = decode::<v1::ControlDown>(&mut BytesMut::from(&bytes[..]), LIMIT);
        let _ = decode::<v1::EnrollReply>(&mut BytesMut::from(&bytes[..]), LIMIT);
    }
}
