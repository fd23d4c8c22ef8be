//! Where a model comes from, as users write it.

use std::fmt;

use reqwest::Url;
use thiserror::Error;

/// The hub that is asked when none is configured.
pub(super) const PUBLIC_HUB: &str = "https://huggingface.co";
const HUB: &str = "hf:";
const LONGEST: usize = 2048;

/// A source, as far as the text says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `hf:ORG/REPO[:QUANT][@REV]`: a repository of the hub.
    Hub(HubSource),
    /// An https address; http only for this very machine.
    Url(Url),
    /// The name of an entry of the catalogue.
    Catalogue(String),
    /// `auto`: the best entry of the catalogue that fits this machine.
    Auto,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSource {
    /// Such as `bartowski`.
    pub organisation: String,
    /// Such as `SmolLM2-360M-Instruct-GGUF`.
    pub repository: String,
    /// Such as `Q4_K_M`, or the name of a file; none: the preferred one that there is.
    pub quant: Option<String>,
    /// A branch, a tag or a commit; none: `main`.
    pub revision: Option<String>,
}

/// Not a source.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SourceError {
    /// Nothing is there.
    #[error("the source is empty")]
    Empty,
    /// Too long to be one.
    #[error("the source is longer than {LONGEST} bytes")]
    TooLong,
    /// `hf:` and something else.
    #[error("\"{}\" is not hf:ORG/REPO[:QUANT][@REV]", .0.escape_debug())]
    Hub(String),
    /// An address that makes no sense.
    #[error("the source is no address that can be fetched")]
    Url,
    /// Anybody on the way could change the file.
    #[error("the source is not https")]
    Insecure,
    /// A secret in an address ends up in logs and lists.
    #[error("the source has a user or a password in it")]
    Credentials,
}

impl Source {
    /// Understands `text`.
    ///
    /// # Errors
    /// It is no source.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        match text {
            "" => Err(SourceError::Empty),
            _ if text.len() > LONGEST => Err(SourceError::TooLong),
            "auto" => Ok(Self::Auto),
            _ => match text.strip_prefix(HUB) {
                Some(rest) => {
                    HubSource::parse(rest).map(Self::Hub).ok_or_else(|| SourceError::Hub(text.to_owned()))
                }
                None if text.contains("://") => address(text).map(Self::Url),
                None => Ok(Self::Catalogue(text.to_owned())),
            },
        }
    }
}

impl HubSource {
    /// What follows `hf:`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (text, revision) = match text.split_once('@') {
            Some((text, revision)) => (text, Some(revision)),
            None => (text, None),
        };
        let (repository, quant) = match text.split_once(':') {
            Some((repository, quant)) => (repository, Some(quant)),
            None => (text, None),
        };
        let (organisation, repository) = repository.split_once('/')?;
        let part = |text: &str| plain(text, |_| false);
        let path = |text: &str| {
            plain(text, |c| c == '/') && !text.split('/').any(|part| part.is_empty() || part == "..")
        };
        let valid =
            part(organisation) && part(repository) && quant.is_none_or(path) && revision.is_none_or(path);
        valid.then(|| Self {
            organisation: organisation.to_owned(),
            repository: repository.to_owned(),
            quant: quant.map(str::to_owned),
            revision: revision.map(str::to_owned),
        })
    }
}

impl fmt::Display for HubSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HUB}{}/{}", self.organisation, self.repository)
    }
}

fn plain(text: &str, more: impl Fn(char) -> bool) -> bool {
    !text.is_empty()
        && text != "."
        && text != ".."
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') || more(c))
}

fn address(text: &str) -> Result<Url, SourceError> {
    let url = Url::parse(text).map_err(|_| SourceError::Url)?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(SourceError::Url);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SourceError::Credentials);
    }
    if url.scheme() == "https" || is_loopback(&url) { Ok(url) } else { Err(SourceError::Insecure) }
}

/// Whether the address is on this very machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let number = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || number.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(text: &str) -> HubSource {
        match Source::parse(text) {
            Ok(Source::Hub(hub)) => hub,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_repository_may_have_a_quantisation_a_revision_both_or_none() {
        let plain = hub("hf:bartowski/SmolLM2-360M-Instruct-GGUF");
        assert_eq!(
            (plain.organisation.as_str(), plain.repository.as_str()),
            ("bartowski", "SmolLM2-360M-Instruct-GGUF")
        );
        assert_eq!((plain.quant, plain.revision), (None, None));
        let both = hub("hf:a/b:Q4_K_M@0123abc");
        assert_eq!((both.quant.as_deref(), both.revision.as_deref()), (Some("Q4_K_M"), Some("0123abc")));
        assert_eq!(hub("hf:a/b@refs/pr/1").revision.as_deref(), Some("refs/pr/1"));
        assert_eq!(hub("hf:a/b:sub/file.gguf").quant.as_deref(), Some("sub/file.gguf"));
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        for text in [
            "hf:",
            "hf:a",
            "hf:/b",
            "hf:a/",
            "hf:a/b/c",
            "hf:a/b:",
            "hf:a/b@",
            "hf:a/..",
            "hf:a/b@../x",
            "hf:a b/c",
            "hf:a/b:Q4?x",
            "hf:a/b#c",
            "hf:a/b@x@y",
        ] {
            assert_eq!(Source::parse(text), Err(SourceError::Hub(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn an_address_is_https_or_of_this_machine() {
        for text in
            ["https://example.com/m.gguf?x=1", "http://127.0.0.1:8/m", "http://localhost/m", "http://[::1]/m"]
        {
            assert!(matches!(Source::parse(text), Ok(Source::Url(_))), "{text}");
        }
        assert_eq!(Source::parse("http://example.com/m.gguf"), Err(SourceError::Insecure));
        assert_eq!(Source::parse("http://127.0.0.1.example.com/m"), Err(SourceError::Insecure));
        assert_eq!(Source::parse("https://user:secret@example.com/m"), Err(SourceError::Credentials));
        for text in ["ftp://example.com/m", "file:///etc/passwd", "https://", "://"] {
            assert_eq!(Source::parse(text), Err(SourceError::Url), "{text}");
        }
    }

    #[test]
    fn a_word_is_an_entry_of_the_catalogue() {
        assert_eq!(Source::parse("auto"), Ok(Source::Auto));
        assert_eq!(Source::parse("smollm2-360m"), Ok(Source::Catalogue("smollm2-360m".to_owned())));
        assert_eq!(Source::parse(""), Err(SourceError::Empty));
        assert_eq!(Source::parse(&"x".repeat(3000)), Err(SourceError::TooLong));
    }
}
