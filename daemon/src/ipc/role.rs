//! Who may do what is decided by a role, and the role by the kernel's word about the peer.

use std::ffi::CString;
use std::fmt;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// The group whose members may use the daemon.
const GROUP: &str = "synesis";

/// What a caller may do; each includes the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May see that the daemon is there.
    Guest,
    /// May ask.
    User,
    /// May change the device.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guest => "guest",
            Self::User => "user",
            Self::Admin => "admin",
        })
    }
}

/// The rules by which a peer gets its role.
#[derive(Debug, Clone)]
pub struct Roles {
    own_uid: u32,
    admin_uids: Vec<u32>,
    user_gid: Option<u32>,
}

impl Roles {
    /// This process's user and the configured ones are admins; members of the group `synesis`, when it exists, users.
    pub fn new(admin_uids: Vec<u32>) -> Self {
        Self { own_uid: Uid::effective().as_raw(), admin_uids, user_gid: user_group().map(Gid::as_raw) }
    }

    /// The role of a peer with this uid and these groups. Pure.
    pub fn role_of(&self, uid: u32, groups: &[u32]) -> Role {
        if uid == 0 || uid == self.own_uid || self.admin_uids.contains(&uid) {
            Role::Admin
        } else if self.user_gid.is_some_and(|gid| groups.contains(&gid)) {
            Role::User
        } else {
            Role::Guest
        }
    }

    /// The same, asking the system for the user's groups where they matter. May block on the user database.
    pub(super) fn lookup(&self, uid: u32, gid: u32) -> Role {
        let role = self.role_of(uid, &[gid]);
        if role == Role::Guest && self.user_gid.is_some() {
            self.role_of(uid, &groups_of(uid, gid))
        } else {
            role
        }
    }
}

/// The group of the socket, when there is one on this machine.
pub fn user_group() -> Option<Gid> {
    Group::from_name(GROUP).ok().flatten().map(|group| group.gid)
}

/// Primary and supplementary groups; only the primary one when the user is not in the database.
fn groups_of(uid: u32, gid: u32) -> Vec<u32> {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let listed = user.and_then(|user| getgrouplist(&CString::new(user.name).ok()?, user.gid).ok());
    listed.map_or_else(|| vec![gid], |groups| groups.into_iter().map(Gid::as_raw).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_word_about_the_peer_decides_the_role() {
        let with_group = Roles { own_uid: 990, admin_uids: vec![1000], user_gid: Some(991) };
        let without_group = Roles { user_gid: None, ..with_group.clone() };
        for (uid, groups, expected, expected_without_group) in [
            (0, &[0][..], Role::Admin, Role::Admin),
            (990, &[990], Role::Admin, Role::Admin),
            (1000, &[1000], Role::Admin, Role::Admin),
            (1001, &[1001, 991], Role::User, Role::Guest),
            (1001, &[991], Role::User, Role::Guest),
            (1001, &[1001, 27], Role::Guest, Role::Guest),
            (65534, &[], Role::Guest, Role::Guest),
            (991, &[100], Role::Guest, Role::Guest),
        ] {
            assert_eq!(with_group.role_of(uid, groups), expected, "uid {uid} in {groups:?}");
            assert_eq!(without_group.role_of(uid, groups), expected_without_group, "uid {uid}, no group");
        }
    }

    #[test]
    fn roles_are_ordered() {
        assert!(Role::Guest < Role::User && Role::User < Role::Admin);
    }

    #[test]
    fn a_user_that_nobody_knows_has_its_primary_group_only() {
        assert_eq!(groups_of(4_000_000_000, 77), [77]);
        assert!(groups_of(0, 0).contains(&0));
    }
}
