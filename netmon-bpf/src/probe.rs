//! Which hooks the running kernel and this process's privileges allow, and why not. Nothing is attached to find out.

use std::os::fd::AsFd;

use crate::{
    error::{Error, Result},
    interface::{Framing, LoadedProgram, Program, create_link},
};

/// A place where packets of an interface can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// tcx links, both directions (kernel 6.6 and later).
    Tcx,
    /// Filters of the clsact queueing discipline, both directions.
    Clsact,
    /// XDP, incoming only.
    Xdp,
}

impl Hook {
    /// All of them, in the order in which netmon prefers them.
    pub const ALL: [Self; 3] = [Self::Tcx, Self::Clsact, Self::Xdp];

    /// Whether this hook can be used here: the program is loaded for real, and dropped again. Some 10 ms.
    ///
    /// For tcx, a link to an interface that cannot exist is asked for: a kernel that has tcx says that there is no such
    /// interface, an older one that it does not know the request. For clsact and XDP loading is the whole test: that the
    /// modules `sch_ingress` and `cls_bpf` can be loaded, or that a given driver takes the program, shows at attachment.
    ///
    /// # Errors
    /// The reason why it cannot be used: [`Error::NotPermitted`] or [`Error::Unsupported`] in practice.
    pub fn probe(self) -> Result<()> {
        match self {
            Self::Tcx => {
                let loaded = LoadedProgram::load(Program::Skb(Framing::Ethernet))?;
                match create_link(loaded.program.as_fd(), NO_INTERFACE, libbpf_sys::BPF_TCX_INGRESS, 0) {
                    Ok(_) => Ok(()),
                    Err(source) if source.raw_os_error() == Some(ENODEV) => Ok(()),
                    Err(source) if source.raw_os_error() == Some(EINVAL) => {
                        Err(Error::Unsupported { action: "use tcx".to_owned(), source })
                    }
                    Err(source) => Err(Error::from_io("use tcx", source)),
                }
            }
            Self::Clsact => LoadedProgram::load(Program::Skb(Framing::Ethernet)).map(drop),
            Self::Xdp => LoadedProgram::load_xdp().map(drop),
        }
    }
}

/// Interface numbers start at 1.
const NO_INTERFACE: u32 = 0;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
