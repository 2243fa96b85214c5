//! A source as one user may see it.

use std::{fs, os::unix::fs::MetadataExt as _, sync::Arc, time::Duration};

use super::{
    ChangeCursor, Changes, Counting, DropSighting, InterfaceRef, Observation, Sighting, Source,
    SourceDescription, Span,
};
use crate::{
    clean::CleanText,
    control::{Cancel, Control},
    error::{Error, Result},
    fact::{
        ConnectionFact, ConnectionTotals, Direction, HookStatus, InterfaceSnapshot, Leftover, Moment,
        Observed, Process, ProtocolSnapshot, SocketSnapshot,
    },
    filter::Filter,
    request::HookChoice,
};

/// What one user may see of a source: interfaces as they are, and of connections and sockets those of the user's own
/// processes. Whatever is computed from it tells of nobody else, since it knows nothing else.
///
/// A connection whose owner is not known is nobody's. Where another user's process used a connection last, that is left
/// out. Where the filter demands another user's process, the answer is [`Error::Forbidden`]; otherwise a warning says
/// that not all is shown.
pub struct ScopedSource {
    inner: Arc<dyn Source>,
    uid: u32,
    group: CleanText,
}

impl ScopedSource {
    /// What this user may see, who is not a member of the group that may see all.
    pub fn new(inner: Arc<dyn Source>, uid: u32, group: impl Into<CleanText>) -> Self {
        Self { inner, uid, group: group.into() }
    }

    fn owns(&self, process: Option<&Arc<Process>>) -> bool {
        process.is_some_and(|process| process.uid == Some(self.uid))
    }

    /// The connection without what is not the user's; `None` where it is not the user's itself.
    fn shown(&self, fact: &ConnectionFact) -> Option<ConnectionFact> {
        self.owns(fact.process.as_ref()).then(|| {
            let mut fact = fact.clone();
            fact.last_user = fact.last_user.filter(|process| self.owns(Some(process)));
            fact
        })
    }

    /// Visits what is shown. The filter is applied to what is left: it must not tell, by what matches, what is hidden.
    fn visiting(&self, filter: &Filter, visit: &mut dyn FnMut(Sighting<'_>)) -> impl FnMut(Sighting<'_>) {
        move |sighting| {
            if let Some(fact) = self.shown(sighting.fact)
                && filter.matches(&fact)
            {
                visit(Sighting { fact: &fact, before: sighting.before });
            }
        }
    }

    fn check(&self, filter: &Filter) -> Result<()> {
        let forbidden = |what| Err(Error::Forbidden { what, uid: self.uid, group: self.group.clone() });
        if filter.demands_another_user(self.uid) {
            return forbidden("connections of another user".to_owned());
        }
        for pid in filter.demanded_pids() {
            // Who owns a process is told to everybody. One that is gone is nobody's, and what it had is left out.
            let owner = fs::metadata(format!("/proc/{pid}")).map(|process| process.uid());
            if owner.is_ok_and(|owner| owner != self.uid) {
                return forbidden(format!("connections of process {pid}, which is another user's,"));
            }
        }
        Ok(())
    }

    fn warning(&self) -> String {
        format!(
            "only connections of your own processes are shown (user {}); root and members of the group {} see all",
            self.uid, self.group
        )
    }
}

impl Source for ScopedSource {
    fn describe(&self) -> SourceDescription {
        self.inner.describe()
    }

    fn start(&self) -> Result<Moment> {
        self.inner.start()
    }

    fn wait(&self, from: &Moment, window: Duration, control: &Control<'_>) -> Result<Moment> {
        self.inner.wait(from, window, control)
    }

    fn interfaces(&self, at: &Moment) -> Result<InterfaceSnapshot> {
        self.inner.interfaces(at)
    }

    fn count(
        &self,
        interface: InterfaceRef<'_>,
        directions: &[Direction],
        choice: HookChoice,
    ) -> Result<Counting> {
        self.inner.count(interface, directions, choice)
    }

    fn hooks(&self) -> Result<Vec<HookStatus>> {
        self.inner.hooks()
    }

    fn observe(&self) -> Result<Observation> {
        self.inner.observe()
    }

    fn observed(&self, since: Option<Duration>) -> Result<Option<Span>> {
        self.inner.observed(since)
    }

    fn connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Observed> {
        self.check(filter)?;
        let mut observed =
            self.inner.connections(span, &Filter::everything(), &mut self.visiting(filter, visit))?;
        observed.warnings.push(self.warning());
        Ok(observed)
    }

    fn active_connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Option<Observed>> {
        self.check(filter)?;
        let mut observed =
            self.inner.active_connections(span, &Filter::everything(), &mut self.visiting(filter, visit))?;
        if let Some(observed) = &mut observed {
            observed.warnings.push(self.warning());
        }
        Ok(observed)
    }

    fn counted(&self, at: &Moment) -> Result<Moment> {
        self.inner.counted(at)
    }

    fn totals(&self) -> Result<ConnectionTotals> {
        // How many there were, but not whose and where to.
        self.inner.totals()
    }

    fn sockets(&self, at: &Moment) -> Result<SocketSnapshot> {
        let mut snapshot = self.inner.sockets(at)?;
        snapshot.sockets.retain_mut(|socket| match self.shown(&socket.connection) {
            Some(connection) => {
                socket.connection = connection;
                socket.holders.retain(|holder| self.owns(Some(holder)));
                true
            }
            None => false,
        });
        snapshot.observed.warnings.push(self.warning());
        Ok(snapshot)
    }

    fn protocol_counters(&self, at: &Moment) -> Result<ProtocolSnapshot> {
        // As /proc/net tells them to every user: how much there was, but not whose and where to.
        self.inner.protocol_counters(at)
    }

    fn observe_drops(&self) -> Result<Observation> {
        self.inner.observe_drops()
    }

    fn observed_drops(&self, since: Option<Duration>) -> Result<Option<Span>> {
        self.inner.observed_drops(since)
    }

    fn drops(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(DropSighting<'_>),
    ) -> Result<Observed> {
        self.check(filter)?;
        let everything = Filter::everything();
        let mut observed = self.inner.drops(span, &everything, &mut |sighting| {
            if self.owns(sighting.fact.process.as_ref()) && filter.matches_drop(sighting.fact) {
                visit(sighting);
            }
        })?;
        observed.warnings.push(format!(
            "only packets of your own processes are counted (user {}), and none without an owner; root and members of \
             the group {} see all",
            self.uid, self.group
        ));
        Ok(observed)
    }

    fn permit(&self, filter: &Filter) -> Result<()> {
        self.check(filter)
    }

    fn changes(&self, after: ChangeCursor, patience: Duration, cancel: &Cancel) -> Result<Changes> {
        let mut changes = self.inner.changes(after, patience, cancel)?;
        changes.connections = changes.connections.iter().filter_map(|fact| self.shown(fact)).collect();
        Ok(changes)
    }

    fn leftovers(&self) -> Result<Vec<Leftover>> {
        self.inner.leftovers()
    }
}
