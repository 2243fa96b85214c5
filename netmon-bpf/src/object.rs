//! Loading: what every object of this crate needs around its skeleton.

use std::sync::Once;

use libbpf_rs::PrintLevel;

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
