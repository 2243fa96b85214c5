//! Why a program could not be loaded, attached or read.

use std::{error::Error as _, io};

/// A `Result` of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a program could not be loaded, attached or read.
///
/// A variant exists where a caller can act differently; the cause is kept as its `source`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused for want of a capability, or by lockdown or a sandbox's filter (`EPERM`, `EACCES`).
    #[error("cannot {action}: not permitted")]
    NotPermitted {
        /// What was tried, as in "load the program `nm_count_skb`".
        action: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// This kernel does not have the hook, or was built without it.
    #[error("cannot {action}: this kernel does not support it")]
    Unsupported {
        /// What was tried.
        action: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Somebody else's program holds the place, and only one fits (`EBUSY`, `EEXIST`).
    #[error("cannot {action}: another program is attached there")]
    Busy {
        /// What was tried.
        action: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// There is no interface with this index (`ENODEV`), any more or at all.
    #[error("cannot {action}: there is no such interface")]
    NoSuchInterface {
        /// What was tried.
        action: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot {action}")]
    Kernel {
        /// What was tried.
        action: String,
        /// The kernel's or libbpf's answer.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The kernel's error number, where it gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::NotPermitted { source, .. }
            | Self::Unsupported { source, .. }
            | Self::Busy { source, .. }
            | Self::NoSuchInterface { source, .. }
            | Self::Kernel { source, .. } => source.raw_os_error(),
        }
    }

    pub(crate) fn from_io(action: impl Into<String>, source: io::Error) -> Self {
        // Numbers are those of asm-generic/errno*.h, which Linux uses on every architecture that has BPF JITs.
        const EPERM: i32 = 1;
        const EACCES: i32 = 13;
        const EBUSY: i32 = 16;
        const EEXIST: i32 = 17;
        const ENODEV: i32 = 19;
        const ENOSYS: i32 = 38;
        const EOPNOTSUPP: i32 = 95;

        let action = action.into();
        match source.raw_os_error() {
            Some(EPERM | EACCES) => Self::NotPermitted { action, source },
            Some(EBUSY | EEXIST) => Self::Busy { action, source },
            Some(ENODEV) => Self::NoSuchInterface { action, source },
            Some(ENOSYS | EOPNOTSUPP) => Self::Unsupported { action, source },
            _ => Self::Kernel { action, source },
        }
    }

    pub(crate) fn from_libbpf(action: impl Into<String>, error: libbpf_rs::Error) -> Self {
        // libbpf-rs shows only its outermost context; the number that matters is at the end of its chain.
        let errno = {
            let mut link = error.source();
            let mut errno = None;
            while let Some(cause) = link {
                errno = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error).or(errno);
                link = cause.source();
            }
            errno
        };
        let source = match errno {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::other(format!("{error:#}")),
        };
        Self::from_io(action, source)
    }
}
