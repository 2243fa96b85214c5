//! What is told of faults.

use std::{fmt, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize, Serializer};

use crate::{
    answer::{Answer, Header, Row, Window},
    clean::CleanText,
    fact::{Direction, Hook},
    monitor::{
        Endpoint,
        patterns::{Destination, Owner},
    },
    view::{Cell, Column, Table, Tone, units},
};

/// What is wrong, and what was checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Diagnosis {
    /// Host, window and coverage.
    #[serde(flatten)]
    pub header: Header,
    /// How many findings there are in all.
    pub total: u64,
    /// What was found, gravest first; one a rule at most. Empty where nothing was.
    pub findings: Vec<Finding>,
    /// Every rule, and whether it could be judged.
    pub checked: Vec<Checked>,
}

/// Something that is wrong, or that somebody should know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Finding {
    /// Which rule found it.
    pub rule: Rule,
    /// How grave it is.
    pub severity: Severity,
    /// What it is, in words without any that others chose.
    #[serde(deserialize_with = "crate::clean::sentences")]
    pub title: String,
    /// By which numbers.
    pub evidence: Evidence,
    /// What mostly causes it.
    #[serde(deserialize_with = "crate::clean::sentences")]
    pub likely_cause: String,
    /// What to do next.
    #[serde(deserialize_with = "crate::clean::sentences")]
    pub next_step: String,
    /// The command that shows more.
    #[serde(deserialize_with = "crate::clean::sentences")]
    pub command: String,
}

/// The numbers behind a finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Evidence {
    /// The time that the numbers are about, which for counters may begin somewhat before the answer's window; a moment for
    /// what is so now.
    pub window: Window,
    /// The numbers.
    pub numbers: Vec<Number>,
    /// Where it is worst.
    pub examples: Vec<Example>,
    /// How many more places there are than examples.
    pub more: u64,
}

/// One number of the evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Number {
    /// What it counts or measures, in snake case.
    #[serde(deserialize_with = "crate::clean::sentences")]
    pub name: String,
    /// The value.
    #[serde(serialize_with = "whole")]
    pub value: f64,
    /// Of what.
    pub unit: Unit,
    /// From which value on it is a finding. Absent where another number decides.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "whole_if_any")]
    pub threshold: Option<f64>,
    /// The same in as long a time before. Absent where that is not known or of no matter.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "whole_if_any")]
    pub earlier: Option<f64>,
}

/// A count reads as one.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn whole<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    // Exact below 2^53.
    if value.fract() == 0.0 && (0.0..9e15).contains(value) {
        serializer.serialize_u64(*value as u64)
    } else {
        serializer.serialize_f64(*value)
    }
}

#[allow(clippy::ref_option, reason = "as serde calls it")]
fn whole_if_any<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => whole(value, serializer),
        None => serializer.serialize_none(),
    }
}

impl Number {
    /// So many of something.
    pub(super) fn count(name: &str, value: u64) -> Self {
        Self::new(name, value as f64, Unit::Count)
    }

    /// A part of a whole.
    pub(super) fn share(name: &str, value: f64) -> Self {
        Self::new(name, value, Unit::Share)
    }

    pub(super) fn new(name: &str, value: f64, unit: Unit) -> Self {
        Self { name: name.to_owned(), value, unit, threshold: None, earlier: None }
    }

    /// Decided by this.
    pub(super) fn at_least(self, threshold: f64) -> Self {
        Self { threshold: Some(threshold), ..self }
    }

    /// What it was before.
    pub(super) fn after(self, earlier: Option<f64>) -> Self {
        Self { earlier, ..self }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name.replace('_', " "), self.unit.show(self.value))?;
        let threshold = self.threshold.map(|value| format!("threshold {}", self.unit.show(value)));
        let earlier = self.earlier.map(|value| format!("before {}", self.unit.show(value)));
        match (threshold, earlier) {
            (Some(threshold), Some(earlier)) => write!(f, " ({threshold}, {earlier})"),
            (Some(only), None) | (None, Some(only)) => write!(f, " ({only})"),
            (None, None) => Ok(()),
        }
    }
}

/// What a number is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Unit {
    /// Things or events.
    Count,
    /// A part of a whole, 0 to 1; above 1 where a limit is passed.
    Share,
    /// Seconds.
    Seconds,
    /// Events a second.
    PerSecond,
    /// Bytes a second.
    BytesPerSecond,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Count => units::count(value as u64),
            Self::Share if value < 0.0995 => format!("{:.1} %", value * 100.0),
            Self::Share => format!("{:.0} %", value * 100.0),
            Self::Seconds => units::short(Duration::try_from_secs_f64(value).unwrap_or_default()),
            Self::PerSecond => format!("{}/s", units::rate(value)),
            Self::BytesPerSecond => format!("{}/s", units::bytes(value)),
        }
    }
}

