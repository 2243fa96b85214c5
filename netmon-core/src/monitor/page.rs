//! Sorting connections, and going through them page by page.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr},
};

use jiff::Timestamp;
use rustc_hash::FxHasher;

use super::connection::Connection;
use crate::{
    error::{Error, Result},
    fact::{BootTime, ConnectionFact, Moment, Traffic},
    request::{ConnectionSort, ConnectionsRequest},
    source::Span,
};

/// A connection that may be shown.
#[derive(Debug)]
struct Entry {
    fact: ConnectionFact,
    /// What went over it in the window.
    within: Option<Traffic>,
}

/// What connections are sorted by. Of one answer all are of the same variant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key<T> {
    Number(u64),
    Address { v6: bool, address: u128, port: u16 },
    Text(T),
}

/// The order of an answer's rows.
#[derive(Debug, Clone, Copy)]
struct Order {
    sort: ConnectionSort,
    descending: bool,
    /// The end of the window, until which an open connection has lasted.
    to_ns: u64,
}

impl Order {
    /// `None` where what decides is not known.
    fn key<'a>(&self, fact: &'a ConnectionFact) -> Option<Key<&'a str>> {
        let traffic = fact.traffic.as_ref();
        let tcp = fact.tcp.as_ref();
        let number = match self.sort {
            ConnectionSort::Opened => fact.opened.map(BootTime::ns),
            ConnectionSort::Closed => fact.closed.map(BootTime::ns),
            ConnectionSort::Duration => fact.opened.and_then(|opened| {
                let until = match fact.closed {
                    Some(closed) => closed.ns(),
                    None if fact.is_over() => return None,
                    None => self.to_ns,
                };
                Some(until.saturating_sub(opened.ns()))
            }),
            ConnectionSort::Sent => traffic.map(|traffic| traffic.payload_bytes_sent),
            ConnectionSort::Received => traffic.map(|traffic| traffic.payload_bytes_received),
            ConnectionSort::Bytes => traffic
                .map(|traffic| traffic.payload_bytes_sent.saturating_add(traffic.payload_bytes_received)),
            ConnectionSort::Rtt => tcp.and_then(|tcp| tcp.rtt_us).map(u64::from),
            ConnectionSort::Retransmits => tcp.map(|tcp| tcp.retransmits.into()),
            ConnectionSort::Latency => {
                fact.connect_latency().map(|latency| u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX))
            }
            ConnectionSort::State => Some(fact.state as u64),
            ConnectionSort::Process => {
                return fact.process.as_ref().map(|process| Key::Text(process.comm.as_str()));
            }
            ConnectionSort::Remote => return fact.remote.as_ref().map(address_key),
        };
        number.map(Key::Number)
    }

    fn compare_keys(&self, one: Option<&Key<&str>>, other: Option<&Key<&str>>) -> Ordering {
        match (one, other) {
            (Some(one), Some(other)) if self.descending => other.cmp(one),
            (Some(one), Some(other)) => one.cmp(other),
            // What is not known stands last, either way.
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        }
    }

    fn compare(&self, one: &ConnectionFact, other: &ConnectionFact) -> Ordering {
        self.compare_keys(self.key(one).as_ref(), self.key(other).as_ref())
            .then_with(|| one.id().cmp(&other.id()))
            .then_with(|| endpoints(one).cmp(&endpoints(other)))
    }

    /// Where a fact stands, seen from a place between rows.
    fn compare_with(&self, fact: &ConnectionFact, place: &Place) -> Ordering {
        self.compare_keys(self.key(fact).as_ref(), place.key().as_ref())
            .then_with(|| fact.id().cookie.cmp(&place.cookie))
            .then_with(|| fact.id().opened_ns.cmp(&place.opened_ns))
            .then_with(|| endpoints(fact).cmp(&place.endpoints))
    }
}

fn address_key<T>(address: &SocketAddr) -> Key<T> {
    let (v6, bits) = match address.ip() {
        IpAddr::V4(address) => (false, u128::from(u32::from(address))),
        IpAddr::V6(address) => (true, u128::from(address)),
    };
    Key::Address { v6, address: bits, port: address.port() }
}

/// Tells connections apart that have the same identity: sockets without a cookie, and flows of one socket that are all
/// older than the monitor.
fn endpoints(fact: &ConnectionFact) -> u64 {
    hash(&(fact.protocol, fact.local, fact.remote, fact.netns))
}

