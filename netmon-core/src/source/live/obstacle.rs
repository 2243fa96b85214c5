//! What of a host keeps programs from use, whatever the version of its kernel: errors alone do not tell it from an old one.

use std::{fs, path::Path};

use netmon_bpf::Error;

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

/// What explains that a program was refused to who has all capabilities. `None` where the error itself does.
pub(super) fn of_host(error: &Error, of_cgroup: bool) -> Option<Obstacle> {
    Host::read().explains(error, of_cgroup)
}

#[cfg(test)]
mod tests {
    use std::io;

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
