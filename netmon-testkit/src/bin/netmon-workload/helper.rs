//! The other side of what a command does, as a process of its own with a channel to it.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, UdpSocket},
    os::unix::net::UnixStream,
    path::PathBuf,
};

use netmon_testkit::PATIENCE;
use nix::{
    sched::{CloneFlags, setns},
    unistd::Pid,
};

use crate::{
    Result,
    fork::{forked, wait_for},
    tcp, udp,
};

/// Where a helping process listens.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    /// A network namespace other than ours, by its file.
    pub(crate) netns: Option<PathBuf>,
}

impl Place {
    /// To be called in the helping process.
    fn enter(&self) -> Result<()> {
        if let Some(path) = &self.netns {
            setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
        }
        Ok(())
    }
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self { address, netns: None }
    }
}

/// A helping process, which has told its address.
pub(crate) struct Helper {
    process: Pid,
    pub(crate) address: SocketAddr,
    pub(crate) channel: UnixStream,
}

impl Helper {
    /// Listens, in a process of its own, which then does `part`.
    pub(crate) fn start(
        place: impl Into<Place>,
        part: impl FnOnce(TcpListener, &mut UnixStream) -> Result<()>,
    ) -> Result<Self> {
        let place = place.into();
        Self::with(move |channel| {
            place.enter()?;
            let listener = tcp::listen(&place.address)?;
            writeln!(channel, "{}", listener.local_addr()?)?;
            part(listener, channel)
        })
    }

    /// The same with a UDP socket.
    pub(crate) fn start_udp(
        place: impl Into<Place>,
        part: impl FnOnce(UdpSocket, &mut UnixStream) -> Result<()>,
    ) -> Result<Self> {
        let place = place.into();
        Self::with(move |channel| {
            place.enter()?;
            let socket = udp::bind(place.address)?;
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
