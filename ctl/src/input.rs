//! What the user hands over: a prompt, a text, a small file. All are read here, on the user's side of the socket,
//! because the daemon cannot open the user's files. Everything is bounded before it is read.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, BufReader};

use crate::failure::Failure;

/// The longest text of one message. gRPC takes 4 MiB; the rest is room for the fields around it.
pub(crate) const MAX_TEXT_BYTES: u64 = (4 << 20) - (64 << 10);

/// Certificates, tokens and schemas are a few kilobytes.
const MAX_SMALL_FILE_BYTES: u64 = 1 << 20;

/// Where a text comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Stdin,
    File(PathBuf),
}

impl Source {
    /// `-` is standard input; so is nothing at all, unless that is a terminal where nobody expects to type.
    pub(crate) fn named(name: Option<PathBuf>) -> Result<Self, Failure> {
        match name {
            Some(path) if path == Path::new("-") => Ok(Self::Stdin),
            Some(path) => Ok(Self::File(path)),
            None if io::stdin().is_terminal() => Err(Failure::Usage {
                message: "no text given".to_owned(),
                next_step: "give a file, or - to type it (end with Ctrl-D), or pipe it in",
            }),
            None => Ok(Self::Stdin),
        }
    }

    /// How errors call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// Opens it for reading in lines.
    pub(crate) async fn open(&self) -> Result<Box<dyn AsyncBufRead + Send + Unpin>, Failure> {
        Ok(match self {
            Self::Stdin => Box::new(BufReader::new(tokio::io::stdin())),
            Self::File(path) => Box::new(BufReader::new(open(path).await?)),
        })
    }

    /// Reads it whole, as text.
    pub(crate) async fn text(&self) -> Result<String, Failure> {
        let reader = self.open().await?;
        read(reader, MAX_TEXT_BYTES, &self.name(), "split it into smaller texts").await
    }
}

/// Opens a file of the user.
pub(crate) async fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).await.map_err(|source| Failure::Unreadable { what: path.display().to_string(), source })
}

/// The prompt: the argument, or standard input for `-` and for nothing.
///
/// # Errors
/// [`Failure::EmptyPrompt`] for a prompt without text, before the daemon is asked anything.
pub(crate) async fn prompt(argument: Option<String>) -> Result<String, Failure> {
    let prompt = match argument {
        Some(prompt) if prompt != "-" => prompt,
        dash => {
            let text = Source::named(dash.map(PathBuf::from))?.text().await?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    match prompt.trim().is_empty() {
        true => Err(Failure::EmptyPrompt),
        false => Ok(prompt),
    }
}

/// A small text file: a certificate, a token, a schema.
pub(crate) async fn small_file(path: &Path) -> Result<String, Failure> {
    let name = path.display().to_string();
    read(open(path).await?, MAX_SMALL_FILE_BYTES, &name, "check that it is the right file").await
}

async fn read(
    reader: impl AsyncRead + Unpin,
    limit: u64,
    name: &str,
    next_step: &'static str,
) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells a text at the limit from one beyond it.
    let count = reader.take(limit + 1).read_to_end(&mut bytes).await;
    let count = count.map_err(|source| Failure::Unreadable { what: name.to_owned(), source })?;
    if count as u64 > limit {
        return Err(Failure::BadInput { what: format!("{name} is longer than {limit} bytes"), next_step });
    }
    String::from_utf8(bytes).map_err(|cause| Failure::BadInput {
        what: format!("{name} is not UTF-8 text: byte {} does not fit", cause.utf8_error().valid_up_to()),
        next_step: "convert it to UTF-8, with iconv for example",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_text(bytes: &[u8], limit: u64) -> Result<String, Failure> {
        read(bytes, limit, "the file", "do something").await
    }

    #[tokio::test]
    async fn a_text_at_the_limit_is_read_and_one_beyond_it_is_refused() {
        assert_eq!(read_text(b"1234", 4).await.ok().as_deref(), Some("1234"));
        let failure = read_text(b"12345", 4).await.expect_err("too long");
        assert!(failure.to_string().contains("longer than 4 bytes"), "{failure}");
    }

    #[tokio::test]
    async fn text_that_is_not_utf8_names_the_byte() {
        let failure = read_text(b"ab\xff", 10).await.expect_err("no text");
        assert_eq!((failure.exit().code(), failure.to_string().contains("byte 2")), (2, true), "{failure}");
    }

    #[tokio::test]
    async fn a_prompt_of_white_space_is_empty() {
        for prompt_text in ["", " ", "\n\t "] {
            let outcome = prompt(Some(prompt_text.to_owned())).await;
            assert!(matches!(outcome, Err(Failure::EmptyPrompt)), "{prompt_text:?}");
        }
    }

    #[test]
    fn a_dash_is_standard_input() {
        assert_eq!(Source::named(Some("-".into())).ok(), Some(Source::Stdin));
        assert_eq!(Source::named(Some("a".into())).ok(), Some(Source::File("a".into())));
    }
}
