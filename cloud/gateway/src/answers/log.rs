//! The frames of one answer as they go over the wire, one after the other in one piece of memory, and found again by
//! number. What a reader is sent is a slice of it: an answer is encoded once, however often it is read.

use bytes::{Buf, BytesMut};
use prost::Message;
use synesis_mesh::frame::{self, FrameError, PREFIX};

/// The frames numbered from [`first`](Self::first) up to [`next`](Self::next).
#[derive(Debug, Default)]
pub(crate) struct FrameLog {
    bytes: BytesMut,
    /// Where each frame ends in `bytes`.
    ends: Vec<u32>,
    /// Frames that were dropped from the front.
    dropped: u64,
}

impl FrameLog {
    /// Reads frames back that were stored as they are; nothing when the bytes are not whole frames of `limit` bytes at
    /// most.
    pub(crate) fn read(bytes: &[u8], limit: usize) -> Option<Self> {
        let (mut ends, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let prefix = bytes[at..].first_chunk::<PREFIX>()?;
            let len = u32::from_be_bytes(*prefix) as usize;
            let end = at.checked_add(PREFIX)?.checked_add(len)?;
            if len > limit || end > bytes.len() {
                return None;
            }
            ends.push(u32::try_from(end).ok()?);
            at = end;
        }
        Some(Self { bytes: BytesMut::from(bytes), ends, dropped: 0 })
    }

    /// Appends a message as a frame.
    ///
    /// # Errors
    /// When it is over `limit`; nothing is appended then.
    pub(crate) fn push<M: Message>(&mut self, message: &M, limit: usize) -> Result<(), FrameError> {
        let len = message.encoded_len();
        // The ends are 32 bits wide; the limits of an answer keep it far below that.
        let Ok(end) = u32::try_from(self.bytes.len().saturating_add(PREFIX).saturating_add(len)) else {
            return Err(FrameError::TooLarge { len, limit });
        };
        frame::encode(message, limit, &mut self.bytes)?;
        self.ends.push(end);
        Ok(())
    }

    /// The number of the first frame that is here.
    pub(crate) fn first(&self) -> u64 {
        self.dropped + 1
    }

    /// The number that the next frame will have.
    pub(crate) fn next(&self) -> u64 {
        self.dropped + self.ends.len() as u64 + 1
    }

    /// The frames from number `from`, whole ones, about `most` bytes of them and at least one; and the number of the
    /// first that is not among them. Nothing when there is none (any more, or yet).
    pub(crate) fn from(&self, from: u64, most: usize) -> Option<(&[u8], u64)> {
        let index = usize::try_from(from.checked_sub(self.first())?).ok()?;
        if index >= self.ends.len() {
            return None;
        }
        let start = self.start(index);
        let fits = self.ends[index..].partition_point(|end| *end as usize - start <= most);
        let after = index + fits.max(1);
        Some((&self.bytes[start..self.start(after)], self.first() + after as u64))
    }

    /// Every frame that is here.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets the frames before number `before`.
    pub(crate) fn drop_before(&mut self, before: u64) {
        let count = before.saturating_sub(self.first());
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.ends.len());
        let cut = self.start(count);
        self.bytes.advance(cut);
        self.ends.drain(..count);
        let cut = u32::try_from(cut).unwrap_or(u32::MAX);
        self.ends.iter_mut().for_each(|end| *end -= cut);
        self.dropped += count as u64;
    }

    /// The memory it takes.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }

    /// Lets go of memory that was taken in advance: nothing more will be appended.
    pub(crate) fn compact(&mut self) {
        self.bytes = BytesMut::from(&self.bytes[..]);
        self.ends.shrink_to_fit();
    }

    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use synesis_proto::mesh::v1;

    use super::*;

    const LIMIT: usize = 1024;

    fn delta(seq: u64, text: &str) -> v1::AskDown {
        v1::AskDown {
            message: Some(v1::ask_down::Message::Delta(v1::AskDelta { seq, text: text.to_owned() })),
        }
    }

    fn log(texts: &[String]) -> FrameLog {
        let mut log = FrameLog::default();
        for (seq, text) in (1..).zip(texts) {
            log.push(&delta(seq, text), LIMIT).unwrap();
        }
        log
    }

    /// The sequence numbers and texts in a slice of frames.
    fn decoded(bytes: &[u8]) -> Vec<(u64, String)> {
        let (mut input, mut all) = (BytesMut::from(bytes), Vec::new());
        while let Some(down) = frame::decode::<v1::AskDown>(&mut input, LIMIT).unwrap() {
            match down.message {
                Some(v1::ask_down::Message::Delta(delta)) => all.push((delta.seq, delta.text)),
                other => panic!("no delta but {other:?}"),
            }
        }
        assert!(input.is_empty(), "whole frames only");
        all
    }

    #[test]
    fn a_frame_over_the_limit_leaves_the_log_as_it_was() {
        let mut log = log(&["a".to_owned()]);
        let before = log.bytes().to_vec();
        assert!(log.push(&delta(2, &"x".repeat(LIMIT)), LIMIT).is_err());
        assert_eq!((log.bytes(), log.next()), (&before[..], 2));
    }

    #[test]
    fn bytes_that_are_not_whole_frames_are_no_log() {
        let whole = log(&["one".to_owned(), "two".to_owned()]).bytes().to_vec();
        assert_eq!(FrameLog::read(&whole, LIMIT).unwrap().next(), 3);
        for cut in 1..whole.len() {
            let read = FrameLog::read(&whole[..cut], LIMIT);
            assert!(read.is_none_or(|log| log.next() == 2), "{cut}: only a boundary is one");
        }
        assert!(FrameLog::read(&whole, 2).is_none(), "a frame over the limit");
        assert!(FrameLog::read(&[0xff; 9], LIMIT).is_none());
    }

    proptest! {
        #[test]
        fn what_is_read_from_any_number_in_any_steps_is_what_was_written(
            texts in proptest::collection::vec("[a-z]{0,12}", 0..60), from in 1_u64..70, most in 1_usize..200, dropped in 0_u64..80,
        ) {
            let mut log = log(&texts);
            log.drop_before(dropped);
            let first = log.first();
            prop_assert_eq!(log.next(), texts.len() as u64 + 1);
            let (mut at, mut read) = (from, Vec::new());
            while let Some((bytes, next)) = log.from(at, most) {
                prop_assert!(next > at);
                read.extend(decoded(bytes));
                at = next;
            }
            let kept = (1..).zip(texts).filter(|(seq, _)| from >= first && *seq >= from);
            prop_assert_eq!(read, kept.collect::<Vec<_>>());
            log.compact();
            let again = FrameLog::read(log.bytes(), LIMIT).unwrap();
            prop_assert_eq!(again.bytes(), log.bytes());
        }
    }
}
