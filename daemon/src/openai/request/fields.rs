//! The fields of one JSON object, each read when somebody asks for it, so that a wrong one is named with its path
//! (`messages[2].role`) and one that nobody asks for is ignored. What is passed on keeps the bytes it came in.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::RequestError;

/// One JSON object of a request.
#[derive(Debug)]
pub(in crate::openai) struct Fields<'a> {
    /// Where it is: empty, or the path with a dot after it.
    at: String,
    values: HashMap<String, &'a RawValue>,
}

impl<'a> Fields<'a> {
    /// The fields of a request's body.
    ///
    /// # Errors
    /// It is no JSON object.
    pub(in crate::openai) fn of_body(body: &'a [u8]) -> Result<Self, RequestError> {
        let values = serde_json::from_slice(body).map_err(RequestError::NotJson)?;
        Ok(Self { at: String::new(), values })
    }

    /// The fields of the object `json` at the path `at`.
    ///
    /// # Errors
    /// It is no object.
    pub(super) fn of(json: &'a RawValue, at: &str) -> Result<Self, RequestError> {
        let values = serde_json::from_str(json.get())
            .map_err(|_| RequestError::WrongType { param: at.to_owned(), expected: "an object" })?;
        Ok(Self { at: format!("{at}."), values })
    }

    /// The path of a field.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.at)
    }

    /// The field as it was written; `null` is the same as absent.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.values.get(name).copied().filter(|value| value.get() != "null")
    }

    /// The field as a `T`, which people call `expected`.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn optional<T: Deserialize<'a>>(
        &self,
        name: &str,
        expected: &'static str,
    ) -> Result<Option<T>, RequestError> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        match serde_json::from_str(value.get()) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(RequestError::WrongType { param: self.path(name), expected }),
        }
    }

    /// As [`Self::optional`], for a field that has to be there.
    ///
    /// # Errors
    /// It is absent, or something else.
    pub(super) fn required<T: Deserialize<'a>>(
        &self,
        name: &str,
        expected: &'static str,
    ) -> Result<T, RequestError> {
        self.optional(name, expected)?
            .ok_or_else(|| RequestError::Missing { param: self.path(name), expected })
    }

    /// The object in a field.
    ///
    /// # Errors
    /// It is no object.
    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, RequestError> {
        self.raw(name).map(|json| Self::of(json, &self.path(name))).transpose()
    }

    /// A feature we do not have may be spelled out as switched off: as one of `off`.
    ///
    /// # Errors
    /// It is asked for.
    pub(super) fn without(&self, name: &str, off: &[&str], why: &'static str) -> Result<(), RequestError> {
        match self.raw(name) {
            Some(value) if !off.contains(&value.get()) => {
                Err(RequestError::Unsupported { param: self.path(name), why })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> Fields<'_> {
        Fields::of_body(body.as_bytes()).unwrap()
    }

    #[test]
    fn a_body_that_is_no_object_is_not_json_for_us() {
        for body in ["", "{", "[]", "1", "\"x\"", "{\"a\":}", "\u{0}", "{\"a\":1} x"] {
            let refused = Fields::of_body(body.as_bytes()).unwrap_err();
            assert!(matches!(refused, RequestError::NotJson(_)), "{body:?}");
        }
        Fields::of_body(b"{\"a\": \"\xff\"}").unwrap_err();
    }

    #[test]
    fn null_is_the_same_as_absent() {
        let fields = fields(r#"{"n": null}"#);
        assert_eq!(fields.optional::<u32>("n", "a number").unwrap(), None);
        assert_eq!(fields.optional::<u32>("m", "a number").unwrap(), None);
        assert!(matches!(fields.required::<u32>("n", "a number"), Err(RequestError::Missing { .. })));
    }

    #[test]
    fn a_wrong_type_is_named_with_its_path() {
        let body = fields(r#"{"a": {"b": "x"}}"#);
        let inner = body.object("a").unwrap().unwrap();
        let error = inner.optional::<u32>("b", "a whole number").unwrap_err();
        assert_eq!(error.to_string(), "`a.b` has to be a whole number");
        assert!(body.object("b").unwrap().is_none());
        assert_eq!(inner.object("b").unwrap_err().to_string(), "`a.b` has to be an object");
    }

    #[test]
    fn what_is_passed_on_keeps_its_bytes() {
        let body = fields(r#"{"schema": {"z": 1, "a":  [2 ]}}"#);
        assert_eq!(body.raw("schema").unwrap().get(), r#"{"z": 1, "a":  [2 ]}"#);
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        let deep = format!("{{\"a\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        if let Ok(fields) = Fields::of_body(deep.as_bytes()) {
            assert!(fields.optional::<serde_json::Value>("a", "x").is_err());
        }
    }
}
