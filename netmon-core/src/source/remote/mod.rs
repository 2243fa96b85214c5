//! A daemon as a source: HTTP over its Unix socket or TCP.

mod transport;
pub mod wire;

use std::{
    env, fmt, fs,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};
use ureq::{
    Agent, Body,
    config::{Config, ConfigBuilder},
    http::{Response, header},
    tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem},
    typestate::AgentScope,
};

use self::{
    transport::{NoResolver, UnixConnector},
    wire::{
        AtRequest, ChangesRequest, CountReply, CountRequest, DropLine, ObserveReply, ObservedRequest,
        PROBLEM_JSON, PermitRequest, Problem, SightingLine, SightingsRequest, WaitReply, WaitRequest,
    },
};
use super::{
    ChangeCursor, Changes, Counting, DropSighting, Evaluated, InterfaceRef, Observation, Question, Sighting,
    Source, SourceDescription, Span,
};
use crate::{
    clean::CleanText,
    control::{Cancel, Control},
    error::{Error, ErrorKind, Result},
    fact::{
        ConnectionTotals, Direction, HookStatus, InterfaceSnapshot, Leftover, Moment, Observed,
        ProtocolSnapshot, SocketSnapshot,
    },
    filter::Filter,
    request::HookChoice,
};

/// Where the daemon of this host listens.
pub const DEFAULT_SOCKET: &str = "/run/netmon/netmond.sock";

/// How long one request may wait for something to come, so that a cancelled question ends soon.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long a daemon may take for what it does not wait for.
const REPLY_WITHIN: Duration = Duration::from_secs(30);

/// Where a daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A Unix socket of this host.
    Unix(PathBuf),
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    Http(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", CleanText::from(path.to_string_lossy().as_ref())),
            Self::Http(url) => CleanText::from(url.as_str()).fmt(f),
        }
    }
}

/// How to ask a daemon, and how to be known to it. What is secret comes from files or the environment, never from an
/// address, which others can read on a command line.
#[derive(Clone)]
#[non_exhaustive]
pub struct RemoteOptions {
    /// Where it is.
    pub address: Address,
    /// The token to present over TCP, where the daemon does not know its caller otherwise.
    pub token: Option<String>,
    /// The file (PEM) with the certificates that `https` trusts, instead of those of the Web.
    pub trusted: Option<PathBuf>,
    /// The files (PEM) with the certificate to show to a daemon that knows its clients so, and with its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl fmt::Debug for RemoteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteOptions").field("address", &self.address).finish_non_exhaustive()
    }
}

impl RemoteOptions {
    /// Without token and certificates.
    pub fn new(address: Address) -> Self {
        Self { address, token: None, trusted: None, certificate: None }
    }

    /// With what the environment names: `NETMON_TOKEN`, or the file `NETMON_TOKEN_FILE`; the files `NETMON_CA_FILE`,
    /// `NETMON_CLIENT_CERTIFICATE` and `NETMON_CLIENT_KEY`.
    ///
    /// # Errors
    /// [`Error::Unreachable`] for a file that cannot be read.
    pub fn from_environment(address: Address) -> Result<Self> {
        let file = |name: &str| env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let token = match (env::var("NETMON_TOKEN"), file("NETMON_TOKEN_FILE")) {
            (Ok(token), _) if !token.is_empty() => Some(token),
            (_, Some(path)) => {
                let text = read(&path).map_err(|reason| unreachable(&address, &reason))?;
                Some(String::from_utf8_lossy(&text).trim().to_owned())
            }
            _ => None,
        };
        Ok(Self {
            token,
            trusted: file("NETMON_CA_FILE"),
            certificate: file("NETMON_CLIENT_CERTIFICATE").zip(file("NETMON_CLIENT_KEY")),
            address,
        })
    }

    fn agent(&self) -> Result<Agent, String> {
        if let Address::Unix(path) = &self.address {
            return Ok(Agent::with_parts(config().build(), UnixConnector(path.clone()), NoResolver));
        }
        let mut tls = TlsConfig::builder();
        if let Some(path) = &self.trusted {
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates(path)?));
        }
        if let Some((path, key)) = &self.certificate {
            let chain = certificates(path)?;
            let private = PrivateKey::from_pem(&read(key)?)
                .map_err(|error| format!("{} has no key: {error}", key.display()))?;
            check_pair(&chain, &private)
                .map_err(|error| format!("{} and {}: {error}", path.display(), key.display()))?;
            tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, private)));
        }
        Ok(config().tls_config(tls.build()).build().new_agent())
    }
}

/// A daemon (netmond), asked over HTTP. Facts are fetched; questions of [`Question`] are answered there.
///
/// A request that meets a daemon which was started anew is sent again once.
pub struct RemoteSource {
    client: Arc<Client>,
    description: Mutex<SourceDescription>,
}

