//! The two streams of a command: data to standard output, as JSON lines or text for people; messages and errors
//! to standard error.

use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncWriteExt, Stdout};
use tonic::Streaming;

use crate::deadline;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::reader::Reader;
use crate::view::{Style, View, printable};

/// Who reads standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Human,
    Json,
}

/// Whether messages beside the data are wanted. Errors always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verbosity {
    Normal,
    Quiet,
}

/// Where streamed text stands on its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cursor {
    LineStart,
    MidLine,
}

/// What standard output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sink {
    Terminal,
    Pipe,
}

/// Owns standard output. Each write is complete when its call returns: a reader sees data as it comes.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: Stdout,
    format: Format,
    verbosity: Verbosity,
    style: Style,
    sink: Sink,
    cursor: Cursor,
    /// Watched from the first streamed message on.
    reader: Option<Reader>,
}

impl Output {
    pub(crate) fn new(format: Format, verbosity: Verbosity) -> Self {
        let stdout = std::io::stdout();
        let sink = if stdout.is_terminal() { Sink::Terminal } else { Sink::Pipe };
        let style = Style::of(&stdout);
        Self {
            stdout: tokio::io::stdout(),
            format,
            verbosity,
            style,
            sink,
            cursor: Cursor::LineStart,
            reader: None,
        }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// The next message of a stream that is printed as it comes.
    ///
    /// # Errors
    /// How the stream broke; [`Failure::ReaderLeft`] as soon as nobody would see the message any more.
    pub(crate) async fn next<T>(&mut self, stream: &mut Streaming<T>) -> Result<Option<T>, Failure> {
        let reader = self.reader.get_or_insert_with(Reader::of_stdout);
        tokio::select! {
            biased;
            message = stream.message() => Ok(message?),
            () = reader.left() => Err(Failure::ReaderLeft),
        }
    }

    /// Prints one value.
    pub(crate) async fn print(&mut self, view: &impl View) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json([view]).await,
            Format::Human => {
                let text = view.human(self.style);
                self.text(&text).await?;
                self.end_line().await;
                Ok(())
            }
        }
    }

    /// Prints the next of a series of snapshots: a terminal shows only the newest.
    pub(crate) async fn refresh(&mut self, view: &impl View) -> Result<(), Failure> {
        if (self.format, self.sink) == (Format::Human, Sink::Terminal) {
            self.write(b"\x1b[H\x1b[2J").await?;
        }
        self.print(view).await
    }

    /// Prints values as JSON, one per line, in one write.
    pub(crate) async fn json<T: Serialize>(
        &mut self,
        values: impl IntoIterator<Item = T>,
    ) -> Result<(), Failure> {
        let mut lines = Vec::new();
        for value in values {
            serde_json::to_writer(&mut lines, &value)
                .map_err(|cause| Failure::Protocol(format!("it does not serialize: {cause}")))?;
            lines.push(b'\n');
        }
        self.write(&lines).await
    }

    /// Streams a piece of text: into a pipe as it is, to a terminal without its control characters.
    pub(crate) async fn text(&mut self, text: &str) -> Result<(), Failure> {
        let Some(last) = text.chars().next_back() else { return Ok(()) };
        self.cursor = if last == '\n' { Cursor::LineStart } else { Cursor::MidLine };
        match self.sink {
            Sink::Terminal => self.write(printable(text).as_bytes()).await,
            Sink::Pipe => self.write(text.as_bytes()).await,
        }
    }

    /// Ends the line of streamed text, when one is open.
    pub(crate) async fn end_line(&mut self) {
        if self.cursor == Cursor::MidLine {
            self.cursor = Cursor::LineStart;
            // Whoever wrote the text got its error; for the newline alone nobody needs a second one.
            let _ = self.write(b"\n").await;
        }
    }

    /// Bytes for standard output: generated files such as completions.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stdout.write_all(bytes).await.map_err(Failure::of_write)?;
        self.stdout.flush().await.map_err(Failure::of_write)
    }

    /// Whether messages beside the data are wanted.
    pub(crate) fn wants_notes(&self) -> bool {
        self.verbosity == Verbosity::Normal && self.format == Format::Human
    }

    /// A message beside the data, unless `--quiet` or `--json`.
    pub(crate) fn note(&self, text: &str) {
        if self.verbosity == Verbosity::Normal && self.format == Format::Human {
            to_stderr(&Style::of(&std::io::stderr()).faint(&printable(text)));
        }
    }

    /// A line beside the data that replaces itself while something is on its way: on a terminal only, unless `--quiet`
    /// or `--json`. Nothing removes it.
    pub(crate) fn progress(&self, text: &str) {
        let stderr = std::io::stderr();
        if self.verbosity == Verbosity::Normal && self.format == Format::Human && stderr.is_terminal() {
            // When standard error is closed, nobody watches.
            let _ = write!(&stderr, "\r\x1b[K{}", Style::of(&stderr).faint(&printable(text)));
        }
    }

    /// Tells what went wrong and what to do, on standard error. Returns the exit code.
    pub(crate) fn report(&self, failure: &Failure) -> Exit {
        if !matches!(failure, Failure::ReaderLeft) {
            let message = failure.to_string();
            let next = Next { step: failure.next_step(), retry_after: failure.retry_after() };
            report(self.format, failure.exit(), failure.reason(), &message, next);
        }
        failure.exit()
    }
}

/// What to do about an error, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Next<'a> {
    pub(crate) step: &'a str,
    /// Only of a refusal that passes by itself.
    pub(crate) retry_after: Option<Duration>,
}

impl<'a> From<&'a str> for Next<'a> {
    fn from(step: &'a str) -> Self {
        Self { step, retry_after: None }
    }
}

/// One error in the form the reader asked for.
pub(crate) fn report<'a>(format: Format, exit: Exit, reason: &str, message: &str, next: impl Into<Next<'a>>) {
    let next = next.into();
    #[derive(Serialize)]
    struct ErrorObject<'a> {
        r#type: &'static str,
        schema: &'static str,
        reason: &'a str,
        message: &'a str,
        next_step: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u128>,
        exit_code: u8,
    }
    let object = ErrorObject {
        r#type: "error",
        schema: "synesis.error/1",
        reason,
        message,
        next_step: next.step,
        retry_after_ms: next.retry_after.map(|time| time.as_millis()),
        exit_code: exit.code(),
    };
    let style = Style::of(&std::io::stderr());
    match (format, serde_json::to_string(&object)) {
        (Format::Json, Ok(line)) => to_stderr(&line),
        _ => {
            to_stderr(&format!("{} {}", style.error("error:"), printable(message)));
            to_stderr(&format!("{} {}", style.strong("next:"), printable(next.step)));
            if let Some(time) = next.retry_after {
                to_stderr(&format!("{} in {}", style.strong("retry:"), deadline::display(time)));
            }
        }
    }
}

/// Standard error is the last resort: when it is closed there is nobody left to tell, and the exit code stands.
fn to_stderr(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
