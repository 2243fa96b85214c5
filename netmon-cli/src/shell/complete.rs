//! What Tab offers: whatever the grammar of the command line takes at that place, and the names that the source knows.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use clap::{Arg, Command, ValueHint};
use netmon_core::{Connection, Monitor, answer::Row as _, source::SourceChoice};
use rustyline::{
    Context, Helper,
    completion::{Completer, FilenameCompleter, Pair},
    highlight::Highlighter,
    hint::Hinter,
    validate::Validator,
};

use crate::{names, session::Session, tools};

/// Who presses Tab does not wait longer for names.
const PATIENCE: Duration = Duration::from_millis(500);
const SOURCES: [&str; 5] = ["auto", "live", "replay:", "unix:", "http://"];

pub(super) struct Complete {
    grammar: Command,
    session: Arc<Session>,
    source: SourceChoice,
    files: FilenameCompleter,
}

/// What may stand at a place.
enum Wanted<'a> {
    /// A command.
    Command,
    /// A flag of this command.
    Flag(&'a Command),
    /// The value of this flag or place.
    Value(&'a Arg),
    Nothing,
}

impl Complete {
    pub(super) fn new(mut grammar: Command, session: Arc<Session>, source: SourceChoice) -> Self {
        // So that each command knows the global options too.
        grammar.build();
        Self { grammar, session, source, files: FilenameCompleter::new() }
    }

    /// The names that the source knows, if it tells them soon.
    fn ask(&self, names: fn(&Monitor) -> BTreeSet<String>) -> Vec<String> {
        let (session, source) = (Arc::clone(&self.session), self.source.clone());
        let (sender, receiver) = mpsc::channel();
        let ask = move || {
            let names = session.monitor(&source).map(|monitor| names(&monitor)).unwrap_or_default();
            // Whoever asked may have gone on.
            let _ = sender.send(names);
        };
        let asked = thread::Builder::new().name("netmon-names".to_owned()).spawn(ask);
        let names = asked.ok().and_then(|_| receiver.recv_timeout(PATIENCE).ok());
        names.unwrap_or_default().into_iter().collect()
    }

    fn values(&self, argument: &Arg) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        match argument.get_id().as_str() {
            "process" => self.ask(names::of_processes),
            "interfaces" => self.ask(names::of_interfaces),
            "source" | "before" | "after" => words(&SOURCES),
            "fields" => words(Connection::CSV_COLUMNS),
            "tool" => words(&tools::names(&self.grammar)),
            _ => {
                let values = argument.get_possible_values().into_iter().filter(|value| !value.is_hide_set());
                values.map(|value| value.get_name().to_owned()).collect()
            }
        }
    }

    /// Where the word at the end of the text begins, and what may stand there.
    fn candidates(&self, text: &str) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, typed) = last_word(text);
        let before = shlex::split(&text[..start]).unwrap_or_default();
        let (start, typed, wanted) = match typed.split_once('=') {
            // `--flag=value`; the value's place is told by its own length, as nothing in it is quoted yet.
            Some((flag, value)) if flag.starts_with("--") => {
                let before: Vec<String> = before.into_iter().chain([flag.to_owned()]).collect();
                (text.len() - value.len(), value.to_owned(), wanted(&self.grammar, &before, ""))
            }
            _ => (start, typed.clone(), wanted(&self.grammar, &before, &typed)),
        };
        let words = match wanted {
            Wanted::Nothing => Vec::new(),
            Wanted::Command => command_names(&self.grammar),
            Wanted::Flag(command) => flag_names(command),
            Wanted::Value(argument) => {
                let path = typed.strip_prefix("replay:").filter(|_| SOURCES.contains(&"replay:"));
                let takes_path = matches!(
                    argument.get_value_hint(),
                    ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath
                );
                match path {
                    Some(path) => return self.files(text, path),
                    None if takes_path => return self.files(text, &typed),
                    None => self.values(argument),
                }
            }
        };
        // Of a list with commas the last one is completed.
        let is_list = matches!(wanted, Wanted::Value(argument) if argument.get_value_delimiter().is_some());
        let comma = typed.rfind(',').filter(|_| is_list).map_or(0, |comma| comma + 1);
        Ok((start + comma, pairs(words, &typed[comma..])))
    }

    fn files(&self, text: &str, path: &str) -> rustyline::Result<(usize, Vec<Pair>)> {
        let start = text.len() - path.len().min(text.len());
        let (offset, pairs) = self.files.complete_path(path, path.len())?;
        Ok((start + offset, pairs))
    }
}

