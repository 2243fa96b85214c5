//! The commands: each builds a request, asks, and prints.

pub(crate) mod again;
mod connections;
mod manual;
mod pps;
pub(crate) mod reconnect;
mod run;

use std::process::ExitCode;

use netmon_core::{
    Answer, Control,
    request::{LONGEST_CALL, RateRequest, check_window},
    source::recording::RecordRequest,
};

pub(crate) use crate::signals::cancelled_by_signals;
use crate::{
    arguments::{Arguments, Command, Global, InterfacesArguments, RecordArguments},
    failure::Failure,
    output::Printer,
    progress::Bar,
    shell, tools,
};

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.command {
        Some(command) => {
            arguments.tool.refuse()?;
            run_command(&arguments.global, command)
        }
        None => match arguments.tool.command()? {
            Some(command) => run_command(&arguments.global, &command),
            None => shell::bare(&arguments.global),
        },
    }
}

fn run_command(global: &Global, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Interfaces(interfaces) => run_interfaces(global, interfaces),
        Command::Pps(pps) => pps::run(global, pps),
        Command::Connections(connections) => connections::run(global, connections),
        Command::Summary(request) => connections::summary(global, request),
        Command::Patterns(request) => connections::patterns(global, request),
        Command::Diagnose(request) => connections::diagnose(global, request),
        Command::Insights(request) => connections::insights(global, request),
        Command::Drops(request) => connections::drops(global, request),
        Command::Sockets(request) => connections::sockets(global, request),
        Command::Listeners(request) => connections::listeners(global, request),
        Command::Top(arguments) => crate::top::run(global, arguments),
        Command::Run(command) => run::run(global, command),
        Command::Diff(diff) => connections::diff(global, diff),
        Command::Doctor => run_doctor(global),
        Command::Record(record) => run_record(global, record),
        Command::Shell => shell::run(global),
        Command::Tools => tools::list(global),
        // The shell itself knows what to do.
        Command::Quit => Ok(ExitCode::SUCCESS),
        Command::Completions { shell } => manual::completions(*shell),
        Command::Man { dir } => manual::pages(dir.as_deref()),
    }
}

/// Asks a question that takes a while, with a bar meanwhile.
fn ask<A: Answer>(
    what: &str,
    window: std::time::Duration,
    question: impl FnOnce(&Control<'_>) -> netmon_core::Result<A>,
) -> Result<A, Failure> {
    let bar = Bar::new(what, Some(window));
    let show = |progress| bar.show(progress);
    let control = Control { cancel: cancelled_by_signals(), progress: Some(&show) };
    Ok(question(&control)?)
}

/// Asks a question that is answered at once, mostly.
fn ask_now<A>(question: impl FnOnce(&Control<'_>) -> netmon_core::Result<A>) -> Result<A, Failure> {
    Ok(question(&Control { cancel: cancelled_by_signals(), ..Control::default() })?)
}

fn run_interfaces(global: &Global, arguments: &InterfacesArguments) -> Result<ExitCode, Failure> {
    let monitor = global.monitor()?;
    let answer = if arguments.now {
        monitor.interfaces()?
    } else {
        check_window(arguments.window, LONGEST_CALL)?;
        ask("measuring", arguments.window, |control| monitor.interfaces_over(arguments.window, control))?
    };
    Printer::new(global).answer(&answer)?;
    Ok(ExitCode::SUCCESS)
}

fn run_doctor(global: &Global) -> Result<ExitCode, Failure> {
    let monitor = global.monitor()?;
    let answer = ask_now(|control| monitor.capabilities_with(control))?;
    Printer::new(global).answer(&answer)?;
    Ok(if answer.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_record(global: &Global, arguments: &RecordArguments) -> Result<ExitCode, Failure> {
    let mut request = RecordRequest::new(&arguments.file);
    request.overwrite = arguments.force;
    request.duration = arguments.duration;
    request.rates = rates_to_record(arguments);

    let monitor = global.monitor()?;
    let bar = Bar::new("recording; Ctrl-C ends it", arguments.duration);
    let show = |progress| bar.show(progress);
    let control = Control { cancel: cancelled_by_signals(), progress: Some(&show) };
    let answer = monitor.record(&request, &control)?;
    drop(bar);
    Printer::new(global).answer(&answer)?;
    Ok(ExitCode::SUCCESS)
}

fn rates_to_record(arguments: &RecordArguments) -> RateRequest {
    let mut rates = RateRequest::default();
    rates.interfaces.clone_from(&arguments.interfaces);
    rates.window = arguments.interval;
    rates.hook = arguments.hook;
    rates
}
