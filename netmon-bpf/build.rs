//! Compiles the BPF programs with clang and generates their skeletons with libbpf-cargo.
//!
//! Nothing of the running kernel is read: what builds here loads elsewhere.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use libbpf_cargo::SkeletonBuilder;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=src/bpf");
    println!("cargo::rerun-if-env-changed=CLANG");

    let clang = PathBuf::from(env::var_os("CLANG").unwrap_or_else(|| "clang".into()));
    if let Err(error) = Command::new(&clang).arg("--version").output() {
        return fail(&format!(
            "cannot run `{}` ({error}), which compiles the BPF programs. Install it (Debian, Ubuntu, Alpine, Arch: \
             package `clang`; Fedora: `clang llvm`), or name another one in $CLANG. Without it, netmon-core builds \
             with `default-features = false` and answers from the kernel's own counters.",
            clang.display()
        ));
    }

    let mut sources = vec!["iface", "flow", "flow_old", "drops"];
    if env::var_os("CARGO_FEATURE_COST").is_some() {
        sources.push("cost");
    }
    for name in sources {
        if let Err(error) = build(&clang, name) {
            return fail(&format!("cannot build src/bpf/{name}.bpf.c: {error}"));
        }
    }
    ExitCode::SUCCESS
}

fn build(clang: &Path, name: &str) -> Result<(), String> {
    let source = Path::new("src/bpf").join(format!("{name}.bpf.c"));
    let out_dir = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    SkeletonBuilder::new()
        .source(source)
        .clang(clang)
        // -nostdinc: only our own headers and libbpf's, so that no system header is needed or can differ.
        .clang_args(["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-nostdinc", "-mcpu=v3"])
        .build_and_generate(PathBuf::from(out_dir).join(format!("{name}.skel.rs")))
        .map_err(|error| format!("{error:#}"))
}

/// Ends the build with the one line that helps, instead of a panic's backtrace.
fn fail(message: &str) -> ExitCode {
    println!("cargo::error={message}");
    ExitCode::FAILURE
}
