//! What differs between two times, from facts in memory.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use netmon_core::{
    Answer as _, Control, DiffAnswer, DiffRequest, Error, Filter, Monitor, Result, Source,
    fact::{
        BootTime, ConnectionDirection, ConnectionError, ConnectionFact, ConnectionState, Moment, Observed,
        Process, Protocol, SocketFact, SocketSnapshot, Traffic,
    },
    monitor::{Destinations, Difference, DifferenceKind},
    source::{Recorder, Sighting, SourceDescription, Span},
    view::Layout,
};

const NOW: u64 = 100;

fn moment(second: u64) -> Moment {
    let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    Moment { boot_ns: second * 1_000_000_000, wall: start + Duration::from_secs(second) }
}

fn at(second: u64) -> Option<BootTime> {
    BootTime::from_ns(second * 1_000_000_000)
}

/// A world that is recorded from second 1 to second 100.
struct World {
    recorder: Recorder,
    open: Vec<ConnectionFact>,
    /// From which second on each listens, and until when.
    listeners: Vec<(u64, u64, SocketFact)>,
    /// Whether it tells who listened in the past.
    knows_past: bool,
}

impl World {
    fn new(ended: impl IntoIterator<Item = ConnectionFact>) -> Self {
        let recorder = Recorder::default();
        // Times begin where counters were read.
        for second in [1, 40, 50, 60] {
            recorder.sample(&moment(second), []);
        }
        recorder.ended(ended);
        Self { recorder, open: Vec::new(), listeners: Vec::new(), knows_past: true }
    }
}

impl Source for World {
    fn describe(&self) -> SourceDescription {
        SourceDescription::new("memory", "test", "none")
    }

    fn start(&self) -> Result<Moment> {
        Ok(moment(NOW))
    }

    fn wait(&self, from: &Moment, _: Duration, _: &Control<'_>) -> Result<Moment> {
        Err(Error::RecordingEnded { at: from.wall })
    }

    fn observed(&self, since: Option<Duration>) -> Result<Option<Span>> {
        Ok(self.recorder.observed(since, &moment(NOW)))
    }

    fn connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Observed> {
        self.recorder.visit(span, filter, &self.open, visit);
        Ok(Observed::default())
    }

    fn sockets(&self, at: &Moment) -> Result<SocketSnapshot> {
        let at = if self.knows_past { *at } else { moment(NOW) };
        let second = at.boot_ns / 1_000_000_000;
        let listening = self.listeners.iter().filter(|(from, to, _)| (*from..*to).contains(&second));
        let sockets = listening.map(|(.., socket)| socket.clone()).collect();
        Ok(SocketSnapshot::new(at, sockets, Observed::default()))
    }
}

fn connection(cookie: u64, comm: &str, remote: &str, opened: u64, closed: u64) -> ConnectionFact {
    let local: SocketAddr = format!("10.0.0.1:{}", 40_000 + cookie).parse().unwrap();
    let mut fact = ConnectionFact::new(cookie, Protocol::Tcp, ConnectionState::Closed, local);
    fact.direction = ConnectionDirection::Outbound;
    fact.remote = Some(remote.parse().unwrap());
    fact.process = Some(Arc::new(Process::new(u32::try_from(cookie).unwrap(), comm)));
    (fact.opened, fact.closed) = (at(opened), at(closed));
    fact
}

fn refused(mut fact: ConnectionFact) -> ConnectionFact {
    (fact.state, fact.error) = (ConnectionState::Failed, Some(ConnectionError::told(111)));
    fact
}

fn listener(comm: &str, protocol: Protocol, local: &str) -> SocketFact {
    let mut fact = ConnectionFact::new(0, protocol, ConnectionState::Listening, local.parse().unwrap());
    fact.process = Some(Arc::new(Process::new(1, comm)));
    SocketFact::new(fact)
}

fn last(seconds: u64) -> DiffRequest {
    let mut request = DiffRequest::default();
    request.since = Some(Duration::from_secs(seconds));
    request
}

fn diff(world: World, request: &DiffRequest) -> DiffAnswer {
    Monitor::new(world).diff(request, &Control::default()).unwrap()
}

/// Kind, place and process of each difference.
fn told(answer: &DiffAnswer) -> Vec<(DifferenceKind, String, String)> {
    let place = |difference: &Difference| {
        let place = difference.remote.or(difference.local).map(|place| place.to_string());
        place.or_else(|| difference.remotes.map(|remotes| remotes.to_string())).unwrap_or_default()
    };
    let names = |difference: &Difference| {
        difference.processes.iter().map(ToString::to_string).collect::<Vec<_>>().join("+")
    };
    answer.differences.iter().map(|row| (row.kind, place(row), names(row))).collect()
}

