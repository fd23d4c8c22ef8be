//! Text to tokens and back. All of it only reads the model and may run on any thread.

use super::log;
use super::{LlamaError, Model, sys};

/// A token of the model's vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Token(pub(super) sys::llama_token);

impl Token {
    /// Its place in a row of logits.
    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// What the text of a control token (`<|im_end|>`) in the input means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parse {
    /// The control token.
    Special,
    /// The characters.
    Plain,
}

/// Whether the model's begin-of-text token is put in front, if the model wants one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    Add,
    Leave,
}

/// Longest piece of a token that is asked for first, in bytes; a longer one costs a second call.
const PIECE_GUESS: usize = 64;

impl Model {
    pub(crate) fn tokenize(&self, text: &str, parse: Parse, ends: Ends) -> Result<Vec<Token>, LlamaError> {
        let length = i32::try_from(text.len()).map_err(|_| LlamaError::Tokenize)?;
        // A token is seldom shorter than two bytes; when it is, the library says how many there are.
        let mut tokens: Vec<sys::llama_token> = vec![0; text.len() / 2 + 8];
        for _attempt in 0..2 {
            let capacity = i32::try_from(tokens.len()).map_err(|_| LlamaError::Tokenize)?;
            // SAFETY: the vocabulary lives as long as `self`; text and length, tokens and capacity belong
            // together, and neither pointer is kept after the call.
            let count = unsafe {
                sys::llama_tokenize(
                    self.vocabulary.as_ptr(),
                    text.as_ptr().cast(),
                    length,
                    tokens.as_mut_ptr(),
                    capacity,
                    ends == Ends::Add,
                    parse == Parse::Special,
                )
            };
            if let Ok(count) = usize::try_from(count) {
                return Ok(tokens.into_iter().take(count).map(Token).collect());
            }
            if count == i32::MIN {
                break;
            }
            tokens.resize(count.unsigned_abs() as usize, 0);
        }
        Err(LlamaError::Tokenize)
    }

    /// Replaces `bytes` by what `token` stands for. It may be a part of a UTF-8 character; a control token
    /// stands for nothing.
    pub(crate) fn piece(&self, token: Token, bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.resize(PIECE_GUESS, 0);
        for _attempt in 0..2 {
            let capacity = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
            // SAFETY: the vocabulary lives as long as `self`, `Token`s are only made from its own answers,
            // and the buffer has the capacity we name.
            let length = unsafe {
                sys::llama_token_to_piece(
                    self.vocabulary.as_ptr(),
                    token.0,
                    bytes.as_mut_ptr().cast(),
                    capacity,
                    0,
                    false,
                )
            };
            let fits = length >= 0;
            bytes.resize(length.unsigned_abs() as usize, 0);
            if fits {
                return;
            }
        }
        bytes.clear();
    }

    /// Whether the model ends its turn with this token.
    pub(crate) fn is_end(&self, token: Token) -> bool {
        // SAFETY: as in `piece`.
        unsafe { sys::llama_vocab_is_eog(self.vocabulary.as_ptr(), token.0) }
    }

    pub(crate) fn vocabulary_size(&self) -> usize {
        // SAFETY: the vocabulary lives as long as `self`.
        usize::try_from(unsafe { sys::llama_vocab_n_tokens(self.vocabulary.as_ptr()) }).unwrap_or(0)
    }

    /// The begin-of-text token, if the model has one.
    pub(crate) fn begin(&self) -> Option<Token> {
        // SAFETY: the vocabulary lives as long as `self`.
        self.checked(unsafe { sys::llama_vocab_bos(self.vocabulary.as_ptr()) })
    }

    /// The end-of-text token, if the model has one.
    pub(crate) fn end(&self) -> Option<Token> {
        // SAFETY: the vocabulary lives as long as `self`.
        self.checked(unsafe { sys::llama_vocab_eos(self.vocabulary.as_ptr()) })
    }

    /// A token as the vocabulary writes it (`<|im_end|>`).
    pub(crate) fn text(&self, token: Token) -> String {
        // SAFETY: as in `piece`; the string is a part of the vocabulary.
        unsafe { log::text(sys::llama_vocab_get_text(self.vocabulary.as_ptr(), token.0)) }
    }

    /// Whether a token steers the model and stands for no text.
    pub(crate) fn is_control(&self, token: Token) -> bool {
        const CONTROL: sys::llama_token_attr = sys::LLAMA_TOKEN_ATTR_CONTROL | sys::LLAMA_TOKEN_ATTR_UNKNOWN;
        // SAFETY: as in `piece`.
        unsafe { sys::llama_vocab_get_attr(self.vocabulary.as_ptr(), token.0) & CONTROL != 0 }
    }

    /// The texts that [`Parse::Special`] turns into control tokens.
    pub(crate) fn control_texts(&self) -> Vec<String> {
        let size = sys::llama_token::try_from(self.vocabulary_size()).unwrap_or(0);
        (0..size)
            .map(Token)
            .filter(|token| self.is_control(*token))
            .map(|token| self.text(token))
            .filter(|text| !text.is_empty())
            .collect()
    }

    /// The token of that index, if it is one.
    pub(crate) fn token(&self, index: usize) -> Option<Token> {
        sys::llama_token::try_from(index).ok().and_then(|number| self.checked(number))
    }

    fn checked(&self, number: sys::llama_token) -> Option<Token> {
        let index = usize::try_from(number).ok()?;
        (index < self.vocabulary_size()).then_some(Token(number))
    }
}
