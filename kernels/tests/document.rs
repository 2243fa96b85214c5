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

/// What users were promised: of connections that have ended, owners are exact on every kernel.
#[test]
fn every_owner_is_expected_where_the_hooks_exist() {
    let expectation = document::read().unwrap();
    assert_eq!(expectation.kernels.len(), Kernel::ALL.len());
    for (name, report) in &expectation.kernels {
        assert_eq!(report.situations.len(), SITUATIONS.len(), "{name}");
        for situation in ["root", "system_calls", "capabilities"] {
            let findings = &report.situations[situation];
            for (side, total) in [("clients", 200), ("servers", 200), ("senders", 61)] {
                let owners = findings.owners[side];
                assert_eq!((owners.total(), owners.wrong), (total, 0), "{name}, {situation}, {side}");
                let said = if findings.said_lost.is_some() { total / 20 } else { 0 };
                assert!(owners.right + said >= total, "{name}, {situation}, {side}: {owners}");
            }
        }
    }
}
