//! One question over HTTP, within limits.

use std::{
    io::{BufRead as _, BufReader, Read, Take},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::{
    Agent, Body, Proxy,
    http::{Response, StatusCode, Uri, header},
};

use super::Model;
use crate::{
    clean::{CleanProse, CleanText},
    control::{Cancel, Control},
    error::{Error, Result},
};

/// How long a model may take, and how much it may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelLimits {
    /// Until it is connected: 3 s, and as long to look up its name.
    pub connect: Duration,
    /// Until the first byte of its answer, and between any two: 20 s.
    pub first_byte: Duration,
    /// All in all, a second attempt included: 60 s.
    pub total: Duration,
    /// Bytes of its answer: 256 KiB.
    pub bytes: u64,
}

impl Default for ModelLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            first_byte: Duration::from_secs(20),
            total: Duration::from_secs(60),
            bytes: 256 << 10,
        }
    }
}

/// A message of a conversation.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Message {
    pub(crate) role: &'static str,
    pub(crate) content: String,
}

/// What came of a question: the model's words, or why there are none, without anything secret.
pub(crate) type Asked = std::result::Result<String, String>;

/// How long to wait where a server does not say it.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a caller hears that something is still going on.
const STEP: Duration = Duration::from_millis(500);

/// Whether something may be sent there.
pub(super) fn check(base_url: &str) -> std::result::Result<(), String> {
    let shown = CleanText::from(base_url);
    let uri: Uri = base_url.parse().map_err(|_| format!("\"{shown}\" is not a URL"))?;
    let host = uri.host().unwrap_or_default();
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("the model's address has a password in it; put the key into OPENAI_API_KEY".to_owned());
    }
    match uri.scheme_str() {
        Some("https") if !host.is_empty() => Ok(()),
        Some("http") if is_here(host) => Ok(()),
        Some("http") => {
            Err(format!("nothing is sent to {shown}: it is not encrypted, and not this host; use https"))
        }
        _ => Err(format!("\"{shown}\" is no address of a model's server; it looks like https://HOST/v1")),
    }
}

/// Whether a host of a URL is this one.
fn is_here(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// By which proxy to go there. Never to this host: what is sent without encryption would leave it in the open.
fn proxy(base_url: &str, configured: Option<Proxy>) -> Option<Proxy> {
    let uri: Uri = base_url.parse().ok()?;
    configured.filter(|_| !is_here(uri.host().unwrap_or_default()))
}

impl Model {
    /// What is sent for these messages.
    pub(crate) fn payload(&self, messages: &[Message]) -> Value {
        json!({ "model": self.name, "messages": messages, "stream": true })
    }

    /// Asks; progress is of the longest time that it may take. What fails is no error, since an answer has findings without
    /// a model too.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub(crate) fn ask(&self, payload: &Value, control: &Control<'_>) -> Result<Asked> {
        let begin = Instant::now();
        let total = self.limits.total;
        let (sender, receiver) = mpsc::sync_channel(1);
        let attempt = Attempt {
            model: self.clone(),
            payload: payload.to_string(),
            until: begin + total,
            cancel: control.cancel.clone(),
            written: Arc::default(),
        };
        let written = Arc::clone(&attempt.written);
        // A blocked read cannot be ended from outside, so it is left to its own limits when the caller goes.
        let thread = thread::Builder::new().name("netmon-model".to_owned());
        if let Err(error) = thread.spawn(move || drop(sender.send(attempt.run()))) {
            return Ok(Err(format!("no thread to ask in: {error}")));
        }
        let mut told = begin;
        loop {
            if control.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if told.elapsed() >= STEP {
                told = Instant::now();
                let written = written.load(Ordering::Relaxed);
                control.report_written(begin.elapsed().min(total), total, written);
            }
            match receiver.recv_timeout(Duration::from_millis(50)) {
                Ok(Ok(words)) => return Ok(Ok(self.without_key(&words))),
                Ok(Err(reason)) => return Ok(Err(self.without_key(&reason))),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Err("it ended without an answer".to_owned()));
                }
            }
        }
    }

    /// A server may repeat what it was sent.
    fn without_key(&self, text: &str) -> String {
        match self.key.as_deref() {
            Some(key) if !key.is_empty() => text.replace(key, "[key]"),
            _ => text.to_owned(),
        }
    }
}

struct Attempt {
    model: Model,
    payload: String,
    until: Instant,
    cancel: Cancel,
    /// How many characters came so far.
    written: Arc<AtomicU64>,
}

