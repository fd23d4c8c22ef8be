//! Many askers at the same time.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Answer, Question, Side};

/// What a burst of requests made.
#[derive(Debug)]
pub(super) struct Burst {
    /// From the first request to the last answer's end.
    pub(super) wall: Duration,
    /// In the order of the questions' askers.
    pub(super) answers: Vec<Answer>,
}

impl Burst {
    /// Each inner list is one asker, who asks its next question once it has its answer.
    pub(super) async fn run(side: &impl Side, askers: &[Vec<Question<'_>>]) -> Self {
        let begun = Instant::now();
        let asked = askers.iter().map(async |questions| {
            let mut answers = Vec::with_capacity(questions.len());
            for question in questions {
                answers.push(side.ask(*question).await);
            }
            answers
        });
        let answers = join_all(asked).await.into_iter().flatten().collect();
        Self { wall: begun.elapsed(), answers }
    }

    /// Tokens of all answers.
    pub(super) fn tokens(&self) -> u32 {
        self.answers.iter().map(|answer| answer.output_tokens).sum()
    }

    /// Tokens of all answers per second of the whole burst.
    pub(super) fn tokens_per_second(&self) -> f64 {
        f64::from(self.tokens()) / self.wall.as_secs_f64()
    }
}
