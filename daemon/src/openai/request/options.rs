//! What chat and text completions have in common: how tokens are chosen, when the answer ends, how it is delivered.

use serde::Deserialize;
use serde_json::Value;

use super::{Fields, RequestError};
use crate::ask::{Ask, Constraint, Sampling};

/// Alternatives of one token, at most; what the model process gives.
pub(super) const MOST_LOGPROBS: u32 = 20;
const NUMBER: &str = "a number";
const COUNT: &str = "a whole number of at least 1";

/// How the answer is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::openai) enum Delivery {
    /// In one piece.
    Whole,
    /// As server-sent events.
    Stream {
        /// With a last event that says how many tokens it took.
        usage: bool,
    },
}

/// One text or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A seed; other servers take negative ones.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seed {
    Natural(u64),
    Negative(i64),
}

/// The options of a request, on an otherwise empty ask.
///
/// # Errors
/// One of them is of the wrong type, or asks for what is not there.
pub(super) fn options(fields: &Fields<'_>) -> Result<Ask, RequestError> {
    fields.without("n", &["1"], "one answer is given per request; ask again for another")?;
    fields.without("logit_bias", &["{}"], "the probabilities of single tokens cannot be changed")?;
    let seed = fields.optional::<Seed>("seed", "a whole number")?.map(|seed| match seed {
        Seed::Natural(seed) => seed,
        Seed::Negative(seed) => seed.unsigned_abs(),
    });
    // Other servers write -1 for "off", which is 0 here.
    let top_k = fields.optional::<i64>("top_k", "a whole number")?;
    Ok(Ask {
        sampling: Sampling {
            temperature: fields.optional("temperature", NUMBER)?,
            top_p: fields.optional("top_p", NUMBER)?,
            top_k: top_k.map(|top_k| u32::try_from(top_k.max(0)).unwrap_or(u32::MAX)),
            min_p: fields.optional("min_p", NUMBER)?,
            repeat_penalty: fields.optional("repeat_penalty", NUMBER)?,
            presence_penalty: fields.optional("presence_penalty", NUMBER)?,
            frequency_penalty: fields.optional("frequency_penalty", NUMBER)?,
            seed,
        },
        adapter_scale: fields.optional("adapter_scale", NUMBER)?,
        max_tokens: max_tokens(fields)?,
        stop: stop(fields)?,
        constraint: constraint(fields)?,
        session: fields.optional("session", "a string")?.unwrap_or_default(),
        ..Ask::default()
    })
}

/// How the answer is wanted.
///
/// # Errors
/// A wrong type.
pub(super) fn delivery(fields: &Fields<'_>) -> Result<Delivery, RequestError> {
    let stream = fields.optional("stream", "true or false")?.unwrap_or(false);
    let options = fields.object("stream_options")?;
    let usage = match options {
        Some(options) => options.optional("include_usage", "true or false")?.unwrap_or(false),
        None => false,
    };
    Ok(if stream { Delivery::Stream { usage } } else { Delivery::Whole })
}

/// The name of the model that is asked.
///
/// # Errors
/// There is none.
pub(super) fn model(fields: &Fields<'_>) -> Result<String, RequestError> {
    fields.required("model", "the name of a model; GET /v1/models lists them")
}

fn max_tokens(fields: &Fields<'_>) -> Result<Option<u32>, RequestError> {
    let mut most = None;
    // The older name counts only where the newer one is absent.
    for name in ["max_completion_tokens", "max_tokens"] {
        let value: Option<u32> = fields.optional(name, COUNT)?;
        if value == Some(0) {
            return Err(RequestError::WrongType { param: fields.path(name), expected: COUNT });
        }
        most = most.or(value);
    }
    Ok(most)
}

fn stop(fields: &Fields<'_>) -> Result<Vec<String>, RequestError> {
    Ok(match fields.optional::<OneOrMany>("stop", "a string or an array of strings")? {
        None => Vec::new(),
        Some(OneOrMany::One(stop)) => vec![stop],
        Some(OneOrMany::Many(stops)) => stops,
    })
}

fn constraint(fields: &Fields<'_>) -> Result<Option<Constraint>, RequestError> {
    let grammar = fields.optional("grammar", "a string")?.map(Constraint::Grammar);
    let format = response_format(fields)?;
    if grammar.is_some() && format.is_some() {
        return Err(RequestError::Both { param: fields.path("grammar"), other: "response_format" });
    }
    Ok(grammar.or(format))
}

