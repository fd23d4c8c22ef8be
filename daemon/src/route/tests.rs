//! The routing table, row by row and as a whole.

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// A healthy, enrolled, connected device with every threshold off.
fn healthy() -> Inputs {
    Inputs {
        mode: Mode::Unspecified,
        policy: RoutingPolicy::Auto,
        consent: Consent::Auto,
        detectors_ready: true,
        model: ModelHealth::Ready,
        fit: Fit::Fits,
        uplink: Uplink::Up,
        budget_left: true,
        local_only: None,
        wait_ms: None,
        memory_ppm: None,
        temperature_c: None,
        thresholds: Thresholds::default(),
    }
}

/// The same with every threshold on.
fn watched() -> Inputs {
    let thresholds = Thresholds {
        min_confidence_ppm: 600_000,
        confidence_tokens: 24,
        min_agreement_ppm: 500_000,
        agreement_samples: 2,
        max_wait_ms: 1_000,
        max_memory_ppm: 900_000,
        max_temperature_c: 80,
    };
    Inputs { thresholds, ..healthy() }
}

const TOO_LONG: Fit = Fit::TooLong { tokens: 3000, window: 2048 };

fn sure(confidence_ppm: u32) -> Evidence {
    Evidence::Confidence { tokens: 24, confidence_ppm }
}

fn agree(overlaps_ppm: &[u32]) -> Evidence {
    Evidence::Agreement { overlaps_ppm: overlaps_ppm.to_vec() }
}

#[test]
fn a_prompt_the_local_model_can_answer_stays() {
    assert_eq!(route(&healthy()), Decision::Local(LocalWhy::GoodEnough));
}

#[test]
fn what_the_local_model_cannot_do_goes_to_the_cloud() {
    let cases = [
        (ModelHealth::Ready, TOO_LONG, CloudWhy::PromptTooLong),
        (ModelHealth::None, Fit::Unknown, CloudWhy::NoLocalModel),
        (ModelHealth::Failed, Fit::Unknown, CloudWhy::NoLocalModel),
    ];
    for (model, fit, why) in cases {
        assert_eq!(route(&Inputs { model, fit, ..healthy() }), Decision::Cloud(why), "{model:?} {fit:?}");
    }
}

#[test]
fn a_model_that_is_starting_is_worth_waiting_for() {
    let inputs = Inputs { model: ModelHealth::Starting, fit: Fit::Unknown, ..healthy() };
    assert_eq!(route(&inputs), Decision::Local(LocalWhy::GoodEnough));
}

#[test]
fn the_requests_own_choice_wins_over_the_policy() {
    for policy in [RoutingPolicy::Auto, RoutingPolicy::Local, RoutingPolicy::Cloud, RoutingPolicy::Ask] {
        let local = Inputs { mode: Mode::Local, policy, ..healthy() };
        assert_eq!(route(&local), Decision::Local(LocalWhy::Requested));
        let cloud = Inputs { mode: Mode::Cloud, policy, ..healthy() };
        assert_eq!(route(&cloud), Decision::Cloud(CloudWhy::Requested));
    }
}

#[test]
fn every_obstacle_to_the_cloud_has_its_own_reason() {
    let cloud = Inputs { mode: Mode::Cloud, ..healthy() };
    let cases = [
        (Inputs { consent: Consent::Never, ..cloud }, RefuseWhy::ConsentNever),
        (Inputs { detectors_ready: false, ..cloud }, RefuseWhy::DetectorsFailed),
        (Inputs { uplink: Uplink::Unenrolled, ..cloud }, RefuseWhy::NotEnrolled),
        (Inputs { uplink: Uplink::Revoked, ..cloud }, RefuseWhy::Revoked),
        (Inputs { uplink: Uplink::Down, ..cloud }, RefuseWhy::Offline),
        (Inputs { budget_left: false, ..cloud }, RefuseWhy::DailyLimit),
    ];
    for (inputs, why) in cases {
        assert_eq!(route(&inputs), Decision::Refuse(why));
        // None of them keeps a local answer back.
        let local = route(&Inputs { mode: Mode::Unspecified, policy: RoutingPolicy::Cloud, ..inputs });
        assert_eq!(local, Decision::Local(LocalWhy::CloudUnavailable), "{why:?}");
    }
}