/// How the daemon is asked.
struct Client {
    address: Address,
    base: String,
    agent: Agent,
    token: Option<String>,
}

impl fmt::Debug for RemoteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteSource").field("address", &self.client.address).finish_non_exhaustive()
    }
}

impl RemoteSource {
    /// The daemon behind a Unix socket.
    ///
    /// # Errors
    /// [`Error::Unreachable`] where it does not answer; as it says where it refuses.
    pub fn unix(path: impl AsRef<Path>) -> Result<Self> {
        Self::open(RemoteOptions::new(Address::Unix(path.as_ref().to_owned())))
    }

    /// The daemon at an address.
    ///
    /// # Errors
    /// As [`RemoteSource::unix`].
    pub fn open(options: RemoteOptions) -> Result<Self> {
        let agent = options.agent().map_err(|reason| unreachable(&options.address, &reason))?;
        let base = match &options.address {
            Address::Unix(_) => "http://localhost",
            Address::Http(url) => url.trim_end_matches('/'),
        }
        .to_owned();
        let description = Mutex::new(SourceDescription::new("netmond", "unknown", "unknown"));
        let client = Client { address: options.address, base, agent, token: options.token };
        let source = Self { client: Arc::new(client), description };
        source.refresh()?;
        Ok(source)
    }

    /// Learns anew what the daemon's source is.
    fn refresh(&self) -> Result<()> {
        let description: SourceDescription = self.client.fact("source", &Nothing {})?;
        *self.description.lock().unwrap_or_else(PoisonError::into_inner) = description;
        Ok(())
    }

    /// A whole question, given up where somebody cancels before the daemon has answered.
    fn evaluate_in<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &'static str,
        request: &(impl Serialize + Clone + Send + 'static),
        window: Duration,
        control: &Control<'_>,
    ) -> Result<Box<T>> {
        let (client, request) = (Arc::clone(&self.client), request.clone());
        control.cancel.wait_for(move || client.ask(path, &request, REPLY_WITHIN + window).map(Box::new))
    }

    /// Connections, line by line. `None` where the daemon says that all should be asked for.
    fn sightings(
        &self,
        path: &str,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Option<Observed>> {
        let request = SightingsRequest { span: *span, filter: filter.clone() };
        let response = self.client.post(path, &request, Some(REPLY_WITHIN * 4))?;
        let mut reader = BufReader::new(response.into_body().into_reader());
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).map_err(|error| self.client.unreachable(error))? > 0 {
            match serde_json::from_slice(&line).map_err(|error| self.client.unreachable(error))? {
                SightingLine::Connection { fact, before } => visit(Sighting { fact: &fact, before }),
                SightingLine::End { observed } => return Ok(Some(observed)),
                SightingLine::Failed { problem } => return Err(problem.into()),
                SightingLine::AskForAll => return Ok(None),
            }
            line.clear();
        }
        Err(self.client.unreachable("it ended in the middle of an answer"))
    }
}

impl Client {
    fn unreachable(&self, reason: impl fmt::Display) -> Error {
        unreachable(&self.address, &reason.to_string())
    }

    fn fact<T: DeserializeOwned>(&self, method: &str, request: &impl Serialize) -> Result<T> {
        self.ask(&format!("facts/{method}"), request, REPLY_WITHIN)
    }

    /// One question, one JSON value.
    fn ask<T: DeserializeOwned>(&self, path: &str, request: &impl Serialize, within: Duration) -> Result<T> {
        let response = self.post(path, request, Some(within))?;
        let reader = BufReader::new(response.into_body().into_reader());
        serde_json::from_reader(reader)
            .map_err(|error| self.unreachable(format!("its answer cannot be read: {error}")))
    }

