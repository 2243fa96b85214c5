//! Which BPF objects the kernel has, whoever loaded them: to see that nothing is left of a process that has ended.

use libbpf_rs::query::{LinkInfoIter, MapInfoIter, ProgInfoIter};

/// The numbers of all programs, maps and links. Numbers are given anew only after all others were.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Census {
    /// Programs.
    pub programs: Vec<u32>,
    /// Maps.
    pub maps: Vec<u32>,
    /// Links.
    pub links: Vec<u32>,
}

/// Asks for all of them, which needs `CAP_SYS_ADMIN`; without it there are none.
pub fn take() -> Census {
    Census {
        programs: ProgInfoIter::default().map(|program| program.id).collect(),
        maps: MapInfoIter::default().map(|map| map.id).collect(),
        links: LinkInfoIter::default().map(|link| link.id).collect(),
    }
}
