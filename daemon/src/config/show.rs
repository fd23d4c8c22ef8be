//! `synesisd config show`: the effective values, as TOML that could be fed back, or as JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::keys::{KEYS, Key};
use super::layers::Loaded;

/// Whether each value says where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origins {
    /// Values only.
    Hide,
    /// A comment, or a field, per value.
    Show,
}

/// TOML with the sections of the reference; a key that is not set is a comment.
pub fn as_toml(loaded: &Loaded, origins: Origins) -> String {
    let values = serde_json::to_value(&loaded.config).unwrap_or_default();
    let mut text = String::new();
    let mut section = "";
    for key in KEYS {
        if key.section() != section {
            let gap = if section.is_empty() { "" } else { "\n" };
            section = key.section();
            let _ = writeln!(text, "{gap}[{section}]");
        }
        let line = match lookup(&values, key) {
            Some(value) => format!("{} = {value}", key.leaf()),
            None => format!("# {} is not set", key.leaf()),
        };
        let _ = match origins {
            Origins::Show => writeln!(text, "{line:<48} # {}", loaded.origin(key.name)),
            Origins::Hide => writeln!(text, "{line}"),
        };
    }
    text
}

/// One JSON object: `values` by dotted key and, when asked for, `origins`.
pub fn as_json(loaded: &Loaded, origins: Origins) -> String {
    let values = serde_json::to_value(&loaded.config).unwrap_or_default();
    let by_key = |value: &dyn Fn(&Key) -> Value| -> Map<String, Value> {
        KEYS.iter().map(|key| (key.name.to_owned(), value(key))).collect()
    };
    let mut object = json!({
        "schema": "synesis.config/1",
        "values": by_key(&|key| lookup(&values, key).cloned().unwrap_or(Value::Null)),
    });
    if origins == Origins::Show {
        object["origins"] = Value::Object(by_key(&|key| Value::from(loaded.origin(key.name))));
    }
    object.to_string()
}

fn lookup<'a>(values: &'a Value, key: &Key) -> Option<&'a Value> {
    values.get(key.section())?.get(key.leaf()).filter(|value| !value.is_null())
}
