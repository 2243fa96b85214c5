//! The document is made of what is expected, and says the same.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;

use netmon_kernels::{document, job::SITUATIONS, packages::Kernel};

#[test]
fn the_document_says_what_is_expected() {
    let expectation = document::read().unwrap();
    let file = document::document_file();
    if std::env::var_os("NETMON_UPDATE").is_some() {
        fs::write(&file, document::markdown(&expectation)).unwrap();
    }
    let written = fs::read_to_string(file).unwrap();
    assert!(
        written == document::markdown(&expectation),
        "docs/kernels.md is not what kernels/expected.json says: NETMON_UPDATE=1 cargo test -p netmon-kernels"
    );
}

/// What users were promised: where the hooks are, owners are exact.
#[test]
fn every_owner_is_expected_where_the_hooks_exist() {
    let expectation = document::read().unwrap();
    assert_eq!(expectation.kernels.len(), Kernel::ALL.len());
    for (name, report) in &expectation.kernels {
        assert_eq!(report.situations.len(), SITUATIONS.len(), "{name}");
        for situation in ["root", "system_calls", "capabilities"] {
            let owners = &report.situations[situation].owners;
            let right = |side: &str| (owners[side].right, owners[side].wrong, owners[side].total());
            assert_eq!(right("clients"), (200, 0, 200), "{name}, {situation}");
            assert_eq!(right("senders"), (61, 0, 61), "{name}, {situation}");
            // Before Linux 6.3 nothing tells who uses what another one accepted, but for following system calls.
            let is_exact = !["5.10", "6.1"].contains(&name.as_str()) || situation == "system_calls";
            let servers = right("servers");
            assert_eq!((servers.1, servers.2), (0, 200), "{name}, {situation}");
            assert!(!is_exact || servers.0 == 200, "{name}, {situation}: {servers:?}");
        }
    }
}
