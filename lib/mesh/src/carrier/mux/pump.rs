//! Moves the bytes of one stream between its halves and yamux, record by record, until both directions are over.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use futures_util::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::pipe::{BUFFER, In, Out, Pipe};
use super::record::{HEAD, MAX_SENT, Record};
use crate::kind::ErrorCode;

/// Bytes taken from yamux in one go.
const READ_STEP: usize = 8 * 1024;
/// How a reset of yamux's own reads, which carries no code.
const CANCELLED: u64 = ErrorCode::Cancelled.number() as u64;
const BAD: u64 = ErrorCode::BadFrame.number() as u64;

/// What became of a stream.
pub(super) enum Pumped {
    /// Both directions are over.
    Done,
    /// It was no stream, but the other end's last words.
    Closed { code: u32, reason: String },
}

pub(super) struct Pump {
    stream: yamux::Stream,
    pipe: Arc<Pipe>,
    /// Read from yamux, and not understood yet.
    raw: BytesMut,
    /// Of the current record.
    data_left: usize,
    /// Records on their way out.
    leaving: BytesMut,
    stop_left: bool,
    /// The end of the sending direction is among them.
    end_leaves: bool,
    /// The sending direction was given up: nothing of it has to arrive.
    was_reset: bool,
    /// Nothing more can be said or heard on it.
    torn: bool,
    /// Where a stream of the other end's shows up once it says something.
    announce: Option<mpsc::Sender<Arc<Pipe>>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Pump {
    /// A stream that this end opens.
    pub(super) fn opened(stream: yamux::Stream, pipe: Arc<Pipe>, permit: OwnedSemaphorePermit) -> Self {
        Self::new(stream, pipe, None, Some(permit))
    }

    /// A stream that the other end opened.
    pub(super) fn accepted(stream: yamux::Stream, announce: mpsc::Sender<Arc<Pipe>>) -> Self {
        Self::new(stream, Arc::default(), Some(announce), None)
    }

    fn new(
        stream: yamux::Stream,
        pipe: Arc<Pipe>,
        announce: Option<mpsc::Sender<Arc<Pipe>>>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            stream,
            pipe,
            raw: BytesMut::new(),
            data_left: 0,
            leaving: BytesMut::new(),
            stop_left: false,
            end_leaves: false,
            was_reset: false,
            torn: false,
            announce,
            _permit: permit,
        }
    }

    /// Sends what there is to send; whether something left.
    fn send(&mut self, cx: &mut Context<'_>) -> bool {
        if self.leaving.is_empty() {
            self.next_record();
        }
        if self.leaving.is_empty() {
            return false;
        }
        match Pin::new(&mut self.stream).poll_write(cx, &self.leaving) {
            Poll::Ready(Ok(len)) => {
                self.leaving.advance(len);
                if self.end_leaves && self.leaving.is_empty() {
                    self.pipe.stopped.cancel();
                }
                len > 0
            }
            // The reading side says whether something came before it was torn off.
            Poll::Ready(Err(_)) => {
                self.leaving.clear();
                self.stop_left = true;
                self.pipe.other_end_stopped(CANCELLED);
                false
            }
            Poll::Pending => false,
        }
    }

    fn next_record(&mut self) {
        let mut inner = self.pipe.lock();
        if let Some(code) = inner.stop.take() {
            Record::Stop(code).encode(&mut self.leaving);
            self.stop_left = true;
        }
        match inner.out {
            Out::Open | Out::Finishing if !inner.outgoing.is_empty() => {
                let len = inner.outgoing.len().min(MAX_SENT);
                Record::Data(len).encode(&mut self.leaving);
                self.leaving.extend_from_slice(&inner.outgoing[..len]);
                inner.outgoing.advance(len);
                inner.wake_writer();
            }
            Out::Finishing => {
                Record::End.encode(&mut self.leaving);
                inner.out = Out::Ended;
                self.end_leaves = true;
            }
            Out::Resetting(code) => {
                Record::Reset(code).encode(&mut self.leaving);
                inner.out = Out::Ended;
                (self.end_leaves, self.was_reset) = (true, true);
            }
            Out::Open | Out::Ended | Out::Stopped(_) | Out::Lost => {}
        }
    }

