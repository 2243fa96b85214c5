//! Traffic whose owner, bytes and outcome are known exactly: each command does one thing with sockets and prints, as JSON
//! lines, what it did ([`netmon_testkit::workload::Truth`]). Tests run it by `netmon_testkit::workload`.
//!
//! A program of its own, so that what owns a socket is neither the test nor one of its threads. It ends with the test that
//! runs it, and after two minutes in any case.
#![deny(unsafe_code)] // not `forbid`: fork.rs
#![allow(clippy::print_stderr, reason = "a program of the tests; its errors go to their stderr")]

mod arguments;
mod fork;
mod handover;
mod helper;
mod load;
mod outcome;
mod serve;
mod tcp;
mod tell;
mod udp;

use std::{
    env,
    ffi::CString,
    io::{self, Read as _},
    process::ExitCode,
};

use arguments::Arguments;
use nix::{sys::prctl, unistd::alarm};

const USAGE: &str = "\
usage: netmon-workload COMMAND

connections (CLIENT: [--send N] [--receive N] [--comm NAME] [--thread NAME] [--bind ADDR] [--user-timeout MS] [--hold]
             [--half-close] [--close-delay MS] [--reset]; --thread: by a thread of this name; --hold: open until told)
  connect CLIENT ADDR               opens a connection, sends, receives, closes
  v4-mapped CLIENT IPV4             the same by an IPv6 socket to the mapped address
  serve [--model single|fork|inetd|activated|prefork:N|threads:N|handoff:N] [--connections N] [--receive N] [--send N]
        [--comm NAME] [--server-closes] ADDR
                                    accepts connections; in each, receives, sends, waits for the client's end (not with
                                    --server-closes), closes
  outcome KIND v4|v6|mapped [--to ADDR] [--listen ADDR] [--send N] [--receive N] [--user-timeout MS] [--after MS]
        KIND: ok, closed-by-us, closed-by-peer, reset-by-us, reset-by-peer, refused, timed-out, unreachable, cancelled,
        close-wait, fin-wait (both until told), no-local-port
  unix-connect [--send N] PATH      a UNIX socket; @NAME for an abstract one

sockets that change hands
  pass-fd [--side connect|accept] [--send N] [--receive N] ADDR
                                    connects or accepts, and passes the socket to another process, which exchanges
  exec-after-connect [--comm NAME] [--send N] [--receive N] ADDR
                                    connects, and becomes another program, which exchanges
  inherit [--send N] [--receive N] ADDR
                                    connects, and forks; the copy exchanges

datagrams
  udp-send [--datagrams N] [--size N] [--connected] [--method sendto|send|sendmsg|sendmmsg|write] [--threads N]
        [--interval-us N] [--segment N] [--echo] [--hold] [--bind ADDR] [--comm NAME] ADDR...
                                    sends N datagrams to each address, by one socket (with --hold open until told)
  udp-echo --count N ADDR           answers N datagrams with themselves
  udp-receive --count N [--method recvfrom|recv|recvmsg|recvmmsg|read] ADDR
  udp-connect ADDR                  connects a UDP socket, and sends nothing
  udp-connect-send [--size N] [--answer] ADDR
                                    the same, and sends one datagram; with --answer it waits for one, or for an error
  ping [--count N] [--size N] IP    echo requests by a ping socket

many (--netns FILE: the other process listens in this network namespace)
  storm [--seconds S] [--connections N] [--close reset|fin] [--netns FILE] ADDR
                                    connects and closes as fast as it can; another process accepts and closes
  flood [--seconds S] [--datagrams N] [--per-second N] [--size N] [--netns FILE] ADDR
                                    sends as fast as it can or is told; another process receives
  bulk [--seconds S] [--netns FILE] ADDR
                                    sends over one connection as fast as it can; another process receives
  hold [--connections N] ADDR       opens connections between processes of its own, and keeps them until told
  many N [--parallel P] -- COMMAND  runs a command that often, each in a process of its own; a {} in it is the process's
                                    number

until told: until a line, or the end, comes on stdin. NETMON_WORKLOAD_SECONDS: how long it may live (120).";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    limit_lifetime();
    let mut words = env::args().skip(1);
    let Some(command) = words.next() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    ExitCode::from(u8::try_from(report(run(&command, Arguments::new(words)))).unwrap_or(1))
}

fn run(command: &str, arguments: Arguments) -> Result<()> {
    match command {
        "connect" => tcp::client(arguments, false),
        "v4-mapped" => tcp::client(arguments, true),
        "serve" => serve::serve(arguments),
        "outcome" => outcome::outcome(arguments),
        "unix-connect" => handover::unix_connect(arguments),
        "pass-fd" => handover::pass_fd(arguments),
        "exec-after-connect" => handover::exec_after_connect(arguments),
        "inherit" => handover::inherit(arguments),
        "udp-send" => udp::send(arguments),
        "udp-echo" => udp::echo(arguments),
        "udp-receive" => udp::receive(arguments),
        "udp-connect" => udp::connect(arguments, false),
        "udp-connect-send" => udp::connect(arguments, true),
        "ping" => udp::ping(arguments),
        "storm" => load::storm(arguments),
        "flood" => load::flood(arguments),
        "bulk" => load::bulk(arguments),
        "hold" => load::hold(arguments),
        "many" => load::many(arguments),
        // What other commands run in a process of their own: the socket is its stdin.
        "use-stdin" => handover::use_stdin(arguments),
        "accept-on-stdin" => serve::accept_on_stdin(arguments),
        "receive-on-stdin" => handover::receive_on_stdin(arguments),
        _ => Err(format!("no command {command:?}\n{USAGE}").into()),
    }
}

/// The exit status, and what went wrong on stderr.
fn report(result: Result<()>) -> i32 {
    let Err(error) = result else { return 0 };
    let words: Vec<String> = env::args().skip(1).collect();
    eprintln!("netmon-workload {}: {error}", words.join(" "));
    1
}

/// A forgotten process ends by itself. A copy made by fork has to ask for that anew.
fn limit_lifetime() {
    let seconds = env::var("NETMON_WORKLOAD_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    alarm::set(seconds.filter(|seconds| *seconds > 0).unwrap_or(120));
}

/// Names the calling thread; in the first thread, the process.
fn set_name(name: Option<String>) -> Result<()> {
    if let Some(name) = name {
        prctl::set_name(&CString::new(name)?)?;
    }
    Ok(())
}

/// Waits for a line on stdin, or its end.
fn wait_until_told() {
    let _ = io::stdin().read(&mut [0]);
}
