//! The line to the gateway while one answer is read: a stream, and after a cut the next one, on whatever connection
//! there is by then. It knows nothing of what is said on it.

use std::time::Duration;

use synesis_mesh::device::{TunnelHandle, TunnelState, TunnelStatus};
use synesis_mesh::frame::FrameError;
use synesis_mesh::kind::{ErrorCode, StreamKind};
use synesis_mesh::stream::{StreamHeader, WorkStream};
use synesis_proto::mesh::v1::ask_down::Message as Down;
use synesis_proto::mesh::v1::{AskDown, AskUp};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use ulid::Ulid;

use super::EscalationError;
use crate::log::chain;

/// Longest silence between two frames. The gateway gives a provider 60 s to its first byte.
const SILENCE: Duration = Duration::from_secs(90);
/// Somebody waits for the answer: the tunnel dials again after this time, whatever wait it has drawn for itself.
const IMPATIENT: Duration = Duration::from_secs(5);
/// Between two tries that brought nothing: this long at first, doubling ...
const PAUSE: Duration = Duration::from_millis(100);
/// ... up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// In which time the tunnel has seen the end of its own connection.
const NOTICED: Duration = Duration::from_secs(1);
/// For the last word on a stream.
const FAREWELL: Duration = Duration::from_secs(1);

/// A stream of one request, and how to get the next.
pub(super) struct Line<'a> {
    tunnel: &'a TunnelHandle,
    request_id: Ulid,
    stream: WorkStream,
    /// The stream before, until something is heard on the new one: ending it earlier could look like a cancel.
    previous: Option<WorkStream>,
    /// By when the whole answer has to be here.
    until: Instant,
    /// How long a cut may last.
    window: Duration,
    /// Since when nothing was heard, if the line was cut.
    cut_since: Option<Instant>,
    /// Streams since the last frame of the answer.
    fruitless: u32,
    resumed: u32,
    heard: bool,
}

impl<'a> Line<'a> {
    /// Opens the first stream.
    ///
    /// # Errors
    /// When the tunnel is not up; nobody waits for it.
    pub(super) async fn open(
        tunnel: &'a TunnelHandle,
        request_id: Ulid,
        until: Instant,
        window: Duration,
    ) -> Result<Self, EscalationError> {
        let stream = tunnel.open(header(request_id, until)).await?;
        Ok(Self {
            tunnel,
            request_id,
            stream,
            previous: None,
            until,
            window,
            cut_since: None,
            fruitless: 0,
            resumed: 0,
            heard: false,
        })
    }

    /// Says something on the stream that there is.
    ///
    /// # Errors
    /// What the stream reports.
    pub(super) async fn say(&mut self, message: &AskUp) -> Result<(), FrameError> {
        self.stream.tx.write(message).await
    }

    /// The next frame. A gateway that does not know what the stream is for answers with a bare problem.
    ///
    /// # Errors
    /// When the stream ends or fails. [`is_cut`] tells whether it can go on.
    pub(super) async fn read(&mut self) -> Result<Down, EscalationError> {
        let read = timeout(SILENCE, self.stream.rx.read::<AskDown>()).await;
        let down = match read.map_err(|_| EscalationError::Silent)? {
            Ok(Some(frame)) => {
                frame.message.ok_or(EscalationError::Protocol("a frame of an unknown kind"))?
            }
            Ok(None) => return Err(EscalationError::Interrupted),
            Err(FrameError::Refused(problem)) => Down::Problem(problem),
            Err(error) => return Err(error.into()),
        };
        (self.previous, self.cut_since) = (None, None);
        if matches!(down, Down::Delta(_) | Down::Finished(_) | Down::Receipt(_)) {
            self.fruitless = 0;
        }
        Ok(down)
    }

    /// Whether this is the first frame of its stream; from then on it is not.
    pub(super) fn first_heard(&mut self) -> bool {
        !std::mem::replace(&mut self.heard, true)
    }

    /// How often the line was cut and went on.
    pub(super) fn resumed(&self) -> u32 {
        self.resumed
    }

