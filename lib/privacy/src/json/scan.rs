//! Reads JSON strictly (RFC 8259) without building a tree of it: where each key, string and number stands, what it
//! says, and which names announce it. What is replaced is then replaced in place, and the rest stays as it was,
//! byte for byte.

/// Containers inside each other; deeper JSON is not read.
const MAX_DEPTH: usize = 64;

/// Members that hold the value of what is named elsewhere: by the object's own key, or by a member of [`NAMES`].
const VALUES: &[&str] =
    &["value", "values", "val", "default", "const", "enum", "example", "examples", "data", "content", "text"];
/// Members that name what their object holds.
const NAMES: &[&str] = &["name", "key", "label", "field", "header", "param", "variable"];

/// Why a text is not read as JSON. It shows nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotJson {
    /// It is none.
    #[error("it is not JSON (byte {at})")]
    Syntax {
        /// Where reading ended, in bytes.
        at: usize,
    },
    /// Nobody writes this by hand, and no provider reads it.
    #[error("it is nested too deeply")]
    TooDeep,
}

/// What a leaf is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Key,
    Text,
    Number,
}

/// A key, a string or a number.
#[derive(Debug)]
pub(super) struct Leaf {
    /// In the text, a string's quotes included.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) sort: Sort,
    /// Without quotes and escapes; a number as it is written.
    pub(super) text: String,
    /// The key it stands under: an element of a list stands under the list's.
    key: Option<usize>,
    /// The object it is in, through lists.
    object: Option<usize>,
    /// Containers around it.
    pub(super) depth: usize,
}

/// An object, once it has been seen.
#[derive(Debug)]
struct Object {
    key: Option<usize>,
    name: Option<usize>,
}

/// The leaves of a text, in its order.
#[derive(Debug)]
pub(super) struct Leaves {
    pub(super) all: Vec<Leaf>,
    objects: Vec<Object>,
}

impl Leaves {
    /// The text of the key that `leaf` stands under.
    pub(super) fn key(&self, leaf: &Leaf) -> Option<&str> {
        leaf.key.and_then(|key| self.all.get(key)).map(|key| key.text.as_str())
    }

    /// The names that say what `leaf` is, nearest first.
    pub(super) fn labels(&self, leaf: &Leaf) -> Vec<&str> {
        let text = |index: usize| self.all.get(index).map(|leaf| leaf.text.as_str());
        let Some(key) = leaf.key.and_then(text) else { return Vec::new() };
        if leaf.sort == Sort::Key {
            return Vec::new();
        }
        let mut labels = vec![key];
        let object = leaf.object.and_then(|object| self.objects.get(object));
        if let Some(Object { key, name }) = object
            && VALUES.iter().any(|value| text_is(labels[0], value))
        {
            labels.extend(name.and_then(text));
            labels.extend(key.and_then(text));
        }
        labels
    }
}

fn text_is(text: &str, word: &str) -> bool {
    text.eq_ignore_ascii_case(word)
}

/// Reads the whole of `text`.
pub(super) fn scan(text: &str) -> Result<Leaves, NotJson> {
    let mut scanner = Scanner {
        text,
        at: 0,
        open: Vec::new(),
        key: None,
        found: Leaves { all: Vec::new(), objects: Vec::new() },
    };
    scanner.document()?;
    Ok(scanner.found)
}

/// A container that is not closed yet.
enum Open {
    Object(usize),
    List { key: Option<usize>, object: Option<usize> },
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    CommaOrEnd,
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
    open: Vec<Open>,
    /// Of the member whose value comes next.
    key: Option<usize>,
    found: Leaves,
}

