//! `serve`: one way to accept connections for each way in which servers divide the work.

use std::{
    env, io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd as _, OwnedFd},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use netmon_testkit::workload::{Event, Protocol, Truth};
use nix::unistd::{self, Pid};

use crate::{
    Result,
    arguments::Arguments,
    fork::{forked, wait_for},
    set_name,
    tcp::{self, Exchange},
    tell::{now_ns, tell, truth, with_socket},
};

pub(crate) fn serve(mut arguments: Arguments) -> Result<()> {
    let comm: Option<String> = arguments.option("--comm")?;
    let model: String = arguments.option("--model")?.unwrap_or_else(|| "single".to_owned());
    let connections = arguments.number("--connections", 1)?;
    let exchange = Exchange::of(&mut arguments)?;
    let address: SocketAddr = arguments.address()?;
    arguments.end()?;

    let (model, workers) = match model.split_once(':') {
        Some((model, workers)) => (model, workers.parse()?),
        None => (model.as_str(), 2),
    };
    let threaded = matches!(model, "threads" | "handoff");
    set_name(comm.or_else(|| threaded.then(|| "mainproc".to_owned())))?;
    let listener = tcp::listen(&address)?;
    if model != "activated" {
        tell_ready(&listener)?;
    }
    match model {
        "single" => single(&listener, connections, exchange, "server"),
        "fork" => fork_each(&listener, connections, exchange),
        "inetd" => spawn_each(&listener, connections, exchange),
        "activated" => activate(listener, connections, exchange),
        "prefork" => prefork(&listener, connections, exchange, workers),
        "threads" => threads(&listener, connections, exchange, workers),
        "handoff" => handoff(&listener, connections, exchange, workers),
        _ => Err(format!("no model {model:?}").into()),
    }
}

fn tell_ready(listener: &TcpListener) -> Result<()> {
    tell(&with_socket(truth(Event::Ready, "listener", Protocol::Tcp), listener))
}

/// Accepts, and tells that it was this task.
fn accept(listener: &TcpListener, role: &str) -> Result<TcpStream> {
    let beginning = truth(Event::Accepted, role, Protocol::Tcp);
    let stream = tcp::stream(OwnedFd::from(listener.accept()?.0))?;
    tell(&Truth { connections: 1, end_ns: now_ns(), ..with_socket(beginning, &stream) })?;
    Ok(stream)
}

/// Exchanges, waits for the client's end, closes, and tells.
pub(crate) fn handle(stream: TcpStream, exchange: Exchange, role: &str) -> Result<()> {
    let mut known = with_socket(truth(Event::Done, role, Protocol::Tcp), &stream);
    known.connections = 1;
    let mut outcome = exchange.by_server(&stream, &mut known);
    if !exchange.server_closes {
        outcome = outcome.and_then(|()| tcp::drain(&stream, &mut known));
    }
    tcp::finish(stream, known, &outcome)
}

fn single(listener: &TcpListener, connections: u64, exchange: Exchange, role: &str) -> Result<()> {
    for _ in 0..connections {
        handle(accept(listener, role)?, exchange, role)?;
    }
    Ok(())
}

/// The parent accepts, a copy of it handles.
fn fork_each(listener: &TcpListener, connections: u64, exchange: Exchange) -> Result<()> {
    let mut handlers: Vec<Pid> = Vec::new();
    for _ in 0..connections {
        let stream = accept(listener, "acceptor")?;
        handlers.push(forked(move || handle(stream, exchange, "handler"))?);
    }
    handlers.into_iter().try_for_each(wait_for)
}

/// The parent accepts, another program handles.
fn spawn_each(listener: &TcpListener, connections: u64, exchange: Exchange) -> Result<()> {
    let mut handlers = Vec::new();
    for _ in 0..connections {
        let stream = accept(listener, "acceptor")?;
        let mut command = Command::new(env::current_exe()?);
        command.args(["use-stdin", "--server", "--role", "handler"]).args(exchange.words());
        handlers.push(command.stdin(OwnedFd::from(stream)).spawn()?);
    }
    handlers.iter_mut().try_for_each(|handler| succeeded(handler.wait()?))
}

pub(crate) fn succeeded(status: std::process::ExitStatus) -> Result<()> {
    if status.success() { Ok(()) } else { Err(format!("a process did not end well: {status}").into()) }
}

/// One process listens, another program gets the listening socket and accepts, as service managers do.
fn activate(listener: TcpListener, connections: u64, exchange: Exchange) -> Result<()> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["accept-on-stdin", "--connections", &connections.to_string()]).args(exchange.words());
    tell_ready(&listener)?;
    succeeded(command.stdin(OwnedFd::from(listener)).status()?)
}

pub(crate) fn accept_on_stdin(mut arguments: Arguments) -> Result<()> {
    let connections = arguments.number("--connections", 1)?;
    let exchange = Exchange::of(&mut arguments)?;
    arguments.end()?;
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    single(&listener, connections, exchange, "worker")
}

/// The parent listens, copies of it accept and handle. By a pipe they get a 1 for each connection to accept, and each of
/// them a 0 to end.
fn prefork(listener: &TcpListener, connections: u64, exchange: Exchange, workers: u64) -> Result<()> {
    let (tokens, source) = unistd::pipe()?;
    let mut copies = Vec::new();
    for _ in 0..workers {
        copies.push(forked(|| {
            let mut token = [0];
            while unistd::read(&tokens, &mut token)? == 1 && token == [1] {
                handle(accept(listener, "worker")?, exchange, "worker")?;
            }
            Ok(())
        })?);
    }
    for token in (0..connections).map(|_| 1).chain((0..workers).map(|_| 0)) {
        unistd::write(&source, &[token])?;
    }
    copies.into_iter().try_for_each(wait_for)
}

/// Runs threads of these names, and fails with the first of them that did.
pub(crate) fn in_threads(
    names: impl Iterator<Item = String>,
    part: impl Fn() -> Result<()> + Sync,
) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = names
            .map(|name| thread::Builder::new().name(name).spawn_scoped(scope, &part))
            .collect::<io::Result<_>>()?;
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })
}

fn worker_names(workers: u64) -> impl Iterator<Item = String> {
    (1..=workers).map(|number| format!("worker-{number}"))
}

/// The first thread listens, others accept and handle.
fn threads(listener: &TcpListener, connections: u64, exchange: Exchange, workers: u64) -> Result<()> {
    let left = AtomicU64::new(connections);
    in_threads(worker_names(workers), || {
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            handle(accept(listener, "worker")?, exchange, "worker")?;
        }
        Ok(())
    })
}

/// The first thread accepts, others handle.
fn handoff(listener: &TcpListener, connections: u64, exchange: Exchange, workers: u64) -> Result<()> {
    let (sender, receiver) = mpsc::channel();
    let receiver = Mutex::new(receiver);
    let next = || receiver.lock().map_err(|_| "a thread panicked")?.recv().map_err(|error| error.to_string());
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            in_threads(worker_names(workers), || {
                while let Ok(stream) = next() {
                    handle(stream, exchange, "worker")?;
                }
                Ok(())
            })
        });
        let accepted =
            (0..connections).try_for_each(|_| sender.send(accept(listener, "acceptor")?).map_err(Into::into));
        drop(sender);
        working.join().map_err(|_| "a thread panicked")?.and(accepted)
    })
}
