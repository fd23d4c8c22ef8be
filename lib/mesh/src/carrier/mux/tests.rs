use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

use super::*;
use crate::carrier::StreamFault;
use crate::kind::ErrorCode;

const SOON: Duration = Duration::from_secs(20);

/// A device's and a gateway's end of one connection.
fn pair() -> (Muxed, Muxed) {
    let (near, far) = duplex(64 * 1024);
    (start(near, Side::Device), start(far, Side::Gateway))
}

fn start(socket: DuplexStream, side: Side) -> Muxed {
    Muxed::start(socket, side, ([127, 0, 0, 1], 1).into())
}

/// A stream that both ends know of.
async fn stream(device: &Muxed, gateway: &Muxed) -> [(SendStream, RecvStream); 2] {
    let mut near = device.open().await.unwrap();
    near.0.write_all(b"!").await.unwrap();
    let mut far = timeout(SOON, gateway.accept()).await.unwrap().unwrap();
    assert_eq!(far.1.read_u8().await.unwrap(), b'!');
    [near, far]
}

fn fault(error: std::io::Error) -> StreamFault {
    StreamFault::of(&error).unwrap_or_else(|| panic!("{error}"))
}

#[tokio::test]
async fn bytes_and_the_end_arrive_in_both_directions() {
    let (device, gateway) = pair();
    let [mut near, mut far] = stream(&device, &gateway).await;
    // More than the windows of both directions hold.
    let question = vec![7; 1 << 20];
    let (asked, answered) = tokio::join!(
        async {
            near.0.write_all(&question).await.unwrap();
            near.0.finish();
            let mut answer = Vec::new();
            near.1.read_to_end(&mut answer).await.unwrap();
            answer
        },
        async {
            let mut question = Vec::new();
            far.1.read_to_end(&mut question).await.unwrap();
            far.0.write_all(&question).await.unwrap();
            far.0.finish();
            question
        }
    );
    assert!(asked == question && answered == question);
    let (sent, received) = device.traffic();
    assert!(sent > 1 << 20 && received > 1 << 20);
}

#[tokio::test]
async fn what_was_finished_arrives_although_its_halves_are_gone() {
    let (device, gateway) = pair();
    let [mut near, mut far] = stream(&device, &gateway).await;
    far.0.write_all(b"last words").await.unwrap();
    far.0.finish();
    drop(far);
    let mut words = Vec::new();
    near.1.read_to_end(&mut words).await.unwrap();
    assert_eq!(words, b"last words");
}

#[tokio::test]
async fn a_reset_and_a_stop_carry_their_codes_each_in_its_direction() {
    let (device, gateway) = pair();
    let [mut near, mut far] = stream(&device, &gateway).await;
    let stopped = near.0.stopped();
    far.1.stop(17);
    timeout(SOON, stopped).await.unwrap();
    assert_eq!(fault(near.0.write_all(b"more").await.unwrap_err()), StreamFault::Ended(17));
    // The other direction is as it was.
    far.0.write_all(b"ok").await.unwrap();
    assert_eq!(near.1.read_u16().await.unwrap(), u16::from_be_bytes(*b"ok"));
    far.0.reset(19);
    assert_eq!(fault(near.1.read_u8().await.unwrap_err()), StreamFault::Ended(19));
}

#[tokio::test]
async fn a_torn_stream_is_no_end() {
    let (socket, far) = duplex(64 * 1024);
    let gateway = start(far, Side::Gateway);
    let mut yamux = yamux::Connection::new(
        tokio_util::compat::TokioAsyncReadCompatExt::compat(socket),
        yamux::Config::default(),
        yamux::Mode::Client,
    );
    let mut raw = std::future::poll_fn(|cx| yamux.poll_new_outbound(cx)).await.unwrap();
    futures_util::AsyncWriteExt::write_all(&mut raw, &[0, 0, 0, 2, b'h', b'a']).await.unwrap();
    drop(raw);
    let drive = std::future::poll_fn(|cx| yamux.poll_next_inbound(cx));
    let read = async {
        let (_, mut recv) = gateway.accept().await.unwrap();
        assert_eq!(recv.read_u16().await.unwrap(), u16::from_be_bytes(*b"ha"));
        fault(recv.read_u8().await.unwrap_err())
    };
    tokio::select! {
        _ = drive => panic!("the connection ended"),
        fault = timeout(SOON, read) => {
            assert_eq!(fault.unwrap(), StreamFault::Ended(ErrorCode::Cancelled.number().into()));
        }
    }
}

