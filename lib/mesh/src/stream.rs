//! A work stream: a header that says what it is for, then frames both ways. Dropping an end resets its direction,
//! so the other side notices a cancel at once; only a finished stream ends quietly.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use synesis_proto::mesh::v1;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use ulid::Ulid;

use crate::carrier::{RecvStream, SendStream};
use crate::frame::{FrameError, FrameReader, FrameWriter};
use crate::kind::{ErrorCode, MAX_HEADER_FRAME, StreamKind};
use crate::patience::Patience;

/// Longer trace contexts are dropped; the W3C format has 55 characters.
const MAX_TRACEPARENT: usize = 128;
/// Nobody waits longer for an answer; a larger number from the wire counts as this one.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// What a work stream is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHeader {
    /// Which protocol its frames follow.
    pub kind: StreamKind,
    /// The request it belongs to; the same id on a second stream is a retry.
    pub request_id: Ulid,
    /// How long the device will wait for the whole of it.
    pub timeout: Option<Duration>,
    /// W3C Trace Context.
    pub traceparent: Option<String>,
}

impl StreamHeader {
    /// A header without deadline and trace.
    pub fn new(kind: StreamKind, request_id: Ulid) -> Self {
        Self { kind, request_id, timeout: None, traceparent: None }
    }
}

impl From<&StreamHeader> for v1::StreamHeader {
    fn from(header: &StreamHeader) -> Self {
        let millis = |t: Duration| u64::try_from(t.as_millis()).unwrap_or(u64::MAX).max(1);
        Self {
            kind: header.kind.number(),
            request_id: header.request_id.to_string(),
            timeout_ms: header.timeout.map_or(0, millis),
            traceparent: header.traceparent.clone().unwrap_or_default(),
        }
    }
}

/// Why a header cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("stream kind {0} is not known to this gateway")]
    UnknownKind(u32),
    #[error("'{0}' is not a request id")]
    RequestId(String),
}

impl HeaderError {
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownKind(_) => ErrorCode::UnknownKind,
            Self::RequestId(_) => ErrorCode::BadFrame,
        }
    }
}

impl StreamHeader {
    /// Reads a header as it came, and refuses what this end cannot serve.
    pub(crate) fn from_wire(header: v1::StreamHeader) -> Result<Self, HeaderError> {
        let kind = match StreamKind::from_number(header.kind) {
            // The control stream has no header, and there is one of it.
            Some(StreamKind::Control) | None => return Err(HeaderError::UnknownKind(header.kind)),
            Some(kind) => kind,
        };
        let request_id = Ulid::from_string(&header.request_id)
            .map_err(|_| HeaderError::RequestId(header.request_id.chars().take(64).collect()))?;
        let fits = |text: &String| !text.is_empty() && text.len() <= MAX_TRACEPARENT;
        Ok(Self {
            kind,
            request_id,
            timeout: (header.timeout_ms > 0)
                .then(|| Duration::from_millis(header.timeout_ms).min(MAX_TIMEOUT)),
            traceparent: Some(header.traceparent).filter(fits),
        })
    }
}

/// One piece of work on the tunnel. Take it apart freely: each half looks after itself.
#[derive(Debug)]
pub struct WorkStream {
    /// What it is for.
    pub header: StreamHeader,
    /// Frames to the other end.
    pub tx: FrameWriter<SendHalf>,
    /// Frames from the other end.
    pub rx: FrameReader<RecvHalf>,
}

impl WorkStream {
    /// Answers with a problem, ends the stream, and tells the other end to stop sending.
    ///
    /// # Errors
    /// When the other end is gone already.
    pub async fn refuse(
        self,
        code: ErrorCode,
        message: impl Into<String>,
        next_step: impl Into<String>,
    ) -> Result<(), FrameError> {
        self.refuse_with(code.problem(message, next_step)).await
    }

