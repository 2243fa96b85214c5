//! The two jobs of a machine: the release programs in several situations, and the project's own kernel tests.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde::Deserialize;

use crate::{
    Result,
    image::{self, Image},
    machine, output,
    packages::Fetched,
    report::{Findings, Suite},
};

/// The situations in which the programs are tried, in the order in which they can be.
pub const SITUATIONS: [&str; 7] =
    ["root", "system_calls", "capabilities", "no_capabilities", "cgroup_v1", "no_btf", "lockdown"];

/// An emulated machine is slow, and so may be the one that emulates it.
const LONGEST_BOOT: Duration = Duration::from_secs(120);
const LONGEST_SITUATION: Duration = Duration::from_secs(400);
const LONGEST_SUITE: Duration = Duration::from_secs(2 * 3600);
const SECONDS_A_TEST: u32 = 240;

/// The programs that the situations are about, and the one that tells the truth.
#[derive(Debug)]
pub struct Programs {
    /// Where `netmon-cli`, `netmond` and `netmon-mcp` are.
    pub folder: PathBuf,
    /// `netmon-workload`.
    pub workload: PathBuf,
}

/// How many clients connect to a server.
pub const CLIENTS: u32 = 200;

/// Tries the programs in situations, and says what was found in each; and what the kernel itself complained of.
///
/// # Errors
/// Where the machine does not run.
pub fn situations(
    kernel: &Fetched,
    programs: &Programs,
    names: &[&str],
    clients: u32,
) -> Result<(BTreeMap<String, Findings>, String)> {
    let mut image = Image::create()?;
    for name in ["netmon-cli", "netmond", "netmon-mcp"] {
        image.add_program(&programs.folder.join(name), &Path::new("/usr/local/bin").join(name))?;
    }
    image.add_program(&programs.workload, Path::new("/usr/local/bin/netmon-workload"))?;
    let files = image::joined(&[image.archive()?.path(), image::modules(kernel)?.path()])?;
    let job = format!("situations netmon.situations={} netmon.clients={clients}", names.join(","));
    let longest = LONGEST_BOOT + LONGEST_SITUATION * u32::try_from(names.len()).unwrap_or(1);
    let steps = machine::boot(kernel, files.path(), &job, 1024, longest)?;
    let findings = names.iter().map(|name| ((*name).to_owned(), Findings::of(name, &steps))).collect();
    Ok((findings, complaints(&steps)))
}

/// What the kernel wrote into its log of trouble.
fn complaints(steps: &[machine::Step]) -> String {
    let kernel = steps.iter().find(|step| step.name == "kernel");
    kernel.map(|step| step.stdout.trim().to_owned()).unwrap_or_default()
}

/// A line of `cargo test --no-run --message-format=json`.
#[derive(Debug, Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Profile {
    test: bool,
}

/// What cargo has built to test.
#[derive(Debug, Default)]
pub struct Tests {
    /// Where cargo runs each, its program, and what cargo calls it.
    suites: Vec<(PathBuf, PathBuf, String)>,
    programs: Vec<PathBuf>,
}

impl Tests {
    /// From what `cargo test --no-run --message-format=json` printed.
    pub fn of_messages(messages: &str) -> Self {
        let mut tests = Self::default();
        for message in messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok()) {
            let (Some(executable), Some(manifest), Some(target)) =
                (message.executable, message.manifest_path, message.target)
            else {
                continue;
            };
            let folder = manifest.parent().unwrap_or(Path::new("/")).to_owned();
            if message.profile.is_some_and(|profile| profile.test) {
                tests.suites.push((folder, executable, target.name));
            } else {
                tests.programs.push(executable);
            }
        }
        tests
    }
}

/// Runs the kernel tests on a kernel, those whose names contain one of `parts`, or all for none; and says what the kernel
/// itself complained of.
///
/// # Errors
/// Where the machine does not run.
pub fn suite(kernel: &Fetched, tests: &Tests, parts: &[String]) -> Result<(Suite, String)> {
    let mut image = Image::create()?;
    let mut plan = String::new();
    let is_wanted = |name: &str| parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str()));
    for (folder, program, suite) in &tests.suites {
        let listed = output(Command::new(program).args(["--list", "--format=terse"]).current_dir(folder))?;
        let names: Vec<_> = listed
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .filter(|name| name.contains(":root:") && is_wanted(name))
            .collect();
        if names.is_empty() {
            continue;
        }
        image.add_program(program, program)?;
        image.add_folder(folder)?;
        for data in ["tests/snapshots", "recordings"].map(|data| folder.join(data)) {
            if data.exists() {
                image.add_tree(&data)?;
            }
        }
        for name in names {
            plan.push_str(&format!(
                "{SECONDS_A_TEST} {} {} {suite} {name}\n",
                folder.display(),
                program.display()
            ));
        }
    }
    for program in &tests.programs {
        image.add_program(program, program)?;
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    image.add_tree(&workspace.join("netmon-core/recordings"))?;
    // Tests of several programs ask it to build the others, which are there.
    image.add_text(env!("CARGO"), "#!/bin/sh\nexit 0\n", true)?;
    image.add_text("/guest/plan", &plan, false)?;
    image.add_text(
        "/guest/environment",
        &format!("export INSTA_WORKSPACE_ROOT={} INSTA_UPDATE=no\n", workspace.display()),
        false,
    )?;
    let files = image::joined(&[image.archive()?.path(), image::modules(kernel)?.path()])?;
    let steps = machine::boot(kernel, files.path(), "suite", 4096, LONGEST_SUITE)?;
    Ok((Suite::of(&steps), complaints(&steps)))
}