/// One place where something is wrong. What others chose is in fields of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Example {
    /// The process. Absent where it is not known or of no matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Owner>,
    /// Where it connects to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Destination>,
    /// The host, whatever port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The port, whatever host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Where it listens, or this side of its connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Endpoint>,
    /// The port on this side, whatever address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port: Option<u16>,
    /// The interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<CleanText>,
    /// Which way through it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// The hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    /// What is not known without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hides: Option<CleanText>,
    /// Its numbers.
    pub numbers: Vec<Number>,
}

impl fmt::Display for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |destination: &Destination| format!("{destination}/{}", destination.protocol);
        let way = |direction: &Direction| direction.to_string();
        let who = [
            self.process.as_ref().map(Owner::to_string),
            self.local.map(|local| format!("at {local}")),
            self.local_port.map(|port| format!("at port {port}")),
            self.destination.as_ref().map(|destination| format!("to {}", place(destination))),
            self.address.map(|address| format!("to {address}")),
            self.port.map(|port| format!("to port {port}")),
            self.interface.as_ref().map(CleanText::to_string),
            self.direction.as_ref().map(way),
            self.hook.map(|hook| hook.to_string()),
        ];
        let who: Vec<String> = who.into_iter().flatten().collect();
        let hides = self.hides.iter().map(|hides| format!("hides {hides}"));
        let what: Vec<String> = self.numbers.iter().map(Number::to_string).chain(hides).collect();
        match (who.is_empty(), what.is_empty()) {
            (false, false) => write!(f, "{}: {}", who.join(" "), what.join(", ")),
            _ => write!(f, "{}{}", who.join(" "), what.join(", ")),
        }
    }
}

/// A rule, and whether it could be judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Checked {
    /// The rule.
    pub rule: Rule,
    /// What came of it.
    pub outcome: CheckOutcome,
    /// Why it could not be judged.
    #[serde(default, deserialize_with = "crate::clean::sentences", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What came of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// It is among the findings.
    Found,
    /// It was looked for and is not there.
    Nothing,
    /// It could not be judged.
    NotJudged,
}

/// How grave a finding is, gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something fails now.
    Critical,
    /// Something is wrong, or will be soon.
    Warning,
    /// Somebody should know.
    Info,
}

impl Severity {
    /// Its name in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Critical => Tone::Bad,
            Self::Warning => Tone::Warning,
            Self::Info => Tone::Plain,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

macro_rules! rules {
    ($($(#[$document:meta])* $variant:ident => $name:literal,)+) => {
        /// What is looked for. The names do not change; new ones may come.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Rule {
            $($(#[$document])* $variant,)+
            /// One that a later version of netmon knows.
            #[serde(other)]
            Other,
        }

        impl Rule {
            /// Its name in JSON, CSV and text.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                    Self::Other => "other",
                }
            }
        }
    };
}

rules! {
    /// Attempts that the other side refuses (`ECONNREFUSED`).
    RefusedDestination => "refused_destination",
    /// Attempts that nobody answers (`ETIMEDOUT`).
    TimedOutDestination => "timed_out_destination",
    /// Attempts at hosts or networks that cannot be reached (`ENETUNREACH`, `EHOSTUNREACH` and the like).
    UnreachableDestination => "unreachable_destination",
    /// Look-ups of names (ports 53 and 853) that fail or are not answered.
    DnsFailures => "dns_failures",
    /// Listeners that lose connections because nobody accepts them in time.
    ListenOverflow => "listen_overflow",
    /// Listeners with more open handshakes than may be.
    SynQueueOverflow => "syn_queue_overflow",
    /// TCP segments that are lost and sent again.
    Retransmits => "retransmits",
    /// Round trips that take much longer than before.
    SlowRoundTrips => "slow_round_trips",
    /// Local ports that run out.
    EphemeralPorts => "ephemeral_ports",
    /// Other limits of sockets that are nearly reached.
    SocketLimits => "socket_limits",
    /// Datagrams that are lost because a process reads them too slowly.
    UdpBufferOverflow => "udp_buffer_overflow",
    /// Connections that the other side closed and a process does not.
    CloseWait => "close_wait",
    /// Connections that are over and still take ports.
    TimeWait => "time_wait",
    /// A program that makes most of all attempts, or carries most of all bytes, as it did not before.
    Flood => "flood",
    /// A program that tries many ports or hosts in vain.
    Scan => "scan",
    /// A program that connects to the same public address at regular intervals.
    Beacon => "beacon",
    /// Packets that an interface received or sent damaged.
    InterfaceErrors => "interface_errors",
    /// Packets that an interface dropped.
    InterfaceDrops => "interface_drops",
    /// Packets that the kernel dropped, for reasons that mean harm or are many.
    PacketDrops => "packet_drops",
    /// Hooks that are missing, and what cannot be known therefore.
    MissingHooks => "missing_hooks",
    /// Records of connections that were lost.
    LostEvents => "lost_events",
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Diagnosis {
    /// The finding of a rule, if it has one.
    pub fn finding(&self, rule: Rule) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.rule == rule)
    }

    /// Lists at most so many findings; `total` stays.
    pub fn shorten(&mut self, most: usize) {
        self.header.coverage.truncated |= self.findings.len() > most;
        self.findings.truncate(most);
    }

    fn rules(&self, outcome: CheckOutcome) -> impl Iterator<Item = &Checked> {
        self.checked.iter().filter(move |checked| checked.outcome == outcome)
    }
}

impl Diagnosis {
    /// How many findings there are, and how much was looked at.
    fn in_short(&self) -> String {
        let window = units::seconds(Duration::from_millis((self.header.window.seconds * 1e3).round() as u64));
        let judged = self.checked.len() - self.rules(CheckOutcome::NotJudged).count();
        let rules = format!("{judged} of {} rules judged", self.checked.len());
        if self.total == 0 {
            format!("Nothing found in {window} ({rules})")
        } else {
            format!("{} in {window} ({rules})", units::counted(self.total, "finding"))
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_short())?;
        if self.total > 0 {
            f.write_str(":")?;
        }
        for finding in &self.findings {
            write!(f, "\n  {}: {} ({})", finding.severity, finding.title, finding.rule)?;
        }
        let more = self.total.saturating_sub(self.findings.len() as u64);
        if more > 0 {
            write!(f, "\n  ... and {} more", units::count(more))?;
        }
        Ok(())
    }
}

impl Answer for Diagnosis {
    type Row = Finding;