fn expected(rows: &[(DifferenceKind, &str, &str)]) -> Vec<(DifferenceKind, String, String)> {
    rows.iter().map(|(kind, place, names)| (*kind, (*place).to_owned(), (*names).to_owned())).collect()
}

#[test]
fn what_came_and_went_is_told_and_what_stayed_is_not() {
    let mut world = World::new([
        connection(1, "curl", "192.0.2.1:443", 10, 20),
        connection(2, "backup", "192.0.2.2:22", 12, 30),
        connection(3, "curl", "192.0.2.1:443", 60, 61),
        refused(connection(4, "node", "192.0.2.3:5432", 70, 70)),
        connection(5, "node", "192.0.2.1:443", 71, 72),
    ]);
    world.listeners = vec![
        (1, 55, listener("old", Protocol::Tcp, "0.0.0.0:8080")),
        (1, 1_000, listener("sshd", Protocol::Tcp, "0.0.0.0:22")),
        (70, 1_000, listener("new", Protocol::Udp, "0.0.0.0:53")),
        // A client that has not sent anything.
        (70, 1_000, listener("resolver", Protocol::Udp, "0.0.0.0:40000")),
    ];
    let answer = diff(world, &last(50));

    use DifferenceKind::{
        GoneDestination, GoneListener, GoneProcess, NewDestination, NewFailure, NewListener, NewProcess,
    };
    let rows = [
        (NewFailure, "192.0.2.3:5432", "node"),
        (NewDestination, "192.0.2.3:5432", "node"),
        (GoneDestination, "192.0.2.2:22", "backup"),
        (NewListener, "0.0.0.0:53", "new"),
        (GoneListener, "0.0.0.0:8080", "old"),
        (NewProcess, "", "node"),
        (GoneProcess, "", "backup"),
    ];
    assert_eq!(told(&answer), expected(&rows));
    assert_eq!(answer.differences[0].error.as_ref().unwrap(), "ECONNREFUSED");
    assert_eq!((answer.before.connections, answer.after.connections), (2, 3));
    assert_eq!((answer.before.failures, answer.after.failures), (0, 1));
    assert_eq!((answer.before.listeners, answer.after.listeners), (Some(2), Some(2)));
}

#[test]
fn a_rate_is_told_when_it_changed_by_the_factor_and_there_is_enough_of_it() {
    let many = |from: u64, count: u64, process: &str, second: u64| {
        let place = format!("192.0.2.{}:80", process.len());
        (0..count)
            .map(move |index| connection(from + index, &process_name(&place), &place, second, second + 1))
    };
    fn process_name(place: &str) -> String {
        format!("to-{place}")
    }
    // 12 to 26, 5 to 9, 10 to 19.
    let world = || {
        World::new(
            [
                many(100, 12, "a", 10),
                many(200, 26, "a", 60),
                many(300, 5, "bb", 10),
                many(400, 9, "bb", 60),
                many(500, 10, "ccc", 10),
                many(600, 19, "ccc", 60),
            ]
            .into_iter()
            .flatten(),
        )
    };
    let by_default = diff(world(), &last(50));
    assert_eq!(told(&by_default), expected(&[(DifferenceKind::Opened, "", "to-192.0.2.1:80")]));
    // The first time is one second shorter than the second.
    let row = &by_default.differences[0];
    assert_eq!(row.before.unwrap().count, 12);
    assert_eq!(row.after.unwrap().per_second, 26.0 / 50.0);
    assert!((row.factor.unwrap() - 26.0 / 12.0 * 49.0 / 50.0).abs() < 1e-9, "{row:?}");

    let mut finer = last(50);
    (finer.factor, finer.least_connections) = (1.5, 1);
    assert_eq!(diff(world(), &finer).total, 3);
    let mut coarser = last(50);
    coarser.factor = 4.0;
    let answer = diff(world(), &coarser);
    assert_eq!(answer.total, 0);
    let text = answer.to_string();
    assert!(
        text.contains(
            "No differences: nothing is new or gone, and no rate of at least 10 connections or 1.00 MB changed by a \
             factor of 4"
        ),
        "{text}"
    );
    assert!(text.starts_with("Compared 49.0 s from "), "{text}");
}

