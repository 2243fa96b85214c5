//! The load: who makes traffic and compares what is told of it, who asks, who opens streams and goes away.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU16, Ordering},
    thread::{self, Scope, ScopedJoinHandle},
    time::{Duration, Instant},
};

use netmon_core::{
    ConnectionsRequest, Control, DiagnoseRequest, DropsRequest, Error, ErrorKind, Filter, Monitor,
    PatternsRequest, RateRequest, SummaryRequest,
    fact::{ConnectionDirection, ConnectionFact, Protocol},
    request::SocketsRequest,
    source::remote::RemoteSource,
};
use netmon_testkit::{
    Netns, may_lack, own_number,
    soak::{Ledger, until_complete},
    workload::{self, Event, Running},
};

/// What was done and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) ledgers: Vec<(&'static str, Ledger)>,
    /// Windows of rates, the packets that the kernel counted in them, and how many more than that the hook did.
    pub(crate) windows: u64,
    pub(crate) packets: u64,
    pub(crate) difference: i64,
    pub(crate) asked: u64,
    pub(crate) failures: Vec<String>,
    pub(crate) streams: u64,
    pub(crate) hangups: u64,
    pub(crate) flaps: u64,
}

/// Everything that is compared. Where nothing of a kind was made, that fails too.
const COMPARED: [&str; 5] = [STORMS, DATAGRAMS, BULK, DROPS, NAMESPACES];
const STORMS: &str = "connections of storms";
const DATAGRAMS: &str = "datagrams sent";
const BULK: &str = "bytes in bulk";
const DROPS: &str = "dropped packets";
pub(crate) const NAMESPACES: &str = "connections of namespaces that are gone";

impl Told {
    /// Nothing yet, of everything that is compared.
    pub(crate) fn expecting() -> Self {
        let ledgers = COMPARED.map(|name| (name, Ledger::default()));
        Self { ledgers: ledgers.into(), ..Self::default() }
    }

    pub(crate) fn failed(what: String) -> Self {
        Self { failures: vec![what], ..Self::default() }
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        for (name, ledger) in &other.ledgers {
            self.ledger(name).add(ledger);
        }
        self.windows += other.windows;
        self.packets += other.packets;
        self.difference += other.difference;
        self.asked += other.asked;
        self.failures.extend(other.failures);
        self.streams += other.streams;
        self.hangups += other.hangups;
        self.flaps += other.flaps;
        self
    }

    /// How many ends of TCP connections these were.
    pub(crate) fn ends(&self) -> u64 {
        let of =
            |wanted: &str| self.ledgers.iter().find(|(name, _)| *name == wanted).map(|(_, ledger)| *ledger);
        let (storms, namespaces, bulk) = (of(STORMS), of(NAMESPACES), of(BULK));
        let made = |ledger: Option<Ledger>| ledger.unwrap_or_default().made;
        made(storms) + made(namespaces) + 2 * bulk.unwrap_or_default().entries
    }

    fn ledger(&mut self, name: &'static str) -> &mut Ledger {
        let at = self.ledgers.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            self.ledgers.push((name, Ledger::default()));
            self.ledgers.len() - 1
        });
        &mut self.ledgers[at].1
    }

    /// Counts a question, and notes where it failed.
    fn answer<T>(&mut self, question: &str, answer: Result<T, Error>) -> Option<T> {
        self.asked += 1;
        answer.map_err(|error| self.failures.push(format!("{question}: {}", error.with_cause()))).ok()
    }

    /// An interface that is being made anew is no failure.
    fn rates_ended(&mut self, error: Error) {
        if matches!(error.kind(), ErrorKind::UnknownInterface | ErrorKind::InterfaceGone) {
            self.asked += 1;
        } else {
            self.answer::<()>("rates", Err(error));
        }
    }
}

/// A port that no burst had lately.
pub(crate) fn next_port() -> u16 {
    const FIRST: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % 15_000
}

