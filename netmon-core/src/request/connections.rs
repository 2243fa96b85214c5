//! Choosing connections.

use std::net::{IpAddr, ToSocketAddrs as _};

use serde::{Deserialize, Serialize};

use crate::{
    control::Cancel,
    error::Result,
    fact::Protocol,
    filter::{Field, Filter, FilterError, Relation, quote},
};

/// Which connections; all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConnectionFilter {
    /// Of the process with this number
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Of processes with this name; * stands for any characters, ? for one
    #[cfg_attr(feature = "clap", arg(long, value_name = "NAME"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// Of processes of this user, by name or number
    #[cfg_attr(feature = "clap", arg(long, value_name = "USER"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Of processes in this control group and those below, such as /system.slice
    #[cfg_attr(feature = "clap", arg(long, value_name = "PATH"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Of this protocol
    #[cfg_attr(feature = "clap", arg(long, value_enum, value_name = "PROTOCOL"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Begun by the other side (inbound) or by this one (outbound)
    #[cfg_attr(feature = "clap", arg(long, value_enum, value_name = "WAY"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<DirectionChoice>,
    /// With this peer: an address, a network such as 10.0.0.0/8, or a host name, which is looked up once
    #[cfg_attr(feature = "clap", arg(long, value_name = "ADDRESS"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// With this port on either side
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// That match this expression, such as 'port in (80, 443) and not failed'
    #[cfg_attr(feature = "clap", arg(long, value_name = "EXPRESSION"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Include the connections of netmon itself
    #[cfg_attr(feature = "clap", arg(long))]
    pub include_own: bool,
}

/// Who began the connections that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DirectionChoice {
    /// The other side
    #[cfg_attr(feature = "clap", value(alias = "in"))]
    #[serde(alias = "in")]
    Inbound,
    /// This side
    #[cfg_attr(feature = "clap", value(alias = "out"))]
    #[serde(alias = "out")]
    Outbound,
}

impl DirectionChoice {
    fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl ConnectionFilter {
    /// The condition that these stand for. A process that does not exist is none of its concern: nothing will match.
    ///
    /// Looks up a user's name in `/etc/passwd`, and a host's with the system's resolver, which may take seconds.
    /// `include_own` is left to the source, which alone knows the processes of netmon.
    ///
    /// # Errors
    /// [`Error::Filter`](crate::Error::Filter), which names the condition and what it may be.
    pub fn compile(&self) -> Result<Filter> {
        self.compile_until(&Cancel::new())
    }

    /// The same, given up where a name is still looked up when somebody cancels.
    pub(crate) fn compile_until(&self, cancel: &Cancel) -> Result<Filter> {
        let mut filter = Filter::everything();
        let mut require = |field, relation, values: &[&str]| {
            let condition =
                Filter::comparison(field, relation, values).map_err(FilterError::without_place)?;
            filter = std::mem::take(&mut filter).and(condition);
            Ok::<_, FilterError>(())
        };
        if let Some(pid) = self.pid {
            require(Field::Pid, Relation::Equal, &[&pid.to_string()])?;
        }
        if let Some(process) = self.process.as_deref() {
            let name = given("process", process, "the name of a process such as curl or \"nginx*\"")?;
            require(Field::Process, Relation::Equal, &[name])?;
        }
        if let Some(user) = self.user.as_deref() {
            let user = given("user", user, "the name of a user or its number")?;
            require(Field::User, Relation::Equal, &[user])?;
        }
        if let Some(cgroup) = self.cgroup.as_deref() {
            let path = cgroup_path(given("cgroup", cgroup, "a path such as /system.slice")?);
            let below = format!("{path}/*");
            match path.as_str() {
                "" => require(Field::Cgroup, Relation::Equal, &[&below])?,
                path => require(Field::Cgroup, Relation::In, &[path, &below])?,
            }
        }
        if let Some(protocol) = self.protocol {
            require(Field::Protocol, Relation::Equal, &[protocol.name()])?;
        }
        if let Some(direction) = self.direction {
            require(Field::Direction, Relation::Equal, &[direction.name()])?;
        }
        if let Some(remote) = self.remote.as_deref() {
            let addresses = addresses(given("remote", remote, REMOTES)?, cancel)?;
            let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
            let relation = if addresses.len() == 1 { Relation::Equal } else { Relation::In };
            require(Field::Remote, relation, &addresses)?;
        }
        if let Some(port) = self.port {
            require(Field::Port, Relation::Equal, &[&port.to_string()])?;
        }
        if let Some(expression) = self.filter.as_deref() {
            filter = filter.and(Filter::parse(expression)?);
        }
        Ok(filter)
    }

    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        Self { include_own: false, ..self.clone() } == Self::default()
    }

