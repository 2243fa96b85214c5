//! The daemon's state: what it observes, who is being answered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use jiff::Timestamp;
use netmon_core::{
    Cancel, Error, ErrorKind, Monitor,
    source::{Observations, ScopedSource, Source, SourceChoice, live::LiveSource, replay::ReplaySource},
};
use netmon_mcp::{HttpService, NetmonServer, http::Token};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    access::{Access, Caller, Client},
    config::Config,
    reply::Refusal,
    routes::metrics::Before,
};

/// How long a question may wait for its turn.
const LONGEST_QUEUE: Duration = Duration::from_secs(30);

/// Shared by all requests.
pub(crate) struct Daemon {
    source: Arc<dyn Source>,
    /// What was attached stays so while this lives.
    _observations: Observations,
    settings: RwLock<Arc<Config>>,
    token: RwLock<Option<Token>>,
    clients: Mutex<HashMap<Client, Arc<Turns>>>,
    /// The tools for AI assistants, for each kind of caller.
    mcp: Mutex<HashMap<Access, HttpService>>,
    /// Questions of all clients together.
    questions: Arc<Semaphore>,
    /// Of the metrics' last scrape.
    pub(crate) before: Before,
    /// Tells this run of the daemon from others.
    pub(crate) instance: String,
    pub(crate) shutdown: CancellationToken,
}

/// What one client may do at once.
#[derive(Debug)]
struct Turns {
    questions: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("instance", &self.instance).finish_non_exhaustive()
    }
}

impl Daemon {
    /// Opens the source and begins to observe.
    pub(crate) fn open(config: Config, token: Option<Token>) -> netmon_core::Result<Self> {
        let memory = config.observe.memory_mib << 20;
        let source: Arc<dyn Source> = match &config.observe.source {
            SourceChoice::Replay(path) => Arc::new(ReplaySource::open(path)?),
            SourceChoice::LiveWithSystemCalls => {
                Arc::new(LiveSource::open()?.with_memory_limit(memory).with_system_calls())
            }
            _ => Arc::new(LiveSource::open()?.with_memory_limit(memory)),
        };
        let observations = source.observe_all()?;
        if let Err(error) = &observations.drops {
            tracing::warn!("dropped packets are not counted: {error}");
        }
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let started = Timestamp::now();
        Ok(Self {
            source,
            _observations: observations,
            clients: Mutex::new(HashMap::new()),
            mcp: Mutex::new(HashMap::new()),
            questions: Arc::new(Semaphore::new((2 * cpus).max(4))),
            token: RwLock::new(token),
            instance: format!("{:x}", started.as_nanosecond()),
            shutdown: CancellationToken::new(),
            before: Before::begin(started),
            settings: RwLock::new(Arc::new(config)),
        })
    }

    /// The settings that hold now.
    pub(crate) fn settings(&self) -> Arc<Config> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over what may change while the daemon runs.
    pub(crate) fn reload(&self, new: Config, token: Option<Token>) {
        let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        let old = Config::clone(&settings);
        *settings = Arc::new(Config { access: new.access, limits: new.limits, log: new.log, ..old });
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
        // Other groups see other things.
        self.mcp.lock().unwrap_or_else(PoisonError::into_inner).clear();
        // Turns are counted anew, by the new limits.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether this token is the daemon's.
    pub(crate) fn knows(&self, token: &str) -> bool {
        let own = self.token.read().unwrap_or_else(PoisonError::into_inner);
        own.as_ref().is_some_and(|own| own.is(token))
    }

    /// Whether there is any token that could be presented.
    pub(crate) fn has_token(&self) -> bool {
        self.token.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The source, as somebody may see it.
    pub(crate) fn source(&self, access: Access) -> Arc<dyn Source> {
        match access {
            Access::All => Arc::clone(&self.source),
            Access::Own(uid) => {
                let group = self.settings().access.group.clone();
                Arc::new(ScopedSource::new(Arc::clone(&self.source), uid, group.as_str()))
            }
        }
    }

    /// Answers, as somebody may see them.
    pub(crate) fn monitor(&self, access: Access) -> Monitor {
        Monitor::shared(self.source(access))
    }

    /// The tools for AI assistants, over what somebody may see.
    pub(crate) fn mcp(&self, access: Access) -> HttpService {
        /// Users of one host are few; whoever else comes gets a service that is not kept.
        const KEPT: usize = 256;
        let make = || HttpService::new(NetmonServer::new(self.monitor(access)), self.shutdown.child_token());
        let mut services = self.mcp.lock().unwrap_or_else(PoisonError::into_inner);
        if services.len() >= KEPT && !services.contains_key(&access) {
            return make();
        }
        services.entry(access).or_insert_with(make).clone()
    }

    fn turns(&self, client: Client) -> Arc<Turns> {
        /// More than this many clients that ask at once are not remembered longer than they ask.
        const REMEMBERED: usize = 256;
        let limits = self.settings().limits.clone();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= REMEMBERED {
            clients.retain(|_, turns| Arc::strong_count(turns) > 1 || turns.busy(&limits));
        }
        let turns = clients.entry(client).or_insert_with(|| {
            Arc::new(Turns {
                questions: Arc::new(Semaphore::new(limits.questions)),
                streams: Arc::new(Semaphore::new(limits.streams)),
                connections: Arc::new(Semaphore::new(limits.connections)),
            })
        });
        Arc::clone(turns)
    }

    /// Lets a client have one more connection, or not.
    pub(crate) fn connect(&self, client: Client) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns(client).connections).try_acquire_owned().ok()
    }

