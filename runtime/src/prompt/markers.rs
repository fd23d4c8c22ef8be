//! Marks message contents, so that they can be told from the template's own text after rendering.

/// Private-use characters, which no tokenizer or template gives a meaning.
const MARK: char = '\u{F0000}';
const OPEN: char = '\u{F0001}';
const CLOSE: char = '\u{F0002}';

/// A part of the rendered text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    /// Written by the template.
    Template(&'a str),
    /// Taken from a message.
    Typed(&'a str),
}

impl<'a> Segment<'a> {
    pub(super) fn text(&self) -> &'a str {
        match self {
            Self::Template(text) | Self::Typed(text) => text,
        }
    }
}

/// An opening and a closing marker that occur in none of the contents.
pub(super) struct Markers {
    open: String,
    close: String,
}

impl Markers {
    pub(super) fn absent_from<'a>(contents: impl Iterator<Item = &'a str> + Clone) -> Self {
        // A content can hold only finitely many salts, so this ends.
        let mut salt = 0_u64;
        while contents.clone().any(|content| content.contains(&format!("{MARK}{salt}"))) {
            salt += 1;
        }
        Self { open: format!("{MARK}{salt}{OPEN}"), close: format!("{MARK}{salt}{CLOSE}") }
    }

    /// Marks a content. White space at its ends stays outside, so that a template's `trim` still finds it; a
    /// content of nothing else stays bare, so that `if content` still sees that it is empty.
    pub(super) fn wrap(&self, content: &str) -> String {
        let typed = content.trim();
        if typed.is_empty() {
            return content.to_owned();
        }
        let lead = content.len() - content.trim_start().len();
        let (before, rest) = content.split_at(lead);
        let after = &rest[typed.len()..];
        format!("{before}{}{typed}{}{after}", self.open, self.close)
    }

    /// The rendered text in parts, or `None` when the markers do not pair up any more.
    pub(super) fn split<'a>(&self, rendered: &'a str) -> Option<Vec<Segment<'a>>> {
        let mut segments = Vec::new();
        let mut rest = rendered;
        while let Some((before, after)) = rest.split_once(&self.open) {
            let (typed, after) = after.split_once(&self.close)?;
            if before.contains(&self.close) || typed.contains(&self.open) {
                return None;
            }
            segments.extend([Segment::Template(before), Segment::Typed(typed)]);
            rest = after;
        }
        if rest.contains(&self.close) {
            return None;
        }
        segments.push(Segment::Template(rest));
        segments.retain(|segment| !segment.text().is_empty());
        Some(segments)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn markers() -> Markers {
        Markers::absent_from(["x"].into_iter())
    }

    #[test]
    fn white_space_stays_where_a_template_can_trim_it() {
        let wrapped = markers().wrap(" \n hi there\t");
        assert!(wrapped.starts_with(" \n ") && wrapped.ends_with('\t'));
        let (trimmed, markers) = (wrapped.trim(), markers());
        assert_eq!(markers.split(trimmed), Some(vec![Segment::Typed("hi there")]));
        assert_eq!(markers.wrap(" \n"), " \n");
    }

    #[test]
    fn contents_that_contain_a_marker_get_another() {
        let nasty = format!("{MARK}0{CLOSE} and {MARK}1{OPEN}");
        let markers = Markers::absent_from([nasty.as_str()].into_iter());
        let rendered = format!("a{}b", markers.wrap(&nasty));
        let expected = vec![Segment::Template("a"), Segment::Typed(&nasty), Segment::Template("b")];
        assert_eq!(markers.split(&rendered), Some(expected));
    }

    #[test]
    fn markers_that_do_not_pair_are_noticed() {
        let markers = markers();
        let wrapped = markers.wrap("hello");
        let open_lost = wrapped.replacen(&markers.open, "", 1);
        let close_lost = wrapped.replacen(&markers.close, "", 1);
        for broken in [open_lost, close_lost, format!("{}{wrapped}", markers.open)] {
            assert_eq!(markers.split(&broken), None, "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_typed_comes_back_unchanged(contents in proptest::collection::vec(".{0,40}", 1..4)) {
            let markers = Markers::absent_from(contents.iter().map(String::as_str));
            let rendered: String = contents.iter().map(|content| markers.wrap(content)).collect();
            let segments = markers.split(&rendered).unwrap();
            let joined: String = segments.iter().map(Segment::text).collect();
            prop_assert_eq!(joined, contents.concat());
        }
    }
}
