//! The registry of the tunnel: protocol names, stream kinds, frame limits and error codes. A number in this file
//! is a promise to every device in the field: it is never reused, and what was retired stays listed as reserved.

use std::fmt;
use std::time::Duration;

use quinn::VarInt;
use synesis_proto::mesh::v1;

/// ALPN of the tunnel: both sides show a certificate.
pub const ALPN_MESH: &[u8] = b"synesis-mesh/1";
/// ALPN of enrolment: the gateway shows a certificate, the device a one-time token, or its own certificate, which may have
/// expired.
pub const ALPN_ENROLL: &[u8] = b"synesis-enroll/1";
/// Protocol versions this build speaks, best first (`Hello.versions`).
pub const PROTOCOL_VERSIONS: &[u32] = &[1];
/// Work streams a device may have open at the same time; the control stream is not counted.
pub const MAX_WORK_STREAMS: u32 = 8;
/// QUIC close code of an end that simply leaves.
pub const CLOSE_NORMAL: u32 = 0;

/// A certificate counts this long before its first moment: clocks are off by an hour after a change of zone, by a day
/// after a wrong date (ADR 0022).
pub const CLOCK_SKEW: Duration = Duration::from_secs(24 * 3600);

/// Bytes in the header frame of a work stream, at most.
pub(crate) const MAX_HEADER_FRAME: usize = 4 * 1024;
/// Bytes in an enrolment frame, at most: a CSR up, a certificate chain down.
pub(crate) const MAX_ENROLL_FRAME: usize = 64 * 1024;

/// Bytes of an adapter's file in one chunk, at most.
pub const ADAPTER_CHUNK: usize = 256 * 1024;

/// Send priority of QUIC streams, higher first: control > ask > adapter bytes.
pub(crate) const PRIORITY_CONTROL: i32 = 10;
/// Adapter bytes take what everything else leaves.
const PRIORITY_BULK: i32 = -10;

/// What a bidirectional stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum StreamKind {
    /// Hello, heartbeats, prewarm, drain. The first stream of a connection, and the only one without a header.
    Control = 1,
    /// One escalated prompt and its streamed answer.
    Ask = 2,
    /// One question about money and its answer.
    Account = 3,
    /// An adapter's file, device to gateway.
    AdapterPush = 4,
    /// An adapter's file, gateway to device.
    AdapterPull = 5,
    /// One question about the account's adapters and its answer.
    Adapters = 6,
}

impl StreamKind {
    /// Every kind this build knows.
    pub const ALL: &[Self] =
        &[Self::Control, Self::Ask, Self::Account, Self::AdapterPush, Self::AdapterPull, Self::Adapters];
    /// Numbers set aside for later, with their purpose.
    pub const RESERVED: &[(u32, &str)] = &[];

    /// The number on the wire.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The kind of a number from the wire, if this build knows it.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.number() == number)
    }

    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Ask => "ask",
            Self::Account => "account",
            Self::AdapterPush => "adapter push",
            Self::AdapterPull => "adapter pull",
            Self::Adapters => "adapters",
        }
    }

    /// The largest frame on such a stream, in bytes without the length prefix, in both directions.
    pub const fn max_frame(self) -> usize {
        match self {
            Self::Control => 64 * 1024,
            // One frame holds the whole redacted conversation.
            Self::Ask => 1024 * 1024,
            Self::Account => 64 * 1024,
            // A chunk and what is around it.
            Self::AdapterPush | Self::AdapterPull => ADAPTER_CHUNK + 1024,
            // Some dozens of adapters; a longer list takes several frames.
            Self::Adapters => 64 * 1024,
        }
    }

    pub(crate) const fn priority(self) -> i32 {
        match self {
            Self::Control => PRIORITY_CONTROL,
            Self::Ask | Self::Account | Self::Adapters => 0,
            Self::AdapterPush | Self::AdapterPull => PRIORITY_BULK,
        }
    }
}

impl fmt::Display for StreamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $retry:ident;)*) => {
        /// Why a request, a stream or a connection was ended: `Problem.code` and the QUIC application close code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum ErrorCode {
            $($(#[$doc])* $name = $number,)*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The stable name, `UPPER_SNAKE_CASE`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether the same request may succeed later without anybody changing anything.
            pub const fn retryable(self) -> bool {
                match self { $(Self::$name => error_codes!(@$retry),)* }
            }
        }
    };
    (@retryable) => { true };
    (@fatal) => { false };
}

