//! Stacks the layers and turns them into a [`Config`], remembering where each value came from.

use std::path::{Path, PathBuf};
use std::{fs, io};

use figment::providers::Serialized;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::error::ConfigError;
use super::keys::{self, KEYS};
use super::{Config, env, file};

/// Where the base file is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Named on the command line: it has to exist.
    File(PathBuf),
    /// The usual place: defaults apply when it is not there.
    Default(PathBuf),
}

impl Source {
    /// `/etc/synesis/synesisd.toml`, or the file that was named.
    pub fn new(named: Option<PathBuf>) -> Self {
        named.map_or_else(|| Self::Default(PathBuf::from("/etc/synesis/synesisd.toml")), Self::File)
    }

    /// The base file.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Default(path) => path,
        }
    }
}

/// A configuration, and the layers it was made of.
#[derive(Debug)]
pub struct Loaded {
    /// The effective values.
    pub config: Config,
    layers: Figment,
}

impl Loaded {
    /// Where the value of `key` (dotted) came from: a file, a variable, or "default".
    pub fn origin(&self, key: &str) -> String {
        origin(&self.layers, key)
    }
}

/// Reads and checks everything. `variables` is the environment.
///
/// # Errors
/// The first thing that is wrong, by file, key and value.
pub fn load(
    source: &Source,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let mut layers = Figment::from(Defaults);
    match (file::read(source.path())?, source) {
        (Some(entries), _) => layers = stack(layers, source.path(), entries),
        (None, Source::File(path)) => return Err(ConfigError::Missing(path.clone())),
        (None, Source::Default(_)) => {}
    }
    for path in drop_ins(source.path())? {
        if let Some(entries) = file::read(&path)? {
            layers = stack(layers, &path, entries);
        }
    }
    for (key, value, name) in env::entries(variables)? {
        layers = layers.merge(Entry {
            origin: format!("the environment ({name})"),
            key: key.name.to_owned(),
            value,
        });
    }
    let config = layers.extract().map_err(|error| explain(&layers, &error))?;
    Ok(Loaded { config, layers })
}

fn stack(layers: Figment, path: &Path, entries: Vec<file::Entry>) -> Figment {
    let origin = path.display().to_string();
    entries
        .into_iter()
        .fold(layers, |layers, (key, value)| layers.merge(Entry { origin: origin.clone(), key, value }))
}

/// `conf.d/*.toml` beside the base file, in order of name.
fn drop_ins(base: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let folder = base.parent().unwrap_or(Path::new("/")).join("conf.d");
    let unreadable = |source| ConfigError::Unreadable { path: folder.clone(), source };
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn origin(layers: &Figment, key: &str) -> String {
    layers.find_metadata(key).map_or_else(|| "default".to_owned(), |metadata| metadata.name.to_string())
}

/// figment says which value serde choked on; the table of keys says what would have been right.
fn explain(layers: &Figment, error: &figment::Error) -> ConfigError {
    let at = error.path.join(".");
    let Some(key) = KEYS.iter().find(|key| at == key.name || at.starts_with(&format!("{}.", key.name)))
    else {
        return ConfigError::Other(error.to_string());
    };
    let found = layers.find_value(key.name).map_or_else(|_| "not set".to_owned(), |value| written(&value));
    ConfigError::Value {
        key: key.name.to_owned(),
        origin: origin(layers, key.name),
        found,
        allowed: keys::find(key.name).map_or_else(String::new, |key| key.kind.allowed()),
    }
}

/// A value about as it was written.
fn written(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| format!("{value:?}"))
}

/// The bottom layer.
struct Defaults;

impl Provider for Defaults {
    fn metadata(&self) -> Metadata {
        Metadata::named("default")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Serialized::defaults(Config::default()).data()
    }
}

/// One key from one place.
struct Entry {
    origin: String,
    key: String,
    value: Value,
}

impl Provider for Entry {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = figment::util::nest(&self.key, self.value.clone());
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}
