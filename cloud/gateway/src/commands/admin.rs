//! `account`, `token`, `device`: one call to the running gateway each. Data goes to stdout, everything else to
//! stderr.

use std::path::PathBuf;

use serde_json::{Value, json};
use synesis_ledger::{NanoUsd, Tier};
use synesis_proto::gateway::v1;
use synesis_proto::gateway::v1::gateway_admin_client::GatewayAdminClient;
use synesis_proto::{Problem, channel};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::print;
use crate::cli::{Account, Device, Target, Token};
use crate::config;
use crate::failure::{Exit, Failure, chain};

pub(crate) fn account(command: Account) -> Result<(), Failure> {
    let Account::Create { name, tier, ceiling, quota, json, target } = command;
    let request = v1::CreateAccountRequest {
        name,
        tier: Tier::from(tier).as_str().to_owned(),
        ceiling_nanousd: ceiling.map(NanoUsd::as_i64),
        quota_nanousd: quota.map(NanoUsd::as_i64),
    };
    let account = call(&target, async |mut client| client.create_account(request).await)?;
    if json {
        return print(&account_json(&account).to_string());
    }
    let limit = |amount: Option<i64>| amount.map_or("none".to_owned(), |n| NanoUsd::from_i64(n).to_string());
    print(&format!(
        "created account {} ({}, {} tier, ceiling {}, quota {})",
        account.name,
        account.id,
        account.tier,
        limit(account.ceiling_nanousd),
        limit(account.quota_nanousd),
    ))
}

pub(crate) fn token(command: Token) -> Result<(), Failure> {
    let Token::Create { account, ttl, uses, target } = command;
    let request = v1::CreateTokenRequest { account, ttl_s: ttl.as_secs(), uses };
    let reply = call(&target, async |mut client| client.create_token(request).await)?;
    eprintln!("good until {} for {uses} device(s); it is shown only once", reply.expires_at);
    print(&reply.token)
}

pub(crate) fn device(command: Device) -> Result<(), Failure> {
    match command {
        Device::List { json, target } => {
            let reply =
                call(&target, async |mut client| client.list_devices(v1::ListDevicesRequest {}).await)?;
            if json { print(&devices_json(&reply.devices).to_string()) } else { print_table(&reply.devices) }
        }
        Device::Revoke { id, target } => {
            let request = v1::RevokeDeviceRequest { id: id.clone() };
            let reply = call(&target, async |mut client| client.revoke_device(request).await)?;
            let connection =
                if reply.was_connected { "its connection was closed" } else { "it was not connected" };
            print(&format!("revoked device {id}; {connection}"))
        }
    }
}

fn account_json(account: &v1::Account) -> Value {
    json!({
        "schema": "synesis.gateway.account/1",
        "id": account.id,
        "name": account.name,
        "tier": account.tier,
        "ceiling_nanousd": account.ceiling_nanousd,
        "quota_nanousd": account.quota_nanousd,
    })
}

fn devices_json(devices: &[v1::Device]) -> Value {
    let devices: Vec<Value> = devices
        .iter()
        .map(|device| {
            let last_seen_at = (!device.last_seen_at.is_empty()).then_some(&device.last_seen_at);
            json!({
                "id": device.id,
                "account": device.account,
                "state": device.state,
                "connected": device.connected,
                "enrolled_at": device.enrolled_at,
                "last_seen_at": last_seen_at,
                "rtt_ms": device.rtt_ms,
            })
        })
        .collect();
    json!({"schema": "synesis.gateway.devices/1", "devices": devices})
}

fn print_table(devices: &[v1::Device]) -> Result<(), Failure> {
    if devices.is_empty() {
        eprintln!("no device is enrolled; make a token with `synesis-gateway token create --account NAME`");
        return Ok(());
    }
    for device in devices {
        let presence = match (device.connected, device.last_seen_at.as_str()) {
            (true, _) => "connected".to_owned(),
            (false, "") => "never seen".to_owned(),
            (false, at) => format!("last seen {at}"),
        };
        print(&format!("{}  {:8}  {:16}  {presence}", device.id, device.state, device.account))?;
    }
    Ok(())
}

