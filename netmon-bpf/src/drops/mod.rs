//! Dropped packets, counted in the kernel by reason, port and owner.
//!
//! A [`DropMonitor`] attaches one program to the tracepoint `kfree_skb`. It sends nothing to user space: each drop adds to
//! an entry of a table, so that a flood costs as little as it can. Owners are read where a [`FlowMonitor`] writes them
//! down, which should be attached before.
//!
//! | kernel | tells |
//! |---|---|
//! | 5.10 | drops without a reason |
//! | 5.11 | owners |
//! | 5.17 | reasons, more with every version |
//! | 6.11 | owners of the sockets that packets were for, not only those that they came from |

mod record;

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd as _, OwnedFd},
};

use libbpf_rs::{
    Link, MapCore as _, MapFlags, MapHandle,
    btf::{
        Btf,
        types::{Enum, FuncProto, Ptr, Typedef},
    },
    skel::{OpenSkel as _, SkelBuilder as _},
};
pub use record::{DropCount, DropKey};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::{
    error::{Error, Result},
    flow::FlowMonitor,
    object,
};

object::include_skeleton!("drops");
use skeleton::{DropsSkelBuilder, types};

/// How many entries the table of drops has room for.
pub const CAPACITY: usize = 16_384;

/// Packets that are not told as they should be, since the program was attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DropLosses {
    /// Packets that are counted without process and port, because the table was full.
    pub details: u64,
    /// Packets that are not counted at all, for want of room or because the program was interrupted by itself.
    pub packets: u64,
}

/// What the running kernel says of a drop.
#[derive(Debug, Clone, Default)]
struct Kernel {
    /// How many arguments the tracepoint has.
    arguments: u32,
    /// The names of the reasons, without what all begin with.
    reasons: HashMap<u32, String>,
    /// The reason that is none: the packet arrived.
    consumed: u32,
    /// The reason that says nothing.
    not_specified: Option<u32>,
}

impl Kernel {
    /// Numbers differ between kernels, so they are read from this one.
    fn read() -> Result<Self> {
        let failed = |error| Error::from_libbpf("read the types of this kernel (BTF)", error);
        let btf = Btf::from_vmlinux().map_err(failed)?;
        let prototype = btf
            .type_by_name::<Typedef<'_>>("btf_trace_kfree_skb")
            .and_then(|typedef| Ptr::try_from(typedef.next_type()?).ok())
            .and_then(|pointer| FuncProto::try_from(pointer.next_type()?).ok());
        let prototype = prototype.ok_or_else(|| Error::Unsupported {
            action: "use the tracepoint kfree_skb".to_owned(),
            source: io::Error::other("this kernel's BTF does not describe it"),
        })?;
        // The first parameter is the tracepoint's own.
        let arguments = u32::try_from(prototype.len()).unwrap_or_default().saturating_sub(1);
        let mut kernel = Self { arguments, ..Self::default() };
        let Some(reasons) = btf.type_by_name::<Enum<'_>>("skb_drop_reason") else { return Ok(kernel) };
        for reason in reasons.iter() {
            let (Some(name), Ok(number)) = (reason.name.and_then(OsStr::to_str), u32::try_from(reason.value))
            else {
                continue;
            };
            match name {
                "SKB_CONSUMED" => kernel.consumed = number,
                "SKB_DROP_REASON_NOT_SPECIFIED" => kernel.not_specified = Some(number),
                _ => {
                    if let Some(name) = name.strip_prefix("SKB_DROP_REASON_") {
                        kernel.reasons.insert(number, name.to_owned());
                    }
                }
            }
        }
        Ok(kernel)
    }
}

/// The program that counts drops, attached. Dropping it detaches; so does the end of the process.
#[derive(Debug)]
pub struct DropMonitor {
    _link: Link,
    program: OwnedFd,
    drops: MapHandle,
    others: MapHandle,
    lost: MapHandle,
    kernel: Kernel,
    knows_owners: bool,
}

impl DropMonitor {
    /// Loads and attaches it. Some tens of ms, most of it for reading the kernel's types.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] without `CAP_BPF` and `CAP_PERFMON`; [`Error::Unsupported`].
    pub fn attach(flow: Option<&FlowMonitor>) -> Result<Self> {
        let kernel = Kernel::read()?;
        // Linux 5.10 has no socket storage for this kind of program.
        match Self::load(flow, &kernel) {
            Err(Error::NotPermitted { .. } | Error::Kernel { .. }) if flow.is_some() => {
                Self::load(None, &kernel)
            }
            other => other,
        }
    }