impl Attempt {
    fn run(&self) -> Asked {
        let response = self.send()?;
        let status = response.status();
        if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return self.read(response);
        }
        let pause = retry_after(&response).unwrap_or(PAUSE);
        if Instant::now() + pause >= self.until {
            let asked = units(pause);
            return Err(format!("{}, and asked to come back in {asked}", self.refusal(response)));
        }
        drop(response);
        if !self.cancel.sleep_until(Instant::now() + pause) {
            return Err("cancelled".to_owned());
        }
        let again = self.send()?;
        self.read(again)
    }

    fn send(&self) -> std::result::Result<Response<Body>, String> {
        let limits = &self.model.limits;
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("no answer within {}", units(limits.total)));
        }
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy(&self.model.base_url, Proxy::try_from_env()))
            .timeout_resolve(Some(limits.connect.min(left)))
            .timeout_connect(Some(limits.connect.min(left)))
            .timeout_recv_response(Some(limits.first_byte.min(left)))
            // A server may send its headers at once, and then nothing.
            .timeout_per_read(Some(limits.first_byte.min(left)))
            .timeout_global(Some(left))
            .user_agent(concat!("netmon/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let mut request = agent
            .post(format!("{}/chat/completions", self.model.base_url))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "text/event-stream, application/json");
        if let Some(key) = &self.model.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        request.send(&self.payload).map_err(|error| self.told(&error))
    }

    fn told(&self, error: &ureq::Error) -> String {
        let limits = &self.model.limits;
        match error {
            ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => {
                format!("not connected within {}", units(limits.connect))
            }
            ureq::Error::Timeout(ureq::Timeout::RecvResponse | ureq::Timeout::PerRead) => {
                format!("nothing came within {}", units(limits.first_byte))
            }
            ureq::Error::Timeout(_) => format!("no whole answer within {}", units(limits.total)),
            error => CleanText::from(error.to_string()).to_string(),
        }
    }

    fn read(&self, response: Response<Body>) -> Asked {
        let status = response.status();
        if status.is_redirection() {
            return Err(format!("it answered {status}: redirections are not followed"));
        }
        if !status.is_success() {
            return Err(self.refusal(response));
        }
        let streams = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/event-stream"));
        let body = response.into_body().into_reader().take(self.model.limits.bytes);
        let words = if streams { self.read_stream(body)? } else { self.read_whole(body)? };
        if words.trim().is_empty() { Err("it answered with nothing".to_owned()) } else { Ok(words) }
    }

    fn read_whole(&self, mut body: Take<impl Read>) -> Asked {
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).map_err(|error| self.broken_off(error))?;
        if body.limit() == 0 {
            return Err(self.too_long());
        }
        let answer: Completion = serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))?;
        match &answer.error {
            Some(error) => Err(format!("it said: {}", self.complaint(error))),
            None => answer.into_words().ok_or_else(|| "its answer has no content".to_owned()),
        }
    }

    fn read_stream(&self, body: Take<impl Read>) -> Asked {
        let mut body = BufReader::new(body);
        let mut words = String::new();
        let mut line = String::new();
        while body.read_line(&mut line).map_err(|error| self.broken_off(error))? > 0 {
            if self.cancel.is_cancelled() {
                return Err("cancelled".to_owned());
            }
            // A server may leave out the end of its last line; half a line is none.
            if !line.ends_with('\n') && body.get_ref().limit() == 0 {
                break;
            }
            if let Some(data) = line.strip_prefix("data:").map(str::trim) {
                if data == "[DONE]" {
                    return Ok(words);
                }
                let part: Completion = serde_json::from_str(data).map_err(|error| unreadable(&error))?;
                if let Some(error) = part.error {
                    return Err(format!("it said: {}", self.complaint(&error)));
                }
                let is_last = part.choices.first().is_some_and(Choice::is_last);
                let more = part.into_words().unwrap_or_default();
                self.written.fetch_add(more.chars().count() as u64, Ordering::Relaxed);
                words += &more;
                if is_last || words.len() > CleanProse::MAX_CHARS {
                    return Ok(words);
                }
            }
            line.clear();
        }
        if body.get_ref().limit() == 0 {
            Err(self.too_long())
        } else {
            Err("its answer broke off".to_owned())
        }
    }

    fn too_long(&self) -> String {
        format!("its answer is longer than {}", crate::view::units::bytes(self.model.limits.bytes as f64))
    }

    fn broken_off(&self, error: std::io::Error) -> String {
        match ureq::Error::from(error) {
            timeout @ ureq::Error::Timeout(_) => self.told(&timeout),
            _ if Instant::now() >= self.until => self.told(&ureq::Error::Timeout(ureq::Timeout::Global)),
            error => format!("its answer broke off: {}", CleanText::from(error.to_string())),
        }
    }

    /// What a refusal says, in a line.
    fn refusal(&self, response: Response<Body>) -> String {
        let status = response.status();
        let mut text = String::new();
        // What is not text, or too long, is no explanation.
        let _ = response.into_body().into_reader().take(64 << 10).read_to_string(&mut text);
        let said = serde_json::from_str::<Value>(&text)
            .map(|body| self.complaint(body.get("error").unwrap_or(&body)));
        match said {
            Ok(said) if !said.as_str().is_empty() => format!("it answered {status}: {said}"),
            _ => format!("it answered {status}"),
        }
    }

    /// The message of an error, wherever the server put it.
    fn complaint(&self, error: &Value) -> CleanText {
        let message = error.get("message").unwrap_or(error);
        // Before it is shortened, which could leave a half of the key that is not found again.
        CleanText::from(self.model.without_key(message.as_str().unwrap_or_default()))
    }
}

