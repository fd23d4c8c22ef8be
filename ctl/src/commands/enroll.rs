//! `enroll` and `unenroll`: this device's identity at a gateway. The token is read from a file, sent once, and
//! never shown.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use synesis_proto::control::v1::{EnrollReply, EnrollRequest, UnenrollRequest};

use crate::connect::Context;
use crate::failure::Failure;
use crate::input;
use crate::output::Output;
use crate::view::{Style, View, present};

/// Where to enroll, and with what.
#[derive(Debug, Args)]
pub(crate) struct EnrollArgs {
    /// The gateway's address; [ADDRESS]:PORT for IPv6
    #[arg(long, value_name = "HOST:PORT", value_parser = gateway)]
    gateway: String,

    /// The gateway's CA certificate, in PEM; nothing else is trusted from then on
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,

    /// A file with the one-time token
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
}

fn gateway(text: &str) -> Result<String, String> {
    let expected = || "expected HOST:PORT, as in gateway.example:4433".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let bare = bracketed.unwrap_or(host);
    let host_ok =
        !bare.is_empty() && !bare.contains(char::is_whitespace) && bracketed.is_some() == bare.contains(':');
    match host_ok && port.parse::<u16>().is_ok_and(|port| port > 0) {
        true => Ok(text.to_owned()),
        false => Err(expected()),
    }
}

pub(crate) async fn enroll(
    arguments: EnrollArgs,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let ca_pem = input::small_file(&arguments.ca).await?;
    if !ca_pem.contains("-----BEGIN CERTIFICATE-----") {
        return Err(Failure::BadInput {
            what: format!("{} holds no PEM certificate", arguments.ca.display()),
            next_step: "ask whoever runs the gateway for its CA certificate (a file with BEGIN CERTIFICATE)",
        });
    }
    let token = input::small_file(&arguments.token_file).await?.trim().to_owned();
    if token.is_empty() {
        return Err(Failure::BadInput {
            what: format!("{} holds no token", arguments.token_file.display()),
            next_step: "have one made at the gateway: synesis-gateway token create --account NAME",
        });
    }
    let request = EnrollRequest { gateway: arguments.gateway, ca_pem, token };
    let reply = context.connect().await?.admin().enroll(request).await?.into_inner();
    output.print(&EnrolledView::from(reply)).await
}

/// Arguments of `unenroll`.
#[derive(Debug, clap::Args)]
pub(crate) struct UnenrollArgs {
    /// Also while receipts are outstanding: they are given up (for a gateway that is gone for good)
    #[arg(long)]
    force: bool,
}

pub(crate) async fn unenroll(
    args: UnenrollArgs,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    context.connect().await?.admin().unenroll(UnenrollRequest { force: args.force }).await?;
    output.print(&UnenrolledView { schema: "synesis.unenroll/1", enrolled: false }).await
}

#[derive(Debug, Serialize)]
struct EnrolledView {
    schema: &'static str,
    device_id: String,
    account: Option<String>,
    gateway: Option<String>,
    expires_at: Option<String>,
}

impl From<EnrollReply> for EnrolledView {
    fn from(reply: EnrollReply) -> Self {
        Self {
            schema: "synesis.enroll/1",
            device_id: reply.device_id,
            account: present(reply.account),
            gateway: present(reply.gateway),
            expires_at: present(reply.expires_at),
        }
    }
}

impl View for EnrolledView {
    fn human(&self, style: Style) -> String {
        let unknown = || "unknown".to_owned();
        let rows = [
            ("device", Some(style.strong(&self.device_id))),
            ("account", self.account.clone()),
            ("gateway", self.gateway.clone()),
            ("valid until", self.expires_at.clone()),
        ];
        let lines = rows.map(|(name, value)| format!("{name:<12} {}", value.unwrap_or_else(unknown)));
        format!("this device is enrolled\n{}", lines.join("\n"))
    }
}

#[derive(Debug, Serialize)]
struct UnenrolledView {
    schema: &'static str,
    enrolled: bool,
}

impl View for UnenrolledView {
    fn human(&self, _: Style) -> String {
        "this device has forgotten its identity; local answers go on, receipts stay".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::gateway;

    #[test]
    fn a_gateway_is_a_host_and_a_port() {
        for address in ["gateway.example:4433", "192.0.2.1:1", "[2001:db8::1]:4433", "localhost:65535"] {
            assert_eq!(gateway(address).as_deref(), Ok(address));
        }
        for address in
            ["gateway", ":4433", "h:", "h:0", "h:65536", "2001:db8::1:4433", "[h]:1", "a b:1", "h:+1x"]
        {
            assert!(gateway(address).is_err(), "{address}");
        }
    }
}
