//! Why the program ends without an answer: one line for people, one number for scripts.

use std::{io, process::ExitCode};

use anstyle::{AnsiColor, Style};
use netmon_core::{Error, ErrorKind};

/// A mistake on the command line.
pub(crate) const USAGE: u8 = 2;
/// Not permitted, or the source cannot be read.
pub(crate) const UNREACHABLE: u8 = 3;
/// No such interface.
const NOT_FOUND: u8 = 4;
/// 128 and the number of SIGINT, as shells count.
const INTERRUPTED: u8 = 130;

/// Why the program ends without an answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The question has no answer.
    Question(Error),
    /// The arguments contradict each other; the text says how.
    Usage(String),
    /// The arguments are not understood, or ask for help.
    Line(Box<clap::Error>),
    /// The answer cannot be written.
    Output(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Question(error)
    }
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Self {
        Self::Line(Box::new(error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Failure {
    /// Says it on stderr. A reader who has seen enough and closed the pipe is no failure.
    pub(crate) fn report(&self) -> ExitCode {
        let code = match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Self::Output(_) => UNREACHABLE,
            Self::Usage(_) => USAGE,
            Self::Line(error) => return explain(error),
            Self::Question(Error::Cancelled) => return ExitCode::from(INTERRUPTED),
            Self::Question(error) => code(error),
        };
        line_of_error(&self.message());
        let bold = Style::new().bold();
        if let Self::Question(error) = self
            && let Some(hint) = error.hint()
        {
            line(&format!("{bold}hint:{bold:#} {hint}"));
        }
        ExitCode::from(code)
    }

    fn message(&self) -> String {
        match self {
            Self::Usage(message) => message.clone(),
            Self::Line(error) => error.to_string(),
            Self::Output(error) => format!("cannot write the answer: {error}"),
            Self::Question(error) => error.with_cause(),
        }
    }
}

/// Help goes to stdout and is a success; all else is a mistake.
fn explain(error: &clap::Error) -> ExitCode {
    match error.print() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(UNREACHABLE),
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE)),
    }
}

fn code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::WindowOutOfRange | ErrorKind::InvalidRequest | ErrorKind::Filter => USAGE,
        ErrorKind::UnknownInterface | ErrorKind::InterfaceGone | ErrorKind::NoInterfaceUp => NOT_FOUND,
        _ => UNREACHABLE,
    }
}

/// Says on stderr what went wrong.
pub(crate) fn line_of_error(message: &str) {
    let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    line(&format!("{red}error:{red:#} {message}"));
}

fn line(text: &str) {
    use std::io::Write as _;
    // Where stderr is closed too there is nobody to tell.
    let _ = writeln!(anstream::stderr(), "{text}");
}
