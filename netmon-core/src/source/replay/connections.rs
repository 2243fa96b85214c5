//! The connections of a recording.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use super::super::{
    ChangeCursor, Changes, Recorder, Sighting, Span,
    recorder::{LISTING, moved, nanoseconds},
    recording::{Loss, changed_ns},
};
use crate::{
    control::Cancel,
    error::{Error, Result},
    fact::{
        BootTime, ConnectionFact, ConnectionId, ConnectionState, ConnectionTotals, Moment, Observed, Process,
        SocketSnapshot, Thread,
    },
    filter::Filter,
};

/// The lines of a recording that tell of connections, as they are read.
#[derive(Debug, Default)]
pub(super) struct Lines {
    sockets: Vec<SocketSnapshot>,
    changes: Vec<Change>,
    processes: Interner<Process>,
    threads: Interner<Thread>,
}

#[derive(Debug)]
enum Change {
    Of(ConnectionFact),
    Lost(Loss),
}

impl Lines {
    pub(super) fn last_sockets(&self) -> Option<&Moment> {
        self.sockets.last().map(|snapshot| &snapshot.at)
    }

    pub(super) fn sockets(&mut self, mut snapshot: SocketSnapshot) {
        for socket in &mut snapshot.sockets {
            self.share(&mut socket.connection);
            for holder in &mut socket.holders {
                self.processes.share(holder);
            }
        }
        self.sockets.push(snapshot);
    }

    pub(super) fn change(&mut self, mut fact: ConnectionFact) {
        self.share(&mut fact);
        self.changes.push(Change::Of(fact));
    }

    pub(super) fn loss(&mut self, loss: Loss) {
        self.changes.push(Change::Lost(loss));
    }

    /// One copy of each process, as when it was recorded.
    fn share(&mut self, fact: &mut ConnectionFact) {
        for process in [&mut fact.process, &mut fact.last_user].into_iter().flatten() {
            self.processes.share(process);
        }
        if let Some(thread) = &mut fact.thread {
            self.threads.share(thread);
        }
    }

    /// What was read. `None` where that tells nothing of connections.
    pub(super) fn finish(
        self,
        observed: Option<Observed>,
        first: Moment,
        last: Moment,
    ) -> Option<Connections> {
        if observed.is_none() && self.sockets.is_empty() && self.changes.is_empty() {
            return None;
        }
        let observed = observed.unwrap_or_default();

        let recorder = Recorder::unlimited();
        // Before the ends, as a history follows its connection.
        for snapshot in &self.sockets {
            let facts = snapshot.sockets.iter().map(|socket| &socket.connection);
            recorder.sample(
                &snapshot.at,
                facts.filter_map(|fact| fact.traffic.map(|traffic| (fact.id(), traffic))),
            );
        }
        if self.sockets.is_empty() {
            recorder.sample(&first, []);
        }
        let began = self.sockets.first().map_or(first, |snapshot| snapshot.at);
        let end = self.sockets.last().map(|snapshot| snapshot.at);
        let end = end.filter(|end| end.boot_ns > last.boot_ns).unwrap_or(last);

        let (mut opened, mut ends) = (Vec::new(), HashMap::new());
        for change in self.changes {
            match change {
                Change::Lost(loss) => recorder.lost(loss.count, &loss.at),
                Change::Of(fact) if fact.is_over() => {
                    ends.insert(fact.id(), fact.closed.map_or(0, BootTime::ns));
                    recorder.ended([fact]);
                }
                Change::Of(fact) => {
                    opened.push(fact.clone());
                    recorder.opened([fact]);
                }
            }
        }
        opened.sort_by_key(changed_ns);
        Some(Connections { observed, recorder, sockets: self.sockets, opened, ends, began, end })
    }
}

/// All that a recording tells of connections.
#[derive(Debug)]
pub(super) struct Connections {
    observed: Observed,
    recorder: Recorder,
    /// In order of time.
    sockets: Vec<SocketSnapshot>,
    /// Those that opened or were established, in order of time.
    opened: Vec<ConnectionFact>,
    /// When those that ended did.
    ends: HashMap<ConnectionId, u64>,
    began: Moment,
    end: Moment,
}

