//! Which provider serves which model: made once from the configuration, then only looked up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::anthropic::Anthropic;
use super::openai::OpenAi;
use super::runtime::{RuntimeProcess, RuntimeSettings, runtime};
use super::{HttpSettings, Provider, Timeouts};
use crate::config::{Config, ConfigError, HttpProvider, ProviderConfig, RuntimeProvider};
use crate::failure::chain;
use crate::secret::Secret;

/// Where the package puts the model process.
const PACKAGED_RUNTIME: &str = "/usr/lib/synesis/synesis-runtime";

/// The models that can be asked for.
#[derive(Clone, Default)]
pub(crate) struct Catalogue {
    by_model: BTreeMap<String, Arc<dyn Provider>>,
    default_model: Option<String>,
}

impl Catalogue {
    /// A catalogue of `providers`; without a default the first model is it.
    pub(crate) fn new(providers: Vec<Arc<dyn Provider>>, default_model: Option<String>) -> Self {
        let mut by_model = BTreeMap::new();
        let first = providers.first().and_then(|provider| provider.models().first().cloned());
        for provider in providers {
            for model in provider.models() {
                by_model.insert(model.clone(), Arc::clone(&provider));
            }
        }
        Self { by_model, default_model: default_model.or(first) }
    }

    /// The model that `wanted` means (empty: the default) and who serves it.
    pub(crate) fn resolve(&self, wanted: &str) -> Option<(&str, &Arc<dyn Provider>)> {
        let wanted = if wanted.is_empty() { self.default_model.as_deref()? } else { wanted };
        self.by_model.get_key_value(wanted).map(|(model, provider)| (model.as_str(), provider))
    }

    /// Every model, the default first.
    pub(crate) fn models(&self) -> Vec<String> {
        let default = self.default_model.iter();
        let others = self.by_model.keys().filter(|model| Some(*model) != self.default_model.as_ref());
        default.chain(others).cloned().collect()
    }
}

/// The catalogue of a configuration, and the model processes that have to run for it.
///
/// # Errors
/// When a file that the configuration names (a key, a chat template) cannot be read.
pub(crate) fn build(config: &Config) -> Result<(Catalogue, Vec<RuntimeProcess>), ConfigError> {
    let mut providers: Vec<Arc<dyn Provider>> = Vec::new();
    let mut processes = Vec::new();
    for (index, provider) in config.providers.iter().enumerate() {
        match provider {
            ProviderConfig::OpenAi(http) => {
                let settings = http_settings(index, http)?;
                providers.push(Arc::new(OpenAi::new(settings).map_err(|error| setup_failed(index, &error))?));
            }
            ProviderConfig::Anthropic(http) => {
                let settings = http_settings(index, http)?;
                providers
                    .push(Arc::new(Anthropic::new(settings).map_err(|error| setup_failed(index, &error))?));
            }
            ProviderConfig::Runtime(provider) => {
                let (model, process) = runtime(runtime_settings(index, provider, config)?);
                providers.push(Arc::new(model));
                processes.push(process);
            }
        }
    }
    Ok((Catalogue::new(providers, config.default_model.clone()), processes))
}

fn http_settings(index: usize, http: &HttpProvider) -> Result<HttpSettings, ConfigError> {
    let api_key = match &http.api_key_file {
        None => None,
        Some(path) => {
            let text = zeroize::Zeroizing::new(read(index, "api_key_file", path)?);
            let key = text.trim();
            if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(bad_file(
                    index,
                    "api_key_file",
                    path,
                    "holds no key: one line of printable text",
                ));
            }
            Some(Secret::new(key))
        }
    };
    if api_key.is_some() && http.base_url.scheme() == "http" && !is_loopback(&http.base_url) {
        tracing::warn!(base_url = %http.base_url, "the provider's key travels unencrypted; use https");
    }
    Ok(HttpSettings {
        base_url: http.base_url.clone(),
        api_key,
        models: http.models.clone(),
        timeouts: Timeouts::default(),
    })
}

fn is_loopback(url: &reqwest::Url) -> bool {
    url.host_str().is_some_and(|host| {
        host == "localhost"
            || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    })
}

fn runtime_settings(
    index: usize,
    config: &RuntimeProvider,
    whole: &Config,
) -> Result<RuntimeSettings, ConfigError> {
    let chat_template = match &config.chat_template_file {
        Some(path) => read(index, "chat_template_file", path)?,
        None => String::new(),
    };
    if !config.model_path.is_file() {
        return Err(bad_file(index, "model_path", &config.model_path, "is not a file"));
    }
    Ok(RuntimeSettings {
        models: config.models.clone(),
        program: config.program.clone().unwrap_or_else(runtime_program),
        model_path: config.model_path.clone(),
        adapters: whole.adapters_dir(),
        chat_template,
        stop: config.stop.clone(),
        context_tokens: config.context_tokens,
        threads: config.threads,
        parallel: config.parallel,
        sandbox: config.sandbox,
    })
}

/// Beside this binary when it is there (a build folder), else where the package puts it.
fn runtime_program() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name("synesis-runtime"));
    beside.filter(|program| program.is_file()).unwrap_or_else(|| PACKAGED_RUNTIME.into())
}

fn read(index: usize, key: &str, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|error| bad_file(index, key, path, &format!("cannot be read: {error}")))
}

fn bad_file(index: usize, key: &str, path: &Path, what: &str) -> ConfigError {
    ConfigError::BadValue {
        key: format!("providers.{index}.{key}"),
        what: format!("{} {what}", path.display()),
        next_step: "correct the path, or the file and its permissions".to_owned(),
    }
}

fn setup_failed(index: usize, error: &super::http::SetupError) -> ConfigError {
    ConfigError::BadValue {
        key: format!("providers.{index}"),
        what: chain(error),
        next_step: "install the system's CA certificates (package ca-certificates)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::providers::{EventStream, ProviderError, Request};

    struct Named(Vec<String>);

    #[async_trait]
    impl Provider for Named {
        fn name(&self) -> &'static str {
            "named"
        }

        fn models(&self) -> &[String] {
            &self.0
        }

        async fn stream(&self, _: Request) -> Result<EventStream, ProviderError> {
            Err(ProviderError::Unreachable)
        }
    }

    fn catalogue() -> Catalogue {
        let named = |models: &[&str]| -> Arc<dyn Provider> {
            Arc::new(Named(models.iter().map(|model| (*model).to_owned()).collect()))
        };
        Catalogue::new(vec![named(&["b", "a"]), named(&["c"])], Some("c".to_owned()))
    }

    #[test]
    fn no_name_means_the_default_model() {
        assert_eq!(catalogue().resolve("").map(|(model, _)| model.to_owned()), Some("c".to_owned()));
        assert_eq!(catalogue().resolve("a").map(|(model, _)| model.to_owned()), Some("a".to_owned()));
        assert!(catalogue().resolve("nobody").is_none());
        assert!(Catalogue::default().resolve("").is_none());
    }

    #[test]
    fn the_default_model_is_listed_first() {
        assert_eq!(catalogue().models(), ["c", "a", "b"]);
    }

    #[test]
    fn a_missing_key_file_is_a_config_error_that_names_the_key() {
        let http = HttpProvider {
            base_url: "http://127.0.0.1:1".parse().unwrap(),
            api_key_file: Some("/nonexistent/key".into()),
            models: vec!["m".to_owned()],
        };
        let error = http_settings(3, &http).unwrap_err();
        assert!(error.to_string().contains("`providers.3.api_key_file`: /nonexistent/key"), "{error}");
    }
}