/// Makes one call to the running gateway.
pub(super) fn call<T>(
    target: &Target,
    make: impl AsyncFnOnce(GatewayAdminClient<Channel>) -> Result<tonic::Response<T>, Status>,
) -> Result<T, Failure> {
    let socket = socket(target)?;
    let unable =
        |error| Failure::new(Exit::Failed, format!("the command cannot start: {error}"), "try again");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unable)?;
    runtime.block_on(async {
        let channel = channel::connect(socket.clone()).await.map_err(|error| unreachable(&socket, &error))?;
        let reply = make(GatewayAdminClient::new(channel)).await;
        reply.map(tonic::Response::into_inner).map_err(|status| refused(&socket, &status))
    })
}

/// `--socket`, then the environment (clap reads both into one field), then the configuration.
fn socket(target: &Target) -> Result<PathBuf, Failure> {
    if let Some(socket) = &target.socket {
        return Ok(socket.clone());
    }
    match config::load(&target.config) {
        Ok(config) => Ok(config.admin_socket),
        Err(error) => Err(Failure::new(
            Exit::Config,
            format!("the gateway's admin socket is not known: {}", chain(&error)),
            "name it with --socket PATH or SYNESIS_GATEWAY_SOCKET, or the configuration with --config FILE",
        )),
    }
}

fn unreachable(socket: &std::path::Path, error: &std::io::Error) -> Failure {
    let next_step = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "run the command as the user that runs the gateway",
        _ => "start it with `synesis-gateway serve`, or name its socket with --socket PATH",
    };
    Failure::new(Exit::Unreachable, format!("no gateway answers on {}: {error}", socket.display()), next_step)
}

fn refused(socket: &std::path::Path, status: &Status) -> Failure {
    let problem = Problem::from_status(status);
    let exit = match problem.code {
        Code::NotFound => Exit::NotFound,
        // Without a reason the answer is not the gateway's: the connection broke.
        _ if problem.reason.is_empty() => {
            let what = format!("the gateway on {} did not answer", socket.display());
            return Failure::new(Exit::Unreachable, what, "check that the gateway still runs");
        }
        _ => Exit::Failed,
    };
    Failure::new(exit, problem.message, problem.next_step)
}

#[cfg(test)]
mod tests {
    use synesis_proto::reason;

    use super::*;

    fn target(socket: &str) -> Target {
        Target { socket: Some(socket.into()), config: "/nonexistent".into() }
    }

    #[test]
    fn no_gateway_on_the_socket_is_its_own_exit_code() {
        let failure =
            device(Device::List { json: false, target: target("/nonexistent/admin.sock") }).unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.what.contains("/nonexistent/admin.sock"), "{failure}");
    }

    #[test]
    fn without_socket_and_configuration_the_ways_to_name_one_are_told() {
        let failure =
            socket(&Target { socket: None, config: "/nonexistent/gateway.toml".into() }).unwrap_err();
        assert_eq!(failure.exit, Exit::Config);
        assert!(failure.next_step.contains("--socket"), "{failure}");
    }

    #[test]
    fn what_is_not_there_exits_with_not_found() {
        let problem = Problem::new(Code::NotFound, reason::BAD_REQUEST, "there is no account", "create it");
        assert_eq!(refused("/s".as_ref(), &problem.into()).exit, Exit::NotFound);
        assert_eq!(refused("/s".as_ref(), &Status::unknown("transport error")).exit, Exit::Unreachable);
    }

    #[test]
    fn the_device_list_has_stable_keys() {
        let device = v1::Device { id: "d".to_owned(), connected: true, ..v1::Device::default() };
        let json = devices_json(&[device]);
        assert_eq!(json["schema"], "synesis.gateway.devices/1");
        assert_eq!(json["devices"][0]["connected"], true);
        assert_eq!(json["devices"][0]["last_seen_at"], Value::Null);
    }
}
