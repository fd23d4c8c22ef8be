//! A file somewhere else, over HTTP: who is asked, with which headers, and how far a redirect is followed.

use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use thiserror::Error;
use tokio::time::timeout;

use super::digest::is_sha256;
use super::source::is_loopback;
use super::token::Token;

const CONNECT: Duration = Duration::from_secs(10);
/// From a request to the head of its response.
const HEAD: Duration = Duration::from_secs(30);
/// A hub answers, a proxy may, and its store has the bytes.
const REDIRECTS: usize = 5;
/// Longest that a source may send us away for.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// The hub's digest of a large file, on the response that redirects to its bytes.
const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");

/// Why a source does not give what it was asked for.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// No connection, or it broke.
    #[error("{host} cannot be reached, or the connection broke")]
    Broken {
        /// Who.
        host: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// Nothing came for too long.
    #[error("{host} sent nothing for {} s", .after.as_secs())]
    Stalled {
        /// Who.
        host: String,
        /// For how long.
        after: Duration,
    },
    /// It said how long the file is, and stopped before.
    #[error("{host} ended the file early")]
    CutShort {
        /// Who.
        host: String,
    },
    /// It has trouble of its own.
    #[error("{host} answered {status}")]
    Trouble {
        /// Who.
        host: String,
        /// What.
        status: StatusCode,
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
    },
    /// It wants to know who asks.
    #[error("{host} wants an access token, or does not accept this one ({status})")]
    Denied {
        /// Who.
        host: String,
        /// What.
        status: StatusCode,
    },
    /// Not there.
    #[error("{host} does not have this file or repository")]
    NotThere {
        /// Who.
        host: String,
    },
    /// Something that is no file.
    #[error("{host} answered {status}, which is no file")]
    Unexpected {
        /// Who.
        host: String,
        /// What.
        status: StatusCode,
    },
    /// It sends us where we do not go.
    #[error("{host} redirects {why}")]
    Redirect {
        /// Who.
        host: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It says what makes no sense.
    #[error("{host} {what}")]
    Nonsense {
        /// Who.
        host: String,
        /// What it did.
        what: &'static str,
    },
    /// There is no HTTP client.
    #[error("no HTTPS client can be made; are the system's CA certificates installed?")]
    Client(#[source] reqwest::Error),
}

impl RemoteError {
    /// Whether the same request may succeed in a moment.
    pub(super) fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Broken { .. } | Self::Stalled { .. } | Self::CutShort { .. } | Self::Trouble { .. }
        )
    }

    /// When the source wants to be asked again.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Trouble { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// An HTTP client, and what it may show to whom.
pub(super) struct Remote {
    client: Client,
    /// Where plain HTTP is spoken because somebody configured it, and where the token goes.
    hub: Option<Url>,
    token: Option<Token>,
}

/// The response to a request, after redirects.
pub(super) struct Answer {
    pub(super) response: Response,
    /// Who answered.
    pub(super) host: String,
    /// The hub's digest of the file, when it said one.
    pub(super) linked_sha256: Option<String>,
}

impl Remote {
    /// For addresses like `first`.
    pub(super) fn new(first: &Url, hub: Option<Url>, token: Option<Token>) -> Result<Self, RemoteError> {
        // The process may have one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            let agent = concat!("synesisd/", env!("CARGO_PKG_VERSION"));
            let client =
                Client::builder().connect_timeout(CONNECT).redirect(Policy::none()).user_agent(agent);
            // A proxy has nothing to do with this very machine.
            if is_loopback(first) { client.no_proxy() } else { client }
        };
        let client = match (builder().build(), first.scheme()) {
            (Ok(client), _) => client,
            // Without CA certificates plain HTTP still works, and HTTPS fails with a clear error.
            (Err(_), "http") => {
                builder().tls_certs_only(std::iter::empty()).build().map_err(RemoteError::Client)?
            }
            (Err(error), _) => return Err(RemoteError::Client(error)),
        };
        Ok(Self { client, hub, token })
    }

    /// Asks for `url`, following redirects. The token goes to the hub and to nobody it sends us to.
    pub(super) async fn fetch(&self, url: &Url, headers: &HeaderMap) -> Result<Answer, RemoteError> {
        let (mut url, mut linked_sha256) = (url.clone(), None);
        for _ in 0..=REDIRECTS {
            let host = host_of(&url);
            let mut headers = headers.clone();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            if let Some(token) = self.token_for(&url) {
                headers.insert(AUTHORIZATION, token);
            }
            let sending = self.client.get(url.clone()).headers(headers).send();
            let response = match timeout(HEAD, sending).await {
                Ok(Ok(response)) => response,
                Ok(Err(source)) => return Err(RemoteError::Broken { host, source: source.without_url() }),
                Err(_) => return Err(RemoteError::Stalled { host, after: HEAD }),
            };
            linked_sha256 = linked_sha256.or_else(|| linked_digest(response.headers()));
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return Ok(Answer { response, host, linked_sha256 });
            }
            url = self.next(&url, response.headers()).map_err(|why| RemoteError::Redirect { host, why })?;
        }
        Err(RemoteError::Redirect { host: host_of(&url), why: "more often than makes sense" })
    }

    fn token_for(&self, url: &Url) -> Option<HeaderValue> {
        let hub = self.hub.as_ref()?;
        let token = self.token.as_ref()?;
        (url.origin() == hub.origin()).then(|| token.header()).flatten()
    }

    fn next(&self, from: &Url, headers: &HeaderMap) -> Result<Url, &'static str> {
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).ok_or("to nowhere")?;
        let to = from.join(location).map_err(|_| "to what is no address")?;
        let configured = self.hub.as_ref().is_some_and(|hub| hub.origin() == to.origin());
        // A source somewhere else has no business with what listens on this machine.
        if is_loopback(&to) && !is_loopback(from) {
            return Err("to this very machine");
        }
        match to.scheme() {
            "https" => Ok(to),
            "http" if from.scheme() == "http" && (is_loopback(&to) || configured) => Ok(to),
            _ => Err("to an address that is not https"),
        }
    }
}

