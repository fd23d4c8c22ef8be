//! What a person reads when something beyond this device goes wrong.

use std::io;
use std::path::PathBuf;

use synesis_mesh::device::{EnrollError, Tunnel, TunnelConfig};
use synesis_mesh::frame::FrameError;
use synesis_mesh::identity::IdentityError;
use synesis_privacy::{Message, Policy, Vault};
use synesis_store::StoreError;
use tokio::sync::watch;

use super::*;
use crate::adapters::AdapterError;
use crate::ask::SinkError;
use crate::model::ModelError;
use crate::route::LocalFeature;
use crate::tunnel::Damage;

const SECRET: &str = "/secret/path";

fn status(state: TunnelState) -> Box<TunnelStatus> {
    let (_, vitals) = watch::channel(None);
    let (handle, _) = Tunnel::new(TunnelConfig::new("test/1", vitals), None);
    let status = handle.status().borrow().clone();
    Box::new(TunnelStatus { state, reason: None, next_step: None, ..status })
}

fn file_error() -> IdentityError {
    IdentityError::File { path: PathBuf::from(SECRET), source: io::Error::other(SECRET) }
}

fn store_error() -> StoreError {
    StoreError::File { path: PathBuf::from(SECRET), source: io::Error::other(SECRET).into() }
}

fn limit() -> LimitReached {
    LimitReached { limit: NanoUsd::from_i64(1), committed: NanoUsd::from_i64(2) }
}

fn said(code: Option<ErrorCode>, message: &str, next_step: &str) -> EscalationError {
    EscalationError::Refused {
        code,
        message: message.to_owned(),
        next_step: next_step.to_owned(),
        retry_after: None,
    }
}

fn unredactable() -> RedactError {
    let wizard = [Message::new(SECRET, "hello")];
    Policy::standard().unwrap().redact(&wizard, &mut Vault::with_seed(1)).unwrap_err()
}

fn escalations() -> Vec<EscalationError> {
    let mut all = vec![
        EscalationError::NotEnrolled,
        EscalationError::Tunnel(OpenError::Busy),
        EscalationError::Tunnel(OpenError::Stream(FrameError::Io(io::Error::other(SECRET)))),
        EscalationError::Limit(limit()),
        EscalationError::Journal(JournalError::Store(store_error())),
        EscalationError::Journal(JournalError::Closing),
        EscalationError::OverLimit { left: NanoUsd::from_i64(5) },
        EscalationError::TooLong { bytes: 2, limit: 1 },
        EscalationError::Interrupted,
        EscalationError::Stream(FrameError::Io(io::Error::other(SECRET))),
        EscalationError::Stream(FrameError::Reset(None)),
        EscalationError::Silent,
        EscalationError::Protocol("a frame of an unknown kind"),
        EscalationError::TooSlow(std::time::Duration::from_secs(600)),
        EscalationError::from(SinkError::CallerGone),
        EscalationError::from(SinkError::TooLong),
        said(None, "", ""),
    ];
    for code in ErrorCode::ALL {
        all.push(said(Some(*code), "no", ""));
        all.push(said(Some(*code), "", "do this"));
        all.push(said(Some(*code), "A sentence of somebody else's.", ""));
    }
    for state in STATES {
        all.push(EscalationError::Tunnel(OpenError::Offline(status(state))));
    }
    all
}

const STATES: [TunnelState; 7] = [
    TunnelState::Unenrolled,
    TunnelState::Offline,
    TunnelState::Connecting,
    TunnelState::Up,
    TunnelState::Draining,
    TunnelState::Backoff,
    TunnelState::Revoked,
];

fn enrolments() -> Vec<EnrolmentError> {
    let text = |text: &str| text.to_owned();
    let mut all = vec![
        EnrolmentError::AlreadyEnrolled(text("d")),
        EnrolmentError::NotEnrolled,
        EnrolmentError::Unreadable(Damage { reason: text("it is cut short"), next_step: text("restore it") }),
        EnrolmentError::ReceiptsOpen(2),
        EnrolmentError::Journal(JournalError::Store(store_error())),
        EnrolmentError::Store(file_error()),
        EnrolmentError::Closing,
        EnrollError::CaUnreadable(file_error()).into(),
        EnrollError::Unreachable { reason: text("no answer"), next_step: text("check the address") }.into(),
        EnrollError::Untrusted { reason: text("another CA"), next_step: text("check the CA") }.into(),
        EnrollError::BadReply(text(SECRET)).into(),
        EnrollError::Key(file_error()).into(),
        EnrollError::Refused { code: None, message: text(""), next_step: text("") }.into(),
    ];
    for code in ErrorCode::ALL {
        let refused =
            EnrollError::Refused { code: Some(*code), message: text("It is so."), next_step: text("") };
        all.push(refused.into());
    }
    all
}

