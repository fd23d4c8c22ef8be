//! What can go wrong with a subsystem, as values that say it in one sentence.

use std::{error::Error, sync::Arc, time::Duration};

use crate::StopReport;

/// Any error a subsystem may end with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why one run of a subsystem ended although nobody asked it to stop.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    /// It returned an error.
    #[error(transparent)]
    Failed(Arc<dyn Error + Send + Sync>),
    /// It returned `Ok`, which only a stop request allows.
    #[error("returned although nobody asked it to stop")]
    Returned,
    /// It panicked; this is the message.
    #[error("panicked: {0}")]
    Panicked(String),
    /// It was restarted and did not become ready within this time.
    #[error("not ready after {0:?}")]
    NotReady(Duration),
}

impl Fault {
    /// The whole chain of causes in one line, for a health reason or a log field.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let part = error.to_string();
            // Some errors repeat their source in their own text; saying it twice helps nobody.
            if !text.ends_with(&part) {
                text.push_str(": ");
                text.push_str(&part);
            }
            cause = error.source();
        }
        text
    }
}

/// An essential subsystem used up its tries: the process should stop.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{name} failed {tries} times in a row, last: {}", cause.sentence())]
pub struct GaveUp {
    /// The subsystem.
    pub name: &'static str,
    /// Failures in a row.
    pub tries: u32,
    /// The last of them.
    #[source]
    pub cause: Fault,
}

/// Why the supervisor did not start. Everything that had started has been stopped again, in reverse order.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An essential subsystem used up its tries.
    #[error("start failed")]
    GaveUp {
        /// Which, and why.
        #[source]
        gave_up: GaveUp,
        /// How the stop went.
        stop: StopReport,
    },
    /// An essential subsystem was not ready in time.
    #[error("{name} was not ready after {after:?}")]
    NotReady {
        /// The subsystem.
        name: &'static str,
        /// Its start timeout.
        after: Duration,
        /// What its last run ended with, if a run did end.
        #[source]
        last: Option<Fault>,
        /// How the stop went.
        stop: StopReport,
    },
    /// The start was asked to stop.
    #[error("interrupted while starting")]
    Interrupted {
        /// How the stop went.
        stop: StopReport,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the journal")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_fault_names_its_whole_chain_of_causes_once() {
        let fault = Fault::Failed(Arc::new(Outer(std::io::Error::other("disk full"))));
        assert_eq!(fault.sentence(), "cannot open the journal: disk full");
        let gave_up = GaveUp { name: "journal", tries: 5, cause: fault };
        assert_eq!(
            gave_up.to_string(),
            "journal failed 5 times in a row, last: cannot open the journal: disk full"
        );
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the journal: {0}")]
    struct Repeating(#[source] std::io::Error);

    #[test]
    fn a_cause_that_the_text_already_ends_with_is_not_repeated() {
        let fault = Fault::Failed(Arc::new(Repeating(std::io::Error::other("disk full"))));
        assert_eq!(fault.sentence(), "cannot open the journal: disk full");
    }
}
