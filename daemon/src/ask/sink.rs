//! Where an answer goes while it is made: to the caller, piece by piece, remembered whole, and timed.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{AskError, AskEvent};

/// The caller stopped listening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the caller is gone")]
pub struct CallerGone;

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

    /// Passes the next piece on; waits for a slow caller. An empty piece is nothing.
    ///
    /// # Errors
    /// When nobody listens any more.
    pub async fn push(&mut self, piece: String) -> Result<(), CallerGone> {
        if piece.is_empty() {
            return Ok(());
        }
        self.first.get_or_insert_with(|| self.asked.elapsed());
        self.text.push_str(&piece);
        self.send(AskEvent::Delta(piece)).await
    }

    /// Passes anything else on.
    ///
    /// # Errors
    /// When nobody listens any more.
    pub async fn send(&self, event: AskEvent) -> Result<(), CallerGone> {
        self.events.send(Ok(event)).await.map_err(|_| CallerGone)
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
