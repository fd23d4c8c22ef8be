//! One answer, between the run that makes it and the streams that read it, one after the other. The run never waits for
//! a slow reader until the answer, or all answers together, take more memory than they may.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use synesis_mesh::frame::{self, FrameError};
use synesis_mesh::kind::StreamKind;
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::ask_down::Message as Down;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::cancel::Cancel;
use super::log::FrameLog;
use super::memory::{Memory, Share};
use super::reader::{Reader, Seat};
use crate::control_plane::RequestKey;

/// The largest frame.
pub(super) const LIMIT: usize = StreamKind::Ask.max_frame();
/// What an answer may take even when all of them together take too much: it has to be able to go on.
const ALWAYS: usize = 16 * 1024;
/// What an answer takes beside its frames, about: its entry, its task, its locks.
const OVERHEAD: usize = 1024;

/// What a request is, beside its id: two that differ in it are two requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// SHA-256 of the prompt's bytes; it is in the receipt too.
    pub(crate) redacted_hash: [u8; 32],
    /// SHA-256 of everything that was asked.
    pub(crate) request_hash: [u8; 32],
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With a receipt.
    Charged,
    /// Without a charge: asked again, it may run again.
    Free,
}

/// A request's answer so far.
pub(crate) struct Answer {
    pub(crate) key: RequestKey,
    pub(crate) identity: Identity,
    state: Mutex<State>,
    over: AtomicBool,
    memory: Arc<Memory>,
    /// A reader came or left, or somebody wants the end: for the run, and then for who keeps the answer.
    stirred: Notify,
    /// A reader has taken something.
    room: Notify,
}

pub(super) struct State {
    pub(super) log: FrameLog,
    /// The encoded frame that every reader gets first.
    pub(super) accepted: Option<v1::AskAccepted>,
    ended: Option<Ended>,
    /// A reader was given everything up to the end.
    told: bool,
    pub(super) seat: Option<Seat>,
    pub(super) readers: u64,
    /// Since when nobody reads, if nobody does.
    alone_since: Instant,
    cancel: Option<Cancel>,
    let_go: bool,
    share: Share,
}

/// What to do with an answer that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// The device has it, or something newer needs its place.
    LetGo,
    /// Nobody reads.
    Alone,
    /// Somebody does.
    Read,
}

impl Answer {
    pub(super) fn new(key: RequestKey, identity: Identity, memory: Arc<Memory>) -> Self {
        let mut share = Share::new(Arc::clone(&memory));
        share.takes(OVERHEAD);
        let state = State {
            log: FrameLog::default(),
            accepted: None,
            ended: None,
            told: false,
            seat: None,
            readers: 0,
            alone_since: Instant::now(),
            cancel: None,
            let_go: false,
            share,
        };
        Self {
            key,
            identity,
            state: Mutex::new(state),
            over: AtomicBool::new(false),
            memory,
            stirred: Notify::new(),
            room: Notify::new(),
        }
    }

    /// A finished answer that a former process left behind.
    pub(super) fn restored(
        key: RequestKey,
        identity: Identity,
        accepted: v1::AskAccepted,
        log: FrameLog,
        memory: Arc<Memory>,
    ) -> Self {
        let answer = Self::new(key, identity, memory);
        {
            let mut state = answer.lock();
            (state.accepted, state.log, state.ended) = (Some(accepted), log, Some(Ended::Charged));
            state.measure();
        }
        answer.over.store(true, Ordering::Release);
        answer
    }

    // ---- the run's side ----

    /// The request is accepted; readers hear it before anything else.
    pub(crate) fn accept(&self, accepted: v1::AskAccepted) {
        let mut state = self.lock();
        state.accepted = Some(accepted);
        state.wake();
    }

