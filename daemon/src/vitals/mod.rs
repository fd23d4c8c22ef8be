//! Device measurements. What cannot be read is absent, never zero.

mod gpu;
mod mesh;
mod sampler;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use synesis_supervise::{BoxError, Context, Subsystem};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use sampler::Sampler;

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Vitals {
    /// Fraction of all cores in use since the last sample.
    pub cpu: Option<f64>,
    /// Fraction of RAM in use.
    pub memory: Option<f64>,
    /// Fraction of the state folder's file system in use.
    pub disk: Option<f64>,
    /// The hottest sensor, in degrees Celsius.
    pub temperature_c: Option<f64>,
    /// One-minute load average.
    pub load: Option<f64>,
    /// Seconds since the machine started.
    pub uptime_s: Option<u64>,
    /// One per GPU that NVML knows.
    pub gpus: Vec<Gpu>,
    /// When.
    pub sampled_at: SystemTime,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// As the driver calls it.
    pub name: String,
    /// Fraction of time it was busy.
    pub utilization: Option<f64>,
    /// Fraction of its memory in use.
    pub memory: Option<f64>,
    /// In degrees Celsius.
    pub temperature_c: Option<f64>,
}

/// The `vitals` subsystem: samples on a blocking thread, publishes the newest.
#[derive(Debug)]
pub struct VitalsSampling {
    every: Duration,
    state_dir: PathBuf,
    newest: watch::Sender<Option<Vitals>>,
    for_tunnel: watch::Sender<Option<synesis_proto::mesh::v1::Vitals>>,
}

/// Where samples appear; `None` until the first one is taken.
#[derive(Debug, Clone)]
pub struct Feeds {
    /// For the local API.
    pub vitals: watch::Receiver<Option<Vitals>>,
    /// The same for heartbeats.
    pub for_tunnel: watch::Receiver<Option<synesis_proto::mesh::v1::Vitals>>,
}

impl VitalsSampling {
    /// The subsystem and where its samples appear. `state_dir` is the folder whose file system is measured.
    pub fn new(every: Duration, state_dir: PathBuf) -> (Self, Feeds) {
        let (newest, vitals) = watch::channel(None);
        let (for_tunnel, tunnel_feed) = watch::channel(None);
        (Self { every, state_dir, newest, for_tunnel }, Feeds { vitals, for_tunnel: tunnel_feed })
    }
}

#[async_trait]
impl Subsystem for VitalsSampling {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        let stopping = cx.stopping();
        let state_dir = self.state_dir.clone();
        let mut sampler = tokio::task::spawn_blocking(move || Sampler::new(state_dir)).await?;
        cx.ready();
        let mut times = interval(self.every);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = times.tick() => {}
                () = stopping.cancelled() => return Ok(()),
            }
            let sampled = tokio::task::spawn_blocking(move || {
                let sample = sampler.sample();
                (sampler, sample)
            });
            let (back, sample) = sampled.await?;
            sampler = back;
            self.for_tunnel.send_replace(Some((&sample).into()));
            self.newest.send_replace(Some(sample));
        }
    }
}

/// Memory of the largest GPU, in bytes, where NVML finds one.
pub fn gpu_memory_bytes() -> Option<u64> {
    gpu::Gpus::open().memory_bytes()
}

#[cfg(test)]
mod tests;
