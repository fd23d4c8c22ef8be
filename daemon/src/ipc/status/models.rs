//! The refusals of everything about model files.

use synesis_proto::{Problem, reason};
use tonic::Code;

use super::{internal, store};
use crate::model::{ExamineError, LoadError, LoadFailure};
use crate::models::{ModelsError, NoRoom, RemoteError};

const CHECK_PROGRAM: &str = "install synesis-runtime, or set runtime.program to it";

impl From<ModelsError> for Problem {
    fn from(error: ModelsError) -> Self {
        let message = error.to_string();
        let (code, reason, next_step) = match error {
            ModelsError::Examine(error) => return examined(*error),
            ModelsError::Remote(error) => return remote(&error),
            ModelsError::Load(error) => return load(*error),
            ModelsError::Store(source) => return store(&source),
            ModelsError::NotKept(source) => {
                let problem = store(&source);
                return Problem { message, ..problem };
            }
            ModelsError::Name(_) => (
                Code::InvalidArgument,
                reason::BAD_REQUEST,
                "use 1 to 64 lower case letters, digits, dots, dashes and underscores, beginning with a letter or \
                 digit: --name NAME",
            ),
            ModelsError::Source(_) | ModelsError::NotADigest => (
                Code::InvalidArgument,
                reason::BAD_REQUEST,
                "give hf:ORG/REPO[:QUANT][@REV], an https address, a file, a name of `synctl model catalogue`, or auto",
            ),
            ModelsError::NotInCatalogue(_) => (
                Code::NotFound,
                reason::MODEL_NOT_FOUND,
                "synctl model catalogue shows what there is; hf:ORG/REPO names any other model",
            ),
            ModelsError::NothingFits { .. } => (
                Code::FailedPrecondition,
                reason::MODEL_TOO_LARGE,
                "lower model.context_tokens or model.parallel, or raise runtime.memory_max_bytes",
            ),
            ModelsError::Choice(_) => (
                Code::NotFound,
                reason::SOURCE_FAILED,
                "name the quantisation or the file: hf:ORG/REPO:QUANT or hf:ORG/REPO:FILE.gguf",
            ),
            ModelsError::Token(source) => {
                tracing::warn!(error = %source, "the hub's access token cannot be read");
                (
                    Code::FailedPrecondition,
                    reason::SOURCE_FAILED,
                    "check model.hf_token_file: the daemon's user has to be able to read it, and it has one line",
                )
            }
            ModelsError::Digest { .. } => (
                Code::DataLoss,
                reason::DIGEST_MISMATCH,
                "pull it again; if it stays so, the source is not to be trusted or the digest is of another file",
            ),
            ModelsError::OtherDigest { .. } => (
                Code::FailedPrecondition,
                reason::DIGEST_MISMATCH,
                "check the digest, or pin the revision it belongs to: hf:ORG/REPO:QUANT@COMMIT",
            ),
            ModelsError::NoRoom(NoRoom::Disk { .. }) => (
                Code::ResourceExhausted,
                reason::DISK_FULL,
                "free some space below paths.state_dir, or remove a model: synctl model rm NAME",
            ),
            ModelsError::NoRoom(NoRoom::Store { .. }) => (
                Code::ResourceExhausted,
                reason::DISK_FULL,
                "remove a model (synctl model rm NAME), or raise model.store_max_bytes",
            ),
            ModelsError::Empty => (Code::InvalidArgument, reason::MODEL_INVALID, "pull a GGUF file"),
            ModelsError::Incomplete { .. } => (
                Code::Aborted,
                reason::INTERRUPTED,
                "pull the same file again; what came is kept and it goes on from there",
            ),
            ModelsError::Exists(_) => (
                Code::AlreadyExists,
                reason::MODEL_EXISTS,
                "use another name (--name NAME), or remove the old one first",
            ),
            ModelsError::NotFound(_) => {
                (Code::NotFound, reason::MODEL_NOT_FOUND, "synctl model list shows what there is")
            }
            ModelsError::InUse(_) => (
                Code::FailedPrecondition,
                reason::MODEL_IN_USE,
                "load another model first: synctl model load NAME",
            ),
            ModelsError::NotConfigured => (
                Code::FailedPrecondition,
                reason::NO_MODEL,
                "name a model (synctl model list shows them), or set model.path and restart synesisd",
            ),
            ModelsError::Busy => {
                (Code::ResourceExhausted, reason::BUSY, "wait until that one has ended, or end it")
            }
        };
        Problem::new(code, reason, message, next_step)
    }
}

fn examined(error: ExamineError) -> Problem {
    let message = error.to_string();
    match error {
        ExamineError::Refused(problem) => problem,
        ExamineError::Deadly(_) => Problem::new(
            Code::InvalidArgument,
            reason::MODEL_INVALID,
            message,
            "use another file: this one is damaged, or made to do harm",
        ),
        ExamineError::NoProcess(_) => {
            Problem::new(Code::FailedPrecondition, reason::MODEL_NOT_READY, message, CHECK_PROGRAM)
        }
    }
}

