//! JSON that may leave the device, and JSON that came back: tool definitions, calls and their results, schemas. What
//! the strings say is looked at without their escapes, so that none of them can hide a value, and each is written
//! back escaped for where it stands. A string that holds JSON itself (a call's `arguments`) is read in its turn.

mod probe;
mod scan;

use crate::detect::known::Values;
use crate::detect::{Detector, Finding};
use crate::kind::Kind;
use crate::vault::{Vault, VaultFull};
pub use scan::NotJson;
use scan::{Leaf, Leaves, Sort, scan};

/// Strings of JSON inside strings of JSON.
const MAX_STRINGS: usize = 6;

/// Which strings of a document have a meaning of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Any,
    /// The calls of an assistant, whose ids other messages name.
    ToolCalls,
}

/// A JSON text with what has to be hidden in it.
#[derive(Debug)]
pub(crate) struct Document {
    text: String,
    pieces: Vec<Piece>,
}

/// A key, string or number of a document.
#[derive(Debug)]
struct Piece {
    start: usize,
    end: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Text { text: String, findings: Vec<Finding> },
    Number { text: String, findings: Vec<Finding> },
    Id(Id),
    Document(Document),
}

impl Document {
    /// Reads `text`, and finds what the rules find in it.
    ///
    /// # Errors
    /// When it is no JSON, or is nested deeper than anything that is meant well.
    pub(crate) fn read(text: &str, shape: Shape, detector: &Detector) -> Result<Self, NotJson> {
        Self::inner(text.to_owned(), shape, detector, 0)
    }

    fn inner(text: String, shape: Shape, detector: &Detector, strings: usize) -> Result<Self, NotJson> {
        let leaves = scan(&text)?;
        let mut pieces = Vec::with_capacity(leaves.all.len());
        for leaf in &leaves.all {
            let content = content(leaf, &leaves, shape, detector, strings)?;
            pieces.push(Piece { start: leaf.start, end: leaf.end, content });
        }
        Ok(Self { text, pieces })
    }

    /// Remembers everything found in `vault`.
    pub(crate) fn remember(&self, vault: &mut Vault) -> Result<(), VaultFull> {
        for piece in &self.pieces {
            match &piece.content {
                Content::Text { text, findings } | Content::Number { text, findings } => {
                    for finding in findings {
                        vault.placeholder(&text[finding.start..finding.end], finding.kind)?;
                    }
                }
                Content::Id(_) => {}
                Content::Document(document) => document.remember(vault)?,
            }
        }
        Ok(())
    }

    /// Adds what the session knows.
    pub(crate) fn add_known(&mut self, known: &Values<'_>) {
        for piece in &mut self.pieces {
            match &mut piece.content {
                Content::Text { text, findings } => known.add_to(text, findings),
                Content::Number { text, findings } => {
                    known.add_to(text, findings);
                    findings.truncate(1);
                    for finding in findings {
                        (finding.start, finding.end) = (0, text.len());
                    }
                }
                Content::Id(id) => id.add_known(known),
                Content::Document(document) => document.add_known(known),
            }
        }
    }

    /// The text with placeholders; `count` hears of each.
    pub(crate) fn write(&self, vault: &mut Vault, count: &mut impl FnMut(Kind)) -> Result<String, VaultFull> {
        let mut out = String::with_capacity(self.text.len());
        let mut copied = 0;
        for Piece { start, end, content } in &self.pieces {
            let written = match content {
                Content::Text { findings, .. } | Content::Number { findings, .. } if findings.is_empty() => {
                    continue;
                }
                Content::Text { text, findings } | Content::Number { text, findings } => {
                    hide(text, findings, vault, count)?
                }
                Content::Id(id) => id.write(vault, count)?,
                Content::Document(document) => document.write(vault, count)?,
            };
            out.push_str(&self.text[copied..*start]);
            quote(&written, &mut out);
            copied = *end;
        }
        out.push_str(&self.text[copied..]);
        Ok(out)
    }
}

