//! From what was written to what is meant: every rule that a single key cannot express, checked once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use synesis_ledger::{NanoUsd, Price};

use super::error::{ConfigError, nearest};
use super::limits::http_listen;
use super::raw::{Raw, RawAdapters, RawKind, RawPrice, RawProvider, RawResume};
use super::{Config, HttpProvider, Log, ProviderConfig, RuntimeProvider};
use crate::adapters;
use crate::answers::{Limits, Settings};
use crate::control_plane::AdapterQuota;
use crate::duration;

/// Where the two public APIs are.
const OPENAI: &str = "https://api.openai.com/v1";
const ANTHROPIC: &str = "https://api.anthropic.com";

/// Requests that a model process answers at the same time, when the configuration does not say.
const PARALLEL: u32 = 4;
/// Each takes the memory of a whole context.
const MOST_PARALLEL: u32 = 64;

/// Adapters of one account, however small they are.
const MOST_ADAPTERS: u64 = 1_000;

/// Ten years: the life of a CA.
const MOST_GRACE: Duration = Duration::from_secs(3650 * 86_400);

/// Checks `raw`; relative paths are meant relative to `folder`.
pub(super) fn check(raw: Raw, folder: &Path) -> Result<Config, ConfigError> {
    let listen = address("listen", &raw.listen, 4433)?;
    let listen_tcp = raw.listen_tcp.as_deref().map(|text| address("listen_tcp", text, 443)).transpose()?;
    let trust_domain_ok = !raw.trust_domain.is_empty()
        && raw.trust_domain.len() <= 255
        && raw
            .trust_domain
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
    if !trust_domain_ok {
        return Err(ConfigError::bad(
            "trust_domain",
            format!("{:?} is not a SPIFFE trust domain", raw.trust_domain),
            "use lower-case letters, digits, dots, dashes and underscores, as `init` was told",
        ));
    }
    let prices = prices(&raw.prices)?;
    let providers = raw
        .providers
        .iter()
        .enumerate()
        .map(|(index, provider)| self::provider(index, provider, folder))
        .collect::<Result<Vec<_>, _>>()?;
    every_model_has_one_provider_and_a_price(&providers, &prices)?;
    let default_model = default_model(raw.default_model, &providers)?;
    if raw.public_url.as_deref().is_some_and(|url| url.trim().is_empty()) {
        return Err(ConfigError::bad("public_url", "it is empty", "write HOST:PORT, or remove the key"));
    }
    let store_dir = folder.join(raw.store.dir);
    let resume = resume(&raw.resume, &store_dir)?;
    Ok(Config {
        listen,
        listen_tcp,
        admin_socket: folder.join(raw.admin_socket),
        store_dir,
        pki_dir: folder.join(raw.pki.dir),
        public_url: raw.public_url,
        trust_domain: raw.trust_domain,
        identity_grace: grace(&raw.identity.grace)?,
        default_model,
        resume,
        log: Log { format: raw.log.format, level: raw.log.level },
        limits: raw.limits.check()?,
        drain: raw.drain.check()?,
        gateway_number: raw.gateway_number,
        reconnect_window: raw.reconnect_window.0,
        http_listen: http_listen(raw.http_listen.as_deref(), raw.http_allow_remote)?,
        providers,
        prices,
        adapters: adapters(&raw.adapters)?,
    })
}

fn address(key: &str, text: &str, port: u16) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| {
        ConfigError::bad(
            key,
            format!("{text:?} is not an address and a port"),
            format!("write an IP address and a port, for example \"0.0.0.0:{port}\" or \"[::]:{port}\""),
        )
    })
}

/// Where finished answers are, below the store.
const SPOOL: &str = "answers";
/// An answer has to have room for two of its largest frames.
const LEAST_ANSWER: u64 = 2 << 20;
/// Ends of frames are counted in 32 bits.
const MOST_ANSWER: u64 = 1 << 30;

