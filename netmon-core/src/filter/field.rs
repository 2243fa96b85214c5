//! What can be asked of a connection.

use std::fmt;

use super::value::quote;

/// A field of a connection that can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Pid,
    Process,
    Comm,
    Exe,
    Cmdline,
    User,
    Cgroup,
    Container,
    Unit,
    Netns,
    Protocol,
    Direction,
    State,
    Attribution,
    Local,
    Remote,
    LocalPort,
    RemotePort,
    Port,
    Error,
    ClosedBy,
    TcpState,
    Bytes,
    BytesSent,
    BytesReceived,
    Packets,
    PacketsSent,
    PacketsReceived,
    Rtt,
    Retransmits,
    Latency,
    Duration,
    Id,
}

/// What the values of a field are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number up to this.
    Number(u64),
    Size,
    Duration,
    Text,
    User,
    /// One of some names.
    Name(&'static [&'static str]),
    Address,
    Error,
    Id,
}

const COUNT: Kind = Kind::Number(u64::MAX);
const NUMBER: Kind = Kind::Number(u32::MAX as u64);
const PORT: Kind = Kind::Number(u16::MAX as u64);

/// All fields, with their names, other names, and the kind of their values, in the order of the documentation.
pub(super) const FIELDS: &[(Field, &str, &[&str], Kind)] = &[
    (Field::Pid, "pid", &[], NUMBER),
    (Field::Process, "process", &[], Kind::Text),
    (Field::Comm, "comm", &[], Kind::Text),
    (Field::Exe, "exe", &["program"], Kind::Text),
    (Field::Cmdline, "cmdline", &["command"], Kind::Text),
    (Field::User, "user", &["uid"], Kind::User),
    (Field::Cgroup, "cgroup", &[], Kind::Text),
    (Field::Container, "container", &[], Kind::Text),
    (Field::Unit, "unit", &[], Kind::Text),
    (Field::Netns, "netns", &["namespace"], NUMBER),
    (Field::Protocol, "protocol", &["proto"], Kind::Name(PROTOCOLS)),
    (Field::Direction, "direction", &[], Kind::Name(DIRECTIONS)),
    (Field::State, "state", &[], Kind::Name(STATES)),
    (Field::Attribution, "attribution", &[], Kind::Name(ATTRIBUTIONS)),
    (Field::Local, "local", &["src"], Kind::Address),
    (Field::Remote, "remote", &["dst", "peer"], Kind::Address),
    (Field::LocalPort, "local.port", &["local_port", "sport"], PORT),
    (Field::RemotePort, "remote.port", &["remote_port", "dport"], PORT),
    (Field::Port, "port", &[], PORT),
    (Field::Error, "error", &["errno"], Kind::Error),
    (Field::ClosedBy, "closed_by", &[], Kind::Name(CLOSERS)),
    (Field::TcpState, "tcp.state", &["tcp_state"], Kind::Name(TCP_STATES)),
    (Field::Bytes, "bytes", &[], Kind::Size),
    (Field::BytesSent, "bytes.sent", &["sent"], Kind::Size),
    (Field::BytesReceived, "bytes.received", &["received"], Kind::Size),
    (Field::Packets, "packets", &[], COUNT),
    (Field::PacketsSent, "packets.sent", &[], COUNT),
    (Field::PacketsReceived, "packets.received", &[], COUNT),
    (Field::Rtt, "rtt", &["tcp.rtt"], Kind::Duration),
    (Field::Retransmits, "retransmits", &["tcp.retransmits"], COUNT),
    (Field::Latency, "latency", &["connect_latency"], Kind::Duration),
    (Field::Duration, "duration", &[], Kind::Duration),
    (Field::Id, "id", &[], Kind::Id),
];

/// Conditions of one word, and the comparison for equality that each stands for.
pub(super) const FLAGS: &[(&str, Field)] = &[
    ("opening", Field::State),
    ("open", Field::State),
    ("closed", Field::State),
    ("failed", Field::State),
    ("listening", Field::State),
    ("inbound", Field::Direction),
    ("outbound", Field::Direction),
    ("tcp", Field::Protocol),
    ("udp", Field::Protocol),
    ("icmp", Field::Protocol),
];

