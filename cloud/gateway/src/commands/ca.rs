//! `ca`: the certificate authorities of the running gateway, and their rotation.

use serde_json::{Value, json};
use synesis_proto::gateway::v1;

use super::admin::call;
use super::print;
use crate::cli::{Ca, CaName};
use crate::failure::Failure;

pub(crate) fn run(command: Ca) -> Result<(), Failure> {
    match command {
        Ca::List { json, target } => {
            let list = call(&target, async |mut client| {
                client.list_authorities(v1::ListAuthoritiesRequest {}).await
            })?;
            if json { print(&list_json(&list).to_string()) } else { table(&list) }
        }
        Ca::Add { kind, target } => {
            let request = v1::AddAuthorityRequest { kind: kind.word() };
            let ca = call(&target, async |mut client| client.add_authority(request).await)?;
            print(&format!(
                "made the {} CA {}; devices trust it as they connect\n\
                 next step: synesis-gateway ca switch {}",
                ca.kind, ca.name, ca.kind,
            ))
        }
        Ca::Switch { kind, target } => {
            let request = v1::SwitchAuthorityRequest { kind: kind.word() };
            let ca = call(&target, async |mut client| client.switch_authority(request).await)?;
            let next = match kind {
                CaName::Server => {
                    "enrol new devices with its file, and retire the former one when `ca list` says that every device trusts this one"
                }
                CaName::Device => {
                    "retire the former one when `ca list` says that no device has its certificate from it"
                }
            };
            print(&format!("the {} CA {} issues from now on\nnext step: {next}", ca.kind, ca.name))
        }
        Ca::Retire { kind, force, target } => {
            let request = v1::RetireAuthorityRequest { kind: kind.word(), force };
            let ca = call(&target, async |mut client| client.retire_authority(request).await)?;
            print(&format!("the {} CA {} is no longer trusted, and its key is destroyed", ca.kind, ca.name))
        }
    }
}

fn list_json(list: &v1::ListAuthoritiesReply) -> Value {
    let authority = |ca: &v1::Authority| {
        json!({
            "kind": ca.kind,
            "name": ca.name,
            "state": ca.state,
            "fingerprint": ca.fingerprint,
            "not_after": ca.not_after,
            "devices": ca.devices,
        })
    };
    let authorities: Vec<Value> = list.authorities.iter().map(authority).collect();
    json!({"schema": "synesis.gateway.authorities/1", "authorities": authorities, "devices": list.devices})
}

fn table(list: &v1::ListAuthoritiesReply) -> Result<(), Failure> {
    for ca in &list.authorities {
        let devices = match ca.kind.as_str() {
            "server" => format!("{} of {} devices trust it", ca.devices, list.devices),
            _ => format!("{} of {} devices have their certificate from it", ca.devices, list.devices),
        };
        let (kind, name, state, until) = (&ca.kind, &ca.name, &ca.state, &ca.not_after);
        print(&format!("{kind:6}  {name:20}  {state:8}  until {until}  {devices}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_stable_keys() {
        let ca = v1::Authority { name: "server-ca".to_owned(), devices: 3, ..v1::Authority::default() };
        let json = list_json(&v1::ListAuthoritiesReply { authorities: vec![ca], devices: 4 });
        assert_eq!(json["schema"], "synesis.gateway.authorities/1");
        assert_eq!((&json["authorities"][0]["devices"], &json["devices"]), (&json!(3), &json!(4)));
    }
}
