//! What a text may ask of the compiler, judged by its characters alone.

use serde_json::Value;

/// Length of a schema or a grammar, in bytes.
pub(super) const LENGTH: usize = 64 << 10;
/// Deeper schemas, grammars and regular expressions than this are nobody's.
pub(super) const DEPTH: usize = 100;
/// Repetitions and alternatives in all regular expressions together. The crate's limits count the parts of an
/// expression but not what comparing them costs, which grows with the square: 20,000 times `a?` would take
/// seconds for one token.
pub(super) const REPETITIONS: usize = 1_000;

/// The most brackets that are open at once. Those inside of quotes are counted too: a quoted regular expression
/// is recursed into as well, and a text that needs a hundred more opening than closing ones does not exist.
pub(super) fn depth(text: &str) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => {
                open += 1;
                deepest = deepest.max(open);
            }
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The repetitions that may be in a grammar.
pub(super) fn repetitions(text: &str) -> usize {
    text.bytes().filter(|byte| b"?*+{|~".contains(byte)).count()
}

/// The same for the patterns of a JSON Schema.
pub(super) fn repetitions_of_patterns(schema: &Value) -> usize {
    match schema {
        Value::Object(keywords) => keywords
            .iter()
            .map(|(keyword, value)| match (keyword.as_str(), value) {
                ("pattern", Value::String(pattern)) => repetitions(pattern),
                ("patternProperties", Value::Object(properties)) => {
                    let patterns: usize = properties.keys().map(|pattern| repetitions(pattern)).sum();
                    patterns + properties.values().map(repetitions_of_patterns).sum::<usize>()
                }
                _ => repetitions_of_patterns(value),
            })
            .sum(),
        Value::Array(values) => values.iter().map(repetitions_of_patterns).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_deepest_place_counts_and_closing_too_often_does_not_hide_it() {
        assert_eq!(depth("a(b[c]{d})"), 2);
        assert_eq!(depth(")))((("), 3);
        assert_eq!(depth("plain"), 0);
    }

    #[test]
    fn repetitions_count_only_where_they_repeat() {
        assert_eq!(repetitions("start: /a+b?/ | \"c\"*"), 4);
        let schema = json!({
            "description": "really? + * ?",
            "properties": { "pattern": { "pattern": "a+" }, "x": { "items": [{ "pattern": "b*" }] } },
            "patternProperties": { "^x?$": { "pattern": "c?" } },
        });
        assert_eq!(repetitions_of_patterns(&schema), 4);
    }
}
