//! One old kernel, in a machine: attach, follow, answer, detach. `./x kernels` tries all of them, and more.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{env, path::Path, process::Command};

use netmon_core::fact::Status;
use netmon_kernels::{
    document,
    job::{self, Programs},
    packages::{self, Kernel},
    report::Differences,
};
use test_tag::tag;

const FEW: u32 = 40;

/// The programs as these tests are built, where this one was.
fn programs() -> Programs {
    let folder = Path::new(env!("CARGO_BIN_EXE_netmon-kernels")).parent().unwrap();
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What `./x test` has built already.
    build.args(["build", "--quiet", "--workspace", "--tests", "--bins", "--target-dir"]);
    build.arg(folder.parent().unwrap());
    if folder.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success());
    Programs { folder: folder.to_owned(), workload: folder.join("netmon-workload") }
}

#[tag(machine)]
#[test]
fn an_old_kernel_is_followed_as_its_table_says() {
    let (kernel, fetched) = [Kernel::Linux5_10, Kernel::Linux6_1]
        .into_iter()
        .find_map(|kernel| Some((kernel, packages::fetch(kernel).ok()?)))
        .unwrap();
    let (findings, complaints) = job::situations(&fetched, &programs(), &["root"], FEW).unwrap();
    assert_eq!(complaints, "", "Linux {}", fetched.release);

    let found = &findings["root"];
    for side in ["clients", "servers"] {
        let owners = found.owners[side];
        assert_eq!((owners.total(), owners.wrong, owners.unknown), (u64::from(FEW), 0, 0), "{side}");
    }
    assert_eq!((found.owners["clients"].right, found.owners["senders"].right), (u64::from(FEW), 61));
    for (name, tried) in &found.tried {
        assert_eq!(tried.status, Status::Works, "{name}: {tried:?}");
    }
    let expected = &document::read().unwrap().kernels[kernel.name()].situations["root"];
    let mut differences = Differences::default();
    differences.add_findings("root", expected, found);
    assert_eq!(differences.worse, [""; 0], "Linux {}", fetched.release);
}
