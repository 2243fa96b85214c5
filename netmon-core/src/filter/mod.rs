//! Choosing connections by a condition: one grammar for the command line, HTTP and MCP.
//!
//! ```text
//! port == 443 and not failed
//! process == "nginx*" and remote in 10.0.0.0/8
//! (error == ECONNREFUSED or error == ETIMEDOUT) and user == root
//! bytes.sent > 10MB or rtt >= 200ms
//! ```
//!
//! # Conditions
//!
//! | written | holds where |
//! |---|---|
//! | `FIELD == VALUE`, `FIELD = VALUE` | the field has this value |
//! | `FIELD != VALUE` | the field is known and has another value |
//! | `FIELD < VALUE`, `<=`, `>`, `>=` | the number, size or duration is less than this, and so on |
//! | `FIELD in (VALUE, VALUE)`, `FIELD in VALUE` | the field has one of these values |
//! | `FIELD ~ TEXT` | the text contains this, in upper or lower case |
//! | `FLAG` | see below |
//! | `not CONDITION`, `! CONDITION` | the condition does not hold |
//! | `CONDITION and CONDITION`, `&&` | both hold |
//! | `CONDITION or CONDITION`, `\|\|` | at least one holds |
//! | `( CONDITION )` | what is inside, taken together |
//!
//! `not` binds closer than `and`, `and` closer than `or`. An empty expression is a condition that always holds. Case does
//! not matter in names of fields, in `and`, `or`, `not` and `in`, nor in values with fixed names (`tcp`, `ECONNREFUSED`).
//!
//! **What is not known matches nothing.** Where a field has no value (the remote address of a listener, the round-trip
//! time before the first measurement), every comparison with it is false, `!=` too. Only `not` turns that around: of a
//! connection whose process is not known, `process != curl` is false and `not process == curl` is true.
//!
//! **A field with several values** (`port` is the local one and the remote one) matches if one of them does, and `!=` if
//! none of them is the value.
//!
//! # Flags
//!
//! `opening`, `open`, `closed`, `failed` and `listening` stand for `state == open` and so on; `inbound` and `outbound`
//! for the direction; `tcp`, `udp` and `icmp` for the protocol.
//!
//! # Values
//!
//! | value | examples | |
//! |---|---|---|
//! | text | `nginx`, `"Web Content"`, `'nginx*'` | Quotes are needed around blanks and ``( ) = ! < > ~ & \| , " '``; a quotation mark inside is written twice. In `==`, `!=` and `in`, `*` stands for any characters and `?` for one. A backslash is an ordinary character: what netmon prints as `\x1b` is written so |
//! | number | `443`, `8000..8999` | A range includes both its ends |
//! | size | `1500`, `10KiB`, `1.5MB` | Bytes; `KB` is 1000 of them, `KiB` 1024 |
//! | duration | `500ms`, `5s`, `1m30s` | A number alone is seconds |
//! | address | `10.0.0.1`, `10.0.0.0/8`, `fe80::/10`, `10.0.0.1..10.0.0.9` | Names of hosts are looked up for [`ConnectionFilter::remote`](crate::request::ConnectionFilter::remote) only |
//! | user | `root`, `1000`, `1000..60000` | A name is looked up in `/etc/passwd` when the filter is read |
//!
//! # Fields
//!
//! | field | also | value | |
//! |---|---|---|---|
//! | `pid` | | number | of the owner, or of the process that used it last |
//! | `process` | | text | the name of the owner's leader or of its thread, the name of its program file, or the name of the process that used it last |
//! | `comm` | | text | the name of the owner's leader, which the kernel cuts after 15 bytes |
//! | `exe` | `program` | text | the path of the program file |
//! | `cmdline` | `command` | text | the arguments, with spaces between them |
//! | `user` | `uid` | user | the owner's effective user |
//! | `cgroup` | | text | the path of the control group |
//! | `container` | | text | the id of the container; its beginning is enough |
//! | `unit` | | text | the systemd unit |
//! | `netns` | `namespace` | number | the inode number of the network namespace |
//! | `protocol` | `proto` | `tcp`, `udp`, `icmp` | |
//! | `direction` | | `inbound` (`in`), `outbound` (`out`), `none` | who began it |
//! | `state` | | `opening`, `open`, `closed`, `failed`, `listening` | |
//! | `attribution` | | `exact`, `inherited`, `snapshot`, `unknown` | how the owner is known |
//! | `local` | `src` | address | |
//! | `remote` | `dst`, `peer` | address | |
//! | `local.port` | `local_port`, `sport` | number | |
//! | `remote.port` | `remote_port`, `dport` | number | |
//! | `port` | | number | one of the two |
//! | `error` | `errno` | `ECONNREFUSED`, `111`, `never_sent`, `any` | why it failed or was broken off |
//! | `closed_by` | | `local`, `remote`, `timeout`, `idle` | which side ended it |
//! | `tcp.state` | `tcp_state` | `established`, `syn_sent`, `syn_received`, `fin_wait_1`, `fin_wait_2`, `time_wait`, `close`, `close_wait`, `last_ack`, `listen`, `closing` | |
//! | `bytes` | | size | payload sent and received |
//! | `bytes.sent` | `sent` | size | |
//! | `bytes.received` | `received` | size | |
//! | `packets` | | number | sent and received |
//! | `packets.sent` | | number | |
//! | `packets.received` | | number | |
//! | `rtt` | `tcp.rtt` | duration | the smoothed round-trip time |
//! | `retransmits` | `tcp.retransmits` | number | segments that were sent again |
//! | `latency` | `connect_latency` | duration | from the attempt to the end of the handshake, for outbound connections |
//! | `duration` | | duration | from its beginning to its end, where it ended |
//! | `id` | | an id | as `connections` prints it |

