//! A device's session. Two tasks belong to it, and end with it: the control loop, and the one that takes in work
//! streams. So a heartbeat is answered at once, whatever the work does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::control_down::Message as Down;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use super::Tally;
use super::control::Control;
use crate::carrier::{Carrier, Connection, ConnectionLost};
use crate::frame::{FrameError, FrameReader, FrameWriter};
use crate::kind::{ErrorCode, MAX_WORK_STREAMS};
use crate::stream::{RawStream, RecvHalf, SendHalf, StreamHeader, WorkStream};

/// A stream's header has to follow its opening within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A refused stream's answer is given this long to leave.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);
/// So many bad streams in a row are no accident.
const MOST_REFUSED: u32 = 64;
const COMMANDS: usize = 8;

/// What is known about a connected device, from its own heartbeats and our pings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceReport {
    /// The newest vitals, as sent.
    pub vitals: Option<v1::Vitals>,
    /// The round trip the device measured last.
    pub device_rtt: Option<Duration>,
    /// The round trip the gateway measured last.
    pub gateway_rtt: Option<Duration>,
    /// When the last heartbeat came in.
    pub last_heartbeat_at: Option<SystemTime>,
    /// Heartbeats since the session began.
    pub heartbeats: u64,
}

/// The session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session is over")]
pub struct SessionError;

/// A device asks for a certificate for this new key. Dropping it leaves the device without an answer: it asks again later.
#[derive(Debug)]
pub struct Renewing {
    /// Its signing request. The device is the session's, whatever the request says.
    pub csr_der: Vec<u8>,
    commands: mpsc::Sender<Box<Down>>,
}

impl Renewing {
    /// Sends the new certificate, or why there is none.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn answer(self, renewed: v1::Renewed) -> Result<(), SessionError> {
        self.commands.send(Box::new(Down::Renewed(renewed))).await.map_err(|_| SessionError)
    }
}

/// A welcomed device. Dropping it closes the connection.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    device_id: Uuid,
    // Boxed: a channel makes room for 32 of its items at once, and an idle session would hold that for nothing.
    work: Mutex<mpsc::Receiver<Box<WorkStream>>>,
    renewals: Mutex<mpsc::Receiver<Vec<u8>>>,
    commands: mpsc::Sender<Box<Down>>,
    reports: watch::Receiver<DeviceReport>,
    _tasks: JoinSet<()>,
}

impl Session {
    pub(super) fn start(
        connection: Connection,
        device_id: Uuid,
        tx: FrameWriter<SendHalf>,
        rx: FrameReader<RecvHalf>,
        heartbeat_ms: u64,
        tally: Arc<Tally>,
    ) -> Self {
        let (commands, orders) = mpsc::channel(COMMANDS);
        let (report, reports) = watch::channel(DeviceReport::default());
        let (work_in, work) = mpsc::channel(MAX_WORK_STREAMS as usize);
        let (renewals_in, renewals) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        let control = Control::new(
            connection.clone(),
            (tx, rx),
            orders,
            report,
            renewals_in,
            heartbeat_ms,
            tally.clone(),
        );
        tasks.spawn(control.run());
        tasks.spawn(take_work(connection.clone(), work_in, tally));
        let (work, renewals) = (Mutex::new(work), Mutex::new(renewals));
        Self { connection, device_id, work, renewals, commands, reports, _tasks: tasks }
    }

    /// The device.
    pub fn device_id(&self) -> Uuid {
        self.device_id
    }

    /// Where the device is now; it may move.
    pub fn remote(&self) -> SocketAddr {
        self.connection.remote()
    }

    /// What carries the session.
    pub fn carrier(&self) -> Carrier {
        self.connection.carrier()
    }

    /// Bytes sent and received so far, by the socket's count.
    pub fn traffic(&self) -> (u64, u64) {
        self.connection.traffic()
    }

    /// The next piece of work the device asks for, or `None` when the connection is over. Streams of an unknown kind or
    /// with a bad header have been refused already.
    pub async fn work(&self) -> Option<WorkStream> {
        self.work.lock().await.recv().await.map(|stream| *stream)
    }

