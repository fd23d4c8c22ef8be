//! What can be said about a request before anything is known about the device.

use std::ops::RangeInclusive;

use serde_json::Value;
use synesis_privacy::{Message, Role};

use super::{Ask, AskError, Constraint};

/// Stop texts of one request.
const MAX_STOPS: usize = 16;
/// Of one stop text, in bytes.
const MAX_STOP: usize = 256;
/// Of a session's or a tool's name, or the id of a call, in bytes.
const MAX_NAME: usize = 128;
/// Of a schema or a grammar, in bytes.
const MAX_CONSTRAINT: usize = 64 * 1024;
/// Of the definitions of tools, in bytes.
const MAX_TOOLS: usize = 256 * 1024;
/// Alternatives of one token.
const MAX_LOGPROBS: u32 = 20;
/// No vocabulary has more tokens.
const MAX_TOP_K: u32 = 1_000_000;

/// # Errors
/// The first thing in it that makes no sense.
pub(super) fn check(ask: &Ask) -> Result<(), AskError> {
    messages(&ask.messages)?;
    sampling(ask)?;
    constraint(ask.constraint.as_ref())?;
    if ask.stop.len() > MAX_STOPS || ask.stop.iter().any(|stop| stop.is_empty() || stop.len() > MAX_STOP) {
        return Err(AskError::OutOfRange("a stop text (at most 16, each 1 to 256 bytes)"));
    }
    if ask.session.len() > MAX_NAME {
        return Err(AskError::OutOfRange("the session's name (at most 128 bytes)"));
    }
    if let Some(tools) = &ask.tools {
        if tools.len() > MAX_TOOLS {
            return Err(AskError::OutOfRange("the tools (at most 256 KiB)"));
        }
        array(tools, "the tools are not a JSON array")?;
    }
    if ask.raw { raw(ask) } else { Ok(()) }
}

fn messages(messages: &[Message]) -> Result<(), AskError> {
    if let Some(index) = messages.iter().position(|message| message.role.parse::<Role>().is_err()) {
        return Err(AskError::UnknownRole(index));
    }
    // System messages alone ask nothing.
    if !messages.iter().any(|message| message.role != "system" && !message.content.trim().is_empty()) {
        return Err(AskError::EmptyPrompt);
    }
    for message in messages {
        if let Some(calls) = &message.tool_calls {
            array(calls, "the tool calls of a message are not a JSON array")?;
        }
        let names = [&message.tool_call_id, &message.name];
        if names.into_iter().flatten().any(|name| name.len() > MAX_NAME) {
            return Err(AskError::OutOfRange("the name of a tool or the id of a call (at most 128 bytes)"));
        }
    }
    Ok(())
}

fn sampling(ask: &Ask) -> Result<(), AskError> {
    let sampling = &ask.sampling;
    // What is not a number is in no range.
    let within = |value: Option<f32>, range: RangeInclusive<f32>, name: &'static str| match value {
        Some(value) if !range.contains(&value) => Err(AskError::OutOfRange(name)),
        _ => Ok(()),
    };
    within(sampling.temperature, 0.0..=2.0, "the temperature (0 to 2)")?;
    within(sampling.top_p, 0.0..=1.0, "top_p (0 to 1)")?;
    within(sampling.min_p, 0.0..=1.0, "min_p (0 to 1)")?;
    within(sampling.repeat_penalty, 0.0..=2.0, "the repeat penalty (0 to 2)")?;
    within(sampling.presence_penalty, -2.0..=2.0, "the presence penalty (-2 to 2)")?;
    within(sampling.frequency_penalty, -2.0..=2.0, "the frequency penalty (-2 to 2)")?;
    within(ask.adapter_scale, 0.0..=10.0, "the adapter scale (0 to 10)")?;
    if sampling.top_k.is_some_and(|top_k| top_k > MAX_TOP_K) {
        return Err(AskError::OutOfRange("top_k (0 to 1000000)"));
    }
    if ask.logprobs.is_some_and(|many| many > MAX_LOGPROBS) {
        return Err(AskError::OutOfRange("the number of log probabilities (0 to 20)"));
    }
    Ok(())
}

fn constraint(constraint: Option<&Constraint>) -> Result<(), AskError> {
    let text = match constraint {
        None => return Ok(()),
        Some(Constraint::JsonSchema(text) | Constraint::Grammar(text)) => text,
    };
    if text.trim().is_empty() || text.len() > MAX_CONSTRAINT {
        return Err(AskError::OutOfRange("the JSON schema or the grammar (1 byte to 64 KiB)"));
    }
    match constraint {
        Some(Constraint::JsonSchema(schema)) => {
            serde_json::from_str::<Value>(schema).map(drop).map_err(AskError::Schema)
        }
        // Only the model process knows the language.
        Some(Constraint::Grammar(_)) | None => Ok(()),
    }
}

fn raw(ask: &Ask) -> Result<(), AskError> {
    let one_prompt = matches!(ask.messages.as_slice(), [message] if message.role == "user");
    if !one_prompt {
        return Err(AskError::Malformed("a raw request takes exactly one message, a user's"));
    }
    if !ask.session.is_empty() || ask.tools.is_some() {
        return Err(AskError::Malformed("a raw request can have neither a session nor tools"));
    }
    Ok(())
}

fn array(text: &str, otherwise: &'static str) -> Result<(), AskError> {
    serde_json::from_str::<Vec<Value>>(text).map(drop).map_err(|_| AskError::Malformed(otherwise))
}

