//! The configuration as it is written: every key the files may have, with its default.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::decimal::UsdText;
use super::duration::DurationText;
use super::limits::{RawDrain, RawLimits};
use super::{DEFAULT_TRUST_DOMAIN, LogFormat, Sandbox};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    pub(super) listen: String,
    pub(super) listen_tcp: Option<String>,
    pub(super) admin_socket: PathBuf,
    pub(super) public_url: Option<String>,
    pub(super) trust_domain: String,
    pub(super) default_model: Option<String>,
    pub(super) store: RawStore,
    pub(super) pki: RawPki,
    pub(super) identity: RawIdentity,
    pub(super) log: RawLog,
    pub(super) resume: RawResume,
    pub(super) limits: RawLimits,
    pub(super) drain: RawDrain,
    pub(super) gateway_number: Option<u16>,
    pub(super) reconnect_window: DurationText,
    pub(super) http_listen: Option<String>,
    pub(super) http_allow_remote: bool,
    pub(super) adapters: RawAdapters,
    pub(super) providers: Vec<RawProvider>,
    pub(super) prices: Vec<RawPrice>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:4433".to_owned(),
            listen_tcp: None,
            admin_socket: "/run/synesis-gateway/admin.sock".into(),
            public_url: None,
            trust_domain: DEFAULT_TRUST_DOMAIN.to_owned(),
            default_model: None,
            store: RawStore::default(),
            pki: RawPki::default(),
            identity: RawIdentity::default(),
            log: RawLog::default(),
            resume: RawResume::default(),
            limits: RawLimits::default(),
            drain: RawDrain::default(),
            gateway_number: None,
            reconnect_window: DurationText(Duration::from_secs(10)),
            http_listen: None,
            http_allow_remote: false,
            adapters: RawAdapters::default(),
            providers: Vec::new(),
            prices: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStore {
    pub(super) dir: PathBuf,
}

impl Default for RawStore {
    fn default() -> Self {
        Self { dir: "/var/lib/synesis-gateway".into() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPki {
    pub(super) dir: PathBuf,
}

impl Default for RawPki {
    fn default() -> Self {
        Self { dir: "pki".into() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawIdentity {
    pub(super) grace: String,
}

impl Default for RawIdentity {
    fn default() -> Self {
        Self { grace: "365d".to_owned() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    pub(super) format: LogFormat,
    pub(super) level: String,
}

impl Default for RawLog {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawResume {
    pub(super) grace: String,
    pub(super) keep: String,
    pub(super) answer_bytes: u64,
    pub(super) total_bytes: u64,
}

impl Default for RawResume {
    fn default() -> Self {
        Self { grace: "60s".to_owned(), keep: "10m".to_owned(), answer_bytes: 4 << 20, total_bytes: 64 << 20 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAdapters {
    pub(super) max_bytes: u64,
    pub(super) quota_bytes: u64,
}

impl Default for RawAdapters {
    fn default() -> Self {
        Self { max_bytes: 1 << 30, quota_bytes: 8 << 30 }
    }
}

/// All keys of all kinds: `check` says which belong to which.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProvider {
    pub(super) kind: RawKind,
    pub(super) models: Vec<String>,
    pub(super) base_url: Option<String>,
    pub(super) api_key_file: Option<PathBuf>,
    pub(super) model_path: Option<PathBuf>,
    pub(super) chat_template_file: Option<PathBuf>,
    pub(super) stop: Option<Vec<String>>,
    pub(super) context_tokens: Option<u32>,
    pub(super) threads: Option<u32>,
    pub(super) parallel: Option<u32>,
    pub(super) sandbox: Option<Sandbox>,
    pub(super) program: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawKind {
    Openai,
    Anthropic,
    Runtime,
}

impl RawKind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::Runtime => "runtime",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPrice {
    pub(super) model: String,
    pub(super) input_usd_per_mtok: UsdText,
    pub(super) output_usd_per_mtok: UsdText,
}
