//! The bearer token that opens the loopback port: a file that only this user can read, of which nothing but a hash is
//! kept in memory.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::durable;

/// Of a token that is made here.
const RANDOM_BYTES: usize = 32;
/// Looks like what clients and secret scanners expect of a key.
const PREFIX: &str = "sk-synesis-";
/// A shorter one could be guessed.
const SHORTEST: usize = 16;
const LONGEST: u64 = 4096;

/// There is no token to open the port with.
#[derive(Debug, Error)]
pub(super) enum TokenError {
    #[error("the token file {} cannot be read", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the token file {} cannot be made", .path.display())]
    NotMade { path: PathBuf, source: io::Error },
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
    #[error("the token file {} can be read by every user of this machine", .path.display())]
    Open { path: PathBuf },
    #[error("the token file {} does not hold one line of at least {SHORTEST} printable characters", .path.display())]
    NotAToken { path: PathBuf },
}

impl TokenError {
    /// What to do about it.
    pub(super) fn next_step(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "make openai.token_file readable for the user that runs synesisd",
            Self::NotMade { .. } => "check the disk below paths.state_dir, or set openai.token_file",
            Self::Random(_) => "look at the system's log",
            Self::Open { .. } => "take it away from others with: chmod o-rwx FILE",
            Self::NotAToken { .. } => "write a long random word into it, or leave openai.token_file out",
        }
    }
}

/// What a client has to know.
#[derive(Clone)]
pub(super) struct Token {
    sha256: [u8; 32],
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// The token in a file that somebody else takes care of.
    ///
    /// # Errors
    /// It is not there, open to everybody, or no token.
    pub(super) fn read(path: &Path) -> Result<Self, TokenError> {
        let unreadable = |source| TokenError::Unreadable { path: path.to_owned(), source };
        let found = fs::metadata(path).map_err(unreadable)?;
        if found.mode() & 0o007 != 0 {
            return Err(TokenError::Open { path: path.to_owned() });
        }
        let not_a_token = || TokenError::NotAToken { path: path.to_owned() };
        if found.len() > LONGEST {
            return Err(not_a_token());
        }
        let text = Zeroizing::new(fs::read(path).map_err(unreadable)?);
        let token = text.trim_ascii();
        if token.len() < SHORTEST || !token.iter().all(u8::is_ascii_graphic) {
            return Err(not_a_token());
        }
        Ok(Self { sha256: Sha256::digest(token).into() })
    }

    /// The token in `path`, which is made when it is not there.
    ///
    /// # Errors
    /// As [`Self::read`], and when it cannot be made.
    pub(super) fn read_or_make(path: &Path) -> Result<Self, TokenError> {
        if !path.exists() {
            make(path)?;
            tracing::info!(file = %path.display(), "made a token for the OpenAI-compatible endpoint");
        }
        Self::read(path)
    }

    /// Whether this is it. Takes the same time for every wrong one of the same length.
    pub(super) fn is(&self, given: &[u8]) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        self.sha256.ct_eq(&given).into()
    }
}

fn make(path: &Path) -> Result<(), TokenError> {
    let mut random = Zeroizing::new([0; RANDOM_BYTES]);
    getrandom::fill(&mut *random).map_err(TokenError::Random)?;
    let mut digits = Zeroizing::new([0; 2 * RANDOM_BYTES]);
    // The two lengths belong together, so this cannot fail; were it to, there would be no token.
    hex::encode_to_slice(random.as_slice(), &mut *digits)
        .map_err(|_| TokenError::NotAToken { path: path.to_owned() })?;
    let content = Zeroizing::new([PREFIX.as_bytes(), &*digits, b"\n"].concat());
    durable::replace(path, &content).map_err(|source| TokenError::NotMade { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_token_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("openai-token");
        Token::read_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.len(), PREFIX.len() + 2 * RANDOM_BYTES + 1);
        let again = Token::read_or_make(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "it is not made again");
        assert!(again.is(text.trim().as_bytes()));
        let other = folder.path().join("other");
        Token::read_or_make(&other).unwrap();
        assert_ne!(fs::read_to_string(&other).unwrap(), text);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing half made stays");
    }

    #[test]
    fn only_the_token_itself_opens_the_port() {
        let (_folder, path) = file("a-secret-of-mine-1234\n", 0o640);
        let token = Token::read(&path).unwrap();
        assert!(token.is(b"a-secret-of-mine-1234"));
        for wrong in ["", "a-secret-of-mine-123", "a-secret-of-mine-12345", "a-secret-of-mine-1234\n"] {
            assert!(!token.is(wrong.as_bytes()), "{wrong:?}");
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn a_file_that_is_no_token_is_refused_without_saying_what_is_in_it() {
        for (text, mode) in [
            ("", 0o600),
            ("short", 0o600),
            ("two words of some length", 0o600),
            ("long-enough-by-far", 0o604),
        ] {
            let (_folder, path) = file(text, mode);
            let error = Token::read(&path).unwrap_err();
            assert!(text.is_empty() || !error.to_string().contains(text), "{error}");
            assert!(!error.next_step().is_empty());
        }
        let missing = Token::read(Path::new("/nonexistent/token")).unwrap_err();
        assert!(matches!(missing, TokenError::Unreadable { .. }), "{missing}");
        let missing = Token::read_or_make(Path::new("/nonexistent/token")).unwrap_err();
        assert!(matches!(missing, TokenError::NotMade { .. }), "{missing}");
    }
}