mod comparison;
mod field;
mod parser;
#[cfg(test)]
mod tests;
mod token;
mod value;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use unicode_width::UnicodeWidthStr as _;

use self::{comparison::Comparison, value::Values};
pub(crate) use self::{
    field::{Field, Relation},
    value::quote,
};
use crate::{
    clean::CleanText,
    fact::{ConnectionFact, DropFact},
};

/// What somebody may have meant who typed a name that is none of these: `did you mean "curl"?`. `None` where none is near.
///
/// ```
/// # use netmon_core::filter::did_you_mean;
/// let names = ["curl", "nginx"];
/// assert_eq!(did_you_mean("crul", names.into_iter()).as_deref(), Some("did you mean \"curl\"?"));
/// assert_eq!(did_you_mean("postgres", names.into_iter()), None);
/// ```
pub fn did_you_mean<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let suggestion = field::suggestions(typed, names.map(|name| (name, name)));
    suggestion.strip_prefix("; ").map(str::to_owned)
}

/// The longest expression, in characters.
pub const LONGEST_EXPRESSION: usize = 4096;
/// How deep parentheses and `not` may be nested.
pub const DEEPEST_NESTING: usize = 64;

/// A condition on connections; see the [grammar](self). The default is the one that always holds.
///
/// Its `Display` is an expression that is read back as an equal filter, with one way of writing where the grammar has
/// several; only a filter near [`LONGEST_EXPRESSION`] or [`DEEPEST_NESTING`] may come out beyond it. In JSON it is this text.
///
/// ```
/// use netmon_core::Filter;
///
/// let filter = Filter::parse("port=443 && !failed")?;
/// assert_eq!(filter.to_string(), "port == 443 and not failed");
/// # Ok::<(), netmon_core::filter::FilterError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    expression: Expression,
}

impl Filter {
    /// The filter that every connection matches.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Reads an expression. Reads `/etc/passwd` too if it names a user.
    ///
    /// # Errors
    /// Says what is wrong, where, and what is possible there.
    pub fn parse(expression: &str) -> Result<Self, FilterError> {
        let expression =
            parser::parse(expression).map_err(|problem| FilterError::at(expression, &problem))?;
        Ok(Self { expression })
    }

    /// Whether a connection matches. Allocates nothing.
    pub fn matches(&self, fact: &ConnectionFact) -> bool {
        self.expression.holds(fact)
    }

    /// Whether drops match. They have an owner, a protocol, a direction (`inbound` for what came in), a network namespace
    /// and a local port; what else is asked for matches none. Allocates nothing.
    pub fn matches_drop(&self, drop: &DropFact) -> bool {
        self.expression.holds_for_drop(drop)
    }

