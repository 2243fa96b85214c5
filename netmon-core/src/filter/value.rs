//! The values that fields are compared with: reading, matching and writing them.

use std::{fmt::Write as _, net::IpAddr};

use ipnet::IpNet;

use super::{
    Field, Relation,
    field::{Kind, TCP_STATES, suggestions},
    token,
};
use crate::{
    clean::CleanText,
    fact::{ConnectionError, ConnectionId, errno},
    request::parse_duration,
};

/// Values of one kind; a field is compared with all of them, and one is enough.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    Numbers(Vec<NumberRange>),
    Texts(Vec<Pattern>),
    Users(Vec<User>),
    Names(Vec<&'static str>),
    Addresses(Vec<AddressPattern>),
    Errors(Vec<ErrorPattern>),
    Ids(Vec<ConnectionId>),
}

impl Values {
    /// Reads values for a field. If one is wrong, says which, and what.
    pub(super) fn read(field: Field, relation: Relation, texts: &[&str]) -> Result<Self, (usize, String)> {
        match field.kind() {
            kind @ (Kind::Number(_) | Kind::Size | Kind::Duration) => {
                each(texts, |text| number(field, kind, relation, text)).map(Self::Numbers)
            }
            Kind::Text => each(texts, |text| Pattern::read(field, relation, text)).map(Self::Texts),
            Kind::User => each(texts, User::read).map(Self::Users),
            Kind::Name(names) => each(texts, |text| name(field, names, text)).map(Self::Names),
            Kind::Address => each(texts, |text| AddressPattern::read(field, text)).map(Self::Addresses),
            Kind::Error => each(texts, |text| ErrorPattern::read(relation, text)).map(Self::Errors),
            Kind::Id => each(texts, |text| {
                text.parse().map_err(|_| expects(field, "ids of connections such as 1f3-2a96c51d09e", text))
            })
            .map(Self::Ids),
        }
    }

    /// The values as an expression has them.
    pub(super) fn written(&self, kind: Kind) -> Vec<String> {
        match self {
            Self::Numbers(ranges) => ranges.iter().map(|range| range.written(kind)).collect(),
            Self::Texts(patterns) => patterns.iter().map(|pattern| word(&pattern.written)).collect(),
            Self::Users(users) => users.iter().map(User::written).collect(),
            Self::Names(names) => names.iter().map(|name| (*name).to_owned()).collect(),
            Self::Addresses(patterns) => patterns.iter().map(AddressPattern::written).collect(),
            Self::Errors(patterns) => patterns.iter().map(|pattern| pattern.written()).collect(),
            Self::Ids(ids) => ids.iter().map(ToString::to_string).collect(),
        }
    }
}

fn each<T>(texts: &[&str], read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, (usize, String)> {
    texts.iter().enumerate().map(|(index, text)| read(text).map_err(|message| (index, message))).collect()
}

fn expects(field: Field, what: &str, text: &str) -> String {
    format!("\"{}\" is compared with {what}, not with {}", field.name(), quote(text))
}

/// Text in quotation marks, cleaned, so that prose and filters can hold it: a quotation mark in it is written twice.
pub(crate) fn quote(text: &str) -> String {
    format!("\"{}\"", CleanText::from(text).as_str().replace('"', "\"\""))
}

/// Text as a value in an expression, without quotation marks where it needs none.
fn word(text: &str) -> String {
    let is_word = !text.is_empty() && !text.contains(token::ends_word) && token::keyword(text).is_none();
    if is_word { text.to_owned() } else { quote(text) }
}

/// The numbers from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NumberRange {
    pub(super) low: u64,
    pub(super) high: u64,
}

impl NumberRange {
    pub(super) fn contains(self, number: u64) -> bool {
        (self.low..=self.high).contains(&number)
    }

    /// Reads `8000..8999`, or one number.
    fn read(text: &str, number: impl Fn(&str) -> Option<u64>) -> Option<Self> {
        let (low, high) = text.split_once("..").unwrap_or((text, text));
        Some(Self { low: number(low)?, high: number(high)? })
    }

