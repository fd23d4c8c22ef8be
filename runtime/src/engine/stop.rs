//! Stop strings: the answer ends before the first of them, wherever the token borders are.

use super::EngineError;

const MOST: usize = 16;
const LONGEST: usize = 256;

/// Every piece of text is compared with every stop string, so both number and length are bounded.
pub(super) fn check(stops: &[String]) -> Result<(), EngineError> {
    if stops.len() > MOST || stops.iter().any(|stop| stop.len() > LONGEST) {
        return Err(EngineError::BadRequest("there are more than 16 stop strings, or one is over 256 bytes"));
    }
    if stops.iter().any(String::is_empty) {
        return Err(EngineError::BadRequest("a stop string is empty"));
    }
    Ok(())
}

/// Lets text through until a stop string appears, holding back only what may be the beginning of one.
#[derive(Debug)]
pub(super) struct StopScanner {
    stops: Vec<String>,
    held: String,
}

/// What one piece of text led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// Text that certainly belongs to the answer; may be empty.
    Text(String),
    /// The end of the answer; the stop string and what follows are gone.
    Stopped(String),
}

impl StopScanner {
    /// The stop strings have passed [`check`].
    pub(super) fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    pub(super) fn push(&mut self, text: &str) -> Scan {
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.held.truncate(at);
            return Scan::Stopped(std::mem::take(&mut self.held));
        }
        let free = self.held.len() - self.longest_beginning();
        let kept = self.held.split_off(free);
        Scan::Text(std::mem::replace(&mut self.held, kept))
    }

    /// What was held back, when no more text comes.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Length in bytes of the longest end of the held text that begins a stop string.
    fn longest_beginning(&self) -> usize {
        let longest_stop = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest_stop.saturating_sub(1));
        (from..self.held.len())
            .filter(|at| self.held.is_char_boundary(*at))
            .find(|at| self.stops.iter().any(|stop| stop.starts_with(&self.held[*at..])))
            .map_or(0, |at| self.held.len() - at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut scanner = StopScanner::new(stops.iter().map(|stop| (*stop).to_owned()).collect());
        let mut text = String::new();
        for piece in pieces {
            match scanner.push(piece) {
                Scan::Text(more) => text.push_str(&more),
                Scan::Stopped(more) => return (text + &more, true),
            }
        }
        (text + &scanner.finish(), false)
    }

    #[test]
    fn empty_long_and_many_stop_strings_are_refused() {
        assert!(check(&["a".to_owned()]).is_ok());
        assert!(check(&[String::new()]).is_err());
        assert!(check(&["x".repeat(257)]).is_err());
        assert!(check(&vec!["x".to_owned(); 17]).is_err());
    }

    #[test]
    fn a_stop_string_across_pieces_ends_the_answer() {
        assert_eq!(run(&["END"], &["one E", "N", "D two"]), ("one ".into(), true));
        assert_eq!(run(&["\n\n"], &["a\n", "b\n", "\nc"]), ("a\nb".into(), true));
    }

    #[test]
    fn text_that_only_began_like_a_stop_string_comes_through() {
        assert_eq!(run(&["END"], &["E", "NE", "N"]), ("ENEN".into(), false));
        assert_eq!(run(&[], &["a", "b"]), ("ab".into(), false));
        assert_eq!(run(&["äöü"], &["xä", "ö!"]), ("xäö!".into(), false));
    }

    #[test]
    fn only_the_possible_beginning_is_held_back() {
        let mut scanner = StopScanner::new(vec!["STOP".into()]);
        assert_eq!(scanner.push("go on ST"), Scan::Text("go on ".into()));
        assert_eq!(scanner.push("X"), Scan::Text("STX".into()));
    }

    #[test]
    fn the_earliest_of_several_stop_strings_counts() {
        assert_eq!(run(&["cd", "b"], &["abcd"]), ("a".into(), true));
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(
            text in "[abé]{0,24}",
            stops in proptest::collection::vec("[abé]{1,3}", 0..3),
            cuts in proptest::collection::vec(any::<bool>(), 24),
        ) {
            let mut pieces = vec![String::new()];
            for (character, cut) in text.chars().zip(cuts) {
                if cut {
                    pieces.push(String::new());
                }
                if let Some(piece) = pieces.last_mut() {
                    piece.push(character);
                }
            }
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let (out, stopped) = run(&stops, &pieces);
            // Whatever the cuts: nothing from a stop string on, and nothing lost before it.
            prop_assert!(text.starts_with(&out));
            prop_assert!(stops.iter().all(|stop| !out.contains(stop)));
            prop_assert_eq!(stopped, stops.iter().any(|stop| text.contains(stop)));
        }
    }
}
