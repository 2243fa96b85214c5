//! What the daemon is told: a file, and flags that go before it.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use netmon_core::source::{SourceChoice, remote::DEFAULT_SOCKET};
use serde::{Deserialize, Serialize};

/// Where the configuration is looked for where none is named. It need not be there.
pub const DEFAULT_FILE: &str = "/etc/netmon/netmond.toml";

/// All settings; the default is what holds without a file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// Who may see what.
    pub access: Access,
    /// Certificates for listeners of TCP.
    pub tls: Option<Tls>,
    /// What is observed, and how much of it is remembered.
    pub observe: Observe,
    /// What one client may ask at once.
    pub limits: Limits,
    /// What is logged, to stderr.
    pub log: Log,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listen {
    /// The Unix socket, made with mode 0666: who connects decides what is told. A socket from systemd goes before it.
    pub socket: PathBuf,
    /// TCP addresses such as "127.0.0.1:7070"; a port alone is on 127.0.0.1.
    pub addresses: Vec<Address>,
}

impl Default for Listen {
    fn default() -> Self {
        Self { socket: DEFAULT_SOCKET.into(), addresses: Vec::new() }
    }
}

/// An address to listen at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(pub SocketAddr);

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        netmon_mcp::http::listen_address(text).map(Self)
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0.to_string()
    }
}

/// Who may see what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Access {
    /// The group whose members see all connections, as root does. Others see those of their own processes.
    pub group: String,
    /// Whoever presents this token sees all. Written with mode 0600 where it does not exist and is needed: for addresses
    /// that are not loopback.
    pub token_file: PathBuf,
    /// Names and addresses, besides those of the listener itself, by which clients of TCP may call this host.
    pub hosts: Vec<String>,
    /// Origins such as `https://dashboard.example` whose pages may ask.
    pub origins: Vec<String>,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            group: "netmon".to_owned(),
            token_file: "/var/lib/netmon/token".into(),
            hosts: Vec::new(),
            origins: Vec::new(),
        }
    }
}

/// Certificates, all in PEM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tls {
    /// The chain that is shown to clients.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signs clients' certificates. A client with one of these sees all; others need a token as before.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// What is observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observe {
    /// "live", or "replay:FILE" to serve a recording.
    #[serde(with = "source")]
    pub source: SourceChoice,
    /// How much memory connections that ended may take, in MiB. The oldest are forgotten first.
    pub memory_mib: usize,
}

impl Default for Observe {
    fn default() -> Self {
        Self { source: SourceChoice::Live, memory_mib: 64 }
    }
}

/// What one client may ask at once. A client is a user, or an address where the user is not known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Connections to the daemon.
    pub connections: usize,
    /// Questions that are computed at the same time; more wait for their turn.
    pub questions: usize,
    /// Streams, and questions that wait for something to happen.
    pub streams: usize,
    /// The largest body of a request, in KiB.
    pub body_kib: usize,
    /// How long a client may take to send a request, or to read a part of an answer, in seconds.
    pub patience_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 256, questions: 8, streams: 32, body_kib: 64, patience_seconds: 10 }
    }
}

impl Limits {
    /// How long a client may take.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_seconds.max(1))
    }
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// As `RUST_LOG` has it, which goes before this: `warn`, `info,netmon_daemon=debug`.
    pub level: String,
    /// "text" or "json".
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info,rmcp=warn".to_owned(), format: LogFormat::Text }
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line of text each.
    #[default]
    Text,
    /// A line of JSON each.
    Json,
}

