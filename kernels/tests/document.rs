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
            let findings = &report.situations[situation];
            // Before Linux 6.3 only following system calls tells for sure who uses what another one accepted.
            let is_exact = !["5.10", "6.1"].contains(&name.as_str()) || situation == "system_calls";
            for (side, total) in [("clients", 200), ("servers", 200), ("senders", 61)] {
                let owners = findings.owners[side];
                assert_eq!((owners.total(), owners.wrong), (total, 0), "{name}, {situation}, {side}");
                let known = if is_exact || side != "servers" {
                    owners.right
                } else {
                    owners.right + owners.inherited
                };
                let said = if findings.said_lost.is_some() { total / 20 } else { 0 };
                assert!(known + said >= total, "{name}, {situation}, {side}: {owners}");
            }
        }
    }
}