/// So many connections to a port, opened and closed as fast as possible; how many ends that were.
pub(crate) fn storm(start: impl FnOnce(&str) -> Running, port: u16, connections: u64) -> u64 {
    let told = start(&format!("storm --seconds 20 --connections {connections} 127.0.0.1:{port}")).wait();
    let client = workload::only(&told, Event::Done, "client");
    client.connections + workload::only(&told, Event::Done, "acceptor").connections
}

/// Connections that nothing else on the host can have made: those of a port in a network namespace, since it was chosen.
#[derive(Debug, Clone)]
pub(crate) struct Burst {
    filter: String,
    since: Instant,
}

impl Burst {
    pub(crate) fn of(netns: u32, port: u16) -> Self {
        Self { filter: format!("netns == {netns} and port == {port}"), since: Instant::now() }
    }
}

/// What the daemon tells of a burst, and how much it says that it lacks.
fn seen(
    told: &mut Told,
    monitor: &Monitor,
    burst: &Burst,
    mut count: impl FnMut(&ConnectionFact) -> u64,
) -> Option<(u64, u64)> {
    let filter =
        Filter::parse(&burst.filter).map_err(|error| told.failures.push(format!("filter: {error}"))).ok()?;
    let source = monitor.source();
    // Not less than what happened since: time passes until the daemon hears of it.
    let since = burst.since.elapsed() + Duration::from_secs(1);
    let span = told.answer("observed", source.observed(Some(since)))??;
    let mut sum = 0;
    let observed = source.connections(&span, &filter, &mut |sighting| sum += count(sighting.fact));
    let observed = told.answer("connections", observed)?;
    // Those too at which the kernel left the program out where it ran already.
    Some((sum, observed.lost_events + observed.forgotten + may_lack(&observed.warnings, 0)))
}

/// Compares the ends of connections of a burst with how many were made.
pub(crate) fn compare(told: &mut Told, monitor: &Monitor, name: &'static str, burst: &Burst, made: u64) {
    let ended = |fact: &ConnectionFact| u64::from(fact.protocol == Protocol::Tcp && fact.is_over());
    let found = until_complete(
        || seen(told, monitor, burst, ended),
        |found| found.is_none_or(|(seen, lost)| seen + lost >= made),
    );
    if let Some((seen, lost)) = found {
        told.ledger(name).enter(made, seen, lost);
    }
}

/// All that runs beside the main thread.
pub(crate) struct Load {
    socket: PathBuf,
    /// Where the daemon is, by name and number.
    netns: String,
    netns_number: u32,
    stop: AtomicBool,
}

type Work = fn(&Load, &Monitor, &mut Told);

/// What each thread does again and again, and how long it rests after each time.
const WORK: [(&str, Work, Duration); 7] = [
    ("storms", storms, Duration::from_millis(700)),
    ("datagrams", datagrams, Duration::from_millis(500)),
    ("bulk", bulk, Duration::from_millis(500)),
    ("drops", drops, Duration::from_millis(900)),
    ("rates", rates, Duration::from_millis(100)),
    ("questions", questions, Duration::from_millis(100)),
    ("streams", streams, Duration::from_millis(50)),
];

impl Load {
    pub(crate) fn new(socket: PathBuf, netns: &Netns) -> Self {
        let (name, netns_number) = (netns.name().to_owned(), netns.number());
        Self { socket, netns: name, netns_number, stop: AtomicBool::new(false) }
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
    ) -> Vec<(&'static str, ScopedJoinHandle<'scope, Told>)> {
        WORK.map(|(name, work, rest)| {
            let thread = scope.spawn(move || {
                let mut told = Told::default();
                let monitor = match RemoteSource::unix(&self.socket) {
                    Ok(source) => Monitor::new(source),
                    Err(error) => return Told::failed(error.with_cause()),
                };
                while !self.stopped() {
                    work(self, &monitor, &mut told);
                    thread::sleep(rest);
                }
                told
            });
            (name, thread)
        })
        .into()
    }

    /// Runs a command of the workload program in the daemon's namespace.
    fn workload(&self, command_line: &str) -> Running {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.netns)).arg("--").arg(workload::program());
        workload::start_by(command, command_line)
    }
}

