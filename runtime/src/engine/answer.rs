//! One answer while it is written: choosing tokens, turning them into text, and when it ends.

use std::sync::Arc;

use super::EngineError;
use super::job::{Listener, Wanted};
use super::logits::Row;
use super::output::Output;
use super::request::{Delta, Event, FinishReason, TokenLogprob};
use super::sampling::{Pick, Picker};
use super::stop::Scan;
use crate::llama::{Model, Token};

/// The state of an answer between two tokens.
pub(super) struct Answer {
    model: Arc<Model>,
    picker: Picker,
    output: Output,
    budget: usize,
    tokens: usize,
    logprobs: Mean,
    told: Option<Told>,
    piece: Vec<u8>,
}

/// How it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// With this token.
    Next(Token),
    Done(FinishReason),
}

/// Log probabilities on their way to the one who asked for them.
struct Told {
    alternatives: usize,
    /// Of tokens whose text has not come out yet, each with the bytes that were before it.
    pending: Vec<(usize, TokenLogprob)>,
    /// Bytes of all tokens so far.
    bytes: usize,
    /// Bytes of text that came out.
    sent: usize,
}

impl Answer {
    pub(super) fn new(model: &Arc<Model>, wanted: Wanted, prompt: &[Token]) -> Result<Self, EngineError> {
        let Wanted { budget, sampling, stop, logprobs, constraint } = wanted;
        Ok(Self {
            model: Arc::clone(model),
            picker: Picker::new(model, &sampling, constraint, prompt)?,
            output: Output::new(stop),
            budget,
            tokens: 0,
            logprobs: Mean::default(),
            told: logprobs.map(|alternatives| Told { alternatives, pending: Vec::new(), bytes: 0, sent: 0 }),
            piece: Vec::new(),
        })
    }

    /// Tokens so far, without one that ended the turn.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    pub(super) fn mean_logprob(&self) -> f32 {
        self.logprobs.mean()
    }

    /// Takes the next token by its row of logits.
    pub(super) fn advance(&mut self, logits: &[f32], listener: &Listener) -> Result<Verdict, EngineError> {
        let row = Row::read(logits).ok_or(EngineError::NotFinite)?;
        let Pick { token, logprob } = self.picker.pick(logits, &row)?;
        self.logprobs.add(logprob);
        if self.model.is_end(token) {
            return Ok(self.done(FinishReason::Stop, listener));
        }
        self.tokens += 1;
        self.model.piece(token, &mut self.piece);
        if let Some(told) = &mut self.told {
            told.note(&self.model, &row, &self.piece, logprob);
        }
        let (text, stopped) = match self.output.push(&self.piece) {
            Scan::Text(text) => (text, false),
            Scan::Stopped(text) => (text, true),
        };
        self.send(text, listener);
        if stopped {
            // What follows the stop string is not a part of the answer, nor are its log probabilities.
            self.told = None;
            return Ok(Verdict::Done(FinishReason::Stop));
        }
        if self.picker.is_complete() {
            return Ok(self.done(FinishReason::Stop, listener));
        }
        if self.tokens >= self.budget {
            return Ok(self.done(FinishReason::Length, listener));
        }
        Ok(Verdict::Next(token))
    }

    /// Sends what was held back.
    fn done(&mut self, reason: FinishReason, listener: &Listener) -> Verdict {
        let rest = self.output.finish();
        self.send(rest, listener);
        // Of tokens that are a part of no whole character.
        let logprobs = self.told.as_mut().map(Told::take_all).unwrap_or_default();
        if !logprobs.is_empty() {
            let delta = Delta { text: String::new(), output_tokens: self.tokens, logprobs };
            listener.send(Event::Delta(delta));
        }
        Verdict::Done(reason)
    }

    fn send(&mut self, text: String, listener: &Listener) {
        if text.is_empty() {
            return;
        }
        let logprobs = self.told.as_mut().map(|told| told.take(text.len())).unwrap_or_default();
        listener.send(Event::Delta(Delta { text, output_tokens: self.tokens, logprobs }));
    }
}

impl Told {
    fn note(&mut self, model: &Model, row: &Row<'_>, piece: &[u8], logprob: f32) {
        let named = |(index, logprob): (usize, f32)| {
            let mut bytes = Vec::new();
            if let Some(token) = model.token(index) {
                model.piece(token, &mut bytes);
            }
            (bytes, logprob)
        };
        let top = row.top(self.alternatives).into_iter().map(named).collect();
        self.pending.push((self.bytes, TokenLogprob { bytes: piece.to_vec(), logprob, top }));
        self.bytes += piece.len();
    }

    /// Those of the tokens that begin in the next `length` bytes of text.
    fn take(&mut self, length: usize) -> Vec<TokenLogprob> {
        self.sent += length;
        let ready = self.pending.partition_point(|(before, _)| *before < self.sent);
        self.pending.drain(..ready).map(|(_, logprob)| logprob).collect()
    }

    fn take_all(&mut self) -> Vec<TokenLogprob> {
        self.pending.drain(..).map(|(_, logprob)| logprob).collect()
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
