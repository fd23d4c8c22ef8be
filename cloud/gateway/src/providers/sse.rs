//! A reader for server-sent events (WHATWG HTML, section 9.2.6): bytes in, events out, whatever way the bytes
//! are cut. Lines and events are bounded, so a provider cannot make the gateway hold memory without end.

use std::collections::VecDeque;

/// The longest line, in bytes. A provider's delta is a few hundred bytes; a whole tool call fits.
pub(crate) const MAX_LINE: usize = 256 * 1024;
/// The longest event (its data lines joined), in bytes.
pub(crate) const MAX_EVENT: usize = 1024 * 1024;

/// One event as the stream carried it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// The `event:` field; `message` when the event had none.
    pub(crate) kind: String,
    /// The `data:` lines, joined by line feeds.
    pub(crate) data: String,
}

/// Why bytes are not an acceptable event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SseError {
    #[error("a line of the event stream is longer than {MAX_LINE} bytes")]
    LineTooLong,
    #[error("an event of the event stream is longer than {MAX_EVENT} bytes")]
    EventTooLong,
    #[error("the event stream is not UTF-8")]
    NotUtf8,
}

/// Takes the body of a response piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    line: Vec<u8>,
    kind: String,
    data: String,
    has_data: bool,
    after_carriage_return: bool,
    past_first_line: bool,
    ready: VecDeque<Event>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece of the body.
    ///
    /// # Errors
    /// When a line or an event passes its bound, or a line is not UTF-8. The stream is unusable then.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), SseError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.after_carriage_return) {
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend_line(&bytes[..end])?;
            self.end_line()?;
            let ended_by_carriage_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if ended_by_carriage_return {
                match bytes.first() {
                    Some(b'\n') => bytes = &bytes[1..],
                    Some(_) => {}
                    None => self.after_carriage_return = true,
                }
            }
        }
        self.extend_line(bytes)
    }

    /// The next whole event. What is unfinished when the body ends is dropped, as the standard asks.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    fn extend_line(&mut self, bytes: &[u8]) -> Result<(), SseError> {
        if self.line.len() + bytes.len() > MAX_LINE {
            return Err(SseError::LineTooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), SseError> {
        let line = std::mem::take(&mut self.line);
        let mut line = std::str::from_utf8(&line).map_err(|_| SseError::NotUtf8)?;
        if !self.past_first_line {
            self.past_first_line = true;
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            self.dispatch();
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                if self.data.len() + value.len() + 1 > MAX_EVENT {
                    return Err(SseError::EventTooLong);
                }
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            // Comments (an empty field name), `id`, `retry` and what nobody has defined yet.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) {
        let kind = std::mem::take(&mut self.kind);
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.has_data) {
            let kind = if kind.is_empty() { "message".to_owned() } else { kind };
            self.ready.push_back(Event { kind, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = "\u{feff}: a comment\r\ndata: {\"a\":1}\r\n\r\nevent: delta\rdata:x\rdata: y\r\r\
        : ping\n\nid: 7\nretry: 10\nunknown\ndata:  two spaces\n\ndata\n\nevent: nothing\r\n\ndata: h\u{e9}llo \u{1f600}\n\ndata: lost";

    fn event(kind: &str, data: &str) -> Event {
        Event { kind: kind.to_owned(), data: data.to_owned() }
    }

    fn expected() -> Vec<Event> {
        vec![
            event("message", "{\"a\":1}"),
            event("delta", "x\ny"),
            event("message", " two spaces"),
            event("message", ""),
            event("message", "h\u{e9}llo \u{1f600}"),
        ]
    }

    fn read(pieces: &[&[u8]]) -> Result<Vec<Event>, SseError> {
        let mut reader = Reader::new();
        for piece in pieces {
            reader.push(piece)?;
        }
        Ok(std::iter::from_fn(|| reader.pop()).collect())
    }

    #[test]
    fn every_pair_of_cuts_gives_the_same_events() {
        let bytes = STREAM.as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(read(&pieces).unwrap(), expected(), "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn byte_by_byte_gives_the_same_events() {
        let pieces: Vec<&[u8]> = STREAM.as_bytes().chunks(1).collect();
        assert_eq!(read(&pieces).unwrap(), expected());
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut reader = Reader::new();
        let piece = vec![b'x'; 64 * 1024];
        let outcome = (0..5).try_for_each(|_| reader.push(&piece));
        assert_eq!(outcome, Err(SseError::LineTooLong));
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut reader = Reader::new();
        let line = format!("data: {}\n", "x".repeat(200 * 1024));
        let outcome = (0..6).try_for_each(|_| reader.push(line.as_bytes()));
        assert_eq!(outcome, Err(SseError::EventTooLong));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert_eq!(read(&[b"data: \xff\xfe\n\n"]), Err(SseError::NotUtf8));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..16)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let _ = read(&pieces);
        }
    }
}