impl Connections {
    pub(super) fn began(&self) -> Moment {
        self.began
    }

    pub(super) fn observed(&self, since: Option<Duration>) -> Option<Span> {
        self.recorder.observed(since, &self.end)
    }

    pub(super) fn totals(&self) -> ConnectionTotals {
        self.recorder.totals()
    }

    pub(super) fn sockets(&self, at: &Moment) -> Option<&SocketSnapshot> {
        self.sockets_before(at.boot_ns).or_else(|| self.sockets.first())
    }

    /// When the counters of open connections were last read, up to this moment.
    pub(super) fn counted(&self, at: &Moment) -> Option<Moment> {
        self.sockets_before(at.boot_ns).map(|snapshot| snapshot.at)
    }

    fn sockets_before(&self, ns: u64) -> Option<&SocketSnapshot> {
        let after = self.sockets.partition_point(|snapshot| snapshot.at.boot_ns <= ns);
        after.checked_sub(1).map(|index| &self.sockets[index])
    }

    pub(super) fn visit(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Observed {
        let open = self.open_at(span.to.boot_ns);
        let told = self.recorder.visit(span, filter, &open, visit);
        Observed { lost_events: told.lost, forgotten: told.forgotten, ..self.observed.clone() }
    }

    /// Those of the last list of sockets, and those that opened since; without those that ended.
    fn open_at(&self, ns: u64) -> Vec<ConnectionFact> {
        let listed = self.sockets_before(ns);
        let listed_ns = listed.map_or(0, |snapshot| snapshot.at.boot_ns);
        let sockets = listed.into_iter().flat_map(|snapshot| &snapshot.sockets);
        let mut open: Vec<ConnectionFact> = sockets.map(|socket| socket.connection.clone()).collect();
        let places: HashMap<_, _> = open.iter().map(ConnectionFact::id).zip(0..).collect();

        // What opened while they were being listed may not be among them.
        let before_list = listed_ns.saturating_sub(nanoseconds(LISTING));
        let first = self.opened.partition_point(|fact| changed_ns(fact) <= before_list);
        let after = self.opened.partition_point(|fact| changed_ns(fact) <= ns).max(first);
        let mut since: HashMap<ConnectionId, &ConnectionFact> = HashMap::new();
        for fact in &self.opened[first..after] {
            match places.get(&fact.id()) {
                Some(_) if changed_ns(fact) <= listed_ns => {}
                // What was opening, and is open now.
                Some(place) => {
                    let traffic = open[*place].traffic;
                    open[*place] = ConnectionFact { traffic: fact.traffic.or(traffic), ..fact.clone() };
                }
                None => drop(since.insert(fact.id(), fact)),
            }
        }
        let mut since: Vec<_> = since.into_values().cloned().collect();
        since.sort_by_key(ConnectionFact::id);
        open.append(&mut since);
        open.retain(|fact| {
            fact.state != ConnectionState::Listening && self.ends.get(&fact.id()).is_none_or(|end| *end > ns)
        });
        open
    }

    /// Without waiting; each page ends when its last change came.
    pub(super) fn changes(&self, after: ChangeCursor, cancel: &Cancel) -> Result<Changes> {
        if after >= self.recorder.cursor() {
            return Err(if cancel.is_cancelled() {
                Error::Cancelled
            } else {
                Error::RecordingEnded { at: self.end.wall }
            });
        }
        let mut changes = self.recorder.changes(after, Duration::ZERO, cancel)?;
        changes.at = match changes.connections.last() {
            Some(last) if changes.next < self.recorder.cursor() => moved(&self.began, changed_ns(last)),
            _ => self.end,
        };
        Ok(changes)
    }
}

#[derive(Debug)]
struct Interner<T>(HashSet<Arc<T>>);

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self(HashSet::new())
    }
}

impl<T: Eq + Hash> Interner<T> {
    fn share(&mut self, value: &mut Arc<T>) {
        match self.0.get(value) {
            Some(known) => *value = Arc::clone(known),
            None => drop(self.0.insert(Arc::clone(value))),
        }
    }
}
