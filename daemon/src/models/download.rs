//! The one downloader: bytes of an address into a part, from where it stopped, with retries. What a response means is
//! decided by pure functions; whether the bytes are the right ones is decided later, by their digest.

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::{StatusCode, Url};
use synesis_supervise::Backoff;
use tokio::time::{sleep, timeout};

use super::ModelsError;
use super::part::Part;
use super::remote::{Remote, RemoteError, refusal};

/// Between two pieces of a body.
const STALL: Duration = Duration::from_secs(60);
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(30) };
/// Failures in a row without a single new byte.
const TRIES: u32 = 6;

/// Hears about a download.
pub(super) trait Watcher: Send {
    /// The source says how long the file is, and what it thinks its digest is. An error ends the download.
    fn begins(&mut self, total: Option<u64>, here: u64) -> Result<(), ModelsError>;
    /// So many bytes are here.
    fn received(&mut self, here: u64) -> Result<(), ModelsError>;
}

/// What the source said of the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) sha256: Option<String>,
}

/// What to do with a response.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// Its bytes follow those that are here.
    Append { total: Option<u64> },
    /// Its bytes are the whole file.
    Whole { total: Option<u64> },
    /// All bytes are here.
    Complete,
    /// What is here is of no use: ask again without a range.
    Anew,
    /// It is no answer to the question.
    Refused,
}

/// Fetches `url` into `part`. `pinned`: the digest is known, so that bytes of another file would be noticed.
pub(super) async fn download(
    remote: &Remote,
    url: &Url,
    part: &mut Part,
    pinned: bool,
    watcher: &mut dyn Watcher,
) -> Result<Told, ModelsError> {
    let (mut failures, mut told) = (0, Told::default());
    loop {
        let before = part.length();
        let error = match attempt(remote, url, part, pinned, watcher, &mut told).await {
            Ok(()) => return Ok(told),
            Err(ModelsError::Remote(error)) if error.is_transient() => error,
            Err(error) => return Err(error),
        };
        failures = if part.length() > before { 1 } else { failures + 1 };
        if failures >= TRIES {
            return Err(error.into());
        }
        let wait = BACKOFF.delay(failures - 1, &mut rand::rng()).max(error.retry_after().unwrap_or_default());
        tracing::info!(
            error = crate::log::chain(&error),
            here = part.length(),
            ?wait,
            "a pull goes on in a moment"
        );
        sleep(wait).await;
    }
}

async fn attempt(
    remote: &Remote,
    url: &Url,
    part: &mut Part,
    pinned: bool,
    watcher: &mut dyn Watcher,
    told: &mut Told,
) -> Result<(), ModelsError> {
    let whole = part.notes.total.filter(|total| *total == part.length() && *total > 0);
    if whole.is_some() {
        // It was cut off after the last byte; the digest has the last word.
        return watcher.begins(whole, part.length());
    }
    let question = question(part.length(), part.notes.validator.as_deref(), pinned);
    let mut answer = remote.fetch(url, &question).await?;
    let mut verdict = judge(&answer.response, part);
    if verdict == Verdict::Anew {
        answer = remote.fetch(url, &HeaderMap::new()).await?;
        part.restart().await.map_err(ModelsError::Store)?;
        verdict = judge(&answer.response, part);
    }
    told.sha256 = told.sha256.take().or(answer.linked_sha256);
    let (status, host) = (answer.response.status(), answer.host);
    let total = match verdict {
        Verdict::Complete => return watcher.begins(Some(part.length()), part.length()),
        Verdict::Append { total } => total,
        Verdict::Whole { total } => {
            part.restart().await.map_err(ModelsError::Store)?;
            total
        }
        Verdict::Anew | Verdict::Refused => {
            return Err(refusal(host, status, answer.response.headers()).into());
        }
    };
    watcher.begins(total, part.length())?;
    let validator = validator(answer.response.headers());
    part.note(validator, total).await.map_err(ModelsError::Store)?;
    let mut body = answer.response.bytes_stream();
    loop {
        let piece = match timeout(STALL, body.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(source))) => {
                return Err(RemoteError::Broken { host, source: source.without_url() }.into());
            }
            Ok(None) => break,
            Err(_) => return Err(RemoteError::Stalled { host, after: STALL }.into()),
        };
        if total.is_some_and(|total| part.length().saturating_add(piece.len() as u64) > total) {
            part.restart().await.map_err(ModelsError::Store)?;
            return Err(RemoteError::Nonsense { host, what: "sent more than it announced" }.into());
        }
        part.append(&piece).await.map_err(ModelsError::Store)?;
        watcher.received(part.length())?;
    }
    part.flush().await.map_err(ModelsError::Store)?;
    match total {
        Some(total) if part.length() < total => Err(RemoteError::CutShort { host }.into()),
        _ => Ok(()),
    }
}

/// The headers that ask for what is missing. Without a validator a rest is asked for only when the digest of the whole
/// is known: else nobody would notice that the file has changed.
fn question(here: u64, validator: Option<&str>, pinned: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if here == 0 || (validator.is_none() && !pinned) {
        return headers;
    }
    let range = HeaderValue::try_from(format!("bytes={here}-"));
    let condition = validator.map(HeaderValue::try_from).transpose();
    if let (Ok(range), Ok(condition)) = (range, condition) {
        headers.insert(RANGE, range);
        if let Some(condition) = condition {
            headers.insert(IF_RANGE, condition);
        }
    }
    headers
}

fn judge(response: &reqwest::Response, part: &Part) -> Verdict {
    verdict(response.status(), response.headers(), part.length(), part.notes.total)
}

