//! Who asks, and what that may be told.

use std::{
    ffi::CString,
    fs, io,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use netmon_core::source::live::user_of_connection;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use subtle::ConstantTimeEq as _;

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
            Peer::Tcp { remote, local, .. } => match local_user(remote, local) {
                Some(uid) => {
                    Self { client: Client::User(uid), access: Some(access_of(uid, group)), is_tcp: true }
                }
                None => Self { client: Client::Host(remote.ip()), access: None, is_tcp: true },
            },
        }
    }
}

/// The user of this host at the other end of a connection over loopback.
fn local_user(remote: SocketAddr, local: SocketAddr) -> Option<u32> {
    // As the kernel has them: IPv4 in an IPv6 socket is IPv4.
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (remote, local) = (plain(remote), plain(local));
    if !remote.ip().is_loopback() || !local.ip().is_loopback() {
        return None;
    }
    user_of_connection(remote, local)
        .inspect_err(|error| tracing::warn!("cannot tell who asks from {remote}: {}", error.with_cause()))
        .ok()
        .flatten()
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

/// The token of those who are neither on this host nor certified.
#[derive(Clone)]
pub(crate) struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    const BYTES: usize = 32;

    /// Reads the token, or writes a new one.
    pub(crate) fn load(path: &Path, create: bool) -> Result<Option<Self>, String> {
        let shown = path.display();
        match fs::metadata(path) {
            Ok(file) if file.permissions().mode() & 0o077 != 0 => {
                return Err(format!("{shown} can be read by others; it holds a token: chmod 600 '{shown}'"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && !create => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::create(path).map_err(|error| format!("cannot write the token {shown}: {error}"))?;
            }
            Err(error) => return Err(format!("cannot read the token {shown}: {error}")),
        }
        let text =
            fs::read_to_string(path).map_err(|error| format!("cannot read the token {shown}: {error}"))?;
        match text.trim() {
            token if token.len() >= 16 => Ok(Some(Self(token.to_owned()))),
            _ => Err(format!("{shown} holds no token of at least 16 characters; remove it to have one made")),
        }
    }

    fn create(path: &Path) -> io::Result<()> {
        let mut random = [0; Self::BYTES];
        let mut filled = 0;
        while filled < random.len() {
            filled += rustix::rand::getrandom(&mut random[filled..], rustix::rand::GetRandomFlags::empty())?;
        }
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{token}")
    }

    /// Whether this is it; takes as long for every wrong one.
    pub(crate) fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
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

    #[test]
    fn a_token_is_made_once_and_nobody_else_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        assert!(Token::load(&path, false).unwrap().is_none());
        let token = Token::load(&path, true).unwrap().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim().len(), 2 * Token::BYTES);
        assert!(token.is(text.trim()) && !token.is("") && !token.is(&text));
        assert!(Token::load(&path, true).unwrap().unwrap().is(text.trim()));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Token::load(&path, true).unwrap_err().contains("chmod 600"));
        fs::remove_file(&path).unwrap();
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        assert!(Token::load(&path, true).unwrap_err().contains("holds no token"));
    }
}
