//! `Node`: what the device is doing. Watchers see the newest state; what came in between is skipped for a slow one.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use synesis_proto::control::v1::node_server::Node;
use synesis_proto::control::v1::{StatusReply, StatusRequest, Vitals, VitalsRequest};
use synesis_supervise::Overall;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

use super::Replies;
use crate::app::Handles;
use crate::ipc::status::not_now;
use crate::node::{NodeStatus, NodeView};
use crate::vitals;

/// Just after the start there is no sample yet.
const FIRST_SAMPLE: Duration = Duration::from_secs(5);

pub(super) struct NodeService {
    view: NodeView,
    vitals: watch::Receiver<Option<vitals::Vitals>>,
}

impl NodeService {
    pub(super) fn new(handles: &Handles) -> Self {
        Self { view: handles.node.clone(), vitals: handles.vitals.clone() }
    }
}

#[tonic::async_trait]
impl Node for NodeService {
    type WatchStream = Replies<StatusReply>;
    type VitalsStream = Replies<Vitals>;

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Ok(Response::new((&self.view.snapshot()).into()))
    }

    async fn watch(&self, _: Request<StatusRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let states = stream::unfold((self.view.clone(), None), |(mut view, last)| async move {
            let next = next_state(&mut view, last.as_ref()).await?;
            Some((Ok(StatusReply::from(&next)), (view, Some(next))))
        });
        Ok(Response::new(Box::pin(states)))
    }

    async fn vitals(&self, request: Request<VitalsRequest>) -> Result<Response<Self::VitalsStream>, Status> {
        let mut newest = self.vitals.clone();
        let measured = timeout(FIRST_SAMPLE, newest.wait_for(Option::is_some)).await;
        if !matches!(measured, Ok(Ok(_))) {
            return Err(not_now("nothing has been measured yet"));
        }
        drop(measured);
        if !request.get_ref().watch {
            let one = newest.borrow().as_ref().map(|sample| Ok(Vitals::from(sample)));
            return Ok(Response::new(Box::pin(stream::iter(one))));
        }
        let stopping = self.view.stopping().clone().cancelled_owned();
        let samples = WatchStream::new(newest)
            .filter_map(|sample| std::future::ready(sample.as_ref().map(|sample| Ok(Vitals::from(sample)))))
            .take_until(stopping);
        Ok(Response::new(Box::pin(samples)))
    }
}

/// The next state that differs from `last`; none after the one that says that the daemon is stopping.
async fn next_state(view: &mut NodeView, last: Option<&NodeStatus>) -> Option<NodeStatus> {
    if last.is_some_and(|last| last.state == Overall::Stopping) {
        return None;
    }
    let stopping = view.stopping().clone();
    loop {
        let now = view.snapshot();
        if last != Some(&now) {
            return Some(now);
        }
        tokio::select! {
            () = view.changed() => {}
            () = stopping.cancelled() => {}
        }
    }
}
