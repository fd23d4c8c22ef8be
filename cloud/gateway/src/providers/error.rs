//! What can go wrong at a provider. Whether trying again can help is a property of the error, not of its text.

use std::time::Duration;

/// The most characters of a provider's own words that are passed on.
const MAX_MESSAGE: usize = 300;

/// A failed call to a provider. `Display` may carry the provider's words, which can quote the prompt: it goes to
/// the device that asked, never to the log; the log gets [`ProviderError::class`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProviderError {
    /// No connection could be made, or it broke before the answer began.
    #[error("the model provider cannot be reached")]
    Unreachable,
    /// The provider kept quiet for too long.
    #[error("the model provider sent nothing for {} s", .waited.as_secs())]
    Silent { waited: Duration },
    /// The provider has too much to do, or a fault of its own (429 and 5xx).
    #[error("the model provider is overloaded or failing (status {status}){}", quoted(.message))]
    Failing { status: u16, message: String, retry_after: Option<Duration> },
    /// The provider does not accept the gateway's key (401 and 403). Its words are dropped: they quote the key.
    #[error("the model provider does not accept the gateway's credentials (status {status})")]
    Credentials { status: u16 },
    /// The provider refuses this request (every other status).
    #[error("the model provider refused the request (status {status}){}", quoted(.message))]
    Refused { status: u16, message: String },
    /// The model process refuses this request.
    #[error("the model refused the request{}", quoted(.message))]
    Declined { message: String },
    /// The model cannot use the adapter.
    #[error("the model cannot use the adapter{}", quoted(.message))]
    Unfit { message: String },
    /// The prompt and the answer do not fit the model's context.
    #[error("the prompt does not fit the model{}", quoted(.message))]
    TooLong { message: String },
    /// The provider reported a fault in the middle of the answer.
    #[error("the model provider gave up in the middle of the answer{}", quoted(.message))]
    BrokeOff { message: String },
    /// The stream ended before the answer did.
    #[error("the model provider's answer ended before it was complete")]
    Truncated,
    /// What came is not what the provider's API promises.
    #[error("the model provider sent something that is not its protocol: {0}")]
    Garbled(String),
    /// The model process has as many requests as it takes.
    #[error("the model has too much to do{}", quoted(.message))]
    Busy { message: String, retry_after: Option<Duration> },
    /// The model process is starting, restarting, or has no model.
    #[error("the model is not ready: {0}")]
    NotReady(String),
}

fn quoted(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl ProviderError {
    /// Whether the same request may succeed a little later.
    pub(crate) const fn retryable(&self) -> bool {
        match self {
            Self::Unreachable
            | Self::Silent { .. }
            | Self::Failing { .. }
            | Self::BrokeOff { .. }
            | Self::Truncated
            | Self::Busy { .. }
            | Self::NotReady(_) => true,
            Self::Credentials { .. }
            | Self::Refused { .. }
            | Self::Declined { .. }
            | Self::Unfit { .. }
            | Self::TooLong { .. }
            | Self::Garbled(_) => false,
        }
    }

    /// When the provider asks to be left alone for a while.
    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Failing { retry_after, .. } | Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// A word for the log, free of anything the provider or the prompt said.
    pub(crate) const fn class(&self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Silent { .. } => "silent",
            Self::Failing { .. } => "failing",
            Self::Credentials { .. } => "credentials",
            Self::Refused { .. } => "refused",
            Self::Declined { .. } => "declined",
            Self::Unfit { .. } => "adapter_unfit",
            Self::TooLong { .. } => "too_long",
            Self::BrokeOff { .. } => "broke_off",
            Self::Truncated => "truncated",
            Self::Garbled(_) => "garbled",
            Self::Busy { .. } => "busy",
            Self::NotReady(_) => "not_ready",
        }
    }

    /// The HTTP status, when there was one.
    pub(crate) const fn status(&self) -> Option<u16> {
        match self {
            Self::Failing { status, .. } | Self::Credentials { status } | Self::Refused { status, .. } => {
                Some(*status)
            }
            _ => None,
        }
    }

    /// The error that an HTTP status stands for.
    pub(crate) fn from_status(status: u16, message: String, retry_after: Option<Duration>) -> Self {
        match status {
            401 | 403 => Self::Credentials { status },
            408 | 409 | 425 | 429 | 500.. => Self::Failing { status, message, retry_after },
            413 => Self::TooLong { message },
            _ => Self::Refused { status, message },
        }
    }
}

/// A provider's words, made safe to pass on: one line, bounded, and without the key should it be in there.
pub(crate) fn bounded_words(words: &str, key: Option<&str>) -> String {
    let words = match key {
        Some(key) if !key.is_empty() => words.replace(key, "(..)"),
        _ => words.to_owned(),
    };
    let line: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.trim();
    if line.chars().count() <= MAX_MESSAGE {
        return line.to_owned();
    }
    let mut cut: String = line.chars().take(MAX_MESSAGE).collect();
    cut.push('\u{2026}');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_say_whether_trying_again_can_help() {
        for (status, retryable) in [
            (400, false),
            (401, false),
            (403, false),
            (404, false),
            (408, true),
            (413, false),
            (422, false),
            (429, true),
            (500, true),
            (502, true),
            (503, true),
            (529, true),
        ] {
            let error = ProviderError::from_status(status, String::new(), None);
            assert_eq!(error.retryable(), retryable, "{status}");
        }
    }

    #[test]
    fn words_are_one_bounded_line_without_the_key() {
        let words = format!("bad key sk-123\n{}", "x".repeat(1000));
        let safe = bounded_words(&words, Some("sk-123"));
        assert!(safe.starts_with("bad key (..) xxx"), "{safe}");
        assert_eq!(safe.chars().count(), MAX_MESSAGE + 1);
    }

    #[test]
    fn refused_credentials_carry_no_words_of_the_provider() {
        let error = ProviderError::from_status(401, "Incorrect API key provided: sk-12***".to_owned(), None);
        assert!(!error.to_string().contains("sk-"), "{error}");
    }
}
