//! Log probabilities, in the form of chat and in the older one of text completions.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::ask::TokenLogprob;

/// What the OpenAI API says for "never"; JSON has no infinity.
const NEVER: f32 = -9999.0;

/// Of some tokens, in a chat's choice.
#[derive(Debug, Serialize)]
pub(super) struct ChatLogprobs {
    content: Vec<Token>,
    refusal: Option<()>,
}

#[derive(Debug, Serialize)]
struct Token {
    #[serde(flatten)]
    token: Alternative,
    top_logprobs: Vec<Alternative>,
}

#[derive(Debug, Serialize)]
struct Alternative {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl ChatLogprobs {
    /// None, when there are none.
    pub(super) fn of(tokens: Vec<TokenLogprob>) -> Option<Self> {
        let token = |token: TokenLogprob| Token {
            top_logprobs: token.top.iter().map(alternative).collect(),
            token: alternative(&token),
        };
        let content: Vec<Token> = tokens.into_iter().map(token).collect();
        (!content.is_empty()).then_some(Self { content, refusal: None })
    }
}

fn alternative(token: &TokenLogprob) -> Alternative {
    Alternative { token: text(token), logprob: finite(token.logprob), bytes: token.token.clone() }
}

/// Of some tokens, in a completion's choice.
#[derive(Debug, Serialize)]
pub(super) struct CompletionLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<f32>,
    top_logprobs: Option<Vec<BTreeMap<String, f32>>>,
    text_offset: Vec<usize>,
}

impl CompletionLogprobs {
    /// Of the tokens from `offset` on, which is in characters and moves behind them. None, when there are none.
    pub(super) fn of(tokens: Vec<TokenLogprob>, offset: &mut usize) -> Option<Self> {
        if tokens.is_empty() {
            return None;
        }
        let tops = tokens.iter().any(|token| !token.top.is_empty());
        let top =
            |token: &TokenLogprob| token.top.iter().map(|top| (text(top), finite(top.logprob))).collect();
        let texts: Vec<String> = tokens.iter().map(text).collect();
        let place = |text: &String| {
            let place = *offset;
            *offset += text.chars().count();
            place
        };
        Some(Self {
            token_logprobs: tokens.iter().map(|token| finite(token.logprob)).collect(),
            top_logprobs: tops.then(|| tokens.iter().map(top).collect()),
            text_offset: texts.iter().map(place).collect(),
            tokens: texts,
        })
    }
}

/// A token may be a part of a character; its bytes say what it really is.
fn text(token: &TokenLogprob) -> String {
    String::from_utf8_lossy(&token.token).into_owned()
}

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { NEVER }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(bytes: &[u8], logprob: f32, top: Vec<TokenLogprob>) -> TokenLogprob {
        TokenLogprob { token: bytes.to_vec(), logprob, top }
    }

    #[test]
    fn a_chat_s_tokens_carry_their_bytes_and_alternatives() {
        let top = vec![token(b"Hi", -0.5, vec![]), token(b"Yo", f32::NEG_INFINITY, vec![])];
        let tokens = vec![token(b"Hi", -0.5, top), token(&[0xc3], -1.25, vec![])];
        let json = serde_json::to_string(&ChatLogprobs::of(tokens)).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"content":[{"token":"Hi","logprob":-0.5,"bytes":[72,105],"top_logprobs":["#,
                r#"{"token":"Hi","logprob":-0.5,"bytes":[72,105]},{"token":"Yo","logprob":-9999.0,"bytes":[89,111]}]},"#,
                "{\"token\":\"\u{fffd}\",\"logprob\":-1.25,\"bytes\":[195],\"top_logprobs\":[]}],\"refusal\":null}"
            )
        );
        assert!(ChatLogprobs::of(Vec::new()).is_none());
    }

    #[test]
    fn a_completion_s_tokens_say_where_they_are() {
        let mut offset = 0;
        let first = CompletionLogprobs::of(vec![token("ü".as_bytes(), -1.0, vec![])], &mut offset);
        let json = serde_json::to_string(&first).unwrap();
        assert_eq!(json, r#"{"tokens":["ü"],"token_logprobs":[-1.0],"top_logprobs":null,"text_offset":[0]}"#);
        let top = vec![token(b"b", -0.5, vec![])];
        let second =
            CompletionLogprobs::of(vec![token(b"bc", -2.0, top), token(b"d", 0.0, vec![])], &mut offset);
        let json = serde_json::to_string(&second).unwrap();
        assert_eq!(
            json,
            r#"{"tokens":["bc","d"],"token_logprobs":[-2.0,0.0],"top_logprobs":[{"b":-0.5},{}],"text_offset":[1,3]}"#
        );
    }
}
