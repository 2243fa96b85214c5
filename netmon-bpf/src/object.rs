//! Loading: what every object of this crate needs around its skeleton; and reading its tables.

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    ptr,
    sync::Once,
};

use libbpf_rs::{MapCore as _, MapFlags, MapHandle, PrintLevel};
use zerocopy::FromBytes;

use crate::error::{Error, Result};

/// Sends libbpf's messages, the verifier's log among them, to `tracing` instead of the process's stderr.
///
/// libbpf has one printer a process, so this is done once and before anything is opened. A program that embeds netmon and
/// uses libbpf itself may set its own afterwards; ours is then not put back.
pub(crate) fn route_libbpf_messages() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A level lower than libbpf's own: what it calls a warning is often a probe that was expected to fail.
        libbpf_rs::set_print(Some((PrintLevel::Debug, |level, message| {
            let message = message.trim_end();
            match level {
                PrintLevel::Warn => tracing::debug!(target: "netmon_bpf::libbpf", "{message}"),
                PrintLevel::Info | PrintLevel::Debug => {
                    tracing::trace!(target: "netmon_bpf::libbpf", "{message}");
                }
            }
        })));
    });
}

/// How often the kernel left out a run of a program, because the program was running on that CPU already.
pub(crate) fn skipped(program: &OwnedFd) -> Result<u64> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut length = size_of_val(&info) as u32;
    // SAFETY: `info` is as long as `length` says and outlives the call; it asks for no arrays, so no pointer in it is used.
    let result = unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(program.as_raw_fd(), (&raw mut info).cast(), &raw mut length)
    };
    if result < 0 {
        return Err(Error::from_io("read what a program missed", io::Error::last_os_error()));
    }
    Ok(info.recursion_misses)
}

/// A counter that each CPU has for itself, in sum.
pub(crate) fn read_counter(map: &MapHandle, index: u32, action: &'static str) -> Result<u64> {
    let per_cpu = map
        .lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY)
        .map_err(|error| Error::from_libbpf(action, error))?;
    let counts = per_cpu.into_iter().flatten();
    Ok(counts.filter_map(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?))).sum())
}

/// All entries of a hash table, some hundreds with a system call. What is added meanwhile may be missing; what is removed
/// may let others come twice.
///
/// Not by libbpf-rs's own iterator (0.27), which takes a batch that is not full for the last: a hash table is read by whole
/// buckets, so that hardly any batch is full.
pub(crate) fn read_hash<K: FromBytes, V: FromBytes>(
    map: &MapHandle,
    action: &'static str,
) -> Result<Vec<(K, V)>> {
    const EINTR: i32 = 4;
    const ENOENT: i32 = 2;
    const ENOSPC: i32 = 28;
    let sizes = (map.key_size() as usize, map.value_size() as usize);
    if sizes != (size_of::<K>(), size_of::<V>()) {
        return Err(Error::from_io(action, io::Error::other("the table does not have the expected sizes")));
    }
    let options = libbpf_sys::bpf_map_batch_opts {
        sz: size_of::<libbpf_sys::bpf_map_batch_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    let mut read = Vec::new();
    let mut batch = 1024_u32;
    // The kernel's own mark of how far it came: the number of a bucket.
    let mut position: Option<u32> = None;
    let (mut keys, mut values) = (vec![0_u8; 0], vec![0_u8; 0]);
    loop {
        keys.resize(sizes.0 * batch as usize, 0);
        values.resize(sizes.1 * batch as usize, 0);
        let (mut count, mut next) = (batch, 0_u32);
        let from = position.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
        // SAFETY: the descriptor is open for the call. For a hash table both positions are 32 bits; `keys` and `values` have
        // room for `count` entries of the table's sizes, and the kernel writes no more; the options state their size.
        let status = unsafe {
            libbpf_sys::bpf_map_lookup_batch(
                map.as_fd().as_raw_fd(),
                from.cast(),
                ptr::from_mut(&mut next).cast(),
                keys.as_mut_ptr().cast(),
                values.as_mut_ptr().cast(),
                &raw mut count,
                &raw const options,
            )
        };
        match -status {
            0 | ENOENT => {}
            EINTR => continue,
            // A bucket has more than this.
            ENOSPC if batch < map.max_entries() => {
                batch *= 2;
                continue;
            }
            errno => return Err(Error::from_io(action, io::Error::from_raw_os_error(errno))),
        }
        let entries = keys.chunks_exact(sizes.0).zip(values.chunks_exact(sizes.1)).take(count as usize);
        read.extend(entries.filter_map(|(key, value)| {
            Some((K::read_from_bytes(key).ok()?, V::read_from_bytes(value).ok()?))
        }));
        if -status == ENOENT {
            return Ok(read);
        }
        position = Some(next);
    }
}

/// Generated code, which follows its own rules.
macro_rules! include_skeleton {
    ($name:literal) => {
        #[allow(
            clippy::all,
            clippy::pedantic,
            clippy::undocumented_unsafe_blocks,
            clippy::unwrap_used,
            dead_code,
            missing_docs,
            rust_2018_idioms,
            unreachable_pub
        )]
        mod skeleton {
            include!(concat!(env!("OUT_DIR"), "/", $name, ".skel.rs"));
        }
    };
}
pub(crate) use include_skeleton;
