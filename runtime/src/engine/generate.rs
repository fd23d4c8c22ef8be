//! One answer: prefill in chunks, then a token at a time until it ends or nobody listens.

use tokio::time::Instant;

use super::output::Output;
use super::sampling::Picker;
use super::session::Session;
use super::stop::Scan;
use super::worker::{Counters, Job};
use super::{EngineError, Event, FinishReason, Summary};
use crate::llama::BATCH;

/// Runs a request to its end. Events go to the job's channel; an error is the caller's to report.
pub(super) fn run(session: &mut Session, job: &Job, counters: &Counters) -> Result<(), EngineError> {
    session.prepare(job.adapter.as_ref())?;
    job.send(Event::Started { input_tokens: job.tokens.len() });

    let begun = Instant::now();
    for chunk in job.tokens.chunks(BATCH) {
        if job.is_abandoned() {
            return Ok(());
        }
        session.context.decode(chunk)?;
    }
    let prefilled = Instant::now();

    let mut answer = Answer::new(session, job)?;
    let reason = answer.generate(session, job, counters)?;
    let rest = answer.output.finish();
    if !rest.is_empty() {
        job.send(Event::Delta { text: rest, output_tokens: answer.tokens });
    }
    let summary = Summary {
        reason,
        input_tokens: job.tokens.len(),
        output_tokens: answer.tokens,
        prefill: prefilled - begun,
        generation: prefilled.elapsed(),
        mean_logprob: answer.logprobs.mean(),
    };
    tracing::debug!(request = job.request_id, ?summary, "answered");
    job.send(Event::Finished(summary));
    Ok(())
}

struct Answer {
    picker: Picker,
    output: Output,
    tokens: usize,
    logprobs: Mean,
}

impl Answer {
    fn new(session: &Session, job: &Job) -> Result<Self, EngineError> {
        Ok(Self {
            picker: Picker::new(&session.loaded.model, &job.sampling, &job.tokens)?,
            output: Output::new(job.stop.clone()),
            tokens: 0,
            logprobs: Mean::default(),
        })
    }

    fn generate(
        &mut self,
        session: &mut Session,
        job: &Job,
        counters: &Counters,
    ) -> Result<FinishReason, EngineError> {
        let model = std::sync::Arc::clone(&session.loaded.model);
        let mut piece = Vec::new();
        loop {
            if job.is_abandoned() {
                return Ok(FinishReason::Cancelled);
            }
            let pick = self.picker.pick(&session.context)?;
            self.logprobs.add(pick.logprob);
            if model.is_end(pick.token) {
                return Ok(FinishReason::Stop);
            }
            self.tokens += 1;
            counters.count_token();
            model.piece(pick.token, &mut piece);
            let (text, stopped) = match self.output.push(&piece) {
                Scan::Text(text) => (text, false),
                Scan::Stopped(text) => (text, true),
            };
            if !text.is_empty() {
                job.send(Event::Delta { text, output_tokens: self.tokens });
            }
            if stopped {
                return Ok(FinishReason::Stop);
            }
            if self.tokens >= job.budget {
                return Ok(FinishReason::Length);
            }
            session.context.decode(&[pick.token])?;
        }
    }
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: f32) {
        self.sum += f64::from(value);
        self.count += 1;
    }

    fn mean(&self) -> f32 {
        if self.count == 0 { 0.0 } else { (self.sum / f64::from(self.count)) as f32 }
    }
}
