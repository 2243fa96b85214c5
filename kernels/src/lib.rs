//! netmon on users' kernels: stock kernels of Debian are booted in virtual machines with the release programs and the
//! project's own kernel tests, and what works on each is compared with what is expected and written down in
//! `docs/kernels.md`. `./x kernels` runs it.
#![forbid(unsafe_code)]

pub mod document;
pub mod image;
pub mod job;
pub mod machine;
pub mod ownership;
pub mod packages;
pub mod report;

use std::{error::Error, fs, path::PathBuf, process::Command};

/// What went wrong, in words.
pub type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// What a command prints.
fn output(command: &mut Command) -> Result<String> {
    let output =
        command.output().map_err(|error| format!("{:?} cannot be run: {error}", command.get_program()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().filter(|line| !line.starts_with("W:")).collect::<Vec<_>>().join("\n");
        return Err(format!("{:?} failed ({}): {said}", command.get_program(), output.status).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where images are made: on a disk, as they are large.
fn scratch() -> Result<PathBuf> {
    let folder = packages::cache().join("scratch");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
