//! A cluster: groups of digits with what people write between the groups of one number.

use crate::detect::view::View;

/// Groups looked at together; a longer row is cut into several clusters.
const MAX_GROUPS: usize = 12;
/// Digits looked at together; no rule here knows a longer number.
pub(super) const MAX_DIGITS: usize = 20;

/// Up to twelve groups of digits. Positions are bytes in the text.
pub(super) struct Cluster {
    groups: [(usize, usize); MAX_GROUPS],
    len: usize,
}

impl Cluster {
    /// The cluster whose first digit is at `start`.
    pub(super) fn at(view: &View<'_>, start: usize) -> Self {
        let mut cluster = Self { groups: [(0, 0); MAX_GROUPS], len: 0 };
        let mut next = Some(start);
        while let (Some(start), true) = (next, cluster.len < MAX_GROUPS) {
            let end = view.run(start, usize::MAX, |b| b.is_ascii_digit());
            cluster.groups[cluster.len] = (start, end);
            cluster.len += 1;
            next = separator(view, end).map(|width| end + width);
        }
        cluster
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The groups from number `first` on.
    pub(super) fn from(&self, first: usize) -> &[(usize, usize)] {
        self.groups[..self.len].get(first..).unwrap_or_default()
    }

    /// One past the last digit.
    pub(super) fn end(&self) -> usize {
        self.from(0).last().map_or(0, |group| group.1)
    }
}

/// Bytes between two groups at `at`, when a digit follows them.
fn separator(view: &View<'_>, at: usize) -> Option<usize> {
    const SEPARATORS: &[&str] = &[
        ") ", " (", ")-", "-(", ")", "(", " ", "-", ".", "/", "\u{a0}", "\u{202f}", "\u{2009}", "\u{2011}",
        "\u{2010}", "\u{2013}",
    ];
    let rest = view.bytes.get(at..)?;
    SEPARATORS
        .iter()
        .map(|text| text.as_bytes())
        .find(|text| rest.starts_with(text) && rest.get(text.len()).is_some_and(u8::is_ascii_digit))
        .map(<[u8]>::len)
}

/// The digits of `groups`, or `None` when there are more than any number has.
pub(super) fn digits<'b>(
    view: &View<'_>,
    groups: &[(usize, usize)],
    buffer: &'b mut [u8; MAX_DIGITS],
) -> Option<&'b [u8]> {
    let mut len = 0;
    for (start, end) in groups {
        let digits = view.bytes.get(*start..*end)?;
        buffer.get_mut(len..len + digits.len())?.copy_from_slice(digits);
        len += digits.len();
    }
    buffer.get(..len)
}

/// Lengths of the groups, zero-padded.
pub(super) fn lengths(groups: &[(usize, usize)]) -> [usize; 6] {
    let mut lengths = [0; 6];
    for (length, (start, end)) in lengths.iter_mut().zip(groups) {
        *length = end - start;
    }
    lengths
}

/// Whether every gap between `groups` is exactly `text`.
pub(super) fn all_gaps(view: &View<'_>, groups: &[(usize, usize)], text: &str) -> bool {
    groups.windows(2).all(|pair| view.slice(pair[0].1, pair[1].0) == text)
}

/// Whether the number from `start` to `end` stands alone: no letter, and no `-` or `/` that ties it to one.
pub(super) fn stands_alone(view: &View<'_>, start: usize, end: usize) -> bool {
    let tied = |sign: Option<u8>, next: Option<u8>| {
        matches!(sign, Some(b'-' | b'/' | b'.')) && next.is_some_and(|b| b.is_ascii_alphanumeric())
    };
    let ahead = start.checked_sub(2).and_then(|i| view.byte(i));
    view.opens(start)
        && view.closes(end)
        && !tied(view.before(start), ahead)
        && !(tied(view.byte(end), view.byte(end + 1)) && view.byte(end) != Some(b'.'))
        && !matches!(view.before(start), Some(b'#' | b'$'))
}