fn storms(load: &Load, monitor: &Monitor, told: &mut Told) {
    let port = next_port();
    let burst = Burst::of(load.netns_number, port);
    let made = storm(|command| load.workload(command), port, 1500);
    compare(told, monitor, STORMS, &burst, made);
}

/// One socket that floods another, one that sends to hundreds, and what is told of the first.
fn datagrams(load: &Load, monitor: &Monitor, told: &mut Told) {
    let port = next_port();
    let burst = Burst::of(load.netns_number, port);
    let flood = load.workload(&format!("flood --seconds 20 --datagrams 5000 127.0.0.1:{port}")).wait();
    let made = workload::only(&flood, Event::Done, "sender").datagrams_sent;
    let sent = |fact: &ConnectionFact| {
        let is_sender = fact.remote.is_some_and(|remote| remote.port() == port);
        fact.traffic.filter(|_| is_sender).map_or(0, |traffic| traffic.packets_sent)
    };
    let found = until_complete(
        || seen(told, monitor, &burst, sent),
        |found| found.is_none_or(|(seen, lost)| seen + lost >= made),
    );
    if let Some((seen, lost)) = found {
        told.ledger(DATAGRAMS).enter(made, seen, lost);
    }
    let peers: String = (0..200).map(|host| format!(" 127.1.{}.{}:9", host / 100, host % 100 + 1)).collect();
    load.workload(&format!("udp-send --datagrams 2{peers}")).wait();
}

/// A transfer, compared to the byte.
fn bulk(_: &Load, monitor: &Monitor, told: &mut Told) {
    const BYTES: usize = 16 << 20;
    let transfer = match transfer(BYTES) {
        Ok(transfer) => transfer,
        Err(error) => return told.failures.push(format!("bulk: {error}")),
    };
    let made = BYTES as u64;
    let sent = |fact: &ConnectionFact| {
        let is_client = fact.direction == ConnectionDirection::Outbound && fact.is_over();
        fact.traffic.filter(|_| is_client).map_or(0, |traffic| traffic.payload_bytes_sent)
    };
    let found = until_complete(
        || seen(told, monitor, &transfer, sent),
        |found| found.is_none_or(|(seen, lost)| seen >= made || lost > 0),
    );
    if let Some((seen, lost)) = found {
        // Where a record was lost it may have been this one.
        told.ledger(BULK).enter(made, seen, if lost > 0 { made } else { 0 });
    }
}

/// Sends so many bytes over a connection of its own, until the other side has read them all.
fn transfer(bytes: usize) -> io::Result<Burst> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut burst = Burst::of(own_number(), address.port());
    let reader =
        thread::spawn(move || -> io::Result<u64> { io::copy(&mut listener.accept()?.0, &mut io::sink()) });
    let mut stream = TcpStream::connect(address)?;
    // The kernel may give the listener's port to somebody else at once, but not both.
    burst.filter += &format!(" and port == {}", stream.local_addr()?.port());
    stream.write_all(&vec![0; bytes])?;
    drop(stream);
    match reader.join() {
        Ok(read) => read.map(|_| burst),
        Err(_) => Err(io::Error::other("the reader panicked")),
    }
}

/// Datagrams to a port at which nobody is.
fn drops(_: &Load, monitor: &Monitor, told: &mut Told) {
    const COUNT: u64 = 300;
    let (port, since) = (next_port(), Instant::now());
    let sent = UdpSocket::bind("127.0.0.1:0").map(|socket| {
        let send = |_: &u64| socket.send_to(b"nobody", (Ipv4Addr::LOCALHOST, port)).is_ok();
        (0..COUNT).filter(send).count()
    });
    let made = match sent {
        Ok(made) => made as u64,
        Err(error) => return told.failures.push(format!("drops: {error}")),
    };
    let mut request = DropsRequest::default();
    request.filter.port = Some(port);
    request.filter.filter = Some(format!("netns == {}", own_number()));
    request.since = Some(since.elapsed() + Duration::from_secs(1));
    if let Some(answer) = told.answer("drops", monitor.drops(&request, &Control::default())) {
        let lost = answer.header.coverage.lost_events;
        told.ledger(DROPS).enter(made, answer.total, lost);
    }
}

