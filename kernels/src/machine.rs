//! A virtual machine: one kernel, one job, and what it told.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{Result, packages::Fetched};

/// What a step of a job told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Its name in the guest's script.
    pub name: String,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
    /// Its status; absent where the machine ended before it did.
    pub status: Option<i32>,
}

impl Step {
    /// Whether it ended well.
    pub fn passed(&self) -> bool {
        self.status == Some(0)
    }
}

/// Boots a kernel with a file system and lets it do a job (`suite`, `situations netmon.situations=root`), by emulation:
/// what kernels do differs less there than under a hypervisor that they were not built for. One processor: with two,
/// Linux 6.12 crashes in it.
///
/// # Errors
/// Where there is no emulator, or the machine told nothing; then with the end of what its console showed.
pub fn boot(
    kernel: &Fetched,
    files: &Path,
    job: &str,
    mebibytes: u32,
    longest: Duration,
) -> Result<Vec<Step>> {
    let folder = tempfile::tempdir_in(crate::scratch()?)?;
    let (console, told) = (folder.path().join("console"), folder.path().join("told"));
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-M", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", &mebibytes.to_string()])
        .args(["-no-reboot", "-nodefaults", "-display", "none", "-nic", "none"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(files)
        .args(["-append", &format!("console=ttyS0 panic=-1 quiet netmon.told=ttyS1 netmon.job={job}")])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-serial")
        .arg(format!("file:{}", told.display()))
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("qemu-system-x86_64 cannot be run: {error}"))?;
    let deadline = Instant::now() + longest;
    while machine.try_wait()?.is_none() {
        if Instant::now() > deadline {
            machine.kill()?;
            machine.wait()?;
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    let steps = steps(&String::from_utf8_lossy(&fs::read(&told).unwrap_or_default()));
    if let Some(keep) = std::env::var_os("NETMON_KEEP_CONSOLE") {
        let name = format!("{}-{}", kernel.release, job.replace([' ', '.', '=', ','], "-"));
        fs::copy(&told, Path::new(&keep).join(format!("{name}.told")))?;
        fs::copy(&console, Path::new(&keep).join(format!("{name}.console")))?;
    }
    if steps.iter().any(|step| step.name == "ended") {
        return Ok(steps);
    }
    let shown = fs::read(&console).unwrap_or_default();
    let shown = String::from_utf8_lossy(&shown);
    let last: Vec<&str> = shown.lines().rev().take(30).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    let during = steps.last().map_or("booting", |step| &step.name);
    Err(format!(
        "Linux {} did not end its job, during {during}. Its console:\n{}",
        kernel.release,
        last.join("\n")
    )
    .into())
}

/// Takes apart what `step` in the guest writes.
fn steps(told: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut in_stderr = false;
    for line in told.lines() {
        let line = line.trim_end_matches('\r');
        if let Some(name) = line.strip_prefix("=== step ") {
            steps.push(Step { name: name.to_owned(), ..Step::default() });
            continue;
        }
        let Some(step) = steps.last_mut() else { continue };
        match line.strip_prefix("=== ") {
            Some("stdout") => in_stderr = false,
            Some("stderr") => in_stderr = true,
            Some(rest) if rest.starts_with("status ") => {
                step.status = rest.split_whitespace().nth(1).and_then(|status| status.parse().ok());
            }
            _ => {
                let text = if in_stderr { &mut step.stderr } else { &mut step.stdout };
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_tells_is_taken_apart_into_steps() {
        let told = "=== step one\n=== stdout\n5.10\n\n=== stderr\noh\n\n=== status 3 after 1.50 s\n=== step two\n=== stdout\nhal";
        let steps = steps(told);
        assert_eq!(steps.len(), 2);
        assert_eq!(
            (steps[0].name.as_str(), steps[0].stdout.trim(), steps[0].stderr.trim()),
            ("one", "5.10", "oh")
        );
        assert_eq!((steps[0].status, steps[1].status), (Some(3), None));
        assert!(!steps[1].passed());
    }
}