/// Where the last word begins, and what it says so far; a blank at the end begins an empty one.
fn last_word(text: &str) -> (usize, String) {
    let (mut start, mut word, mut quote, mut inside) = (0, String::new(), None, false);
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        if !inside && !character.is_whitespace() {
            (start, inside) = (place, true);
            word.clear();
        }
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (Some('\''), _) => word.push(character),
            (None, '\'' | '"') => quote = Some(character),
            (_, '\\') => word.extend(characters.next().map(|(_, next)| next)),
            (None, _) if character.is_whitespace() => inside = false,
            _ => word.push(character),
        }
    }
    if inside { (start, word) } else { (text.len(), String::new()) }
}

/// What may stand after these words, where the next one begins like this.
fn wanted<'a>(grammar: &'a Command, before: &[String], typed: &str) -> Wanted<'a> {
    let mut command = grammar;
    let mut flag: Option<&Arg> = None;
    let mut places = 0;
    for word in before.iter().skip_while(|word| *word == "netmon-cli" || *word == "netspy") {
        if flag.take().is_some() {
            continue;
        }
        if let Some(name) = word.strip_prefix('-') {
            flag = named(command, name).filter(|argument| takes_value(argument));
        } else if let Some(next) = command.find_subcommand(word) {
            command = next;
        } else {
            places += 1;
        }
    }
    let place = command.get_positionals().nth(places);
    match (flag, place) {
        (Some(flag), _) => Wanted::Value(flag),
        _ if typed.starts_with('-') => Wanted::Flag(command),
        _ if command.has_subcommands() => Wanted::Command,
        (None, Some(place)) => Wanted::Value(place),
        _ if typed.is_empty() => Wanted::Flag(command),
        _ => Wanted::Nothing,
    }
}

/// The flag of this name, without its first dash.
fn named<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let is = |argument: &Arg| match name.strip_prefix('-') {
        Some(long) => {
            argument.get_long() == Some(long)
                || argument.get_all_aliases().is_some_and(|aliases| aliases.contains(&long))
        }
        None => argument.get_short().is_some_and(|short| name.chars().eq([short])),
    };
    command.get_arguments().find(|argument| is(argument))
}

fn takes_value(argument: &Arg) -> bool {
    argument.get_action().takes_values()
}

fn command_names(grammar: &Command) -> Vec<String> {
    let shown = grammar.get_subcommands().filter(|command| !command.is_hide_set());
    shown
        .flat_map(|command| [command.get_name()].into_iter().chain(command.get_visible_aliases()))
        .map(str::to_owned)
        .collect()
}

fn flag_names(command: &Command) -> Vec<String> {
    let names = command
        .get_arguments()
        .flat_map(|argument| argument.get_long_and_visible_aliases().unwrap_or_default());
    names.map(|name| format!("--{name}")).collect()
}

/// Those that begin as it was typed, quoted where they must be; a single one is a whole word.
fn pairs(mut words: Vec<String>, typed: &str) -> Vec<Pair> {
    words.retain(|word| word.starts_with(typed));
    words.sort();
    words.dedup();
    let only = words.len() == 1;
    let pair = |word: String| {
        let mut replacement = shlex::try_quote(&word).map_or_else(|_| word.clone(), Cow::into_owned);
        if only && !word.ends_with([':', '/']) {
            replacement.push(' ');
        }
        Pair { display: word, replacement }
    };
    words.into_iter().map(pair).collect()
}

impl Completer for Complete {
    type Candidate = Pair;

    fn complete(&self, line: &str, place: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        self.candidates(&line[..place])
    }
}

