//! Processes that want the processor too.

use std::process::{Child, Command, Stdio};

/// Busy loops; they end with their owner.
#[derive(Debug)]
pub(super) struct Rivals(Vec<Child>);

impl Rivals {
    /// Starts `count` of them.
    ///
    /// # Panics
    /// When there is no shell.
    pub(super) fn start(count: usize) -> Self {
        let busy = || {
            let mut shell = Command::new("sh");
            shell.args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn().expect("sh")
        };
        Self((0..count).map(|_| busy()).collect())
    }
}

impl Drop for Rivals {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
