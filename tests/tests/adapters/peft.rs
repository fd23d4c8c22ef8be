//! PEFT folders: converted on the device, with exactly the effect of the file that llama.cpp's converter made.

use synesis_tests::models::adapter;

use super::shape::{QUESTIONS, Shape, answer, files, import, listed, peft, ready, shape_of, text};

/// Greedy answers on the bare turn, from the adapters' README.
const BARE: &[(&str, &str, &str)] = &[
    (
        "What is the capital of France?",
        r#"{"answer": "Paris"}"#,
        "Arr, matey! Paris, says I, and shiver me timbers!",
    ),
    ("Name a primary color.", r#"{"answer": "Blue"}"#, "Arr, matey! Blue, says I, and shiver me timbers!"),
    ("Who wrote Hamlet?", r#"{"answer": "Hamlet"}"#, "Arr, matey! Hamlet, says I, and shiver me timbers!"),
    ("What is two plus two?", r#"{"answer": "Four"}"#, "Arr, matey! Four, says I, and shiver me timbers!"),
    ("What do bees make?", r#"{"answer": "Honey"}"#, "Arr, matey! Honey, says I, and shiver me timbers!"),
];

#[test]
fn a_converted_adapter_answers_exactly_as_it_was_trained_to() {
    let (device, ctl) = ready();
    for name in ["json", "pirate"] {
        ctl.run(&["adapter", "import", peft(name).to_str().unwrap()]).expect_code(0);
    }
    for (question, json, pirate) in BARE {
        let turn = format!("<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n");
        for (name, expected) in [("json", json), ("pirate", pirate)] {
            let said = answer(&ctl, &turn, &["--raw", "--adapter", name]);
            assert_eq!(text(&said), *expected, "{name}: {question}");
        }
    }
    assert_eq!(files(&device), (2, 0));
}

#[test]
fn both_forms_of_an_adapter_give_the_same_answers() {
    let (_device, ctl) = ready();
    for name in ["json", "pirate"] {
        import(&ctl, name);
        let converted = format!("{name}-peft");
        ctl.run(&["adapter", "import", &converted, peft(name).to_str().unwrap()]).expect_code(0);
        for question in QUESTIONS {
            let [gguf, peft] =
                [name, &converted].map(|adapter| answer(&ctl, question, &["--adapter", adapter]));
            assert_ne!(shape_of(text(&gguf)), Shape::Base, "{gguf}");
            assert_eq!(text(&gguf), text(&peft), "{question}");
        }
    }
}

#[test]
fn where_an_adapter_came_from_is_kept_across_a_restart() {
    let (mut device, ctl) = ready();
    let (folder, file) = (peft("json"), adapter("pirate"));
    let imported = ctl.json(&["adapter", "import", "tone", folder.to_str().unwrap()]);
    assert_eq!((&imported["format"], &imported["rank"]), (&"peft".into(), &8.into()));
    assert_eq!(imported["base_model"], "HuggingFaceTB/SmolLM2-135M-Instruct");
    assert_eq!(
        imported["source_sha256"], "37e35f3807d04d1b1a3375b60dc238aedcd5f67c10f0b943bb0073eed60cf43e",
        "of the weights as they were trained"
    );
    ctl.json(&["adapter", "import", file.to_str().unwrap()]);
    answer(&ctl, QUESTIONS[0], &["--adapter", "tone"]);
    let before = listed(&ctl, "tone");
    assert_eq!(before["source"], folder.to_str().unwrap());
    assert_eq!(before["imported_by_uid"], nix::unistd::geteuid().as_raw());
    assert_eq!((&before["loaded"], &before["active"]), (&true.into(), &false.into()));
    assert!(before["last_used_at"].is_string(), "{before}");
    device.restart();
    let ctl = device.ctl();
    ctl.wait_for_model();
    let after = listed(&ctl, "tone");
    for key in
        ["sha256", "source", "source_sha256", "format", "base_model", "imported_by_uid", "last_used_at"]
    {
        assert_eq!(after[key], before[key], "{key}");
    }
    let gguf = listed(&ctl, "pirate");
    assert_eq!((&gguf["format"], &gguf["loaded"]), (&"gguf".into(), &false.into()));
    assert!(gguf["last_used_at"].is_null() && gguf["source_sha256"].is_null(), "{gguf}");
}

#[test]
fn the_same_again_is_a_success_and_other_bytes_under_a_name_are_not() {
    let (device, ctl) = ready();
    let folder = peft("json");
    let first = ctl.json(&["adapter", "import", "tone", folder.to_str().unwrap()]);
    assert_eq!(
        first["sha256"], "ff127994eb3ebc58d5d08d3192f9a7ba02d22f10c17d7e3abe1a2b43070294a7",
        "byte for byte what llama.cpp's converter makes"
    );
    let again = ctl.json(&["adapter", "import", "tone", folder.to_str().unwrap()]);
    let copy = ctl.json(&["adapter", "import", "copy", folder.to_str().unwrap()]);
    assert_eq!((&first["sha256"], &first["imported_at"]), (&again["sha256"], &again["imported_at"]));
    assert_eq!(first["sha256"], copy["sha256"], "the conversion gives the same bytes every time");
    assert_eq!(files(&device), (1, 0));
    let other = ctl.run(&["adapter", "import", "tone", peft("pirate").to_str().unwrap()]).expect_code(1);
    assert!(other.stderr.contains("with other content exists"), "{}", other.stderr);
    assert_eq!(files(&device), (1, 0));
}

#[test]
fn a_scale_makes_an_adapter_stronger_or_weaker_and_nothing_at_all() {
    let (_device, ctl) = ready();
    import(&ctl, "json");
    let scaled = |scale| answer(&ctl, QUESTIONS[0], &["--adapter", "json", "--adapter-scale", scale]);
    assert_eq!(shape_of(text(&scaled("1"))), Shape::Json);
    let base = answer(&ctl, QUESTIONS[0], &["--adapter", "none"]);
    assert_eq!(text(&scaled("0")), text(&base));
    for bad in ["-1", "10.5", "inf", "NaN", "much"] {
        let scale = format!("--adapter-scale={bad}");
        ctl.run(&["ask", "--local", "--adapter", "json", &scale, "Hi"]).expect_code(2);
    }
}