fn asks() -> Vec<AskError> {
    let refused = |why| AskError::Refused { why, reason: "it is so".into(), next_step: "do this".into() };
    let mut all = vec![
        AskError::EmptyPrompt,
        AskError::UnknownRole(1),
        AskError::OutOfRange("the temperature (0 to 2)"),
        AskError::Malformed("the tools are not a JSON array"),
        AskError::Schema(serde_json::from_str::<u8>(SECRET).unwrap_err()),
        AskError::Session(SessionError::TooLong { bytes: 2, max: 1 }),
        AskError::Adapter(AdapterError::Store(io::Error::other(SECRET))),
        AskError::Model(ModelError::Protocol(SECRET.into())),
        AskError::Redact(unredactable()),
        AskError::Escalation(EscalationError::Silent),
        AskError::Session(SessionError::TooMany { busy: 16 }),
        AskError::Sink(SinkError::CallerGone),
        AskError::Sink(SinkError::NotRead),
        AskError::Sink(SinkError::TooLong),
        AskError::rules_unusable(),
    ];
    all.extend(
        [
            RefuseWhy::NoModel,
            RefuseWhy::ModelFailed,
            RefuseWhy::PromptTooLong { tokens: 2, window: 1 },
            RefuseWhy::Unsupported(LocalFeature::Grammar),
            RefuseWhy::ConsentNever,
            RefuseWhy::DetectorsFailed,
            RefuseWhy::NotEnrolled,
            RefuseWhy::Revoked,
            RefuseWhy::Offline,
            RefuseWhy::DailyLimit,
        ]
        .map(refused),
    );
    all
}

#[test]
fn every_error_has_a_reason_of_the_registry_a_sentence_and_a_next_step() {
    let mut problems: Vec<Problem> = asks().into_iter().map(Problem::from).collect();
    problems.extend(escalations().into_iter().map(Problem::from));
    problems.extend(enrolments().into_iter().map(Problem::from));
    problems.push(limit().into());
    problems.push(Unanswered(PingError::TimedOut).into());
    problems.extend(STATES.map(|state| Unanswered(PingError::Offline(status(state))).into()));
    for problem in problems {
        assert!(reason::ALL.contains(&problem.reason.as_str()), "{problem:?}");
        assert!(!problem.message.is_empty() && !problem.message.ends_with('.'), "{problem:?}");
        assert!(!problem.next_step.is_empty() && !problem.next_step.ends_with('.'), "{problem:?}");
        assert_ne!(problem.code, Code::Ok);
        assert!(!problem.to_string().contains(SECRET), "internal text is not sent: {problem:?}");
    }
}

#[test]
fn what_the_gateway_says_is_passed_on_as_one_plain_line() {
    let long = "x".repeat(10_000);
    let problem = Problem::from(said(None, &format!("\u{1b}[2Jno\nway {long}"), "ask\u{7} Ann."));
    assert!(
        problem.message.starts_with("[2Jnoway x") && problem.message.len() == LONGEST_SENTENCE,
        "{problem:?}"
    );
    assert_eq!(problem.next_step, "ask Ann");
    let silent = Problem::from(said(Some(ErrorCode::CeilingReached), "", ""));
    assert_eq!(silent.message, "the gateway answered CEILING_REACHED");
    assert_eq!(silent.reason, reason::CEILING_REACHED);
}

#[test]
fn refusals_of_money_and_identity_have_reasons_of_their_own() {
    let reasons = [
        (said(Some(ErrorCode::CeilingReached), "no", ""), reason::CEILING_REACHED),
        (said(Some(ErrorCode::QuotaExhausted), "no", ""), reason::QUOTA_EXHAUSTED),
        (said(Some(ErrorCode::Revoked), "no", ""), reason::REVOKED),
        (said(Some(ErrorCode::UnknownDevice), "no", ""), reason::NOT_ENROLLED),
        (EscalationError::Limit(limit()), reason::DAILY_LIMIT),
        (EscalationError::OverLimit { left: NanoUsd::from_i64(5) }, reason::DAILY_LIMIT),
        (EscalationError::TooLong { bytes: 2, limit: 1 }, reason::PROMPT_TOO_LONG),
        (EscalationError::Tunnel(OpenError::Offline(status(TunnelState::Revoked))), reason::REVOKED),
        (EscalationError::Tunnel(OpenError::Offline(status(TunnelState::Backoff))), reason::OFFLINE),
    ];
    for (error, reason) in reasons {
        assert_eq!(Problem::from(error).reason, reason);
    }
}
