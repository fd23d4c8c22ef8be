//! Tokens are bytes; a character may be spread over several of them.

use std::str;

/// Turns pieces of bytes into text, holding back the last character until it is complete. Bytes that can
/// never become a character turn into U+FFFD, one for each maximal wrong sequence.
#[derive(Debug, Default)]
pub(super) struct Utf8Buffer {
    /// At most three bytes between two calls.
    pending: Vec<u8>,
}

impl Utf8Buffer {
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            match str::from_utf8(&self.pending) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.pending.clear();
                    return text;
                }
                Err(error) => {
                    let (good, rest) = self.pending.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(good));
                    let Some(wrong) = error.error_len() else {
                        self.pending = rest.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.pending = rest[wrong..].to_vec();
                }
            }
        }
    }

    /// What is left when no more bytes come.
    pub(super) fn finish(&mut self) -> String {
        let rest = std::mem::take(&mut self.pending);
        String::from_utf8_lossy(&rest).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_character_in_pieces_comes_out_whole() {
        let mut buffer = Utf8Buffer::default();
        let crab = "🦀".as_bytes();
        assert_eq!(buffer.push(&crab[..2]), "");
        assert_eq!(buffer.push(&crab[2..]), "🦀");
        assert_eq!(buffer.finish(), "");
    }

    #[test]
    fn an_answer_that_ends_inside_a_character_says_so() {
        let mut buffer = Utf8Buffer::default();
        assert_eq!(buffer.push(&[b'a', 0xE2, 0x82]), "a");
        assert_eq!(buffer.finish(), "\u{FFFD}");
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_read_as_from_utf8_lossy(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            size in 1_usize..5,
        ) {
            let mut buffer = Utf8Buffer::default();
            let mut text: String = bytes.chunks(size).map(|piece| buffer.push(piece)).collect();
            prop_assert!(buffer.pending.len() <= 3);
            text.push_str(&buffer.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
