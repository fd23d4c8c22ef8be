//! Why a configuration is not acceptable, which key is meant, and what to do.

use std::path::{Path, PathBuf};

use figment::error::Kind;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("the configuration {} cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{origin}: unknown key `{key}`{}", match nearest { Some(nearest) => format!("; did you mean `{nearest}`?"), None => String::new() })]
    UnknownKey { key: String, nearest: Option<String>, origin: String },
    #[error("{origin}: {what}{}", if key.is_empty() { String::new() } else { format!(" (key `{key}`)") })]
    Unparsable { key: String, what: String, origin: String },
    #[error("`{key}`: {what}")]
    BadValue { key: String, what: String, next_step: String },
}

impl ConfigError {
    pub(super) fn bad(key: impl Into<String>, what: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self::BadValue { key: key.into(), what: what.into(), next_step: next_step.into() }
    }

    /// What the operator can do about it.
    pub(crate) fn next_step(&self) -> String {
        match self {
            Self::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                "name the configuration with --config FILE, or make one with `synesis-gateway init --dir DIR`"
                    .into()
            }
            Self::Unreadable { .. } => "check the file's permissions".into(),
            Self::UnknownKey { nearest: Some(nearest), .. } => {
                format!("write `{nearest}`, or remove the key")
            }
            Self::UnknownKey { .. } => "remove the key".into(),
            Self::Unparsable { .. } => {
                "correct the file; the commented example of `init` shows every key".into()
            }
            Self::BadValue { next_step, .. } => next_step.clone(),
        }
    }

    /// The first problem figment found, with the key's full path and where it came from.
    pub(super) fn from_figment(error: figment::Error, file: &Path) -> Self {
        let Some(error) = error.into_iter().next() else {
            return Self::bad("", "the configuration cannot be read", "check the file");
        };
        let origin = error
            .metadata
            .as_ref()
            .map(|metadata| match &metadata.source {
                Some(source) => source.to_string(),
                None => metadata.name.to_string(),
            })
            .unwrap_or_else(|| file.display().to_string());
        let path = error.path.join(".");
        match error.kind {
            Kind::UnknownField(field, known) => {
                let prefix = path.strip_suffix(&field).unwrap_or(&path).trim_end_matches('.').to_owned();
                let full =
                    |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
                Self::UnknownKey { key: full(&field), nearest: nearest(&field, known).map(full), origin }
            }
            kind => Self::Unparsable { key: path, what: kind.to_string(), origin },
        }
    }
}

/// The name most like `wanted`. A typo is always nearer to its key than to any other.
pub(super) fn nearest<'a, S: AsRef<str>>(wanted: &str, known: &'a [S]) -> Option<&'a str> {
    let likeness = |name: &str| strsim::jaro_winkler(wanted, name);
    known.iter().map(AsRef::as_ref).max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_the_one_with_the_typo() {
        let known = ["listen", "admin_socket", "public_url", "trust_domain"];
        assert_eq!(nearest("admin_sokcet", &known), Some("admin_socket"));
        assert_eq!(nearest("lisen", &known), Some("listen"));
        assert_eq!(nearest::<&str>("x", &[]), None);
    }
}
