//! The command that was given, for asking on.

use std::sync::{Mutex, PoisonError};

/// The command that runs, where that is not what this process was started with.
static GIVEN: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// From now on this is the command that was given, as it is to be shown.
pub(crate) fn remember(words: Vec<String>) {
    *GIVEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
}

/// From now on it is the one that these words stand for, without the flags that said so.
pub(crate) fn instead(flags: &[String], words: &[String]) {
    let mut given = without(given(), |name| flags.iter().any(|flag| flag == name));
    given.extend_from_slice(words);
    remember(given);
}

fn given() -> Vec<String> {
    let given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    given.unwrap_or_else(|| ["netmon-cli".to_owned()].into_iter().chain(std::env::args().skip(1)).collect())
}

/// The command that was given with these options set, as a shell takes it.
pub(super) fn with(options: &[(&str, &str)]) -> String {
    set(given(), options)
}

fn set(words: Vec<String>, options: &[(&str, &str)]) -> String {
    let is_set = |name: &str| {
        let name = if name == "--max-events" { "--limit" } else { name };
        options.iter().any(|(option, _)| *option == name)
    };
    let mut words: Vec<String> = without(words, is_set).iter().map(|word| quoted(word)).collect();
    for (name, value) in options {
        words.extend([(*name).to_owned(), quoted(value)]);
    }
    words.join(" ")
}

/// The words without these options and their values.
fn without(words: Vec<String>, is: impl Fn(&str) -> bool) -> Vec<String> {
    let mut left = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        if !is(name) {
            left.push(word);
        } else if name == word {
            words.next();
        }
    }
    left
}

/// As bash takes it for one word, without the characters that a terminal would obey.
fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./:=,@%+".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if word.chars().any(char::is_control) {
        let escaped = |character: char| match character {
            '\'' | '\\' => format!("\\{character}"),
            _ if character.is_control() => format!("\\u{:04x}", u32::from(character)),
            _ => character.to_string(),
        };
        return format!("$'{}'", word.chars().map(escaped).collect::<String>());
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_set_in_the_command_that_was_given() {
        let set = |line: &[&str]| {
            let line = ["netmon-cli"].into_iter().chain(line.iter().copied());
            set(line.map(str::to_owned).collect(), &[("--limit", "20"), ("--cursor", "c9")])
        };
        assert_eq!(set(&["connections"]), "netmon-cli connections --limit 20 --cursor c9");
        assert_eq!(
            set(&["connections", "--cursor", "c1", "--limit=20", "--filter", "pid == 1 or comm == 'a'"]),
            r"netmon-cli connections --filter 'pid == 1 or comm == '\''a'\''' --limit 20 --cursor c9"
        );
        assert_eq!(set(&["list", "--max-events", "7"]), "netmon-cli list --limit 20 --cursor c9");
        assert_eq!(set(&["list", "--max-events=7"]), "netmon-cli list --limit 20 --cursor c9");
        assert_eq!(set(&["--process", "a\x1b"]), r"netmon-cli --process $'a\u001b' --limit 20 --cursor c9");
    }
}
