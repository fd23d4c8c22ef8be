//! The reading end of an answer: one stream of the device's. The newest reader is the one that counts.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::Notify;

use super::answer::{Answer, Next};
use super::cancel::Cancel;

/// Frames are handed over in pieces of about this size.
const PIECE: usize = 64 * 1024;

/// Where the current reader is.
pub(super) struct Seat {
    pub(super) number: u64,
    /// The next frame it needs.
    pub(super) next: u64,
    pub(super) wake: Arc<Notify>,
}

/// Reads an answer from one frame on. Dropped, it leaves the answer without a reader.
pub(crate) struct Reader {
    answer: Arc<Answer>,
    number: u64,
    wake: Arc<Notify>,
    introduced: bool,
}

/// What a reader got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// Frames, encoded.
    Frames,
    /// There was nothing more, and will not be.
    End,
    /// A newer stream reads the answer now.
    Superseded,
}

impl Reader {
    pub(super) fn seated(answer: Arc<Answer>, number: u64, from: u64) -> (Seat, Self) {
        let wake = Arc::new(Notify::new());
        let seat = Seat { number, next: from, wake: Arc::clone(&wake) };
        (seat, Self { answer, number, wake, introduced: false })
    }

    /// The answer it reads.
    pub(crate) fn answer(&self) -> &Arc<Answer> {
        &self.answer
    }

    /// What this reader has to say about the answer, to be kept apart from the reading.
    pub(crate) fn say(&self) -> Say {
        Say { answer: Arc::clone(&self.answer), number: self.number }
    }

    /// Waits for the next frames and appends them to `out`, which is empty. Cancel-safe.
    pub(crate) async fn next(&mut self, out: &mut BytesMut) -> Read {
        loop {
            let next = self.answer.lock().next_for(self.number, &mut self.introduced, PIECE, out);
            match next {
                Next::Frames => {
                    self.answer.taken();
                    return Read::Frames;
                }
                Next::End => return Read::End,
                Next::Superseded => return Read::Superseded,
                Next::NothingYet => self.wake.notified().await,
            }
        }
    }
}

/// The say of a reader in whether its answer goes on.
pub(crate) struct Say {
    answer: Arc<Answer>,
    number: u64,
}

impl Say {
    /// Ends a running answer, unless another stream has taken it over: then this one has no say any more.
    pub(crate) fn cancel(&self, why: Cancel) {
        self.answer.cancel_for(self.number, why);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.answer.left(self.number);
    }
}
