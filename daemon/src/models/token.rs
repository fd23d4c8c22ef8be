//! The hub's access token: read from its file when it is needed, never shown, wiped when dropped.

use std::fmt;
use std::io;
use std::path::Path;

use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

/// A token of the hub.
pub(super) struct Token(Zeroizing<String>);

impl Token {
    /// The first line of `file`.
    pub(super) async fn read(file: &Path) -> io::Result<Self> {
        let text = Zeroizing::new(tokio::fs::read_to_string(file).await?);
        let line = text.lines().next().unwrap_or_default().trim();
        let valid = !line.is_empty() && line.bytes().all(|b| b.is_ascii_graphic());
        if !valid {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "there is no token in it"));
        }
        Ok(Self(Zeroizing::new(line.to_owned())))
    }

    /// For the header `Authorization`.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let text = Zeroizing::new(format!("Bearer {}", self.0.as_str()));
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_read_trimmed_and_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hf_secret \n").unwrap();
        let token = Token::read(file.path()).await.unwrap();
        assert_eq!(token.header().unwrap(), "Bearer hf_secret");
        assert!(!format!("{token:?} {:?}", token.header()).contains("secret"));
    }

    #[tokio::test]
    async fn a_file_without_a_token_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["", "\n", "a b", "ä"] {
            std::fs::write(file.path(), text).unwrap();
            assert!(Token::read(file.path()).await.is_err(), "{text:?}");
        }
        assert!(Token::read(Path::new("/no/such/file")).await.is_err());
    }
}
