//! One TOML file as a configuration layer. Read with the parser itself rather than through floats, so that an
//! amount of money arrives as the digits that were written.

use std::path::Path;
use std::{fs, io};

use figment::value::{Num, Value};
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::keys::{self, Kind};

/// A key of the file and its value.
pub(super) type Entry = (String, Value);

/// Reads `path` as known keys; `None` when there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<Entry>>, ConfigError> {
    match fs::read_to_string(path) {
        Ok(text) => parse(path, &text).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
    }
}

fn parse(path: &Path, text: &str) -> Result<Vec<Entry>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: error
            .span()
            .map_or(1, |span| 1 + text.bytes().take(span.start).filter(|b| *b == b'\n').count()),
        message: error.message().to_owned(),
    })?;
    let mut entries = Vec::new();
    flatten(path, "", table.get_ref(), &mut entries)?;
    Ok(entries)
}

fn flatten(
    path: &Path,
    prefix: &str,
    table: &DeTable<'_>,
    entries: &mut Vec<Entry>,
) -> Result<(), ConfigError> {
    if table.is_empty() && !prefix.is_empty() && !keys::KEYS.iter().any(|key| key.section() == prefix) {
        return Err(unknown(path, prefix));
    }
    for (key, value) in table.iter() {
        let name =
            if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        match (keys::find(&name), value.get_ref()) {
            (None, DeValue::Table(inner)) => flatten(path, &name, inner, entries)?,
            (None, _) => return Err(unknown(path, &name)),
            (Some(key), value) => entries.push((name, to_figment(key.kind, value))),
        }
    }
    Ok(())
}

fn unknown(path: &Path, key: &str) -> ConfigError {
    ConfigError::UnknownKey {
        key: key.to_owned(),
        origin: path.display().to_string(),
        nearest: keys::nearest(key).to_owned(),
    }
}

/// The value for figment. What does not fit stays text, and the typed configuration refuses it by name.
fn to_figment(kind: Kind, value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(digits) if kind == Kind::Usd => Value::from(digits.as_str()),
        DeValue::Float(digits) if kind == Kind::Usd => Value::from(digits.as_str()),
        DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(number) => Value::from(Num::from(number)),
            Err(_) => Value::from(digits.as_str()),
        },
        DeValue::Float(digits) => match digits.as_str().parse::<f64>() {
            Ok(number) => Value::from(Num::from(number)),
            Err(_) => Value::from(digits.as_str()),
        },
        DeValue::Boolean(truth) => Value::from(*truth),
        DeValue::Datetime(instant) => Value::from(instant.to_string()),
        DeValue::Array(items) => {
            Value::from(items.iter().map(|item| to_figment(kind, item.get_ref())).collect::<Vec<_>>())
        }
        DeValue::Table(table) => Value::from(
            table
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), to_figment(kind, value.get_ref())))
                .collect::<figment::value::Dict>(),
        ),
    }
}