    /// Waits for a client's turn, and returns the permission to compute.
    async fn turn(&self, caller: &Caller) -> Result<Permit, Refusal> {
        let own = Arc::clone(&self.turns(caller.client).questions);
        let turn = async {
            // Its own first, so that who asks much waits for itself and not in front of others.
            let own = own.acquire_owned().await.ok()?;
            let all = Arc::clone(&self.questions).acquire_owned().await.ok()?;
            Some(Permit { own, _all: all })
        };
        match tokio::time::timeout(LONGEST_QUEUE, turn).await {
            Ok(Some(permit)) => Ok(permit),
            _ => Err(Refusal::new(
                ErrorKind::Busy,
                "your other questions take too long; this one was not begun",
            )),
        }
    }

    /// Lets a client have one more stream, or one more question that waits for something to happen.
    pub(crate) fn stream(&self, caller: &Caller) -> Result<OwnedSemaphorePermit, Refusal> {
        let streams = Arc::clone(&self.turns(caller.client).streams);
        streams.try_acquire_owned().map_err(|_| {
            Refusal::new(ErrorKind::Busy, "you have as many streams as one client may")
                .hint("close one of them")
        })
    }

    /// Runs what blocks on a thread of its own, when it is the client's turn. Ends it when nobody wants the answer any
    /// more, or the daemon ends.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        caller: &Caller,
        work: impl FnOnce(&Cancel) -> netmon_core::Result<T> + Send + 'static,
    ) -> Result<(T, OwnedSemaphorePermit), Refusal> {
        let permit = self.turn(caller).await?;
        let value = self.run(work).await?;
        // Others may compute while this is sent.
        Ok((value, permit.own))
    }

    /// The same, for what waits more than it computes and therefore counts as a stream.
    pub(crate) async fn wait<T: Send + 'static>(
        &self,
        caller: &Caller,
        work: impl FnOnce(&Cancel) -> netmon_core::Result<T> + Send + 'static,
    ) -> Result<(T, OwnedSemaphorePermit), Refusal> {
        let permit = self.stream(caller)?;
        Ok((self.run(work).await?, permit))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cancel) -> netmon_core::Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (cancel, _unwanted) = self.cancel();
        match tokio::task::spawn_blocking(move || work(&cancel)).await {
            Ok(result) => Ok(result?),
            Err(error) => {
                tracing::error!("a question failed: {error}");
                Err(Refusal::new(ErrorKind::Other, "the daemon failed over this question; its log says how"))
            }
        }
    }

    /// A token for a measurement, cancelled when the guard is dropped or the daemon ends.
    pub(crate) fn cancel(&self) -> (Cancel, DropGuard) {
        let (cancel, stop) = (Cancel::new(), self.shutdown.child_token());
        let (inner, stopped) = (cancel.clone(), stop.clone());
        tokio::spawn(async move {
            stopped.cancelled().await;
            inner.cancel();
        });
        (cancel, stop.drop_guard())
    }
}

impl Turns {
    fn busy(&self, limits: &crate::config::Limits) -> bool {
        self.connections.available_permits() < limits.connections
            || self.streams.available_permits() < limits.streams
            || self.questions.available_permits() < limits.questions
    }
}

struct Permit {
    own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// What a stream that ends for its own reasons says.
pub(crate) fn is_end(error: &Error) -> bool {
    matches!(error, Error::Cancelled | Error::RecordingEnded { .. })
}
