//! `POST /v1/completions`: one text, continued by the local model as it is, without a chat template.

use serde::Deserialize;
use synesis_privacy::Message;

use super::options::{Delivery, MOST_LOGPROBS, delivery, model, options};
use super::{Fields, Names, RequestError};
use crate::ask::Ask;
use crate::route::Mode;

/// A completion request, understood.
#[derive(Debug)]
pub(in crate::openai) struct CompletionRequest {
    /// What is asked.
    pub(in crate::openai) ask: Ask,
    /// By this name.
    pub(in crate::openai) model: String,
    /// How the answer is wanted.
    pub(in crate::openai) delivery: Delivery,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Prompt {
    One(String),
    Listed([String; 1]),
}

/// The request in `body`, by the user `uid`.
///
/// # Errors
/// The first field that cannot be understood.
pub(in crate::openai) fn completion(
    body: &[u8],
    names: &Names,
    uid: u32,
) -> Result<CompletionRequest, RequestError> {
    let fields = Fields::of_body(body)?;
    let model = model(&fields)?;
    let one = "one answer is given per request; ask again for another";
    fields.without("best_of", &["1"], one)?;
    fields.without("echo", &["false"], "the prompt is not repeated; put it before the answer yourself")?;
    fields.without("suffix", &["\"\""], "text is continued, not filled in; leave the suffix out")?;
    let prompt = match fields.required("prompt", "a string, or an array of one string")? {
        Prompt::One(prompt) | Prompt::Listed([prompt]) => prompt,
    };
    let ask = names.aim(
        &model,
        Ask {
            uid,
            messages: vec![Message::new("user", prompt)],
            logprobs: logprobs(&fields)?,
            raw: true,
            ..options(&fields)?
        },
    )?;
    if ask.mode == Mode::Cloud {
        let why = "only the local model continues a text; ask /v1/chat/completions";
        return Err(RequestError::Unsupported { param: fields.path("model"), why });
    }
    let ask = Ask { mode: Mode::Local, ..ask };
    Ok(CompletionRequest { ask, model, delivery: delivery(&fields)? })
}

/// In this older API a number: of alternatives.
fn logprobs(fields: &Fields<'_>) -> Result<Option<u32>, RequestError> {
    let expected = "a whole number from 0 to 20";
    match fields.optional::<u32>("logprobs", expected)? {
        Some(top) if top > MOST_LOGPROBS => {
            Err(RequestError::WrongType { param: fields.path("logprobs"), expected })
        }
        top => Ok(top),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<CompletionRequest, RequestError> {
        completion(body.as_bytes(), &Names::example(), 1000)
    }

    #[test]
    fn a_prompt_is_continued_here_whatever_the_policy_says() {
        for prompt in [r#""Once""#, r#"["Once"]"#] {
            let body = format!(
                r#"{{"model": "synesis", "prompt": {prompt}, "logprobs": 2, "best_of": 1, "echo": false}}"#
            );
            let ask = read(&body).unwrap().ask;
            assert!(ask.messages == [Message::new("user", "Once")] && ask.raw);
            assert_eq!((ask.mode, ask.logprobs), (Mode::Local, Some(2)));
        }
    }

    #[test]
    fn what_is_not_to_be_had_is_named() {
        for (more, param) in [
            (r#""prompt": ["a", "b"]"#, "prompt"),
            (r#""prompt": [1, 2]"#, "prompt"),
            (r#""temperature": 0"#, "prompt"),
            (r#""prompt": "a", "best_of": 3"#, "best_of"),
            (r#""prompt": "a", "echo": true"#, "echo"),
            (r#""prompt": "a", "suffix": "b""#, "suffix"),
            (r#""prompt": "a", "logprobs": 21"#, "logprobs"),
            (r#""prompt": "a", "logprobs": true"#, "logprobs"),
            (r#""prompt": "a", "n": 3"#, "n"),
        ] {
            let error = read(&format!(r#"{{"model": "local", {more}}}"#)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{param}` ")), "{more}: {error}");
        }
        let cloud = read(r#"{"model": "cloud", "prompt": "a"}"#).unwrap_err().to_string();
        assert!(cloud.starts_with("`model` cannot be had here: only the local model"), "{cloud}");
    }
}