#[tokio::test]
async fn a_close_brings_its_code_and_its_words_to_every_stream() {
    let (device, gateway) = pair();
    let [mut near, mut far] = stream(&device, &gateway).await;
    gateway.close(6, "lost at the airport");
    let said = ConnectionLost::Closed { code: 6, reason: "lost at the airport".into() };
    assert_eq!(timeout(SOON, device.closed()).await.unwrap(), said);
    assert_eq!(fault(near.1.read_u8().await.unwrap_err()), StreamFault::Lost(said.clone()));
    assert_eq!(fault(near.0.write_all(b"?").await.unwrap_err()), StreamFault::Lost(said.clone()));
    assert_eq!(device.open().await.unwrap_err(), said);
    assert_eq!(fault(far.1.read_u8().await.unwrap_err()), StreamFault::Lost(ConnectionLost::Local));
    assert_eq!(gateway.accept().await.unwrap_err(), ConnectionLost::Local);
    timeout(SOON, gateway.wait_idle()).await.expect("the goodbye ends");
}

#[tokio::test]
async fn the_last_stream_keeps_the_connection_and_closes_it_when_it_goes() {
    let (device, gateway) = pair();
    let [mut near, mut far] = stream(&device, &gateway).await;
    drop(device);
    near.0.write_all(b"?").await.unwrap();
    assert_eq!(far.1.read_u8().await.unwrap(), b'?');
    drop(near);
    let left = ConnectionLost::Closed { code: u64::from(CLOSE_NORMAL), reason: String::new() };
    assert_eq!(timeout(SOON, gateway.closed()).await.unwrap(), left);
}

#[tokio::test]
async fn a_socket_that_is_torn_off_is_a_lost_connection() {
    let (near, far) = duplex(64 * 1024);
    let gateway = start(far, Side::Gateway);
    drop(near);
    let cause = timeout(SOON, gateway.closed()).await.unwrap();
    assert!(matches!(cause, ConnectionLost::Failed(_)), "{cause:?}");
}

#[tokio::test]
async fn garbage_is_a_lost_connection() {
    let (mut near, far) = duplex(64 * 1024);
    let gateway = start(far, Side::Gateway);
    near.write_all(b"GET / HTTP/1.1\r\nhost: gateway\r\n\r\n").await.unwrap();
    let cause = timeout(SOON, gateway.closed()).await.unwrap();
    assert!(matches!(cause, ConnectionLost::Failed(_)), "{cause:?}");
}

#[tokio::test]
async fn a_device_waits_when_it_has_as_many_streams_as_allowed() {
    let (device, gateway) = pair();
    let mut open = Vec::new();
    for _ in 0..OPEN {
        open.push(stream(&device, &gateway).await);
    }
    let another = device.open();
    tokio::pin!(another);
    assert!(futures_util::poll!(another.as_mut()).is_pending());
    open.pop();
    timeout(SOON, another).await.expect("a place was given back").unwrap();
}

#[tokio::test]
async fn a_peer_with_a_thousand_streams_loses_the_connection() {
    let (socket, far) = duplex(64 * 1024);
    let gateway = start(far, Side::Gateway);
    let mut yamux = yamux::Connection::new(
        tokio_util::compat::TokioAsyncReadCompatExt::compat(socket),
        yamux::Config::default(),
        yamux::Mode::Client,
    );
    let mut streams = Vec::new();
    let flood = std::future::poll_fn(|cx| {
        while streams.len() < 200
            && let std::task::Poll::Ready(Ok(mut stream)) = yamux.poll_new_outbound(cx)
        {
            let write = std::pin::Pin::new(&mut stream);
            let _ = futures_util::AsyncWrite::poll_write(write, cx, &[0, 0, 0, 1, b'x']);
            streams.push(stream);
        }
        yamux.poll_next_inbound(cx)
    });
    let ended = timeout(SOON, flood).await.expect("the gateway ends it");
    assert!(!matches!(ended, Some(Ok(_))), "a gateway opens no streams");
    let cause = timeout(SOON, gateway.closed()).await.unwrap();
    assert!(matches!(cause, ConnectionLost::Failed(_)), "{cause:?}");
    let mut accepted = 0;
    while gateway.accept().await.is_ok() {
        accepted += 1;
    }
    assert!(accepted <= STREAMS, "{accepted}");
}
