//! Another model in the place of the one that answers. Where both fit the memory the new one is loaded beside the old
//! one, which answers until the new one does; where they do not, the old one leaves first and comes back when the new
//! one fails. Answers in flight finish on the model they began with.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use synesis_proto::runtime::v1::{EstimateModelRequest, MemoryEstimate};
use synesis_proto::{Problem, reason};
use synesis_supervise::{BoxError, Context};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Code;

use super::process::{GRACE, Live, RuntimeProcess, status};
use super::session::{Session, SessionError};
use super::spec::FileMark;
use super::{ModelState, ModelStatus, Target};

/// What the process's keeper is asked to do.
#[derive(Debug)]
pub(super) struct LoadCommand {
    pub(super) target: Target,
    pub(super) reply: oneshot::Sender<Result<Loaded, LoadError>>,
}

/// Another model answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What users call it.
    pub name: String,
    /// The one before; empty: there was none.
    pub previous: String,
    /// From the request until it answered.
    pub load: Duration,
    /// Of that, the time during which no model took new prompts.
    pub gap: Duration,
}

/// Another model does not answer.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The daemon is on its way out.
    #[error("synesisd is stopping")]
    Stopping,
    /// It cannot be loaded.
    #[error("{why}; {aftermath}")]
    Failed {
        /// Why.
        #[source]
        why: LoadFailure,
        /// What answers now.
        aftermath: Aftermath,
    },
}

/// Why a model cannot be loaded.
#[derive(Debug, Error)]
pub enum LoadFailure {
    /// There is no such file.
    #[error("the model file {} is not there or cannot be read", .0.display())]
    Missing(PathBuf),
    /// The model process said no.
    #[error("{}", .0.message)]
    Refused(Problem),
    /// The model process ended over it.
    #[error("{0}")]
    Died(String),
    /// There is no model process.
    #[error("the model process cannot be started")]
    NotStarted(#[source] BoxError),
}

impl From<SessionError> for LoadFailure {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Refused(problem) => Self::Refused(problem),
            SessionError::Died { .. } => Self::Died(error.to_string()),
            SessionError::Spawn(error) => Self::NotStarted(error.into()),
            SessionError::Connect(error) => Self::NotStarted(error.into()),
        }
    }
}

/// What answers after a model could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Aftermath {
    /// The old one, which never stopped.
    #[error("{0} goes on answering")]
    Kept(String),
    /// The old one, which had to leave and was loaded again.
    #[error("{0} answers again")]
    Restored(String),
    /// Nothing: the old one ended as well, and is being restarted.
    #[error("the model before it is being restarted")]
    Restarting,
    /// Nothing: there was no other.
    #[error("no model answers")]
    NoModel,
}

/// Where the new model goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// Beside the old one.
    Beside,
    /// Into the old one's place.
    Instead,
}

/// Whether a model that takes `needed` goes beside one that takes `held`, when this machine would give `available` more
/// and one process may have `limit` (0: any), all in bytes. `None`: it does not fit at all.
fn room(needed: u64, available: u64, held: u64, limit: u64) -> Option<Room> {
    let limit = if limit == 0 { u64::MAX } else { limit };
    if needed <= available && needed.saturating_add(held) <= limit {
        Some(Room::Beside)
    } else if needed <= available.saturating_add(held).min(limit) {
        Some(Room::Instead)
    } else {
        None
    }
}

