//! Names of adapters: short, lower case, safe in a path, a URL and a shell.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

const LONGEST: usize = 64;
/// Means "the base model" in a request.
const RESERVED: &str = "none";

/// A valid name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AdapterName(String);

/// Not a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{}\" is no adapter name", .0.escape_debug())]
pub struct NotAName(pub String);

impl AdapterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AdapterName {
    type Error = NotAName;

    fn try_from(name: String) -> Result<Self, NotAName> {
        let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let valid = name.len() <= LONGEST
            && name != RESERVED
            && name.bytes().next().is_some_and(letter)
            && name.bytes().all(|b| letter(b) || matches!(b, b'.' | b'_' | b'-'));
        if valid { Ok(Self(name)) } else { Err(NotAName(name.chars().take(LONGEST).collect())) }
    }
}

impl From<AdapterName> for String {
    fn from(name: AdapterName) -> Self {
        name.0
    }
}

impl fmt::Display for AdapterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_plain_names_pass() {
        let longest = "a".repeat(64);
        for good in ["a", "0", "tone-fr_2.1", longest.as_str()] {
            assert_eq!(AdapterName::try_from(good.to_owned()).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(65);
        for bad in ["", "none", ".a", "-a", "_a", "A", "a b", "a/b", "../x", "ä", "a\n", too_long.as_str()] {
            assert!(AdapterName::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
