//! Where an answer goes while it is made: to the caller, piece by piece, remembered whole, timed, and bounded.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::time::Instant;

use super::{AskError, AskEvent, Delta};
use crate::sessions::MAX_HISTORY;

/// A caller who takes nothing for this long has given up: others wait for what the request holds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer, in bytes: no session could keep a longer one.
const LONGEST: usize = MAX_HISTORY;

/// The answer cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The caller stopped listening.
    #[error("the caller is gone")]
    CallerGone,
    /// The caller listens, and takes nothing.
    #[error("the caller did not read the answer for {} s", PATIENCE.as_secs())]
    NotRead,
    /// Nobody asked for so much.
    #[error("the answer is longer than {LONGEST} bytes")]
    TooLong,
}

/// The growing answer of one request.
#[derive(Debug)]
pub struct Sink {
    events: mpsc::Sender<Result<AskEvent, AskError>>,
    text: String,
    asked: Instant,
    first: Option<Duration>,
}

impl Sink {
    /// For a request that came in at `asked`.
    pub fn new(events: mpsc::Sender<Result<AskEvent, AskError>>, asked: Instant) -> Self {
        Self { events, text: String::new(), asked, first: None }
    }

    /// Passes the next piece on; waits for a slow caller. A piece without text and probabilities is nothing.
    ///
    /// # Errors
    /// When nobody listens or reads any more, or the answer grows beyond 512 KiB.
    pub async fn push(&mut self, piece: impl Into<Delta>) -> Result<(), SinkError> {
        let piece = piece.into();
        if piece.text.is_empty() && piece.logprobs.is_empty() {
            return Ok(());
        }
        if self.text.len() + piece.text.len() > LONGEST {
            return Err(SinkError::TooLong);
        }
        self.first.get_or_insert_with(|| self.asked.elapsed());
        self.text.push_str(&piece.text);
        self.send(AskEvent::Delta(piece)).await
    }

    /// Passes anything else on.
    ///
    /// # Errors
    /// When nobody listens or reads any more.
    pub async fn send(&self, event: AskEvent) -> Result<(), SinkError> {
        self.events.send_timeout(Ok(event), PATIENCE).await.map_err(|error| match error {
            SendTimeoutError::Closed(_) => SinkError::CallerGone,
            SendTimeoutError::Timeout(_) => SinkError::NotRead,
        })
    }

    /// Everything so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// From the request to its first piece; for an answer without one, to now.
    pub fn to_first(&self) -> Duration {
        self.first.unwrap_or_else(|| self.asked.elapsed())
    }

    /// From the request to now.
    pub fn so_far(&self) -> Duration {
        self.asked.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_reads_slowly_is_waited_for_and_one_who_does_not_read_is_not() {
        let (events, mut reading) = mpsc::channel(1);
        let mut sink = Sink::new(events, Instant::now());
        sink.push("kept".to_owned()).await.unwrap();
        let slowly = async {
            tokio::time::sleep(PATIENCE / 2).await;
            reading.recv().await.unwrap().unwrap();
        };
        let (pushed, ()) = tokio::join!(sink.push("taken late".to_owned()), slowly);
        pushed.unwrap();
        let before = Instant::now();
        assert_eq!(sink.push("never taken".to_owned()).await, Err(SinkError::NotRead));
        assert_eq!(before.elapsed(), PATIENCE);
        drop(reading);
        assert_eq!(sink.push("to nobody".to_owned()).await, Err(SinkError::CallerGone));
    }

    #[tokio::test]
    async fn an_answer_has_an_end() {
        let (events, _reading) = mpsc::channel(8);
        let mut sink = Sink::new(events, Instant::now());
        sink.push("x".repeat(LONGEST)).await.unwrap();
        assert_eq!(sink.push("x".to_owned()).await, Err(SinkError::TooLong));
        assert_eq!(sink.text().len(), LONGEST);
    }
}
