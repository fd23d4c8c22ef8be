//! Swaps in the middle of everything: whatever is swapped while answers are made, each answer is the one that its
//! generation's adapter gives when nothing else goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;
use synesis_tests::client::{Client, Said};
use synesis_tests::device::Device;
use synesis_tests::models::adapter;
use synesis_tests::seed::seeded;
use tokio::task::JoinSet;

const SWAPS: usize = 1_000;
const ASKERS: usize = 8;
const MAX_TOKENS: u32 = 16;
/// Longest pause between two swaps, in milliseconds: they come at any moment of an answer.
const LONGEST_PAUSE_MS: u64 = 20;
/// Swaps for each answer, so that a slow machine makes as many answers as a fast one.
const SWAPS_FOR_EACH_ANSWER: usize = 5;
/// No answer of 16 tokens takes this long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

/// What may be active; none is the base model.
const ADAPTERS: [Option<&str>; 3] = [None, Some("json"), Some("pirate")];

const PROMPTS: [&str; 20] = [
    "What is the capital of France?",
    "Name a primary color.",
    "Who wrote Hamlet?",
    "What is two plus two?",
    "What do bees make?",
    "What is the largest ocean?",
    "Name a metal.",
    "What do cows drink?",
    "How many days has a week?",
    "What is the opposite of hot?",
    "Name a planet.",
    "What color is the sky?",
    "Who painted the Mona Lisa?",
    "What is ice made of?",
    "Name a fruit.",
    "What language is spoken in Spain?",
    "How many legs has a spider?",
    "What do you call a baby dog?",
    "Name a musical instrument.",
    "Where do fish live?",
];

/// Text and tokens of an answer, by adapter and prompt.
type Serial = HashMap<(String, &'static str), (String, u32)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_swaps_under_eight_askers_change_no_answer_of_its_generation() {
    let mut rng = seeded();
    let device =
        Device::with_config(&format!("[model]\nparallel = {ASKERS}\n[ipc]\nrequests_per_minute = 1000000\n"));
    let ctl = device.ctl();
    ctl.wait_for_model();
    for name in ADAPTERS.into_iter().flatten() {
        ctl.run(&["adapter", "import", name, adapter(name).to_str().expect("UTF-8")]).expect_code(0);
    }
    let client = Client::connect(device.socket()).await;
    let mut active: BTreeMap<u64, String> = BTreeMap::new();
    let serial = serial_answers(&client, &mut active).await;

    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut askers = JoinSet::new();
    for asker in 0..ASKERS {
        // One connection each, as eight programs would have.
        let client = Client::connect(device.socket()).await;
        let first = asker * PROMPTS.len() / ASKERS;
        askers.spawn(ask_until(Arc::clone(&stop), Arc::clone(&answered), client, first));
    }
    // The last of them is active now; a swap to the active one is none.
    let mut now = ADAPTERS[ADAPTERS.len() - 1];
    for swap in 0..SWAPS {
        let others: Vec<_> = ADAPTERS.into_iter().filter(|other| *other != now).collect();
        now = *others.choose(&mut rng).expect("two");
        let reply = client.swap(now).await;
        let seen = active.insert(reply.generation, now.unwrap_or_default().to_owned());
        assert_eq!(seen, None, "generation {} was given twice", reply.generation);
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..=LONGEST_PAUSE_MS))).await;
        while answered.load(Ordering::Relaxed) < swap / SWAPS_FOR_EACH_ANSWER {
            tokio::time::sleep(Duration::from_millis(2)).await;
            assert!(!askers.is_empty() && askers.try_join_next().is_none(), "an asker gave up");
        }
    }
    stop.store(true, Ordering::Relaxed);
    let answers: Vec<(&str, Said)> = askers.join_all().await.into_iter().flatten().collect();

    let mut generations = std::collections::BTreeSet::new();
    for (prompt, said) in &answers {
        let adapter = active.get(&said.generation);
        let adapter = adapter.unwrap_or_else(|| panic!("generation {} never was: {said:?}", said.generation));
        assert_eq!(said.adapter, *adapter, "{prompt}: {said:?}");
        let (text, tokens) = &serial[&(adapter.clone(), *prompt)];
        assert_eq!((&said.text, said.tokens), (text, *tokens), "{prompt}: {said:?}");
        generations.insert(said.generation);
    }
    eprintln!("{} answers of {} generations", answers.len(), generations.len());
    assert!(answers.len() >= SWAPS / SWAPS_FOR_EACH_ANSWER, "only {} answers were made", answers.len());
    assert!(generations.len() > 50, "only {} generations answered anything", generations.len());
}

/// One answer after the other, with nothing else going on.
async fn serial_answers(client: &Client, active: &mut BTreeMap<u64, String>) -> Serial {
    let mut answers = Serial::new();
    for adapter in ADAPTERS {
        let reply = client.swap(adapter).await;
        let adapter = adapter.unwrap_or_default();
        active.insert(reply.generation, adapter.to_owned());
        for prompt in PROMPTS {
            let said = client.ask_within(PATIENCE, prompt, MAX_TOKENS).await.expect("an answer");
            assert_eq!((said.generation, said.adapter.as_str()), (reply.generation, adapter));
            answers.insert((adapter.to_owned(), prompt), (said.text, said.tokens));
        }
    }
    // The three differ, or the test could not tell them apart.
    for prompt in PROMPTS {
        let of = |adapter: &str| &answers[&(adapter.to_owned(), prompt)].0;
        assert!(of("") != of("json") && of("json") != of("pirate") && of("pirate") != of(""), "{prompt}");
    }
    answers
}

/// Asks prompt after prompt, beginning with the one at `first`.
async fn ask_until(
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    client: Client,
    first: usize,
) -> Vec<(&'static str, Said)> {
    let mut answers = Vec::new();
    for prompt in PROMPTS.into_iter().cycle().skip(first) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let said = client.ask_within(PATIENCE, prompt, MAX_TOKENS).await;
        answered.fetch_add(1, Ordering::Relaxed);
        answers.push((prompt, said.unwrap_or_else(|problem| panic!("{prompt}: {problem:?}"))));
    }
    answers
}