#[test]
fn what_only_the_local_model_can_do_is_refused_by_the_cloud_and_kept_here_otherwise() {
    let wanted = Inputs { local_only: Some(LocalFeature::Grammar), ..healthy() };
    let refused = Decision::Refuse(RefuseWhy::Unsupported(LocalFeature::Grammar));
    assert_eq!(route(&Inputs { mode: Mode::Cloud, ..wanted }), refused);
    let prefers_cloud = Inputs { policy: RoutingPolicy::Cloud, ..wanted };
    assert_eq!(route(&prefers_cloud), Decision::Local(LocalWhy::OnlyHere));
    assert_eq!(route(&wanted), Decision::Local(LocalWhy::GoodEnough));
    let stuck = Inputs { model: ModelHealth::None, ..wanted };
    assert_eq!(route(&stuck), Decision::Refuse(RefuseWhy::NoModel), "the cloud cannot help");
}

#[test]
fn nothing_leaves_without_being_asked_for_where_consent_is_needed() {
    let stuck = Inputs { fit: TOO_LONG, ..healthy() };
    let refused = Decision::Refuse(RefuseWhy::PromptTooLong { tokens: 3000, window: 2048 });
    assert_eq!(route(&Inputs { policy: RoutingPolicy::Ask, ..stuck }), refused);
    assert_eq!(route(&Inputs { consent: Consent::Ask, ..stuck }), refused);
    assert_eq!(route(&Inputs { consent: Consent::Ask, mode: Mode::Auto, ..stuck }), refused);
    let asked = Inputs { consent: Consent::Ask, policy: RoutingPolicy::Ask, mode: Mode::Cloud, ..stuck };
    assert_eq!(route(&asked), Decision::Cloud(CloudWhy::Requested));
}

#[test]
fn a_device_under_strain_hands_new_prompts_to_the_cloud() {
    let cases = [
        (Inputs { temperature_c: Some(80), ..watched() }, CloudWhy::DeviceHot),
        (Inputs { memory_ppm: Some(900_000), ..watched() }, CloudWhy::MemoryShort),
        (Inputs { wait_ms: Some(1_001), ..watched() }, CloudWhy::LocalBusy),
    ];
    for (inputs, why) in cases {
        assert_eq!(route(&inputs), Decision::Cloud(why));
        let offline = Inputs { uplink: Uplink::Down, ..inputs };
        assert_eq!(
            route(&offline),
            Decision::Local(LocalWhy::CloudUnavailable),
            "{why:?}: the box keeps working"
        );
        let here = Inputs { mode: Mode::Local, ..inputs };
        assert_eq!(route(&here), Decision::Local(LocalWhy::Requested), "{why:?}");
        let off = Inputs { thresholds: Thresholds::default(), ..inputs };
        assert_eq!(route(&off), Decision::Local(LocalWhy::GoodEnough), "{why:?}: a threshold of 0 is none");
    }
    let calm =
        Inputs { temperature_c: Some(79), memory_ppm: Some(899_999), wait_ms: Some(1_000), ..watched() };
    assert_eq!(route(&calm), Decision::Local(LocalWhy::GoodEnough));
}

#[test]
fn a_confidence_below_the_threshold_escalates_and_one_at_it_stays() {
    assert_eq!(judge(&watched(), &sure(599_999)), Verdict::Escalate(CloudWhy::LowConfidence));
    assert_eq!(judge(&watched(), &sure(600_000)), Verdict::Stay);
    assert_eq!(judge(&healthy(), &sure(0)), Verdict::Stay, "a threshold of 0 is none");
}

#[test]
fn too_few_agreeing_samples_escalate() {
    let low = Verdict::Escalate(CloudWhy::LowAgreement);
    assert_eq!(judge(&watched(), &agree(&[AGREES_PPM, 0])), Verdict::Stay, "one of two is half");
    assert_eq!(judge(&watched(), &agree(&[AGREES_PPM - 1, 0])), low);
    assert_eq!(judge(&watched(), &agree(&[AGREES_PPM, 0, 0])), low, "a third is less than half");
    assert_eq!(judge(&watched(), &agree(&[])), Verdict::Stay, "nobody disagreed");
}

