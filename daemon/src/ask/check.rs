//! What can be said about a request before anything is known about the device.

use synesis_privacy::Role;

use super::{Ask, AskError};
use crate::route::Mode;

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
    if ask.temperature.is_some_and(|temperature| !(0.0..=2.0).contains(&temperature)) {
        return Err(AskError::OutOfRange("the temperature (0 to 2)"));
    }
    if ask.top_p.is_some_and(|top_p| !(0.0..=1.0).contains(&top_p)) {
        return Err(AskError::OutOfRange("top_p (0 to 1)"));
    }
    if ask.mode == Mode::Cloud && !matches!(ask.adapter.as_str(), "" | "none") {
        return Err(AskError::AdapterInCloud);
    }
    Ok(())
}