/// Bytes as the bodies of an answer: whole, as a stream, and as a refusal.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn read_any_answer(bytes: &[u8]) -> [Asked; 3] {
    let mut model = Model::new("test", "http://localhost/v1").expect("an address on this host");
    model.key = Some("sk-secret".to_owned());
    let attempt = Attempt {
        until: Instant::now() + model.limits.total,
        model,
        payload: String::new(),
        cancel: Cancel::new(),
        written: Arc::default(),
    };
    let limit = attempt.model.limits.bytes;
    let refusal =
        Response::builder().status(StatusCode::BAD_REQUEST).body(Body::builder().data(bytes.to_vec()));
    [
        attempt.read_whole(bytes.take(limit)),
        attempt.read_stream(bytes.take(limit)),
        Err(refusal.map_or_else(|error| error.to_string(), |refusal| attempt.refusal(refusal))),
    ]
    .map(|asked| match asked {
        Ok(words) => Ok(attempt.model.without_key(&words)),
        Err(reason) => Err(attempt.model.without_key(&reason)),
    })
}

/// Why something is no answer. The reason quotes what the server sent.
fn unreadable(error: &serde_json::Error) -> String {
    format!("its answer cannot be read: {}", CleanText::from(error.to_string()))
}

fn units(time: Duration) -> String {
    crate::view::units::seconds(time).to_string()
}

fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// An answer, or a part of one. Servers differ in everything but this.
#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    choices: Vec<Choice>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(alias = "delta")]
    message: Option<Words>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Words {
    content: Option<String>,
}

impl Choice {
    /// Some servers write an empty reason into every part.
    fn is_last(&self) -> bool {
        self.finish_reason.as_ref().is_some_and(|reason| !reason.is_empty())
    }
}