impl Hinter for Complete {
    type Hint = String;
}
impl Highlighter for Complete {}
impl Validator for Complete {}
impl Helper for Complete {}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn demo() -> Complete {
        let recording =
            concat!("replay:", env!("CARGO_MANIFEST_DIR"), "/../netmon-core/recordings/demo.jsonl");
        let source: SourceChoice = recording.parse().unwrap();
        Complete::new(super::super::grammar(), Arc::new(Session::new(source.clone())), source)
    }

    /// The line with each candidate in place.
    fn offered(complete: &Complete, text: &str) -> Vec<String> {
        let (start, pairs) = complete.candidates(text).unwrap();
        pairs.iter().map(|pair| format!("{}{}", &text[..start], pair.replacement)).collect()
    }

    #[test]
    fn the_last_word_is_what_a_shell_takes_it_for() {
        let cases = [
            ("", 0, ""),
            ("sum", 0, "sum"),
            ("summary ", 8, ""),
            ("summary --process 'Web C", 18, "Web C"),
            ("summary --process Web\\ C", 18, "Web C"),
            ("list --filter \"a 'b\" --s", 21, "--s"),
        ];
        for (text, start, word) in cases {
            assert_eq!(last_word(text), (start, word.to_owned()), "{text}");
        }
    }

    #[test]
    fn commands_and_their_flags_are_completed() {
        let complete = demo();
        assert_eq!(offered(&complete, "sum"), ["summary "]);
        assert_eq!(offered(&complete, "netmon-cli summ"), ["netmon-cli summary "]);
        assert_eq!(offered(&complete, "ana"), ["analyze "]);
        assert_eq!(offered(&complete, "-o json do"), ["-o json doctor "]);
        assert_eq!(offered(&complete, "help inter"), ["help interfaces "]);
        assert_eq!(offered(&complete, "summary --dur"), ["summary --duration "]);
        assert_eq!(offered(&complete, "summary --out"), ["summary --output "]);
        assert_eq!(offered(&complete, "list --max"), ["list --max-events "]);
        assert_eq!(offered(&complete, "--tool get_n"), ["--tool get_network_summary "]);
        let all = offered(&complete, "");
        for word in ["summary", "list", "analyze", "tools", "help", "quit", "exit"] {
            assert!(all.contains(&word.to_owned()), "{word}: {all:?}");
        }
        assert!(!all.contains(&"shell".to_owned()));
        assert!(offered(&complete, "doctor x").is_empty());
    }

    #[test]
    fn values_are_completed_with_what_the_source_knows() {
        let complete = demo();
        assert_eq!(offered(&complete, "summary -o c"), ["summary -o csv "]);
        assert_eq!(offered(&complete, "pps --direction=in"), ["pps --direction=incoming "]);
        assert_eq!(offered(&complete, "summary --process cu"), ["summary --process curl "]);
        assert_eq!(offered(&complete, "pps --iface et"), ["pps --iface eth0", "pps --iface eth1"]);
        assert_eq!(offered(&complete, "pps -i w"), ["pps -i wg0 "]);
        assert_eq!(
            offered(&complete, "list --fields pid,last_user_c"),
            ["list --fields pid,last_user_comm "]
        );
        assert_eq!(offered(&complete, "completions zs"), ["completions zsh "]);
        assert_eq!(offered(&complete, "--source repl"), ["--source replay:"]);
        let manifest = concat!("--source replay:", env!("CARGO_MANIFEST_DIR"), "/Cargo.tom");
        assert_eq!(offered(&complete, manifest), [format!("{manifest}l")]);
    }

    #[test]
    fn any_line_is_completed_or_not_and_read_or_refused() {
        // Names that a source knows are asked for on threads of their own, with a recording for each.
        let complete = Complete { source: "replay:/nowhere".parse().unwrap(), ..demo() };
        let grammar = super::super::grammar();
        netmon_testkit::fuzz::try_inputs("shell", |bytes| {
            let Ok(text) = str::from_utf8(bytes) else { return };
            for (place, _) in text.char_indices().chain([(text.len(), ' ')]) {
                let (start, pairs) = complete.candidates(&text[..place]).unwrap();
                assert!(text.is_char_boundary(start) && start <= place, "{text:?} at {place}: {start}");
                assert!(pairs.iter().all(|pair| !pair.replacement.contains('\n')), "{text:?}");
            }
            if let Some(words) = shlex::split(text) {
                drop(grammar.clone().try_get_matches_from(words));
            }
        });
    }

    #[test]
    fn names_with_blanks_are_quoted() {
        let words = vec!["Web Content".to_owned(), "curl".to_owned()];
        let pairs = pairs(words, "W");
        assert_eq!(
            (pairs[0].display.as_str(), pairs[0].replacement.as_str()),
            ("Web Content", "'Web Content' ")
        );
    }
}
