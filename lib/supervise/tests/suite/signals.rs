//! Real signals to this very process.

use nix::sys::signal::{Signal, raise};
use synesis_supervise::{Reload, Shutdown, StopSignal};

#[tokio::test]
async fn sigterm_and_sigint_ask_for_a_stop() {
    let mut shutdown = Shutdown::listen().unwrap();
    raise(Signal::SIGTERM).unwrap();
    assert_eq!(shutdown.requested().await, StopSignal::Terminate);
    raise(Signal::SIGINT).unwrap();
    let second = shutdown.requested().await;
    assert_eq!(second, StopSignal::Interrupt);
    assert_eq!(second.to_string(), "SIGINT");
}

#[tokio::test]
async fn sighup_asks_for_a_reload() {
    let mut reload = Reload::listen().unwrap();
    raise(Signal::SIGHUP).unwrap();
    reload.requested().await;
    raise(Signal::SIGHUP).unwrap();
    reload.requested().await;
}
