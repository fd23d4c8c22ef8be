//! The one table of who may call what. A method that is not in it cannot be called.

use super::Role;

/// How loudly a call is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audit {
    /// It only looks: a line at debug.
    Reads,
    /// It changes the device or spends money: a line at info.
    Changes,
}

/// One method of the local API.
#[derive(Debug)]
pub struct Method {
    /// As on the wire: `/package.Service/Method`.
    pub path: &'static str,
    /// The least role that may call it.
    pub least: Role,
    /// How loudly it is logged.
    pub audit: Audit,
}

const fn method(path: &'static str, least: Role, audit: Audit) -> Method {
    Method { path, least, audit }
}

/// Every method there is.
pub static METHODS: &[Method] = &[
    method("/grpc.health.v1.Health/Check", Role::Guest, Audit::Reads),
    method("/grpc.health.v1.Health/Watch", Role::Guest, Audit::Reads),
    method("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Role::Guest, Audit::Reads),
    method("/synesis.control.v1.Node/Status", Role::Guest, Audit::Reads),
    method("/synesis.control.v1.Node/Watch", Role::User, Audit::Reads),
    method("/synesis.control.v1.Node/Vitals", Role::User, Audit::Reads),
    method("/synesis.control.v1.Models/Info", Role::User, Audit::Reads),
    method("/synesis.control.v1.Models/List", Role::User, Audit::Reads),
    method("/synesis.control.v1.Models/Catalogue", Role::User, Audit::Reads),
    // They fill the disk, reach out to the network, and decide what answers everybody.
    method("/synesis.control.v1.Models/Pull", Role::Admin, Audit::Changes),
    method("/synesis.control.v1.Models/Upload", Role::Admin, Audit::Changes),
    method("/synesis.control.v1.Models/Load", Role::Admin, Audit::Changes),
    method("/synesis.control.v1.Models/Remove", Role::Admin, Audit::Changes),
    method("/synesis.control.v1.Inference/Ask", Role::User, Audit::Changes),
    method("/synesis.control.v1.Inference/Route", Role::User, Audit::Reads),
    method("/synesis.control.v1.Inference/Decisions", Role::User, Audit::Reads),
    method("/synesis.control.v1.Inference/Replay", Role::User, Audit::Reads),
    method("/synesis.control.v1.Inference/Embed", Role::User, Audit::Reads),
    method("/synesis.control.v1.Privacy/Preview", Role::User, Audit::Reads),
    method("/synesis.control.v1.Privacy/PreviewMany", Role::User, Audit::Reads),
    method("/synesis.control.v1.Adapters/List", Role::User, Audit::Reads),
    // One adapter answers for everybody on the device, so choosing it is an admin's business; a user names one in a
    // request instead.
    method("/synesis.control.v1.Adapters/Import", Role::Admin, Audit::Changes),
    method("/synesis.control.v1.Adapters/Swap", Role::Admin, Audit::Changes),
    method("/synesis.control.v1.Adapters/Off", Role::Admin, Audit::Changes),
    method("/synesis.control.v1.Adapters/Remove", Role::Admin, Audit::Changes),
    // What the account has is no secret within the device. Its bytes leave, or fill the disk, only when an admin says so.
    method("/synesis.control.v1.Adapters/ListCloud", Role::User, Audit::Reads),
    method("/synesis.control.v1.Adapters/Push", Role::Admin, Audit::Changes),
    method("/synesis.control.v1.Adapters/Pull", Role::Admin, Audit::Changes),
    method("/synesis.control.v1.Adapters/CancelTransfer", Role::Admin, Audit::Changes),
    method("/synesis.control.v1.Adapters/RemoveCloud", Role::Admin, Audit::Changes),
    method("/synesis.control.v1.Billing/Balance", Role::User, Audit::Reads),
    method("/synesis.control.v1.Billing/Receipts", Role::User, Audit::Reads),
    method("/synesis.control.v1.Billing/ReceiptKeys", Role::User, Audit::Reads),
    method("/synesis.control.v1.Admin/Enroll", Role::Admin, Audit::Changes),
    method("/synesis.control.v1.Admin/Unenroll", Role::Admin, Audit::Changes),
    method("/synesis.control.v1.Admin/TunnelStatus", Role::Admin, Audit::Reads),
    method("/synesis.control.v1.Admin/TunnelPing", Role::Admin, Audit::Reads),
    method("/synesis.control.v1.Admin/TunnelReconnect", Role::Admin, Audit::Changes),
];

/// The row of `path`, when there is one.
pub(super) fn find(path: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.path == path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;

    /// What is served on the socket: the packages of the descriptors that health, reflection and we register.
    fn served() -> BTreeSet<String> {
        let sets = [
            synesis_proto::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        ];
        let packages = ["synesis.control.v1", "grpc.health.v1", "grpc.reflection.v1"];
        let mut methods = BTreeSet::new();
        for set in sets {
            for file in prost_types::FileDescriptorSet::decode(set).unwrap().file {
                let package = file.package().to_owned();
                if !packages.contains(&package.as_str()) {
                    continue;
                }
                for service in &file.service {
                    for method in &service.method {
                        methods.insert(format!("/{package}.{}/{}", service.name(), method.name()));
                    }
                }
            }
        }
        methods
    }

    #[test]
    fn every_method_of_the_local_api_is_in_the_table_once_and_nothing_else_is() {
        let table: BTreeSet<String> = METHODS.iter().map(|method| method.path.to_owned()).collect();
        assert_eq!(table, served());
        assert_eq!(table.len(), METHODS.len());
    }

    #[test]
    fn what_changes_the_device_needs_an_admin_and_asking_does_not() {
        for method in METHODS.iter().filter(|method| method.audit == Audit::Changes) {
            let asking = method.path.ends_with("Inference/Ask");
            assert_eq!(method.least, if asking { Role::User } else { Role::Admin }, "{}", method.path);
        }
    }

    #[test]
    fn an_unknown_method_is_not_found() {
        for path in ["", "/", "/synesis.control.v1.Node/Reboot", "/synesis.control.v1.node/status", "//"] {
            assert!(find(path).is_none(), "{path}");
        }
    }
}