    /// Refuses what drops cannot be chosen by, which would otherwise read as if there were none.
    pub(crate) fn check_for_drops(&self) -> Result<(), FilterError> {
        match self.expression.find(&|comparison| !comparison.is_of_drops()) {
            None => Ok(()),
            Some(comparison) => Err(FilterError::without_place(format!(
                "drops cannot be chosen by \"{}\": they are summed up by process, user, control group, network \
                 namespace, protocol, direction and local port",
                comparison.field.name(),
            ))),
        }
    }

    /// Whether it was made without any condition, so that every connection matches.
    pub fn is_everything(&self) -> bool {
        self.expression == Expression::default()
    }

    /// Whether it demands an owner that is not this user.
    pub(crate) fn demands_another_user(&self, uid: u32) -> bool {
        self.demands().any(|comparison| match (&comparison.values, comparison.relation) {
            (Values::Users(users), Relation::Equal | Relation::In) => {
                !users.iter().any(|user| user.range.contains(uid.into()))
            }
            _ => false,
        })
    }

    /// The processes of which it demands one.
    pub(crate) fn demanded_pids(&self) -> impl Iterator<Item = u32> {
        self.demands()
            .filter(|comparison| comparison.field == Field::Pid && comparison.relation == Relation::Equal)
            .filter_map(|comparison| match &comparison.values {
                Values::Numbers(ranges) => match ranges.as_slice() {
                    [range] if range.low == range.high => u32::try_from(range.low).ok(),
                    _ => None,
                },
                _ => None,
            })
    }

    /// The comparisons that every match holds.
    fn demands(&self) -> impl Iterator<Item = &Comparison> {
        let parts = match &self.expression {
            Expression::All(parts) => parts.as_slice(),
            one => std::slice::from_ref(one),
        };
        parts.iter().filter_map(|part| match part {
            Expression::Comparison(comparison) => Some(comparison),
            _ => None,
        })
    }

    /// The filter that connections match which match both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { expression: Expression::all(vec![self.expression, other.expression]) }
    }

    /// The filter of one comparison with values as people write them, or what is wrong with them.
    pub(crate) fn comparison(field: Field, relation: Relation, values: &[&str]) -> Result<Self, String> {
        let values = Values::read(field, relation, values).map_err(|(_, message)| message)?;
        Ok(Self { expression: Expression::Comparison(Comparison { field, relation, values }) })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expression.fmt(f)
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(expression: &str) -> Result<Self, FilterError> {
        Self::parse(expression)
    }
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What a filter consists of. An `All` holds no `All`, an `Any` no `Any`, and neither has a single part, so that equal
/// conditions are equal however they were put in parentheses.
#[derive(Debug, Clone, PartialEq)]
enum Expression {
    /// All of these hold; without any, always.
    All(Vec<Expression>),
    /// One of these holds.
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Comparison(Comparison),
}

impl Default for Expression {
    fn default() -> Self {
        Self::All(Vec::new())
    }
}

impl Expression {
    fn all(parts: Vec<Self>) -> Self {
        Self::joined(parts, Self::All, |part| match part {
            Self::All(parts) => Ok(parts),
            other => Err(other),
        })
    }

    fn any(parts: Vec<Self>) -> Self {
        Self::joined(parts, Self::Any, |part| match part {
            Self::Any(parts) => Ok(parts),
            other => Err(other),
        })
    }

    fn joined(
        parts: Vec<Self>,
        join: impl Fn(Vec<Self>) -> Self,
        open: impl Fn(Self) -> Result<Vec<Self>, Self>,
    ) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match open(part) {
                Ok(inner) => flat.extend(inner),
                Err(part) => flat.push(part),
            }
        }
        match flat.pop() {
            Some(only) if flat.is_empty() => only,
            Some(last) => {
                flat.push(last);
                join(flat)
            }
            None => join(flat),
        }
    }

    fn holds(&self, fact: &ConnectionFact) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(fact)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(fact)),
            Self::Not(part) => !part.holds(fact),
            Self::Comparison(comparison) => comparison.holds(fact),
        }
    }

    fn holds_for_drop(&self, drop: &DropFact) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds_for_drop(drop)),
            Self::Any(parts) => parts.iter().any(|part| part.holds_for_drop(drop)),
            Self::Not(part) => !part.holds_for_drop(drop),
            Self::Comparison(comparison) => comparison.holds_for_drop(drop),
        }
    }

    /// The first comparison that is wanted.
    fn find(&self, is_wanted: &dyn Fn(&Comparison) -> bool) -> Option<&Comparison> {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().find_map(|part| part.find(is_wanted)),
            Self::Not(part) => part.find(is_wanted),
            Self::Comparison(comparison) => is_wanted(comparison).then_some(comparison),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Comparison(comparison) => comparison.fmt(f),
            Self::Not(part) if matches!(**part, Self::All(_) | Self::Any(_)) => write!(f, "not ({part})"),
            Self::Not(part) => write!(f, "not {part}"),
            Self::All(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { " and " })?;
                    match part {
                        Self::Any(_) => write!(f, "({part})")?,
                        _ => part.fmt(f)?,
                    }
                }
                Ok(())
            }
            Self::Any(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { " or " })?;
                    part.fmt(f)?;
                }
                Ok(())
            }
        }
    }
}

