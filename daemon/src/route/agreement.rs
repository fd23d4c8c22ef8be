//! How much two answers to the same prompt say the same, as a whole number.

use std::collections::BTreeMap;

/// From this overlap on a sample agrees with the answer: half of the words.
pub const AGREES_PPM: u32 = 500_000;

/// The overlap of an answer and a sample, in millionths: the Sørensen-Dice coefficient of their words,
/// 2 · |A ∩ S| / (|A| + |S|), where A and S are multisets of words in lower case, and a word is a run of letters and
/// digits. When `sample_was_cut` at its token limit, only as many words of the answer count as the sample has. 0 when
/// the two do not name the same numbers, however alike their sentences are; all of it when neither has a word.
pub fn overlap(answer: &str, sample: &str, sample_was_cut: bool) -> u32 {
    let (mut answer, sample) = (words(answer), words(sample));
    if sample_was_cut {
        answer.truncate(sample.len());
    }
    let all = answer.len() + sample.len();
    if all == 0 {
        return 1_000_000;
    }
    let (a, s) = (counts(&answer), counts(&sample));
    let number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    let numbers = |counts: &BTreeMap<&str, usize>| -> Vec<String> {
        counts.keys().filter(|word| number(word)).map(|word| (*word).to_owned()).collect()
    };
    if numbers(&a) != numbers(&s) {
        return 0;
    }
    let shared: usize = a.iter().map(|(word, n)| (*n).min(s.get(word).copied().unwrap_or(0))).sum();
    u32::try_from(2 * shared * 1_000_000 / all).unwrap_or(1_000_000)
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

fn counts(words: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for word in words {
        *counts.entry(word.as_str()).or_insert(0) += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_words_agree_whatever_their_case_and_punctuation() {
        assert_eq!(overlap("The capital is Paris.", "the CAPITAL is: paris", false), 1_000_000);
        assert_eq!(overlap("", " .. ", false), 1_000_000, "neither says anything");
        assert_eq!(overlap("Paris", "London", false), 0);
        assert_eq!(overlap("", "London", false), 0);
    }

    #[test]
    fn the_overlap_is_twice_what_is_shared_over_all_words() {
        // Shared: the, is, and one of two "red"; 3 + 3 of 4 + 4 words.
        assert_eq!(overlap("the car is red", "the sky is red", false), 750_000);
        assert_eq!(overlap("red red", "red blue", false), 500_000, "a word counts as often as both have it");
    }

    #[test]
    fn other_numbers_do_not_agree_however_alike_the_sentence_is() {
        assert_eq!(overlap("The answer is 42.", "The answer is 43.", false), 0);
        assert_eq!(overlap("The answer is 42.", "The answer is 42!", false), 1_000_000);
    }

    #[test]
    fn a_sample_that_was_cut_is_compared_with_as_many_words() {
        let answer = "one two three four five six";
        assert_eq!(overlap(answer, "one two three", true), 1_000_000);
        assert!(overlap(answer, "one two three", false) < 1_000_000);
    }

    proptest! {
        #[test]
        fn an_overlap_is_a_share_that_does_not_depend_on_the_order_of_the_two(a in ".{0,60}", b in ".{0,60}") {
            let there = overlap(&a, &b, false);
            prop_assert!(there <= 1_000_000);
            prop_assert_eq!(there, overlap(&b, &a, false));
            prop_assert_eq!(overlap(&a, &a, false), 1_000_000);
        }
    }
}
