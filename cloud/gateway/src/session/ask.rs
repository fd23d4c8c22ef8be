//! One stream on which a device asks, or reads on. What it reads is an [`Answer`], which is made elsewhere and outlives
//! the stream: when the connection is lost it goes on, when the device wants no more it ends at once.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use synesis_mesh::frame::{FrameError, FrameReader, FrameWriter};
use synesis_mesh::kind::ErrorCode;
use synesis_mesh::stream::{RecvHalf, SendHalf, WorkStream};
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::ask_down::Message as Down;
use synesis_proto::mesh::v1::ask_up::Message as Up;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::asked::identity;
use super::{Ends, Services, run};
use crate::answers::{Cancel, Ended, Entered, Read, Reader};
use crate::control_plane::RequestKey;

/// The first frame has to follow the stream's header within this time.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// A device that does not take the last frames for this long is gone.
const FAREWELL: Duration = Duration::from_secs(10);
/// The same, when the session is being cut.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Serves one ask stream to its end.
pub(super) async fn serve(stream: WorkStream, device: Uuid, services: &Arc<Services>, ends: Ends) {
    let WorkStream { header, mut tx, mut rx } = stream;
    let key = RequestKey { device, request_id: header.request_id };
    let reader = match timeout(START_TIMEOUT, rx.read::<v1::AskUp>()).await {
        Ok(Ok(Some(v1::AskUp { message: Some(Up::Start(start)) }))) => {
            begin(key, start, header.timeout, services).await
        }
        Ok(Ok(Some(v1::AskUp { message: Some(Up::Resume(resume)) }))) => resumed(&key, &resume, services),
        Ok(Ok(Some(v1::AskUp { message: Some(Up::Cancel(_)) }))) => return cancel(&key, services),
        // Lost before anything was asked: nothing to do, nobody to tell.
        Ok(Err(FrameError::ConnectionLost(_) | FrameError::Reset(_))) => return,
        Ok(Err(error)) => Err(error.code().problem(error.to_string(), "update the device")),
        Ok(Ok(_)) => Err(ErrorCode::BadFrame.problem("the stream has no request", "update the device")),
        Err(_) => Err(ErrorCode::DeadlineExceeded.problem("the request did not come in time", "try again")),
    };
    match reader {
        Ok(reader) => Delivery { reader, tx, rx, services }.run(ends).await,
        Err(problem) => refuse(&mut tx, problem).await,
    }
}

/// The answer to a request, from its beginning. A request that comes again, because its device never heard that it had
/// arrived, is the same request.
async fn begin(
    key: RequestKey,
    start: v1::AskStart,
    time: Option<Duration>,
    services: &Arc<Services>,
) -> Result<Reader, v1::Problem> {
    let known = || {
        let next_step = "ask for the receipt of this request, or use a new request id";
        ErrorCode::RequestKnown.problem("another request with this id is known already", next_step)
    };
    let answers = &services.answers;
    match answers.enter(key, identity(&start)) {
        Entered::New(answer) => {
            // The reader comes first: an answer without one ends after a while.
            let reader = answer.read(1).map_err(|_| known())?;
            let run = run::run(key, start, time, Arc::clone(services), Arc::clone(&answer));
            match answers.start(&answer, run).await {
                Ok(()) => Ok(reader),
                Err(stopping) => {
                    Err(ErrorCode::Draining.problem(stopping.to_string(), "try again in a little while"))
                }
            }
        }
        Entered::Known(answer) => answer.read(1).map_err(|_| known()),
        Entered::Other => Err(known()),
        Entered::TooMany => {
            let mut problem = ErrorCode::RateLimited
                .problem("too many answers of this device are running", "wait until one of them has ended");
            problem.retry_after_ms = 1_000;
            Err(problem)
        }
    }
}

/// The rest of an answer. Another device's request is as unknown as one that never was.
fn resumed(key: &RequestKey, resume: &v1::AskResume, services: &Services) -> Result<Reader, v1::Problem> {
    let unknown = || {
        let next_step = "ask for the receipt of this request; it says what was charged";
        ErrorCode::ResumeUnknown.problem("the gateway keeps no such answer", next_step)
    };
    let answer = services.answers.find(key).ok_or_else(unknown)?;
    if answer.identity.redacted_hash != resume.redacted_hash[..] {
        return Err(unknown());
    }
    let reader = answer.read(resume.from_seq).map_err(|_| unknown())?;
    tracing::debug!(request = %key, from = resume.from_seq, "an answer is resumed");
    Ok(reader)
}

/// A device that lost its connection says that it wants no more.
fn cancel(key: &RequestKey, services: &Services) {
    let Some(answer) = services.answers.find(key) else { return };
    answer.cancel(Cancel::Asked);
    if answer.is_over() {
        services.answers.forget(&answer);
    }
}

/// An answer on its way to the device.
struct Delivery<'a> {
    reader: Reader,
    tx: FrameWriter<SendHalf>,
    rx: FrameReader<RecvHalf>,
    services: &'a Services,
}

/// What a device says while it reads.
enum Heard {
    Cancel(Cancel),
    Done,
    /// The connection is gone, and the device may come back on another.
    Lost,
}

