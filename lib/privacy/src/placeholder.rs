//! The shape of a placeholder, `[EMAIL_7F3K]`: how one is made, and how one is recognised in a text that may
//! end in the middle of it. Redaction and restoring share this one definition, so what the restorer would
//! replace is exactly what redaction hides when a user typed it.

use rand::RngExt;

use crate::kind::Kind;

/// Letters and digits of a number, without the look-alikes 0/O and 1/I.
const ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
/// Numbers we make have this many characters ...
pub(crate) const NUMBER_LEN: usize = 4;
/// ... or up to this many, when a session has used up the short ones; longer is no placeholder.
pub(crate) const MAX_NUMBER_LEN: usize = 8;

/// A placeholder for `kind` with `len` random characters, at least one digit and one letter among them: a
/// counted-up number that a model invents, `[EMAIL_0002]`, can never be one of ours.
pub(crate) fn invent(kind: Kind, len: usize, rng: &mut impl RngExt) -> String {
    loop {
        let number: String =
            (0..len).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect();
        let digits = number.bytes().filter(u8::is_ascii_digit).count();
        if digits > 0 && digits < number.len() {
            return format!("[{kind}_{number}]");
        }
    }
}

/// What the text after a `[` is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A whole placeholder of this many bytes.
    Whole(usize),
    /// The text ends before this can be told.
    Unfinished,
    /// Something else.
    Other,
}

/// Longer than any kind with its number.
const MAX_NAME: usize = 48;

/// Looks at `text`, which starts with `[`: a known kind in any case, `_`, one to eight ASCII letters or digits
/// with at least one digit (so that `env[API_KEY_NAME]` in code is none), `]`. Each `_` may be escaped as Markdown
/// does, `\_`.
pub(crate) fn shape(text: &[u8]) -> Shape {
    let Some((b'[', body)) = text.split_first() else { return Shape::Other };
    let (mut name, mut len, mut at) = ([0; MAX_NAME], 0, 0);
    while let Some(byte) = body.get(at) {
        let (byte, width) = match (byte, body.get(at + 1)) {
            (b'\\', Some(b'_')) => (b'_', 2),
            (b'\\', None) => (b'_', 1),
            (byte, _) => (*byte, 1),
        };
        if byte != b'_' && !byte.is_ascii_alphanumeric() {
            break;
        }
        let Some(place) = name.get_mut(len) else { return Shape::Other };
        *place = byte;
        len += 1;
        at += width;
    }
    let name = &name[..len];
    match body.get(at) {
        None if could_become_one(name) => Shape::Unfinished,
        Some(b']') if is_one(name) => Shape::Whole(at + 2),
        _ => Shape::Other,
    }
}

fn is_one(name: &[u8]) -> bool {
    let Some(cut) = name.iter().rposition(|b| *b == b'_') else { return false };
    let (kind, number) = (&name[..cut], &name[cut + 1..]);
    (1..=MAX_NUMBER_LEN).contains(&number.len())
        && number.iter().any(u8::is_ascii_digit)
        && Kind::ALL.iter().any(|k| k.as_str().as_bytes().eq_ignore_ascii_case(kind))
}

fn could_become_one(name: &[u8]) -> bool {
    Kind::ALL.iter().any(|k| {
        let kind = k.as_str().as_bytes();
        if name.len() <= kind.len() {
            return kind[..name.len()].eq_ignore_ascii_case(name);
        }
        let (head, tail) = name.split_at(kind.len());
        head.eq_ignore_ascii_case(kind)
            && tail[0] == b'_'
            && tail.len() <= 1 + MAX_NUMBER_LEN
            && !tail[1..].contains(&b'_')
    })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn every_invented_placeholder_has_the_shape_and_fits_in_48_bytes() {
        let mut rng = StdRng::seed_from_u64(1);
        for kind in Kind::ALL {
            for len in [NUMBER_LEN, MAX_NUMBER_LEN] {
                let text = invent(*kind, len, &mut rng);
                assert_eq!(shape(text.as_bytes()), Shape::Whole(text.len()), "{text}");
                assert!(text.len() <= 48);
            }
        }
    }

    #[test]
    fn every_beginning_of_a_placeholder_is_unfinished() {
        for text in [&b"[db_connection_7f3k]"[..], br"[DB\_CONNECTION\_7F3K]"] {
            for cut in 1..text.len() {
                assert_eq!(shape(&text[..cut]), Shape::Unfinished, "cut at {cut}");
            }
            assert_eq!(shape(text), Shape::Whole(text.len()));
        }
    }

    #[test]
    fn other_brackets_are_told_apart_at_once() {
        for text in [
            "[x",
            "[EMAIL]",
            "[EMAIL_]",
            "[EMAIL_ABCD]",
            "[API_KEY_NAME]",
            "[EMAIL_123456789",
            "[E-",
            r"[EMAIL\x",
            r"[EMAIL\\_7",
        ] {
            assert_eq!(shape(text.as_bytes()), Shape::Other, "{text}");
        }
    }
}
