//! Naming a source in words, as on the command line.

use std::{fmt, path::PathBuf, str::FromStr};

use super::live::LiveSource;
#[cfg(feature = "remote")]
use super::remote::{Address, DEFAULT_SOCKET, RemoteOptions, RemoteSource};
#[cfg(not(feature = "remote"))]
use crate::error::Error;
use crate::{error::Result, monitor::Monitor};

/// A source in words: `auto`, `live`, `live:system-calls`, `unix:PATH`, `http://HOST:PORT` or `replay:FILE`.
///
/// ```
/// # use netmon_core::{Monitor, source::SourceChoice};
/// let choice: SourceChoice = "replay:recordings/demo.jsonl".parse()?;
/// let monitor = Monitor::open(&choice).expect("the demo recording");
/// assert_eq!(monitor.interfaces().expect("its interfaces").interfaces.len(), 4);
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceChoice {
    /// The best there is: the daemon of this host if one answers, else this host with whatever this process may do.
    #[default]
    Auto,
    /// This host.
    Live,
    /// This host, and every system call's end is followed; see [`LiveSource::with_system_calls`].
    LiveWithSystemCalls,
    /// The daemon behind this Unix socket.
    Unix(PathBuf),
    /// The daemon at this `http` or `https` address.
    Http(String),
    /// A recording.
    Replay(PathBuf),
}

impl FromStr for SourceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const CHOICES: &str =
            "choose auto, live, live:system-calls, unix:PATH, http://HOST:PORT or replay:FILE";
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "live" => Ok(Self::Live),
            Some(("live", "system-calls")) => Ok(Self::LiveWithSystemCalls),
            Some(("replay", "")) | None if text.starts_with("replay") => {
                Err("name the recording, as in replay:FILE".to_owned())
            }
            Some(("replay", path)) => Ok(Self::Replay(path.into())),
            Some(("unix", "")) | None if text.starts_with("unix") => {
                Err("name the socket, as in unix:/run/netmon/netmond.sock".to_owned())
            }
            Some(("unix", path)) => Ok(Self::Unix(path.strip_prefix("//").unwrap_or(path).into())),
            Some(("http" | "https", rest)) => http(text, rest).map(Self::Http),
            _ => Err(format!("no source is called {text:?}; {CHOICES}")),
        }
    }
}

/// An address of HTTP has a host, and nothing after the port: no path, and no user, since what is on a command line is
/// no secret.
fn http(url: &str, rest: &str) -> Result<String, String> {
    let host = rest.strip_prefix("//").map(|host| host.trim_end_matches('/')).unwrap_or_default();
    let usable = |c: char| c.is_ascii_alphanumeric() || "-._:[]%".contains(c);
    if host.contains('@') {
        return Err(format!(
            "{url:?} names a user; a token comes from NETMON_TOKEN or the file NETMON_TOKEN_FILE names"
        ));
    }
    if host.is_empty() || host.starts_with(':') || !host.chars().all(usable) {
        return Err(format!("{url:?} is no address of a daemon; write it like http://HOST:PORT"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

impl fmt::Display for SourceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Live => f.write_str("live"),
            Self::LiveWithSystemCalls => f.write_str("live:system-calls"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Http(url) => f.write_str(url),
            Self::Replay(path) => write!(f, "replay:{}", path.display()),
        }
    }
}

impl Monitor {
    /// Answers from the source that was chosen in words.
    ///
    /// # Errors
    /// As [`Monitor::live`], [`Monitor::replay`] and `RemoteSource::open`.
    pub fn open(choice: &SourceChoice) -> Result<Self> {
        match choice {
            SourceChoice::Auto => auto(),
            SourceChoice::Live => Self::live(),
            SourceChoice::LiveWithSystemCalls => Ok(Self::new(LiveSource::open()?.with_system_calls())),
            SourceChoice::Replay(path) => Self::replay(path),
            #[cfg(feature = "remote")]
            SourceChoice::Unix(path) => Ok(Self::new(RemoteSource::unix(path)?)),
            #[cfg(feature = "remote")]
            SourceChoice::Http(url) => {
                let options = RemoteOptions::from_environment(Address::Http(url.clone()))?;
                Ok(Self::new(RemoteSource::open(options)?))
            }
            #[cfg(not(feature = "remote"))]
            SourceChoice::Unix(_) | SourceChoice::Http(_) => Err(Error::Unreachable {
                address: choice.to_string().into(),
                reason: "netmon was built without its feature `remote`".into(),
            }),
        }
    }
}

#[cfg(feature = "remote")]
fn auto() -> Result<Monitor> {
    match RemoteSource::unix(DEFAULT_SOCKET) {
        Ok(source) => Ok(Monitor::new(source)),
        Err(crate::Error::Unreachable { .. }) => Monitor::live(),
        Err(error) => Err(error),
    }
}

#[cfg(not(feature = "remote"))]
fn auto() -> Result<Monitor> {
    Monitor::live()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_named_in_words() {
        let cases = [
            ("auto", SourceChoice::Auto),
            ("live", SourceChoice::Live),
            ("live:system-calls", SourceChoice::LiveWithSystemCalls),
            ("unix:/run/x", SourceChoice::Unix("/run/x".into())),
            ("http://[::1]:7070", SourceChoice::Http("http://[::1]:7070".into())),
            ("https://host.example", SourceChoice::Http("https://host.example".into())),
            ("replay:a:b.jsonl", SourceChoice::Replay("a:b.jsonl".into())),
        ];
        for (text, choice) in cases {
            assert_eq!(choice.to_string(), text);
            assert_eq!(text.parse(), Ok(choice));
        }
        assert_eq!("unix:///run/x".parse(), Ok(SourceChoice::Unix("/run/x".into())));
        assert_eq!("http://h:1/".parse(), Ok(SourceChoice::Http("http://h:1".into())));
    }

    #[test]
    fn anything_else_is_refused_with_the_choices() {
        for text in ["", "lve", "file:x", "live:x"] {
            let message = text.parse::<SourceChoice>().unwrap_err();
            assert!(message.ends_with("unix:PATH, http://HOST:PORT or replay:FILE"), "{message}");
        }
        for text in ["replay", "replay:"] {
            assert_eq!(text.parse::<SourceChoice>().unwrap_err(), "name the recording, as in replay:FILE");
        }
        for text in ["http:", "http://", "http:host", "http://:80", "http://h/x?y", "http://h\u{1b}"] {
            let message = text.parse::<SourceChoice>().unwrap_err();
            assert!(message.ends_with("write it like http://HOST:PORT"), "{message}");
        }
        let message = "http://token@h:1".parse::<SourceChoice>().unwrap_err();
        assert!(message.contains("NETMON_TOKEN_FILE"), "{message}");
    }
}
