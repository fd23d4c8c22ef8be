//! Private key blocks (PEM, OpenSSH, PGP), whole, with escaped line ends, or cut off.

use super::finding::{Evidence, Finding};
use super::view::View;
use crate::kind::Kind;

/// Longest first line.
const MAX_HEADER: usize = 80;
/// Longest block; the largest RSA keys in use take 13 KB.
const MAX_BLOCK: usize = 64 * 1024;

/// The block whose `-----BEGIN` is at `start`: to the end of its last line, or, where that is missing, to the end
/// of what looks like base64.
pub(super) fn at(view: &View<'_>, start: usize) -> Option<Finding> {
    let header = view.slice(start, start + MAX_HEADER);
    let label_end = header.get(10..)?.find("-----")? + 10;
    let label = header.get(10..label_end)?;
    let is_label = label.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ');
    if !is_label || !label.contains("PRIVATE KEY") {
        return None;
    }
    let body = start + label_end + 5;
    let rest = view.slice(body, body + MAX_BLOCK);
    let next = rest.find("-----");
    let end = match next {
        Some(dashes) if rest[dashes..].starts_with("-----END") => {
            let last = &rest[dashes + 8..];
            let close = last.find("-----").filter(|n| *n <= MAX_HEADER).map_or(0, |n| n + 5);
            body + dashes + 8 + close
        }
        // A first line alone, as in documentation, gives nothing away.
        _ => body + Some(truncated(&rest[..next.unwrap_or(rest.len())])).filter(|len| *len > 0)?,
    };
    Some(Finding { start, end, kind: Kind::PrivateKey, rule: "private-key-block", evidence: Evidence::Shape })
}

/// Bytes of `body` that still look like a key: lines of base64 and header lines, then at most one short rest.
fn truncated(body: &str) -> usize {
    let mut end = 0;
    for token in tokens(body) {
        let text = &body[token.clone()];
        let base64 =
            text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-' | b'_'));
        let header = text.ends_with(':') || text.contains(',') || text.starts_with('(');
        let random = text.len() >= 24 || (text.len() >= 3 && is_mixed(text));
        let belongs = (base64 && random) || (header && end == 0);
        if !belongs {
            break;
        }
        end = token.end;
    }
    end
}

fn is_mixed(text: &str) -> bool {
    let letters = text.bytes().any(|b| b.is_ascii_alphanumeric());
    let capital_inside = text.bytes().skip(1).any(|b| b.is_ascii_uppercase());
    letters && (capital_inside || text.bytes().any(|b| b.is_ascii_digit() || matches!(b, b'+' | b'/' | b'=')))
}

/// Runs between white space, where `\n` and `\r` written as two characters are white space too.
fn tokens(body: &str) -> impl Iterator<Item = std::ops::Range<usize>> {
    let bytes = body.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let escaped = bytes[at] == b'\\' && matches!(bytes.get(at + 1), Some(b'n' | b'r' | b't' | b'\\'));
            if escaped {
                at += 2;
            } else if bytes[at].is_ascii_whitespace() {
                at += 1;
            } else {
                break;
            }
        }
        let start = at;
        while at < bytes.len()
            && !bytes[at].is_ascii_whitespace()
            && !matches!(bytes[at], b'\\' | b'"' | b'\'')
        {
            at += 1;
        }
        (at > start).then_some(start..at)
    })
}

#[cfg(test)]
mod tests {
    use super::truncated;

    #[test]
    fn a_cut_off_block_ends_where_prose_begins() {
        let body = "\nMIIEowIBAAKCAQEAx7Qm1u2rC8d5y9aJ\nq3Zt9\nWhy does ssh reject it?";
        assert_eq!(&body[..truncated(body)], "\nMIIEowIBAAKCAQEAx7Qm1u2rC8d5y9aJ\nq3Zt9");
        assert_eq!(truncated(" is what the file starts with"), 0);
        assert_eq!(truncated("\\nMIIEowIBAAKCAQEAx7Qm1u2rC8d5y9aJ\""), 34);
    }
}
