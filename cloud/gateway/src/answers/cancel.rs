//! Why an answer is no longer wanted.

/// Why an answer is no longer wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// The device asked for the end.
    Asked,
    /// The device sent something that has no place here.
    Protocol,
    /// The device ended the stream.
    Gone,
    /// The connection was lost, and nobody came back for the rest in time.
    Abandoned,
    /// The time the device gave is up.
    Deadline,
    /// The gateway is going away, or has taken the device's identity back.
    SessionEnds,
}

impl Cancel {
    /// A word for the log.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Protocol => "protocol",
            Self::Gone => "gone",
            Self::Abandoned => "abandoned",
            Self::Deadline => "deadline",
            Self::SessionEnds => "session_ends",
        }
    }
}
