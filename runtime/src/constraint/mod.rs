//! Answers in a given shape: a JSON Schema or a grammar says, before each token, which tokens may come next.
//!
//! The work is done by llguidance: an Earley parser over the bytes of the vocabulary. A schema comes from a
//! client, so it may be hostile: its length and nesting are bounded here, what it may cost to compile and to
//! follow is bounded by the crate's own limits, it can name nothing outside of itself (the crate is built
//! without the resolver of remote references), and it is compiled on a stack of its own.

mod bounds;
mod vocabulary;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use llguidance::api::{StopReason, TopLevelGrammar};
use llguidance::toktrie::SimpleVob;
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

pub(crate) use vocabulary::Vocabulary;

/// Most that is told of an error of the crate, in bytes: it quotes the source.
const DETAIL_LIMIT: usize = 400;
/// The crate compiles rules by recursion, one after the other along a chain of rules.
const COMPILE_STACK: usize = 32 << 20;
/// Most white space in one place of a JSON value. A small model that is free to go on writes nothing else.
const WHITE_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,20}";
/// The key under which the crate takes its own options from a schema.
const OPTIONS_KEY: &str = "x-guidance";

/// Why an answer cannot be held to a shape.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConstraintError {
    #[error("it is {0} bytes long, and {most} are the most", most = bounds::LENGTH)]
    TooLong(usize),
    #[error("it is nested {0} levels deep, and {most} are the most", most = bounds::DEPTH)]
    TooDeep(usize),
    #[error("its expressions have {0} repetitions and alternatives, and {most} are the most", most = bounds::REPETITIONS)]
    TooManyRepetitions(usize),
    #[error("it is not JSON: {0}")]
    NotJson(#[source] serde_json::Error),
    #[error("a JSON Schema is an object, true or false")]
    NotASchema,
    #[error("it cannot be used: {0}")]
    Refused(String),
    /// The vocabulary lacks the bytes, or the shape has no end.
    #[error("no token of the model can continue the answer in this shape")]
    DeadEnd,
    #[error("the answer left the shape: {0}")]
    Failed(String),
    #[error("the model's vocabulary cannot be used for answers in a given shape: {0}")]
    Vocabulary(String),
}

/// What an answer is held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A JSON Schema; `{}` is any JSON value.
    JsonSchema(String),
    /// A grammar in llguidance's dialect of Lark.
    Grammar(String),
}

/// The shape of one answer, and how much of it is written.
pub(crate) struct Constraint {
    matcher: Matcher,
}

/// The tokens that may come next.
#[derive(Debug, Clone)]
pub(crate) struct Allowed(SimpleVob);