impl RuntimeProcess {
    /// Loads another model. Whatever happens to it, what is returned answers.
    ///
    /// # Errors
    /// Nothing answers; the old model is what is started next.
    pub(super) async fn replace(
        &mut self,
        live: Live,
        LoadCommand { target, reply }: LoadCommand,
        cx: &Context,
    ) -> Result<Live, BoxError> {
        // What has left by now.
        while self.retiring.try_join_next().is_some() {}
        let begun = Instant::now();
        let previous = self.handle.status().borrow().name.clone();
        let (session, room) = match self.open(&target).await {
            Ok(opened) => opened,
            Err(why) => {
                tracing::warn!(error = %why, "another model was not loaded");
                let _ = reply.send(Err(LoadError::Failed { why, aftermath: Aftermath::Kept(previous) }));
                return Ok(live);
            }
        };
        let old = live.target.clone();
        let replaced = match room {
            Room::Beside => self.beside(live, session, &target, cx).await,
            Room::Instead => self.instead(live, session, &target, cx).await,
        };
        match replaced {
            Replaced::Stopping(live) => live.ok_or_else(|| "synesisd is stopping".into()),
            Replaced::Up { session, status, old, away_since } => {
                let name = status.name.clone();
                let live = self.up(cx, session, target, *status);
                if let Some(old) = old {
                    // From now on no call begins on it.
                    let drain = self.spec.drain;
                    self.retiring.spawn(async move { old.retire(drain, GRACE).await });
                }
                let gap = away_since.map(|since| since.elapsed()).unwrap_or_default();
                // A caller that left does not undo what it asked for.
                let _ = reply.send(Ok(Loaded { name, previous, load: begun.elapsed(), gap }));
                Ok(live)
            }
            Replaced::Kept(live, why) => {
                tracing::warn!(error = %why, "another model was not loaded");
                let _ = reply.send(Err(LoadError::Failed { why, aftermath: Aftermath::Kept(previous) }));
                Ok(live)
            }
            Replaced::Away(why) => match self.bring_up(&old).await {
                Ok((session, status)) => {
                    let live = self.up(cx, session, old, status);
                    let aftermath = Aftermath::Restored(previous);
                    let _ = reply.send(Err(LoadError::Failed { why, aftermath }));
                    Ok(live)
                }
                Err(error) => {
                    let next_step = "it is being restarted; try again in a moment";
                    self.down(cx, ModelState::Loading, &error.to_string(), next_step);
                    let aftermath = Aftermath::Restarting;
                    let _ = reply.send(Err(LoadError::Failed { why, aftermath }));
                    Err(error.into())
                }
            },
        }
    }

    /// A process for the new model, and where it goes. The header of a file that nobody knows is read there.
    async fn open(&self, target: &Target) -> Result<(Session, Room), LoadFailure> {
        let mark = FileMark::of(&target.path).await;
        let model = target.identity(mark.ok_or_else(|| LoadFailure::Missing(target.path.clone()))?);
        // Somebody asks for it by name.
        self.quarantine.lift_model(&model).await;
        let session = Session::start(&self.spec, &target.path, model.clone()).await?;
        let request = EstimateModelRequest {
            path: target.path.to_string_lossy().into_owned(),
            context_tokens: self.spec.context_tokens,
            parallel: self.spec.parallel,
            memory_limit_bytes: self.spec.memory_limit_bytes,
        };
        match session.estimate(request).await {
            Ok(estimate) => {
                let room =
                    room(estimate.total, estimate.available, self.held(), self.spec.memory_limit_bytes);
                room.map(|room| (session, room)).ok_or_else(|| too_large(&estimate))
            }
            // Without numbers the old one's place is worth a try.
            Err(SessionError::Refused(problem)) if problem.reason == reason::MODEL_TOO_LARGE => {
                Ok((session, Room::Instead))
            }
            Err(error) => {
                if matches!(error, SessionError::Died { .. }) {
                    self.quarantine.died(&model, "", &target.path.display().to_string()).await;
                }
                Err(error.into())
            }
        }
    }

    /// Memory that the old one takes, in bytes.
    fn held(&self) -> u64 {
        let status = self.handle.status();
        let status = status.borrow();
        let estimated = status.info.as_ref().map_or(0, |info| info.memory_bytes);
        status.load.map_or(estimated, |load| load.resident_bytes)
    }

