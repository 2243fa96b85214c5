//! Why a program could not be loaded, attached or read.

use std::io;

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

    /// The same error once more, for another thing that failed for the same reason.
    pub(crate) fn again(&self) -> Self {
        let copy = |source: &io::Error| match source.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::other(source.to_string()),
        };
        match self {
            Self::NotPermitted { action, source } => {
                Self::NotPermitted { action: action.clone(), source: copy(source) }
            }
            Self::Unsupported { action, source } => {
                Self::Unsupported { action: action.clone(), source: copy(source) }
            }
            Self::Busy { action, source } => Self::Busy { action: action.clone(), source: copy(source) },
            Self::NoSuchInterface { action, source } => {
                Self::NoSuchInterface { action: action.clone(), source: copy(source) }
            }
            Self::Kernel { action, source } => Self::Kernel { action: action.clone(), source: copy(source) },
        }
    }

    pub(crate) fn from_io(action: impl Into<String>, source: io::Error) -> Self {
        // Numbers are those of asm-generic/errno*.h, which Linux uses on every architecture that has BPF JITs.
        const EPERM: i32 = 1;
        const ESRCH: i32 = 3;
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
            // libbpf's answer where the kernel has no such tracepoint or type.
            Some(ENOSYS | EOPNOTSUPP | ESRCH) => Self::Unsupported { action, source },
            _ => Self::Kernel { action, source },
        }
    }

    pub(crate) fn from_libbpf(action: impl Into<String>, error: libbpf_rs::Error) -> Self {
        // libbpf-rs keeps the kernel's number to itself: neither its error nor the causes of that can be asked for it, and
        // its kinds are too few. What it prints ends as io::Error does.
        let text = format!("{error:#}");
        let source = match os_error(&text) {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::other(text),
        };
        Self::from_io(action, source)
    }
}

/// The number in `… (os error 17)`, the last where there are several.
fn os_error(text: &str) -> Option<i32> {
    text.rsplit_once("(os error ")?.1.strip_suffix(')')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_number_is_found_behind_libbpfs_contexts() {
        use libbpf_rs::ErrorExt as _;

        let busy = libbpf_rs::Error::from_raw_os_error(16).context("attaching").context("outer");
        assert!(
            matches!(Error::from_libbpf("attach", busy), Error::Busy { source, .. } if source.raw_os_error() == Some(16))
        );
        let denied = Error::from_libbpf("load", libbpf_rs::Error::from_raw_os_error(1));
        assert!(matches!(denied, Error::NotPermitted { .. }));
        assert_eq!(os_error("no such program (os error 1) in here"), None);
    }
}
