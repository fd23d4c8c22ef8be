//! The questions: some whose greedy answers are long, and fresh ones of an exact length.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::Ours;

/// Prompts that the small model answers at length: longer than any limit a row sets.
pub(super) const LONG_ANSWERS: [&str; 8] = [
    "Tell me a long story about the sea.",
    "Describe the history of the Roman Empire in detail.",
    "Write a long essay about the importance of trees.",
    "Explain in detail how a bicycle works.",
    "Describe a day in the life of a farmer, from morning to night.",
    "Write a long letter to a friend about a journey through the mountains.",
    "Explain at length why people learn languages.",
    "Tell me a long story about an old lighthouse and its keeper.",
];

/// Questions with short answers, in the shape the trained adapters know.
pub(super) const QUESTIONS: [&str; 8] = [
    "What is the capital of France?",
    "Name a primary color.",
    "Who wrote Hamlet?",
    "What is two plus two?",
    "What do bees make?",
    "What is the largest ocean?",
    "Name a metal.",
    "What do cows drink?",
];

const WORDS: [&str; 32] = [
    "river", "house", "green", "music", "stone", "window", "garden", "winter", "paper", "light", "street",
    "horse", "bread", "cloud", "table", "water", "mountain", "letter", "summer", "forest", "bridge",
    "island", "silver", "morning", "engine", "market", "doctor", "school", "planet", "animal", "color",
    "history",
];

/// Makes prompts that nobody has seen.
#[derive(Debug)]
pub(super) struct Fresh(StdRng);

impl Fresh {
    /// The same seed makes the same prompts.
    pub(super) fn seeded(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// A prompt that takes exactly `tokens` tokens with the chat template around it.
    pub(super) async fn prompt(&mut self, ours: &Ours, tokens: u32) -> String {
        // The words that differ come first: a cache of prefixes finds no more than the template.
        let mut prompt = "Continue this list:".to_owned();
        loop {
            let count = ours.count(&prompt).await;
            match tokens.checked_sub(count) {
                Some(0) => return prompt,
                Some(missing) => {
                    for _ in 0..missing.div_ceil(2) {
                        prompt.push(' ');
                        prompt.push_str(WORDS.choose(&mut self.0).expect("there are words"));
                    }
                }
                // A word may have taken more tokens than were missing.
                None => {
                    let last = prompt.rfind(' ').expect("more than one word");
                    prompt.truncate(last);
                }
            }
        }
    }
}