fn resume(raw: &RawResume, store: &Path) -> Result<Settings, ConfigError> {
    let time = |key: &str, text: &str, most: Duration| {
        let time = duration::parse(text).ok().filter(|time| *time <= most);
        time.ok_or_else(|| {
            ConfigError::bad(
                format!("resume.{key}"),
                format!("{text:?} is no time"),
                format!(
                    "write a number with s, m, h or d, {} s at most, for example \"60s\"",
                    most.as_secs()
                ),
            )
        })
    };
    let bytes = |key: &str, bytes: u64, least: u64, most: u64| {
        let fits = (least..=most).contains(&bytes).then(|| usize::try_from(bytes).ok()).flatten();
        fits.ok_or_else(|| {
            ConfigError::bad(
                format!("resume.{key}"),
                format!("{bytes} bytes are not possible"),
                format!("write {least} to {most}"),
            )
        })
    };
    let answer = bytes("answer_bytes", raw.answer_bytes, LEAST_ANSWER, MOST_ANSWER)?;
    Ok(Settings {
        grace: time("grace", &raw.grace, Duration::from_secs(600))?,
        keep: time("keep", &raw.keep, Duration::from_secs(24 * 3600))?,
        limits: Limits { answer, total: bytes("total_bytes", raw.total_bytes, raw.answer_bytes, 1 << 40)? },
        spool: store.join(SPOOL),
    })
}

fn adapters(raw: &RawAdapters) -> Result<adapters::Limits, ConfigError> {
    if raw.quota_bytes < raw.max_bytes {
        return Err(ConfigError::bad(
            "adapters.quota_bytes",
            format!(
                "an account may keep {} bytes, and one adapter may take {}",
                raw.quota_bytes, raw.max_bytes
            ),
            "raise it, or lower adapters.max_bytes",
        ));
    }
    let quota = AdapterQuota { bytes: raw.quota_bytes, entries: MOST_ADAPTERS };
    Ok(adapters::Limits { max_bytes: raw.max_bytes, quota })
}

/// How long an expired certificate can still be renewed; `0d`: not at all.
fn grace(text: &str) -> Result<Duration, ConfigError> {
    let time = duration::parse(text).ok().filter(|time| *time <= MOST_GRACE);
    time.ok_or_else(|| {
        ConfigError::bad(
            "identity.grace",
            format!("{text:?} is no time"),
            "write a number with s, m, h or d, 3650d at most, for example \"365d\"",
        )
    })
}

fn prices(raw: &[RawPrice]) -> Result<BTreeMap<String, Price>, ConfigError> {
    let mut prices = BTreeMap::new();
    for (index, written) in raw.iter().enumerate() {
        let amount = |key: &str, text: &str| {
            NanoUsd::parse_usd(text).map_err(|error| {
                ConfigError::bad(
                    format!("prices.{index}.{key}"),
                    format!("{text:?} is no price: {error}"),
                    "write US dollars per million tokens as a decimal, for example \"0.15\"",
                )
            })
        };
        let price = Price {
            input_per_mtok: amount("input_usd_per_mtok", &written.input_usd_per_mtok.0)?,
            output_per_mtok: amount("output_usd_per_mtok", &written.output_usd_per_mtok.0)?,
        };
        if prices.insert(written.model.clone(), price).is_some() {
            return Err(ConfigError::bad(
                format!("prices.{index}.model"),
                format!("the model {:?} has two prices", written.model),
                "keep one [[prices]] entry per model",
            ));
        }
    }
    Ok(prices)
}

