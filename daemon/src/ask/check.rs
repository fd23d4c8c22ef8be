//! What can be said about a request before anything is known about the device.

use synesis_privacy::Role;

use super::{Ask, AskError};
use crate::route::Mode;

/// Stop texts of one request.
const MAX_STOPS: usize = 16;
/// Of one stop text, in bytes.
const MAX_STOP: usize = 256;
/// Of a session's name, in bytes.
const MAX_NAME: usize = 128;

/// # Errors
/// The first thing in it that makes no sense.
pub(super) fn check(ask: &Ask) -> Result<(), AskError> {
    if let Some(index) = ask.messages.iter().position(|message| message.role.parse::<Role>().is_err()) {
        return Err(AskError::UnknownRole(index));
    }
    // System messages alone ask nothing.
    if !ask.messages.iter().any(|message| message.role != "system" && !message.content.trim().is_empty()) {
        return Err(AskError::EmptyPrompt);
    }
    if ask.sampling.temperature.is_some_and(|temperature| !(0.0..=2.0).contains(&temperature)) {
        return Err(AskError::OutOfRange("the temperature (0 to 2)"));
    }
    if ask.sampling.top_p.is_some_and(|top_p| !(0.0..=1.0).contains(&top_p)) {
        return Err(AskError::OutOfRange("top_p (0 to 1)"));
    }
    if ask.stop.len() > MAX_STOPS || ask.stop.iter().any(|stop| stop.is_empty() || stop.len() > MAX_STOP) {
        return Err(AskError::OutOfRange("a stop text (at most 16, each 1 to 256 bytes)"));
    }
    if ask.session.len() > MAX_NAME {
        return Err(AskError::OutOfRange("the session's name (at most 128 bytes)"));
    }
    if ask.mode == Mode::Cloud && !matches!(ask.adapter.as_str(), "" | "none") {
        return Err(AskError::AdapterInCloud);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use synesis_privacy::Message;
    use synesis_proto::{Problem, reason};

    use super::*;

    fn ask() -> Ask {
        Ask { messages: vec![Message::new("user", "hello")], mode: Mode::Auto, ..Ask::default() }
    }

    fn refused(ask: &Ask) -> bool {
        check(ask).err().is_some_and(|error| Problem::from(error).reason == reason::BAD_REQUEST)
    }

    #[test]
    fn stop_texts_and_session_names_have_limits() {
        let stops = |stop: Vec<String>| Ask { stop, ..ask() };
        assert!(check(&stops(vec!["x".repeat(MAX_STOP); MAX_STOPS])).is_ok());
        assert!(refused(&stops(vec!["x".to_owned(); MAX_STOPS + 1])));
        assert!(refused(&stops(vec![String::new()])));
        assert!(refused(&stops(vec!["x".repeat(MAX_STOP + 1)])));
        let named = |length: usize| Ask { session: "x".repeat(length), ..ask() };
        assert!(check(&named(MAX_NAME)).is_ok());
        assert!(refused(&named(MAX_NAME + 1)));
    }
}