    /// The next piece of text. Waits while the answer, or all of them, take too much memory and nobody reads.
    ///
    /// # Errors
    /// When the piece is too large for a frame.
    pub(crate) async fn push(&self, delta: v1::AskDelta) -> Result<(), FrameError> {
        let message = v1::AskDown { message: Some(Down::Delta(delta)) };
        if let Some(pushed) = self.push_if_room(&message) {
            return pushed;
        }
        loop {
            // Asked for before looking, so that what is freed in between is not missed.
            let mut freed = std::pin::pin!(self.memory.freed());
            freed.as_mut().enable();
            self.memory.make_room();
            if let Some(pushed) = self.push_if_room(&message) {
                return pushed;
            }
            tokio::select! {
                () = freed => {}
                () = self.room.notified() => {}
            }
        }
    }

    fn push_if_room(&self, message: &v1::AskDown) -> Option<Result<(), FrameError>> {
        let mut state = self.lock();
        if !state.has_room(&self.memory) {
            return None;
        }
        let pushed = state.log.push(message, LIMIT);
        state.measure();
        state.wake();
        Some(pushed)
    }

    /// The end of the text. It does not wait for room: there is one of it.
    ///
    /// # Errors
    /// When it is too large for a frame.
    pub(crate) fn finish(&self, finished: v1::AskFinished) -> Result<(), FrameError> {
        let mut state = self.lock();
        let pushed = state.log.push(&v1::AskDown { message: Some(Down::Finished(finished)) }, LIMIT);
        state.measure();
        state.wake();
        pushed
    }

    /// The last frame. Only the first call counts.
    pub(crate) fn end(&self, last: impl FnOnce(u64) -> Down, ended: Ended) {
        {
            let mut state = self.lock();
            if state.ended.is_some() {
                return;
            }
            let message = v1::AskDown { message: Some(last(state.log.next())) };
            // A receipt or a problem is small: both are made here, from bounded parts.
            if let Err(error) = state.log.push(&message, LIMIT) {
                tracing::error!(request = %self.key, %error, "the end of an answer does not fit a frame");
            }
            state.log.compact();
            state.ended = Some(ended);
            state.measure();
            state.wake();
        }
        self.over.store(true, Ordering::Release);
        self.stirred.notify_one();
        self.memory.make_room();
    }

    /// Resolves when the answer is no longer wanted: somebody said so, or nobody has read it for `grace`.
    pub(crate) async fn unwanted(&self, grace: Duration) -> Cancel {
        loop {
            let alone_until = {
                let mut state = self.lock();
                let alone_until = match state.seat {
                    Some(_) => None,
                    None => Some(state.alone_since + grace),
                };
                if alone_until.is_some_and(|until| until <= Instant::now()) {
                    state.cancel.get_or_insert(Cancel::Abandoned);
                }
                if let Some(why) = state.cancel {
                    return why;
                }
                alone_until
            };
            tokio::select! {
                () = self.stirred.notified() => {}
                () = at(alone_until) => {}
            }
        }
    }

    // ---- everybody's side ----

    /// Ends a running answer. Only the first reason counts.
    pub(crate) fn cancel(&self, why: Cancel) {
        self.lock().cancel.get_or_insert(why);
        self.stirred.notify_one();
    }

    /// Ends a running answer for the reader `number`, if it is still the one that counts.
    pub(super) fn cancel_for(&self, number: u64, why: Cancel) {
        let mut state = self.lock();
        if state.seat.as_ref().is_some_and(|seat| seat.number == number) {
            state.cancel.get_or_insert(why);
            drop(state);
            self.stirred.notify_one();
        }
    }

