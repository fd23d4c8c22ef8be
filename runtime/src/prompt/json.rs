//! The `tojson` filter as Hugging Face's templates have it, which is Python's `json.dumps`: nothing is escaped
//! for HTML, non-ASCII text stays, keys keep their order, and there is a space after commas and colons.

use std::io;

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, State, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// What the template engine counts as one unit.
const BYTES_PER_FUEL: u64 = 64;
/// Wider than any template's.
const INDENT_LIMIT: usize = 16;

/// `value | tojson(indent=4, ensure_ascii=true, sort_keys=true)`.
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    indent: Option<usize>,
    options: Kwargs,
) -> Result<Value, Error> {
    let indent = match options.get::<Option<usize>>("indent")? {
        None => indent,
        named => named,
    };
    let ensure_ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    // Python's `separators`; no template writes others than the default ones with their spaces left out.
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    options.assert_all_used()?;
    let failed = |error: serde_json::Error| {
        Error::new(ErrorKind::InvalidOperation, "the value is not JSON").with_source(error)
    };
    let mut json = serde_json::to_value(value).map_err(failed)?;
    if sort_keys {
        json.sort_all_objects();
    }
    let text = match (indent, separators) {
        (Some(width), _) => {
            let spaces = " ".repeat(width.min(INDENT_LIMIT));
            write(&json, PrettyFormatter::with_indent(spaces.as_bytes()))
        }
        (None, Some(separators)) => match <[String; 2]>::try_from(separators) {
            Ok([item, key]) => write(&json, Separated { item, key }),
            Err(_) => return Err(Error::new(ErrorKind::InvalidOperation, "separators are a pair of texts")),
        },
        (None, None) => write(&json, Separated { item: ", ".to_owned(), key: ": ".to_owned() }),
    };
    let text = text.map_err(failed)?;
    // As the engine's own filter does: a template that writes the same value for ever must end.
    state.consume_fuel(1 + text.len() as u64 / BYTES_PER_FUEL)?;
    Ok(Value::from_safe_string(if ensure_ascii { ascii(&text) } else { text }))
}

fn write(json: &serde_json::Value, formatter: impl Formatter) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    json.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))?;
    String::from_utf8(bytes).map_err(|error| serde_json::Error::io(io::Error::other(error)))
}

/// One line, with these texts between entries and after keys.
struct Separated {
    item: String,
    key: String,
}

impl Separated {
    fn before<W: io::Write + ?Sized>(&self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(self.item.as_bytes()) }
    }
}

impl Formatter for Separated {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.before(writer, first)
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.before(writer, first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }
}

/// Outside of strings JSON is ASCII, so every other character may be escaped wherever it is.
fn ascii(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use minijinja::value::Serde;
    use minijinja::{Environment, context};

    use super::*;

    fn render(source: &str) -> Result<String, Error> {
        let mut environment = Environment::new();
        environment.add_filter("tojson", tojson);
        let value: serde_json::Value =
            serde_json::from_str(r#"{"z":"<a & 'b'> ü\n","a":[1,2.5,true,null],"e":{},"f":[]}"#).unwrap();
        environment.render_str(source, context! { value => Value::from(Serde(value)) })
    }

    #[test]
    fn json_is_written_as_pythons_json_dumps_does() {
        let expected = "{\"z\": \"<a & 'b'> ü\\n\", \"a\": [1, 2.5, true, null], \"e\": {}, \"f\": []}";
        assert_eq!(render("{{ value | tojson }}").unwrap(), expected);
        assert_eq!(render("{{ value | tojson(ensure_ascii=false) }}").unwrap(), expected);
        assert_eq!(render("{{ value.a | tojson(separators=(',', ':')) }}").unwrap(), "[1,2.5,true,null]");
        assert_eq!(render("{{ 'ü😀' | tojson(ensure_ascii=true) }}").unwrap(), "\"\\u00fc\\ud83d\\ude00\"");
        assert!(render("{{ value | tojson(sort_keys=true) }}").unwrap().starts_with("{\"a\": "));
    }

    #[test]
    fn an_indent_breaks_lines() {
        let expected = "{\n  \"a\": [\n    1\n  ],\n  \"b\": []\n}";
        for source in
            ["{{ {'a': [1], 'b': []} | tojson(indent=2) }}", "{{ {'a': [1], 'b': []} | tojson(2) }}"]
        {
            assert_eq!(render(source).unwrap(), expected);
        }
    }

    #[test]
    fn writing_for_ever_runs_out_of_fuel() {
        let mut environment = Environment::new();
        environment.add_filter("tojson", tojson);
        environment.set_fuel(Some(10_000));
        let source = "{% for x in range(1000) %}{% set y = value | tojson %}{% endfor %}";
        let outcome = environment.render_str(source, context! { value => "x".repeat(10_000) });
        assert!(outcome.is_err_and(|error| error.kind() == ErrorKind::OutOfFuel));
    }

    #[test]
    fn options_that_do_not_exist_are_errors() {
        assert!(render("{{ value | tojson(colour=1) }}").is_err());
        assert!(render("{{ value | tojson(separators=['a']) }}").is_err());
    }
}