    /// The conditions in words, such as `process "curl", port 443`; empty if there are none. What others chose is cleaned
    /// and in quotes.
    pub fn describe(&self) -> String {
        let quoted = |text: &Option<String>| text.as_deref().map(quote);
        let conditions = [
            ("pid", self.pid.map(|pid| pid.to_string())),
            ("process", quoted(&self.process)),
            ("user", quoted(&self.user)),
            ("cgroup", quoted(&self.cgroup)),
            ("protocol", self.protocol.map(|protocol| protocol.to_string())),
            ("direction", self.direction.map(|direction| direction.name().to_owned())),
            ("remote", quoted(&self.remote)),
            ("port", self.port.map(|port| port.to_string())),
            ("filter", quoted(&self.filter)),
        ];
        let words = conditions.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
        words.collect::<Vec<_>>().join(", ")
    }
}

const REMOTES: &str =
    "an IP address, a network such as 10.0.0.0/8, a range such as 10.0.0.1..10.0.0.9 or the name of a host";

/// Text that says something.
fn given<'a>(name: &str, text: &'a str, what: &str) -> Result<&'a str, FilterError> {
    if text.trim().is_empty() {
        return Err(FilterError::without_place(format!("\"{name}\" is empty; it is {what}")));
    }
    Ok(text)
}

/// A control group as facts name it, without a slash at its end: also given below its file system, or without the slash
/// at its beginning.
fn cgroup_path(path: &str) -> String {
    let path = path
        .strip_prefix("/sys/fs/cgroup")
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
        .unwrap_or(path);
    match path.trim_matches('/') {
        "" => String::new(),
        path => format!("/{path}"),
    }
}

/// The addresses that were asked for, as expressions have them.
fn addresses(remote: &str, cancel: &Cancel) -> Result<Vec<String>> {
    let wrong = match Filter::comparison(Field::Remote, Relation::Equal, &[remote]) {
        Ok(_) => return Ok(vec![remote.to_owned()]),
        Err(message) => message,
    };
    // What has a colon is an address with a port, or no address at all, and the message says so.
    if remote.contains(':') {
        return Err(FilterError::without_place(wrong).into());
    }
    let unknown = |reason: &str| {
        FilterError::without_place(format!(
            "\"remote\" is {REMOTES}, and {} is none: {reason}",
            quote(remote)
        ))
    };
    if !is_host_name(remote) {
        return Err(unknown("it cannot be a name").into());
    }
    let name = remote.to_owned();
    let found = cancel
        .wait_for(move || Ok((name.as_str(), 0).to_socket_addrs()))?
        .map_err(|error| unknown(quote(&error.to_string()).trim_matches('"')))?;
    let mut addresses: Vec<IpAddr> = found.map(|found| found.ip().to_canonical()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(unknown("the name has no address").into());
    }
    Ok(addresses.iter().map(ToString::to_string).collect())
}