    /// Whether everything there will ever be is here.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.lock().ended
    }

    /// It ended without a charge, and a device was told so.
    pub(crate) fn is_spent(&self) -> bool {
        let state = self.lock();
        state.told && state.ended == Some(Ended::Free)
    }

    /// The streams that have read it.
    pub(crate) fn readers(&self) -> u64 {
        self.lock().readers
    }

    /// The memory it takes.
    pub(super) fn memory(&self) -> usize {
        self.lock().share.taken()
    }

    /// It will not be asked for any more.
    pub(super) fn let_go(&self) {
        let mut state = self.lock();
        state.let_go = true;
        state.share.gives_back();
        drop(state);
        self.stirred.notify_one();
    }

    /// How it stands, now that it has ended.
    pub(super) fn rest(&self) -> Rest {
        let state = self.lock();
        // Whoever cancelled and left does not come back for what was made.
        let unwanted = matches!(state.cancel, Some(Cancel::Asked | Cancel::Gone | Cancel::Protocol));
        match &state.seat {
            _ if state.let_go => Rest::LetGo,
            None if unwanted => Rest::LetGo,
            None => Rest::Alone,
            Some(_) => Rest::Read,
        }
    }

    /// Resolves when [`rest`](Self::rest) may have changed.
    pub(super) async fn stirred(&self) {
        self.stirred.notified().await;
    }

    /// What has to survive: the acceptance and every frame. Nothing when frames were dropped to save memory.
    pub(super) fn kept(&self) -> Option<(v1::AskAccepted, Vec<u8>)> {
        let state = self.lock();
        let whole = state.log.first() == 1;
        state.accepted.clone().filter(|_| whole).map(|accepted| (accepted, state.log.bytes().to_vec()))
    }

    /// A reader from frame number `from` on. Whoever read until now is told that it is over for them.
    ///
    /// # Errors
    /// When the frames from there on are not here: they were dropped, or never were.
    pub(crate) fn read(self: &Arc<Self>, from: u64) -> Result<Reader, Missed> {
        let mut state = self.lock();
        if from < state.log.first() || from > state.log.next() {
            return Err(Missed);
        }
        state.readers += 1;
        let (seat, reader) = Reader::seated(Arc::clone(self), state.readers, from);
        if let Some(before) = state.seat.replace(seat) {
            before.wake.notify_one();
        }
        drop(state);
        self.stirred.notify_one();
        Ok(reader)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete when the lock is let go, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader has taken frames.
    pub(super) fn taken(&self) {
        self.room.notify_one();
    }

    /// A reader has left.
    pub(super) fn left(&self, number: u64) {
        let mut state = self.lock();
        if state.seat.take_if(|seat| seat.number == number).is_some() {
            state.alone_since = Instant::now();
            drop(state);
            self.stirred.notify_one();
        }
    }
}

/// The frames from the number that was asked for are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the frames from there on are not kept")]
pub(crate) struct Missed;

impl State {
    /// Whether another frame may be kept. When memory is short, what a reader has taken is dropped first: it can then not
    /// be asked for again, but the answer goes on.
    fn has_room(&mut self, memory: &Memory) -> bool {
        if self.fits(memory) {
            return true;
        }
        if let Some(seat) = &self.seat
            && seat.next > self.log.first()
        {
            self.log.drop_before(seat.next);
            self.log.compact();
            self.measure();
        }
        self.fits(memory)
    }

    fn fits(&self, memory: &Memory) -> bool {
        let own = self.log.memory();
        own < ALWAYS || (own < memory.limits.answer && !memory.is_full())
    }

    fn measure(&mut self) {
        if !self.let_go {
            self.share.takes(OVERHEAD + self.log.memory());
        }
    }

    fn wake(&self) {
        if let Some(seat) = &self.seat {
            seat.wake.notify_one();
        }
    }

    /// The next frames for the reader `number`.
    pub(super) fn next_for(
        &mut self,
        number: u64,
        introduced: &mut bool,
        most: usize,
        out: &mut BytesMut,
    ) -> Next {
        let ended = self.ended.is_some();
        let Some(seat) = self.seat.as_mut().filter(|seat| seat.number == number) else {
            return Next::Superseded;
        };
        if !*introduced && let Some(accepted) = &self.accepted {
            let message = v1::AskDown { message: Some(Down::Accepted(accepted.clone())) };
            // The name of a model is bounded, and so is this frame.
            let _ = frame::encode(&message, LIMIT, out);
            *introduced = true;
        }
        if let Some((frames, next)) = self.log.from(seat.next, most) {
            out.extend_from_slice(frames);
            seat.next = next;
        }
        let all = seat.next == self.log.next();
        self.told |= ended && all;
        match (out.is_empty(), ended && all) {
            (false, _) => Next::Frames,
            (true, true) => Next::End,
            (true, false) => Next::NothingYet,
        }
    }
}

/// What there is for a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Frames,
    End,
    Superseded,
    NothingYet,
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
