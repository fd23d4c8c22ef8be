//! `POST /v1/embeddings`: vectors, made by the local base model.

use serde::Deserialize;

use super::options::model;
use super::{Fields, Names, RequestError};
use crate::ask::Ask;
use crate::embed::Texts;
use crate::route::Mode;

/// An embeddings request, understood.
#[derive(Debug)]
pub(in crate::openai) struct EmbeddingsRequest {
    /// The texts.
    pub(in crate::openai) texts: Texts,
    /// By this name.
    pub(in crate::openai) model: String,
    /// How the numbers are written.
    pub(in crate::openai) encoding: Encoding,
    /// Numbers that a vector is expected to have.
    pub(in crate::openai) dimensions: Option<usize>,
}

/// How a vector is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::openai) enum Encoding {
    /// An array of numbers.
    Float,
    /// The bytes of its 32-bit floats, little endian.
    Base64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Many(Vec<String>),
}

/// The request in `body`.
///
/// # Errors
/// The first field that cannot be understood.
pub(in crate::openai) fn embeddings(body: &[u8], names: &Names) -> Result<EmbeddingsRequest, RequestError> {
    let fields = Fields::of_body(body)?;
    let model = model(&fields)?;
    let dimensions = fields.optional("dimensions", "a whole number")?;
    let expected = "a string or an array of 1 to 256 strings, none of them empty, 1 MiB in all";
    let inputs = match fields.required("input", expected)? {
        Input::One(input) => vec![input],
        Input::Many(inputs) => inputs,
    };
    let texts = Texts::try_from(inputs)
        .map_err(|_| RequestError::WrongType { param: fields.path("input"), expected })?;
    let encoding = fields.optional("encoding_format", "\"float\" or \"base64\"")?.unwrap_or(Encoding::Float);
    let aimed = names.aim(&model, Ask::default())?;
    if aimed.mode == Mode::Cloud || !matches!(aimed.adapter.as_str(), "" | "none") {
        let why = "vectors are made by the local base model; name \"local\"";
        return Err(RequestError::Unsupported { param: fields.path("model"), why });
    }
    Ok(EmbeddingsRequest { texts, model, encoding, dimensions })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<EmbeddingsRequest, RequestError> {
        embeddings(body.as_bytes(), &Names::example())
    }

    #[test]
    fn one_text_or_several_in_either_encoding() {
        let one = read(r#"{"model": "local", "input": "a"}"#).unwrap();
        assert_eq!((one.texts.request(0).inputs, one.encoding), (vec!["a".to_owned()], Encoding::Float));
        let two = read(r#"{"model": "smol", "input": ["a", "b"], "encoding_format": "base64"}"#).unwrap();
        assert_eq!((two.texts.count(), two.encoding, two.dimensions), (2, Encoding::Base64, None));
        let sized = read(r#"{"model": "local", "input": "a", "dimensions": 576}"#).unwrap();
        assert_eq!(sized.dimensions, Some(576));
    }

    #[test]
    fn what_is_not_to_be_had_is_named() {
        for (body, param) in [
            (r#"{"model": "local"}"#, "input"),
            (r#"{"model": "local", "input": [1, 2]}"#, "input"),
            (r#"{"model": "local", "input": []}"#, "input"),
            (r#"{"model": "local", "input": ["a", " "]}"#, "input"),
            (r#"{"model": "local", "input": "a", "encoding_format": "int8"}"#, "encoding_format"),
            (r#"{"model": "local", "input": "a", "dimensions": "small"}"#, "dimensions"),
            (r#"{"model": "pirate", "input": "a"}"#, "model"),
            (r#"{"model": "cloud", "input": "a"}"#, "model"),
        ] {
            let error = read(body).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{param}` ")), "{body}: {error}");
        }
    }
}
