//! `SYNESIS_*` variables as a configuration layer: the dotted key in capitals, with `_` or `__` for the dot.

use figment::value::{Num, Value};

use super::error::ConfigError;
use super::keys::{self, KEYS, Key, Kind};

const PREFIX: &str = "SYNESIS_";

/// Names that look like a key of a section but belong to other programs of the project.
const NOT_OURS: &[&str] = &["SYNESIS_SOCKET", "SYNESIS_GATEWAY_SOCKET", "SYNESIS_DEMO_DIR", "SYNESIS_LOG"];

/// The configuration entries among `variables`: key, value, and the variable's name.
pub(super) fn entries(
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<(&'static Key, Value, String)>, ConfigError> {
    let mut found = Vec::new();
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        if NOT_OURS.contains(&name.as_str()) {
            continue;
        }
        let rest = rest.to_ascii_lowercase();
        match KEYS.iter().find(|key| names(key).contains(&rest)) {
            Some(key) => found.push((key, to_figment(key.kind, &text), name)),
            // The gateway's own settings share this prefix, and both programs may share an environment.
            None if rest.starts_with("gateway_") => {}
            None if in_known_section(&rest) => {
                return Err(ConfigError::UnknownKey {
                    nearest: variable(keys::nearest(&rest.replacen("__", ".", 1).replacen('_', ".", 1))),
                    key: name,
                    origin: "the environment".to_owned(),
                });
            }
            None => {}
        }
    }
    found.sort_by(|a, b| a.2.cmp(&b.2));
    Ok(found)
}

/// The variable that sets `key`.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

fn names(key: &Key) -> [String; 2] {
    [key.name.replace('.', "_"), key.name.replace('.', "__")]
}

fn in_known_section(rest: &str) -> bool {
    KEYS.iter().any(|key| rest.strip_prefix(key.section()).is_some_and(|leaf| leaf.starts_with('_')))
}

/// A variable is text; the key's kind says what it stands for. What does not parse stays text and is refused
/// by name when the typed configuration is built.
fn to_figment(kind: Kind, text: &str) -> Value {
    let number =
        |text: &str| text.parse::<i64>().map_or_else(|_| Value::from(text), |n| Value::from(Num::from(n)));
    let items = |text: &str| -> Vec<String> {
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    };
    match kind {
        Kind::Path | Kind::Text | Kind::Choice(_) | Kind::Usd | Kind::Loopback | Kind::Url | Kind::Proxy => {
            Value::from(text)
        }
        Kind::Switch => text.parse::<bool>().map_or_else(|_| Value::from(text), Value::from),
        Kind::Integer(..) => number(text),
        Kind::Temperature | Kind::Share => {
            text.parse::<f64>().map_or_else(|_| Value::from(text), |n| Value::from(Num::from(n)))
        }
        Kind::HostPorts => Value::from(items(text)),
        Kind::Uids => Value::from(items(text).iter().map(|item| number(item)).collect::<Vec<_>>()),
    }
}
