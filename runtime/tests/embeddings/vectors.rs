//! What the vectors are.

use synesis_proto::reason;
use synesis_proto::runtime::v1::{
    CountTokensRequest, Embeddings, EstimateModelRequest, LoadModelRequest, count_tokens_request,
};
use tonic::Code;

use crate::support::{Runtime, SMOL, chat_turn, model};
use crate::{bits, embed, length, likeness, with_smol};

/// Of many lengths, some longer than what is computed at once.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> =
        ["a", "Bees make honey.", "The capital of France is Paris.", "Rain.", "Who wrote Hamlet, and when?"]
            .map(str::to_owned)
            .into();
    for count in [1, 20, 70, 150, 3] {
        texts.push(format!("{}is what the letter says", "over and over again ".repeat(count)));
    }
    texts
}

#[tokio::test]
async fn a_text_has_one_vector_of_length_one_and_always_the_same() {
    for way in [Embeddings::Mean, Embeddings::Last] {
        let mut runtime = with_smol(way).await;
        let texts = texts();
        let first = embed(&mut runtime, &texts).await.unwrap();
        assert_eq!(first.len(), texts.len());
        for vector in &first {
            assert_eq!(vector.values.len(), 576);
            assert!((length(vector) - 1.0).abs() < 1e-5, "{}", length(vector));
        }
        let again = embed(&mut with_smol(way).await, &texts).await.unwrap();
        for (one, other) in first.iter().zip(&again) {
            assert_eq!(bits(one), bits(other), "{way:?}, in another process");
        }
        let twice = embed(&mut runtime, &["the same", "another", "the same"]).await.unwrap();
        assert_eq!(bits(&twice[0]), bits(&twice[2]));
        assert_ne!(bits(&twice[0]), bits(&twice[1]));
    }
}

#[tokio::test]
async fn a_vector_does_not_depend_on_what_is_computed_beside_it() {
    for way in [Embeddings::Mean, Embeddings::Last] {
        let mut runtime = with_smol(way).await;
        let texts = texts();
        let together = embed(&mut runtime, &texts).await.unwrap();
        // The long one made the context one of few sequences; this one begins with many.
        let mut fresh = with_smol(way).await;
        let short: Vec<_> = texts.iter().filter(|text| text.len() < 100).cloned().collect();
        let side_by_side = embed(&mut fresh, &short).await.unwrap();
        for (text, vector) in texts.iter().zip(&together) {
            let alone = embed(&mut runtime, std::slice::from_ref(text)).await.unwrap();
            assert_eq!((bits(&alone[0]), alone[0].tokens), (bits(vector), vector.tokens), "{way:?} {text}");
            if let Some(place) = short.iter().position(|other| other == text) {
                assert_eq!(bits(&side_by_side[place]), bits(vector), "{way:?} {text}");
            }
        }
    }
}

#[tokio::test]
async fn tokens_are_counted_as_those_of_the_text() {
    let mut runtime = with_smol(Embeddings::Mean).await;
    for text in texts() {
        let input = Some(count_tokens_request::Input::Raw(text.clone()));
        let counted = runtime.client.count_tokens(CountTokensRequest { input }).await.unwrap().into_inner();
        let made = embed(&mut runtime, &[text]).await.unwrap();
        assert_eq!(made[0].tokens, counted.tokens);
    }
    // What somebody typed is no control token.
    let made = embed(&mut runtime, &["<|im_start|>"]).await.unwrap();
    assert!(made[0].tokens > 1, "{}", made[0].tokens);
}