mod source {
    use netmon_core::source::SourceChoice;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(source: &SourceChoice, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(source)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SourceChoice, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// Says what is wrong and where, with the nearest setting to a mistyped one.
    pub fn read(path: &std::path::Path) -> Result<Self, String> {
        let shown = path.display();
        let text = fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
        Self::parse(&text).map_err(|error| format!("{shown}: {error}"))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str) -> Result<Self, String> {
        let given: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        check_keys(&given, &known(), "")?;
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// Refuses what cannot be served.
    ///
    /// # Errors
    /// Says what contradicts what.
    pub fn check(&self) -> Result<(), String> {
        match &self.observe.source {
            SourceChoice::Live | SourceChoice::LiveWithSystemCalls | SourceChoice::Replay(_) => {}
            other => {
                return Err(format!(
                    "observe.source is {other}; a daemon observes live, or serves replay:FILE"
                ));
            }
        }
        if self.listen.socket.as_os_str().len() > 107 {
            return Err("listen.socket is longer than the path of a Unix socket may be, 107 bytes".to_owned());
        }
        let counts = [
            ("limits.connections", self.limits.connections),
            ("limits.questions", self.limits.questions),
            ("limits.streams", self.limits.streams),
            ("limits.body_kib", self.limits.body_kib),
            ("observe.memory_mib", self.observe.memory_mib),
        ];
        match counts.iter().find(|(_, count)| !(1..=1 << 20).contains(count)) {
            Some((name, count)) => Err(format!("{name} is {count}; it may be 1 to 1048576")),
            None => Ok(()),
        }
    }
}

/// Every setting there is.
fn known() -> toml::Table {
    let all = Config {
        tls: Some(Tls { certificate: "x".into(), key: "x".into(), client_ca: Some("x".into()) }),
        ..Config::default()
    };
    toml::Table::try_from(all).unwrap_or_default()
}

fn check_keys(given: &toml::Table, known: &toml::Table, prefix: &str) -> Result<(), String> {
    for (key, value) in given {
        match (known.get(key), value) {
            (None, _) => {
                let nearest = known
                    .keys()
                    .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
                let nearest =
                    nearest.map(|name| format!("; did you mean {prefix}{name}?")).unwrap_or_default();
                let all: Vec<_> = known.keys().map(|name| format!("{prefix}{name}")).collect();
                return Err(format!(
                    "no setting is called {prefix}{key}{nearest} There are: {}",
                    all.join(", ")
                ));
            }
            (Some(toml::Value::Table(known)), toml::Value::Table(given)) => {
                check_keys(given, known, &format!("{prefix}{key}."))?;
            }
            (Some(toml::Value::Table(_)), _) => {
                return Err(format!("{prefix}{key} is a section: [{prefix}{key}]"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_changes_what_it_names() {
        let config = Config::parse("[listen]\naddresses = [\":7070\"]\n[limits]\nquestions = 2\n").unwrap();
        assert_eq!(config.listen.addresses, [Address(([127, 0, 0, 1], 7070).into())]);
        assert_eq!(config.limits, Limits { questions: 2, ..Limits::default() });
        assert_eq!(config.access, Access::default());
        config.check().unwrap();
    }

    #[test]
    fn the_file_that_is_installed_says_what_holds_without_it() {
        let text = include_str!("../netmond.toml");
        assert_eq!(Config::parse(text).unwrap(), Config::default());
        // And with every line that is commented out.
        let all: String = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let all = Config::parse(&all).unwrap();
        assert_eq!(Config { tls: None, ..all.clone() }, Config::default());
        assert!(all.tls.is_some());
        for key in known().values().flat_map(|section| section.as_table().unwrap().keys()) {
            assert!(text.contains(&format!("#{key} = ")), "netmond.toml does not mention {key}");
        }
    }

    #[test]
    fn a_setting_that_is_not_there_is_refused_with_the_nearest() {
        let cases = [
            ("[listen]\nsoket = 'x'", "no setting is called listen.soket; did you mean listen.socket?"),
            ("[lisen]", "no setting is called lisen; did you mean listen?"),
            ("listen = 1", "listen is a section: [listen]"),
        ];
        for (text, expected) in cases {
            let message = Config::parse(text).unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
        assert!(
            Config::parse("[listen]\naddresses = ['nowhere']")
                .unwrap_err()
                .contains("no address to listen at")
        );
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let with = |text| Config::parse(text).unwrap().check().unwrap_err();
        assert!(with("[observe]\nsource = 'auto'").contains("a daemon observes live"));
        assert!(with("[limits]\nquestions = 0").contains("limits.questions is 0"));
    }
}