    fn written(self, kind: Kind) -> String {
        let number = |number| match kind {
            Kind::Size => written_size(number),
            Kind::Duration => written_duration(number),
            _ => number.to_string(),
        };
        if self.low == self.high {
            return number(self.low);
        }
        format!("{}..{}", number(self.low), number(self.high))
    }
}

fn number(field: Field, kind: Kind, relation: Relation, text: &str) -> Result<NumberRange, String> {
    let range = NumberRange::read(text, |text| match kind {
        Kind::Number(largest) => integer(text).filter(|number| *number <= largest),
        Kind::Size => size(text),
        Kind::Duration => duration_ns(text),
        _ => None,
    });
    let range = range.ok_or_else(|| match kind {
        Kind::Size => expects(field, "sizes such as 1500, 10KiB or 1MB..2MB", text),
        Kind::Duration => expects(field, "durations such as 500ms, 5s or 1m30s..2m", text),
        Kind::Number(largest) if largest == u64::from(u16::MAX) => {
            expects(field, "ports from 0 to 65535 such as 443 or 8000..8999", text)
        }
        _ => expects(field, "numbers such as 42 or 100..199", text),
    })?;
    check_order(range)?;
    let has_order = !matches!(relation, Relation::Equal | Relation::NotEqual | Relation::In);
    if has_order && text.contains("..") {
        return Err(format!(
            "after {relation} comes one value; ranges such as {} come after in",
            quote(text)
        ));
    }
    Ok(range)
}

fn check_order(range: NumberRange) -> Result<(), String> {
    if range.low > range.high {
        return Err("this range is empty: its first number is greater than its last".to_owned());
    }
    Ok(())
}