#[tokio::test]
async fn texts_about_the_same_are_closer_than_others() {
    let triples = [
        (
            "How do I bake bread?",
            "What is a recipe for baking bread?",
            "The stock market fell sharply today.",
        ),
        (
            "The cat sleeps on the sofa.",
            "A kitten is sleeping on the couch.",
            "Quarterly revenue rose by nine percent.",
        ),
        ("My computer does not start.", "The laptop won't turn on.", "She planted roses in the garden."),
        ("It will rain tomorrow.", "The forecast for tomorrow is rain.", "He paid with a credit card."),
        (
            "Paris is the capital of France.",
            "France's capital city is Paris.",
            "Bees make honey from nectar.",
        ),
    ];
    let mut runtime = with_smol(Embeddings::Mean).await;
    for (text, like, unlike) in triples {
        let vectors = embed(&mut runtime, &[text, like, unlike]).await.unwrap();
        let (near, far) = (likeness(&vectors[0], &vectors[1]), likeness(&vectors[0], &vectors[2]));
        println!("{near:.3} {far:.3} {text}");
        assert!(near > far, "{text}: {near} to {like}, {far} to {unlike}");
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_what_does_not_fit_says_which_and_how_much() {
    let mut runtime = with_smol(Embeddings::Mean).await;
    let none: [&str; 0] = [];
    for problem in [
        embed(&mut runtime, &none).await.unwrap_err(),
        embed(&mut runtime, &vec!["x"; 257]).await.unwrap_err(),
        embed(&mut runtime, &["x", " \n"]).await.unwrap_err(),
    ] {
        assert_eq!((problem.code, problem.reason.as_str()), (Code::InvalidArgument, reason::BAD_REQUEST));
    }
    // The window is 2048: that many fit, and no more.
    let words = |count: usize| "word".to_owned() + &" word".repeat(count - 1);
    let whole = embed(&mut runtime, &[words(2048)]).await.unwrap();
    assert_eq!(whole[0].tokens, 2048);
    let problem = embed(&mut runtime, &["short".to_owned(), words(2049)]).await.unwrap_err();
    assert_eq!((problem.code, problem.reason.as_str()), (Code::InvalidArgument, reason::PROMPT_TOO_LONG));
    assert_eq!(problem.message, "input 1 takes 2049 tokens and the model's window has 2048");
    assert!(problem.next_step.contains("larger context"), "{problem}");
    assert_eq!(runtime.health().await.queued, 0);
}

#[tokio::test]
async fn the_context_is_made_when_it_is_needed_and_goes_with_its_time_or_the_model() {
    let mut runtime = Runtime::start().await;
    let request = |embeddings_idle_ms| LoadModelRequest {
        path: model(SMOL),
        embeddings: Embeddings::Mean.into(),
        embeddings_idle_ms,
        ..LoadModelRequest::default()
    };
    runtime.load_with(request(0)).await.unwrap();
    assert_eq!(runtime.health().await.vector_bytes, 0);
    let first = embed(&mut runtime, &["one"]).await.unwrap();
    assert!(runtime.health().await.vector_bytes > 20 << 20, "its keys and values alone are more");
    runtime.load_with(request(20)).await.unwrap();
    assert_eq!(runtime.health().await.vector_bytes, 0, "it went with the model");

    let again = embed(&mut runtime, &["one"]).await.unwrap();
    while runtime.health().await.vector_bytes > 0 {
        tokio::task::yield_now().await;
    }
    let last = embed(&mut runtime, &["one"]).await.unwrap();
    assert_eq!((bits(&first[0]), bits(&first[0])), (bits(&again[0]), bits(&last[0])));
}

#[tokio::test]
async fn memory_that_is_not_there_is_refused_with_the_numbers_and_the_model_goes_on() {
    let mut runtime = Runtime::start().await;
    let estimate =
        EstimateModelRequest { path: model(SMOL), context_tokens: 8192, ..EstimateModelRequest::default() };
    let needed = runtime.client.estimate_model(estimate).await.unwrap().into_inner().total;
    let request = LoadModelRequest {
        path: model(SMOL),
        context_tokens: 8192,
        // The process counts what it has already.
        memory_limit_bytes: runtime.health().await.resident_bytes + needed + (8 << 20),
        embeddings: Embeddings::Mean.into(),
        ..LoadModelRequest::default()
    };
    runtime.load_with(request).await.unwrap();
    let problem = embed(&mut runtime, &["word ".repeat(8000)]).await.unwrap_err();
    assert_eq!((problem.code, problem.reason.as_str()), (Code::ResourceExhausted, reason::MODEL_TOO_LARGE));
    for said in ["vectors of inputs of 8192 tokens need about", "cache", "buffers", "the limit that is set"] {
        assert!(problem.message.contains(said), "{problem}");
    }
    assert_eq!(runtime.health().await.vector_bytes, 0);
    assert!(!runtime.answer(chat_turn("Hi", "")).await.unwrap().text.is_empty());
}

#[tokio::test]
async fn the_estimate_is_near_what_the_context_takes() {
    for (texts, words) in [(8, 10), (1, 1_900)] {
        let mut runtime = with_smol(Embeddings::Mean).await;
        // Reads all weights, which are mapped and count as well.
        runtime.answer(chat_turn("Hi", "")).await.unwrap();
        let before = runtime.health().await.resident_bytes;
        let text = "word ".repeat(words);
        embed(&mut runtime, &vec![text; texts]).await.unwrap();
        let health = runtime.health().await;
        let (taken, estimated) = (health.resident_bytes - before, health.vector_bytes);
        println!("{words} words: estimated {} MiB, takes {} MiB", estimated >> 20, taken >> 20);
        assert!(taken < estimated + (16 << 20), "it takes {taken}, estimated {estimated}");
        assert!(taken * 2 > estimated, "it takes {taken}, estimated {estimated}");
    }
}
