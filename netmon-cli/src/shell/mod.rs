//! `shell`: the command line again and again, on one source that stays open.

mod complete;
mod history;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::Arc,
};

use clap::{FromArgMatches as _, parser::ValueSource};
use netmon_core::{CleanText, source::SourceChoice};
use rustyline::{Config, Editor, config::CompletionType, error::ReadlineError, history::MemHistory};

use self::{complete::Complete, history::History};
use crate::{
    arguments::{Arguments, Command, Global},
    command::{self, again},
    failure::{Failure, USAGE},
    log, output,
    session::Session,
    signals, tools,
};

const PROMPT: &str = "netmon> ";
const WORDS: &str = "\
Lines are quoted as in sh; # begins a comment. Tab completes commands, flags, values, and the names
of processes and interfaces; Ctrl-C cancels what runs, Ctrl-D leaves. The source stays open, so that
--since asks about the time since the shell began, and further back where netmond runs. Options hold
for one line.

Examples:
  summary --process curl --duration 120
  list --max-events 20
  analyze
  pps --iface eth0 --window 10s
  connections --filter 'failed and port == 443' -o json
  help summary";

/// A bare `netmon-cli`: the shell, or the help where nobody types anything.
pub(crate) fn bare(global: &Global) -> Result<ExitCode, Failure> {
    if global.session.is_some() {
        return Err(Failure::Usage("name a command; help lists them".to_owned()));
    }
    let mut shell = Shell::new(global);
    if is_interactive() {
        return shell.interactive();
    }
    match shell.script()? {
        Some(code) => Ok(code),
        None => {
            write!(io::stderr(), "{}", Arguments::grammar().render_help())?;
            Ok(ExitCode::from(USAGE))
        }
    }
}

/// The shell, which was asked for.
pub(crate) fn run(global: &Global) -> Result<ExitCode, Failure> {
    if global.session.is_some() {
        return Err(Failure::Usage("this is the shell already".to_owned()));
    }
    let mut shell = Shell::new(global);
    if is_interactive() {
        return shell.interactive();
    }
    Ok(shell.script()?.unwrap_or(ExitCode::SUCCESS))
}

fn is_interactive() -> bool {
    io::stdin().is_terminal() && output::stdout_is_terminal()
}

/// The grammar of a line: that of the command line, and what only makes sense here is shown.
fn grammar() -> clap::Command {
    Arguments::grammar()
        .no_binary_name(true)
        .override_usage("COMMAND [OPTIONS]")
        .mut_subcommand("quit", |quit| quit.hide(false))
        .mut_subcommand("shell", |shell| shell.hide(true))
        .mut_args(|argument| {
            let of_netspy = argument.get_help_heading() == Some(tools::HEADING);
            argument.hide(of_netspy)
        })
        .after_help(WORDS)
        .after_long_help(WORDS)
}

struct Shell {
    /// What the shell was started with, which holds for all lines.
    global: Global,
    session: Arc<Session>,
    grammar: clap::Command,
}

/// How a line ended.
enum Ended {
    /// There was no command in it.
    Empty,
    /// The user wants to leave.
    Quit,
    Answered(ExitCode),
    Failed(Failure),
}

impl Shell {
    fn new(global: &Global) -> Self {
        let session = Arc::new(Session::new(global.source.clone()));
        let global = Global { session: Some(Arc::clone(&session)), source: global.source.clone(), ..*global };
        Self { global, session, grammar: grammar() }
    }

    fn line(&mut self, line: &str) -> Ended {
        let Some(mut words) = shlex::split(line) else {
            return Ended::Failed(Failure::Usage(
                "a quote is not closed, or a \\ stands at the end".to_owned(),
            ));
        };
        // As manuals and help print a line.
        if words.first().is_some_and(|word| word == "netmon-cli" || word == "netspy") {
            words.remove(0);
        }
        if words.is_empty() {
            return Ended::Empty;
        }
        // The short one: whoever has begun knows the rest.
        if words == ["help"] {
            let help = write!(io::stdout(), "{}", self.grammar.render_help());
            return help
                .map_or_else(|error| Ended::Failed(error.into()), |()| Ended::Answered(ExitCode::SUCCESS));
        }
        match self.read(words).map_err(Failure::from) {
            Ok(Arguments { command: Some(Command::Quit), .. }) => Ended::Quit,
            Ok(arguments) => {
                let ended = command::run(&arguments);
                ended.map_or_else(Ended::Failed, Ended::Answered)
            }
            Err(failure) => Ended::Failed(failure),
        }
    }

