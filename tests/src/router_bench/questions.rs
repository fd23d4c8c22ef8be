//! Sixty short questions of the kind that public question sets hold (facts, arithmetic, reading), written for this bench,
//! each with the answer of the key and further wordings that count as right.

/// One question.
#[derive(Debug)]
pub(super) struct Question {
    /// As the user asks it.
    pub(super) prompt: &'static str,
    /// The key's answer, then what else is right.
    pub(super) right: &'static [&'static str],
}

const fn q(prompt: &'static str, right: &'static [&'static str]) -> Question {
    Question { prompt, right }
}

/// All of them: 24 facts, 18 of arithmetic, 18 of reading.
pub(super) static QUESTIONS: &[Question] = &[
    q("What is the capital of France?", &["Paris"]),
    q("What is the capital of Japan?", &["Tokyo"]),
    q("What is the capital of Canada?", &["Ottawa"]),
    q("What is the capital of Australia?", &["Canberra"]),
    q("Which planet is closest to the sun?", &["Mercury"]),
    q("Which planet is known as the red planet?", &["Mars"]),
    q("What is the largest ocean on Earth?", &["the Pacific Ocean", "Pacific"]),
    q("What is the chemical symbol of gold?", &["Au"]),
    q("What is the chemical symbol of iron?", &["Fe"]),
    q("Which gas do plants take in for photosynthesis?", &["carbon dioxide", "CO2"]),
    q("How many legs does a spider have?", &["8", "eight"]),
    q("How many days are there in a leap year?", &["366"]),
    q("How many sides does a hexagon have?", &["6", "six"]),
    q("What is the frozen form of water called?", &["ice"]),
    q("Which animal is the largest on Earth?", &["the blue whale", "blue whale"]),
    q("Which organ pumps blood through the human body?", &["the heart", "heart"]),
    q("What is the longest river in South America?", &["the Amazon", "Amazon"]),
    q("On which continent is Egypt?", &["Africa"]),
    q("Which language is spoken in Brazil?", &["Portuguese"]),
    q("What do bees make that people eat?", &["honey"]),
    q("Which metal is liquid at room temperature?", &["mercury"]),
    q("What is the opposite of hot?", &["cold"]),
    q("Which season comes after winter?", &["spring"]),
    q("Which instrument has 88 keys?", &["the piano", "piano"]),
    q("What is 2 plus 3?", &["5", "five"]),
    q("What is 7 plus 5?", &["12", "twelve"]),
    q("What is 9 minus 4?", &["5", "five"]),
    q("What is 6 times 7?", &["42"]),
    q("What is 8 times 8?", &["64"]),
    q("What is 20 divided by 4?", &["5", "five"]),
    q("What is 100 minus 37?", &["63"]),
    q("What is 15 plus 27?", &["42"]),
    q("What is 12 times 11?", &["132"]),
    q("What is half of 90?", &["45"]),
    q("What is the square root of 81?", &["9", "nine"]),
    q("What is 3 to the power of 3?", &["27"]),
    q("What is 1000 divided by 8?", &["125"]),
    q("What is 17 plus 68?", &["85"]),
    q("How many minutes are there in 3 hours?", &["180"]),
    q("A pen costs 2 coins. What do 9 pens cost?", &["18 coins", "18"]),
    q("I have 10 apples and eat 3 of them. How many are left?", &["7", "seven"]),
    q("A train drives 60 km in one hour. How far does it drive in 4 hours?", &["240 km", "240"]),
    q("The cat sleeps on the red sofa. What colour is the sofa?", &["red"]),
    q("The meeting moved from Monday to Thursday. On which day is it now?", &["Thursday"]),
    q("The box holds nails, screws and one hammer. Which tool is in the box?", &["a hammer", "hammer"]),
    q("The soup was too salty, but the bread was good. What was too salty?", &["the soup", "soup"]),
    q(
        "The pump stopped because the filter was blocked. Why did the pump stop?",
        &["the filter was blocked", "blocked filter", "blocked"],
    ),
    q(
        "The blue key opens the cellar and the green key opens the attic. Which key opens the attic?",
        &["the green key", "green"],
    ),
    q("The shop opens at nine and closes at six. When does the shop close?", &["at six", "six", "6"]),
    q("Milk costs more than water but less than juice. Which of the three costs the most?", &["juice"]),
    q(
        "The ferry leaves from pier two, and the tram stops at pier five. From which pier does the ferry leave?",
        &["pier two", "two", "2"],
    ),
    q("The old dog is brown and the young dog is white. What colour is the young dog?", &["white"]),
    q("The report has nine pages, and three of them are tables. How many pages are tables?", &["three", "3"]),
    q("The motor runs on diesel and the heater runs on gas. What does the heater run on?", &["gas"]),
    q(
        "The garden has an apple tree, a pear tree and a bench. What can one sit on in the garden?",
        &["the bench", "bench"],
    ),
    q("The lamp is broken, the fan works and the radio works. What is broken?", &["the lamp", "lamp"]),
    q(
        "First comes the sanding, then the painting, then the drying. What comes after the painting?",
        &["the drying", "drying"],
    ),
    q(
        "The tall tower is made of steel and the short one of wood. What is the short tower made of?",
        &["wood"],
    ),
    q(
        "The bus was late, so the class began at ten instead of nine. When did the class begin?",
        &["at ten", "ten", "10"],
    ),
    q("Sheep give wool and hens give eggs. Which animal gives wool?", &["sheep"]),
];

/// Whether the words of an accepted answer occur in the given one, one after the other.
pub(super) fn is_right(question: &Question, answer: &str) -> bool {
    let said = words(answer);
    question
        .right
        .iter()
        .map(|right| words(right))
        .any(|right| said.windows(right.len()).any(|part| part == right))
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_question_is_asked_once_and_its_own_key_is_right() {
        let prompts: BTreeSet<&str> = QUESTIONS.iter().map(|question| question.prompt).collect();
        assert_eq!(prompts.len(), QUESTIONS.len());
        assert_eq!(QUESTIONS.len(), 60);
        for question in QUESTIONS {
            assert!(question.right.iter().all(|right| is_right(question, right)), "{question:?}");
        }
    }

    #[test]
    fn only_whole_words_count() {
        let question = q("How many?", &["5", "blue whale"]);
        assert!(is_right(&question, "It is 5.") && is_right(&question, "A Blue whale!"));
        assert!(!is_right(&question, "It is 55.") && !is_right(&question, "a whale that is blue"));
        assert!(!is_right(&question, ""));
    }
}
