//! Whether anybody still reads standard output. A write would tell, but a stream may be silent for a long time, and
//! an answer that nobody will read should not be made, let alone charged.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

/// A watch over the far end of standard output.
#[derive(Debug)]
pub(crate) struct Reader {
    /// `None` for what is no pipe: its reader cannot leave without a signal.
    pipe: Option<Sender>,
}

impl Reader {
    /// Watches standard output. To be called on the event loop.
    pub(crate) fn of_stdout() -> Self {
        Self::of(&io::stdout())
    }

    fn of(stream: &impl AsFd) -> Self {
        let watch = || {
            let copy = File::from(stream.as_fd().try_clone_to_owned()?);
            let is_pipe = copy.metadata()?.file_type().is_fifo();
            // Unchecked, because the checked one makes the pipe non-blocking, for every process that shares it.
            // Nothing is ever written through this copy.
            is_pipe.then(|| Sender::from_file_unchecked(copy)).transpose()
        };
        // Without a watch a reader who leaves is noticed at the next write.
        Self { pipe: watch().unwrap_or_else(|_: io::Error| None) }
    }

    /// Resolves when the reader has left; never, when it cannot leave.
    pub(crate) async fn left(&self) {
        if let Some(pipe) = &self.pipe
            && pipe.ready(Interest::ERROR).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_reader_who_closes_the_pipe_has_left() {
        let (far_end, near_end) = io::pipe().unwrap();
        let reader = Reader::of(&near_end);
        assert!(reader.left().now_or_never().is_none());
        drop(far_end);
        reader.left().await;
    }

    #[tokio::test]
    async fn a_file_has_no_reader_who_could_leave() {
        let reader = Reader::of(&tempfile::tempfile().unwrap());
        assert!(reader.pipe.is_none());
    }
}
