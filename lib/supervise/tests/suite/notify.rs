//! The notification protocol against a real datagram socket.

use std::{
    ffi::OsString,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

use synesis_supervise::sd::{Notifier, NotifyError};
use tempfile::TempDir;

/// The service manager's end.
pub(crate) struct ServiceManager {
    pub(crate) socket: UnixDatagram,
    pub(crate) dir: TempDir,
}

impl ServiceManager {
    pub(crate) fn listen() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, dir }
    }

    pub(crate) fn notifier(&self, watchdog: Option<Duration>) -> Notifier {
        let address = self.dir.path().join("notify").into_os_string();
        Notifier::from_vars(|name| match name {
            "NOTIFY_SOCKET" => Some(address.clone()),
            "WATCHDOG_USEC" => watchdog.map(|period| period.as_micros().to_string().into()),
            _ => None,
        })
        .unwrap()
    }

    /// Every message that has arrived since the last call.
    pub(crate) fn heard(&self) -> Vec<String> {
        std::iter::from_fn(|| receive(&self.socket)).collect()
    }
}

fn receive(socket: &UnixDatagram) -> Option<String> {
    let mut buffer = [0; 4_096];
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
}

fn with(vars: &'static [(&'static str, &'static str)]) -> Result<Notifier, NotifyError> {
    let find = |wanted: &str| vars.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.into());
    Notifier::from_vars(find)
}

#[test]
fn each_message_is_one_datagram_on_the_managers_socket() {
    let manager = ServiceManager::listen();
    let notifier = manager.notifier(None);
    notifier.ready().unwrap();
    notifier.status("degraded: offline").unwrap();
    notifier.watchdog().unwrap();
    notifier.stopping().unwrap();
    assert_eq!(manager.heard(), ["READY=1", "STATUS=degraded: offline", "WATCHDOG=1", "STOPPING=1"]);
}

#[test]
fn an_abstract_socket_is_reached_by_its_at_sign() {
    let name = format!("synesis-test-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = OsString::from(format!("@{name}"));
    let notifier = Notifier::from_vars(|name| (name == "NOTIFY_SOCKET").then(|| address.clone())).unwrap();
    notifier.ready().unwrap();
    assert_eq!(receive(&socket).as_deref(), Some("READY=1"));
}

#[test]
fn a_status_cannot_smuggle_in_another_variable() {
    let manager = ServiceManager::listen();
    manager.notifier(None).status("model \"x\nMAINPID=1\r\" failed").unwrap();
    assert_eq!(manager.heard(), ["STATUS=model \"x MAINPID=1 \" failed"]);
}

#[test]
fn without_a_service_manager_nothing_is_said_and_nothing_fails() {
    let notifier = with(&[("WATCHDOG_USEC", "30000000")]).unwrap();
    notifier.ready().unwrap();
    assert_eq!(notifier.watchdog_interval(), None);
}

#[test]
fn an_address_that_cannot_be_used_is_an_error_that_quotes_it() {
    for vars in [
        &[("NOTIFY_SOCKET", "")],
        &[("NOTIFY_SOCKET", "/")],
        &[("NOTIFY_SOCKET", "@")],
        &[("NOTIFY_SOCKET", "run/notify")],
        &[("NOTIFY_SOCKET", "vsock:2:1234")],
    ] {
        let error = with(vars).unwrap_err();
        assert!(matches!(&error, NotifyError::Address(_)), "{error:?}");
        assert!(error.to_string().starts_with(&format!("NOTIFY_SOCKET={} is", vars[0].1)), "{error}");
    }
    let long = format!("/{}", "x".repeat(200));
    let error = Notifier::from_vars(|_| Some(long.clone().into())).unwrap_err();
    assert!(matches!(error, NotifyError::Address(_)), "{error:?}");
}

#[test]
fn a_manager_that_does_not_listen_is_an_error_not_a_hang() {
    let manager = ServiceManager::listen();
    let notifier = manager.notifier(None);
    drop(manager);
    assert!(matches!(notifier.ready(), Err(NotifyError::Send(_))));
}

#[test]
fn the_watchdog_interval_counts_only_when_it_is_meant_for_this_process() {
    let interval = |usec: &str, pid: Option<String>| {
        Notifier::from_vars(|name| match name {
            "NOTIFY_SOCKET" => Some("/run/systemd/notify".into()),
            "WATCHDOG_USEC" => Some(usec.into()),
            _ => pid.clone().map(Into::into),
        })
        .unwrap()
        .watchdog_interval()
    };
    let ours = std::process::id().to_string();
    assert_eq!(interval("30000000", None), Some(Duration::from_secs(30)));
    assert_eq!(interval("30000000", Some(ours)), Some(Duration::from_secs(30)));
    assert_eq!(interval("30000000", Some("1".to_owned())), None);
    assert_eq!(interval("30000000", Some("garbage".to_owned())), None);
    assert_eq!(interval("0", None), None);
    assert_eq!(interval("-5", None), None);
}
