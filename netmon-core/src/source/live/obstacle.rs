//! Why programs cannot be used, in words: what of a host is in the way, whatever the version of its kernel, or what this
//! process lacks. Errors alone do not tell those from an old kernel.

use std::{error::Error as _, fs, io, path::Path};

use netmon_bpf::Error;

use super::{
    capabilities_fix,
    hooks::{lacks_perfmon, missing_privilege},
};

/// Why something cannot be used, and what would change that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Obstacle {
    pub(super) reason: &'static str,
    pub(super) fix: &'static str,
}

const NO_CGROUP2: Obstacle = Obstacle {
    reason: "no control groups of version 2 are mounted",
    fix: "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified, then start it again",
};
const NO_BTF: Obstacle = Obstacle {
    reason: "this kernel does not describe its types (BTF)",
    fix: "boot a kernel that was built with CONFIG_DEBUG_INFO_BTF",
};
const LOCKED_DOWN: Obstacle = Obstacle {
    reason: "this kernel is locked down (confidentiality), so that no program may read its memory",
    fix: "boot without lockdown=confidentiality; lockdown=integrity is in nothing's way",
};

/// What a host has of that.
#[derive(Debug, Clone, Copy)]
struct Host {
    has_cgroup2: bool,
    has_btf: bool,
    is_locked_down: bool,
}

impl Host {
    fn read() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
        Self {
            has_cgroup2: mounts.lines().any(|line| line.split(' ').nth(2) == Some("cgroup2")),
            has_btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            is_locked_down: lockdown.contains("[confidentiality]"),
        }
    }

    fn explains(self, error: &Error, of_cgroup: bool) -> Option<Obstacle> {
        match error {
            Error::Unsupported { .. } if of_cgroup && !self.has_cgroup2 => Some(NO_CGROUP2),
            Error::Unsupported { .. } if !self.has_btf => Some(NO_BTF),
            // The verifier knows fewer helpers then, and calls a program that uses one of them invalid.
            Error::NotPermitted { .. } | Error::Kernel { .. } if self.is_locked_down => Some(LOCKED_DOWN),
            _ => None,
        }
    }
}

/// Why a program cannot be used, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Something of this host is in the way.
    Host(Obstacle),
    /// A capability is missing.
    Privilege,
    /// What the error says.
    Error,
}

impl Why {
    /// Who lacks a capability is told that first.
    pub(super) fn of(error: &Error, of_cgroup: bool) -> Self {
        let of_host = || Host::read().explains(error, of_cgroup);
        match (!lacks_perfmon()).then(of_host).flatten() {
            Some(obstacle) => Self::Host(obstacle),
            None if is_refused(error) => Self::Privilege,
            None => Self::Error,
        }
    }

    pub(super) fn reason(self, error: &Error) -> String {
        match self {
            Self::Host(obstacle) => obstacle.reason.to_owned(),
            Self::Privilege => missing_privilege(true),
            Self::Error => told(error),
        }
    }

    pub(super) fn fix(self) -> Option<String> {
        match self {
            Self::Host(obstacle) => Some(obstacle.fix.to_owned()),
            Self::Privilege => Some(capabilities_fix()),
            Self::Error => None,
        }
    }
}

/// Whether a capability is what is missing. Without `CAP_PERFMON` the verifier knows fewer helpers, and calls a program
/// that uses one of them invalid.
pub(super) fn is_refused(error: &Error) -> bool {
    const EINVAL: i32 = 22;
    match error {
        Error::NotPermitted { .. } => true,
        Error::Kernel { .. } => error.errno() == Some(EINVAL) && lacks_perfmon(),
        _ => false,
    }
}

/// An error and its cause.
pub(super) fn told(error: &Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// What could not be done with programs, by the kernel's number where it gave one.
pub(super) fn kernel_error(action: &'static str) -> impl Fn(Error) -> crate::error::Error {
    move |error| {
        let source = error.errno().map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error);
        super::kernel_error(action)(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_lacks_explains_what_is_called_unsupported_or_invalid() {
        let usual = Host { has_cgroup2: true, has_btf: true, is_locked_down: false };
        let action = || "load".to_owned();
        let unsupported = Error::Unsupported { action: action(), source: io::Error::other("no") };
        let invalid = Error::Kernel { action: action(), source: io::Error::from_raw_os_error(22) };
        for of_cgroup in [false, true] {
            assert_eq!(usual.explains(&unsupported, of_cgroup), None);
            assert_eq!(usual.explains(&invalid, of_cgroup), None);
        }
        let without_cgroup2 = Host { has_cgroup2: false, ..usual };
        assert_eq!(without_cgroup2.explains(&unsupported, true), Some(NO_CGROUP2));
        assert_eq!(without_cgroup2.explains(&unsupported, false), None);
        let without_btf = Host { has_btf: false, ..usual };
        assert_eq!(without_btf.explains(&unsupported, true), Some(NO_BTF));
        assert_eq!(without_btf.explains(&invalid, true), None);
        let locked_down = Host { is_locked_down: true, ..usual };
        assert_eq!(locked_down.explains(&invalid, false), Some(LOCKED_DOWN));
        assert_eq!(locked_down.explains(&unsupported, false), None);
    }
}