/// The error that an answer is, unless it is one of those that a caller asked for.
pub(super) fn refusal(host: String, status: StatusCode, headers: &HeaderMap) -> RemoteError {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RemoteError::Denied { host, status },
        StatusCode::NOT_FOUND | StatusCode::GONE => RemoteError::NotThere { host },
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY => {
            RemoteError::Trouble { host, status, retry_after: retry_after(headers) }
        }
        _ if status.is_server_error() => {
            RemoteError::Trouble { host, status, retry_after: retry_after(headers) }
        }
        _ => RemoteError::Unexpected { host, status },
    }
}

pub(super) fn host_of(url: &Url) -> String {
    url.host_str().unwrap_or("the source").to_owned()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY))
}

fn linked_digest(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(LINKED_ETAG)?.to_str().ok()?.trim_matches('"').to_ascii_lowercase();
    is_sha256(&text).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn next(hub: Option<&str>, from: &str, to: &str) -> Result<String, &'static str> {
        let remote = Remote::new(&url("http://127.0.0.1/"), hub.map(url), None).unwrap();
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_str(to).unwrap())]);
        remote.next(&url(from), &headers).map(String::from)
    }

    #[tokio::test]
    async fn redirects_stay_https_and_away_from_this_machine() {
        assert_eq!(next(None, "https://a.example/x", "https://b.example/y").unwrap(), "https://b.example/y");
        assert_eq!(next(None, "https://a.example/x", "/y").unwrap(), "https://a.example/y");
        assert_eq!(
            next(None, "http://127.0.0.1:1/x", "http://127.0.0.1:2/y").unwrap(),
            "http://127.0.0.1:2/y"
        );
        for (from, to) in [
            ("https://a.example/x", "http://b.example/y"),
            ("https://a.example/x", "http://127.0.0.1/y"),
            ("https://a.example/x", "https://localhost/y"),
            ("https://a.example/x", "file:///etc/passwd"),
            ("http://127.0.0.1/x", "http://b.example/y"),
        ] {
            assert!(next(None, from, to).is_err(), "{from} -> {to}");
        }
        let hub = Some("http://hub.lan:8080");
        assert!(next(hub, "http://hub.lan:8080/x", "/y").is_ok(), "configured as http");
        assert!(next(hub, "http://hub.lan:8080/x", "http://cdn.lan/y").is_err());
    }

    #[tokio::test]
    async fn the_token_goes_to_the_hub_and_to_nobody_else() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hf_secret").unwrap();
        let token = Token::read(file.path()).await.unwrap();
        let hub = url("https://hub.example");
        let remote = Remote::new(&hub, Some(hub.clone()), Some(token)).unwrap();
        assert!(remote.token_for(&url("https://hub.example/a/b")).is_some());
        for other in [
            "https://cdn.example/a",
            "http://hub.example/a",
            "https://hub.example:444/a",
            "https://hub.example.evil/",
        ] {
            assert!(remote.token_for(&url(other)).is_none(), "{other}");
        }
    }

    #[test]
    fn what_a_status_means() {
        let judge =
            |status: u16| refusal("h".to_owned(), StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(judge(status).is_transient(), "{status}");
        }
        assert!(matches!(judge(401), RemoteError::Denied { .. }));
        assert!(matches!(judge(404), RemoteError::NotThere { .. }));
        assert!(matches!(judge(418), RemoteError::Unexpected { .. }));
        assert!(!judge(404).is_transient());
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("9999"))]);
        let later = refusal("h".to_owned(), StatusCode::SERVICE_UNAVAILABLE, &headers);
        assert_eq!(later.retry_after(), Some(LONGEST_RETRY));
    }
}
