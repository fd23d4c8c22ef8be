//! Waiting for a service the way systemd does: on its notification socket, not on a clock.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long any single event may take on a busy machine before the test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The receiving end of `sd_notify`.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl NotifySocket {
    /// Binds `folder/notify-NAME.sock`.
    pub fn bind(folder: &Path, name: &str) -> Self {
        let path = folder.join(format!("notify-{name}.sock"));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).expect("a short path in a scratch folder");
        socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
        Self { socket, path }
    }

    /// What goes into `NOTIFY_SOCKET`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Blocks until a notification holds `wanted` (say, `READY=1`); false when the time is up.
    pub fn wait_for(&self, wanted: &str) -> bool {
        let mut buffer = [0_u8; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|line| line.starts_with(wanted)) {
                return true;
            }
        }
        false
    }
}