fn integer(text: &str) -> Option<u64> {
    // `parse` alone would accept a plus sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Bytes; a part of a byte is dropped.
fn size(text: &str) -> Option<u64> {
    const MOST_DECIMALS: usize = 9;

    let end =
        text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let unit = match unit {
        "" => 1,
        unit => SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    let (whole, decimals) =
        digits.split_once('.').map_or((digits, None), |(whole, part)| (whole, Some(part)));
    let part = match decimals {
        None => 0,
        Some(decimals) if (1..=MOST_DECIMALS).contains(&decimals.len()) => {
            let shift = 10_u128.pow(u32::try_from(decimals.len()).ok()?);
            u128::from(integer(decimals)?) * u128::from(unit) / shift
        }
        Some(_) => return None,
    };
    u64::try_from(u128::from(integer(whole)?) * u128::from(unit) + part).ok()
}

fn written_size(bytes: u64) -> String {
    let unit =
        SIZE_UNITS.iter().find(|(name, unit)| *name != "B" && bytes != 0 && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// Nanoseconds, up to the 292 years that can be read back as such.
fn duration_ns(text: &str) -> Option<u64> {
    let ns = i64::try_from(parse_duration(text).ok()?.as_nanos()).ok()?;
    u64::try_from(ns).ok()
}

fn written_duration(ns: u64) -> String {
    let units = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
    let unit = units.into_iter().find(|(_, unit)| ns.is_multiple_of(*unit));
    let (name, unit) = unit.unwrap_or(("ns", 1));
    format!("{}{name}", ns / unit)
}

/// Text to compare with, cleaned as the text in facts is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    written: Box<str>,
    test: TextTest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TextTest {
    Equals,
    BeginsWith,
    Glob,
    /// Contains this, which is in lower case.
    Contains(Box<str>),
}

impl Pattern {
    fn read(field: Field, relation: Relation, text: &str) -> Result<Self, String> {
        if text.chars().nth(CleanText::MAX_CHARS).is_some() {
            return Err(format!("text to compare with may have {} characters", CleanText::MAX_CHARS));
        }
        let written: Box<str> = CleanText::from(text).as_str().into();
        let test = if relation == Relation::Contains {
            TextTest::Contains(lower_case(&written).collect::<String>().into())
        } else if written.contains(['*', '?']) {
            TextTest::Glob
        } else if field == Field::Container && !written.is_empty() {
            TextTest::BeginsWith
        } else {
            TextTest::Equals
        };
        Ok(Self { written, test })
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        match &self.test {
            TextTest::Equals => *self.written == *text,
            TextTest::BeginsWith => text.starts_with(&*self.written),
            TextTest::Glob => glob(&self.written, text),
            TextTest::Contains(wanted) => {
                let begins = |text| {
                    let mut found = lower_case(text);
                    wanted.chars().all(|character| found.next() == Some(character))
                };
                text.char_indices().any(|(at, _)| begins(&text[at..])) || wanted.is_empty()
            }
        }
    }
}

/// The text in lower case, character by character, whatever surrounds each.
fn lower_case(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}

/// Whether text is as a pattern in which `*` stands for any characters and `?` for one.
fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // What follows the last `*`, and the text that it begins at: one character later if it fails.
    let mut retry: Option<(&str, &str)> = None;
    loop {
        let mut wanted = pattern.chars();
        let mut found = text.chars();
        match (wanted.next(), found.next()) {
            (Some('*'), _) => {
                pattern = wanted.as_str();
                retry = Some((pattern, text));
                continue;
            }
            (None, None) => return true,
            (Some(_), None) => return false,
            (Some(wanted_character), Some(character))
                if wanted_character == '?' || wanted_character == character =>
            {
                (pattern, text) = (wanted.as_str(), found.as_str());
                continue;
            }
            _ => {}
        }
        let Some((after_star, from)) = retry else { return false };
        let mut later = from.chars();
        later.next();
        (pattern, text) = (after_star, later.as_str());
        retry = Some((pattern, text));
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) range: NumberRange,
    /// What was given instead of the number.
    name: Option<Box<str>>,
}

impl User {
    fn read(text: &str) -> Result<Self, String> {
        let number = |text: &str| integer(text).filter(|number| *number <= u64::from(u32::MAX));
        if let Some(range) = NumberRange::read(text, number) {
            check_order(range)?;
            return Ok(Self { range, name: None });
        }
        let users = std::fs::read("/etc/passwd").unwrap_or_default();
        let uid = uid_of(&users, text).ok_or_else(|| {
            format!("no user is called {} in /etc/passwd; a number such as 1000 works too", quote(text))
        })?;
        let name = CleanText::from(text).as_str().into();
        Ok(Self { range: NumberRange { low: uid, high: uid }, name: Some(name) })
    }

    fn written(&self) -> String {
        self.name.as_ref().map_or_else(|| self.range.written(Kind::User), |name| word(name))
    }
}

/// The number of a user, in the text of /etc/passwd.
fn uid_of(users: &[u8], name: &str) -> Option<u64> {
    users.split(|byte| *byte == b'\n').find_map(|line| {
        let mut columns = line.split(|byte| *byte == b':');
        let is_it = !name.is_empty() && columns.next() == Some(name.as_bytes());
        let uid = columns.nth(1).filter(|_| is_it)?;
        integer(std::str::from_utf8(uid).ok()?)
    })
}

/// Other ways of writing names.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("in", "inbound"),
    ("out", "outbound"),
    ("icmpv6", "icmp"),
    ("icmp6", "icmp"),
    ("listen", "listening"),
    ("listening", "listen"),
    ("estab", "established"),
    ("syn_recv", "syn_received"),
];

fn name(field: Field, names: &'static [&'static str], text: &str) -> Result<&'static str, String> {
    let is_same = |one: &str, other: &str| {
        let plain = |text: &str| text.replace(['_', '-'], "").to_ascii_lowercase();
        plain(one) == plain(other)
    };
    let known = |text: &str| names.iter().copied().find(|name| is_same(name, text));
    let others =
        || OTHER_NAMES.iter().filter(|(other, _)| is_same(other, text)).find_map(|(_, name)| known(name));
    known(text).or_else(others).ok_or_else(|| {
        let suggestion = if field == Field::State && TCP_STATES.contains(&text.to_ascii_lowercase().as_str())
        {
            "; did you mean the field \"tcp.state\"?".to_owned()
        } else {
            suggestions(text, names.iter().map(|name| (*name, *name)))
        };
        format!("{} is no {}{suggestion} (there are {})", quote(text), field.name(), names.join(", "))
    })
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AddressPattern {
    /// A network, or one address with the longest prefix.
    Network(IpNet),
    /// The addresses from one to another, both included and of one family.
    Range(IpAddr, IpAddr),
}

impl AddressPattern {
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::Network(network) => network.contains(&address),
            Self::Range(low, high) => low.is_ipv4() == address.is_ipv4() && (*low..=*high).contains(&address),
        }
    }

    pub(super) fn read(field: Field, text: &str) -> Result<Self, String> {
        let name = field.name();
        let address = |text: &str| {
            let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
            bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
        };
        if let Some(address) = address(text) {
            return Ok(Self::Network(address.into()));
        }
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(canonical(network).trunc()));
        }
        if let Some((low, high)) = text.split_once("..")
            && let (Some(low), Some(high)) = (address(low), address(high))
        {
            if low.is_ipv4() != high.is_ipv4() || low > high {
                return Err(format!("{} is no range: its last address is not after its first", quote(text)));
            }
            return Ok(Self::Range(low, high));
        }
        if let Ok(place) = text.parse::<std::net::SocketAddr>() {
            let ip = place.ip();
            return Err(format!(
                "\"{name}\" is an address without a port; write {name} == {ip} and {name}.port == {}",
                place.port()
            ));
        }
        Err(expects(
            field,
            "IP addresses, networks such as 10.0.0.0/8 and ranges such as 10.0.0.1..10.0.0.9",
            text,
        ))
    }

    fn written(&self) -> String {
        match self {
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().to_string()
            }
            Self::Network(network) => network.to_string(),
            Self::Range(low, high) => format!("{low}..{high}"),
        }
    }
}