/// Whether the resolver should be asked: not for what looks like an address or can only be a mistake, which resolvers
/// read in surprising ways (`10.1` is 10.0.0.1 to them).
fn is_host_name(text: &str) -> bool {
    const LONGEST: usize = 253;

    let last_label = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    text.len() <= LONGEST
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
        && !last_label.starts_with(|character: char| character.is_ascii_digit())
        && !last_label.is_empty()
        && !text.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::Error,
        fact::{ConnectionFact, ConnectionState},
    };

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn all_conditions_are_joined() {
        let request = ConnectionFilter {
            pid: Some(7),
            process: text("cu*"),
            user: text("root"),
            cgroup: text("/system.slice/"),
            protocol: Some(Protocol::Tcp),
            direction: Some(DirectionChoice::Outbound),
            remote: text("10.0.0.0/8"),
            port: Some(443),
            filter: text("failed or bytes > 1MB"),
            include_own: true,
        };
        assert_eq!(
            request.compile().unwrap().to_string(),
            "pid == 7 and process == cu* and user == root and cgroup in (/system.slice, /system.slice/*) and tcp \
             and outbound and remote == 10.0.0.0/8 and port == 443 and (failed or bytes > 1MB)"
        );
        assert_eq!(
            request.describe(),
            "pid 7, process \"cu*\", user \"root\", cgroup \"/system.slice/\", protocol tcp, direction outbound, \
             remote \"10.0.0.0/8\", port 443, filter \"failed or bytes > 1MB\""
        );
        assert!(!request.is_empty());
    }

    #[test]
    fn without_conditions_everything_is_meant() {
        let request = ConnectionFilter { include_own: true, ..ConnectionFilter::default() };
        assert!(request.is_empty());
        assert_eq!(request.describe(), "");
        assert!(request.compile().unwrap().is_everything());
        assert_eq!(serde_json::to_string(&ConnectionFilter::default()).unwrap(), r#"{"include_own":false}"#);
        assert_eq!(serde_json::from_str::<ConnectionFilter>("{}").unwrap(), ConnectionFilter::default());
    }

    #[test]
    fn control_groups_are_named_as_people_find_them() {
        let cases = [
            ("/system.slice", "cgroup in (/system.slice, /system.slice/*)"),
            ("system.slice/a b", "cgroup in (\"/system.slice/a b\", \"/system.slice/a b/*\")"),
            ("/sys/fs/cgroup/user.slice/", "cgroup in (/user.slice, /user.slice/*)"),
            ("/sys/fs/cgroup", "cgroup == /*"),
            ("/sys/fs/cgroups", "cgroup in (/sys/fs/cgroups, /sys/fs/cgroups/*)"),
            ("/", "cgroup == /*"),
        ];
        for (cgroup, expected) in cases {
            let request = ConnectionFilter { cgroup: text(cgroup), ..ConnectionFilter::default() };
            assert_eq!(request.compile().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn the_name_of_a_host_stands_for_its_addresses() {
        let request = ConnectionFilter { remote: text("localhost"), ..ConnectionFilter::default() };
        let filter = request.compile().unwrap();
        let mut fact =
            ConnectionFact::new(1, Protocol::Tcp, ConnectionState::Open, "127.0.0.1:1".parse().unwrap());
        let is_peer = |fact: &mut ConnectionFact, remote: &str| {
            fact.remote = Some(remote.parse().unwrap());
            filter.matches(fact)
        };
        assert!(is_peer(&mut fact, "127.0.0.1:80") || is_peer(&mut fact, "[::1]:80"), "{filter}");
        assert!(!is_peer(&mut fact, "192.0.2.1:80"), "{filter}");
    }

    #[test]
    fn what_can_be_no_host_is_not_looked_up() {
        for remote in ["10.0.0.0/33", "10.1", "1.2.3.4.5", "a b", "-x", "a\0b", "bücher.example", ".", "x.1"]
        {
            let request = ConnectionFilter { remote: text(remote), ..ConnectionFilter::default() };
            let message = request.compile().unwrap_err().to_string();
            assert!(
                message.starts_with("\"remote\" is an IP address, a network such as 10.0.0.0/8, "),
                "{message}"
            );
            assert!(message.ends_with(" is none: it cannot be a name"), "{message}");
        }
        let request = ConnectionFilter { remote: text("10.0.0.1:443"), ..ConnectionFilter::default() };
        assert_eq!(
            request.compile().unwrap_err().to_string(),
            "\"remote\" is an address without a port; write remote == 10.0.0.1 and remote.port == 443"
        );
    }

    #[test]
    fn wrong_conditions_are_named() {
        let none = ConnectionFilter::default;
        let cases = [
            (
                ConnectionFilter { process: text(" "), ..none() },
                "\"process\" is empty; it is the name of a process such as curl or \"nginx*\"",
            ),
            (
                ConnectionFilter { user: text("no\u{1b}body"), ..none() },
                "no user is called \"no\\x1bbody\" in /etc/passwd; a number such as 1000 works too",
            ),
            (
                ConnectionFilter { cgroup: text(""), ..none() },
                "\"cgroup\" is empty; it is a path such as /system.slice",
            ),
            (
                ConnectionFilter { filter: text("port == x"), ..none() },
                "\"port\" is compared with ports from 0 to 65535 such as 443 or 8000..8999, not with \"x\"
  port == x
          ^",
            ),
        ];
        for (request, expected) in cases {
            let error = request.compile().unwrap_err();
            assert!(matches!(error, Error::Filter(_)));
            assert_eq!(error.with_cause(), expected);
        }
    }

    #[test]
    fn what_others_chose_is_echoed_in_quotes_and_clean() {
        let request =
            ConnectionFilter { process: text("x\", port 1\u{1b}[2J\u{202e}"), ..ConnectionFilter::default() };
        assert_eq!(request.describe(), r#"process "x"", port 1\x1b[2J\u{202e}""#);
    }

    #[test]
    fn directions_have_short_names() {
        let request: ConnectionFilter = serde_json::from_str(r#"{"direction": "in", "port": 53}"#).unwrap();
        assert_eq!(request.describe(), "direction inbound, port 53");
        assert!(serde_json::from_str::<ConnectionFilter>(r#"{"prot": 53}"#).is_err());
    }

    #[cfg(feature = "clap")]
    #[test]
    fn conditions_are_flags() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            filter: ConnectionFilter,
        }
        let line = [
            "x",
            "--pid",
            "1",
            "--direction",
            "out",
            "--protocol",
            "udp",
            "--filter",
            "!failed",
            "--include-own",
        ];
        let filter = <Line as clap::Parser>::try_parse_from(line).unwrap().filter;
        assert_eq!(filter.compile().unwrap().to_string(), "pid == 1 and udp and outbound and not failed");
        assert!(filter.include_own);
    }
}