impl Scanner<'_> {
    fn document(&mut self) -> Result<(), NotJson> {
        let mut next = Next::Value;
        loop {
            self.blanks();
            let byte = self.byte().ok_or_else(|| self.wrong())?;
            next = match (next, byte) {
                (Next::Value | Next::ValueOrEnd, b'{') => {
                    self.enter(true)?;
                    Next::KeyOrEnd
                }
                (Next::Value | Next::ValueOrEnd, b'[') => {
                    self.enter(false)?;
                    Next::ValueOrEnd
                }
                (Next::ValueOrEnd | Next::CommaOrEnd, b']')
                    if matches!(self.open.last(), Some(Open::List { .. })) =>
                {
                    self.leave()
                }
                (Next::KeyOrEnd | Next::CommaOrEnd, b'}')
                    if matches!(self.open.last(), Some(Open::Object(_))) =>
                {
                    self.leave()
                }
                (Next::Value | Next::ValueOrEnd, _) => self.scalar(byte)?,
                (Next::Key | Next::KeyOrEnd, b'"') => self.member()?,
                (Next::CommaOrEnd, b',') => {
                    self.at += 1;
                    match self.open.last() {
                        Some(Open::Object(_)) => Next::Key,
                        _ => Next::Value,
                    }
                }
                _ => return Err(self.wrong()),
            };
            if self.open.is_empty() {
                self.blanks();
                return if self.at == self.text.len() { Ok(()) } else { Err(self.wrong()) };
            }
        }
    }

    fn enter(&mut self, object: bool) -> Result<(), NotJson> {
        if self.open.len() >= MAX_DEPTH {
            return Err(NotJson::TooDeep);
        }
        self.at += 1;
        let (key, around) = self.place();
        self.open.push(if object {
            self.found.objects.push(Object { key, name: None });
            Open::Object(self.found.objects.len() - 1)
        } else {
            Open::List { key, object: around }
        });
        self.key = None;
        Ok(())
    }

    fn leave(&mut self) -> Next {
        self.at += 1;
        self.open.pop();
        Next::CommaOrEnd
    }

    /// The key and the object that the value which comes now stands under.
    fn place(&self) -> (Option<usize>, Option<usize>) {
        match self.open.last() {
            Some(Open::Object(object)) => (self.key, Some(*object)),
            Some(Open::List { key, object }) => (*key, *object),
            None => (None, None),
        }
    }

    fn member(&mut self) -> Result<Next, NotJson> {
        let start = self.at;
        let text = self.string()?;
        self.key = Some(self.leaf(start, Sort::Key, text));
        self.blanks();
        if self.byte() != Some(b':') {
            return Err(self.wrong());
        }
        self.at += 1;
        Ok(Next::Value)
    }

    fn scalar(&mut self, first: u8) -> Result<Next, NotJson> {
        let start = self.at;
        match first {
            b'"' => {
                let text = self.string()?;
                let leaf = self.leaf(start, Sort::Text, text);
                self.name_object(leaf);
            }
            b'-' | b'0'..=b'9' => {
                self.number()?;
                let text = self.text[start..self.at].to_owned();
                self.leaf(start, Sort::Number, text);
            }
            _ => {
                let rest = &self.text.as_bytes()[start..];
                let word = ["true", "false", "null"].into_iter().find(|w| rest.starts_with(w.as_bytes()));
                self.at += word.ok_or_else(|| self.wrong())?.len();
            }
        }
        Ok(Next::CommaOrEnd)
    }

    fn leaf(&mut self, start: usize, sort: Sort, text: String) -> usize {
        let (key, object) = self.place();
        let key = key.filter(|_| sort != Sort::Key);
        let depth = self.open.len();
        self.found.all.push(Leaf { start, end: self.at, sort, text, key, object, depth });
        self.found.all.len() - 1
    }

    /// Remembers a member such as `"name": "password"` for its object.
    fn name_object(&mut self, leaf: usize) {
        let Some(Open::Object(object)) = self.open.last() else { return };
        let key = self.key.and_then(|key| self.found.all.get(key));
        let names = key.is_some_and(|key| NAMES.iter().any(|name| text_is(&key.text, name)));
        if let (true, Some(object)) = (names, self.found.objects.get_mut(*object)) {
            object.name = Some(leaf);
        }
    }

    /// From the opening quote to behind the closing one.
    fn string(&mut self) -> Result<String, NotJson> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let plain = self.at;
            while self.byte().is_some_and(|b| b >= b' ' && b != b'"' && b != b'\\') {
                self.at += 1;
            }
            out.push_str(&self.text[plain..self.at]);
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                _ => return Err(self.wrong()),
            }
        }
    }

    fn escape(&mut self) -> Result<char, NotJson> {
        let named = self.text.as_bytes().get(self.at + 1).ok_or_else(|| self.wrong())?;
        self.at += 2;
        Ok(match named {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let mut units = [self.hex()?, 0];
                let mut len = 1;
                if (0xd800..0xdc00).contains(&units[0]) && self.text[self.at..].starts_with("\\u") {
                    self.at += 2;
                    (units[1], len) = (self.hex()?, 2);
                }
                // Half of a pair stands for nothing that could be looked at.
                let mut read = char::decode_utf16(units.into_iter().take(len));
                match (read.next(), read.next()) {
                    (Some(Ok(c)), None) => c,
                    _ => return Err(self.wrong()),
                }
            }
            _ => return Err(self.wrong()),
        })
    }

    fn hex(&mut self) -> Result<u16, NotJson> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or_else(|| self.wrong())?;
        let hex = std::str::from_utf8(digits).ok().filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = hex.and_then(|hex| u16::from_str_radix(hex, 16).ok()).ok_or_else(|| self.wrong())?;
        self.at += 4;
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), NotJson> {
        self.skip(b"-");
        let zero = self.byte() == Some(b'0');
        let whole = self.digits()?;
        if zero && whole > 1 {
            return Err(self.wrong());
        }
        if self.skip(b".") {
            self.digits()?;
        }
        if self.skip(b"eE") {
            self.skip(b"+-");
            self.digits()?;
        }
        Ok(())
    }

    /// At least one.
    fn digits(&mut self) -> Result<usize, NotJson> {
        let start = self.at;
        while self.byte().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.wrong()) } else { Ok(self.at - start) }
    }

    fn skip(&mut self, any: &[u8]) -> bool {
        let there = self.byte().is_some_and(|b| any.contains(&b));
        self.at += usize::from(there);
        there
    }

    fn blanks(&mut self) {
        while self.byte().is_some_and(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn wrong(&self) -> NotJson {
        NotJson::Syntax { at: self.at.min(self.text.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(json: &str) -> Vec<String> {
        scan(json).unwrap().all.into_iter().map(|leaf| leaf.text).collect()
    }

    #[test]
    fn escapes_are_read_as_what_they_stand_for() {
        assert_eq!(texts(r#" "ann\u0040\"\\\/\b\f\n\r\t\ud83d\ude00é" "#), ["ann@\"\\/\u{8}\u{c}\n\r\t😀é"]);
    }

    #[test]
    fn each_leaf_knows_its_place_and_what_announces_it() {
        let json = r#"{"a": [1, {"name": "pw", "value": "x"}], "b": {"default": -2.5e3}}"#;
        let leaves = scan(json).unwrap();
        let seen: Vec<_> = leaves
            .all
            .iter()
            .map(|leaf| (&json[leaf.start..leaf.end], leaves.labels(leaf).join("<"), leaf.depth))
            .filter(|(_, labels, _)| !labels.is_empty())
            .collect();
        let expected =
            [("1", "a", 2), ("\"pw\"", "name", 3), ("\"x\"", "value<pw<a", 3), ("-2.5e3", "default<b", 2)];
        assert_eq!(seen, expected.map(|(text, labels, depth)| (text, labels.to_owned(), depth)));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{a:1}",
            "[1 2]",
            "1 2",
            "[}",
            "{]",
            "01",
            "-",
            "1.",
            "1e",
            ".5",
            "+1",
            "tru",
            "nullx",
            "'a'",
            "\"a",
            "\"\u{1}\"",
            r#""\x""#,
            r#""\u12""#,
            r#""\u12é4""#,
            r#""\ud800""#,
            r#""\ud800\u0041""#,
            r#""\udc00""#,
            "\u{feff}1",
            "[1]]",
        ] {
            assert!(matches!(scan(text), Err(NotJson::Syntax { .. })), "{text}");
        }
    }

    #[test]
    fn depth_has_a_limit() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(scan(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(scan(&nested(MAX_DEPTH + 1)).err(), Some(NotJson::TooDeep));
    }
}