fn response_format(fields: &Fields<'_>) -> Result<Option<Constraint>, RequestError> {
    let Some(format) = fields.object("response_format")? else { return Ok(None) };
    let expected = "one of text, json_object and json_schema";
    match format.required::<String>("type", expected)?.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(Constraint::JsonSchema(r#"{"type":"object"}"#.to_owned()))),
        "json_schema" => {
            let missing = |param| RequestError::Missing { param, expected: "an object" };
            let wrapped = format.object("json_schema")?;
            let wrapped = wrapped.ok_or_else(|| missing(format.path("json_schema")))?;
            // Parsed once, because of its depth; passed on as it came, because its order matters.
            wrapped.required::<Value>("schema", "a JSON schema")?;
            wrapped.object("schema")?;
            let schema = wrapped.raw("schema").map(|schema| schema.get().to_owned()).unwrap_or_default();
            Ok(Some(Constraint::JsonSchema(schema)))
        }
        _ => Err(RequestError::WrongType { param: format.path("type"), expected }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Ask, RequestError> {
        options(&Fields::of_body(body.as_bytes()).unwrap())
    }

    fn refused(body: &str) -> String {
        read(body).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_is_not_said_is_nobody_s_choice() {
        let ask =
            read(r#"{"user": "ann", "store": true, "logit_bias": {}, "n": 1, "temperature": null}"#).unwrap();
        assert_eq!(ask.sampling, Sampling::default());
        assert!(ask.max_tokens.is_none() && ask.stop.is_empty() && ask.constraint.is_none());
        assert!(ask.session.is_empty() && ask.adapter_scale.is_none());
    }

    #[test]
    fn every_option_arrives() {
        let ask = read(
            r#"{"temperature": 1, "top_p": 0.5, "top_k": 40, "min_p": 0.1, "repeat_penalty": 1.1, "presence_penalty": -1,
                "frequency_penalty": 2, "seed": 7, "adapter_scale": 0.5, "session": "s", "stop": ["a", "b"],
                "max_tokens": 9, "grammar": "start: \"x\""}"#,
        )
        .unwrap();
        let expected = Sampling {
            temperature: Some(1.0),
            top_p: Some(0.5),
            top_k: Some(40),
            min_p: Some(0.1),
            repeat_penalty: Some(1.1),
            presence_penalty: Some(-1.0),
            frequency_penalty: Some(2.0),
            seed: Some(7),
        };
        assert_eq!(ask.sampling, expected);
        assert_eq!((ask.adapter_scale, ask.session.as_str(), ask.max_tokens), (Some(0.5), "s", Some(9)));
        assert_eq!(ask.stop, ["a", "b"]);
        assert_eq!(ask.constraint, Some(Constraint::Grammar("start: \"x\"".to_owned())));
    }

    #[test]
    fn spellings_of_the_same_are_the_same() {
        assert_eq!(read(r#"{"stop": "a"}"#).unwrap().stop, ["a"]);
        assert_eq!(read(r#"{"top_k": -1}"#).unwrap().sampling.top_k, Some(0));
        assert_eq!(read(r#"{"seed": -3}"#).unwrap().sampling.seed, Some(3));
        assert_eq!(read(r#"{"seed": 18446744073709551615}"#).unwrap().sampling.seed, Some(u64::MAX));
        let both = r#"{"max_tokens": 5, "max_completion_tokens": 6}"#;
        assert_eq!(read(both).unwrap().max_tokens, Some(6));
    }

    #[test]
    fn a_response_format_is_a_constraint() {
        let schema = |text: &str| Some(Constraint::JsonSchema(text.to_owned()));
        for (format, constraint) in [
            (r#"{"type": "text"}"#, None),
            (r#"{"type": "json_object"}"#, schema(r#"{"type":"object"}"#)),
            (
                r#"{"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": {"z": 1,  "a": 2}}}"#,
                schema(r#"{"z": 1,  "a": 2}"#),
            ),
        ] {
            let body = format!(r#"{{"response_format": {format}}}"#);
            assert_eq!(read(&body).unwrap().constraint, constraint, "{format}");
        }
        for (format, param) in [
            ("1", "response_format"),
            ("{}", "response_format.type"),
            (r#"{"type": "xml"}"#, "response_format.type"),
            (r#"{"type": "json_schema"}"#, "response_format.json_schema"),
            (r#"{"type": "json_schema", "json_schema": {}}"#, "response_format.json_schema.schema"),
            (
                r#"{"type": "json_schema", "json_schema": {"schema": 1}}"#,
                "response_format.json_schema.schema",
            ),
        ] {
            let error = refused(&format!(r#"{{"response_format": {format}}}"#));
            assert!(error.starts_with(&format!("`{param}` ")), "{format}: {error}");
        }
        let both = refused(r#"{"grammar": "x", "response_format": {"type": "json_object"}}"#);
        assert_eq!(both, "`grammar` and `response_format` exclude each other");
    }

    #[test]
    fn a_wrong_type_is_named() {
        for (body, error) in [
            (r#"{"temperature": "hot"}"#, "`temperature` has to be a number"),
            (r#"{"top_k": 1.5}"#, "`top_k` has to be a whole number"),
            (r#"{"seed": "x"}"#, "`seed` has to be a whole number"),
            (r#"{"max_tokens": 0}"#, "`max_tokens` has to be a whole number of at least 1"),
            (
                r#"{"max_completion_tokens": -1}"#,
                "`max_completion_tokens` has to be a whole number of at least 1",
            ),
            (r#"{"stop": [1]}"#, "`stop` has to be a string or an array of strings"),
            (r#"{"session": 1}"#, "`session` has to be a string"),
            (r#"{"n": 2}"#, "`n` cannot be had here: one answer is given per request; ask again for another"),
            (
                r#"{"logit_bias": {"5": 1}}"#,
                "`logit_bias` cannot be had here: the probabilities of single tokens cannot be changed",
            ),
        ] {
            assert_eq!(refused(body), error, "{body}");
        }
    }

    #[test]
    fn a_stream_is_a_stream_and_its_usage_is_asked_for() {
        for (body, delivery) in [
            ("{}", Delivery::Whole),
            (r#"{"stream": false, "stream_options": {"include_usage": true}}"#, Delivery::Whole),
            (r#"{"stream": true}"#, Delivery::Stream { usage: false }),
            (r#"{"stream": true, "stream_options": {}}"#, Delivery::Stream { usage: false }),
            (
                r#"{"stream": true, "stream_options": {"include_usage": true}}"#,
                Delivery::Stream { usage: true },
            ),
        ] {
            assert_eq!(
                super::delivery(&Fields::of_body(body.as_bytes()).unwrap()).unwrap(),
                delivery,
                "{body}"
            );
        }
        let wrong = Fields::of_body(br#"{"stream": "yes"}"#).unwrap();
        assert_eq!(delivery(&wrong).unwrap_err().to_string(), "`stream` has to be true or false");
    }
}