#[test]
fn a_full_queue_escalates_only_where_waiting_has_a_limit() {
    let full = Evidence::QueueFull { retry_after_ms: 1 };
    assert_eq!(judge(&watched(), &full), Verdict::Escalate(CloudWhy::LocalBusy));
    assert_eq!(judge(&healthy(), &full), Verdict::Stay);
}

#[test]
fn only_an_answer_that_the_cloud_could_replace_is_looked_at() {
    assert_eq!(cascade(&watched()), Cascade { confidence_tokens: 24, agreement_samples: 2 });
    let kept = [
        Inputs { mode: Mode::Local, ..watched() },
        Inputs { policy: RoutingPolicy::Ask, ..watched() },
        Inputs { policy: RoutingPolicy::Local, ..watched() },
        Inputs { consent: Consent::Ask, ..watched() },
        Inputs { uplink: Uplink::Down, ..watched() },
        Inputs { budget_left: false, ..watched() },
        Inputs { local_only: Some(LocalFeature::Logprobs), ..watched() },
        healthy(),
    ];
    for inputs in kept {
        assert!(cascade(&inputs).is_off(), "{inputs:?}");
        assert_eq!(judge(&inputs, &sure(0)), Verdict::Stay, "{inputs:?}");
    }
}

#[test]
fn evidence_is_settled_in_the_order_in_which_it_came() {
    let (inputs, failed) = (watched(), Evidence::EscalationFailed);
    let cases = [
        (vec![], Decision::Local(LocalWhy::GoodEnough)),
        (vec![sure(700_000)], Decision::Local(LocalWhy::Confident)),
        (vec![sure(700_000), agree(&[0, 0])], Decision::Cloud(CloudWhy::LowAgreement)),
        (vec![sure(1)], Decision::Cloud(CloudWhy::LowConfidence)),
        (vec![sure(1), failed.clone()], Decision::Local(LocalWhy::EscalationFailed)),
        (vec![sure(1), failed.clone(), sure(1)], Decision::Local(LocalWhy::EscalationFailed)),
        (vec![failed.clone()], Decision::Local(LocalWhy::GoodEnough)),
    ];
    for (evidence, decision) in cases {
        assert_eq!(settle(&inputs, &evidence), decision, "{evidence:?}");
    }
    let asked_for = Inputs { mode: Mode::Cloud, ..inputs };
    assert_eq!(settle(&asked_for, &[failed]), Decision::Cloud(CloudWhy::Requested), "nobody wanted it local");
}

#[test]
fn a_share_becomes_whole_millionths() {
    let cases = [(0.0, 0), (0.5, 500_000), (1.0, 1_000_000), (-1.0, 0), (7.0, 1_000_000), (f64::NAN, 0)];
    for (share, millionths) in cases {
        assert_eq!(ppm(share), millionths, "{share}");
    }
}

fn thresholds() -> impl Strategy<Value = Thresholds> {
    let share = || 0..=1_000_000_u32;
    (share(), 1..=256_u32, share(), 1..=8_u32, 0..=5_000_u32, share(), 0..=200_u32).prop_map(
        |(
            min_confidence_ppm,
            confidence_tokens,
            min_agreement_ppm,
            agreement_samples,
            max_wait_ms,
            max_memory_ppm,
            max_temperature_c,
        )| {
            Thresholds {
                min_confidence_ppm,
                confidence_tokens,
                min_agreement_ppm,
                agreement_samples,
                max_wait_ms,
                max_memory_ppm,
                max_temperature_c,
            }
        },
    )
}

