//! A wall clock that is set while netmon observes: for a guest that nobody else uses, as it sets the clock of the machine.
//! `cargo test -p netmon-core --test kernel_clock -- --ignored`
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    net::{TcpListener, TcpStream},
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use netmon_core::{ConnectionsRequest, Control, Monitor, RateRequest, source::live::LiveSource};
use netmon_testkit::Netns;
use test_tag::tag;

/// Sets the clock back by what it was set forth, when dropped.
struct Clock {
    offset: i64,
}

impl Clock {
    fn step(&mut self, seconds: i64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let then = format!("@{}", i64::try_from(now).unwrap() + seconds);
        assert!(Command::new("date").args(["-s", &then]).status().unwrap().success());
        self.offset += seconds;
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.step(-self.offset);
    }
}

fn connect_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    drop((client, listener.accept().unwrap()));
}

#[tag(root)]
#[test]
#[ignore = "sets the clock of the machine"]
fn a_clock_that_is_set_moves_no_window_and_no_duration() {
    Netns::create().enter(|| {
        let mut clock = Clock { offset: 0 };
        let monitor = Monitor::new(LiveSource::open().unwrap());
        let _observation = monitor.source().observe().unwrap();
        let mut rates = RateRequest::default();
        rates.interfaces = vec!["lo".to_owned()];
        rates.window = Duration::from_millis(200);
        let start = Instant::now();
        let mut watch = monitor.watch_rates(&rates).unwrap();
        let mut request = ConnectionsRequest::default();
        request.filter.include_own = true;
        request.since = Some(Duration::from_secs(600));
        // An hour forth, two back, and a day.
        for (rounds, seconds) in [(1, 3600), (2, -7200), (3, 86_400)] {
            connect_once();
            clock.step(seconds);
            let answer = watch.next_window(&Control::default()).unwrap();
            let elapsed = start.elapsed().as_secs_f64();
            assert!((0.2..=elapsed).contains(&answer.header.window.seconds), "{:?}", answer.header.window);

            let answer = monitor.connections(&request, &Control::default()).unwrap();
            assert_eq!(answer.total, 2 * rounds, "{answer:?}");
            assert!(answer.header.window.seconds <= start.elapsed().as_secs_f64() + 1.0);
            for row in &answer.connections {
                let (opened, closed) = (row.opened_at.unwrap(), row.closed_at.unwrap());
                let wall = (closed.as_nanosecond() - opened.as_nanosecond()) as f64 / 1e9;
                let lasted = row.duration_seconds.unwrap();
                assert!((0.0..elapsed).contains(&lasted), "{row:?}");
                assert!((wall - lasted).abs() < 1e-3, "the times of one row are of one clock: {row:?}");
                // Told by the clock as it is now.
                let age = jiff::Timestamp::now().as_nanosecond() - closed.as_nanosecond();
                assert!((0..60_000_000_000).contains(&age), "{age} ns ago: {row:?}");
            }
        }
    });
}
