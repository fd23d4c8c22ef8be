//! One message is one frame: its length as a big-endian `u32`, then the protobuf bytes. The limit is checked
//! before anything is allocated, and memory grows with the bytes that arrived, not with the length announced.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use synesis_proto::mesh::v1;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::carrier::{ConnectionLost, StreamFault};
use crate::kind::ErrorCode;

/// Bytes of the length in front of every frame.
pub const PREFIX: usize = 4;
/// The step in which a reader's buffer grows.
const READ_STEP: usize = 16 * 1024;
/// What a reader that waits between two frames holds ready.
const READ_IDLE: usize = 512;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length announced, or to be sent, is over the limit of this stream.
    #[error("a frame of {len} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes of the frame.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// The bytes are not the message that belongs here.
    #[error("a frame does not decode")]
    Malformed(#[source] prost::DecodeError),
    /// The peer answered that it cannot serve this stream at all.
    #[error("refused: {}", .0.message)]
    Refused(v1::Problem),
    /// The peer ended this stream, this way or the other, before its time.
    #[error("the other end ended the stream ({})", code_text(.0))]
    Reset(Option<ErrorCode>),
    /// The connection under the stream is gone.
    #[error("the connection was lost")]
    ConnectionLost(#[source] ConnectionLost),
    /// Reading or writing failed.
    #[error("reading or writing the stream failed")]
    Io(#[source] io::Error),
}

fn code_text(code: &Option<ErrorCode>) -> &'static str {
    code.map_or("no known reason", ErrorCode::as_str)
}

impl FrameError {
    /// The code that tells the peer what went wrong.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::Truncated | Self::Malformed(_) => ErrorCode::BadFrame,
            Self::Refused(problem) => {
                ErrorCode::from_number(problem.code.into()).unwrap_or(ErrorCode::Internal)
            }
            Self::Reset(code) => code.unwrap_or(ErrorCode::Cancelled),
            // A reader that did not read.
            Self::Io(error) if error.kind() == io::ErrorKind::TimedOut => ErrorCode::DeadlineExceeded,
            Self::ConnectionLost(_) | Self::Io(_) => ErrorCode::Cancelled,
        }
    }
}

impl From<io::Error> for FrameError {
    /// Streams wrap their own errors in `io::Error`; this takes them out again.
    fn from(error: io::Error) -> Self {
        match StreamFault::of(&error) {
            Some(StreamFault::Ended(code)) => Self::Reset(ErrorCode::from_number(code)),
            Some(StreamFault::Lost(lost)) => Self::ConnectionLost(lost),
            None => Self::Io(error),
        }
    }
}

/// Appends `message` to `out` as one frame. Nothing is appended on error.
///
/// # Errors
/// [`FrameError::TooLarge`] when the message has more than `limit` bytes.
pub fn encode<M: Message>(message: &M, limit: usize, out: &mut BytesMut) -> Result<(), FrameError> {
    let len = message.encoded_len();
    let prefix = match u32::try_from(len) {
        Ok(prefix) if len <= limit => prefix,
        _ => return Err(FrameError::TooLarge { len, limit }),
    };
    out.reserve(PREFIX + len);
    out.put_u32(prefix);
    // A `BytesMut` grows, so this cannot run out of room.
    message.encode(out).map_err(|_| FrameError::TooLarge { len, limit })
}

/// Takes one message off the front of `input`, or nothing when it holds no whole frame yet.
///
/// # Errors
/// [`FrameError::TooLarge`] as soon as the length is readable; [`FrameError::Malformed`] or
/// [`FrameError::Refused`] when the frame is whole (it is then taken off).
pub fn decode<M: Message + Default>(input: &mut BytesMut, limit: usize) -> Result<Option<M>, FrameError> {
    let Some(prefix) = input.first_chunk::<PREFIX>() else { return Ok(None) };
    let len = u32::from_be_bytes(*prefix) as usize;
    if len > limit {
        return Err(FrameError::TooLarge { len, limit });
    }
    if input.len() - PREFIX < len {
        return Ok(None);
    }
    input.advance(PREFIX);
    parse(input.split_to(len).freeze()).map(Some)
}

/// A peer that cannot tell which message a stream expects (an unknown kind) answers with a bare `Problem`. It can't
/// be mistaken: its first field is a number, where every answer of ours has a message.
fn parse<M: Message + Default>(body: Bytes) -> Result<M, FrameError> {
    M::decode(body.clone()).map_err(|error| match v1::Problem::decode(body) {
        Ok(problem) if ErrorCode::from_number(problem.code.into()).is_some() => FrameError::Refused(problem),
        _ => FrameError::Malformed(error),
    })
}

/// Reads frames off a stream of bytes.
#[derive(Debug)]
pub struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    limit: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader that refuses frames of more than `limit` bytes.
    pub fn new(io: R, limit: usize) -> Self {
        Self { io, buffer: BytesMut::new(), limit }
    }

    /// The next message, or `None` when the stream ended between two frames. Cancel-safe.
    ///
    /// # Errors
    /// Any [`FrameError`]. After [`FrameError::TooLarge`] the stream is of no further use.
    pub async fn read<M: Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        loop {
            if let Some(message) = decode(&mut self.buffer, self.limit)? {
                return Ok(Some(message));
            }
            self.buffer.reserve(self.step());
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Truncated) };
            }
        }
    }

    /// How much room to make before the next read.
    fn step(&self) -> usize {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return READ_IDLE };
        let missing = (u32::from_be_bytes(*prefix) as usize + PREFIX).saturating_sub(self.buffer.len());
        missing.clamp(1, READ_STEP)
    }

    /// The same stream with another limit, from the next frame on.
    pub(crate) fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn io_mut(&mut self) -> &mut R {
        &mut self.io
    }
}

/// Writes frames to a stream of bytes.
#[derive(Debug)]
pub struct FrameWriter<W> {
    io: W,
    pending: BytesMut,
    limit: usize,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// A writer that refuses frames of more than `limit` bytes.
    pub fn new(io: W, limit: usize) -> Self {
        Self { io, pending: BytesMut::new(), limit }
    }

    /// Sends one message. When this is cancelled, the rest of the frame goes out before the next one, so the peer
    /// never sees half a frame.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] before anything is sent, or what the stream reports.
    pub async fn write<M: Message>(&mut self, message: &M) -> Result<(), FrameError> {
        encode(message, self.limit, &mut self.pending)?;
        self.flush().await
    }

    /// Sends frames that [`encode`] made, with the same promise when it is cancelled.
    ///
    /// # Errors
    /// What the stream reports.
    pub async fn write_encoded(&mut self, frames: &[u8]) -> Result<(), FrameError> {
        self.pending.extend_from_slice(frames);
        self.flush().await
    }

    pub(crate) async fn flush(&mut self) -> Result<(), FrameError> {
        while self.pending.has_remaining() {
            if self.io.write_buf(&mut self.pending).await? == 0 {
                return Err(FrameError::Io(io::ErrorKind::WriteZero.into()));
            }
        }
        self.io.flush().await?;
        Ok(())
    }

    pub(crate) fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn io(&self) -> &W {
        &self.io
    }

    pub(crate) fn io_mut(&mut self) -> &mut W {
        &mut self.io
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