#[test]
fn what_goes_over_a_lasting_connection_is_split_at_the_middle_to_the_byte() {
    let traffic = |sent| Traffic { payload_bytes_sent: sent, ..Traffic::default() };
    let lasting = |sent| {
        let mut fact = connection(7, "sync", "192.0.2.1:443", 0, 0);
        (fact.state, fact.closed, fact.traffic) = (ConnectionState::Open, None, Some(traffic(sent)));
        fact
    };
    let mut world = World { recorder: Recorder::default(), ..World::new([]) };
    let id = lasting(0).id();
    world.recorder.sample(&moment(2), [(id, traffic(1_000_000))]);
    world.recorder.sample(&moment(50), [(id, traffic(3_000_000))]);
    world.open = vec![lasting(12_000_000)];
    let mut request = last(50);
    request.since = Some(Duration::from_secs(49));
    let answer = diff(world, &request);

    assert_eq!(answer.before.payload_bytes.unwrap().sent, 2_000_000);
    assert_eq!(answer.after.payload_bytes.unwrap().sent, 9_000_000);
    assert_eq!(told(&answer), expected(&[(DifferenceKind::BytesSent, "", "sync")]));
}

#[test]
fn a_scan_is_one_difference() {
    let scan =
        (1..=40).map(|port| refused(connection(100 + port, "probe", &format!("192.0.2.9:{port}"), 60, 60)));
    let steady = [10, 60].map(|second| connection(second, "curl", "192.0.2.1:443", second, second + 1));
    let answer = diff(World::new(scan.chain(steady)), &last(50));

    use DifferenceKind::{NewDestination, NewFailure, NewProcess};
    let ports = "40 ports of 192.0.2.9";
    let rows = [(NewFailure, ports, "probe"), (NewDestination, ports, "probe"), (NewProcess, "", "probe")];
    assert_eq!(told(&answer), expected(&rows));
    let Destinations { count, address, port } = answer.differences[0].remotes.unwrap();
    assert_eq!((count, address, port), (40, Some("192.0.2.9".parse().unwrap()), None));
    assert_eq!(answer.differences[0].after.unwrap().count, 40);
}

#[test]
fn a_source_compared_with_itself_shows_nothing() {
    let world = || {
        let mut world = World::new([
            connection(1, "curl", "192.0.2.1:443", 10, 20),
            refused(connection(4, "node", "192.0.2.3:5432", 70, 70)),
        ]);
        world.listeners = vec![(1, 1_000, listener("sshd", Protocol::Tcp, "0.0.0.0:22"))];
        world
    };
    let (before, after) = (Monitor::new(world()), Monitor::new(world()));
    let answer = after.diff_from(&before, &last(90), &Control::default()).unwrap();
    assert_eq!((answer.total, answer.before.connections), (0, 2));
    assert!(answer.tables().is_empty());
    assert_eq!(answer.before.failures, answer.after.failures);
}

#[test]
fn what_cannot_be_compared_is_said() {
    let unrecorded =
        World { recorder: Recorder::default(), open: Vec::new(), listeners: Vec::new(), knows_past: true };
    let error = Monitor::new(unrecorded).diff(&last(10), &Control::default()).unwrap_err();
    assert!(
        error.to_string().starts_with("nothing was recording, so that no past can be compared"),
        "{error}"
    );

    let error = Monitor::new(World::new([])).diff(&last(99), &Control::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "only the last 1 min 39 s were recorded, so that nothing is known of before the last 99 s; ask for less"
    );

    let short = diff(World::new([]), &last(60));
    let warnings = short.header.coverage.warnings.join("; ");
    assert_eq!(warnings, "asked for 60 s before; only 39.0 s of it were recorded, in which less is seen");

    // A live source lists those of now, whatever moment is asked for.
    let mut forgetful = World::new([]);
    forgetful.knows_past = false;
    forgetful.listeners = vec![(1, 1_000, listener("sshd", Protocol::Tcp, "0.0.0.0:22"))];
    let answer = diff(forgetful, &last(40));
    assert_eq!((answer.before.listeners, answer.after.listeners), (None, Some(1)));
    assert_eq!(answer.total, 0);
    assert!(answer.notes().iter().any(|note| note.starts_with("listeners are not compared")));
}

#[test]
fn a_limit_leaves_rows_out_and_says_so() {
    let world = World::new(
        (1..=4).map(|host| connection(host, &format!("p{host}"), &format!("192.0.2.{host}:443"), 60, 61)),
    );
    let mut request = last(50);
    request.limit = Some(3);
    let answer = diff(world, &request);
    assert_eq!((answer.total, answer.differences.len()), (8, 3));
    assert!(answer.header.coverage.truncated);
    assert!(answer.to_string().contains("8 differences: 4 new destinations, 4 new processes; 3 shown"));
    let table = answer.tables()[0].render(Layout { width: Some(100), color: false });
    assert_eq!(table.lines().count(), 4, "{table}");
}