fn provider(index: usize, raw: &RawProvider, folder: &Path) -> Result<ProviderConfig, ConfigError> {
    let key = |name: &str| format!("providers.{index}.{name}");
    if raw.models.is_empty() {
        return Err(ConfigError::bad(key("models"), "no model is named", "list at least one model name"));
    }
    if let Some(bad) =
        raw.models.iter().find(|m| m.is_empty() || m.len() > 200 || m.chars().any(char::is_control))
    {
        return Err(ConfigError::bad(
            key("models"),
            format!("{bad:?} is no model name"),
            "write 1 to 200 characters",
        ));
    }
    let runtime_only: [(&str, bool); 8] = [
        ("model_path", raw.model_path.is_some()),
        ("chat_template_file", raw.chat_template_file.is_some()),
        ("stop", raw.stop.is_some()),
        ("context_tokens", raw.context_tokens.is_some()),
        ("threads", raw.threads.is_some()),
        ("parallel", raw.parallel.is_some()),
        ("sandbox", raw.sandbox.is_some()),
        ("program", raw.program.is_some()),
    ];
    let http_only: [(&str, bool); 2] =
        [("base_url", raw.base_url.is_some()), ("api_key_file", raw.api_key_file.is_some())];
    let foreign: &[(&str, bool)] = if raw.kind == RawKind::Runtime { &http_only } else { &runtime_only };
    if let Some((name, _)) = foreign.iter().find(|(_, written)| *written) {
        return Err(ConfigError::bad(
            key(name),
            format!("a provider of kind {:?} does not have it", raw.kind.as_str()),
            "remove the key, or correct the kind",
        ));
    }
    let http = |default: &str| -> Result<HttpProvider, ConfigError> {
        let text = raw.base_url.as_deref().unwrap_or(default);
        let base_url =
            Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let base_url = base_url.ok_or_else(|| {
            ConfigError::bad(
                key("base_url"),
                format!("{text:?} is not an http or https URL"),
                format!("write it as in \"{default}\""),
            )
        })?;
        if !base_url.username().is_empty() || base_url.password().is_some() {
            return Err(ConfigError::bad(
                key("base_url"),
                "it carries a user name or a password",
                "put the key into a file and name it with api_key_file",
            ));
        }
        let api_key_file = raw.api_key_file.as_ref().map(|path| folder.join(path));
        Ok(HttpProvider { base_url, api_key_file, models: raw.models.clone() })
    };
    match raw.kind {
        RawKind::Openai => http(OPENAI).map(ProviderConfig::OpenAi),
        RawKind::Anthropic => http(ANTHROPIC).map(ProviderConfig::Anthropic),
        RawKind::Runtime => {
            let in_folder = |path: &PathBuf| folder.join(path);
            let model_path = raw.model_path.as_ref().map(in_folder).ok_or_else(|| {
                ConfigError::bad(
                    key("model_path"),
                    "a runtime provider needs it",
                    "name the model's GGUF file",
                )
            })?;
            let parallel = raw.parallel.unwrap_or(PARALLEL);
            if !(1..=MOST_PARALLEL).contains(&parallel) {
                return Err(ConfigError::bad(
                    key("parallel"),
                    format!("{parallel} requests cannot be answered at the same time"),
                    format!("write 1 to {MOST_PARALLEL}; each takes the memory of a context"),
                ));
            }
            Ok(ProviderConfig::Runtime(RuntimeProvider {
                models: raw.models.clone(),
                model_path,
                chat_template_file: raw.chat_template_file.as_ref().map(in_folder),
                stop: raw.stop.clone().unwrap_or_default(),
                context_tokens: raw.context_tokens.unwrap_or(0),
                threads: raw.threads.unwrap_or(0),
                parallel,
                sandbox: raw.sandbox.unwrap_or_default(),
                program: raw.program.as_ref().map(in_folder),
            }))
        }
    }
}

fn every_model_has_one_provider_and_a_price(
    providers: &[ProviderConfig],
    prices: &BTreeMap<String, Price>,
) -> Result<(), ConfigError> {
    let mut seen = BTreeMap::new();
    for (index, provider) in providers.iter().enumerate() {
        for model in provider.models() {
            let key = format!("providers.{index}.models");
            if let Some(other) = seen.insert(model, index) {
                return Err(ConfigError::bad(
                    key,
                    format!("the model {model:?} is served by provider {other} already"),
                    "name each model once",
                ));
            }
            if !prices.contains_key(model) {
                return Err(ConfigError::bad(
                    key,
                    format!("the model {model:?} has no price, and nothing is free by accident"),
                    format!(
                        "add a [[prices]] entry with model = {model:?}; a price of 0 is allowed when it is written"
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// The configured default when a provider serves it, else the first model of the first provider.
fn default_model(
    wanted: Option<String>,
    providers: &[ProviderConfig],
) -> Result<Option<String>, ConfigError> {
    let served: Vec<&String> = providers.iter().flat_map(ProviderConfig::models).collect();
    match wanted {
        None => Ok(served.first().map(|model| (*model).clone())),
        Some(model) if served.contains(&&model) => Ok(Some(model)),
        Some(model) => Err(ConfigError::bad(
            "default_model",
            format!("no provider serves the model {model:?}"),
            match nearest(&model, &served) {
                Some(near) => format!("did you mean {near:?}? Otherwise add it to the models of a provider"),
                None => "add a [[providers]] entry that serves it".to_owned(),
            },
        )),
    }
}