error_codes! {
    /// A defect at the other end.
    Internal = 1, "INTERNAL", retryable;
    /// A frame that does not decode, or does not belong here.
    BadFrame = 2, "BAD_FRAME", fatal;
    /// A stream kind this end does not know.
    UnknownKind = 3, "UNKNOWN_KIND", fatal;
    /// No protocol version in common.
    VersionUnsupported = 4, "VERSION_UNSUPPORTED", fatal;
    /// No certificate, or a device the gateway has no record of.
    UnknownDevice = 5, "UNKNOWN_DEVICE", fatal;
    /// The device's identity was taken back.
    Revoked = 6, "REVOKED", fatal;
    /// No such enrolment token.
    TokenInvalid = 7, "TOKEN_INVALID", fatal;
    /// The enrolment token is past its time.
    TokenExpired = 8, "TOKEN_EXPIRED", fatal;
    /// The enrolment token was used up.
    TokenUsed = 9, "TOKEN_USED", fatal;
    /// The certificate signing request is not acceptable.
    CsrInvalid = 10, "CSR_INVALID", fatal;
    /// The account's ceiling would be passed.
    CeilingReached = 11, "CEILING_REACHED", fatal;
    /// The account's quota is used up.
    QuotaExhausted = 12, "QUOTA_EXHAUSTED", fatal;
    /// No provider serves the model.
    ModelUnknown = 13, "MODEL_UNKNOWN", fatal;
    /// The provider could not be reached, or failed.
    ProviderUnavailable = 14, "PROVIDER_UNAVAILABLE", retryable;
    /// The provider refused the request.
    ProviderRejected = 15, "PROVIDER_REJECTED", fatal;
    /// A request of this id is known and may not run again.
    RequestKnown = 16, "REQUEST_KNOWN", fatal;
    /// A frame or a request over its limit.
    TooLarge = 17, "TOO_LARGE", fatal;
    /// Too many requests; `retry_after_ms` says when.
    RateLimited = 18, "RATE_LIMITED", retryable;
    /// It took longer than the caller, or a protocol step, allows.
    DeadlineExceeded = 19, "DEADLINE_EXCEEDED", retryable;
    /// The gateway is going away; another one, or this one later, will serve.
    Draining = 20, "DRAINING", retryable;
    /// The caller no longer wants the answer.
    Cancelled = 21, "CANCELLED", fatal;
    /// The gateway could not store what it must not forget.
    StoreFailed = 22, "STORE_FAILED", retryable;
    /// The worst case is over what the request itself allows (`AskStart.max_charge_nanousd`).
    OverMaxCharge = 23, "OVER_MAX_CHARGE", fatal;
    /// The device's certificate is past its end. Within the gateway's grace the device renews it by itself.
    CertificateExpired = 24, "CERTIFICATE_EXPIRED", fatal;
    /// The gateway keeps no answer of this request (any more) that could go on from there.
    ResumeUnknown = 25, "RESUME_UNKNOWN", fatal;
    /// A newer stream reads this answer now.
    Superseded = 26, "SUPERSEDED", fatal;
    /// The account has no such adapter at the gateway.
    AdapterUnknown = 27, "ADAPTER_UNKNOWN", fatal;
    /// The account's adapters take all the room they may.
    AdapterQuota = 28, "ADAPTER_QUOTA", fatal;
    /// The bytes that came do not have the digest that was announced.
    DigestMismatch = 29, "DIGEST_MISMATCH", fatal;
    /// The model that would answer cannot use the adapter.
    AdapterUnusable = 30, "ADAPTER_UNUSABLE", fatal;
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The code of a number from the wire, if this build knows it.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| u64::from(code.number()) == number)
    }

    /// The code as the peer sees it in a `Problem`.
    pub fn problem(self, message: impl Into<String>, next_step: impl Into<String>) -> v1::Problem {
        v1::Problem {
            code: self.number(),
            message: message.into(),
            next_step: next_step.into(),
            retry_after_ms: 0,
        }
    }

    pub(crate) const fn varint(self) -> VarInt {
        VarInt::from_u32(self.number())
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The version to speak with a peer that offers `theirs`: our best one that it also speaks.
pub fn negotiate_version(theirs: &[u32]) -> Option<u32> {
    PROTOCOL_VERSIONS.iter().copied().find(|ours| theirs.contains(ours))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_numbers_on_the_wire_are_the_promised_ones() {
        let kinds: Vec<_> = StreamKind::ALL.iter().map(|k| (k.number(), k.as_str())).collect();
        let adapters = [(4, "adapter push"), (5, "adapter pull"), (6, "adapters")];
        assert_eq!(kinds[..3], [(1, "control"), (2, "ask"), (3, "account")]);
        assert_eq!(kinds[3..], adapters);
        let codes: Vec<_> = ErrorCode::ALL.iter().map(|c| c.number()).collect();
        assert_eq!(codes, (1..=30).collect::<Vec<_>>());
        assert_eq!(ErrorCode::Revoked.number(), 6);
        assert_eq!(ErrorCode::StoreFailed.number(), 22);
    }

    #[test]
    fn names_and_numbers_are_unique_and_lead_back() {
        let mut names = BTreeSet::new();
        for code in ErrorCode::ALL {
            assert!(names.insert(code.as_str()), "{code} twice");
            assert_eq!(ErrorCode::from_number(code.number().into()), Some(*code));
        }
        for kind in StreamKind::ALL {
            assert_eq!(StreamKind::from_number(kind.number()), Some(*kind));
        }
        for (reserved, what) in StreamKind::RESERVED {
            assert_eq!(StreamKind::from_number(*reserved), None, "{what} is reserved");
        }
    }

    #[test]
    fn numbers_nobody_assigned_are_unknown() {
        assert_eq!(StreamKind::from_number(0), None);
        assert_eq!(StreamKind::from_number(u32::MAX), None);
        assert_eq!(ErrorCode::from_number(CLOSE_NORMAL.into()), None);
        assert_eq!(ErrorCode::from_number(u64::MAX), None);
    }

    #[test]
    fn only_what_heals_by_itself_is_retryable() {
        let retryable: Vec<_> = ErrorCode::ALL.iter().filter(|c| c.retryable()).map(|c| c.as_str()).collect();
        let expected = [
            "INTERNAL",
            "PROVIDER_UNAVAILABLE",
            "RATE_LIMITED",
            "DEADLINE_EXCEEDED",
            "DRAINING",
            "STORE_FAILED",
        ];
        assert_eq!(retryable, expected);
    }

    #[test]
    fn the_best_common_version_is_chosen() {
        assert_eq!(negotiate_version(&[7, 1]), Some(1));
        assert_eq!(negotiate_version(&[2]), None);
        assert_eq!(negotiate_version(&[]), None);
    }
}
