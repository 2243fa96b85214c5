//! Naming a source in words, as on the command line.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::{error::Result, monitor::Monitor};

/// A source in words: `auto`, `live` or `replay:FILE`.
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
    /// The best there is: this host, with whatever this process may do.
    #[default]
    Auto,
    /// This host.
    Live,
    /// A recording.
    Replay(PathBuf),
}

impl FromStr for SourceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const CHOICES: &str = "choose auto, live or replay:FILE";
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "live" => Ok(Self::Live),
            Some(("replay", "")) | None if text.starts_with("replay") => {
                Err("name the recording, as in replay:FILE".to_owned())
            }
            Some(("replay", path)) => Ok(Self::Replay(path.into())),
            Some(("unix" | "http" | "https", _)) => {
                Err(format!("{text:?} names a daemon, which this version cannot ask yet; {CHOICES}"))
            }
            _ => Err(format!("no source is called {text:?}; {CHOICES}")),
        }
    }
}

impl fmt::Display for SourceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Live => f.write_str("live"),
            Self::Replay(path) => write!(f, "replay:{}", path.display()),
        }
    }
}

impl Monitor {
    /// Answers from the source that was chosen in words.
    ///
    /// # Errors
    /// As [`Monitor::live`] and [`Monitor::replay`].
    pub fn open(choice: &SourceChoice) -> Result<Self> {
        match choice {
            SourceChoice::Auto | SourceChoice::Live => Self::live(),
            SourceChoice::Replay(path) => Self::replay(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_named_in_words() {
        assert_eq!("auto".parse(), Ok(SourceChoice::Auto));
        assert_eq!("live".parse(), Ok(SourceChoice::Live));
        assert_eq!("replay:a:b.jsonl".parse(), Ok(SourceChoice::Replay("a:b.jsonl".into())));
    }

    #[test]
    fn anything_else_is_refused_with_the_choices() {
        for text in ["", "lve", "file:x", "unix:/run/x", "http://host:1"] {
            let message = text.parse::<SourceChoice>().unwrap_err();
            assert!(message.ends_with("choose auto, live or replay:FILE"), "{message}");
        }
        for text in ["replay", "replay:"] {
            assert_eq!(text.parse::<SourceChoice>().unwrap_err(), "name the recording, as in replay:FILE");
        }
    }
}