/// What the hook counted against the kernel's own counters, while the link may come and go.
fn rates(load: &Load, monitor: &Monitor, told: &mut Told) {
    let mut request = RateRequest::default();
    request.interfaces = vec!["lo".to_owned(), "veth0".to_owned()];
    request.window = Duration::from_secs(1);
    let mut watch = match monitor.watch_rates(&request) {
        Ok(watch) => watch,
        Err(error) => return told.rates_ended(error),
    };
    for _ in 0..5 {
        if load.stopped() {
            return;
        }
        let answer = match watch.next_window(&Control::default()) {
            Ok(answer) => answer,
            Err(error) => return told.rates_ended(error),
        };
        told.asked += 1;
        for rate in answer.rates.iter().filter(|rate| rate.interface == "lo" && rate.changes.is_empty()) {
            let Some(hook) = &rate.hook else { continue };
            told.windows += 1;
            told.packets += rate.packets;
            told.difference += hook.packets_difference;
        }
    }
}

/// Everything that can be asked, once.
fn questions(load: &Load, monitor: &Monitor, told: &mut Told) {
    let control = Control::default();
    told.answer("interfaces", monitor.interfaces());
    let mut page = ConnectionsRequest::default();
    page.limit = Some(50);
    page.since = Some(Duration::from_secs(30));
    if let Some(first) = told.answer("connections", monitor.connections(&page, &control)) {
        page.cursor = first.next_cursor;
        if page.cursor.is_some() {
            told.answer("connections, the second page", monitor.connections(&page, &control));
        }
    }
    told.answer("summary", monitor.summary(&SummaryRequest::default(), &control));
    told.answer("patterns", monitor.patterns(&PatternsRequest::default(), &control));
    told.answer("diagnose", monitor.diagnose(&DiagnoseRequest::default(), &control));
    told.answer("sockets", monitor.sockets(&SocketsRequest::default()));
    told.answer("listeners", monitor.listeners(&SocketsRequest::default()));
    told.answer("capabilities", monitor.capabilities());
    for target in ["/metrics", "/health", "/openapi.json", "/api/connection-summary"] {
        get(load, told, target);
    }
}

/// Asks by hand, and reads the whole answer.
fn get(load: &Load, told: &mut Told, target: &str) {
    told.asked += 1;
    let mut answer = Vec::new();
    let asked = UnixStream::connect(&load.socket).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(
            format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
        )?;
        stream.read_to_end(&mut answer)
    });
    if asked.is_err() || !answer.starts_with(b"HTTP/1.1 200") {
        let head = String::from_utf8_lossy(&answer[..answer.len().min(500)]).into_owned();
        told.failures.push(format!("{target}: {asked:?} {head:?}"));
    }
}

/// Clients that open streams, or ask for much, and go away in the middle; and now and then one that never reads.
fn streams(load: &Load, _: &Monitor, told: &mut Told) {
    const TARGETS: [&str; 4] = [
        "/v1/connections/events",
        "/v1/rates/events?window=1s",
        "/v1/connections?since=60s",
        "/v1/rates?window=30s",
    ];
    let target = TARGETS[usize::try_from(told.streams).unwrap_or(0) % TARGETS.len()];
    told.streams += 1;
    let Ok(mut stream) = UnixStream::connect(&load.socket) else {
        told.failures.push(format!("{target}: cannot connect"));
        return;
    };
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    if stream.write_all(request.as_bytes()).is_err() {
        told.failures.push(format!("{target}: hung up on"));
        return;
    }
    if told.streams % 20 == 1 {
        // Long enough to be cut off.
        thread::sleep(Duration::from_secs(4));
    } else {
        let mut head = [0; 8192];
        let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
        // What takes longer is given up.
        let read = stream.read(&mut head).unwrap_or(0);
        told.asked += u64::from(read > 0);
        if read > 0 && !head.starts_with(b"HTTP/1.1 200") {
            let head = String::from_utf8_lossy(&head[..read.min(500)]);
            told.failures.push(format!("{target}: {head:?}"));
        }
    }
}