    /// Opens another stream as soon as the tunnel carries work, and says `first` on it.
    ///
    /// # Errors
    /// `cause`, when that takes too long; or why it can never be.
    pub(super) async fn resume(
        &mut self,
        cause: EscalationError,
        first: &AskUp,
    ) -> Result<(), EscalationError> {
        if self.window.is_zero() {
            return Err(self.why(cause).await);
        }
        let since = *self.cut_since.get_or_insert_with(Instant::now);
        tracing::info!(request = %self.request_id, cause = chain(&cause), "an answer was cut off; it goes on when the tunnel is back");
        let give_up = (since + self.window).min(self.until);
        match timeout_at(give_up, self.reopen(first)).await {
            Ok(reopened) => reopened,
            Err(_) => Err(cause),
        }
    }

    /// Why the line was really lost: one whose other end takes the device's identity back is closed by the tunnel at
    /// once, and by then a stream on it only sees its end.
    async fn why(&self, cause: EscalationError) -> EscalationError {
        if !matches!(cause, EscalationError::Stream(FrameError::ConnectionLost(_))) {
            return cause;
        }
        let mut status = self.tunnel.status();
        let down = timeout(NOTICED, status.wait_for(|status| !status.state.carries_work())).await;
        match down {
            Ok(Ok(status)) if status.state == TunnelState::Revoked => revoked(&status),
            _ => cause,
        }
    }

    async fn reopen(&mut self, first: &AskUp) -> Result<(), EscalationError> {
        loop {
            if let Some(doublings) = self.fruitless.checked_sub(1) {
                sleep(PAUSE.saturating_mul(1 << doublings.min(8)).min(LONGEST_PAUSE)).await;
            }
            self.fruitless = self.fruitless.saturating_add(1);
            self.until_connected().await?;
            let Ok(mut stream) = self.tunnel.open(header(self.request_id, self.until)).await else {
                continue;
            };
            match stream.tx.write(first).await {
                // The gateway wants to hear no more. What it says itself tells why.
                Ok(()) | Err(FrameError::Reset(_)) => {}
                Err(_) => continue,
            }
            self.previous = Some(std::mem::replace(&mut self.stream, stream));
            self.resumed += 1;
            self.heard = false;
            return Ok(());
        }
    }

    /// Resolves when work can be opened. A tunnel that waits for long before it dials again is asked to do it sooner.
    async fn until_connected(&self) -> Result<(), EscalationError> {
        let mut status = self.tunnel.status();
        loop {
            let impatient = {
                let status = status.borrow_and_update();
                match status.state {
                    state if state.carries_work() => return Ok(()),
                    TunnelState::Revoked => return Err(revoked(&status)),
                    TunnelState::Unenrolled => return Err(EscalationError::NotEnrolled),
                    _ => {}
                }
                let soon = Instant::now() + IMPATIENT;
                status.retry_at.filter(|at| *at > soon).map(|_| soon)
            };
            tokio::select! {
                changed = status.changed() => if changed.is_err() {
                    // The tunnel is no more; whoever waits gives up by the clock.
                    std::future::pending::<()>().await;
                },
                () = at(impatient) => self.tunnel.reconnect(),
            }
        }
    }

    /// Says the last word and ends the stream. Nobody waits for it to arrive.
    pub(super) async fn farewell(mut self, last: &AskUp) {
        let goodbye = async {
            self.stream.tx.write(last).await?;
            self.stream.tx.finish().await
        };
        if !matches!(timeout(FAREWELL, goodbye).await, Ok(Ok(()))) {
            tracing::debug!(request = %self.request_id, "the gateway did not hear that the answer is here");
        }
    }
}

/// Whether what ended a stream leaves the answer where it is: at the gateway, to be read on.
pub(super) fn is_cut(error: &EscalationError) -> bool {
    match error {
        EscalationError::Interrupted | EscalationError::Silent => true,
        EscalationError::Stream(error) => matches!(
            error,
            FrameError::ConnectionLost(_) | FrameError::Io(_) | FrameError::Reset(_) | FrameError::Truncated
        ),
        _ => false,
    }
}

fn revoked(status: &TunnelStatus) -> EscalationError {
    let reason = status.reason.clone().unwrap_or_default();
    EscalationError::from_problem(ErrorCode::Revoked.problem(reason, ""))
}

fn header(request_id: Ulid, until: Instant) -> StreamHeader {
    // In whole seconds: nobody waits more exactly.
    let left = until.saturating_duration_since(Instant::now()).as_secs() + 1;
    let left = Duration::from_secs(left);
    StreamHeader { timeout: Some(left), ..StreamHeader::new(StreamKind::Ask, request_id) }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
