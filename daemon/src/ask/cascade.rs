//! The way through local model and cloud: the record of the decision says where to go next, and each place either
//! answers or adds the evidence that changes the decision. Nothing reaches the caller before it is clear who answers.

use ulid::Ulid;

use super::attempt::{Attempt, Tried};
use super::{Ask, AskError, Asker, Done, Route, Sink, Turn};
use crate::decisions::Case;
use crate::escalation::EscalationError;
use crate::log::chain;
use crate::route::{Decision, Evidence};

impl Asker {
    /// Follows the decision until somebody has answered.
    pub(super) async fn pursue(
        &self,
        id: Ulid,
        ask: &Ask,
        mut turn: Turn,
        case: &mut Case,
        sink: &mut Sink,
    ) -> Result<(Turn, Done), AskError> {
        let mut kept = None;
        // Each round adds evidence, and a failed escalation is the last there is: at most three rounds.
        loop {
            match case.decision() {
                Decision::Refuse(why) => return Err(self.refusal(why)),
                Decision::Local(why) => {
                    let attempt = Attempt { asker: self, id, ask, messages: &turn.messages, case, sink, why };
                    let tried = match kept.take() {
                        Some(whole) => Tried::Answered(Box::new(attempt.show(whole).await?)),
                        None => attempt.run().await?,
                    };
                    match tried {
                        Tried::Answered(done) => return Ok((turn, *done)),
                        Tried::Doubted(whole) => kept = whole,
                    }
                }
                Decision::Cloud(why) => {
                    sink.route(Route::Cloud(why));
                    let (back, answered) = self.cloud(id, Route::Cloud(why), ask, turn, sink).await?;
                    turn = back;
                    match answered {
                        Ok(done) => return Ok((turn, done)),
                        Err(error) if why.has_local_model_behind_it() && may_answer_instead(&error, sink) => {
                            tracing::warn!(
                                request = %id,
                                wanted = why.as_str(),
                                error = chain(&error),
                                "the escalation failed; the local model answers"
                            );
                            case.weigh(Evidence::EscalationFailed);
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }
}

/// Nothing was shown yet, and somebody still listens.
fn may_answer_instead(error: &AskError, sink: &Sink) -> bool {
    let left = matches!(error, AskError::Sink(_) | AskError::Escalation(EscalationError::Sink(_)));
    sink.is_silent() && !left
}