#[cfg(test)]
mod tests {
    use synesis_proto::{Problem, reason};

    use super::*;
    use crate::ask::Sampling;
    use crate::route::Mode;

    fn ask() -> Ask {
        Ask { messages: vec![Message::new("user", "hello")], mode: Mode::Auto, ..Ask::default() }
    }

    #[track_caller]
    fn refused(ask: &Ask) {
        let problem = Problem::from(check(ask).expect_err("it makes no sense"));
        assert_eq!(problem.reason, reason::BAD_REQUEST, "{problem:?}");
    }

    #[track_caller]
    fn fine(ask: &Ask) {
        check(ask).unwrap();
    }

    #[test]
    fn stop_texts_and_session_names_have_limits() {
        let stops = |stop: Vec<String>| Ask { stop, ..ask() };
        fine(&stops(vec!["x".repeat(MAX_STOP); MAX_STOPS]));
        refused(&stops(vec!["x".to_owned(); MAX_STOPS + 1]));
        refused(&stops(vec![String::new()]));
        refused(&stops(vec!["x".repeat(MAX_STOP + 1)]));
        let named = |length: usize| Ask { session: "x".repeat(length), ..ask() };
        fine(&named(MAX_NAME));
        refused(&named(MAX_NAME + 1));
    }

    #[test]
    fn each_number_has_its_range_and_what_is_no_number_is_outside() {
        type Set = fn(&mut Ask, f32);
        let numbers: [(Set, f32, f32); 7] = [
            (|ask, value| ask.sampling.temperature = Some(value), 0.0, 2.0),
            (|ask, value| ask.sampling.top_p = Some(value), 0.0, 1.0),
            (|ask, value| ask.sampling.min_p = Some(value), 0.0, 1.0),
            (|ask, value| ask.sampling.repeat_penalty = Some(value), 0.0, 2.0),
            (|ask, value| ask.sampling.presence_penalty = Some(value), -2.0, 2.0),
            (|ask, value| ask.sampling.frequency_penalty = Some(value), -2.0, 2.0),
            (|ask, value| ask.adapter_scale = Some(value), 0.0, 10.0),
        ];
        for (set, least, most) in numbers {
            let with = |value| {
                let mut ask = ask();
                set(&mut ask, value);
                ask
            };
            fine(&with(least));
            fine(&with(most));
            for outside in [least - 0.01, most + 0.01, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                refused(&with(outside));
            }
        }
    }

    #[test]
    fn counts_have_limits() {
        let top_k = |many| Ask { sampling: Sampling { top_k: Some(many), ..Sampling::default() }, ..ask() };
        fine(&top_k(MAX_TOP_K));
        refused(&top_k(MAX_TOP_K + 1));
        let logprobs = |many| Ask { logprobs: Some(many), ..ask() };
        fine(&logprobs(20));
        refused(&logprobs(21));
    }

    #[test]
    fn a_schema_is_json_and_neither_it_nor_a_grammar_is_too_long() {
        let with = |constraint| Ask { constraint: Some(constraint), ..ask() };
        fine(&with(Constraint::JsonSchema("{}".into())));
        fine(&with(Constraint::Grammar("start: /[a-z]+/".into())));
        refused(&with(Constraint::JsonSchema(" ".into())));
        refused(&with(Constraint::Grammar("x".repeat(MAX_CONSTRAINT + 1))));
        let problem = Problem::from(check(&with(Constraint::JsonSchema("{\"type\":".into()))).unwrap_err());
        assert_eq!(problem.reason, reason::CONSTRAINT_INVALID);
    }

    #[test]
    fn tools_and_tool_calls_are_json_arrays() {
        let with = |tools: &str| Ask { tools: Some(tools.to_owned()), ..ask() };
        fine(&with("[]"));
        fine(&with(r#"[{"type":"function","function":{"name":"f"}}]"#));
        for tools in ["", "{}", "null", "[", "[1] 2"] {
            refused(&with(tools));
        }
        refused(&with(&format!("[\"{}\"]", "x".repeat(MAX_TOOLS))));
        let calling = |calls: &str| {
            let called = Message::new("assistant", "").calling(calls);
            Ask { messages: vec![Message::new("user", "hello"), called], ..Ask::default() }
        };
        fine(&calling("[]"));
        refused(&calling("{}"));
        let answered = Message::new("tool", "4").answering("x".repeat(MAX_NAME + 1));
        refused(&Ask { messages: vec![answered], ..Ask::default() });
    }

    #[test]
    fn a_raw_request_is_one_prompt_and_nothing_else() {
        let raw = Ask { raw: true, ..ask() };
        fine(&raw);
        refused(&Ask { session: "s".into(), ..raw.clone() });
        refused(&Ask { tools: Some("[]".into()), ..raw.clone() });
        let two = vec![Message::new("system", "be brief"), Message::new("user", "hello")];
        refused(&Ask { messages: two, ..raw.clone() });
        refused(&Ask { messages: vec![Message::new("assistant", "hello")], ..raw });
    }

    #[test]
    fn a_request_without_a_question_is_empty() {
        let system = Ask { messages: vec![Message::new("system", "be brief")], ..Ask::default() };
        assert!(matches!(check(&system), Err(AskError::EmptyPrompt)));
        assert!(matches!(check(&Ask::default()), Err(AskError::EmptyPrompt)));
    }
}
