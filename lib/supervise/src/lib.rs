//! Keeps a process's parts running: ordered start, restart with jittered backoff, health per subsystem, ordered stop
//! with a deadline each, `sd_notify`, signals, and child processes on an inherited socketpair.
//!
//! A [`Subsystem`] is one long-lived part of a process. Whatever way its `run` ends (an error, an early `Ok`, a panic)
//! the answer is the same: wait a jittered while, run it again. What differs is what happens when that does not help,
//! and the [`Spec`] says so: an essential subsystem that gives up ends the process, a degradable one never does.
//!
//! ```no_run
//! use synesis_supervise::{BoxError, Context, HealthBoard, Shutdown, Spec, Subsystem, Supervisor, sd::Notifier};
//!
//! struct Clock;
//!
//! #[async_trait::async_trait]
//! impl Subsystem for Clock {
//!     async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
//!         cx.ready();
//!         cx.stopping().cancelled().await;
//!         Ok(())
//!     }
//! }
//!
//! # async fn app() -> Result<(), BoxError> {
//! let mut shutdown = Shutdown::listen()?;
//! let mut running = Supervisor::new(HealthBoard::new())
//!     .add(Spec::essential("clock"), Clock)
//!     .start_until(async { drop(shutdown.requested().await) })
//!     .await?;
//! running.announce(Notifier::from_env());
//! tokio::select! {
//!     signal = shutdown.requested() => tracing::info!(%signal, "stopping"),
//!     gave_up = running.failed() => tracing::error!(%gave_up, "stopping"),
//! }
//! running.stop().await;
//! # Ok(()) }
//! ```

mod announce;
mod backoff;
mod catch;
pub mod child;
mod context;
mod fault;
mod health;
mod keeper;
mod pulse;
mod running;
pub mod sd;
mod signals;
mod slot;
mod spec;
mod supervisor;

pub use backoff::Backoff;
pub use context::Context;
pub use fault::{BoxError, Fault, GaveUp, StartError};
pub use health::{Health, HealthBoard, Overall, State, summary};
pub use running::{Running, StopReport};
pub use signals::{Reload, Shutdown, StopSignal};
pub use spec::{Spec, Subsystem};
pub use supervisor::Supervisor;
