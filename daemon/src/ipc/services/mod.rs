//! The handlers, one file per service: convert, call the part of the daemon that does it, convert back.

mod adapters;
mod admin;
mod billing;
mod inference;
mod models;
mod node;
mod privacy;

use std::pin::Pin;

use futures_util::Stream;
use synesis_proto::control::v1::adapters_server::AdaptersServer;
use synesis_proto::control::v1::admin_server::AdminServer;
use synesis_proto::control::v1::billing_server::BillingServer;
use synesis_proto::control::v1::inference_server::InferenceServer;
use synesis_proto::control::v1::models_server::ModelsServer;
use synesis_proto::control::v1::node_server::NodeServer;
use synesis_proto::control::v1::privacy_server::PrivacyServer;
use tonic::Status;
use tonic::service::{Routes, RoutesBuilder};

use crate::app::Handles;

/// What streaming handlers return.
type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Every service of control.v1.
pub(super) fn routes(handles: &Handles) -> RoutesBuilder {
    let mut routes = Routes::builder();
    routes
        .add_service(NodeServer::new(node::NodeService::new(handles)))
        .add_service(ModelsServer::new(models::ModelsService::new(handles)))
        .add_service(AdaptersServer::new(adapters::AdaptersService::new(handles)))
        .add_service(InferenceServer::new(inference::InferenceService::new(handles)))
        .add_service(PrivacyServer::new(privacy::PrivacyService::new(handles)))
        .add_service(BillingServer::new(billing::BillingService::new(handles)))
        .add_service(AdminServer::new(admin::AdminService::new(handles)));
    routes
}
