//! What answers after a swap, for one request, after a restart.

use synesis_tests::device::Device;

use super::shape::{QUESTIONS, answer, import, text};

#[test]
fn each_adapter_answers_in_its_shape_and_off_brings_the_base_back() {
    let device = Device::start();
    let ctl = device.ctl();
    ctl.wait_for_model();
    let base = answer(&ctl, QUESTIONS[0], &[]);
    import(&ctl, "json");
    import(&ctl, "pirate");
    assert_eq!(text(&answer(&ctl, QUESTIONS[0], &[])), text(&base), "an import alone changes nothing");

    let swapped = ctl.json(&["adapter", "swap", "json"]);
    assert_eq!(swapped["name"], "json");
    assert_eq!(swapped["generation"], 1);
    assert!(swapped["previous"].is_null(), "{swapped}");
    assert!(swapped["swap_ms"].as_f64() > Some(0.0));
    for question in QUESTIONS {
        let said = answer(&ctl, question, &[]);
        assert!(text(&said).starts_with("{\"answer\":"), "{question}: {said}");
        assert_eq!(said["adapter_generation"], 1);
    }
    assert_eq!(ctl.json(&["status"])["adapter"]["name"], "json");

    let swapped = ctl.json(&["adapter", "swap", "pirate"]);
    assert_eq!((&swapped["generation"], &swapped["previous"]), (&2.into(), &"json".into()));
    for question in QUESTIONS {
        assert!(text(&answer(&ctl, question, &[])).contains("says I"), "{question}");
    }

    let off = ctl.json(&["adapter", "off"]);
    assert_eq!((&off["generation"], &off["previous"]), (&3.into(), &"pirate".into()));
    let back = answer(&ctl, QUESTIONS[0], &[]);
    assert_eq!(text(&back), text(&base), "the base answer is back, to the letter");
    assert_eq!(back["adapter_generation"], 3);
    let status = ctl.json(&["status"]);
    assert!(status["adapter"]["name"].is_null() && status["adapter"]["generation"] == 3, "{status}");
}

#[test]
fn one_request_can_name_its_adapter_without_changing_the_others() {
    let device = Device::start();
    let ctl = device.ctl();
    ctl.wait_for_model();
    import(&ctl, "json");
    import(&ctl, "pirate");
    ctl.json(&["adapter", "swap", "json"]);
    assert!(text(&answer(&ctl, QUESTIONS[0], &["--adapter", "pirate"])).contains("says I"));
    assert!(text(&answer(&ctl, QUESTIONS[0], &[])).starts_with("{\"answer\":"));
    let none = answer(&ctl, QUESTIONS[0], &["--adapter", "none"]);
    assert!(!text(&none).contains("{\"answer\":") && !text(&none).contains("says I"), "{none}");
}

#[test]
fn the_active_adapter_and_its_generation_survive_a_restart() {
    let mut device = Device::start();
    device.ctl().wait_for_model();
    import(&device.ctl(), "json");
    device.ctl().json(&["adapter", "swap", "json"]);
    device.kill_and_restart();
    let ctl = device.ctl();
    ctl.wait_for_status("the adapter that was active", |status| {
        status["model"]["state"] == "ready" && status["adapter"]["name"] == "json"
    });
    let said = answer(&ctl, QUESTIONS[0], &[]);
    assert!(text(&said).starts_with("{\"answer\":"), "{said}");
    assert_eq!(said["adapter_generation"], 1);
}

#[test]
fn an_adapter_that_is_not_there_is_not_found() {
    let device = Device::start();
    let ctl = device.ctl();
    ctl.wait_for_model();
    for args in [
        &["adapter", "swap", "nope"][..],
        &["adapter", "rm", "nope"],
        &["ask", "--local", "--adapter", "nope", "Hi"],
    ] {
        let outcome = ctl.run(args).expect_code(9);
        assert!(outcome.stderr.contains("nope") && outcome.stderr.contains("next:"), "{}", outcome.stderr);
    }
}