prop_compose! {
    /// Anything that can be.
    fn inputs()(
        mode in select(vec![Mode::Unspecified, Mode::Auto, Mode::Local, Mode::Cloud]),
        policy in select(vec![RoutingPolicy::Auto, RoutingPolicy::Local, RoutingPolicy::Cloud, RoutingPolicy::Ask]),
        consent in select(vec![Consent::Never, Consent::Auto, Consent::Ask]),
        model in select(vec![ModelHealth::None, ModelHealth::Starting, ModelHealth::Ready, ModelHealth::Failed]),
        fit in select(vec![Fit::Unknown, Fit::Fits, TOO_LONG]),
        uplink in select(vec![Uplink::Unenrolled, Uplink::Revoked, Uplink::Down, Uplink::Up, Uplink::Up, Uplink::Up]),
        (detectors_ready, budget_left) in any::<(bool, bool)>(),
        local_only in option::weighted(0.2, select(vec![LocalFeature::Adapter, LocalFeature::TopK])),
        wait_ms in option::of(0..=10_000_u32),
        memory_ppm in option::of(0..=1_000_000_u32),
        temperature_c in option::of(0..=120_u32),
        thresholds in thresholds(),
    ) -> Inputs {
        Inputs {
            mode, policy, consent, detectors_ready, model, fit, uplink, budget_left, local_only, wait_ms, memory_ppm,
            temperature_c, thresholds,
        }
    }
}

fn evidence() -> impl Strategy<Value = Vec<Evidence>> {
    let share = || 0..=1_000_000_u32;
    let one = prop_oneof![
        (1..=256_u32, share())
            .prop_map(|(tokens, confidence_ppm)| Evidence::Confidence { tokens, confidence_ppm }),
        prop::collection::vec(share(), 0..=8).prop_map(|overlaps_ppm| Evidence::Agreement { overlaps_ppm }),
        (0..=60_000_u32).prop_map(|retry_after_ms| Evidence::QueueFull { retry_after_ms }),
        Just(Evidence::EscalationFailed),
    ];
    prop::collection::vec(one, 0..=4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// P1 and P2: nothing may leave when consent is `never`, the rules are broken, there is no tunnel or no money, or a
    /// question would be needed first, whatever the local model said.
    #[test]
    fn no_combination_escalates_against_a_hard_no(inputs in inputs(), evidence in evidence()) {
        for decision in [route(&inputs), settle(&inputs, &evidence)] {
            if let Decision::Cloud(_) = decision {
                prop_assert_ne!(inputs.consent, Consent::Never);
                prop_assert!(inputs.detectors_ready && inputs.budget_left && inputs.uplink == Uplink::Up);
                prop_assert!(inputs.local_only.is_none());
                prop_assert_ne!(inputs.mode, Mode::Local);
                prop_assert!(inputs.consent == Consent::Auto || inputs.mode == Mode::Cloud);
                let forbidden = matches!(inputs.policy, RoutingPolicy::Local | RoutingPolicy::Ask);
                prop_assert!(!forbidden || inputs.mode != Mode::Unspecified);
            }
        }
    }

    /// P3: a model that can answer does, unless the request itself insists on the cloud.
    #[test]
    fn a_local_model_that_can_answer_is_never_refused(inputs in inputs(), evidence in evidence()) {
        let can = matches!(inputs.model, ModelHealth::Ready | ModelHealth::Starting) && inputs.fit != TOO_LONG;
        if can && inputs.mode != Mode::Cloud {
            prop_assert!(!matches!(settle(&inputs, &evidence), Decision::Refuse(_)));
        }
    }

    #[test]
    fn a_decision_read_back_decides_the_same(inputs in inputs(), evidence in evidence()) {
        let json = serde_json::to_string(&(&inputs, &evidence)).unwrap();
        let (again, more): (Inputs, Vec<Evidence>) = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&again, &inputs);
        prop_assert_eq!(settle(&again, &more), settle(&inputs, &evidence));
    }

    #[test]
    fn what_is_not_looked_at_cannot_be_doubted(inputs in inputs(), confidence_ppm in 0..=1_000_000_u32) {
        if cascade(&inputs).confidence_tokens == 0 && matches!(route(&inputs), Decision::Local(_)) {
            prop_assert!(!matches!(settle(&inputs, &[sure(confidence_ppm)]), Decision::Cloud(_)));
        }
    }
}