    fn load(flow: Option<&FlowMonitor>, kernel: &Kernel) -> Result<Self> {
        object::route_libbpf_messages();
        let failed = |error| Error::from_libbpf("load the program that counts drops", error);
        let mut storage = MaybeUninit::uninit();
        let mut open = DropsSkelBuilder::default().open(&mut storage).map_err(failed)?;
        if let Some(data) = open.maps.rodata_data.as_deref_mut() {
            data.nm_arguments = kernel.arguments;
            data.nm_consumed = kernel.consumed;
            data.nm_has_owners = u8::from(flow.is_some());
        }
        if let Some(flow) = flow {
            let (connections, datagram_sockets) = flow.owners();
            open.maps.nm_connections.reuse_fd(connections.as_fd()).map_err(failed)?;
            open.maps.nm_datagram_sockets.reuse_fd(datagram_sockets.as_fd()).map_err(failed)?;
        }
        let loaded = open.load().map_err(failed)?;
        let attach = |error| Error::from_libbpf("attach to the tracepoint kfree_skb", error);
        let keep = |error| Error::from_libbpf("keep a map", error);
        Ok(Self {
            _link: loaded.progs.nm_count_drop.attach().map_err(attach)?,
            program: loaded
                .progs
                .nm_count_drop
                .as_fd()
                .try_clone_to_owned()
                .map_err(|error| Error::from_io("keep a program", error))?,
            drops: MapHandle::try_from(&loaded.maps.nm_drops).map_err(keep)?,
            others: MapHandle::try_from(&loaded.maps.nm_other_drops).map_err(keep)?,
            lost: MapHandle::try_from(&loaded.maps.nm_drops_lost).map_err(keep)?,
            kernel: kernel.clone(),
            knows_owners: flow.is_some(),
        })
    }

    /// Whether it can be used here: the program is loaded for real, and dropped again. Some tens of ms.
    ///
    /// # Errors
    /// As [`DropMonitor::attach`].
    pub fn probe() -> Result<()> {
        object::route_libbpf_messages();
        let failed = |error| Error::from_libbpf("load the program that counts drops", error);
        let kernel = Kernel::read()?;
        let mut storage = MaybeUninit::uninit();
        let mut open = DropsSkelBuilder::default().open(&mut storage).map_err(failed)?;
        if let Some(data) = open.maps.rodata_data.as_deref_mut() {
            data.nm_arguments = kernel.arguments;
            data.nm_has_owners = 0;
        }
        open.load().map(drop).map_err(failed)
    }

    /// Whether this kernel gives reasons at all (5.17).
    pub fn has_reasons(&self) -> bool {
        self.kernel.arguments > 2
    }

    /// Whether it tells which socket a packet was for (6.11).
    pub fn has_receivers(&self) -> bool {
        self.kernel.arguments > 3
    }

    /// Whether owners are read.
    pub fn knows_owners(&self) -> bool {
        self.knows_owners
    }

    /// The kernel's name of a reason, such as `NO_SOCKET`. `None` where it gave none.
    pub fn reason(&self, number: u32) -> Option<String> {
        if number == 0 || Some(number) == self.kernel.not_specified {
            return None;
        }
        let name = self.kernel.reasons.get(&number).cloned();
        // Those of parts of the kernel that number theirs themselves, and may be modules.
        Some(name.unwrap_or_else(|| format!("{}:{}", number >> 16, number & 0xffff)))
    }

    /// All that was counted so far. About 0.2 us an entry.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn read(&self) -> Result<Vec<(DropKey, DropCount)>> {
        let action = "read the table of drops";
        let mut read = object::read_hash(&self.drops, action)?;
        read.extend(object::read_hash(&self.others, action)?);
        Ok(read)
    }

    /// Takes an entry out of the table, to make room for others, and returns what it came to. `None` where it was not there.
    pub fn take(&self, key: &DropKey) -> Option<DropCount> {
        let bytes = self.drops.lookup(key.as_bytes(), MapFlags::ANY).ok()??;
        let count = DropCount::read_from_bytes(&bytes).ok()?;
        self.drops.delete(key.as_bytes()).ok()?;
        Some(count)
    }

    /// What was lost so far.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn lost(&self) -> Result<DropLosses> {
        let read = |types::nm_drop_loss(kind)| object::read_counter(&self.lost, kind, "read what was lost");
        Ok(DropLosses {
            details: read(types::nm_drop_loss::NM_LOST_DETAIL)?,
            packets: read(types::nm_drop_loss::NM_LOST_DROP)?.saturating_add(object::skipped(&self.program)?),
        })
    }
}