    /// Takes what has come; whether something did.
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<bool, Pumped> {
        if self.data_left > 0 {
            let mut inner = self.pipe.lock();
            let room = match inner.inc {
                In::Open => BUFFER.saturating_sub(inner.incoming.len()),
                // Nobody reads it: it goes nowhere.
                _ => usize::MAX,
            };
            if room == 0 {
                return Ok(false);
            }
            let len = self.data_left.min(self.raw.len()).min(room);
            if len > 0 {
                if inner.inc == In::Open {
                    inner.incoming.extend_from_slice(&self.raw[..len]);
                    inner.wake_reader();
                }
                self.raw.advance(len);
                self.data_left -= len;
                return Ok(true);
            }
        } else if self.raw.len() >= HEAD {
            match Record::decode(&mut self.raw) {
                Ok(Some(record)) => return self.take(record).map(|()| true),
                Ok(None) => {}
                Err(_) => {
                    self.give_up(BAD);
                    return Ok(false);
                }
            }
        }
        self.read(cx)
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Pumped> {
        let mut chunk = [0; READ_STEP];
        match Pin::new(&mut self.stream).poll_read(cx, &mut chunk) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(len)) if len > 0 => {
                self.raw.extend_from_slice(&chunk[..len]);
                Ok(true)
            }
            // The end without the record that says so: the stream was torn off.
            Poll::Ready(_) => {
                self.give_up(CANCELLED);
                Ok(false)
            }
        }
    }

    fn take(&mut self, record: Record) -> Result<(), Pumped> {
        let first = self.announce.is_some();
        match record {
            Record::Close(code, reason) if first => return Err(Pumped::Closed { code, reason }),
            Record::Data(len) if self.pipe.lock().inc.is_over() => {
                tracing::debug!(len, "data after the end of a stream");
                self.give_up(BAD);
            }
            Record::Data(len) => {
                self.data_left = len;
                self.announce();
            }
            Record::End => {
                self.announce();
                self.pipe.other_end_ended(In::Ended);
            }
            Record::Reset(code) => self.pipe.other_end_ended(In::Reset(code.into())),
            Record::Stop(code) => self.pipe.other_end_stopped(code.into()),
            Record::Close(..) => self.give_up(BAD),
        }
        Ok(())
    }

    fn announce(&mut self) {
        // As many places as streams: when it does not fit, nobody accepts any more.
        if let Some(announce) = self.announce.take()
            && announce.try_send(self.pipe.clone()).is_err()
        {
            self.give_up(CANCELLED);
        }
    }

    fn give_up(&mut self, code: u64) {
        self.torn = true;
        self.pipe.other_end_ended(In::Reset(code));
        self.pipe.other_end_stopped(code);
    }

    /// Nothing is left to do. `stuck`: the other end's window takes nothing now.
    fn is_over(&self, stuck: bool) -> bool {
        let inner = self.pipe.lock();
        let sent = matches!(inner.out, Out::Ended | Out::Stopped(_) | Out::Lost);
        let told = self.leaving.is_empty() && inner.stop.is_none();
        let over = sent && told && (inner.inc.is_over() || self.stop_left);
        // When the window is full, a reset and a stop don't fit in; yamux's own reset, at the drop, does.
        let given_up = (self.was_reset || matches!(inner.out, Out::Resetting(_))) && inner.inc != In::Open;
        self.torn || over || (stuck && given_up && !told)
    }
}

impl In {
    fn is_over(self) -> bool {
        matches!(self, Self::Ended | Self::Reset(_) | Self::Lost)
    }
}

impl Future for Pump {
    type Output = Pumped;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Pumped> {
        let this = self.get_mut();
        this.pipe.lock().pump = Some(cx.waker().clone());
        loop {
            let sent = this.send(cx);
            let received = match this.receive(cx) {
                Ok(received) => received,
                Err(closed) => return Poll::Ready(closed),
            };
            if this.is_over(!sent) {
                return Poll::Ready(Pumped::Done);
            }
            if !sent && !received {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.pipe.abandon();
    }
}
