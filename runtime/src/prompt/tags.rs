//! How long the tags of a template are, without reading what they say.

/// Length in bytes of the longest `{{ ... }}` or `{% ... %}`. When in doubt a tag counts as longer than it is: an
/// end inside of a text or of a literal's braces is none.
pub(super) fn longest(source: &str) -> usize {
    let bytes = source.as_bytes();
    let (mut at, mut longest) = (0, 0);
    while at + 1 < bytes.len() {
        let end = match &bytes[at..at + 2] {
            b"{#" => source[at + 2..].find("#}").map_or(bytes.len(), |end| at + 2 + end + 2),
            b"{{" | b"{%" => {
                let end = end_of_tag(bytes, at + 2);
                longest = longest.max(end - at);
                end
            }
            _ => at + 1,
        };
        at = end;
    }
    longest
}

/// The place behind the tag whose inside begins at `at`; the end of the source when it is never closed.
fn end_of_tag(bytes: &[u8], mut at: usize) -> usize {
    let mut braces = 0_usize;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' => {
                at += 1;
                while let Some(inside) = bytes.get(at).filter(|inside| *inside != byte) {
                    at += if *inside == b'\\' { 2 } else { 1 };
                }
            }
            b'{' => braces += 1,
            b'%' | b'}' if braces == 0 && bytes.get(at + 1) == Some(&b'}') => return at + 2,
            b'}' => braces = braces.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::longest;

    #[test]
    fn the_longest_tag_is_found_among_text_and_comments() {
        assert_eq!(longest("no tags { here }"), 0);
        assert_eq!(longest("a {{ b }} c {%- if x -%} d"), "{%- if x -%}".len());
        assert_eq!(longest("{# {{ a long comment that is none }} #}{{x}}"), 5);
        assert_eq!(longest("{{ never closed"), 15);
    }

    #[test]
    fn an_end_inside_of_a_text_or_a_literal_is_none() {
        for tag in ["{{ '}}' }}", r#"{{ "a\"}}" }}"#, "{{ {'a': {}} }}", "{% set x = '%}' %}"] {
            assert_eq!(longest(&format!("{tag} {{{{x}}}}")), tag.len(), "{tag}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_longest_tag_that_is_not_longer_than_itself(text in "[{}%#'\"\\\\ü ]{0,40}") {
            prop_assert!(longest(&text) <= text.len());
        }
    }
}
