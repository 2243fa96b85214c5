//! Who may ask over HTTP.

use std::{
    fs, io,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use netmon_core::{CleanText, source::live::user_of_connection};
use subtle::ConstantTimeEq as _;

/// The secret that those present of whom nothing else is known.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    const BYTES: usize = 32;

    /// Reads the token, or writes a new one, which only this user may read. `None` where there is none and none is to be
    /// made.
    ///
    /// # Errors
    /// Says what is wrong with the file, in words for whoever started the program.
    pub fn load(path: &Path, create: bool) -> Result<Option<Self>, String> {
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
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{token}")
    }

    /// Whether this is it; takes as long for every wrong one.
    pub fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

/// An address to listen at, as people write it: `127.0.0.1:7070`, `[::1]:7070`, `localhost:7070`, `:7070` or `7070`. A
/// port alone is on 127.0.0.1.
///
/// # Errors
/// Says how to write one.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse::<u16>() {
        return Ok(([127, 0, 0, 1], port).into());
    }
    let text = text.replacen("localhost:", "127.0.0.1:", 1);
    text.parse().map_err(|_| {
        format!("{text:?} is no address to listen at; write it like 127.0.0.1:7070, [::1]:7070 or :7070")
    })
}

/// Whether a `Host` header names this host without the help of a name service that others could have changed, or by one
/// of the names that are known.
pub fn is_own_name(host: &str, known: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || known.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The user of this host at the other end of a connection over loopback. Asks the kernel for sockets, so it may block.
pub fn user_over_loopback(remote: SocketAddr, local: SocketAddr) -> Option<u32> {
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

/// Who may ask a server of netmon-mcp's own.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// Whoever presents it may.
    pub token: Option<Token>,
    /// Names, besides addresses and `localhost`, by which clients may call this host.
    pub hosts: Vec<String>,
    /// Origins such as `https://dashboard.example` whose pages may ask.
    pub origins: Vec<String>,
}

/// Why somebody may not ask.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// What is in the headers forbids it.
    Forbidden(String),
    /// Nobody knows who it is.
    Unauthorized(String),
}

/// What a request says of who asks.
pub(super) struct Headers<'a> {
    pub(super) host: Option<&'a str>,
    pub(super) origin: Option<&'a str>,
    pub(super) authorization: Option<&'a str>,
}

impl Admission {
    /// Decides by the headers, and by whether the connection comes from a user who may see as much as this program.
    pub(super) fn admits(&self, headers: &Headers<'_>, is_known: bool) -> Result<(), Refusal> {
        // A browser of this host could be led here, by a name that somebody else points at this host, or by a page of
        // another origin.
        let host = headers.host.unwrap_or_default();
        if !is_own_name(host, &self.hosts) {
            return Err(Refusal::Forbidden(format!(
                "this host is not called \"{}\" here; use its address or localhost, or start netmon-mcp with --allow-host",
                CleanText::from(host)
            )));
        }
        if let Some(origin) = headers.origin {
            let same = [format!("http://{host}"), format!("https://{host}")];
            if !same.iter().chain(&self.origins).any(|known| known.eq_ignore_ascii_case(origin)) {
                return Err(Refusal::Forbidden(format!(
                    "pages of \"{}\" may not ask; start netmon-mcp with --allow-origin",
                    CleanText::from(origin)
                )));
            }
        }
        match headers.authorization {
            Some(value) => {
                let given = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
                match (given, &self.token) {
                    (Some((_, given)), Some(token)) if token.is(given.trim()) => Ok(()),
                    (Some(_), _) => Err(self.unauthorized("this is not the token")),
                    (None, _) => Err(self.unauthorized("only bearer tokens are understood")),
                }
            }
            None if is_known => Ok(()),
            None => Err(self.unauthorized("nobody knows who asks")),
        }
    }

    fn unauthorized(&self, what: &str) -> Refusal {
        let next = if self.token.is_some() {
            "present the token of the file that netmon-mcp named at its start: Authorization: Bearer TOKEN"
        } else {
            "over loopback the user who started netmon-mcp may ask, and root; for others start it with --token-file FILE"
        };
        Refusal::Unauthorized(format!("{what}; {next}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_token_is_made_once_and_nobody_else_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/netmon/token");
        assert!(Token::load(&path, false).unwrap().is_none());
        let token = Token::load(&path, true).unwrap().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
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

    #[test]
    fn a_port_alone_is_on_loopback() {
        for text in ["7070", ":7070", "localhost:7070", "127.0.0.1:7070"] {
            assert_eq!(listen_address(text), Ok(([127, 0, 0, 1], 7070).into()), "{text}");
        }
        assert_eq!(listen_address("[::1]:1").unwrap().to_string(), "[::1]:1");
        assert!(listen_address("0.0.0.0").unwrap_err().contains("127.0.0.1:7070"));
    }

    #[test]
    fn only_names_that_nobody_can_redirect_are_this_hosts() {
        let known = ["monitor.example".to_owned()];
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:7070",
            "[::1]:7070",
            "[::1]",
            "192.0.2.1",
            "Monitor.example:1",
        ] {
            assert!(is_own_name(host, &known), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example:7070", "[::1", "127.0.0.1.evil.example", ":80"]
        {
            assert!(!is_own_name(host, &known), "{host}");
        }
    }

    #[test]
    fn who_may_ask_is_decided_by_name_page_token_and_user() {
        let admission = Admission {
            token: Some(Token("0123456789abcdef".to_owned())),
            hosts: vec!["router.lan".to_owned()],
            origins: vec!["https://desk.example".to_owned()],
        };
        let asks = |host, origin, authorization, is_known| {
            admission.admits(&Headers { host: Some(host), origin, authorization }, is_known)
        };
        let token = Some("Bearer 0123456789abcdef");
        assert_eq!(asks("localhost:1", None, None, true), Ok(()));
        assert_eq!(asks("router.lan:1", None, token, false), Ok(()));
        assert_eq!(asks("localhost:1", Some("http://localhost:1"), None, true), Ok(()));
        assert_eq!(asks("localhost:1", Some("https://desk.example"), None, true), Ok(()));
        assert!(matches!(asks("evil.example", None, token, true), Err(Refusal::Forbidden(_))));
        assert!(matches!(
            asks("localhost:1", Some("http://evil.example"), token, true),
            Err(Refusal::Forbidden(_))
        ));
        assert!(matches!(asks("localhost:1", Some("null"), None, true), Err(Refusal::Forbidden(_))));
        assert!(matches!(asks("localhost:1", None, None, false), Err(Refusal::Unauthorized(_))));
        // A wrong token is no token, whoever presents it.
        for wrong in ["Bearer x", "Basic 0123456789abcdef", "0123456789abcdef"] {
            assert!(matches!(asks("localhost:1", None, Some(wrong), true), Err(Refusal::Unauthorized(_))));
        }
    }
}
