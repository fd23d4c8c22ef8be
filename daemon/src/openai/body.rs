//! The body of a request: not endless, and not for ever.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::StatusCode;
use tokio::time::timeout;

use super::error::ApiError;

/// The longest body that is read: four times the longest conversation, for JSON escapes.
pub(super) const LONGEST: usize = 2 * 1024 * 1024;
/// A client that sends more is listened to up to here, so that it can hear the answer.
const PATIENCE: usize = 8 * LONGEST;
/// The time a client has to send it.
const TIME: Duration = Duration::from_secs(30);

/// The whole body.
///
/// # Errors
/// It is too long, too slow, or broken off.
pub(super) async fn read(body: Body) -> Result<Bytes, ApiError> {
    match timeout(TIME, collect(body.into_data_stream())).await {
        Ok(read) => read,
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            format!("the request's body did not arrive within {} s; send it again", TIME.as_secs()),
        )),
    }
}

async fn collect(mut pieces: BodyDataStream) -> Result<Bytes, ApiError> {
    let (mut body, mut length) = (BytesMut::new(), 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                "bad_request",
                "the request's body broke off; send it again",
            )
        })?;
        length += piece.len();
        if length <= LONGEST {
            body.extend_from_slice(&piece);
        } else {
            body.clear();
        }
        if length > PATIENCE {
            break;
        }
    }
    if length > LONGEST {
        let message = format!("the request's body is longer than {LONGEST} bytes; shorten the conversation");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message));
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::response::IntoResponse as _;
    use futures_util::stream;

    use super::*;

    fn pieces(count: usize) -> Body {
        Body::from_stream(stream::iter((0..count).map(|_| Ok::<_, Infallible>(vec![b'x'; LONGEST / 4]))))
    }

    async fn status(body: Body) -> u16 {
        match read(body).await {
            Ok(_) => 200,
            Err(error) => error.into_response().status().as_u16(),
        }
    }

    #[tokio::test]
    async fn a_body_has_a_longest_length() {
        assert_eq!(read(pieces(4)).await.unwrap().len(), LONGEST);
        assert_eq!(status(pieces(5)).await, 413);
        let endless = stream::repeat_with(|| Ok::<_, Infallible>(vec![b'x'; LONGEST]));
        assert_eq!(status(Body::from_stream(endless)).await, 413);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let silent = stream::pending::<Result<Bytes, Infallible>>();
        assert_eq!(status(Body::from_stream(silent)).await, 408);
        let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("reset"))]);
        assert_eq!(status(Body::from_stream(broken)).await, 400);
    }
}
