//! The other side of what a command does, as a process of its own with a channel to it.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, UdpSocket},
    os::unix::net::UnixStream,
};

use netmon_testkit::PATIENCE;
use nix::unistd::Pid;

use crate::{
    Result,
    fork::{forked, wait_for},
    tcp, udp,
};

/// A helping process, which has told its address.
pub(crate) struct Helper {
    process: Pid,
    pub(crate) address: SocketAddr,
    pub(crate) channel: UnixStream,
}

impl Helper {
    /// Listens, in a process of its own, which then does `part`.
    pub(crate) fn start(
        address: SocketAddr,
        part: impl FnOnce(TcpListener, &mut UnixStream) -> Result<()>,
    ) -> Result<Self> {
        Self::with(move |channel| {
            let listener = tcp::listen(&address)?;
            writeln!(channel, "{}", listener.local_addr()?)?;
            part(listener, channel)
        })
    }

    /// The same with a UDP socket.
    pub(crate) fn start_udp(
        address: SocketAddr,
        part: impl FnOnce(UdpSocket, &mut UnixStream) -> Result<()>,
    ) -> Result<Self> {
        Self::with(move |channel| {
            let socket = udp::bind(address)?;
            writeln!(channel, "{}", socket.local_addr()?)?;
            part(socket, channel)
        })
    }

    fn with(part: impl FnOnce(&mut UnixStream) -> Result<()>) -> Result<Self> {
        let (mut channel, mut others) = UnixStream::pair()?;
        channel.set_read_timeout(Some(PATIENCE))?;
        let process = forked(move || part(&mut others))?;
        let mut address = String::new();
        while !address.ends_with('\n') {
            let mut byte = [0];
            channel.read_exact(&mut byte)?;
            address.push(char::from(byte[0]));
        }
        Ok(Self { process, address: address.trim_end().parse()?, channel })
    }

    /// Lets it go on, and waits for its end.
    pub(crate) fn end(self) -> Result<()> {
        // It may have ended already.
        let _ = (&self.channel).write_all(b"\n");
        wait_for(self.process)
    }
}