impl Constraint {
    /// Compiles `source` for a model's vocabulary. Takes some milliseconds; not for the engine's thread.
    ///
    /// # Errors
    /// When the source is too large, not valid, or needs more than the limits.
    pub(crate) fn new(vocabulary: &Arc<Vocabulary>, source: &Source) -> Result<Self, ConstraintError> {
        let grammar = match source {
            Source::JsonSchema(text) => TopLevelGrammar::from_json_schema(schema(text)?),
            Source::Grammar(text) => {
                few_enough(bounds::repetitions(checked(text)?))?;
                TopLevelGrammar::from_lark(text.clone())
            }
        };
        let factory: &ParserFactory = vocabulary.factory();
        let compile = || {
            let mut constraint = Self { matcher: Matcher::new(factory.create_parser(grammar)) };
            if let Some(error) = constraint.matcher.get_error() {
                return Err(ConstraintError::Refused(detail(&error)));
            }
            // What no token can begin, or what is too costly to follow, is noticed now and not in the middle
            // of an answer.
            match constraint.allowed() {
                Ok(_) => Ok(constraint),
                Err(ConstraintError::Failed(detail)) => Err(ConstraintError::Refused(detail)),
                Err(error) => Err(error),
            }
        };
        thread::scope(|scope| {
            let builder = thread::Builder::new().name("constraint".to_owned()).stack_size(COMPILE_STACK);
            // The crate catches its own panics; a second net costs nothing.
            let worker = builder.spawn_scoped(scope, || catch_unwind(AssertUnwindSafe(compile)));
            match worker.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(Ok(outcome))) => outcome,
                Ok(_) => Err(ConstraintError::Refused("the compiler failed on it".to_owned())),
                Err(error) => Err(ConstraintError::Refused(format!("it could not be compiled: {error}"))),
            }
        })
    }

    /// The tokens that may come next; the end tokens are among them only when the answer is complete.
    ///
    /// # Errors
    /// When nothing may come next although the answer is not complete, or following the shape costs more than
    /// the limits. The constraint is of no use afterwards.
    pub(crate) fn allowed(&mut self) -> Result<Allowed, ConstraintError> {
        let mask = self.matcher.compute_mask_or_eos().map_err(|error| self.failure(&error.to_string()))?;
        if mask.is_zero() { Err(ConstraintError::DeadEnd) } else { Ok(Allowed(mask)) }
    }

    /// Moves on by one token.
    ///
    /// # Errors
    /// When the token was not allowed. The constraint is of no use afterwards.
    pub(crate) fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        self.matcher.consume_token(token).map_err(|error| self.failure(&error.to_string()))
    }

    /// Whether the answer is complete and cannot go on.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(
            self.matcher.stop_reason(),
            StopReason::NoExtension | StopReason::NoExtensionBias | StopReason::EndOfSentence
        ) && !self.matcher.is_error()
    }

    fn failure(&self, error: &str) -> ConstraintError {
        match self.matcher.stop_reason() {
            StopReason::NoExtensionBias => ConstraintError::DeadEnd,
            _ => ConstraintError::Failed(detail(error)),
        }
    }
}

impl Allowed {
    /// The tokens in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter()
    }

    /// Makes every token that may not come next impossible in a row of logits.
    pub(crate) fn mask(&self, logits: &mut [f32]) {
        let mut next = 0;
        for token in self.iter() {
            let token = token as usize;
            if token >= logits.len() {
                break;
            }
            logits[next..token].fill(f32::NEG_INFINITY);
            next = token + 1;
        }
        logits[next..].fill(f32::NEG_INFINITY);
    }
}

/// Length and nesting, before anything recursive sees the text.
fn checked(text: &str) -> Result<&str, ConstraintError> {
    if text.len() > bounds::LENGTH {
        return Err(ConstraintError::TooLong(text.len()));
    }
    match bounds::depth(text) {
        depth if depth > bounds::DEPTH => Err(ConstraintError::TooDeep(depth)),
        _ => Ok(text),
    }
}

fn few_enough(repetitions: usize) -> Result<(), ConstraintError> {
    if repetitions > bounds::REPETITIONS {
        return Err(ConstraintError::TooManyRepetitions(repetitions));
    }
    Ok(())
}

fn schema(text: &str) -> Result<Value, ConstraintError> {
    let mut schema = match serde_json::from_str(checked(text)?).map_err(ConstraintError::NotJson)? {
        Value::Bool(true) => json!({}),
        schema @ (Value::Object(_) | Value::Bool(false)) => schema,
        _ => return Err(ConstraintError::NotASchema),
    };
    few_enough(bounds::repetitions_of_patterns(&schema))?;
    if let Value::Object(keywords) = &mut schema {
        // Ours, whatever the client wrote there: the pattern is a bound.
        keywords.insert(OPTIONS_KEY.to_owned(), json!({ "whitespace_pattern": WHITE_SPACE }));
    }
    Ok(schema)
}

/// The sentence of an error: without the backtrace of a caught panic, on one line and bounded.
fn detail(error: &str) -> String {
    let sentence = error.split("\n<backtrace>").next().unwrap_or_default().replace("<non-verbose/>", "");
    let mut sentence = sentence.split_whitespace().collect::<Vec<_>>().join(" ");
    if sentence.len() > DETAIL_LIMIT {
        sentence.truncate(sentence.floor_char_boundary(DETAIL_LIMIT));
        sentence.push('…');
    }
    sentence
}

#[cfg(test)]
mod tests;
