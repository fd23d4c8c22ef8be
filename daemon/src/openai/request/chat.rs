//! `POST /v1/chat/completions`.

use super::message::messages;
use super::options::{Delivery, MOST_LOGPROBS, delivery, model, options};
use super::tools::tools;
use super::{Fields, Names, RequestError};
use crate::ask::Ask;

/// A chat request, understood.
#[derive(Debug)]
pub(in crate::openai) struct ChatRequest {
    /// What is asked.
    pub(in crate::openai) ask: Ask,
    /// By this name.
    pub(in crate::openai) model: String,
    /// How the answer is wanted.
    pub(in crate::openai) delivery: Delivery,
    /// Tools that the answer may call.
    pub(in crate::openai) tools: Vec<String>,
}

/// The request in `body`, by the user `uid`.
///
/// # Errors
/// The first field that cannot be understood.
pub(in crate::openai) fn chat(body: &[u8], names: &Names, uid: u32) -> Result<ChatRequest, RequestError> {
    let fields = Fields::of_body(body)?;
    let model = model(&fields)?;
    let (ask, tools) = (options(&fields)?, tools(&fields)?);
    let ask = names.aim(
        &model,
        Ask { uid, messages: messages(&fields)?, logprobs: logprobs(&fields)?, tools: tools.json, ..ask },
    )?;
    Ok(ChatRequest { ask, model, delivery: delivery(&fields)?, tools: tools.names })
}

/// `logprobs` switches them on, `top_logprobs` says of how many alternatives.
fn logprobs(fields: &Fields<'_>) -> Result<Option<u32>, RequestError> {
    let on = fields.optional("logprobs", "true or false")?.unwrap_or(false);
    let expected = "a whole number from 0 to 20, together with \"logprobs\": true";
    match fields.optional::<u32>("top_logprobs", expected)? {
        None => Ok(on.then_some(0)),
        Some(top) if on && top <= MOST_LOGPROBS => Ok(Some(top)),
        Some(0) => Ok(None),
        Some(_) => Err(RequestError::WrongType { param: fields.path("top_logprobs"), expected }),
    }
}

#[cfg(test)]
mod tests {
    use synesis_privacy::Message;

    use super::*;
    use crate::route::Mode;

    fn read(body: &str) -> Result<ChatRequest, RequestError> {
        chat(body.as_bytes(), &Names::example(), 1000)
    }

    #[test]
    fn a_request_becomes_an_ask() {
        let request = read(
            r#"{"model": "pirate", "messages": [{"role": "user", "content": "ahoy"}], "stream": true, "logprobs": true,
                "top_logprobs": 3, "max_tokens": 5, "tools": [{"type":"function","function":{"name":"sail"}}]}"#,
        )
        .unwrap();
        let ask = request.ask;
        assert!(ask.messages == [Message::new("user", "ahoy")] && ask.uid == 1000);
        assert_eq!((ask.mode, ask.adapter.as_str()), (Mode::Local, "pirate"));
        assert_eq!((ask.logprobs, ask.max_tokens, ask.raw), (Some(3), Some(5), false));
        assert_eq!(ask.tools.as_deref(), Some(r#"[{"type":"function","function":{"name":"sail"}}]"#));
        assert_eq!((request.model.as_str(), request.tools), ("pirate", vec!["sail".to_owned()]));
        assert_eq!(request.delivery, Delivery::Stream { usage: false });
    }

    #[test]
    fn log_probabilities_have_a_switch_and_a_number() {
        for (more, logprobs) in [
            ("", Ok(None)),
            (r#", "logprobs": false"#, Ok(None)),
            (r#", "top_logprobs": 0"#, Ok(None)),
            (r#", "logprobs": true"#, Ok(Some(0))),
            (r#", "logprobs": true, "top_logprobs": 20"#, Ok(Some(20))),
            (r#", "logprobs": true, "top_logprobs": 21"#, Err(())),
            (r#", "top_logprobs": 2"#, Err(())),
            (r#", "logprobs": 5"#, Err(())),
        ] {
            let body =
                format!(r#"{{"model": "local", "messages": [{{"role": "user", "content": "x"}}]{more}}}"#);
            assert_eq!(read(&body).map(|request| request.ask.logprobs).map_err(|_| ()), logprobs, "{more}");
        }
    }

    #[test]
    fn a_model_and_messages_have_to_be_named() {
        for (body, error) in [
            (
                r#"{"messages": []}"#,
                "`model` is missing: it has to be the name of a model; GET /v1/models lists them",
            ),
            (r#"{"model": "local"}"#, "`messages` is missing: it has to be an array of messages"),
            (r#"{"model": "gpt-4o", "messages": []}"#, "the model `gpt-4o` does not exist here"),
        ] {
            assert_eq!(read(body).unwrap_err().to_string(), error, "{body}");
        }
    }
}