impl Delivery<'_> {
    async fn run(self, ends: Ends) {
        let Self { mut reader, mut tx, mut rx, services } = self;
        let (answer, say) = (Arc::clone(reader.answer()), reader.say());
        let mut stopped = pin!(tx.stopped());
        let (mut hears, mut sends, mut cut, mut done) = (true, true, false, false);
        let read = {
            let mut pump = pin!(pump(&mut reader, &mut tx));
            loop {
                tokio::select! {
                    biased;
                    heard = hear(&mut rx), if hears => match heard {
                        Heard::Lost => return,
                        Heard::Done if answer.is_over() => (hears, done) = (false, true),
                        Heard::Done => {
                            hears = false;
                            say.cancel(Cancel::Protocol);
                        }
                        Heard::Cancel(why) => {
                            hears = why == Cancel::Asked;
                            say.cancel(why);
                        }
                    },
                    () = ends.left.cancelled() => return,
                    () = ends.cut.cancelled(), if !cut => {
                        cut = true;
                        say.cancel(Cancel::SessionEnds);
                    }
                    () = &mut stopped, if sends => {
                        sends = false;
                        say.cancel(Cancel::Gone);
                    }
                    read = &mut pump => break read,
                }
            }
        };
        match read {
            Ok(Read::End) => {}
            Ok(Read::Superseded | Read::Frames) => {
                let problem = ErrorCode::Superseded.problem("another stream reads this answer now", "");
                return refuse(&mut tx, problem).await;
            }
            Err(FrameError::ConnectionLost(_) | FrameError::Io(_)) => return,
            Err(_) => return say.cancel(Cancel::Gone),
        }
        // The session may be closed right after this, and must not take the receipt with it.
        let delivered = timeout(FAREWELL, async {
            tx.finish().await.ok()?;
            if !done && hears {
                return confirmed(&mut rx, &ends).await;
            }
            tx.stopped().await;
            Some(if done { Confirmed::Whole } else { Confirmed::Left })
        });
        let delivered = tokio::select! {
            delivered = delivered => delivered,
            // The session ends, and the gateway with it: whoever still listens hears the rest within a moment.
            () = async { ends.cut.cancelled().await; sleep(LAST_WORD).await } => Ok(None),
        };
        match delivered {
            Ok(Some(Confirmed::Whole)) => services.answers.forget(&answer),
            // What cost nothing need not be read twice.
            Ok(Some(Confirmed::Left)) if answer.ended() == Some(Ended::Free) => {
                services.answers.forget(&answer)
            }
            Ok(_) => {}
            Err(_) => tracing::debug!(request = %answer.key, "the device did not say that it has the answer"),
        }
    }
}

/// How a device took leave of an answer.
enum Confirmed {
    /// It has everything, on its disk.
    Whole,
    /// It ended the stream.
    Left,
}

/// What the device says after the last frame; nothing when the connection is lost.
async fn confirmed(rx: &mut FrameReader<RecvHalf>, ends: &Ends) -> Option<Confirmed> {
    loop {
        tokio::select! {
            biased;
            heard = hear(rx) => match heard {
                Heard::Done => return Some(Confirmed::Whole),
                // Too late: everything is made.
                Heard::Cancel(Cancel::Asked) => {}
                Heard::Cancel(_) => return Some(Confirmed::Left),
                Heard::Lost => return None,
            },
            () = ends.left.cancelled() => return None,
        }
    }
}

/// Moves frames from the answer to the stream until there is no more for it.
async fn pump(reader: &mut Reader, tx: &mut FrameWriter<SendHalf>) -> Result<Read, FrameError> {
    let mut frames = BytesMut::new();
    loop {
        match reader.next(&mut frames).await {
            Read::Frames => tx.write_encoded(&frames).await?,
            end @ (Read::End | Read::Superseded) => return Ok(end),
        }
        frames.clear();
    }
}

/// The next thing the device says. A device that merely ends its own direction still wants the answer.
async fn hear(rx: &mut FrameReader<RecvHalf>) -> Heard {
    match rx.read::<v1::AskUp>().await {
        Ok(Some(v1::AskUp { message: Some(Up::Cancel(_)) })) => Heard::Cancel(Cancel::Asked),
        Ok(Some(v1::AskUp { message: Some(Up::Done(_)) })) => Heard::Done,
        Ok(Some(_)) => Heard::Cancel(Cancel::Protocol),
        Ok(None) => std::future::pending().await,
        Err(FrameError::ConnectionLost(_) | FrameError::Io(_)) => Heard::Lost,
        Err(_) => Heard::Cancel(Cancel::Gone),
    }
}

async fn refuse(tx: &mut FrameWriter<SendHalf>, problem: v1::Problem) {
    let goodbye = async {
        tx.write(&v1::AskDown { message: Some(Down::Problem(problem)) }).await?;
        tx.finish().await?;
        tx.stopped().await;
        Ok::<(), FrameError>(())
    };
    if !matches!(timeout(FAREWELL, goodbye).await, Ok(Ok(()))) {
        tracing::debug!("the device did not wait for the end of the stream");
    }
}
