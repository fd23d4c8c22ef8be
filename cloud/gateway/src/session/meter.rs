//! Counts what an answer used. What the provider counted is billed as it is; what it did not count is billed by a
//! conservative rule: four bytes of UTF-8 are one token, rounded up. English and code run at three to four bytes a
//! token and everything else at fewer, so the rule counts low: the doubt is the customer's gain.

use crate::providers::tools::ToolCall;
use crate::providers::{Event, Request};

/// Bytes that count as one token where the provider said nothing.
const BYTES_PER_TOKEN: u64 = 4;

/// The tokens of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) input: u64,
    pub(super) output: u64,
    /// Whether the provider counted both.
    pub(super) provider_counted: bool,
}

/// Watches one answer go by.
#[derive(Debug)]
pub(super) struct Meter {
    prompt_bytes: u64,
    answer_bytes: u64,
    input: Option<u64>,
    /// Present only while the provider's count covers everything that came.
    output: Option<u64>,
}

impl Meter {
    pub(super) fn new(request: &Request) -> Self {
        Self { prompt_bytes: request.prompt_bytes(), answer_bytes: 0, input: None, output: None }
    }

    pub(super) fn see(&mut self, event: &Event) {
        match event {
            Event::Delta { text, output_tokens } => {
                self.answer_bytes = self.answer_bytes.saturating_add(text.len() as u64);
                self.output = *output_tokens;
            }
            Event::Usage { input_tokens, output_tokens } => {
                self.input = input_tokens.or(self.input);
                self.output = output_tokens.or(self.output);
            }
            Event::ToolCalls(calls) => {
                let bytes = calls.iter().map(ToolCall::bytes).sum();
                self.answer_bytes = self.answer_bytes.saturating_add(bytes);
                self.output = None;
            }
            Event::Finished { .. } => {}
        }
    }

    /// Whether any part of the answer exists.
    pub(super) const fn produced(&self) -> bool {
        self.answer_bytes > 0
    }

    pub(super) fn tokens(&self) -> Tokens {
        Tokens {
            input: self.input.unwrap_or_else(|| self.prompt_bytes.div_ceil(BYTES_PER_TOKEN)),
            output: self.output.unwrap_or_else(|| self.answer_bytes.div_ceil(BYTES_PER_TOKEN)),
            provider_counted: self.input.is_some() && self.output.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{delta, request};

    fn after(events: &[Event]) -> Tokens {
        let mut meter = Meter::new(&request("m"));
        for event in events {
            meter.see(event);
        }
        meter.tokens()
    }

    fn usage(input_tokens: Option<u64>, output_tokens: Option<u64>) -> Event {
        Event::Usage { input_tokens, output_tokens }
    }

    #[test]
    fn the_providers_count_is_taken_as_it_is() {
        let tokens = after(&[delta("a long answer of many words"), usage(Some(11), Some(2))]);
        assert_eq!(tokens, Tokens { input: 11, output: 2, provider_counted: true });
    }

    #[test]
    fn silence_is_counted_by_the_byte_rule_and_said_to_be() {
        // "hello" is 5 bytes: 2 tokens. The answer is 9 bytes: 3 tokens.
        let tokens = after(&[delta("12345"), delta("6789")]);
        assert_eq!(tokens, Tokens { input: 2, output: 3, provider_counted: false });
    }

    #[test]
    fn calls_are_a_part_of_the_answer_and_tools_of_the_prompt() {
        let call = ToolCall { id: "1234".to_owned(), name: "56".to_owned(), arguments: "78".to_owned() };
        let tokens = after(&[Event::ToolCalls(vec![call])]);
        assert_eq!(tokens, Tokens { input: 2, output: 2, provider_counted: false });
        let asked = crate::testing::tools_request("m");
        let bytes = Meter::new(&asked).prompt_bytes;
        assert!(bytes > asked.tools.json.len() as u64 + 8, "{bytes}");
    }

    #[test]
    fn a_count_that_later_text_overtook_no_longer_counts() {
        let tokens = after(&[delta("1234"), usage(Some(5), Some(1)), delta("56789")]);
        assert_eq!(tokens, Tokens { input: 5, output: 3, provider_counted: false });
    }

    #[test]
    fn a_provider_that_counts_as_it_goes_is_exact_at_every_cut() {
        let counted = |text: &str, n| Event::Delta { text: text.to_owned(), output_tokens: Some(n) };
        let tokens = after(&[usage(Some(9), None), counted("ab", 1), counted("cd", 2)]);
        assert_eq!(tokens, Tokens { input: 9, output: 2, provider_counted: true });
    }
}
