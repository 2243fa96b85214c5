//! The command line that asks netmon-cli the same.

use std::{borrow::Cow, fmt};

use netmon_core::source::SourceChoice;

/// A command line of netmon-cli, written so that a shell reads every argument as it is meant: names in it were chosen by
/// others.
#[derive(Debug)]
pub(super) struct Command(String);

impl Command {
    /// A command about a source.
    pub(super) fn new(command: &str, source: &SourceChoice) -> Self {
        let mut line = Self("netmon-cli".to_owned());
        if let Some(source) = in_words(source) {
            line = line.option("--source", &source);
        }
        line.0.push(' ');
        line.0.push_str(command);
        line
    }

    /// With an option and its value.
    pub(super) fn option(mut self, name: &str, value: &str) -> Self {
        // A value that looks like an option is only read as a value after an equals sign.
        let separator = if value.starts_with('-') { '=' } else { ' ' };
        self.0.push_str(&format!(" {name}{separator}{}", quoted(value)));
        self
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The source as netmon-cli knows it from any directory; `None` for the one that it takes by itself.
fn in_words(source: &SourceChoice) -> Option<String> {
    match source {
        SourceChoice::Auto => None,
        SourceChoice::Replay(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            Some(SourceChoice::Replay(path).to_string())
        }
        other => Some(other.to_string()),
    }
}

fn quoted(value: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !value.is_empty() && value.bytes().all(plain) {
        return Cow::Borrowed(value);
    }
    Cow::Owned(format!("'{}'", value.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_what_was_meant() {
        let line =
            |value: &str| Command::new("pps", &SourceChoice::Auto).option("--iface", value).to_string();
        assert_eq!(line("eth0"), "netmon-cli pps --iface eth0");
        assert_eq!(line("br-lan.7@if3"), "netmon-cli pps --iface br-lan.7@if3");
        assert_eq!(line("$(reboot)"), "netmon-cli pps --iface '$(reboot)'");
        assert_eq!(line("it's"), r"netmon-cli pps --iface 'it'\''s'");
        assert_eq!(line("a;b"), "netmon-cli pps --iface 'a;b'");
        assert_eq!(line("-x"), "netmon-cli pps --iface=-x");
        assert_eq!(line(""), "netmon-cli pps --iface ''");
    }

    #[test]
    fn a_recording_is_named_from_the_root() {
        let line = |source| Command::new("doctor", &source).to_string();
        assert_eq!(line(SourceChoice::Live), "netmon-cli --source live doctor");
        let source = SourceChoice::Replay("/tmp/my file.jsonl".into());
        assert_eq!(line(source), "netmon-cli --source 'replay:/tmp/my file.jsonl' doctor");
        assert!(line(SourceChoice::Replay("x.jsonl".into())).contains("replay:/"));
    }
}
