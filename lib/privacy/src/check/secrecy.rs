//! Does a text look like a secret, or like what people write where a secret would stand?

/// What stands in examples, schemas and code instead of a value, in lower case.
const STAND_INS: &[&str] = &[
    "true",
    "false",
    "null",
    "none",
    "nil",
    "undefined",
    "string",
    "str",
    "text",
    "bool",
    "boolean",
    "int",
    "number",
    "bytes",
    "char",
    "varchar",
    "u32",
    "u64",
    "i32",
    "i64",
    "usize",
    "required",
    "optional",
    "redacted",
    "hidden",
    "masked",
    "empty",
    "unset",
    "prompt",
    "protected",
    "incorrect",
    "invalid",
    "expired",
    "wrong",
    "missing",
    "option",
    "any",
    "object",
    "input",
    "await",
    "async",
    "new",
    "self",
    "lambda",
    "function",
    "field",
    "value",
    "todo",
    "tbd",
    "n/a",
    "changed",
    "reset",
    "here",
    "not",
    "the",
    "secretstr",
    "process.env",
    "never",
    "always",
    "this",
    "that",
    "auth",
    "basic",
    "bearer",
    "jwt",
    "oauth",
    "oauth2",
    "csrf",
];
/// Calls and lookups that read a value from somewhere else.
const LOOKUPS: &[&str] = &[
    "environ[",
    "environ.",
    "process.env",
    "getenv",
    "secrets.",
    "config.",
    "settings.",
    "vault:",
    "os.env",
];

/// Whether `text` holds the place of a value by a word or a lookup that says so, or [by its shape](is_mask).
pub(crate) fn is_stand_in(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    is_mask(text)
        || is_call(text.as_bytes())
        || is_constant(text.as_bytes())
        || STAND_INS.contains(&lower.as_str())
        || LOOKUPS.iter().any(|lookup| lower.contains(lookup))
        || is_example(text)
}

/// `your_api_key`, `MY-PASSWORD`: whose value would stand there, in one case and without a digit.
fn is_example(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let plain = text.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'-' | b'_'));
    let one_case = text == lower || text == text.to_ascii_uppercase();
    let whose = match lower.split(['-', '_']).next() {
        Some("your") => true,
        Some("my") => ["pass", "pwd", "key", "secret", "token", "value", "name", "user", "cred", "string"]
            .iter()
            .any(|word| lower.contains(word)),
        _ => false,
    };
    plain && one_case && whose && lower.contains(['-', '_'])
}

/// Whether `text` is a mask or a variable: stars, `<redacted>`, `${NAME}`, `$NAME`.
pub(crate) fn is_mask(text: &str) -> bool {
    let bytes = text.as_bytes();
    // A row of one digit is a password that people choose.
    let same = bytes.first().is_none_or(|first| !first.is_ascii_digit() && bytes.iter().all(|b| b == first));
    same || bytes.iter().all(|b| matches!(b, b'*' | b'x' | b'X' | b'.' | b'-' | b'_' | b'#'))
        || !text.chars().any(char::is_alphanumeric)
        || (text.starts_with('<') && text.ends_with('>'))
        || (text.starts_with('[') && text.ends_with(']'))
        || ["${", "$(", "{{", "%(", "#{", "<%"].iter().any(|open| text.starts_with(open))
        || is_variable(bytes)
        || is_slot(bytes)
}

/// `REPLACE_ME`, `DB_PASSWORD`, `AUTH_802_11_MODE`: the name of a constant. One with a number has a word to it.
fn is_constant(bytes: &[u8]) -> bool {
    let mut words = bytes.split(|b| *b == b'_');
    let capitals = |word: &[u8]| word.len() >= 2 && word.iter().all(u8::is_ascii_uppercase);
    let number = |word: &[u8]| !word.is_empty() && word.len() <= 3 && word.iter().all(u8::is_ascii_digit);
    let spelled = bytes.split(|b| *b == b'_').any(|word| word.len() >= 4);
    let spelled = spelled || !bytes.iter().any(u8::is_ascii_digit);
    spelled
        && bytes.contains(&b'_')
        && words.next().is_some_and(capitals)
        && words.all(|word| capitals(word) || number(word))
}