    /// The device's next wish for a certificate, or `None` when the connection is over. Cancel safe.
    pub async fn renewal(&self) -> Option<Renewing> {
        let csr_der = self.renewals.lock().await.recv().await?;
        Some(Renewing { csr_der, commands: self.commands.clone() })
    }

    /// Tells the device which server CAs there are now, and which no longer; it need not have asked.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn trust(&self, server_ca: Vec<Bytes>, retired: Vec<Bytes>) -> Result<(), SessionError> {
        self.send(Down::Renewed(v1::Renewed { server_ca, retired, ..v1::Renewed::default() })).await
    }

    /// What is known about the device; the newest value.
    pub fn reports(&self) -> watch::Receiver<DeviceReport> {
        self.reports.clone()
    }

    /// Asks the device to load an adapter without activating it.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn prewarm(&self, adapter: &str) -> Result<(), SessionError> {
        self.send(Down::Prewarm(v1::Prewarm { adapter: adapter.to_owned() })).await
    }

    /// Asks the device to move to another connection at a random moment within this time.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn drain(&self, within: Duration) -> Result<(), SessionError> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.send(Down::Drain(v1::Drain { within_ms })).await
    }

    async fn send(&self, message: Down) -> Result<(), SessionError> {
        self.commands.send(Box::new(message)).await.map_err(|_| SessionError)
    }

    /// Ends the connection now, with all its work. [`ErrorCode::Revoked`] makes the device stop trying.
    pub fn close(&self, code: ErrorCode, reason: &str) {
        self.connection.close(code, reason);
    }

    /// Resolves when the connection is over, with the cause.
    pub async fn closed(&self) -> ConnectionLost {
        self.connection.closed().await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Does nothing when it is closed already.
        self.close(ErrorCode::Draining, "the gateway let go of the session");
    }
}

/// Takes in streams. Each header is read by a task of its own (as many as QUIC lets the device open), so a slow
/// one delays nobody. A device that opens nothing but bad ones is closed.
async fn take_work(connection: Connection, work: mpsc::Sender<Box<WorkStream>>, tally: Arc<Tally>) {
    let mut headers = JoinSet::new();
    let mut refused = 0;
    loop {
        tokio::select! {
            stream = connection.accept() => match stream {
                Ok(stream) => {
                    let work = work.clone();
                    headers.spawn(take_stream(RawStream::new(stream, None), work));
                }
                // Dropping `work` ends `Session::work`.
                Err(_) => return,
            },
            Some(done) = headers.join_next() => {
                match done {
                    Ok(Taken::Work) => refused = 0,
                    Ok(Taken::Refused) => {
                        tally.streams_refused.count();
                        refused += 1;
                    }
                    Ok(Taken::Gone) | Err(_) => refused += 1,
                }
                if refused > MOST_REFUSED {
                    tally.floods.count();
                    connection.close(ErrorCode::RateLimited, "nothing but bad streams");
                    return;
                }
            }
        }
    }
}

/// What became of a stream.
enum Taken {
    Work,
    Refused,
    /// The device took it back.
    Gone,
}

async fn take_stream(mut raw: RawStream, work: mpsc::Sender<Box<WorkStream>>) -> Taken {
    let read = timeout(HEADER_TIMEOUT, raw.rx.read::<v1::StreamHeader>()).await;
    let (code, message) = match read {
        Ok(Ok(Some(header))) => match StreamHeader::from_wire(header) {
            Ok(header) => {
                // Nobody takes work any more: dropping the stream resets it.
                let _ = work.send(Box::new(raw.into_work(header))).await;
                return Taken::Work;
            }
            Err(error) => (error.code(), error.to_string()),
        },
        Ok(Err(FrameError::Reset(_) | FrameError::ConnectionLost(_))) => return Taken::Gone,
        Ok(Ok(None)) => (ErrorCode::BadFrame, "the stream has no header".to_owned()),
        Ok(Err(error)) => (error.code(), error.to_string()),
        Err(_) => (ErrorCode::DeadlineExceeded, "the stream's header did not come in time".to_owned()),
    };
    tracing::debug!(%code, message, "work stream refused");
    // Who cannot be told has gone.
    let _ = timeout(REFUSAL_TIMEOUT, raw.refuse(code, message)).await;
    Taken::Refused
}
