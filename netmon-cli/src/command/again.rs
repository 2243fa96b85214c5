//! The command that was given, for asking on.

/// The command line of this process with these options set, as a shell takes it.
pub(super) fn with(options: &[(&str, &str)]) -> String {
    set(std::env::args().skip(1), options)
}

fn set(arguments: impl Iterator<Item = String>, options: &[(&str, &str)]) -> String {
    let mut words = vec!["netmon-cli".to_owned()];
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        if options.iter().any(|(name, _)| argument == *name) {
            arguments.next();
        } else if !options.iter().any(|(name, _)| argument.starts_with(&format!("{name}="))) {
            words.push(quoted(&argument));
        }
    }
    for (name, value) in options {
        words.extend([(*name).to_owned(), quoted(value)]);
    }
    words.join(" ")
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
            set(line.iter().map(|&word| word.to_owned()), &[("--limit", "20"), ("--cursor", "c9")])
        };
        assert_eq!(set(&["connections"]), "netmon-cli connections --limit 20 --cursor c9");
        assert_eq!(
            set(&["connections", "--cursor", "c1", "--limit=20", "--filter", "pid == 1 or comm == 'a'"]),
            r"netmon-cli connections --filter 'pid == 1 or comm == '\''a'\''' --limit 20 --cursor c9"
        );
        assert_eq!(set(&["--process", "a\x1b"]), r"netmon-cli --process $'a\u001b' --limit 20 --cursor c9");
    }
}