/// What is wrong with an expression, and at which of its characters, counted from 1.
#[derive(Debug)]
struct Problem {
    column: usize,
    message: String,
}

impl Problem {
    fn new(column: usize, message: impl Into<String>) -> Self {
        Self { column, message: message.into() }
    }
}

/// Why a filter cannot be understood. Its `Display` is the message and, below, the expression with a caret under the
/// character that it is about.
///
/// ```
/// let error = netmon_core::Filter::parse("prot == 443").unwrap_err();
/// assert!(error.message.starts_with(r#"no field is called "prot"; did you mean "port" or "protocol"?"#));
/// assert!(error.to_string().ends_with("\n  prot == 443\n  ^"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    /// What is wrong, and what is possible instead.
    pub message: String,
    /// The expression; of a long one, what is around the place. Empty where the message is not about an expression.
    pub expression: CleanText,
    /// The place, in characters of the whole expression as it was given, counted from 1.
    pub column: usize,
    /// How many columns of a terminal `expression` takes before the place.
    indent: usize,
}

impl FilterError {
    /// How many columns of an expression are shown: with its indentation and an ellipsis on both sides less than a
    /// terminal has, since the caret is lost where the line breaks.
    const SHOWN: usize = 74;

    /// An error about a value that is not part of an expression.
    pub(crate) fn without_place(message: String) -> Self {
        Self { message, expression: CleanText::default(), column: 1, indent: 0 }
    }

    fn at(expression: &str, problem: &Problem) -> Self {
        let clean = |character: char| CleanText::from(character.encode_utf8(&mut [0; 4]) as &str);
        let columns =
            |shown: &[CleanText]| shown.iter().map(|text| text.as_str().width().max(1)).sum::<usize>();
        let before: Vec<_> = expression.chars().take(problem.column - 1).map(clean).collect();
        let after: Vec<_> =
            expression.chars().skip(problem.column - 1).take(Self::SHOWN + 1).map(clean).collect();

        // Half of the room for what comes before, and what either side does not need for the other.
        let room_before = (Self::SHOWN / 2).max(Self::SHOWN.saturating_sub(columns(&after)));
        let mut first = before.len();
        while first > 0 && columns(&before[first - 1..]) <= room_before {
            first -= 1;
        }
        let room_after = Self::SHOWN - columns(&before[first..]);
        let mut last = 0;
        while last < after.len() && columns(&after[..=last]) <= room_after {
            last += 1;
        }

        let mut shown = String::from(if first > 0 { "…" } else { "" });
        shown.extend(before[first..].iter().map(CleanText::as_str));
        let indent = shown.width();
        shown.extend(after[..last].iter().map(CleanText::as_str));
        shown.push_str(if last < after.len() { "…" } else { "" });
        Self { message: problem.message.clone(), expression: shown.into(), column: problem.column, indent }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.expression.as_str().is_empty() {
            return Ok(());
        }
        write!(f, "\n  {}\n  {:indent$}^", self.expression, "", indent = self.indent)
    }
}

impl std::error::Error for FilterError {}
