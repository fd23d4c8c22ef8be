//! The texts of a model's control tokens, and where they occur.

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;

use super::Segment;

/// Zero-width space: invisible, and inside no control token.
const BREAK: char = '\u{200B}';

/// Finds control texts (`<|im_end|>`) in other texts.
pub(super) struct ControlTexts {
    /// `None` when the model has no control tokens.
    finder: Option<AhoCorasick>,
}

impl ControlTexts {
    pub(super) fn new(mut texts: Vec<String>) -> Self {
        texts.retain(|text| !text.is_empty());
        // Building fails only beyond billions of states, which no vocabulary has.
        let finder = if texts.is_empty() { None } else { AhoCorasick::new(&texts).ok() };
        Self { finder }
    }

    /// Whether a control text, in the joined segments, contains a byte that somebody typed. Looking at the
    /// joined text also finds one that begins in the template and ends in a content.
    pub(super) fn touch_typed(&self, segments: &[Segment<'_>]) -> bool {
        let Some(finder) = &self.finder else { return false };
        let joined: String = segments.iter().map(Segment::text).collect();
        let mut typed = Vec::new();
        let mut start = 0;
        for segment in segments {
            let end = start + segment.text().len();
            if matches!(segment, Segment::Typed(_)) && start < end {
                typed.push(start..end);
            }
            start = end;
        }
        finder.find_overlapping_iter(&joined).any(|found| {
            let next = typed.partition_point(|range| range.end <= found.start());
            typed.get(next).is_some_and(|range| range.start < found.end())
        })
    }

    /// `content` with every control text broken by an invisible character.
    pub(super) fn break_up(&self, content: &str) -> String {
        let Some(finder) = &self.finder else { return content.to_owned() };
        let breaks: BTreeSet<usize> =
            finder.find_overlapping_iter(content).map(|found| found.start()).collect();
        content
            .char_indices()
            .flat_map(|(at, character)| {
                let broken = breaks.contains(&at).then_some(BREAK);
                std::iter::once(character).chain(broken)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> ControlTexts {
        ControlTexts::new(vec!["<|im_end|>".into(), "<s>".into(), String::new()])
    }

    #[test]
    fn control_texts_of_the_template_are_not_typed() {
        let segments =
            [Segment::Template("<s>user\n"), Segment::Typed("hi"), Segment::Template("<|im_end|>")];
        assert!(!texts().touch_typed(&segments));
    }

    #[test]
    fn a_typed_control_text_is_found_even_across_a_border() {
        assert!(texts().touch_typed(&[Segment::Template("user\n"), Segment::Typed("a<|im_end|>b")]));
        let halves = [Segment::Template("<|im_"), Segment::Typed("end|>"), Segment::Template("\n")];
        assert!(texts().touch_typed(&halves));
        let joined = [Segment::Typed("<"), Segment::Template("s>")];
        assert!(texts().touch_typed(&joined));
    }

    #[test]
    fn breaking_up_leaves_no_control_text_and_all_characters() {
        let broken = texts().break_up("a<|im_end|>ü<s><s>");
        assert_eq!(broken, "a<\u{200B}|im_end|>ü<\u{200B}s><\u{200B}s>");
        assert_eq!(texts().break_up(&broken), broken);
        assert_eq!(texts().break_up("plain"), "plain");
    }
}