/// A network of IPv4 addresses that is written as IPv6, as facts write it.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED_PREFIX: u8 = 96;

    let IpNet::V6(v6) = network else { return network };
    v6.addr()
        .to_ipv4_mapped()
        .zip(v6.prefix_len().checked_sub(MAPPED_PREFIX))
        .and_then(|(address, prefix)| IpNet::new(address.into(), prefix).ok())
        .unwrap_or(network)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorPattern {
    Any,
    NeverSent,
    Number(i32),
}

impl ErrorPattern {
    /// Whether an error is this one. One whose number is not known may be any, so for `!=` it is taken for this.
    pub(super) fn matches(self, error: ConnectionError, relation: Relation) -> bool {
        match self {
            Self::Any => true,
            Self::NeverSent => error.errno.is_none(),
            Self::Number(number) => {
                error.errno.map_or(relation == Relation::NotEqual, |errno| errno == number)
            }
        }
    }

    fn read(relation: Relation, text: &str) -> Result<Self, String> {
        let is = |name| text.eq_ignore_ascii_case(name);
        if is("any") {
            if relation == Relation::NotEqual {
                return Err("nothing has an error that is not any; write not error == any".to_owned());
            }
            return Ok(Self::Any);
        }
        if is("never_sent") {
            return Ok(Self::NeverSent);
        }
        let digits = text.strip_prefix("errno ").unwrap_or(text);
        let number =
            integer(digits).and_then(|number| i32::try_from(number).ok()).or_else(|| errno::number(text));
        number.map(Self::Number).ok_or_else(|| {
            let known: Vec<String> =
                (1..=133).map(named_error).filter(|name| name.starts_with('E')).collect();
            let all = known.iter().map(String::as_str).chain(["never_sent", "any"]);
            let mut message = format!("{} is no error", quote(text));
            message.push_str(&suggestions(text, all.clone().map(|name| (name, name))));
            // Writing to a string cannot fail.
            let _ = write!(message, " (there are {}, and numbers)", all.collect::<Vec<_>>().join(", "));
            message
        })
    }

    fn written(self) -> String {
        match self {
            Self::Any => "any".to_owned(),
            Self::NeverSent => "never_sent".to_owned(),
            Self::Number(number) => named_error(number),
        }
    }
}

/// The name of an error number, or the number.
fn named_error(number: i32) -> String {
    let name = ConnectionError::told(number).name();
    if errno::number(name.as_str()).is_some() { name.as_str().to_owned() } else { number.to_string() }
}
