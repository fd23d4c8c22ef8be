//! Puts the values back into an answer while it streams in.

use std::fmt;
use std::sync::Arc;

use crate::json::{self, NotJson};
use crate::placeholder::{self, Shape};
use crate::vault::Values;

/// Restores one answer. Feed it the chunks in order, then call [`Restorer::finish`]. However the stream is
/// cut, the concatenated output is the same; what it holds back is at most one unfinished placeholder.
pub struct Restorer {
    values: Arc<Values>,
    held: String,
    unknown: u32,
}

impl Restorer {
    pub(crate) fn new(values: Arc<Values>) -> Self {
        Self { values, held: String::new(), unknown: 0 }
    }

    /// Takes the next chunk and returns what can be shown now; may be empty.
    pub fn push(&mut self, chunk: &str) -> String {
        let mut text = std::mem::take(&mut self.held);
        text.push_str(chunk);
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(open) = rest.find('[') {
            out.push_str(&rest[..open]);
            rest = &rest[open..];
            match placeholder::shape(rest.as_bytes()) {
                Shape::Whole(len) => {
                    self.put_back(&rest[..len], &mut out);
                    rest = &rest[len..];
                }
                Shape::Unfinished => {
                    rest.clone_into(&mut self.held);
                    return out;
                }
                Shape::Other => {
                    out.push('[');
                    rest = &rest[1..];
                }
            }
        }
        out.push_str(rest);
        out
    }

    /// The stream ended: returns what was held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// A whole JSON text: what its strings say is restored, also where a string holds JSON itself, and written back
    /// escaped for where it stands. Independent of what [`Restorer::push`] holds back.
    ///
    /// # Errors
    /// When `json` is no JSON.
    pub fn restore_json(&mut self, json: &str) -> Result<String, NotJson> {
        let held = std::mem::take(&mut self.held);
        let restored = json::restored(json, &mut |text| self.push(text) + &self.finish());
        self.held = held;
        restored
    }

    /// How many texts looked like placeholders but were none of this session's. They are left as they are.
    pub fn unknown(&self) -> u32 {
        self.unknown
    }

    fn put_back(&mut self, token: &str, out: &mut String) {
        match self.values.get(&token.replace('\\', "").to_ascii_uppercase()) {
            Some(entry) => out.push_str(&entry.value),
            None => {
                out.push_str(token);
                self.unknown = self.unknown.saturating_add(1);
            }
        }
    }
}

impl fmt::Debug for Restorer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Restorer(..)")
    }
}

#[cfg(test)]
mod tests {
    use crate::kind::Kind;
    use crate::vault::Vault;

    #[test]
    fn an_answer_in_another_case_is_restored_and_an_invented_number_is_left_and_counted() {
        let mut vault = Vault::with_seed(3);
        let held = vault.placeholder("ann@example.org", Kind::Email).unwrap().to_owned();
        let mut restorer = vault.restorer();
        let answer = format!("write to {} or [EMAIL_0002] [[", held.to_lowercase());
        let text = restorer.push(&answer) + &restorer.finish();
        assert_eq!(text, "write to ann@example.org or [EMAIL_0002] [[");
        assert_eq!(restorer.unknown(), 1);
        assert_eq!(format!("{restorer:?}"), "Restorer(..)");
    }

    #[test]
    fn only_an_unfinished_placeholder_is_held_back() {
        let vault = Vault::with_seed(3);
        let mut restorer = vault.restorer();
        assert_eq!(restorer.push("a list [1, 2] of [EMA"), "a list [1, 2] of ");
        assert_eq!(restorer.push("CS]"), "[EMACS]");
        assert_eq!(restorer.push("[IP_ADDRESS_7"), "");
        assert_eq!(restorer.finish(), "[IP_ADDRESS_7");
    }
}
