//! What one packet costs: the counting programs, and programs to compare them with, run on a packet made up by the
//! caller. For benchmarks; behind the feature `cost`.
//!
//! Nothing is attached and no traffic is touched, except by [`EmptyProgram`].

use std::{
    io,
    mem::{MaybeUninit, size_of},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use libbpf_rs::{
    MapCore as _, MapFlags, MapHandle,
    skel::{OpenSkel as _, SkelBuilder as _},
};

use crate::{
    error::{Error, Result},
    interface::{Direction, Framing, LoadedProgram, Program, create_link},
    object,
};

object::include_skeleton!("cost");
use skeleton::CostSkelBuilder;

/// A program whose cost can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Nothing, on a socket buffer: what it takes to run a program at all.
    PassSkb,
    /// What [`InterfaceCounter`](crate::interface::InterfaceCounter) attaches to tcx and clsact.
    CountSkb,
    /// Nothing, on an XDP frame.
    PassXdp,
    /// What [`InterfaceCounter`](crate::interface::InterfaceCounter) attaches to XDP.
    CountXdp,
    /// The packets of all CPUs in the one element of an array, by atomic addition.
    SharedArray,
    /// The same in the one entry of a hash map: how counting programs often begin.
    SharedHash,
}

/// A program in the kernel, ready to be run on packets.
#[derive(Debug)]
pub struct Specimen(Loaded);

#[derive(Debug)]
enum Loaded {
    Counter(LoadedProgram),
    Comparison { program: OwnedFd, packets: Option<MapHandle> },
}

impl Specimen {
    /// Loads a program and attaches it to nothing.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] without `CAP_BPF` and `CAP_NET_ADMIN`.
    pub fn load(subject: Subject) -> Result<Self> {
        Ok(Self(match subject {
            Subject::CountSkb => Loaded::Counter(LoadedProgram::load(Program::Skb(Framing::Ethernet))?),
            Subject::CountXdp => Loaded::Counter(LoadedProgram::load_xdp()?),
            Subject::PassSkb | Subject::PassXdp | Subject::SharedArray | Subject::SharedHash => {
                load_comparison(subject)?
            }
        }))
    }

    /// Runs the program `repeat` times on a frame, in the kernel and on this CPU. Any number of threads may do so at once.
    ///
    /// The frame starts with an Ethernet header and has room in one page.
    ///
    /// # Errors
    /// [`Error::Kernel`] where the kernel does not take the frame, or a signal came.
    pub fn run(&self, frame: &[u8], repeat: u32) -> Result<()> {
        let failed = |source| Error::from_io("run a program on a packet", source);
        let invalid = |_| failed(io::Error::from(io::ErrorKind::InvalidInput));

        let mut options = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
            data_in: frame.as_ptr().cast(),
            data_size_in: u32::try_from(frame.len()).map_err(invalid)?,
            repeat: i32::try_from(repeat).map_err(invalid)?,
            ..Default::default()
        };
        // SAFETY: the program's descriptor is open for the call. `options` is a valid structure that states its size,
        // its only buffer is `frame` with its length, and the kernel reads that and keeps nothing.
        let status =
            unsafe { libbpf_sys::bpf_prog_test_run_opts(self.program().as_raw_fd(), &raw mut options) };
        if status == 0 { Ok(()) } else { Err(failed(io::Error::from_raw_os_error(-status))) }
    }

    /// How many packets the program counted since it was loaded; `None` for one that counts nothing.
    ///
    /// # Errors
    /// [`Error::Kernel`], which means a fault of this crate.
    pub fn packets(&self) -> Result<Option<u64>> {
        match &self.0 {
            Loaded::Counter(loaded) => Ok(Some(loaded.read()?.total().packets)),
            Loaded::Comparison { packets: None, .. } => Ok(None),
            Loaded::Comparison { packets: Some(map), .. } => {
                let action = "read a shared counter";
                let value = map
                    .lookup(&0_u32.to_ne_bytes(), MapFlags::ANY)
                    .map_err(|error| Error::from_libbpf(action, error))?;
                // A hash map has no entry before the first packet.
                let Some(bytes) = value else { return Ok(Some(0)) };
                let bytes = bytes.try_into().map_err(|_| {
                    Error::from_io(action, io::Error::other("it does not have the expected size"))
                })?;
                Ok(Some(u64::from_ne_bytes(bytes)))
            }
        }
    }

    fn program(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Loaded::Counter(loaded) => loaded.program.as_fd(),
            Loaded::Comparison { program, .. } => program.as_fd(),
        }
    }
}

fn load_comparison(subject: Subject) -> Result<Loaded> {
    object::route_libbpf_messages();
    let libbpf = |error| Error::from_libbpf(format!("load the program for {subject:?}"), error);

    let mut storage = MaybeUninit::uninit();
    let open = CostSkelBuilder::default().open(&mut storage).map_err(libbpf)?;
    let loaded = open.load().map_err(libbpf)?;
    let (program, packets) = match subject {
        Subject::PassSkb => (&loaded.progs.nm_pass_skb, None),
        Subject::SharedArray => {
            (&loaded.progs.nm_count_shared_array, Some(&loaded.maps.nm_shared_array_packets))
        }
        Subject::SharedHash => {
            (&loaded.progs.nm_count_shared_hash, Some(&loaded.maps.nm_shared_hash_packets))
        }
        Subject::PassXdp | Subject::CountSkb | Subject::CountXdp => (&loaded.progs.nm_pass_xdp, None),
    };
    let program = program
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| Error::from_io("keep a program's descriptor", source))?;
    Ok(Loaded::Comparison { program, packets: packets.map(MapHandle::try_from).transpose().map_err(libbpf)? })
}

/// A program that does nothing, attached by tcx: the control of a measurement with traffic. Dropping it detaches.
#[derive(Debug)]
pub struct EmptyProgram {
    _link: OwnedFd,
}

impl EmptyProgram {
    /// Attaches it, after all other programs there.
    ///
    /// # Errors
    /// As [`InterfaceCounter::attach_tcx`](crate::interface::InterfaceCounter::attach_tcx).
    pub fn attach_tcx(ifindex: u32, direction: Direction) -> Result<Self> {
        let empty = Specimen::load(Subject::PassSkb)?;
        let attach_type = match direction {
            Direction::Ingress => libbpf_sys::BPF_TCX_INGRESS,
            Direction::Egress => libbpf_sys::BPF_TCX_EGRESS,
        };
        let link = create_link(empty.program(), ifindex, attach_type, 0)
            .map_err(|source| Error::from_io("attach an empty program to tcx", source))?;
        Ok(Self { _link: link })
    }
}
