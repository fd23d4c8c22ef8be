//! `POST /v1/embeddings`: vectors, made by the local base model.

use serde::Deserialize;

use super::options::model;
use super::{Fields, Names, RequestError};
use crate::ask::Ask;
use crate::route::Mode;

/// Texts of one request; the model process takes no more.
const MOST: usize = 256;

/// An embeddings request, understood.
#[derive(Debug)]
pub(in crate::openai) struct EmbeddingsRequest {
    /// The texts.
    pub(in crate::openai) inputs: Vec<String>,
    /// By this name.
    pub(in crate::openai) model: String,
    /// How the numbers are written.
    pub(in crate::openai) encoding: Encoding,
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
    fields.without("dimensions", &[], "vectors have the length that the model gives them")?;
    let expected = "a string or an array of 1 to 256 strings, none of them empty";
    let inputs = match fields.required("input", expected)? {
        Input::One(input) => vec![input],
        Input::Many(inputs) => inputs,
    };
    if !(1..=MOST).contains(&inputs.len()) || inputs.iter().any(|input| input.trim().is_empty()) {
        return Err(RequestError::WrongType { param: fields.path("input"), expected });
    }
    let encoding = fields.optional("encoding_format", "\"float\" or \"base64\"")?.unwrap_or(Encoding::Float);
    let aimed = names.aim(&model, Ask::default())?;
    if aimed.mode == Mode::Cloud || !matches!(aimed.adapter.as_str(), "" | "none") {
        let why = "vectors are made by the local base model; name \"local\"";
        return Err(RequestError::Unsupported { param: fields.path("model"), why });
    }
    Ok(EmbeddingsRequest { inputs, model, encoding })
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
        assert_eq!((one.inputs, one.encoding), (vec!["a".to_owned()], Encoding::Float));
        let two = read(r#"{"model": "smol", "input": ["a", "b"], "encoding_format": "base64"}"#).unwrap();
        assert_eq!((two.inputs.len(), two.encoding), (2, Encoding::Base64));
    }

    #[test]
    fn what_is_not_to_be_had_is_named() {
        for (body, param) in [
            (r#"{"model": "local"}"#, "input"),
            (r#"{"model": "local", "input": [1, 2]}"#, "input"),
            (r#"{"model": "local", "input": []}"#, "input"),
            (r#"{"model": "local", "input": ["a", " "]}"#, "input"),
            (r#"{"model": "local", "input": "a", "encoding_format": "int8"}"#, "encoding_format"),
            (r#"{"model": "local", "input": "a", "dimensions": 3}"#, "dimensions"),
            (r#"{"model": "pirate", "input": "a"}"#, "model"),
            (r#"{"model": "cloud", "input": "a"}"#, "model"),
        ] {
            let error = read(body).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{param}` ")), "{body}: {error}");
        }
    }
}
