//! What a command shows: one value that serializes to the contract's JSON and renders itself for people.

use std::borrow::Cow;
use std::io::IsTerminal;

use serde::Serialize;

/// Data that a command prints. Serialized with `--json`, rendered otherwise.
pub(crate) trait View: Serialize {
    /// The text for people, without a newline at its end.
    fn human(&self, style: Style) -> String;
}

/// Whether text for people may carry colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Coloured,
}

impl Style {
    /// Coloured only on a terminal that can show it, and never against `NO_COLOR` (see no-color.org).
    pub(crate) fn of(stream: &impl IsTerminal) -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        match stream.is_terminal() && !dumb && set("NO_COLOR").is_none() {
            true => Self::Coloured,
            false => Self::Plain,
        }
    }

    /// A state's name in the colour of how good it is, padded to `width`.
    pub(crate) fn state(self, name: &str, width: usize) -> String {
        let code = match name {
            "ready" | "up" | "local" | "cloud" => "32",
            "failed" | "revoked" | "refuse" => "31",
            "none" | "stopped" => "2",
            _ => "33",
        };
        self.paint(code, &format!("{name:width$}"))
    }

    /// Text that is worth a second look.
    pub(crate) fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Text that matters less.
    pub(crate) fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Text that says all is well.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// The word that opens an error, or says that something is broken.
    pub(crate) fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// protobuf's empty string, where it stands for "there is none".
pub(crate) fn present(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Text from elsewhere (a model's answer, say) made safe for a terminal: control characters could move the
/// cursor, retitle the window or fake a prompt. Colours are harmless and stay.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let taken = match colour_length(rest) {
            Some(length) => rest.get(..length).unwrap_or(rest),
            None => rest.get(..next.len_utf8()).unwrap_or(rest),
        };
        match taken.len() > next.len_utf8() || harmless(next) {
            true => safe.push_str(taken),
            false => safe.push(char::REPLACEMENT_CHARACTER),
        }
        rest = rest.get(taken.len()..).unwrap_or_default();
    }
    Cow::Owned(safe)
}

fn harmless(c: char) -> bool {
    !c.is_control() || c == '\n' || c == '\t'
}

/// The length of the colour sequence (`ESC [ digits ; ... m`) that `text` starts with.
fn colour_length(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters.get(end..)?.starts_with('m').then_some("\x1b[".len() + end + 1)
}

/// Rows in columns, each as wide as its widest cell; the last column is not padded.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]], style: Style) -> String {
    let head = head.map(str::to_owned);
    let width = |column: usize| {
        rows.iter().chain([&head]).filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or_default());
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![style.faint(&line(&head))];
    lines.extend(rows.iter().map(line));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_in_an_answer_do_not_reach_the_terminal() {
        assert_eq!(printable("\x1b]0;owned\x07 hi\r"), "\u{fffd}]0;owned\u{fffd} hi\u{fffd}");
        assert_eq!(printable("\x1b[31mred\x1b[0m \x1b[2J"), "\x1b[31mred\x1b[0m \u{fffd}[2J");
        assert!(matches!(printable("two\nlines\tand ümlauts"), Cow::Borrowed(_)));
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "1".to_owned()], ["longer".to_owned(), "2".to_owned()]];
        assert_eq!(table(["NAME", "N"], &rows, Style::Plain), "NAME    N\na       1\nlonger  2");
    }

    #[test]
    fn plain_text_has_no_escape_codes() {
        assert_eq!(Style::Plain.state("ready", 8), "ready   ");
        assert_eq!(Style::Coloured.state("ready", 5), "\x1b[32mready\x1b[0m");
    }
}