    /// What the shell was started with holds unless the line says otherwise.
    fn read(&mut self, words: Vec<String>) -> Result<Arguments, clap::Error> {
        let matches = self.grammar.try_get_matches_from_mut(&words)?;
        let mut arguments =
            Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut self.grammar))?;
        let given = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        let Global { source, output, color, verbose, session } = &mut arguments.global;
        if !given("source") {
            source.clone_from(&self.global.source);
        }
        if !given("output") {
            *output = self.global.output;
        }
        if !given("color") {
            *color = self.global.color;
        }
        *verbose = (*verbose).max(self.global.verbose);
        *session = Some(Arc::clone(&self.session));
        color.write_global();
        log::change_level(*verbose);
        again::remember(words);
        Ok(arguments)
    }

    /// Begins to record, where nobody else does.
    fn open(&self) -> netmon_core::Result<netmon_core::Monitor> {
        self.session.monitor(&self.global.source)
    }

    /// Lines from a pipe or a file, up to the first that fails; `None` where there were none. What a command found, and
    /// tells by status 1, is no failure, but the status at the end.
    fn script(&mut self) -> Result<Option<ExitCode>, Failure> {
        let mut status = None;
        for number in 1.. {
            if let Some(code) = signals::waiting(false) {
                return Ok(Some(code));
            }
            let mut line = String::new();
            // Not locked meanwhile: a command may have a use for it.
            let length = io::stdin().read_line(&mut line);
            match length.map_err(|error| Failure::Usage(format!("cannot read line {number}: {error}")))? {
                0 => break,
                _ if line.trim().is_empty() => continue,
                _ => {}
            }
            if status.is_none() {
                // Whoever needs the source says why there is none.
                let _ = self.open();
            }
            let before = status.unwrap_or(ExitCode::SUCCESS);
            signals::running();
            let code = match self.line(&line) {
                Ended::Empty => ExitCode::SUCCESS,
                Ended::Quit => return Ok(Some(before)),
                Ended::Answered(code) => code,
                Ended::Failed(failure) => failure.report(),
            };
            if code != ExitCode::SUCCESS && code != ExitCode::FAILURE {
                output::note(&format!("the script ends at line {number}, which failed"));
                return Ok(Some(code));
            }
            status = Some(if code == ExitCode::SUCCESS { before } else { code });
        }
        Ok(status)
    }

    fn interactive(&mut self) -> Result<ExitCode, Failure> {
        self.greet()?;
        let config = Config::builder().completion_type(CompletionType::List).auto_add_history(false);
        let mut editor = config
            .history_ignore_space(true)
            .max_history_size(history::MOST)
            .and_then(|config| Editor::with_history(config.build(), MemHistory::new()))
            .map_err(of_editor)?;
        editor.set_helper(Some(Complete::new(
            grammar(),
            Arc::clone(&self.session),
            self.global.source.clone(),
        )));
        let mut history = History::open();
        for line in history.lines() {
            editor.add_history_entry(line).map_err(of_editor)?;
        }
        loop {
            if let Some(code) = signals::waiting(true) {
                return Ok(code);
            }
            let line = match editor.readline(PROMPT) {
                Ok(line) => line,
                Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => continue,
                Err(ReadlineError::Eof) => return Ok(ExitCode::SUCCESS),
                Err(error) => return Err(of_editor(error)),
            };
            editor.add_history_entry(line.as_str()).map_err(of_editor)?;
            history.add(&line);
            let cancel = signals::running();
            let ended = self.line(&line);
            if cancel.is_cancelled() {
                // After the ^C that the terminal shows.
                writeln!(io::stdout())?;
            }
            match ended {
                Ended::Quit => return Ok(ExitCode::SUCCESS),
                Ended::Failed(failure) => drop(failure.report()),
                Ended::Empty | Ended::Answered(_) => {}
            }
        }
    }

    fn greet(&self) -> io::Result<()> {
        let version = env!("CARGO_PKG_VERSION");
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "netmon {version}: help lists the commands, Tab completes, Ctrl-C cancels, Ctrl-D leaves"
        )?;
        let monitor = match self.open() {
            Ok(monitor) => monitor,
            Err(error) => {
                drop(out);
                Failure::from(error).report();
                return Ok(());
            }
        };
        let host = monitor.source().describe().host;
        if self.session.records() {
            return writeln!(
                out,
                "{host}: connections are recorded from now on, and --since asks about them"
            );
        }
        match &self.global.source {
            SourceChoice::Replay(_) => writeln!(out, "{host}: a recording"),
            SourceChoice::Unix(_) | SourceChoice::Http(_) => {
                writeln!(out, "{host}: {}", CleanText::from(self.global.source.to_string()))
            }
            _ => writeln!(out, "{host}"),
        }
    }
}

fn of_editor(error: ReadlineError) -> Failure {
    match error {
        ReadlineError::Io(error) => Failure::Output(error),
        error => Failure::Output(io::Error::other(error.to_string())),
    }
}