impl Completion {
    fn into_words(self) -> Option<String> {
        self.choices.into_iter().next()?.message?.content
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream},
        sync::{Arc, Mutex},
    };

    use super::*;

    /// A server that answers each connection with the next of these replies, and keeps what it was sent.
    struct Server {
        model: Model,
        sent: Arc<Mutex<Vec<String>>>,
    }

    /// What a server does after it read a request.
    enum Reply {
        Say(String),
        SayAfter(Duration, String),
        SayAndStay(Duration, String),
    }

    impl Server {
        fn start(replies: Vec<Reply>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let sent = Arc::new(Mutex::new(Vec::new()));
            let kept = Arc::clone(&sent);
            thread::spawn(move || {
                for reply in replies {
                    let (mut stream, _) = listener.accept().unwrap();
                    kept.lock().unwrap().push(request(&mut stream));
                    let (before, text, after) = match reply {
                        Reply::Say(text) => (Duration::ZERO, text, Duration::ZERO),
                        Reply::SayAfter(pause, text) => (pause, text, Duration::ZERO),
                        Reply::SayAndStay(pause, text) => (Duration::ZERO, text, pause),
                    };
                    thread::sleep(before);
                    // The caller may be gone.
                    let _ = stream.write_all(text.as_bytes());
                    thread::sleep(after);
                }
            });
            let model =
                Model::new("small", &format!("http://{address}/v1")).unwrap().with_key("sk-very-secret");
            Self { model, sent }
        }

        fn ask(&self) -> Asked {
            let payload = self.model.payload(&[Message { role: "user", content: "Why?".to_owned() }]);
            self.model.ask(&payload, &Control::default()).unwrap()
        }
    }

    fn request(stream: &mut TcpStream) -> String {
        let mut reader = BufReader::new(stream);
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            reader.read_line(&mut text).unwrap();
        }
        let lower = text.to_lowercase();
        let length = lower.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        text + &String::from_utf8(body).unwrap()
    }

    fn reply(status: &str, headers: &str, body: &str) -> Reply {
        let length = body.len();
        Reply::Say(format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
    }

    fn json_reply(body: &str) -> Reply {
        reply("200 OK", "Content-Type: application/json\r\n", body)
    }

    const WORDS: &str = r#"{"choices":[{"message":{"content":"It is refused."}}]}"#;

    #[test]
    fn an_answer_comes_whole_or_in_parts() {
        let parts = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n\
                     data: {\"choices\":[{\"delta\":{\"content\":\"It is \"}}]}\n\n: ping\n\n\
                     data: {\"choices\":[{\"delta\":{\"content\":\"refused.\"}}]}\n\ndata: [DONE]\n\n";
        let server = Server::start(vec![
            json_reply(WORDS),
            reply("200 OK", "Content-Type: text/event-stream\r\n", parts),
        ]);
        assert_eq!(server.ask().unwrap(), "It is refused.");
        assert_eq!(server.ask().unwrap(), "It is refused.");
        let sent = server.sent.lock().unwrap();
        assert!(sent[0].starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", sent[0]);
        assert!(sent[0].to_lowercase().contains("authorization: bearer sk-very-secret\r\n"), "{}", sent[0]);
        assert!(sent[0].contains(r#""model":"small""#), "{}", sent[0]);
    }

    #[test]
    fn who_is_busy_is_asked_once_more_when_it_said() {
        let busy =
            || reply("429 Too Many Requests", "Retry-After: 0.2\r\n", r#"{"error":{"message":"slow down"}}"#);
        let server = Server::start(vec![busy(), json_reply(WORDS), busy(), busy()]);
        let begin = Instant::now();
        assert_eq!(server.ask().unwrap(), "It is refused.");
        assert!(begin.elapsed() >= Duration::from_millis(200));
        assert_eq!(server.ask().unwrap_err(), "it answered 429 Too Many Requests: slow down");
        assert_eq!(server.sent.lock().unwrap().len(), 4);

        let long = reply("503 Service Unavailable", "Retry-After: 3600\r\n", "");
        let server = Server::start(vec![long]);
        assert_eq!(
            server.ask().unwrap_err(),
            "it answered 503 Service Unavailable, and asked to come back in 1 h"
        );
    }

    #[test]
    fn what_is_wrong_is_told_in_a_line_and_without_the_key() {
        let half = "data: {\"choices\":[{\"delta\":{\"content\":\"It \"}}]}\n\n";
        let cases = [
            (json_reply("<html>"), "its answer cannot be read: expected value at line 1 column 1"),
            (json_reply("{}"), "its answer has no content"),
            (json_reply(r#"{"choices":[{"message":{"content":" "}}]}"#), "it answered with nothing"),
            (reply("200 OK", "Content-Type: text/event-stream\r\n", half), "its answer broke off"),
            (
                reply(
                    "200 OK",
                    "Content-Type: text/event-stream\r\n",
                    "data: {\"error\":{\"message\":\"x\\u001b[2J\"}}\n",
                ),
                r"it said: x\x1b[2J",
            ),
            (
                reply("401 Unauthorized", "", r#"{"error":{"message":"bad key sk-very-secret"}}"#),
                "it answered 401 Unauthorized: bad key [key]",
            ),
            (
                reply("302 Found", "Location: http://127.0.0.1:1/elsewhere\r\n", ""),
                "it answered 302 Found: redirections are not followed",
            ),
            (reply("404 Not Found", "", "no such model"), "it answered 404 Not Found"),
            (json_reply(r#"{"error":{"message":"no memory"}}"#), "it said: no memory"),
            (
                json_reply("{\"choices\":\"x\u{202e}y\"}"),
                r#"its answer cannot be read: invalid type: string "x\u{202e}y", expected a sequence at line 1 column 18"#,
            ),
        ];
        for (reply, expected) in cases {
            assert_eq!(Server::start(vec![reply]).ask().unwrap_err(), expected);
        }
        let gone = Server::start(vec![Reply::Say(String::new())]).ask().unwrap_err();
        assert!(!gone.is_empty() && gone.lines().count() == 1, "{gone}");
    }

    #[test]
    fn a_server_that_repeats_the_key_does_not_show_a_half_of_it() {
        let long = format!(r#"{{"error":{{"message":"{}sk-very-secret is no key"}}}}"#, "x".repeat(250));
        let told = Server::start(vec![reply("401 Unauthorized", "", &long)]).ask().unwrap_err();
        assert!(!told.contains("sk-"), "{told}");
        let words = json_reply(r#"{"choices":[{"message":{"content":"I saw sk-very-secret."}}]}"#);
        assert_eq!(Server::start(vec![words]).ask().unwrap(), "I saw [key].");
    }

    #[test]
    fn who_says_too_much_is_not_listened_to() {
        let much = "x".repeat(300 << 10);
        let stream = "Content-Type: text/event-stream\r\n";
        for reply in [
            json_reply(&format!(r#"{{"choices":[{{"message":{{"content":"{much}"}}}}]}}"#)),
            reply("200 OK", stream, &format!("data: {{\"choices\":\"{much}\n")),
            reply("200 OK", stream, &": ping\n".repeat(50 << 10)),
        ] {
            assert_eq!(Server::start(vec![reply]).ask().unwrap_err(), "its answer is longer than 262 kB");
        }
        let quoted = json_reply(&format!(r#"{{"choices":"{}"}}"#, "x".repeat(200 << 10)));
        let told = Server::start(vec![quoted]).ask().unwrap_err();
        assert!(told.starts_with("its answer cannot be read: ") && told.chars().count() < 300, "{told}");
    }

    #[test]
    fn a_part_is_the_last_only_where_it_says_why() {
        let parts = "data: {\"choices\":[{\"delta\":{\"content\":\"It is \"},\"finish_reason\":\"\"}]}\n\n\
                     data: {\"choices\":[{\"delta\":{\"content\":\"refused.\"},\"finish_reason\":\"stop\"}]}\n\n";
        let unended = "data: {\"choices\":[{\"delta\":{\"content\":\"It is refused.\"}}]}\n\ndata: [DONE]";
        for parts in [parts, unended] {
            let server = Server::start(vec![reply("200 OK", "content-type: Text/Event-Stream\r\n", parts)]);
            assert_eq!(server.ask().unwrap(), "It is refused.");
        }
    }

    #[test]
    fn who_falls_silent_is_not_waited_for() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: ping\n\n",
        ] {
            let stay = Reply::SayAndStay(Duration::from_secs(20), text.to_owned());
            let mut server = Server::start(vec![stay]);
            server.model.limits.first_byte = Duration::from_millis(200);
            let begin = Instant::now();
            assert_eq!(server.ask().unwrap_err(), "nothing came within 0.2 s", "{text}");
            assert!(begin.elapsed() < Duration::from_secs(10));
        }
    }

    #[test]
    fn what_is_for_this_host_goes_through_no_proxy() {
        let configured = || Some(Proxy::new("http://10.0.0.1:3128").unwrap());
        for here in
            ["http://localhost:11434/v1", "http://127.0.0.2/v1", "http://[::1]:8/v1", "https://localhost/v1"]
        {
            assert!(proxy(here, configured()).is_none(), "{here}");
        }
        assert!(proxy("https://api.example/v1", configured()).is_some());
        assert!(proxy("https://api.example/v1", None).is_none());
    }

    #[test]
    fn who_is_slow_is_not_waited_for() {
        let words = json_reply(WORDS);
        let Reply::Say(text) = words else { unreachable!() };
        let mut server = Server::start(vec![Reply::SayAfter(Duration::from_secs(20), text.clone())]);
        server.model.limits.first_byte = Duration::from_millis(200);
        let begin = Instant::now();
        assert_eq!(server.ask().unwrap_err(), "nothing came within 0.2 s");
        assert!(begin.elapsed() < Duration::from_secs(10));

        let server = Server::start(vec![Reply::SayAfter(Duration::from_secs(20), text)]);
        let control = Control::default();
        let cancel = control.cancel.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            cancel.cancel();
        });
        let asked = server.model.ask(&server.model.payload(&[]), &control);
        assert!(matches!(asked, Err(Error::Cancelled)), "{asked:?}");
        assert!(begin.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn nothing_goes_where_others_could_read_it() {
        for allowed in [
            "https://api.example/v1",
            "http://localhost:11434/v1",
            "http://127.0.0.1/v1",
            "http://[::1]:8/v1",
        ] {
            assert!(Model::new("small", allowed).is_ok(), "{allowed}");
        }
        for refused in [
            "http://api.example/v1",
            "http://10.0.0.1/v1",
            "ftp://localhost",
            "localhost",
            "",
            "https://me:pw@host/v1",
        ] {
            assert!(Model::new("small", refused).is_err(), "{refused}");
        }
    }
}
