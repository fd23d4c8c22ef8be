//! The routing table, row by row and as a whole.

use super::*;

/// A healthy, enrolled, connected device.
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
    }
}

const TOO_LONG: Fit = Fit::TooLong { tokens: 3000, window: 2048 };

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
fn nothing_leaves_without_being_asked_for_where_consent_is_needed() {
    let stuck = Inputs { fit: TOO_LONG, ..healthy() };
    let refused = Decision::Refuse(RefuseWhy::PromptTooLong { tokens: 3000, window: 2048 });
    assert_eq!(route(&Inputs { policy: RoutingPolicy::Ask, ..stuck }), refused);
    assert_eq!(route(&Inputs { consent: Consent::Ask, ..stuck }), refused);
    assert_eq!(route(&Inputs { consent: Consent::Ask, mode: Mode::Auto, ..stuck }), refused);
    let asked = Inputs { consent: Consent::Ask, policy: RoutingPolicy::Ask, mode: Mode::Cloud, ..stuck };
    assert_eq!(route(&asked), Decision::Cloud(CloudWhy::Requested));
}

/// Over the whole input space: nothing may leave when consent is `never`, the rules are broken, there is no
/// tunnel or no money.
#[test]
fn no_combination_escalates_against_a_hard_no() {
    let mut looked_at = 0;
    for mode in [Mode::Unspecified, Mode::Auto, Mode::Local, Mode::Cloud] {
        for policy in [RoutingPolicy::Auto, RoutingPolicy::Local, RoutingPolicy::Cloud, RoutingPolicy::Ask] {
            for consent in [Consent::Never, Consent::Auto, Consent::Ask] {
                for model in
                    [ModelHealth::None, ModelHealth::Starting, ModelHealth::Ready, ModelHealth::Failed]
                {
                    for fit in [Fit::Unknown, Fit::Fits, TOO_LONG] {
                        for uplink in [Uplink::Unenrolled, Uplink::Revoked, Uplink::Down, Uplink::Up] {
                            for (detectors_ready, budget_left) in [(true, true), (true, false), (false, true)]
                            {
                                let inputs = Inputs {
                                    mode,
                                    policy,
                                    consent,
                                    detectors_ready,
                                    model,
                                    fit,
                                    uplink,
                                    budget_left,
                                };
                                looked_at += 1;
                                if let Decision::Cloud(_) = route(&inputs) {
                                    assert_ne!(consent, Consent::Never, "{inputs:?}");
                                    assert!(
                                        detectors_ready && budget_left && uplink == Uplink::Up,
                                        "{inputs:?}"
                                    );
                                    assert_ne!(mode, Mode::Local, "{inputs:?}");
                                    assert!(consent == Consent::Auto || mode == Mode::Cloud, "{inputs:?}");
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    assert_eq!(looked_at, 4 * 4 * 3 * 4 * 3 * 4 * 3);
}
