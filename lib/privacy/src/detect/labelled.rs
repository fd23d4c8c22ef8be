//! Rules for values that only a label gives away ("passport no. K1173953"): a label, a few filler words, and a
//! regular expression anchored where the value begins.

use regex::Regex;

use super::CompileError;
use super::finding::{Evidence, Finding};
use super::gate::Hit;
use super::prefixed::anchored;
use super::view::View;
use crate::kind::Kind;

/// Words that may stand between a label and its value, in lower case.
const FILLERS: &[&str] = &[
    "is", "are", "was", "no", "nos", "num", "number", "numbers", "nr", "nummer", "nº", "n°", "id", "card",
    "code", "the", "my", "his", "her", "your", "their", "of", "for", "on", "at", "a", "as", "and", "to",
    "in", "with", "lautet", "ist", "mit", "von", "der", "dem", "den", "est", "le", "la", "du", "de", "del",
    "es", "el", "coche", "è", "é", "da", "do", "jest", "op", "numéro", "número", "numero", "numer", "date",
    "user", "account", "name", "called", "record", "licence", "license", "s", "be", "field", "value", "mijn",
    "son", "sa", "il", "em", "dnia", "dia", "den", "sur", "am",
];
/// Fillers between a label and its value, and blanks and signs between two of them.
const MAX_FILLERS: usize = 4;
const MAX_SIGNS: usize = 6;
/// Bytes of a phrase between a label and its verb.
const MAX_PHRASE: usize = 48;

/// A rule as data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) rule: &'static str,
    pub(crate) kind: Kind,
    /// Matched without case where they stand alone.
    pub(crate) labels: &'static [&'static str],
    /// Anchored at the value; ASCII classes only.
    pub(crate) pattern: &'static str,
    /// Looks at what would be hidden.
    pub(crate) check: fn(&str) -> bool,
}

/// A compiled rule.
#[derive(Debug)]
pub(crate) struct Labelled {
    spec: Spec,
    regex: Regex,
}

impl Labelled {
    pub(crate) fn compile(spec: &Spec) -> Result<Self, CompileError> {
        if spec.labels.is_empty() || spec.labels.contains(&"") {
            return Err(CompileError::Untriggered { rule: spec.rule });
        }
        Ok(Self { spec: *spec, regex: anchored(spec.rule, spec.pattern)? })
    }

    pub(crate) fn labels(&self) -> &'static [&'static str] {
        self.spec.labels
    }

    /// What the rule finds behind the label `hit`.
    pub(crate) fn after(&self, view: &View<'_>, hit: &Hit) -> Option<Finding> {
        self.near(view, hit.end).or_else(|| self.near(view, verb_after(view, hit.end)?))
    }

    /// The value behind `at`, with nothing but signs and fillers between.
    fn near(&self, view: &View<'_>, mut at: usize) -> Option<Finding> {
        let Spec { rule, kind, check, .. } = self.spec;
        for _ in 0..=MAX_FILLERS {
            at = view.run(at, MAX_SIGNS, is_sign);
            // A degree or ordinal sign, a no-break space, a full-width colon: signs of more than one byte.
            let rest = view.text.get(at..)?;
            if let Some(sign) =
                ["°", "º", "\u{a0}", "：", "は", "が"].iter().find(|sign| rest.starts_with(**sign))
            {
                at += sign.len();
                at = view.run(at, MAX_SIGNS, is_sign);
            }
            let rest = view.text.get(at..)?;
            if let Some(found) = self.regex.find(rest) {
                let (start, end) = (at, at + found.end());
                let code = view.slice(end, end + 2) == "::" || view.byte(end) == Some(b'(');
                return (!code && view.opens(start) && view.closes(end) && check(found.as_str()))
                    .then_some(Finding { start, end, kind, rule, evidence: Evidence::Label });
            }
            let word = view.run(at, 16, |b| b.is_ascii_alphabetic() || !b.is_ascii());
            if word == at || !FILLERS.contains(&view.slice(at, word).to_lowercase().as_str()) {
                return None;
            }
            at = word;
        }
        None
    }
}

/// "the CPF of Ana Lima is ...": a name may stand between the label and the verb.
fn verb_after(view: &View<'_>, label: usize) -> Option<usize> {
    let end = view.run(label, MAX_PHRASE, |b| !matches!(b, b'\n' | b'.' | b',' | b';' | b'"' | b'='));
    let phrase = view.slice(label, end);
    [" is ", " ist ", " lautet ", " est ", " es ", " è ", " é ", ": ", " ("]
        .iter()
        .filter_map(|verb| phrase.find(verb).map(|at| label + at + verb.len()))
        .min()
}

/// What people write between a label and its value.
fn is_sign(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'\t' | b':' | b'=' | b'#' | b'"' | b'\'' | b'(' | b')' | b'.' | b'>' | b'*' | b'[' | b','
    )
}