fn remote(error: &RemoteError) -> Problem {
    let (code, next_step) = match error {
        RemoteError::Broken { .. }
        | RemoteError::Stalled { .. }
        | RemoteError::CutShort { .. }
        | RemoteError::Trouble { .. } => {
            (Code::Unavailable, "pull it again when the network is back: it goes on where it stopped")
        }
        RemoteError::Denied { .. } => (
            Code::PermissionDenied,
            "accept the model's licence on the hub, put an access token into a file, and set model.hf_token_file to it",
        ),
        RemoteError::NotThere { .. } => (Code::NotFound, "check the spelling, the revision and the address"),
        RemoteError::Unexpected { .. } | RemoteError::Redirect { .. } | RemoteError::Nonsense { .. } => {
            (Code::FailedPrecondition, "check the address, or model.hf_endpoint")
        }
        RemoteError::Client(_) => (Code::FailedPrecondition, "install ca-certificates, then pull it again"),
    };
    Problem::new(code, reason::SOURCE_FAILED, error.to_string(), next_step)
}

fn load(error: LoadError) -> Problem {
    let message = error.to_string();
    let LoadError::Failed { why, .. } = error else {
        return Problem::new(
            Code::Unavailable,
            reason::STOPPING,
            message,
            "load it again when synesisd is back: systemctl status synesisd",
        );
    };
    match why {
        LoadFailure::Refused(problem) => Problem { message, ..problem },
        LoadFailure::Missing(_) => Problem::new(
            Code::NotFound,
            reason::MODEL_NOT_FOUND,
            message,
            "pull it again, or put the file back and check that the daemon may read it",
        ),
        LoadFailure::Died(_) => Problem::new(
            Code::FailedPrecondition,
            reason::MODEL_INVALID,
            message,
            "use another model; if this one should work, report it with the daemon's log",
        ),
        LoadFailure::NotStarted(error) => {
            tracing::error!(error = crate::log::chain(&*error), "no model process");
            Problem::new(Code::FailedPrecondition, internal().reason, message, CHECK_PROGRAM)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;
    use crate::model::Aftermath;
    use crate::models::{ModelName, Source};

    fn failed(why: LoadFailure) -> ModelsError {
        LoadError::Failed { why, aftermath: Aftermath::Kept("old".to_owned()) }.into()
    }

    #[test]
    fn every_error_has_a_reason_of_the_registry_a_sentence_and_a_next_step() {
        let name = || ModelName::try_from("tiny".to_owned()).unwrap();
        let host = || "hub.example".to_owned();
        let refused =
            Problem::new(Code::InvalidArgument, reason::MODEL_INVALID, "cut short", "fetch it again");
        let problems: Vec<Problem> = vec![
            ModelsError::from(ModelName::try_from("A".to_owned()).unwrap_err()).into(),
            ModelsError::from(Source::parse("http://example.com/x").unwrap_err()).into(),
            ModelsError::NotInCatalogue("x".to_owned()).into(),
            ModelsError::NothingFits { memory_bytes: 1 }.into(),
            ModelsError::NotADigest.into(),
            ModelsError::Token(io::Error::other("/secret/path")).into(),
            ModelsError::Digest { expected: "a".to_owned(), found: "b".to_owned() }.into(),
            ModelsError::OtherDigest { expected: "a".to_owned(), announced: "b".to_owned() }.into(),
            ModelsError::NoRoom(NoRoom::Disk { needed: 1, free: 0 }).into(),
            ModelsError::NoRoom(NoRoom::Store { size: 2, used: 1, limit: 1 }).into(),
            ModelsError::Empty.into(),
            ModelsError::Incomplete { received: 1, announced: 2 }.into(),
            ModelsError::Exists(name()).into(),
            ModelsError::NotFound(name()).into(),
            ModelsError::InUse(name()).into(),
            ModelsError::NotConfigured.into(),
            ModelsError::Busy.into(),
            ModelsError::Store(io::Error::other("/secret/path")).into(),
            ModelsError::NotKept(io::Error::other("/secret/path")).into(),
            ModelsError::from(ExamineError::Refused(refused.clone())).into(),
            ModelsError::from(ExamineError::Deadly("killed by signal 6".to_owned())).into(),
            ModelsError::from(ExamineError::NoProcess("/secret/path".into())).into(),
            ModelsError::Remote(RemoteError::NotThere { host: host() }).into(),
            ModelsError::Remote(RemoteError::CutShort { host: host() }).into(),
            ModelsError::Remote(RemoteError::Redirect { host: host(), why: "to nowhere" }).into(),
            ModelsError::from(LoadError::Stopping).into(),
            failed(LoadFailure::Refused(refused)).into(),
            failed(LoadFailure::Missing(PathBuf::from("/models/x"))).into(),
            failed(LoadFailure::Died("it ended".to_owned())).into(),
            failed(LoadFailure::NotStarted("/secret/path".into())).into(),
        ];
        for problem in problems {
            assert!(reason::ALL.contains(&problem.reason.as_str()), "{problem:?}");
            assert!(!problem.message.is_empty() && !problem.message.ends_with('.'), "{problem:?}");
            assert!(!problem.next_step.is_empty(), "{problem:?}");
            assert!(!problem.to_string().contains("/secret/path"), "internal text is not sent: {problem:?}");
        }
    }

    #[test]
    fn a_failed_load_says_what_happened_and_what_answers() {
        let problem = Problem::from(failed(LoadFailure::Died("the model process ended".to_owned())));
        assert_eq!(problem.message, "the model process ended; old goes on answering");
    }
}