    /// Like [`Self::refuse`], with a problem that may say when to come back.
    ///
    /// # Errors
    /// When the other end is gone already.
    pub async fn refuse_with(mut self, problem: v1::Problem) -> Result<(), FrameError> {
        self.rx.io_mut().stop(ErrorCode::from_number(problem.code.into()).unwrap_or(ErrorCode::Internal));
        match self.header.kind {
            StreamKind::Ask => {
                let message = Some(v1::ask_down::Message::Problem(problem));
                self.tx.write(&v1::AskDown { message }).await?;
            }
            StreamKind::Account => {
                let message = Some(v1::account_down::Message::Problem(problem));
                self.tx.write(&v1::AccountDown { message }).await?;
            }
            StreamKind::AdapterPush => {
                let message = Some(v1::push_down::Message::Problem(problem));
                self.tx.write(&v1::PushDown { message }).await?;
            }
            StreamKind::AdapterPull => {
                let message = Some(v1::pull_down::Message::Problem(problem));
                self.tx.write(&v1::PullDown { message }).await?;
            }
            StreamKind::Adapters => {
                let message = Some(v1::catalogue_down::Message::Problem(problem));
                self.tx.write(&v1::CatalogueDown { message }).await?;
            }
            StreamKind::Control => {
                let message = Some(v1::control_down::Message::Problem(problem));
                self.tx.write(&v1::ControlDown { message }).await?;
            }
        }
        self.tx.finish().await
    }
}

/// Both directions of a stream whose header has not been read or written yet.
pub(crate) struct RawStream {
    pub(crate) tx: FrameWriter<SendHalf>,
    pub(crate) rx: FrameReader<RecvHalf>,
}

impl RawStream {
    pub(crate) fn new((send, recv): (SendStream, RecvStream), guard: Option<Arc<Busy>>) -> Self {
        let tx = SendHalf { stream: send, open: true, patience: Patience::default(), _busy: guard.clone() };
        let rx = RecvHalf { stream: recv, open: true, _busy: guard };
        Self { tx: FrameWriter::new(tx, MAX_HEADER_FRAME), rx: FrameReader::new(rx, MAX_HEADER_FRAME) }
    }

    /// The two halves with the limits and the priority of `kind`.
    pub(crate) fn with_kind(self, kind: StreamKind) -> (FrameWriter<SendHalf>, FrameReader<RecvHalf>) {
        self.tx.io().stream.set_priority(kind.priority());
        (self.tx.with_limit(kind.max_frame()), self.rx.with_limit(kind.max_frame()))
    }

    pub(crate) fn into_work(self, header: StreamHeader) -> WorkStream {
        let (tx, rx) = self.with_kind(header.kind);
        WorkStream { header, tx, rx }
    }

    /// Ends a stream whose kind is not known: the one answer that needs no kind is a bare `Problem`.
    pub(crate) async fn refuse(mut self, code: ErrorCode, message: String) -> Result<(), FrameError> {
        self.rx.io_mut().stop(code);
        self.tx.write(&code.problem(message, "")).await?;
        self.tx.finish().await
    }
}

/// Counts the open work streams of a connection while it lives.
#[derive(Debug)]
pub(crate) struct Busy(watch::Sender<usize>);

impl Busy {
    pub(crate) fn new(count: watch::Sender<usize>) -> Arc<Self> {
        count.send_modify(|n| *n += 1);
        Arc::new(Self(count))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n = n.saturating_sub(1));
    }
}

/// The sending direction. Dropped before [`FrameWriter::finish`], it resets the stream.
#[derive(Debug)]
pub struct SendHalf {
    stream: SendStream,
    open: bool,
    patience: Patience,
    _busy: Option<Arc<Busy>>,
}

impl FrameWriter<SendHalf> {
    /// Sends what is left and ends this direction. The other end then reads an end, not an error.
    ///
    /// # Errors
    /// When the other end is gone, or wants no more.
    pub async fn finish(&mut self) -> Result<(), FrameError> {
        self.flush().await?;
        let half = self.io_mut();
        half.open = false;
        half.stream.finish();
        Ok(())
    }

