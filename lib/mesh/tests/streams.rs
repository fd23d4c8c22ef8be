//! Work streams over real sockets: echo, limits, garbage, cancel, and loss.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quinn::crypto::rustls::QuicClientConfig;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use support::{Device, Gateway, Pki, SOON, ask, certificates, delta, listen, over_tcp};
use synesis_mesh::device::{OpenError, TunnelEvent, TunnelState};
use synesis_mesh::frame::{FrameError, FrameReader, encode};
use synesis_mesh::gateway::{Accepted, Session};
use synesis_mesh::identity::{DeviceIdentity, GATEWAY_SERVER_NAME};
use synesis_mesh::kind::{ALPN_MESH, ErrorCode, MAX_WORK_STREAMS, StreamKind};
use synesis_mesh::stream::{StreamHeader, WorkStream};
use synesis_proto::mesh::v1;
use tokio::task::JoinSet;
use tokio::time::timeout;
use ulid::Ulid;

fn header() -> StreamHeader {
    StreamHeader::new(StreamKind::Ask, Ulid::from_parts(1, 2))
}

#[tokio::test]
async fn what_is_sent_on_a_work_stream_comes_back() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki);
    let device = Device::start(Some(pki.device(gateway.address)));
    device.reach(TunnelState::Up).await;
    let mut work = device.handle.open(header()).await.unwrap();
    for n in 1..=3 {
        let text = format!("question {n}");
        work.tx.write(&ask(text.as_bytes())).await.unwrap();
        assert_eq!(work.rx.read().await.unwrap(), Some(delta(n, text)));
    }
    let big = "x".repeat(StreamKind::Ask.max_frame() - 100);
    work.tx.write(&ask(big.as_bytes())).await.unwrap();
    assert_eq!(work.rx.read().await.unwrap(), Some(delta(4, big)));
    work.tx.finish().await.unwrap();
    assert_eq!(work.rx.read::<v1::AskDown>().await.unwrap(), None);
}

#[tokio::test]
async fn the_gateway_sees_the_header_the_device_sent() {
    let pki = Pki::new();
    let (session, device) = quiet(&pki).await;
    let sent = StreamHeader {
        timeout: Some(Duration::from_secs(9)),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        ..StreamHeader::new(StreamKind::Account, Ulid::from_parts(5, 6))
    };
    let _work = device.handle.open(sent.clone()).await.unwrap();
    assert_eq!(session.work().await.unwrap().header, sent);
}

