//! `text_completion`, whole and in a stream.

use bytes::Bytes;
use serde::Serialize;

use super::end::{Extra, Usage, fingerprint, finish_reason};
use super::logprobs::CompletionLogprobs;
use super::sse::Events;
use super::{Head, Reply, json};
use crate::ask::{Delta, Done, TokenLogprob};

/// One continued text.
#[derive(Debug)]
pub(in crate::openai) struct CompletionReply {
    head: Head,
    /// Whether the stream's last event says how many tokens it took.
    usage: bool,
    /// Characters so far.
    offset: usize,
}

#[derive(Serialize)]
struct Completion<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<String>,
    choices: &'a [Choice],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    synesis: Option<Extra>,
}

#[derive(Serialize)]
struct Choice {
    text: String,
    index: u32,
    logprobs: Option<CompletionLogprobs>,
    finish_reason: Option<&'static str>,
}

impl CompletionReply {
    /// In a stream, with or without a last event about `usage`.
    pub(in crate::openai) fn new(head: Head, usage: bool) -> Self {
        Self { head, usage, offset: 0 }
    }

    fn object<'a>(&'a self, choices: &'a [Choice]) -> Completion<'a> {
        Completion {
            id: format!("cmpl-{}", self.head.request),
            object: "text_completion",
            created: self.head.created,
            model: &self.head.model,
            system_fingerprint: None,
            choices,
            usage: self.usage.then_some(None),
            synesis: None,
        }
    }
}

impl Reply for CompletionReply {
    fn begin(&mut self) -> Bytes {
        Bytes::new()
    }

    fn piece(&mut self, delta: Delta) -> Bytes {
        let mut events = Events::default();
        let logprobs = CompletionLogprobs::of(delta.logprobs, &mut self.offset);
        if !delta.text.is_empty() || logprobs.is_some() {
            let choice = Choice { text: delta.text, index: 0, logprobs, finish_reason: None };
            events.push(&self.object(&[choice]));
        }
        events.bytes()
    }

    fn end(&mut self, done: Done) -> Bytes {
        let mut events = Events::default();
        let finish_reason = Some(finish_reason(&done, 0));
        let last = [Choice { text: String::new(), index: 0, logprobs: None, finish_reason }];
        let mut object = self.object(&last);
        object.system_fingerprint = Some(fingerprint(&done));
        let usage = Usage::from(&done);
        let extra = Extra::new(&self.head, done);
        if self.usage {
            events.push(&object);
            let mut object = self.object(&[]);
            (object.usage, object.synesis) = (Some(Some(usage)), Some(extra));
            events.push(&object);
        } else {
            object.synesis = Some(extra);
            events.push(&object);
        }
        events.done()
    }

    fn whole(mut self, text: String, logprobs: Vec<TokenLogprob>, done: Done) -> Bytes {
        let logprobs = CompletionLogprobs::of(logprobs, &mut self.offset);
        let choice = [Choice { text, index: 0, logprobs, finish_reason: Some(finish_reason(&done, 0)) }];
        let mut object = self.object(&choice);
        object.system_fingerprint = Some(fingerprint(&done));
        object.usage = Some(Some(Usage::from(&done)));
        object.synesis = Some(Extra::new(&self.head, done));
        json(&object)
    }
}

#[cfg(test)]
mod tests {
    use super::super::chat::tests::{done, head};
    use super::*;

    const START: &str = r#"{"id":"cmpl-00000000000000000000000007","object":"text_completion","created":1700000000,"model":"synesis","#;

    #[test]
    fn a_stream_is_these_bytes() {
        let mut reply = CompletionReply::new(head(), true);
        let mut bytes = reply.begin().to_vec();
        bytes.extend(reply.piece(Delta::from("upon".to_owned())));
        bytes.extend(reply.piece(Delta::default()));
        bytes.extend(reply.end(done()));
        let text = String::from_utf8(bytes).unwrap();
        let expected = format!(
            "data: {START}\"choices\":[{{\"text\":\"upon\",\"index\":0,\"logprobs\":null,\"finish_reason\":null}}],\"usage\":null}}\n\n\
             data: {START}\"system_fingerprint\":\"fp_smol_g3\",\"choices\":[{{\"text\":\"\",\"index\":0,\"logprobs\":null,\"finish_reason\":\"stop\"}}],\"usage\":null}}\n\n\
             data: {START}\"choices\":[],\"usage\":{{\"prompt_tokens\":10,\"completion_tokens\":2,\"total_tokens\":12,\"prompt_tokens_details\":{{\"cached_tokens\":4}}}},\"synesis\":"
        );
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.ends_with("}\n\ndata: [DONE]\n\n"), "{text}");
    }

    #[test]
    fn a_whole_answer_has_its_usage_and_its_log_probabilities() {
        let tokens = vec![TokenLogprob { token: b"upon".to_vec(), logprob: -0.5, top: Vec::new() }];
        let whole = CompletionReply::new(head(), false).whole("upon".to_owned(), tokens, done());
        let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(whole["choices"][0]["text"], "upon");
        assert_eq!(whole["choices"][0]["logprobs"]["tokens"][0], "upon");
        assert_eq!(whole["usage"]["total_tokens"], 12);
        assert_eq!(whole["synesis"]["adapter"], "pirate");
    }
}