    /// Cuts this direction, with [`ErrorCode::DeadlineExceeded`], once a write has waited that long for a reader that takes
    /// nothing.
    pub fn cut_unread_after(&mut self, limit: Duration) {
        self.io_mut().patience = Patience::of(limit);
    }

    /// Resets this direction with a reason; the other end reads [`FrameError::Reset`].
    pub fn reset(&mut self, code: ErrorCode) {
        self.io_mut().reset(code);
    }

    /// Resolves when nobody reads this direction any more: the other end cancelled, the connection is lost, or
    /// everything up to the end was received. A gateway selects on it while a provider keeps it waiting.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.io().stream.stopped()
    }
}

impl SendHalf {
    fn reset(&mut self, code: ErrorCode) {
        self.open = false;
        self.stream.reset(code.number());
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if self.open {
            self.reset(ErrorCode::Cancelled);
        }
    }
}

impl AsyncWrite for SendHalf {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, data);
        if self.patience.is_over(written.is_pending(), cx) {
            self.reset(ErrorCode::DeadlineExceeded);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.open = false;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The receiving direction. Dropped before its end, it tells the other end to stop sending.
#[derive(Debug)]
pub struct RecvHalf {
    stream: RecvStream,
    open: bool,
    _busy: Option<Arc<Busy>>,
}

impl RecvHalf {
    fn stop(&mut self, code: ErrorCode) {
        if std::mem::take(&mut self.open) {
            self.stream.stop(code.number());
        }
    }
}

impl FrameReader<RecvHalf> {
    /// Wants no more, and tells the other end why.
    pub fn stop(&mut self, code: ErrorCode) {
        self.io_mut().stop(code);
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        self.stop(ErrorCode::Cancelled);
    }
}

impl AsyncRead for RecvHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        match &result {
            Poll::Ready(Ok(())) if buffer.filled().len() == before && buffer.remaining() > 0 => {
                self.open = false
            }
            Poll::Ready(Err(_)) => self.open = false,
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_wire() {
        let header = StreamHeader {
            timeout: Some(Duration::from_millis(1500)),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            ..StreamHeader::new(StreamKind::Ask, Ulid::from_parts(1, 2))
        };
        assert_eq!(StreamHeader::from_wire(v1::StreamHeader::from(&header)), Ok(header));
        let bare = StreamHeader::new(StreamKind::Account, Ulid::from_parts(3, 4));
        assert_eq!(StreamHeader::from_wire(v1::StreamHeader::from(&bare)), Ok(bare));
    }

    #[test]
    fn a_header_that_makes_no_sense_is_refused_with_its_code() {
        let good = v1::StreamHeader::from(&StreamHeader::new(StreamKind::Ask, Ulid::from_parts(1, 2)));
        for kind in [0, StreamKind::Control.number(), 98, 99] {
            let error = StreamHeader::from_wire(v1::StreamHeader { kind, ..good.clone() }).unwrap_err();
            assert_eq!(error.code(), ErrorCode::UnknownKind);
        }
        for request_id in ["", "not-a-ulid", "01JD"] {
            let bad = v1::StreamHeader { request_id: request_id.into(), ..good.clone() };
            assert_eq!(StreamHeader::from_wire(bad).unwrap_err().code(), ErrorCode::BadFrame);
        }
    }

    #[test]
    fn an_absurd_timeout_is_a_long_one() {
        let mut header = v1::StreamHeader::from(&StreamHeader::new(StreamKind::Ask, Ulid::from_parts(1, 2)));
        header.timeout_ms = u64::MAX;
        assert_eq!(StreamHeader::from_wire(header).unwrap().timeout, Some(MAX_TIMEOUT));
    }

    #[test]
    fn an_overlong_trace_context_is_dropped() {
        let mut header = v1::StreamHeader::from(&StreamHeader::new(StreamKind::Ask, Ulid::from_parts(1, 2)));
        header.traceparent = "x".repeat(MAX_TRACEPARENT + 1);
        assert_eq!(StreamHeader::from_wire(header).unwrap().traceparent, None);
    }
}
