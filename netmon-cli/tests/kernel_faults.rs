//! The command line when there is no room left: on the disk that is recorded to, or for another open file.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use netmon_testkit::Netns;
use test_tag::tag;

const CLI: &str = env!("CARGO_BIN_EXE_netmon-cli");
const DEMO: &str = concat!("replay:", env!("CARGO_MANIFEST_DIR"), "/../netmon-core/recordings/demo.jsonl");

fn output(command: &mut Command) -> Output {
    command.env_remove("NETMON_SOURCE").stdin(Stdio::null()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A small file system of its own, unmounted when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    fn of(kib: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={kib}k");
        let mount = ["-t", "tmpfs", "-o", &size, "netmon-test"];
        assert!(Command::new("mount").args(mount).arg(directory.path()).status().unwrap().success());
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

#[tag(root)]
#[test]
fn a_disk_that_fills_up_while_recording_is_an_error_that_names_the_file_and_leaves_what_was_written() {
    // The recording of the demo takes twice that.
    let disk = Disk::of(96);
    let file = disk.path().join("full.jsonl");
    let told = output(Command::new(CLI).args(["--source", DEMO, "record"]).arg(&file));
    assert_eq!(told.status.code(), Some(3), "{}", stderr(&told));
    let error = stderr(&told);
    assert!(error.contains(file.to_str().unwrap()) && error.contains("No space left on device"), "{error}");

    assert!(fs::metadata(&file).unwrap().len() > 50_000);
    let source = format!("replay:{}", file.display());
    let answer =
        output(Command::new(CLI).args(["--source", &source, "connections", "--since", "60s", "-o", "json"]));
    assert_eq!(answer.status.code(), Some(0), "{}", stderr(&answer));
    let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert!(answer["total"].as_u64().unwrap() > 10, "{answer}");
    let warnings = answer["coverage"]["warnings"].to_string();
    assert!(warnings.contains("ends in the middle of a line"), "{warnings}");
}

#[tag(root)]
#[test]
fn with_any_number_of_descriptors_there_is_an_answer_or_an_error_that_says_why() {
    let netns = Netns::create();
    let (mut answers, mut limited) = (0, 0);
    for count in (4..100).step_by(6) {
        let mut command = netns.command("prlimit");
        command.arg(format!("--nofile={count}:{count}")).arg(CLI);
        let told = output(command.args(["--source", "live", "connections", "--window", "0.1", "-o", "json"]));
        match told.status.code() {
            Some(0) => {
                let answer: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
                let coverage = &answer["coverage"];
                let missing = coverage["missing_hooks"].as_array().map(Vec::as_slice).unwrap_or_default();
                // What it could not do for want of descriptors, it says.
                let is_limited = |missing: &serde_json::Value| {
                    !missing["reason"]
                        .as_str()
                        .is_some_and(|reason| reason.starts_with("this kernel does not"))
                };
                if missing.iter().any(is_limited) {
                    limited += 1;
                    assert!(coverage.to_string().contains("Too many open files"), "{count}: {coverage}");
                }
                answers += 1;
            }
            code => {
                let error = stderr(&told);
                assert!(error.contains("Too many open files"), "{count}: {code:?} {error}");
                assert!(!error.contains("panicked"), "{count}: {error}");
                limited += 1;
            }
        }
    }
    assert!(answers > 0 && limited > 0, "{answers} answers, {limited} of less");
}