// The names that the types of facts give; a test compares them.
pub(super) const PROTOCOLS: &[&str] = &["tcp", "udp", "icmp"];
pub(super) const DIRECTIONS: &[&str] = &["inbound", "outbound", "none"];
pub(super) const STATES: &[&str] = &["opening", "open", "closed", "failed", "listening"];
pub(super) const ATTRIBUTIONS: &[&str] = &["exact", "inherited", "snapshot", "unknown"];
pub(super) const CLOSERS: &[&str] = &["local", "remote", "timeout", "idle"];
pub(super) const TCP_STATES: &[&str] = &[
    "established",
    "syn_sent",
    "syn_received",
    "fin_wait_1",
    "fin_wait_2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
];

impl Field {
    /// The field of this name, in any case.
    pub(super) fn named(name: &str) -> Option<Self> {
        FIELDS
            .iter()
            .find(|(_, own, others, _)| {
                own.eq_ignore_ascii_case(name) || others.iter().any(|other| other.eq_ignore_ascii_case(name))
            })
            .map(|(field, ..)| *field)
    }

    pub(super) fn name(self) -> &'static str {
        self.row().1
    }

    pub(super) fn kind(self) -> Kind {
        self.row().3
    }

    fn row(self) -> &'static (Self, &'static str, &'static [&'static str], Kind) {
        // The rows are in the order of the variants, which a test makes sure of.
        &FIELDS[self as usize]
    }
}

impl Kind {
    /// How its values can be compared.
    pub(super) fn relations(self) -> &'static [Relation] {
        use Relation::{Contains, Equal, Greater, GreaterOrEqual, In, Less, LessOrEqual, NotEqual};

        match self {
            Self::Number(_) | Self::Size | Self::Duration => {
                &[Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual, In]
            }
            Self::Text => &[Equal, NotEqual, Contains, In],
            Self::User | Self::Name(_) | Self::Address | Self::Error | Self::Id => &[Equal, NotEqual, In],
        }
    }
}

/// How a field and values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains,
    In,
}

impl Relation {
    pub(super) const ALL: &[Self] = &[
        Self::Equal,
        Self::NotEqual,
        Self::Less,
        Self::LessOrEqual,
        Self::Greater,
        Self::GreaterOrEqual,
        Self::Contains,
        Self::In,
    ];

    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Contains => "~",
            Self::In => "in",
        }
    }

    pub(super) fn signed(sign: &str) -> Option<Self> {
        if sign == "=" {
            return Some(Self::Equal);
        }
        Self::ALL.iter().copied().find(|relation| relation.sign().eq_ignore_ascii_case(sign))
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sign())
    }
}

/// What is wrong where a condition begins with this word.
pub(super) fn unknown_field(word: &str) -> String {
    let own_names = FIELDS.iter().map(|(_, name, ..)| (*name, *name));
    let other_names =
        FIELDS.iter().flat_map(|(_, name, others, _)| others.iter().map(|other| (*other, *name)));
    let flags = FLAGS.iter().map(|(name, _)| (*name, *name));
    let suggestion = suggestions(word, own_names.chain(other_names).chain(flags));
    let fields = FIELDS.iter().map(|(_, name, others, _)| match others {
        [] => (*name).to_owned(),
        others => format!("{name} ({})", others.join(", ")),
    });
    format!(
        "no field is called {}{suggestion} (there are {}; and alone: {})",
        quote(word),
        fields.collect::<Vec<_>>().join(", "),
        FLAGS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
    )
}

/// `; did you mean "this" or "that"?` for the names nearest to a mistyped one; empty if none is near. Each candidate is a
/// name and the one to suggest for it.
pub(super) fn suggestions<'a>(typed: &str, candidates: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    const MOST: usize = 3;

    // Distances are costly for long text, which is near to no name.
    let length = typed.chars().take(32).count();
    if length == 0 || length == 32 {
        return String::new();
    }
    let typed = typed.to_lowercase();
    let mut near: Vec<(usize, &str)> = Vec::new();
    for (name, suggestion) in candidates {
        let folded = name.to_lowercase();
        let distance = strsim::damerau_levenshtein(&typed, &folded);
        let begins_alike = length >= 3 && (folded.starts_with(&typed) || typed.starts_with(&folded));
        if (distance <= length.div_ceil(4).min(3) && distance < length) || begins_alike {
            near.push((distance, suggestion));
        }
    }
    near.sort_by_key(|(distance, _)| *distance);
    let mut names: Vec<String> = Vec::new();
    for (_, suggestion) in near {
        let quoted = quote(suggestion);
        if names.len() < MOST && !names.contains(&quoted) {
            names.push(quoted);
        }
    }
    match names.split_last() {
        None => String::new(),
        Some((only, [])) => format!("; did you mean {only}?"),
        Some((last, others)) => format!("; did you mean {} or {last}?", others.join(", ")),
    }
}