    async fn beside(&mut self, live: Live, session: Session, target: &Target, cx: &Context) -> Replaced {
        let stopping = cx.stopping();
        let mut ended = None;
        let prepared = {
            let mut preparing = pin!(self.prepare(session, target));
            loop {
                tokio::select! {
                    prepared = &mut preparing => break prepared,
                    () = stopping.cancelled() => return Replaced::Stopping(Some(live)),
                    error = live.session.ended(&self.handle), if ended.is_none() => {
                        let next_step = "another model is being loaded; try again in a moment";
                        self.down(cx, ModelState::Loading, &error.to_string(), next_step);
                        ended = Some(Instant::now());
                    }
                }
            }
        };
        match prepared {
            Ok((session, status)) => {
                let old = Some(live.session).filter(|_| ended.is_none());
                Replaced::Up { session, status: Box::new(status), old, away_since: ended }
            }
            Err(why) if ended.is_some() => Replaced::Away(why),
            Err(why) => Replaced::Kept(live, why),
        }
    }

    async fn instead(&mut self, live: Live, session: Session, target: &Target, cx: &Context) -> Replaced {
        let stopping = cx.stopping();
        let reason = format!("{} is being loaded in its place", target.name(None));
        cx.degraded(&reason, "try again in a moment");
        let held = status(ModelState::Loading, Some(&live.target), None);
        self.handle.hold(held.because(reason, "try again in a moment"));
        let away_since = Some(Instant::now());
        let replaced = async {
            live.session.retire(self.spec.drain, GRACE).await;
            self.prepare(session, target).await
        };
        tokio::select! {
            prepared = replaced => match prepared {
                Ok((session, status)) => {
                    Replaced::Up { session, status: Box::new(status), old: None, away_since } }
                Err(why) => Replaced::Away(why),
            },
            () = stopping.cancelled() => Replaced::Stopping(None),
        }
    }
}

/// What became of an attempt.
enum Replaced {
    /// The daemon is stopping; the old one, when it is still there.
    Stopping(Option<Live>),
    /// The new one is loaded.
    Up { session: Session, status: Box<ModelStatus>, old: Option<Session>, away_since: Option<Instant> },
    /// It is not, and the old one never left.
    Kept(Live, LoadFailure),
    /// It is not, and the old one is gone.
    Away(LoadFailure),
}

fn too_large(estimate: &MemoryEstimate) -> LoadFailure {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    LoadFailure::Refused(Problem::new(
        Code::ResourceExhausted,
        reason::MODEL_TOO_LARGE,
        format!(
            "the model needs {} MiB (weights {}, contexts {}, buffers {}) and {} MiB are available",
            mib(estimate.total),
            mib(estimate.weights),
            mib(estimate.cache),
            mib(estimate.compute),
            mib(estimate.available),
        ),
        "use a smaller model, or lower model.context_tokens or model.parallel; synctl model catalogue shows what fits",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_goes_beside_the_old_one_where_both_fit_and_into_its_place_where_they_do_not() {
        assert_eq!(room(10, 10, 99, 0), Some(Room::Beside));
        assert_eq!(room(10, 9, 1, 0), Some(Room::Instead));
        assert_eq!(room(10, 8, 1, 0), None);
    }

    #[test]
    fn the_limit_of_one_process_is_one_for_both_while_both_are_there() {
        assert_eq!(room(10, 10, 10, 20), Some(Room::Beside));
        assert_eq!(room(10, 10, 10, 19), Some(Room::Instead));
        assert_eq!(room(10, 10, 10, 9), None, "however much the old one leaves behind");
    }

    #[test]
    fn absurd_sizes_do_not_overflow() {
        assert_eq!(room(u64::MAX, 1, 1, 0), None);
        assert_eq!(room(u64::MAX, u64::MAX, u64::MAX, 0), Some(Room::Beside));
    }

    #[test]
    fn a_refusal_has_its_numbers() {
        let estimate = MemoryEstimate {
            weights: 3 << 20,
            cache: 2 << 20,
            compute: 1 << 20,
            total: 6 << 20,
            available: 5 << 20,
            ..MemoryEstimate::default()
        };
        let text = too_large(&estimate).to_string();
        for part in ["needs 6 MiB", "weights 3", "contexts 2", "buffers 1", "5 MiB are available"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
