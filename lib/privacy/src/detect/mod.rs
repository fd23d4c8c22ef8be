//! Finds sensitive values. One Aho-Corasick pass over all literals and one pass over byte classes decide which
//! rules look at which places; rules then start anchored there. Every rule looks at a bounded stretch, or moves
//! past what it consumed, so the work is linear in the text.

mod connection;
mod cues;
mod email;
mod finding;
mod gate;
mod keyed;
pub(crate) mod known;
mod labelled;
mod labels;
mod markers;
mod network;
mod number;
mod overlap;
mod pem;
mod prefixed;
mod shapes;
mod url;
mod vendors;
mod view;

pub(crate) use finding::Finding;
pub(crate) use overlap::resolve;

use cues::Cue;
use gate::{Gate, Marker, Meaning};
use labelled::Labelled;
use prefixed::Prefixed;
use view::View;

/// A rule or its literals cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    /// A pattern is no regular expression.
    #[error("the pattern of rule {rule} does not compile")]
    Pattern {
        /// The rule.
        rule: &'static str,
        /// Why.
        #[source]
        source: Box<regex::Error>,
    },
    /// A rule that nothing can trigger would be a silent hole.
    #[error("rule {rule} has no literal that triggers it")]
    Untriggered {
        /// The rule.
        rule: &'static str,
    },
    /// The literals do not fit into one automaton.
    #[error("the literals of the rules do not compile")]
    Literals(#[source] aho_corasick::BuildError),
}

/// The compiled rules.
#[derive(Debug)]
pub(crate) struct Detector {
    gate: Gate,
    prefixed: Vec<Prefixed>,
    labelled: Vec<Labelled>,
}

impl Detector {
    /// Compiles the standard rules.
    pub(crate) fn standard() -> Result<Self, CompileError> {
        Self::compile(&[vendors::SPECS, markers::SPECS], labels::SPECS)
    }

    fn compile(prefixed: &[&[prefixed::Spec]], labelled: &[labelled::Spec]) -> Result<Self, CompileError> {
        let prefixed: Vec<_> =
            prefixed.iter().copied().flatten().map(Prefixed::compile).collect::<Result<_, _>>()?;
        let labelled: Vec<_> = labelled.iter().map(Labelled::compile).collect::<Result<_, _>>()?;
        let gate = Gate::build(&prefixed, &labelled)?;
        Ok(Self { gate, prefixed, labelled })
    }

    /// Disjoint findings in ascending order, on character boundaries.
    pub(crate) fn find(&self, text: &str) -> Vec<Finding> {
        let hits = self.gate.hits(text);
        let view = View::new(text, &hits);
        let mut found = Vec::new();
        // Where the last private key block, URL or keyed secret ended: their insides need no second look by the
        // same rule.
        let (mut after_key, mut after_url, mut after_secret, mut after_login) = (0, 0, 0, 0);
        let mut token = url::Token::default();
        for hit in &hits {
            match hit.meaning {
                Meaning::Cue(Cue::Wallet) => found.extend(number::wallet::after(&view, hit.end)),
                Meaning::Cue(_) => {}
                Meaning::Prefixed(rule) => found.extend(self.prefixed[rule].at(&view, hit.start)),
                Meaning::Labelled(rule) => found.extend(self.labelled[rule].after(&view, hit)),
                Meaning::Key(key) if hit.start >= after_secret.max(after_login) => {
                    let finding = keyed::after(&view, key, hit);
                    after_secret = finding.map_or(after_secret, |f| f.end);
                    found.extend(finding);
                }
                Meaning::Key(_) => {}
                Meaning::Marker(Marker::Scheme) if hit.start >= after_url => {
                    token = token.around(&view, hit.start);
                    let (end, finding) = url::at(&view, hit.start, &token);
                    after_url = end;
                    after_login = finding.map_or(after_login, |f| f.end);
                    found.extend(finding);
                }
                Meaning::Marker(Marker::Key) if hit.start >= after_key => {
                    let finding = pem::at(&view, hit.start);
                    after_key = finding.map_or(after_key, |f| f.end);
                    found.extend(finding);
                }
                Meaning::Marker(Marker::Bot) => found.extend(markers::telegram(&view, hit.start)),
                Meaning::Marker(_) => {}
            }
        }
        shapes::find(&view, &mut found);
        resolve(text, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(pattern: &'static str, literals: &'static [&'static str]) -> prefixed::Spec {
        prefixed::Spec { literals, pattern, ..prefixed::Spec::new("broken") }
    }

    #[test]
    fn a_rule_that_does_not_compile_fails_the_whole_set() {
        let broken = [spec("a(", &["a"])];
        assert!(matches!(
            Detector::compile(&[&broken], &[]),
            Err(CompileError::Pattern { rule: "broken", .. })
        ));
    }

    #[test]
    fn a_rule_that_nothing_triggers_fails_the_whole_set() {
        for literals in [&[][..], &[""][..]] {
            let dead = [spec("a", literals)];
            assert!(matches!(
                Detector::compile(&[&dead], &[]),
                Err(CompileError::Untriggered { rule: "broken" })
            ));
        }
    }
}
