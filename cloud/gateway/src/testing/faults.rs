//! Defects in the gateway itself: they cost one answer, and nothing else.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use synesis_mesh::kind::ErrorCode;

use super::delta;
use super::device::TestDevice;
use super::end_to_end::REQUEST;
use super::gateway::TestGateway;
use crate::providers::{Catalogue, EventStream, Provider, ProviderError, Request};

/// Says a word, and panics.
struct Panicking(Vec<String>);

#[async_trait]
impl Provider for Panicking {
    fn name(&self) -> &'static str {
        "panicking"
    }

    fn models(&self) -> &[String] {
        &self.0
    }

    async fn stream(&self, _: Request) -> Result<EventStream, ProviderError> {
        let defect = stream::once(async { panic!("a planted defect") });
        Ok(stream::iter([Ok(delta("Hel"))]).chain(defect).boxed())
    }
}

#[tokio::test]
async fn a_panic_in_the_middle_of_an_answer_gives_the_hold_back_and_says_so() {
    let catalogue = Catalogue::new(vec![Arc::new(Panicking(vec!["big".to_owned()]))], None);
    let gateway = TestGateway::start_with(catalogue).await;
    let device = TestDevice::enrol(&gateway, None).await;
    let told = device.ask(REQUEST, "hi").await.told().await;
    assert!(told.accepted.unwrap().held_nanousd > 0);
    assert_eq!(told.problem.unwrap().code, ErrorCode::Internal.number());
    assert_eq!(device.receipt(REQUEST).await.state, "released");
    let balance = device.balance().await;
    assert_eq!((balance.held_nanousd, balance.unbilled_nanousd), (0, 0));
}