#[tokio::test]
async fn opening_while_not_up_fails_at_once_with_the_reason() {
    let device = Device::start(None);
    match device.handle.open(header()).await {
        Err(OpenError::Offline(status)) => {
            assert_eq!(status.state, TunnelState::Unenrolled);
            assert!(status.next_step.unwrap().contains("enroll"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_oversized_message_is_not_sent_and_the_stream_lives_on() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki);
    let device = Device::start(Some(pki.device(gateway.address)));
    device.reach(TunnelState::Up).await;
    let mut work = device.handle.open(header()).await.unwrap();
    let giant = ask(&vec![b'x'; StreamKind::Ask.max_frame() + 1]);
    assert!(matches!(work.tx.write(&giant).await, Err(FrameError::TooLarge { .. })));
    work.tx.write(&ask(b"small")).await.unwrap();
    assert_eq!(work.rx.read().await.unwrap(), Some(delta(1, "small".into())));
}

/// A connected session whose work nobody takes but the test.
async fn quiet(pki: &Arc<Pki>) -> (Session, Device) {
    let endpoint = listen(&pki.tls(), ([127, 0, 0, 1], 0).into());
    let device = Device::start(Some(pki.device(endpoint.local_addr().unwrap())));
    let Ok(Accepted::Device(mut peer)) = endpoint.accept().await.unwrap().handshake().await else {
        panic!("no device")
    };
    peer.hello().await.unwrap();
    let welcome = v1::Welcome { heartbeat_interval_ms: 100, ..v1::Welcome::default() };
    let session = peer.welcome(welcome).await.unwrap();
    device.reach(TunnelState::Up).await;
    (session, device)
}

async fn pair(pki: &Arc<Pki>) -> (WorkStream, WorkStream, Session, Device) {
    let (session, device) = quiet(pki).await;
    let near = device.handle.open(header()).await.unwrap();
    let far = timeout(SOON, session.work()).await.unwrap().unwrap();
    (near, far, session, device)
}

#[tokio::test]
async fn dropping_a_stream_cancels_it_at_the_other_end_at_once() {
    let (near, mut far, _session, _device) = pair(&Pki::new()).await;
    let stopped = far.tx.stopped();
    drop(near);
    let error = timeout(SOON, far.rx.read::<v1::AskUp>()).await.unwrap().unwrap_err();
    assert!(matches!(error, FrameError::Reset(Some(ErrorCode::Cancelled))), "{error:?}");
    timeout(SOON, stopped).await.expect("the gateway's wait for the provider ends");
    let error = far.tx.write(&delta(1, "late".into())).await.unwrap_err();
    assert!(matches!(error, FrameError::Reset(Some(ErrorCode::Cancelled))), "{error:?}");
}

#[tokio::test]
async fn a_stream_the_gateway_drops_fails_at_the_device() {
    let (mut near, far, _session, _device) = pair(&Pki::new()).await;
    drop(far);
    let error = timeout(SOON, near.rx.read::<v1::AskDown>()).await.unwrap().unwrap_err();
    assert!(matches!(error, FrameError::Reset(Some(ErrorCode::Cancelled))), "{error:?}");
}

#[tokio::test]
async fn a_finished_stream_may_be_dropped_without_losing_its_end() {
    let (mut near, mut far, _session, _device) = pair(&Pki::new()).await;
    far.tx.write(&delta(1, "last words".into())).await.unwrap();
    far.tx.finish().await.unwrap();
    drop(far);
    assert_eq!(near.rx.read().await.unwrap(), Some(delta(1, "last words".into())));
    assert_eq!(near.rx.read::<v1::AskDown>().await.unwrap(), None);
}

#[tokio::test]
async fn a_refusal_arrives_as_a_problem_of_the_streams_own_kind() {
    let (mut near, far, _session, _device) = pair(&Pki::new()).await;
    far.refuse(ErrorCode::ModelUnknown, "no such model", "choose another").await.unwrap();
    match near.rx.read::<v1::AskDown>().await.unwrap().unwrap().message {
        Some(v1::ask_down::Message::Problem(problem)) => {
            assert_eq!(problem, ErrorCode::ModelUnknown.problem("no such model", "choose another"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(near.rx.read::<v1::AskDown>().await.unwrap(), None);
}

#[tokio::test]
async fn a_lost_connection_is_an_error_on_every_open_stream() {
    let (mut near, _far, session, device) = pair(&Pki::new()).await;
    session.close(ErrorCode::Internal, "the test ends it");
    let error = timeout(SOON, near.rx.read::<v1::AskDown>()).await.unwrap().unwrap_err();
    assert!(matches!(error, FrameError::ConnectionLost(_)), "{error:?}");
    assert!(matches!(near.tx.write(&ask(b"?")).await, Err(FrameError::ConnectionLost(_))));
    let status = device.status(|s| s.state != TunnelState::Up).await;
    assert!(status.reason.unwrap().contains("the test ends it"));
}

#[tokio::test]
async fn heartbeats_are_answered_while_every_stream_is_stuck() {
    let pki = Pki::new();
    let (session, device) = quiet(&pki).await;
    let mut senders = JoinSet::new();
    let mut stuck = Vec::new();
    for n in 0..MAX_WORK_STREAMS {
        let header = StreamHeader::new(StreamKind::Ask, Ulid::from_parts(1, n.into()));
        let mut work = device.handle.open(header).await.unwrap();
        stuck.push(session.work().await.unwrap());
        // Nobody reads: this fills the windows and then waits.
        senders.spawn(async move { while work.tx.write(&ask(&[b'x'; 64 * 1024])).await.is_ok() {} });
    }
    let mut reports = session.reports();
    let before = reports.borrow().heartbeats;
    timeout(SOON, reports.wait_for(|r| r.heartbeats >= before + 5)).await.unwrap().unwrap();
    assert!(device.handle.ping().await.is_ok());
    assert_eq!(device.handle.status().borrow().state, TunnelState::Up);
}

/// A device that does as it likes: its control stream is good, everything else is up to the test.
async fn rogue(identity: &DeviceIdentity, pki: &Pki) -> (quinn::Connection, quinn::SendStream) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificates(&pki.server_ca.certificate_pem()).remove(0)).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.to_pem().unwrap().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain.clone(), key)
        .unwrap();
    tls.alpn_protocols = vec![ALPN_MESH.to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let gateway = identity.gateway.parse().unwrap();
    let connection = endpoint.connect_with(config, gateway, GATEWAY_SERVER_NAME).unwrap().await.unwrap();
    let (mut tx, rx) = connection.open_bi().await.unwrap();
    let hello = v1::Hello { versions: vec![1], ..v1::Hello::default() };
    tx.write_all(&framed(&v1::ControlUp { message: Some(v1::control_up::Message::Hello(hello)) }))
        .await
        .unwrap();
    let mut rx = FrameReader::new(rx, 1 << 20);
    assert!(rx.read::<v1::ControlDown>().await.unwrap().is_some());
    (connection, tx)
}

fn framed<M: prost::Message>(message: &M) -> BytesMut {
    let mut out = BytesMut::new();
    encode(message, 1 << 24, &mut out).unwrap();
    out
}

/// What comes back on a stream on which these bytes were sent.
async fn answer<M: prost::Message + Default>(
    connection: &quinn::Connection,
    bytes: &[u8],
) -> Result<Option<M>, FrameError> {
    let (mut tx, rx) = connection.open_bi().await.unwrap();
    tx.write_all(bytes).await.unwrap();
    timeout(SOON, FrameReader::new(rx, 1 << 20).read()).await.unwrap()
}

fn ask_problem(answer: Result<Option<v1::AskDown>, FrameError>) -> Option<ErrorCode> {
    match answer.unwrap().unwrap().message {
        Some(v1::ask_down::Message::Problem(problem)) => ErrorCode::from_number(problem.code.into()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn hostile_streams_get_a_problem_and_the_connection_lives_on() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki);
    let identity = pki.device(gateway.address);
    let (connection, _control) = rogue(&identity, &pki).await;
    let good = v1::StreamHeader::from(&header());

    let refused = |answer: Result<Option<v1::AskDown>, FrameError>| match answer {
        Err(FrameError::Refused(problem)) => ErrorCode::from_number(problem.code.into()),
        other => panic!("{other:?}"),
    };
    let unknown = framed(&v1::StreamHeader { kind: 99, ..good.clone() });
    assert_eq!(refused(answer(&connection, &unknown).await), Some(ErrorCode::UnknownKind));
    let no_id = framed(&v1::StreamHeader { request_id: "x".into(), ..good.clone() });
    assert_eq!(refused(answer(&connection, &no_id).await), Some(ErrorCode::BadFrame));
    let giant_header = u32::MAX.to_be_bytes();
    assert_eq!(refused(answer(&connection, &giant_header).await), Some(ErrorCode::TooLarge));
    assert_eq!(refused(answer(&connection, &[0, 0, 0, 1, 0xff]).await), Some(ErrorCode::BadFrame));

    let giant_frame = [&framed(&good)[..], &u32::MAX.to_be_bytes()].concat();
    assert_eq!(ask_problem(answer(&connection, &giant_frame).await), Some(ErrorCode::TooLarge));
    let garbage = [&framed(&good)[..], &[0, 0, 0, 3, 0xff, 0xff, 0xff]].concat();
    assert_eq!(ask_problem(answer(&connection, &garbage).await), Some(ErrorCode::BadFrame));

    let fine = [framed(&good), framed(&ask(b"still here"))].concat();
    assert_eq!(answer(&connection, &fine).await.unwrap(), Some(delta(1, "still here".into())));
    assert!(connection.close_reason().is_none());
}

#[tokio::test]
async fn garbage_on_the_control_stream_ends_the_connection_with_its_code() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki);
    for (bytes, code) in
        [(&[0xff, 0xff, 0xff, 0xff][..], ErrorCode::TooLarge), (&[0, 0, 0, 1, 0xff][..], ErrorCode::BadFrame)]
    {
        let identity = pki.device(gateway.address);
        let (connection, mut control) = rogue(&identity, &pki).await;
        control.write_all(bytes).await.unwrap();
        match timeout(SOON, connection.closed()).await.unwrap() {
            quinn::ConnectionError::ApplicationClosed(close) => {
                assert_eq!(ErrorCode::from_number(close.error_code.into_inner()), Some(code));
            }
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_device_cannot_open_more_streams_than_allowed_nor_one_way_ones() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki);
    let identity = pki.device(gateway.address);
    let (connection, _control) = rogue(&identity, &pki).await;
    let mut open = Vec::new();
    let short = Duration::from_millis(300);
    while let Ok(stream) = timeout(short, connection.open_bi()).await {
        open.push(stream.unwrap());
    }
    assert_eq!(open.len(), MAX_WORK_STREAMS as usize);
    assert!(timeout(short, connection.open_uni()).await.is_err());
}

#[tokio::test]
async fn a_device_that_opens_nothing_but_bad_streams_is_sent_away_and_counted() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki);
    let identity = pki.device(gateway.address);
    let (connection, _control) = rogue(&identity, &pki).await;
    let mut opened: u64 = 0;
    while let Ok((mut tx, mut rx)) = connection.open_bi().await {
        opened += 1;
        assert!(opened < 1000, "it is let do as it likes");
        // Either may find the connection closed.
        if tx.write_all(&[0, 0, 0, 1, 0xff]).await.is_ok() {
            let _ = timeout(SOON, rx.read_to_end(1 << 16)).await.expect("an answer or the end");
        }
    }
    match connection.closed().await {
        quinn::ConnectionError::ApplicationClosed(close) => {
            let code = ErrorCode::from_number(close.error_code.into_inner());
            assert_eq!(code, Some(ErrorCode::RateLimited));
        }
        other => panic!("{other}"),
    }
    assert_eq!(gateway.tally.floods.value(), 1);
    assert!(gateway.tally.streams_refused.value() > 64 && opened > 64);
}

#[tokio::test]
async fn one_good_stream_among_bad_ones_is_the_proof_of_a_device_that_is_only_newer_than_the_gateway() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki);
    let identity = pki.device(gateway.address);
    let (connection, _control) = rogue(&identity, &pki).await;
    let good = [framed(&v1::StreamHeader::from(&header())), framed(&ask(b"hi"))].concat();
    for _ in 0..4 {
        for _ in 0..40 {
            let refused = answer::<v1::AskDown>(&connection, &[0, 0, 0, 1, 0xff]).await;
            assert!(matches!(refused, Err(FrameError::Refused(_))), "{refused:?}");
        }
        assert!(answer::<v1::AskDown>(&connection, &good).await.unwrap().is_some());
    }
    assert!(connection.close_reason().is_none());
}

#[tokio::test]
async fn a_device_that_does_not_read_an_answer_loses_it_and_nothing_else() {
    let (mut near, mut far, session, device) = pair(&Pki::new()).await;
    far.tx.cut_unread_after(Duration::from_millis(200));
    let piece = delta(1, "x".repeat(100 * 1024));
    let error = loop {
        if let Err(error) = far.tx.write(&piece).await {
            break error;
        }
    };
    assert_eq!(error.code(), ErrorCode::DeadlineExceeded);

    assert!(device.handle.ping().await.is_ok());
    let mut other = device.handle.open(header()).await.unwrap();
    let mut other_far = timeout(SOON, session.work()).await.unwrap().unwrap();
    other_far.tx.write(&delta(1, "fine".into())).await.unwrap();
    assert_eq!(other.rx.read().await.unwrap(), Some(delta(1, "fine".into())));

    let error = loop {
        match near.rx.read::<v1::AskDown>().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a cut answer looks finished"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, FrameError::Reset(Some(ErrorCode::DeadlineExceeded))), "{error:?}");
}

#[tokio::test]
async fn a_control_message_overtakes_an_answer_that_fills_the_connection() {
    if over_tcp() {
        // There, what was written first goes first; streams take turns, frame by frame.
        return;
    }
    let (mut near, mut far, session, device) = pair(&Pki::new()).await;
    let mut events = device.handle.events();
    // All of it fits the windows, so it is queued whole before the order is.
    let bulk = delta(1, "x".repeat(400 * 1024));
    far.tx.write(&bulk).await.unwrap();
    session.prewarm("first").await.unwrap();
    tokio::select! {
        biased;
        _ = near.rx.read::<v1::AskDown>() => panic!("the answer came first"),
        event = events.recv() => assert!(matches!(event, Ok(TunnelEvent::Prewarm { .. })), "{event:?}"),
    }
    assert_eq!(near.rx.read().await.unwrap(), Some(bulk));
}
