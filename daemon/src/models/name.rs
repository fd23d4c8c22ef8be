//! Names of models: by the rules of adapters' names, because they stand in the same places: paths, URLs, shells.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::adapters::AdapterName;

const LONGEST: usize = 64;
/// A name that means "whichever fits this machine" where a model is pulled.
const AUTO: &str = "auto";

/// A valid name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName(String);

/// Not a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{}\" is no model name", .0.escape_debug())]
pub struct NotAName(pub String);

impl ModelName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name made from a file's: lower case, without the extension, other characters as dashes.
    pub(super) fn of_file(file: &str) -> Result<Self, NotAName> {
        let stem = match file.rsplit_once('.') {
            Some((stem, "gguf" | "GGUF")) => stem,
            _ => file,
        };
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let plain = |c: char| if letter(c) || matches!(c, '.' | '_' | '-') { c } else { '-' };
        let name: String = stem.chars().map(|c| plain(c.to_ascii_lowercase())).collect();
        let name: String = name.trim_start_matches(|c| !letter(c)).chars().take(LONGEST).collect();
        Self::try_from(name)
    }
}

impl TryFrom<String> for ModelName {
    type Error = NotAName;

    fn try_from(name: String) -> Result<Self, NotAName> {
        let shown = || NotAName(name.chars().take(LONGEST).collect());
        if name == AUTO {
            return Err(shown());
        }
        AdapterName::try_from(name.clone()).map(|name| Self(name.into())).map_err(|_| shown())
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> Self {
        name.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_plain_names_pass() {
        for good in ["a", "smollm2-135m.q4_1"] {
            assert_eq!(ModelName::try_from(good.to_owned()).unwrap().as_str(), good);
        }
        for bad in ["", "auto", "none", ".a", "A", "a/b", "../x", "a b"] {
            assert!(ModelName::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_files_name_makes_a_name() {
        for (file, name) in [
            ("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct.q4_1"),
            ("-My Model (1).GGUF", "my-model--1-"),
            ("plain", "plain"),
        ] {
            assert_eq!(ModelName::of_file(file).unwrap().as_str(), name);
        }
        let long = "a".repeat(100);
        assert_eq!(ModelName::of_file(&long).unwrap().as_str().len(), 64);
        for bad in ["", ".gguf", "___", "ß.gguf", "auto.gguf"] {
            assert!(ModelName::of_file(bad).is_err(), "{bad:?}");
        }
    }
}