/// The same in every process of this version.
fn hash(value: &impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The place after a row.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    key: Option<Key<String>>,
    cookie: u64,
    opened_ns: u64,
    endpoints: u64,
}

impl Place {
    fn after(order: &Order, fact: &ConnectionFact) -> Self {
        let key = order.key(fact).map(|key| match key {
            Key::Number(number) => Key::Number(number),
            Key::Address { v6, address, port } => Key::Address { v6, address, port },
            Key::Text(text) => Key::Text(text.to_owned()),
        });
        let id = fact.id();
        Self { key, cookie: id.cookie, opened_ns: id.opened_ns, endpoints: endpoints(fact) }
    }

    fn key(&self) -> Option<Key<&str>> {
        self.key.as_ref().map(|key| match key {
            Key::Number(number) => Key::Number(*number),
            Key::Address { v6, address, port } => Key::Address { v6: *v6, address: *address, port: *port },
            Key::Text(text) => Key::Text(text.as_str()),
        })
    }
}

/// Where the next page begins, and what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Of the question, without cursor and how much is shown: a cursor fits no other.
    question: u64,
    pub(super) from: Moment,
    pub(super) to: Moment,
    place: Place,
}

/// Of the text of cursors, so that one of another version is refused.
const VERSION: &str = "2";

impl Cursor {
    pub(super) fn span(&self) -> Span {
        Span { from: self.from, to: self.to }
    }

    /// Letters, digits, dots and minus signs, so that it needs no quoting anywhere.
    fn text(&self) -> String {
        let key = match &self.place.key {
            None => "-".to_owned(),
            Some(Key::Number(number)) => format!("n{number:x}"),
            Some(Key::Address { v6, address, port }) => {
                format!("{}{address:x}-{port:x}", if *v6 { 's' } else { 'f' })
            }
            Some(Key::Text(text)) => {
                let bytes = text.bytes().map(|byte| format!("{byte:02x}"));
                std::iter::once("t".to_owned()).chain(bytes).collect()
            }
        };
        let wall = |moment: &Moment| moment.wall.as_nanosecond();
        let text = format!(
            "{VERSION}.{:x}.{:x}.{}.{:x}.{}.{key}.{:x}.{:x}.{:x}",
            self.question,
            self.from.boot_ns,
            wall(&self.from),
            self.to.boot_ns,
            wall(&self.to),
            self.place.cookie,
            self.place.opened_ns,
            self.place.endpoints,
        );
        let check = check(&text);
        format!("{text}.{check}")
    }

    fn read(text: &str) -> Option<Self> {
        let (text, last) = text.rsplit_once('.')?;
        if last != check(text) {
            return None;
        }
        let mut parts = text.split('.');
        if parts.next()? != VERSION {
            return None;
        }
        let hex = |part: Option<&str>| u64::from_str_radix(part?, 16).ok();
        let wall = |part: Option<&str>| Timestamp::from_nanosecond(part?.parse().ok()?).ok();
        let cursor = Self {
            question: hex(parts.next())?,
            from: Moment { boot_ns: hex(parts.next())?, wall: wall(parts.next())? },
            to: Moment { boot_ns: hex(parts.next())?, wall: wall(parts.next())? },
            place: Place {
                key: read_key(parts.next()?)?,
                cookie: hex(parts.next())?,
                opened_ns: hex(parts.next())?,
                endpoints: hex(parts.next())?,
            },
        };
        parts.next().is_none().then_some(cursor)
    }
}

/// What ends a cursor, so that one that was cut or mistyped on its way is refused.
fn check(text: &str) -> String {
    format!("{:08x}", hash(&text) >> 32)
}

/// `None` for a text that is no key, `Some(None)` for what is not known.
#[allow(clippy::option_option, reason = "a key that is absent, in a text that is right")]
fn read_key(text: &str) -> Option<Option<Key<String>>> {
    let mut letters = text.chars();
    let kind = letters.next()?;
    let rest = letters.as_str();
    let key = match kind {
        '-' if rest.is_empty() => return Some(None),
        'n' => Key::Number(u64::from_str_radix(rest, 16).ok()?),
        'f' | 's' => {
            let (address, port) = rest.split_once('-')?;
            Key::Address {
                v6: kind == 's',
                address: u128::from_str_radix(address, 16).ok()?,
                port: u16::from_str_radix(port, 16).ok()?,
            }
        }
        't' => {
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            let bytes: Option<Vec<u8>> = rest.as_bytes().chunks(2).map(byte).collect();
            Key::Text(String::from_utf8(bytes?).ok()?)
        }
        _ => return None,
    };
    Some(Some(key))
}

