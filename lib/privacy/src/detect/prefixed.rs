//! Rules for values that begin with a literal of their own: a regular expression, anchored where the literal was
//! found.

use regex::Regex;

use super::CompileError;
use super::finding::{Evidence, Finding};
use super::view::View;
use crate::kind::Kind;

/// What may not stand directly before the literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// A letter or digit.
    Word,
    /// A letter, digit, `-` or `_`.
    Token,
    /// Nothing is forbidden.
    Nothing,
}

/// A rule as data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) rule: &'static str,
    pub(crate) kind: Kind,
    pub(crate) evidence: Evidence,
    /// Matched without case; the pattern decides about case.
    pub(crate) literals: &'static [&'static str],
    /// Anchored at the literal. ASCII classes only. Group 1, where there is one, is what must be hidden.
    pub(crate) pattern: &'static str,
    pub(crate) before: Before,
    /// Looks at what would be hidden.
    pub(crate) check: fn(&str) -> bool,
}

impl Spec {
    /// A rule with the usual choices and nothing to match yet.
    pub(crate) const fn new(rule: &'static str) -> Self {
        Self {
            rule,
            kind: Kind::ApiKey,
            evidence: Evidence::Shape,
            literals: &[],
            pattern: "",
            before: Before::Token,
            check: |_| true,
        }
    }
}

/// A compiled rule.
#[derive(Debug)]
pub(crate) struct Prefixed {
    spec: Spec,
    regex: Regex,
}

impl Prefixed {
    pub(crate) fn compile(spec: &Spec) -> Result<Self, CompileError> {
        if spec.literals.is_empty() || spec.literals.contains(&"") {
            return Err(CompileError::Untriggered { rule: spec.rule });
        }
        Ok(Self { spec: *spec, regex: anchored(spec.rule, spec.pattern)? })
    }

    pub(crate) fn literals(&self) -> &'static [&'static str] {
        self.spec.literals
    }

    /// What the rule finds at `at`, where one of its literals begins.
    pub(crate) fn at(&self, view: &View<'_>, at: usize) -> Option<Finding> {
        let Spec { rule, kind, evidence, before, check, .. } = self.spec;
        let forbidden = |b: u8| match before {
            Before::Nothing => false,
            Before::Word => b.is_ascii_alphanumeric(),
            Before::Token => b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'),
        };
        if view.before(at).is_some_and(forbidden) && !view.edge(at) {
            return None;
        }
        let (start, end) = hidden(&self.regex, view.text.get(at..)?)?;
        let (start, end) = (at + start, at + end);
        check(view.slice(start, end)).then_some(Finding { start, end, kind, rule, evidence })
    }
}

/// Compiles `pattern` so that it matches only at the beginning of what it is given.
pub(super) fn anchored(rule: &'static str, pattern: &str) -> Result<Regex, CompileError> {
    Regex::new(&format!(r"\A(?:{pattern})"))
        .map_err(|source| CompileError::Pattern { rule, source: Box::new(source) })
}

/// Group 1 of the match where the pattern has one, else all of it.
pub(super) fn hidden(regex: &Regex, text: &str) -> Option<(usize, usize)> {
    let span = if regex.captures_len() == 1 {
        regex.find(text)
    } else {
        // `captures` is the slow way, so it is asked only once a plain match is certain.
        let whole = regex.find(text)?;
        regex.captures(&text[..whole.end()])?.get(1)
    }?;
    Some((span.start(), span.end()))
}