    fn header(&self) -> &Header {
        &self.header
    }

    fn rows(&self) -> &[Finding] {
        &self.findings
    }

    /// The findings themselves have a table.
    fn heading(&self) -> String {
        match self.total.saturating_sub(self.findings.len() as u64) {
            0 => self.in_short(),
            more => format!("{}; {} more than are shown", self.in_short(), units::count(more)),
        }
    }

    fn tables(&self) -> Vec<Table> {
        let mut rows: Vec<Vec<Cell>> = Vec::new();
        for finding in &self.findings {
            let mut add = |label: &str, text: String| {
                rows.push(vec![Cell::toned(format!("  {label}"), Tone::Dim), text.into()]);
            };
            let Evidence { numbers, examples, more, .. } = &finding.evidence;
            let numbers: Vec<String> = numbers.iter().map(Number::to_string).collect();
            add("evidence", numbers.join(", "));
            for example in examples {
                add("example", example.to_string());
            }
            if *more > 0 {
                add("example", format!("... and {} more", units::count(*more)));
            }
            add("cause", finding.likely_cause.clone());
            add("next", finding.next_step.clone());
            add("command", finding.command.clone());
            let place = rows.len() - 4 - examples.len() - usize::from(*more > 0);
            let title = format!("{}: {}", finding.rule, finding.title);
            rows.insert(
                place,
                vec![Cell::toned(finding.severity.name(), finding.severity.tone()), title.into()],
            );
        }
        vec![Table { columns: vec![Column::text("SEVERITY"), Column::text("FINDING")], rows }]
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.header.coverage.notes();
        let quiet: Vec<&str> = self.rules(CheckOutcome::Nothing).map(|checked| checked.rule.name()).collect();
        if !quiet.is_empty() {
            notes.push(format!("looked for and not found: {}", quiet.join(", ")));
        }
        let mut unknown: Vec<(&str, Vec<&str>)> = Vec::new();
        for checked in self.rules(CheckOutcome::NotJudged) {
            let reason = checked.reason.as_deref().unwrap_or("nobody knows");
            match unknown.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, rules)) => rules.push(checked.rule.name()),
                None => unknown.push((reason, vec![checked.rule.name()])),
            }
        }
        for (reason, rules) in unknown {
            notes.push(format!("not judged: {} ({reason})", rules.join(", ")));
        }
        notes
    }
}

impl Row for Finding {
    const TYPE: &'static str = "finding";
    const CSV_COLUMNS: &'static [&'static str] =
        &["severity", "rule", "title", "evidence", "examples", "likely_cause", "next_step", "command"];

    fn csv_fields(&self) -> Vec<String> {
        let raw = |number: &Number| format!("{}={}", number.name, number.value);
        let numbers: Vec<String> = self.evidence.numbers.iter().map(raw).collect();
        let examples: Vec<String> = self.evidence.examples.iter().map(Example::to_string).collect();
        vec![
            self.severity.to_string(),
            self.rule.to_string(),
            self.title.clone(),
            numbers.join(" "),
            examples.join("; "),
            self.likely_cause.clone(),
            self.next_step.clone(),
            self.command.clone(),
        ]
    }
}