fn question(request: &ConnectionsRequest) -> u64 {
    let bare =
        ConnectionsRequest { limit: None, cursor: None, most_bytes: None, brief: false, ..request.clone() };
    // It is made of numbers, texts and lists, which always can be written.
    hash(&serde_json::to_string(&bare).unwrap_or_default())
}

/// A cursor that is one is written as it was read, but for how numbers can be written. Returns it with what it has to end
/// with.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn read_any_cursor(text: &str) -> String {
    let whole = format!("{text}.{}", check(text));
    for text in [text, &whole] {
        if let Some(cursor) = Cursor::read(text) {
            assert_eq!(Cursor::read(&cursor.text()), Some(cursor), "{text}");
        }
    }
    whole
}

/// The cursor of a request, if it has one.
///
/// # Errors
/// [`Error::InvalidRequest`] for a text that is no cursor, or one of another question.
pub(super) fn cursor_of(request: &ConnectionsRequest) -> Result<Option<Cursor>> {
    let Some(text) = &request.cursor else { return Ok(None) };
    let cursor = Cursor::read(text).ok_or_else(|| {
        Error::InvalidRequest(
            "this is no whole cursor of this version; take `next_cursor` of an answer as it is".to_owned(),
        )
    })?;
    if cursor.question != question(request) {
        return Err(Error::InvalidRequest(
            "this cursor belongs to another question; only the limit may change from page to page".to_owned(),
        ));
    }
    Ok(Some(cursor))
}

/// Collects the rows of one page, in memory for about two pages.
#[derive(Debug)]
pub(super) struct Page {
    order: Order,
    after: Option<Place>,
    limit: usize,
    entries: Vec<Entry>,
    /// The last place of those that were kept when some were left out: what stands behind it is not on this page.
    bound: Option<Place>,
    /// Whether some were left out that belong behind this page.
    more: bool,
}

/// So that small pages are not sorted out again and again.
const LEAST_KEPT: usize = 1024;

impl Page {
    pub(super) fn new(request: &ConnectionsRequest, cursor: Option<&Cursor>, span: &Span) -> Self {
        let order = Order {
            sort: request.sort,
            descending: request.sort.descends() != request.reverse,
            to_ns: span.to.boot_ns,
        };
        let limit = request.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        Self {
            order,
            after: cursor.map(|cursor| cursor.place.clone()),
            limit,
            entries: Vec::new(),
            bound: None,
            more: false,
        }
    }

    pub(super) fn add(&mut self, fact: &ConnectionFact, within: Option<Traffic>) {
        if self.after.as_ref().is_some_and(|after| self.order.compare_with(fact, after) != Ordering::Greater)
        {
            return;
        }
        if self.bound.as_ref().is_some_and(|bound| self.order.compare_with(fact, bound) == Ordering::Greater)
        {
            return;
        }
        self.entries.push(Entry { fact: fact.clone(), within });
        if self.entries.len() >= self.limit.saturating_mul(2).max(LEAST_KEPT) {
            self.cut();
        }
    }

    /// Keeps the rows of this page only, in no order.
    fn cut(&mut self) {
        if self.entries.len() <= self.limit {
            return;
        }
        let order = self.order;
        self.entries.select_nth_unstable_by(self.limit, |one, other| order.compare(&one.fact, &other.fact));
        self.entries.truncate(self.limit);
        let last = self.entries.iter().max_by(|one, other| order.compare(&one.fact, &other.fact));
        self.bound = last.map(|last| Place::after(&order, &last.fact));
        self.more = true;
    }

