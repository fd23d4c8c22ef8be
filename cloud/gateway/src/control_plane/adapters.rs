//! What the control plane knows of adapters: records of files that the gateway keeps. An account never sees another's.

use uuid::Uuid;

/// What a device said of an adapter. Kept and shown; what is loaded is checked by the model process.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct AdapterFacts {
    /// Of the base model it was made for.
    pub(crate) architecture: String,
    pub(crate) rank: u32,
    pub(crate) alpha: f32,
    /// As its maker names it; may be empty.
    pub(crate) base_model: String,
}

/// A whole, verified file that is to be listed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewAdapter {
    pub(crate) name: String,
    pub(crate) sha256: AdapterDigest,
    pub(crate) size_bytes: u64,
    pub(crate) facts: AdapterFacts,
}

/// An adapter of an account.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AdapterRecord {
    pub(crate) adapter: NewAdapter,
    pub(crate) pushed_by: Uuid,
    pub(crate) pushed_at_ms: i64,
}

/// What an account may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AdapterQuota {
    /// Of all its files together; two names of one file count once.
    pub(crate) bytes: u64,
    /// Names and contents together.
    pub(crate) entries: u64,
}

/// What is gone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RemovedAdapters {
    pub(crate) account: String,
    pub(crate) records: Vec<AdapterRecord>,
    /// Files that no name of the account means any more.
    pub(crate) unused: Vec<AdapterDigest>,
}

/// The sha256 of a file: 64 lower case hex digits, and so a safe file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AdapterDigest(String);

impl AdapterDigest {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        digits.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for AdapterDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which adapter is meant. Of several contents under one name the newest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Digest(AdapterDigest),
    Name(String),
}

impl Wanted {
    /// What reads as a digest is one, also where it could be a name.
    pub(crate) fn parse(text: &str) -> Self {
        AdapterDigest::parse(text).map_or_else(|| Self::Name(text.to_owned()), Self::Digest)
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Digest(digest) => f.write_str(digest.as_str()),
            Self::Name(name) => write!(f, "{:?}", name.chars().take(64).collect::<String>()),
        }
    }
}