    fn post(&self, path: &str, request: &impl Serialize, within: Option<Duration>) -> Result<Response<Body>> {
        let body = serde_json::to_vec(request).map_err(|error| self.unreachable(error))?;
        let mut response = match self.send(path, &body, within) {
            // The connection was kept from before the daemon was started anew. All requests can be repeated.
            Err(ureq::Error::Io(error)) if is_stale(&error) => self.send(path, &body, within),
            other => other,
        }
        .map_err(|error| self.unreachable(reason(&error, &self.address)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let is_problem = kind.is_some_and(|kind| kind.starts_with(PROBLEM_JSON));
        let status = response.status();
        match serde_json::from_reader::<_, Problem>(response.body_mut().as_reader()) {
            Ok(problem) if is_problem => Err(problem.into()),
            _ => Err(self.unreachable(format!("it is no netmond: status {status} for /v1/{path}"))),
        }
    }

    fn send(&self, path: &str, body: &[u8], within: Option<Duration>) -> Result<Response<Body>, ureq::Error> {
        let mut request = self
            .agent
            .post(format!("{}/v1/{path}", self.base))
            .content_type("application/json")
            .config()
            .timeout_global(within)
            .build();
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.send(body)
    }
}

/// The request of a method without arguments.
#[derive(Clone, Serialize)]
struct Nothing {}

fn config() -> ConfigBuilder<AgentScope> {
    Config::builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_connect(Some(Duration::from_secs(5)))
        .user_agent(concat!("netmon/", env!("CARGO_PKG_VERSION")))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let pem = read(path)?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(format!("{} has no certificate", path.display()));
    }
    Ok(certificates)
}

/// Refuses a certificate with another one's key.
fn check_pair(chain: &[Certificate<'_>], key: &PrivateKey<'_>) -> Result<(), rustls::Error> {
    use rustls::{crypto::ring, pki_types::PrivateKeyDer, sign::CertifiedKey};
    let chain = chain.iter().map(|certificate| certificate.der().to_vec().into()).collect();
    let key = PrivateKeyDer::try_from(key.der().to_vec())
        .map_err(|error| rustls::Error::General(error.to_owned()))?;
    let key = ring::default_provider().key_provider.load_private_key(key)?;
    CertifiedKey::new(chain, key).keys_match()
}

fn unreachable(address: &Address, reason: &str) -> Error {
    Error::Unreachable { address: address.to_string().into(), reason: reason.into() }
}

/// Whether this is how a connection ends of which the other side is gone.
fn is_stale(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::BrokenPipe | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::UnexpectedEof
    )
}

fn reason(error: &ureq::Error, address: &Address) -> String {
    match (error, address) {
        (ureq::Error::Io(error), Address::Unix(_)) => match error.kind() {
            io::ErrorKind::NotFound => "there is no such socket: it is not running".to_owned(),
            io::ErrorKind::ConnectionRefused => "nobody listens there: it is not running".to_owned(),
            io::ErrorKind::PermissionDenied => "this user may not connect to it".to_owned(),
            _ => error.to_string(),
        },
        (ureq::Error::Io(error), _) => error.to_string(),
        (ureq::Error::Timeout(_), _) => "it does not answer in time".to_owned(),
        (other, _) => other.to_string(),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Source for RemoteSource {
    fn describe(&self) -> SourceDescription {
        self.description.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn start(&self) -> Result<Moment> {
        self.client.fact("start", &Nothing {})
    }

    fn wait(&self, from: &Moment, window: Duration, control: &Control<'_>) -> Result<Moment> {
        let start = Instant::now();
        control.report(Duration::ZERO, window);
        loop {
            if control.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let request = WaitRequest {
                from: *from,
                window_ns: nanoseconds(window),
                patience_ms: milliseconds(PATIENCE),
            };
            let reply: WaitReply = self.client.fact("wait", &request)?;
            if let Some(moment) = reply.moment {
                control.report(window, window);
                return Ok(moment);
            }
            control.report(start.elapsed().min(window), window);
        }
    }

    fn interfaces(&self, at: &Moment) -> Result<InterfaceSnapshot> {
        self.client.fact("interfaces", &AtRequest { at: *at })
    }

    fn count(
        &self,
        interface: InterfaceRef<'_>,
        directions: &[Direction],
        choice: HookChoice,
    ) -> Result<Counting> {
        let request = CountRequest {
            index: interface.index,
            name: interface.name.clone(),
            ethernet: interface.ethernet,
            directions: directions.to_vec(),
            hook: choice,
        };
        // Counted as long as the reply is not read to its end, which does not come by itself.
        let response = self.client.post("facts/count", &request, None)?;
        let mut reader = BufReader::new(response.into_body().into_reader());
        let mut line = String::new();
        reader.read_line(&mut line).map_err(|error| self.client.unreachable(error))?;
        let reply: CountReply =
            serde_json::from_str(&line).map_err(|error| self.client.unreachable(error))?;
        Ok(Counting {
            active: reply.active,
            missing: reply.missing,
            warnings: reply.warnings,
            guards: vec![Box::new(Mutex::new(reader))],
        })
    }

    fn hooks(&self) -> Result<Vec<HookStatus>> {
        self.client.fact("hooks", &Nothing {})
    }

    fn observe(&self) -> Result<Observation> {
        // Perhaps it is another daemon by now.
        self.refresh()?;
        let reply: ObserveReply = self.client.fact("observe", &Nothing {})?;
        // A daemon observes all the time.
        Ok(Observation { from: reply.from, cursor: reply.cursor, guard: Box::new(()) })
    }

    fn observed(&self, since: Option<Duration>) -> Result<Option<Span>> {
        self.client.fact("observed", &ObservedRequest { since_ns: since.map(nanoseconds) })
    }

    fn connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Observed> {
        let observed = self.sightings("facts/connections", span, filter, visit)?;
        observed.ok_or_else(|| self.client.unreachable("it tells only what was active"))
    }

    fn active_connections(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(Sighting<'_>),
    ) -> Result<Option<Observed>> {
        match self.sightings("facts/active_connections", span, filter, visit) {
            // A daemon from before there was this question goes on until it is started anew.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            answer => answer,
        }
    }

    fn counted(&self, at: &Moment) -> Result<Moment> {
        // A daemon that lives reads them when it is asked.
        if self.describe().kind != *"replay" {
            return Ok(*at);
        }
        self.client.fact("counted", &AtRequest { at: *at })
    }

    fn totals(&self) -> Result<ConnectionTotals> {
        self.client.fact("totals", &Nothing {})
    }

    fn sockets(&self, at: &Moment) -> Result<SocketSnapshot> {
        self.client.fact("sockets", &AtRequest { at: *at })
    }

    fn protocol_counters(&self, at: &Moment) -> Result<ProtocolSnapshot> {
        self.client.fact("protocol_counters", &AtRequest { at: *at })
    }

    fn changes(&self, after: ChangeCursor, patience: Duration, cancel: &Cancel) -> Result<Changes> {
        let start = Instant::now();
        loop {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let left = patience.saturating_sub(start.elapsed());
            let request = ChangesRequest { after, patience_ms: milliseconds(left.min(PATIENCE)) };
            let changes: Changes = self.client.fact("changes", &request)?;
            if !changes.connections.is_empty()
                || changes.missed > 0
                || changes.next != after
                || left <= PATIENCE
            {
                return Ok(changes);
            }
        }
    }

    fn observe_drops(&self) -> Result<Observation> {
        self.refresh()?;
        let reply: ObserveReply = self.client.fact("observe_drops", &Nothing {})?;
        Ok(Observation { from: reply.from, cursor: reply.cursor, guard: Box::new(()) })
    }

    fn observed_drops(&self, since: Option<Duration>) -> Result<Option<Span>> {
        self.client.fact("observed_drops", &ObservedRequest { since_ns: since.map(nanoseconds) })
    }

    fn drops(
        &self,
        span: &Span,
        filter: &Filter,
        visit: &mut dyn FnMut(DropSighting<'_>),
    ) -> Result<Observed> {
        let request = SightingsRequest { span: *span, filter: filter.clone() };
        let response = self.client.post("facts/drops", &request, Some(REPLY_WITHIN))?;
        for line in BufReader::new(response.into_body().into_reader()).lines() {
            let line = line.map_err(|error| self.client.unreachable(error))?;
            match serde_json::from_str(&line).map_err(|error| self.client.unreachable(error))? {
                DropLine::Drop { fact, before } => visit(DropSighting { fact: &fact, before }),
                DropLine::End { observed } => return Ok(observed),
            }
        }
        Err(self.client.unreachable("it ended in the middle of an answer"))
    }

    fn permit(&self, filter: &Filter) -> Result<()> {
        self.client.fact("permit", &PermitRequest { filter: filter.clone() })
    }

    fn evaluate(&self, question: Question<'_>, control: &Control<'_>) -> Result<Option<Evaluated>> {
        let none = Duration::ZERO;
        Ok(Some(match question {
            Question::Connections(request) => {
                Evaluated::Connections(self.evaluate_in("connections", request, request.window, control)?)
            }
            Question::Summary(request) => {
                Evaluated::Summary(self.evaluate_in("summary", request, request.window, control)?)
            }
            Question::Patterns(request) => {
                Evaluated::Patterns(self.evaluate_in("patterns", request, request.window, control)?)
            }
            Question::Diagnose(request) => {
                Evaluated::Diagnosis(self.evaluate_in("diagnose", request, request.window, control)?)
            }
            Question::Sockets(request) => {
                Evaluated::Sockets(self.evaluate_in("sockets", request, none, control)?)
            }
            Question::Listeners(request) => {
                Evaluated::Listeners(self.evaluate_in("listeners", request, none, control)?)
            }
            Question::Drops(request) => {
                Evaluated::Drops(self.evaluate_in("drops", request, request.window, control)?)
            }
            Question::Capabilities => {
                Evaluated::Capabilities(self.evaluate_in("capabilities", &Nothing {}, none, control)?)
            }
        }))
    }

    fn leftovers(&self) -> Result<Vec<Leftover>> {
        self.client.fact("leftovers", &Nothing {})
    }
}
