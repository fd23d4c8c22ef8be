//! One row per promise, as a table for people and as `target/bench/NAME.json` for programs.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What a row promises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// `ours / peer` is this or more.
    RatioAtLeast(f64),
    /// `ours / peer` is this or less.
    RatioAtMost(f64),
    /// `ours` is below this, in the row's unit.
    Under(f64),
    /// Nothing is promised; the figure is there to understand the others.
    Shown,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What was measured, and over how many repetitions.
    pub what: String,
    /// The measured value.
    pub ours: f64,
    /// What it is compared with; none: that could not be had.
    pub peer: Option<f64>,
    /// Who that is.
    pub peer_name: String,
    /// Of both values.
    pub unit: &'static str,
    /// The promise.
    pub goal: Goal,
}

impl Row {
    /// How many times the peer's value ours is.
    pub fn ratio(&self) -> Option<f64> {
        self.peer.filter(|peer| *peer != 0.0).map(|peer| self.ours / peer)
    }

    /// Whether the promise is kept; none: there was nothing to compare with.
    pub fn holds(&self) -> Option<bool> {
        match self.goal {
            Goal::RatioAtLeast(least) => self.ratio().map(|ratio| ratio >= least),
            Goal::RatioAtMost(most) => self.ratio().map(|ratio| ratio <= most),
            Goal::Under(limit) => Some(self.ours < limit),
            Goal::Shown => None,
        }
    }

    fn goal(&self) -> String {
        match self.goal {
            Goal::RatioAtLeast(least) => format!("ratio >= {least}"),
            Goal::RatioAtMost(most) => format!("ratio <= {most}"),
            Goal::Under(limit) => format!("< {limit} {}", self.unit),
            Goal::Shown => "-".to_owned(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what,
            "ours": rounded(self.ours),
            "peer": self.peer.map(rounded),
            "peer_name": self.peer_name,
            "unit": self.unit,
            "ratio": self.ratio().map(rounded),
            "goal": self.goal(),
            "holds": self.holds(),
        })
    }
}

/// The rows of one run on one machine.
#[derive(Debug)]
pub struct Report {
    machine: String,
    date: String,
    rows: Vec<Row>,
}

impl Report {
    /// An empty one, dated now.
    pub fn new(machine: String) -> Self {
        let date = OffsetDateTime::now_utc().replace_nanosecond(0).expect("zero is a nanosecond");
        Self { machine, date: date.format(&Rfc3339).expect("a date of this century"), rows: Vec::new() }
    }

    /// Adds a row and prints it, so that a long run shows where it is.
    pub fn add(&mut self, row: Row) {
        eprintln!("{}", line(&row));
        self.rows.push(row);
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut table = format!("{} · {}\n\n{}\n{}\n", self.machine, self.date, HEAD, RULE);
        for row in &self.rows {
            table.push_str(&line(row));
            table.push('\n');
        }
        table
    }

    /// Writes `folder/NAME.json` as a whole or not at all, and returns its path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let report = json!({ "machine": self.machine, "date": self.date, "rows": rows });
        let path = folder.join(format!("{name}.json"));
        let unfinished = folder.join(format!("{name}.json.part"));
        std::fs::create_dir_all(folder).expect("the folder of results");
        std::fs::write(&unfinished, format!("{report:#}\n")).expect("the results can be written");
        std::fs::rename(&unfinished, &path).expect("the same folder");
        path
    }
}

const HEAD: &str = "| what | ours | peer | unit | ratio | goal | holds | compared with |";
const RULE: &str = "|---|---|---|---|---|---|---|---|";

fn line(row: &Row) -> String {
    let or_none = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), short);
    let holds = match row.holds() {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "-",
    };
    format!(
        "| {} | {} | {} | {} | {} | {} | {holds} | {} |",
        row.what,
        short(row.ours),
        or_none(row.peer),
        row.unit,
        or_none(row.ratio()),
        row.goal(),
        row.peer_name,
    )
}

/// Three significant digits.
fn short(value: f64) -> String {
    let digits = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else if value.abs() >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.digits$}")
}

fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: f64, peer: Option<f64>, goal: Goal) -> Row {
        Row { what: "a thing".to_owned(), ours, peer, peer_name: "another".to_owned(), unit: "ms", goal }
    }

    #[test]
    fn a_ratio_holds_on_its_own_side_of_the_goal() {
        assert_eq!(row(97.0, Some(100.0), Goal::RatioAtLeast(0.97)).holds(), Some(true));
        assert_eq!(row(96.9, Some(100.0), Goal::RatioAtLeast(0.97)).holds(), Some(false));
        assert_eq!(row(105.0, Some(100.0), Goal::RatioAtMost(1.05)).holds(), Some(true));
        assert_eq!(row(106.0, Some(100.0), Goal::RatioAtMost(1.05)).holds(), Some(false));
    }

    #[test]
    fn a_limit_needs_no_peer_and_a_ratio_without_one_is_undecided() {
        assert_eq!(row(19.9, None, Goal::Under(20.0)).holds(), Some(true));
        assert_eq!(row(20.0, None, Goal::Under(20.0)).holds(), Some(false));
        assert_eq!(row(1.0, None, Goal::RatioAtLeast(1.0)).holds(), None);
    }

    #[test]
    fn a_figure_without_a_promise_keeps_none() {
        assert_eq!(row(1.0, Some(2.0), Goal::Shown).holds(), None);
        assert_eq!(row(1.0, Some(2.0), Goal::Shown).ratio(), Some(0.5));
    }

    #[test]
    fn the_file_has_the_keys_that_readers_expect_and_a_missing_peer_is_null() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = Report::new("a machine".to_owned());
        report.add(row(1.0, None, Goal::RatioAtLeast(1.0)));
        let path = report.write(folder.path(), "some");
        let read: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(read["machine"], "a machine");
        assert!(read["date"].as_str().is_some_and(|date| date.ends_with('Z')));
        let keys: Vec<&String> = read["rows"][0].as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), 8);
        for key in ["what", "ours", "peer", "peer_name", "unit", "ratio", "goal", "holds"] {
            assert!(keys.iter().any(|has| *has == key), "{key}");
        }
        assert!(read["rows"][0]["peer"].is_null() && read["rows"][0]["holds"].is_null());
    }
}
