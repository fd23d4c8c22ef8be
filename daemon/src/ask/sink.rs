//! Where an answer goes while it is made: to the caller, piece by piece, remembered whole, timed, and bounded.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::time::Instant;

use super::{AskError, AskEvent, Delta, Done, Route};
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
    /// Not told yet: it may change until the first piece.
    route: Option<Route>,
    text: String,
    asked: Instant,
    first: Option<Duration>,
}

impl Sink {
    /// For a request that came in at `asked`.
    pub fn new(events: mpsc::Sender<Result<AskEvent, AskError>>, asked: Instant) -> Self {
        Self { events, route: None, text: String::new(), asked, first: None }
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
        self.tell_route().await?;
        self.send(AskEvent::Delta(piece)).await
    }

    /// Where the answer comes from. Told with its first piece; later it changes nothing.
    pub fn route(&mut self, route: Route) {
        if self.is_silent() {
            self.route = Some(route);
        }
    }

    /// Passes the end on.
    ///
    /// # Errors
    /// When nobody listens or reads any more.
    pub async fn end(&mut self, done: Done) -> Result<(), SinkError> {
        self.tell_route().await?;
        self.send(AskEvent::Done(Box::new(done))).await
    }

    async fn tell_route(&mut self) -> Result<(), SinkError> {
        match self.route.take() {
            Some(route) => self.send(AskEvent::Routed(route)).await,
            None => Ok(()),
        }
    }

    async fn send(&self, event: AskEvent) -> Result<(), SinkError> {
        self.events.send_timeout(Ok(event), PATIENCE).await.map_err(|error| match error {
            SendTimeoutError::Closed(_) => SinkError::CallerGone,
            SendTimeoutError::Timeout(_) => SinkError::NotRead,
        })
    }

    /// Everything so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the caller has seen nothing of an answer.
    pub fn is_silent(&self) -> bool {
        self.first.is_none()
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
    use crate::route::{CloudWhy, LocalWhy};

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
    async fn where_it_runs_is_told_once_with_the_first_piece_and_can_change_before() {
        let (events, mut reading) = mpsc::channel(8);
        let mut sink = Sink::new(events, Instant::now());
        sink.route(Route::Local(LocalWhy::GoodEnough));
        sink.push(String::new()).await.unwrap();
        assert!(sink.is_silent(), "an empty piece is nothing");
        sink.route(Route::Cloud(CloudWhy::LowConfidence));
        for piece in ["a", "b"] {
            sink.push(piece.to_owned()).await.unwrap();
            sink.route(Route::Local(LocalWhy::GoodEnough));
        }
        drop(sink);
        let mut seen = Vec::new();
        while let Some(event) = reading.recv().await {
            seen.push(match event.unwrap() {
                AskEvent::Routed(route) => route.reason().to_owned(),
                AskEvent::Delta(delta) => delta.text,
                AskEvent::Done(_) => "done".to_owned(),
            });
        }
        assert_eq!(seen, ["low_confidence", "a", "b"]);
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