    /// The rows in order, and the cursor of the next page if there is one.
    pub(super) fn finish(
        mut self,
        request: &ConnectionsRequest,
        span: &Span,
    ) -> (Vec<Connection>, Option<String>) {
        self.cut();
        let order = self.order;
        self.entries.sort_unstable_by(|one, other| order.compare(&one.fact, &other.fact));
        let mut rows = Vec::new();
        let mut left = request.most_bytes.unwrap_or(u64::MAX);
        for entry in &self.entries {
            let mut row = Connection::new(&entry.fact, &span.to, entry.within);
            if request.brief {
                row = row.brief();
            }
            if request.most_bytes.is_some() {
                // Its comma is a byte too.
                let size = serde_json::to_string(&row).map_or(0, |json| json.len() as u64 + 1);
                if size > left && !rows.is_empty() {
                    self.more = true;
                    break;
                }
                left = left.saturating_sub(size);
            }
            rows.push(row);
        }
        let last = rows.len().checked_sub(1).and_then(|last| self.entries.get(last));
        let next = last.filter(|_| self.more).map(|last| {
            let place = Place::after(&order, &last.fact);
            Cursor { question: question(request), from: span.from, to: span.to, place }.text()
        });
        (rows, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let moment = |second: i64| Moment { boot_ns: 7, wall: Timestamp::from_second(second).unwrap() };
        let keys = [
            None,
            Some(Key::Number(u64::MAX)),
            Some(Key::Address { v6: false, address: 0x7f00_0001, port: 80 }),
            Some(Key::Address { v6: true, address: u128::MAX, port: 0 }),
            Some(Key::Text("a.b-ü ".to_owned())),
            Some(Key::Text(String::new())),
        ];
        for key in keys {
            let place = Place { key, cookie: 1, opened_ns: 2, endpoints: 3 };
            let cursor = Cursor { question: 9, from: moment(-5), to: moment(1_000), place };
            let text = cursor.text();
            assert!(
                text.chars().all(|letter| letter.is_ascii_alphanumeric() || ".-".contains(letter)),
                "{text}"
            );
            assert_eq!(Cursor::read(&text), Some(cursor));
            for length in 0..text.len() {
                assert_eq!(Cursor::read(&text[..length]), None, "{length} of {text}");
            }
        }
    }

    #[test]
    fn a_page_has_the_first_rows_in_whatever_order_facts_come() {
        const FACTS: u64 = 5_000;
        let moment = |boot_ns| Moment { boot_ns, wall: Timestamp::UNIX_EPOCH };
        let span = Span { from: moment(1), to: moment(FACTS + 1) };
        // 7 and 5,000 have no common divisor, so that each number comes once.
        let orders: [fn(u64) -> u64; 3] = [|at| at, |at| FACTS - 1 - at, |at| at * 7 % FACTS];
        for order in orders {
            for reverse in [false, true] {
                let request =
                    ConnectionsRequest { limit: Some(20), reverse, ..ConnectionsRequest::default() };
                let mut expected = 1..=FACTS;
                let mut cursor = None;
                for _ in 0..3 {
                    let mut page = Page::new(&request, cursor.as_ref(), &span);
                    for number in (0..FACTS).map(|at| order(at) + 1) {
                        let local = ([10, 0, 0, 1], 443).into();
                        let state = crate::fact::ConnectionState::Open;
                        let mut fact = ConnectionFact::new(number, crate::fact::Protocol::Tcp, state, local);
                        fact.opened = BootTime::from_ns(number);
                        page.add(&fact, None);
                    }
                    let (rows, next) = page.finish(&request, &span);
                    let cookies: Vec<u64> = rows.iter().map(|row| row.id.cookie).collect();
                    let newest_first = !reverse;
                    let due: Vec<u64> = if newest_first {
                        expected.by_ref().rev().take(20).collect()
                    } else {
                        expected.by_ref().take(20).collect()
                    };
                    assert_eq!(cookies, due);
                    cursor = Cursor::read(&next.unwrap());
                }
            }
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in
            ["", "2", "2.2.3", "1.9.7.0.7.0.n1.1.2.3", "2.9.7.0.7.0.tää.1.2.3", "2.9.7.0.7.0.n1.1.2.3.4"]
        {
            assert_eq!(Cursor::read(text), None, "{text}");
            assert_eq!(Cursor::read(&format!("{text}.{}", check(text))), None, "{text}");
        }
        let request = ConnectionsRequest { cursor: Some("x".to_owned()), ..ConnectionsRequest::default() };
        assert!(matches!(cursor_of(&request), Err(Error::InvalidRequest(_))));
    }
}
