//! The gateway's control loop for one device: acks heartbeats, measures its own round trip, passes on orders.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::control_down::Message as Down;
use synesis_proto::mesh::v1::control_up::Message as Up;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::{DeviceReport, Tally};
use crate::carrier::Connection;
use crate::frame::{FrameError, FrameReader, FrameWriter};
use crate::kind::ErrorCode;
use crate::stream::{RecvHalf, SendHalf};

/// A device that does not take a control message for this long is stuck.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Heartbeats a device may miss, and some slack, before its session ends.
const MISSED_HEARTBEATS: u32 = 3;
const SLACK: Duration = Duration::from_secs(10);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const MAX_INTERVAL: Duration = Duration::from_secs(300);
/// The gateway pings along with every n-th ack: often enough for a picture, rare enough to cost nothing.
const PING_EVERY: u64 = 4;
/// A device that said goodbye may finish its answers for this long.
const LINGER: Duration = Duration::from_secs(600);

/// How the loop ended.
enum End {
    /// The device moves; its running answers may finish.
    Goodbye,
    /// The control stream broke its protocol, or stalled.
    Fault(ErrorCode, String),
    /// The connection is over.
    Lost,
}

pub(super) struct Control {
    connection: Connection,
    tx: FrameWriter<SendHalf>,
    rx: FrameReader<RecvHalf>,
    orders: mpsc::Receiver<Box<Down>>,
    report: watch::Sender<DeviceReport>,
    renewals: mpsc::Sender<Vec<u8>>,
    tally: Arc<Tally>,
    interval: Duration,
    last_beat: Option<Instant>,
    /// Bytes that are counted already: sent, received.
    counted: (u64, u64),
    patience: Duration,
    ping: Option<(u64, Instant)>,
}

impl Control {
    pub(super) fn new(
        connection: Connection,
        (tx, rx): (FrameWriter<SendHalf>, FrameReader<RecvHalf>),
        orders: mpsc::Receiver<Box<Down>>,
        report: watch::Sender<DeviceReport>,
        renewals: mpsc::Sender<Vec<u8>>,
        heartbeat_ms: u64,
        tally: Arc<Tally>,
    ) -> Self {
        let interval = match heartbeat_ms {
            0 => DEFAULT_INTERVAL,
            ms => Duration::from_millis(ms).min(MAX_INTERVAL),
        };
        let patience = interval * MISSED_HEARTBEATS + SLACK;
        Self {
            connection,
            tx,
            rx,
            orders,
            report,
            renewals,
            tally,
            interval,
            last_beat: None,
            counted: (0, 0),
            patience,
            ping: None,
        }
    }

    pub(super) async fn run(mut self) {
        let end = self.serve().await;
        match end {
            End::Lost => {}
            End::Fault(code, reason) => {
                self.tally.control_faults.count();
                self.connection.close(code, &reason);
            }
            End::Goodbye => {
                // The device waits for this end; its running answers keep the connection.
                let _ = timeout(SEND_TIMEOUT, self.tx.finish()).await;
                if timeout(LINGER, self.connection.closed()).await.is_err() {
                    self.connection.close(ErrorCode::DeadlineExceeded, "lingered too long");
                }
            }
        }
    }

    async fn serve(&mut self) -> End {
        let mut overdue = Instant::now() + self.patience;
        loop {
            let done = tokio::select! {
                message = self.rx.read::<v1::ControlUp>() => {
                    let message = match message {
                        Ok(Some(message)) => message.message,
                        Ok(None) => return End::Goodbye,
                        Err(error) => return fault(&error),
                    };
                    if matches!(message, Some(Up::Heartbeat(_))) {
                        overdue = Instant::now() + self.patience;
                    }
                    self.take(message).await
                }
                Some(order) = self.orders.recv() => self.send(*order).await,
                () = sleep_until(overdue) => {
                    Err(End::Fault(ErrorCode::DeadlineExceeded, "heartbeats stopped".to_owned()))
                }
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn take(&mut self, message: Option<Up>) -> Result<(), End> {
        match message {
            Some(Up::Heartbeat(beat)) => self.beat(beat).await,
            Some(Up::Pong(pong)) => {
                self.pong(pong.seq);
                Ok(())
            }
            Some(Up::Goodbye(goodbye)) => {
                tracing::debug!(reason = goodbye.reason, "device moves");
                Err(End::Goodbye)
            }
            Some(Up::Renew(renew)) => {
                // One at a time: a device that asks again before it was answered waits for that answer.
                let _ = self.renewals.try_send(renew.csr_der.to_vec());
                Ok(())
            }
            Some(Up::Hello(_)) => Err(End::Fault(ErrorCode::BadFrame, "a second hello".to_owned())),
            // A message of a newer version: it must not harm.
            None => Ok(()),
        }
    }

    async fn beat(&mut self, beat: v1::Heartbeat) -> Result<(), End> {
        let came = Instant::now();
        if let Some(last) = self.last_beat.replace(came) {
            self.tally.heartbeat_lag.observe(came.saturating_duration_since(last + self.interval));
        }
        self.count_traffic();
        let now = SystemTime::now();
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let received_at_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        self.send(Down::Ack(v1::HeartbeatAck { seq: beat.seq, received_at_ms })).await?;
        let mut count = 0;
        self.report.send_modify(|report| {
            report.heartbeats += 1;
            report.last_heartbeat_at = Some(now);
            // A probe carries no vitals, and takes none back.
            report.vitals = beat.vitals.or(report.vitals.take());
            report.device_rtt = beat.last_rtt_us.map(Duration::from_micros).or(report.device_rtt);
            count = report.heartbeats;
        });
        if count % PING_EVERY == 1 {
            self.ping = Some((count, Instant::now()));
            self.send(Down::Ping(v1::Ping { seq: count })).await?;
        }
        Ok(())
    }

    fn count_traffic(&mut self) {
        let (sent, received) = self.connection.traffic();
        let (sent_before, received_before) = std::mem::replace(&mut self.counted, (sent, received));
        self.tally.sent_bytes.add(sent.saturating_sub(sent_before));
        self.tally.received_bytes.add(received.saturating_sub(received_before));
    }

    fn pong(&mut self, seq: u64) {
        if let Some((_, sent)) = self.ping.take_if(|(expected, _)| *expected == seq) {
            self.report.send_modify(|report| report.gateway_rtt = Some(sent.elapsed()));
        }
    }

    async fn send(&mut self, message: Down) -> Result<(), End> {
        let message = v1::ControlDown { message: Some(message) };
        match timeout(SEND_TIMEOUT, self.tx.write(&message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(fault(&error)),
            Err(_) => Err(End::Fault(ErrorCode::DeadlineExceeded, "the device reads nothing".to_owned())),
        }
    }
}

fn fault(error: &FrameError) -> End {
    match error {
        FrameError::ConnectionLost(_) => End::Lost,
        other => End::Fault(other.code(), format!("control stream: {other}")),
    }
}
