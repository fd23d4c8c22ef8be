//! What the two HTTP providers share: the client, the deadlines, the body read as server-sent events, and how a
//! refusal becomes a [`ProviderError`].

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, Url};
use tokio::time::timeout;

use super::error::{ProviderError, bounded_words};
use super::{Event, EventStream, sse};
use crate::secret::Secret;

/// How long each part of a call may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// For the TCP and TLS handshakes.
    pub(crate) connect: Duration,
    /// From sending the request to the response's head.
    pub(crate) first_byte: Duration,
    /// Between two pieces of the body.
    pub(crate) idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(60),
        }
    }
}

/// Where an HTTP provider is and how to talk to it.
#[derive(Debug, Clone)]
pub(crate) struct HttpSettings {
    pub(crate) base_url: Url,
    pub(crate) api_key: Option<Secret>,
    pub(crate) models: Vec<String>,
    pub(crate) timeouts: Timeouts,
}

/// An HTTP provider cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTPS client cannot be made; are the system's CA certificates installed?")]
pub(crate) struct SetupError(#[source] reqwest::Error);

/// The client for one provider. It follows no redirect (the key goes where the operator said, nowhere else),
/// and speaks HTTPS only when the base URL does.
pub(crate) fn client(settings: &HttpSettings) -> Result<Client, SetupError> {
    let builder = Client::builder()
        .connect_timeout(settings.timeouts.connect)
        .redirect(Policy::none())
        .user_agent(concat!("synesis-gateway/", env!("CARGO_PKG_VERSION")));
    let builder = if settings.base_url.scheme() == "https" {
        builder.https_only(true)
    } else {
        // Plain HTTP is for a model server beside the gateway: no proxy in between, no CA bundle to read.
        builder.no_proxy().tls_certs_only(std::iter::empty())
    };
    builder.build().map_err(SetupError)
}

/// `base_url` with `path` behind whatever path it already has.
pub(crate) fn join(base_url: &Url, path: &str) -> Url {
    let mut url = base_url.clone();
    let joined = format!("{}/{path}", url.path().trim_end_matches('/'));
    url.set_path(&joined);
    url
}

/// Sends `request` and gives back the body as events once the provider has said yes.
pub(crate) async fn open(
    request: RequestBuilder,
    timeouts: Timeouts,
    key: Option<&Secret>,
) -> Result<Events, ProviderError> {
    let response = match timeout(timeouts.first_byte, request.send()).await {
        Err(_) => return Err(ProviderError::Silent { waited: timeouts.first_byte }),
        Ok(Err(_)) => return Err(ProviderError::Unreachable),
        Ok(Ok(response)) => response,
    };
    if !response.status().is_success() {
        return Err(refusal(response, timeouts, key).await);
    }
    Ok(Events {
        body: response.bytes_stream().map(|piece| piece.map_err(|_| ProviderError::Truncated)).boxed(),
        reader: sse::Reader::new(),
        idle: timeouts.idle,
    })
}

/// The most bytes of an error's body that are read.
const MAX_ERROR_BODY: usize = 16 * 1024;

async fn refusal(response: Response, timeouts: Timeouts, key: Option<&Secret>) -> ProviderError {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.trim().parse().ok())
        .map(|seconds: u32| Duration::from_secs(seconds.into()));
    let mut body = Vec::new();
    let mut pieces = response.bytes_stream();
    while body.len() < MAX_ERROR_BODY {
        match timeout(timeouts.connect, pieces.next()).await {
            Ok(Some(Ok(piece))) => {
                body.extend_from_slice(&piece[..piece.len().min(MAX_ERROR_BODY - body.len())])
            }
            _ => break,
        }
    }
    let words = error_words(&String::from_utf8_lossy(&body));
    ProviderError::from_status(status, bounded_words(&words, key.map(Secret::expose)), retry_after)
}

/// The human part of an error body: `error.message` as both APIs have it, else the body when it is short text.
fn error_words(body: &str) -> String {
    let Ok(json) = serde_json::from_str::<serde_json::Value>(body) else {
        return if body.trim_start().starts_with('<') { String::new() } else { body.to_owned() };
    };
    [&json["error"]["message"], &json["message"], &json["error"], &json["detail"]]
        .into_iter()
        .find_map(|value| value.as_str())
        .unwrap_or_default()
        .to_owned()
}

/// The body of a running answer, read as server-sent events. Dropping it closes the connection or the HTTP/2
/// stream, which is how a provider learns of a cancellation.
pub(crate) struct Events {
    body: BoxStream<'static, Result<Bytes, ProviderError>>,
    reader: sse::Reader,
    idle: Duration,
}

impl Events {
    /// The next event; `None` when the body has ended.
    pub(crate) async fn next(&mut self) -> Result<Option<sse::Event>, ProviderError> {
        loop {
            if let Some(event) = self.reader.pop() {
                return Ok(Some(event));
            }
            match timeout(self.idle, self.body.next()).await {
                Err(_) => return Err(ProviderError::Silent { waited: self.idle }),
                Ok(None) => return Ok(None),
                Ok(Some(piece)) => {
                    self.reader.push(&piece?).map_err(|error| ProviderError::Garbled(error.to_string()))?;
                }
            }
        }
    }
}

/// What one provider's API says in its events. Pure: the network is elsewhere.
pub(super) trait Dialect: Send + 'static {
    /// Takes one event and adds what it means to `ready`; says whether the answer is complete.
    fn on_event(&mut self, event: &sse::Event, ready: &mut VecDeque<Event>) -> Result<Flow, ProviderError>;

    /// The body has ended without a last word of the API's own.
    fn on_end(&mut self, ready: &mut VecDeque<Event>) -> Result<(), ProviderError>;
}

/// Whether more of the answer is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    More,
    Complete,
}

/// The answer that `events` carry in `dialect`.
pub(super) fn answer(events: Events, dialect: impl Dialect) -> EventStream {
    let start = (events, dialect, VecDeque::new(), Flow::More);
    stream::try_unfold(start, |(mut events, mut dialect, mut ready, mut flow)| async move {
        loop {
            if let Some(event) = ready.pop_front() {
                return Ok(Some((event, (events, dialect, ready, flow))));
            }
            if flow == Flow::Complete {
                return Ok(None);
            }
            match events.next().await? {
                Some(event) => flow = dialect.on_event(&event, &mut ready)?,
                None => {
                    dialect.on_end(&mut ready)?;
                    flow = Flow::Complete;
                }
            }
        }
    })
    .into_stream()
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_goes_behind_the_one_the_base_url_has() {
        for (base, joined) in [
            ("http://h:1", "http://h:1/chat/completions"),
            ("http://h:1/v1", "http://h:1/v1/chat/completions"),
            ("https://h/v1/", "https://h/v1/chat/completions"),
            ("https://h/a/b?version=2", "https://h/a/b/chat/completions?version=2"),
        ] {
            assert_eq!(join(&base.parse().unwrap(), "chat/completions").as_str(), joined);
        }
    }

    #[test]
    fn error_words_come_from_where_the_apis_put_them() {
        assert_eq!(error_words(r#"{"error":{"message":"no such model","type":"x"}}"#), "no such model");
        assert_eq!(error_words(r#"{"type":"error","error":{"type":"x","message":"busy"}}"#), "busy");
        assert_eq!(error_words(r#"{"error":"plain"}"#), "plain");
        assert_eq!(error_words("<html>bad gateway</html>"), "");
        assert_eq!(error_words("upstream gone"), "upstream gone");
        assert_eq!(error_words(r#"{"surprise":1}"#), "");
    }
}