/// `{name}`, `{err:?}` of a format string.
fn is_slot(bytes: &[u8]) -> bool {
    let inside = |b: &[u8]| b.iter().all(|b| b.is_ascii_alphabetic() || b"_.:?#".contains(b));
    matches!(bytes, [b'{', name @ .., b'}'] if inside(name))
}

/// `$NAME` of a shell, `%NAME%` of a command prompt.
fn is_variable(bytes: &[u8]) -> bool {
    let name = |b: &[u8]| !b.is_empty() && b.iter().all(|b| b.is_ascii_uppercase() || *b == b'_');
    match bytes {
        [b'$', rest @ ..] => name(rest),
        [b'%', rest @ .., b'%'] => name(rest),
        _ => false,
    }
}

/// `word(`, `a.word(...)`: code that yields the value.
fn is_call(bytes: &[u8]) -> bool {
    let head =
        bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':')).count();
    // `Winter(2024)!` ends like no call.
    let tail = bytes.iter().rposition(|b| *b == b')').and_then(|close| bytes.get(close + 1));
    let ends = tail.is_none_or(|b| b".?;,[:)]}".contains(b));
    head > 1 && bytes.get(head) == Some(&b'(') && bytes[0].is_ascii_alphabetic() && ends
}

/// Shannon entropy in bits a byte.
pub(crate) fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let total = bytes.len() as f64;
    counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / total).map(|p| -p * p.log2()).sum()
}

/// Whether `text` could be a machine-made secret: at least 12 bytes of a key's alphabet, letters and digits
/// mixed, and about as much entropy as random text of its length has.
pub(crate) fn is_random(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < 12 || !bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"+/=_-.~:!@#$%^&*".contains(b))
    {
        return false;
    }
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    let upper = bytes.iter().any(u8::is_ascii_uppercase);
    let lower = bytes.iter().any(u8::is_ascii_lowercase);
    // Random text without a digit is rare from this length on; names in code without one are not.
    let mixed = digits > 0 && (upper || lower) && !text.contains("::");
    let hex = bytes.iter().all(|b| b.is_ascii_hexdigit() || *b == b'-');
    let enough = if hex { 2.7 } else { 3.2 };
    mixed && digits < bytes.len() && entropy(bytes) >= enough
}

/// Whether `text` reads like a chosen password rather than a word of a sentence: a digit or an unusual symbol
/// among letters.
pub(crate) fn is_chosen(text: &str) -> bool {
    let bytes = text.as_bytes();
    let symbol = bytes.iter().any(|b| b"!@#$%^&*+=?~_|".contains(b));
    let digit = bytes.iter().any(u8::is_ascii_digit);
    bytes.len() >= 6 && text.chars().any(char::is_alphabetic) && (digit || symbol)
}

/// Whether `text` cannot be an ordinary word: [chosen](is_chosen), with a digit, or with letters of both cases
/// and a symbol that prose does not use.
pub(crate) fn is_strong(text: &str) -> bool {
    let has = |class: fn(&u8) -> bool| text.bytes().any(|b| class(&b));
    let symbol =
        has(|b| b"@#$%^&*+~_".contains(b)) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
    is_chosen(text) && (has(u8::is_ascii_digit) || symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_a_value_is_no_value() {
        for text in [
            "********",
            "xxxx-xxxx",
            "<redacted>",
            "${DB_PASS}",
            "$DB_PASS",
            "%PASS%",
            "null",
            "String",
            "os.environ['X']",
            "getPassword()",
            "your_api_key",
            "{{ pass }}",
            "...",
            "",
        ] {
            assert!(is_stand_in(text), "{text}");
        }
        for text in ["hunter2", "P@ss(word)1", "correct-horse", "$ecret1", "xX9"] {
            assert!(!is_stand_in(text), "{text}");
        }
    }

    #[test]
    fn machine_made_secrets_have_entropy_and_identifiers_do_not() {
        for text in
            ["04b58a4f6c2ec03f6afa189f0179a2ed", "-rAip0_ZopZO5dawNAAhhYqy", "p9xTR3LKNwNFENZom00E58nf"]
        {
            assert!(is_random(text), "{text}");
        }
        for text in ["aaaaaaaaaaaaaaa1", "request_timeout", "123456789012345", "short1", "not a secret 12"] {
            assert!(!is_random(text), "{text}");
        }
    }
}