/// What a response means when `here` bytes are here and the file was known to have `total`.
fn verdict(status: StatusCode, headers: &HeaderMap, here: u64, total: Option<u64>) -> Verdict {
    let range = text(headers, CONTENT_RANGE).and_then(content_range);
    match status {
        StatusCode::OK => {
            Verdict::Whole { total: text(headers, CONTENT_LENGTH).and_then(|text| text.parse().ok()) }
        }
        StatusCode::PARTIAL_CONTENT => match range {
            Some(Range { first: Some(first), total: now })
                if first == here && now.is_none_or(|now| total.is_none_or(|total| now == total)) =>
            {
                Verdict::Append { total: now.or(total) }
            }
            _ => Verdict::Anew,
        },
        StatusCode::RANGE_NOT_SATISFIABLE => match range.and_then(|range| range.total) {
            Some(now) if now == here && here > 0 => Verdict::Complete,
            _ => Verdict::Anew,
        },
        _ => Verdict::Refused,
    }
}

/// `bytes 5-9/10`, `bytes 5-9/*` or `bytes */10`.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: Option<u64>,
    total: Option<u64>,
}

fn content_range(text: &str) -> Option<Range> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    let first = if range == "*" { None } else { Some(range.split_once('-')?.0.parse().ok()?) };
    Some(Range { first, total })
}

/// Weak ETags do not promise the same bytes.
fn validator(headers: &HeaderMap) -> Option<String> {
    let strong = text(headers, ETAG).filter(|tag| !tag.starts_with("W/") && !tag.is_empty());
    strong.or_else(|| text(headers, LAST_MODIFIED)).map(str::to_owned)
}

fn text(headers: &HeaderMap, name: reqwest::header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rows: &[(reqwest::header::HeaderName, &'static str)]) -> HeaderMap {
        rows.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_rest_is_asked_for_only_when_a_change_would_be_noticed() {
        assert!(question(0, Some("\"v\""), true).is_empty());
        assert!(question(5, None, false).is_empty());
        let plain = question(5, None, true);
        assert_eq!((plain[RANGE].to_str().unwrap(), plain.get(IF_RANGE)), ("bytes=5-", None));
        assert_eq!(question(5, Some("\"v\""), false)[IF_RANGE], "\"v\"");
        assert!(question(5, Some("a\nb"), true).is_empty(), "a damaged note is no header");
    }

    #[test]
    fn a_rest_that_fits_is_appended() {
        let range = headers(&[(CONTENT_RANGE, "bytes 5-9/10")]);
        for known in [None, Some(10)] {
            assert_eq!(
                verdict(StatusCode::PARTIAL_CONTENT, &range, 5, known),
                Verdict::Append { total: Some(10) }
            );
        }
        let open = headers(&[(CONTENT_RANGE, "bytes 5-9/*")]);
        assert_eq!(
            verdict(StatusCode::PARTIAL_CONTENT, &open, 5, Some(10)),
            Verdict::Append { total: Some(10) }
        );
    }

    #[test]
    fn a_rest_of_something_else_is_asked_for_anew() {
        for (value, here, total) in [
            ("bytes 4-9/10", 5, Some(10)),
            ("bytes 5-9/11", 5, Some(10)),
            ("bytes nonsense", 5, None),
            ("chunks 5-9/10", 5, Some(10)),
            ("bytes 99999999999999999999-9/10", 5, Some(10)),
        ] {
            let headers = headers(&[(CONTENT_RANGE, value)]);
            assert_eq!(verdict(StatusCode::PARTIAL_CONTENT, &headers, here, total), Verdict::Anew, "{value}");
        }
        assert_eq!(verdict(StatusCode::PARTIAL_CONTENT, &HeaderMap::new(), 5, None), Verdict::Anew);
    }

    #[test]
    fn a_source_that_ignores_the_range_sends_the_whole() {
        let length = headers(&[(CONTENT_LENGTH, "10")]);
        assert_eq!(verdict(StatusCode::OK, &length, 5, Some(10)), Verdict::Whole { total: Some(10) });
        assert_eq!(verdict(StatusCode::OK, &HeaderMap::new(), 0, None), Verdict::Whole { total: None });
    }

    #[test]
    fn a_range_behind_the_end_is_a_complete_file_or_another_one() {
        let range = headers(&[(CONTENT_RANGE, "bytes */10")]);
        let judge = |here| verdict(StatusCode::RANGE_NOT_SATISFIABLE, &range, here, Some(10));
        assert_eq!(judge(10), Verdict::Complete);
        assert_eq!(judge(12), Verdict::Anew);
        assert_eq!(verdict(StatusCode::RANGE_NOT_SATISFIABLE, &HeaderMap::new(), 10, None), Verdict::Anew);
    }

    #[test]
    fn anything_else_is_refused() {
        for status in [StatusCode::NOT_FOUND, StatusCode::NO_CONTENT, StatusCode::BAD_GATEWAY] {
            assert_eq!(verdict(status, &HeaderMap::new(), 0, None), Verdict::Refused);
        }
    }

    #[test]
    fn only_a_strong_validator_promises_the_same_bytes() {
        assert_eq!(
            validator(&headers(&[(ETAG, "\"v\""), (LAST_MODIFIED, "then")])).as_deref(),
            Some("\"v\"")
        );
        assert_eq!(
            validator(&headers(&[(ETAG, "W/\"v\""), (LAST_MODIFIED, "then")])).as_deref(),
            Some("then")
        );
        assert_eq!(validator(&headers(&[(ETAG, "W/\"v\"")])), None);
    }
}
