//! Sockets that one process opens and another uses; and UNIX sockets, which can carry them.

use std::{
    env, fs,
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    net::{SocketAddr, TcpStream},
    os::{
        fd::{AsFd as _, OwnedFd},
        linux::net::SocketAddrExt as _,
        unix::{
            fs::symlink,
            net::{SocketAddr as UnixAddress, UnixListener, UnixStream},
            process::CommandExt as _,
        },
    },
    path::PathBuf,
    process::Command,
};

use netmon_testkit::workload::{Event, Protocol, Truth};
use nix::unistd::dup2_stdin;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use crate::{
    Result,
    arguments::Arguments,
    fork::{forked, wait_for},
    serve::{handle, succeeded},
    set_name,
    tcp::{self, Exchange, Options},
    tell::{ended, now_ns, tell, truth, with_socket},
};

/// Exchanges as a client over a connection that another process opened.
fn use_as_client(stream: TcpStream, exchange: Exchange, role: &str) -> Result<()> {
    let mut known = with_socket(truth(Event::Done, role, Protocol::Tcp), &stream);
    known.connections = 1;
    let outcome = exchange.by_client(&stream, &mut known);
    tcp::finish(stream, known, &outcome)
}

fn use_socket(socket: OwnedFd, exchange: Exchange, server: bool, role: &str) -> Result<()> {
    let stream = tcp::stream(socket)?;
    if server { handle(stream, exchange, role) } else { use_as_client(stream, exchange, role) }
}

/// What `use-stdin` and `receive-on-stdin` are told.
fn user(arguments: &mut Arguments) -> Result<(Exchange, bool, String)> {
    let role = arguments.option("--role")?.unwrap_or_else(|| "user".to_owned());
    Ok((Exchange::of(arguments)?, arguments.flag("--server"), role))
}

/// The socket at stdin, and nothing at stdin any more.
fn take_stdin() -> Result<OwnedFd> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(fs::File::open("/dev/null")?)?;
    Ok(socket)
}

pub(crate) fn use_stdin(mut arguments: Arguments) -> Result<()> {
    if let Some(folder) = arguments.option::<PathBuf>("--remove")? {
        fs::remove_dir_all(folder)?;
    }
    let (exchange, server, role) = user(&mut arguments)?;
    arguments.end()?;
    use_socket(take_stdin()?, exchange, server, &role)
}

pub(crate) fn exec_after_connect(mut arguments: Arguments) -> Result<()> {
    let comm = arguments.option("--comm")?.unwrap_or_else(|| "after-exec".to_owned());
    let exchange = Exchange::of(&mut arguments)?;
    let address = arguments.address()?;
    arguments.end()?;
    // Under another file name, so that the kernel itself gives it the other name.
    let folder = env::temp_dir().join(format!("netmon-workload-{}", std::process::id()));
    fs::create_dir(&folder)?;
    symlink(env::current_exe()?, folder.join(&comm))?;
    let Ok((stream, _)) = tcp::open("opener", &address, Options::default())? else {
        fs::remove_dir_all(folder)?;
        return Ok(());
    };
    let mut command = Command::new(folder.join(&comm));
    command.args(["use-stdin", "--role", "user", "--remove"]).arg(&folder).args(exchange.words());
    Err(command.stdin(OwnedFd::from(stream)).exec().into())
}

pub(crate) fn inherit(mut arguments: Arguments) -> Result<()> {
    let exchange = Exchange::of(&mut arguments)?;
    let address = arguments.address()?;
    arguments.end()?;
    let Ok((stream, _)) = tcp::open("opener", &address, Options::default())? else { return Ok(()) };
    // The parent closes its descriptor: the copy is the only one that has the socket.
    wait_for(forked(move || {
        set_name(Some("heir".to_owned()))?;
        use_as_client(stream, exchange, "user")
    })?)
}

pub(crate) fn pass_fd(mut arguments: Arguments) -> Result<()> {
    let side: String = arguments.option("--side")?.unwrap_or_else(|| "connect".to_owned());
    let exchange = Exchange::of(&mut arguments)?;
    let address: SocketAddr = arguments.address()?;
    arguments.end()?;
    let server = side == "accept";

    // There before the socket is, so that it cannot have inherited it.
    let (own, others) = UnixStream::pair()?;
    let mut command = Command::new(env::current_exe()?);
    command.args(["receive-on-stdin", "--role", "user"]).args(exchange.words());
    command.args(server.then_some("--server"));
    let mut receiver = command.stdin(OwnedFd::from(others)).spawn()?;

    let stream = match side.as_str() {
        "connect" => tcp::open("opener", &address, Options::default())?.ok().map(|(stream, _)| stream),
        "accept" => {
            let listener = tcp::listen(&address)?;
            tell(&with_socket(truth(Event::Ready, "listener", Protocol::Tcp), &listener))?;
            let beginning = truth(Event::Accepted, "opener", Protocol::Tcp);
            let (stream, _) = listener.accept()?;
            tell(&Truth { connections: 1, end_ns: now_ns(), ..with_socket(beginning, &stream) })?;
            Some(stream)
        }
        _ => return Err(format!("no side {side:?}").into()),
    };
    if let Some(stream) = stream {
        let handed = with_socket(truth(Event::Handed, "opener", Protocol::Tcp), &stream);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [stream.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        rustix::net::sendmsg(&own, &[IoSlice::new(&[0])], &mut control, SendFlags::empty())?;
        drop(stream);
        // The other process uses it only after this one has let it go.
        tell(&Truth { end_ns: now_ns(), ..handed })?;
        rustix::net::send(&own, &[0], SendFlags::empty())?;
    }
    drop(own);
    succeeded(receiver.wait()?)
}

pub(crate) fn receive_on_stdin(mut arguments: Arguments) -> Result<()> {
    set_name(Some("receiver".to_owned()))?;
    let (exchange, server, role) = user(&mut arguments)?;
    arguments.end()?;
    let mut channel = UnixStream::from(take_stdin()?);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(&channel, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let received = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    // Without one, the other process could not open it, and said so.
    let Some(socket) = received else { return Ok(()) };
    channel.read_exact(&mut byte)?;
    use_socket(socket, exchange, server, &role)
}

pub(crate) fn unix_connect(mut arguments: Arguments) -> Result<()> {
    let bytes = arguments.number("--send", 0)?;
    let path = arguments.word("a path")?;
    arguments.end()?;
    let address = match path.strip_prefix('@') {
        Some(name) => UnixAddress::from_abstract_name(name)?,
        None => UnixAddress::from_pathname(&path)?,
    };
    let listener = UnixListener::bind_addr(&address)?;
    let peer = forked(move || {
        let beginning = truth(Event::Done, "server", Protocol::Unix);
        let (mut stream, _) = listener.accept()?;
        let mut known = Truth { connections: 1, ..with_socket(beginning, &stream) };
        let outcome = stream.read_to_end(&mut Vec::new()).map(|length| known.received = length as u64);
        tell(&ended(known, &outcome))
    })?;
    let beginning = truth(Event::Done, "client", Protocol::Unix);
    let mut stream = UnixStream::connect_addr(&address)?;
    let mut known = Truth { connections: 1, ..with_socket(beginning, &stream) };
    let outcome = stream.write_all(&vec![0x6e; bytes as usize]).map(|()| known.sent = bytes);
    drop(stream);
    tell(&ended(known, &outcome))?;
    if address.as_pathname().is_some() {
        fs::remove_file(path)?;
    }
    wait_for(peer)
}
