//! The daily limit, as the gateway sees it.

use synesis_proto::{Problem, reason};

use crate::fixture::World;

#[tokio::test]
async fn two_requests_at_once_are_not_both_promised_the_rest_of_the_day() {
    let world = World::with_limit(Some(1_000)).await;
    let gateway = async {
        let mut first = world.asked().await;
        assert_eq!(first.start.max_charge_nanousd, Some(1_000));
        first.accept(700).await;
        let mut second = world.asked().await;
        assert_eq!(second.start.max_charge_nanousd, Some(300));
        second.accept(300).await;
        first.finish(0).await;
        first.hand_over(&world.key.sign(world.receipt(&first))).await;
        second.finish(0).await;
        second.end().await;
    };
    let ((one, _), (two, _), ()) = tokio::join!(world.ask(), world.ask(), gateway);
    assert!(one.unwrap().receipt.is_some() && two.unwrap().receipt.is_none());
    // 103 were charged and 300 are promised.
    let ((_, _), ()) = tokio::join!(world.ask(), async {
        assert_eq!(world.asked().await.start.max_charge_nanousd, Some(597));
    });
}

#[tokio::test]
async fn a_request_given_up_before_its_hold_is_known_counts_until_it_is_reconciled() {
    let world = World::with_limit(Some(1_000)).await;
    tokio::select! {
        _ = world.ask() => panic!("nothing was answered"),
        asking = world.asked() => assert_eq!(asking.start.max_charge_nanousd, Some(1_000)),
    }
    let (refused, _) = world.ask().await;
    assert_eq!(Problem::from(refused.unwrap_err()).reason, reason::DAILY_LIMIT);
    tokio::join!(world.reconcile(), world.tell("released", None));
    let ((_, _), ()) = tokio::join!(world.ask(), async {
        assert_eq!(world.asked().await.start.max_charge_nanousd, Some(1_000));
    });
}
