//! Who asks, and what that may be told.

use std::{ffi::CString, net::SocketAddr};

use netmon_mcp::http::user_over_loopback;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// What somebody may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    /// Everything.
    All,
    /// Interfaces, and the connections of this user's processes.
    Own(u32),
}

/// Whom limits are counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// A user of this host.
    User(u32),
    /// A host.
    Host(std::net::IpAddr),
}

/// How somebody is connected.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer {
    /// By the Unix socket, as this user.
    Unix { uid: u32 },
    /// By TCP.
    Tcp { remote: SocketAddr, local: SocketAddr, certified: bool },
}

/// Somebody who is connected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) client: Client,
    /// What is known without a token.
    pub(crate) access: Option<Access>,
    /// Whether pages of the Web could be behind it.
    pub(crate) is_tcp: bool,
}

impl Caller {
    /// Finds out who it is. Reads the user database, so it may block.
    pub(crate) fn identify(peer: Peer, group: &str) -> Self {
        match peer {
            Peer::Unix { uid } => {
                Self { client: Client::User(uid), access: Some(access_of(uid, group)), is_tcp: false }
            }
            Peer::Tcp { remote, certified: true, .. } => {
                Self { client: Client::Host(remote.ip()), access: Some(Access::All), is_tcp: true }
            }
            Peer::Tcp { remote, local, .. } => match user_over_loopback(remote, local) {
                Some(uid) => {
                    Self { client: Client::User(uid), access: Some(access_of(uid, group)), is_tcp: true }
                }
                None => Self { client: Client::Host(remote.ip()), access: None, is_tcp: true },
            },
        }
    }
}

/// Root and the members of the group see all.
fn access_of(uid: u32, group: &str) -> Access {
    if uid == 0 || is_member(uid, group) { Access::All } else { Access::Own(uid) }
}

fn is_member(uid: u32, group: &str) -> bool {
    let Ok(Some(group)) = Group::from_name(group) else { return false };
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return false };
    let groups = CString::new(user.name).map(|name| getgrouplist(&name, user.gid));
    let groups: Vec<Gid> = groups.ok().and_then(Result::ok).unwrap_or_default();
    groups.contains(&group.gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_sees_all_and_a_stranger_only_what_is_its_own() {
        assert_eq!(access_of(0, "netmon"), Access::All);
        assert_eq!(access_of(4_000_000, "netmon"), Access::Own(4_000_000));
        assert_eq!(access_of(1, "no such group"), Access::Own(1));
        // The group of this name has its user as a member, in every passwd.
        assert_eq!(access_of(1, "daemon"), Access::All);
    }
}
