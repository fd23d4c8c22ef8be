//! Texts whose vectors are wanted, within the limits that both local endpoints have. Vectors are always made here: no
//! text of theirs is ever a reason to escalate.

use synesis_proto::runtime::v1::EmbedRequest;

/// Texts of one request; the model process takes no more.
const MOST: usize = 256;
/// Bytes of all of them.
const MOST_BYTES: usize = 1 << 20;

/// 1 to 256 texts, none of them blank, 1 MiB in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts(Vec<String>);

/// Why they are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextsError {
    /// None, or more than 256.
    #[error("a request embeds 1 to 256 texts, and this one has {0}")]
    Count(usize),
    /// Nothing in one of them.
    #[error("text {0} is empty")]
    Blank(usize),
    /// Too much in all of them.
    #[error("the texts have {0} bytes, and a request takes {MOST_BYTES}")]
    Bytes(usize),
}

impl Texts {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What the model process is asked on behalf of a user.
    pub fn request(self, uid: u32) -> EmbedRequest {
        EmbedRequest { inputs: self.0, owner: uid.to_string() }
    }
}

impl TryFrom<Vec<String>> for Texts {
    type Error = TextsError;
    fn try_from(texts: Vec<String>) -> Result<Self, TextsError> {
        if !(1..=MOST).contains(&texts.len()) {
            return Err(TextsError::Count(texts.len()));
        }
        if let Some(blank) = texts.iter().position(|text| text.trim().is_empty()) {
            return Err(TextsError::Blank(blank));
        }
        match texts.iter().map(String::len).sum() {
            bytes if bytes > MOST_BYTES => Err(TextsError::Bytes(bytes)),
            _ => Ok(Self(texts)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_some_none_of_them_is_blank_and_they_have_an_end() {
        let texts = |count: usize, text: &str| Texts::try_from(vec![text.to_owned(); count]);
        assert_eq!(texts(256, "x").unwrap().count(), 256);
        assert_eq!(texts(0, "x"), Err(TextsError::Count(0)));
        assert_eq!(texts(257, "x"), Err(TextsError::Count(257)));
        assert_eq!(Texts::try_from(vec!["a".to_owned(), " \n".to_owned()]), Err(TextsError::Blank(1)));
        assert!(texts(2, &"x".repeat(MOST_BYTES / 2)).is_ok());
        assert_eq!(texts(3, &"x".repeat(MOST_BYTES / 2)), Err(TextsError::Bytes(3 * MOST_BYTES / 2)));
    }

    #[test]
    fn the_model_process_hears_whose_they_are() {
        let request = Texts::try_from(vec!["a".to_owned()]).unwrap().request(1000);
        assert_eq!((request.inputs, request.owner), (vec!["a".to_owned()], "1000".to_owned()));
    }
}