fn content(
    leaf: &Leaf,
    leaves: &Leaves,
    shape: Shape,
    detector: &Detector,
    strings: usize,
) -> Result<Content, NotJson> {
    let text = leaf.text.clone();
    // `[{"id": ..., "function": ...}]`
    if shape == Shape::ToolCalls
        && leaf.sort == Sort::Text
        && leaf.depth == 2
        && leaves.key(leaf) == Some("id")
    {
        return Ok(Content::Id(Id::read(text, detector)));
    }
    if leaf.sort == Sort::Text && may_be_json(&text) {
        if strings >= MAX_STRINGS {
            return Err(NotJson::TooDeep);
        }
        match Document::inner(text, Shape::Any, detector, strings + 1) {
            Ok(document) => return Ok(Content::Document(document)),
            Err(NotJson::TooDeep) => return Err(NotJson::TooDeep),
            Err(NotJson::Syntax { .. }) => {}
        }
    }
    let findings = probe::find(detector, &leaf.text, leaf.sort, &leaves.labels(leaf));
    let text = leaf.text.clone();
    Ok(match leaf.sort {
        Sort::Number => Content::Number { text, findings },
        Sort::Key | Sort::Text => Content::Text { text, findings },
    })
}

/// Numbers and words are texts like others.
fn may_be_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[', '"'])
}

fn hide(
    text: &str,
    findings: &[Finding],
    vault: &mut Vault,
    count: &mut impl FnMut(Kind),
) -> Result<String, VaultFull> {
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for Finding { start, end, kind, .. } in findings {
        out.push_str(&text[copied..*start]);
        out.push_str(vault.placeholder(&text[*start..*end], *kind)?);
        count(*kind);
        copied = *end;
    }
    out.push_str(&text[copied..]);
    Ok(out)
}

/// Adds `text` as a JSON string.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The name of a call or of a tool: letters, digits and a few signs, made by a program. Anything else, and anything
/// the detectors or the session know, is sent under another name, the same for the same one; it is not restored,
/// because nothing that comes back names an old call.
#[derive(Debug)]
pub(crate) struct Id {
    text: String,
    harmless: bool,
}

impl Id {
    /// Providers allow 64.
    const LONGEST: usize = 64;

    pub(crate) fn read(text: String, detector: &Detector) -> Self {
        let shaped = (1..=Self::LONGEST).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        let harmless = shaped && detector.find(&text).is_empty();
        Self { text, harmless }
    }

    pub(crate) fn add_known(&mut self, known: &Values<'_>) {
        let mut findings = Vec::new();
        known.add_to(&self.text, &mut findings);
        self.harmless &= findings.is_empty();
    }

    pub(crate) fn write(&self, vault: &mut Vault, count: &mut impl FnMut(Kind)) -> Result<String, VaultFull> {
        if self.harmless {
            return Ok(self.text.clone());
        }
        count(Kind::Custom);
        // Brackets are none of the signs that providers allow in ids.
        Ok(vault.placeholder(&self.text, Kind::Custom)?.trim_matches(['[', ']']).to_owned())
    }
}

/// `json` with `restore` applied to what its strings say, and to what JSON inside of them says, each written back
/// escaped for where it stands.
///
/// # Errors
/// When it is no JSON.
pub(crate) fn restored(json: &str, restore: &mut impl FnMut(&str) -> String) -> Result<String, NotJson> {
    restored_inner(json, restore, 0)
}

fn restored_inner(
    json: &str,
    restore: &mut impl FnMut(&str) -> String,
    strings: usize,
) -> Result<String, NotJson> {
    let mut out = String::with_capacity(json.len());
    let mut copied = 0;
    for Leaf { start, end, sort, text, .. } in scan(json)?.all {
        // Nothing stands in it that could be a placeholder.
        if sort == Sort::Number || !text.contains('[') {
            continue;
        }
        let inner = (strings < MAX_STRINGS && may_be_json(&text))
            .then(|| restored_inner(&text, restore, strings + 1).ok())
            .flatten();
        let whole = inner.unwrap_or_else(|| restore(&text));
        if whole != text {
            out.push_str(&json[copied..start]);
            quote(&whole, &mut out);
            copied = end;
        }
    }
    out.push_str(&json[copied..]);
    Ok(out)
}
