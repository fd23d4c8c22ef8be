//! Predictions for the corpus scorer: one JSON object with `id` and `text` per line in, one with `id` and
//! `preds` (`[start, end, type]` in characters) per line out.

use std::error::Error;
use std::io::{BufRead, Write};

use serde::Deserialize;
use synesis_privacy::Policy;

#[derive(Deserialize)]
struct Line {
    id: serde_json::Value,
    text: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let policy = Policy::standard()?;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let Line { id, text } = serde_json::from_str(&line?)?;
        let characters = |byte: usize| text[..byte].chars().count();
        let spans = policy.preview(&text)?.spans;
        let preds: Vec<_> = spans
            .iter()
            .map(|span| (characters(span.start), characters(span.end), span.kind.as_str()))
            .collect();
        writeln!(out, "{}", serde_json::json!({ "id": id, "preds": preds }))?;
    }
    Ok(())
}
