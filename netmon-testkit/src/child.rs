//! Running the test's own program a second time: to kill it, or with fewer privileges.
//!
//! A test starts with `if child::role() == Some(..)`, does the child's part there and returns; otherwise it spawns itself
//! by its own name. A child lives until its parent lets it go, and not longer than its parent.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::netns::Netns;

const ROLE: &str = "NETMON_TEST_ROLE";
const READY: &str = "the child is ready";

/// The role that this process was spawned for; `None` in the test itself.
pub fn role() -> Option<String> {
    env::var(ROLE).ok()
}

/// Said by a child: its parent goes on, and this call returns when the parent says so.
pub fn ready() {
    // Not println!, which libtest would capture.
    let _ = writeln!(io::stdout(), "{READY}");
    let _ = io::stdout().flush();
    let _ = io::stdin().read(&mut [0]);
}

/// What a child may do.
#[derive(Debug, Clone, Copy)]
pub enum Privileges {
    /// Everything.
    Root,
    /// User 65534 with these capabilities and no other, as `setpriv` writes them (`net_admin`).
    Nobody(&'static [&'static str]),
}

/// A child. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    program: Option<PathBuf>,
}

impl Child {
    /// Runs the test whose name contains `test` once more, in a namespace, as `role`.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[track_caller]
    pub fn spawn(netns: &Netns, privileges: Privileges, test: &str, role: &str) -> Self {
        Self::spawn_with(netns, privileges, test, role, &[])
    }

    /// The same, with variables in its environment.
    ///
    /// # Panics
    /// As [`Child::spawn`].
    #[track_caller]
    pub fn spawn_with(
        netns: &Netns,
        privileges: Privileges,
        test: &str,
        role: &str,
        variables: &[(&str, String)],
    ) -> Self {
        let own = env::current_exe().unwrap_or_else(|error| panic!("where is this program? {error}"));
        let (mut command, program) = match privileges {
            Privileges::Root => (netns.command(own), None),
            Privileges::Nobody(capabilities) => {
                let program = readable_copy(&own);
                let mut command = netns.command("setpriv");
                let granted: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
                command
                    .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"])
                    .arg(format!("--inh-caps=-all{granted}"))
                    .arg(format!("--ambient-caps=-all{granted}"))
                    .arg(&program);
                (command, Some(program))
            }
        };
        command.args([test, "--nocapture", "--test-threads=1"]).env(ROLE, role);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Self::start(command, program)
    }

    #[track_caller]
    fn start(mut command: Command, program: Option<PathBuf>) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().unwrap_or_else(|| panic!("the child has no stdout"));
        Self { process, stdin, stdout: BufReader::new(stdout), program }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it says that it is ready.
    ///
    /// # Panics
    /// Where it ends before, with what it said.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let mut said = String::new();
        while !said.contains(READY) {
            let read = self.stdout.read_line(&mut said);
            let ended = !matches!(read, Ok(length) if length > 0);
            assert!(!ended, "the child ended before it was ready. It said:\n{said}");
        }
    }

    /// Lets it go on until it is ready again.
    pub fn go_on(&mut self) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(b"\n");
        }
    }

    /// Kills it with SIGKILL, and waits until it is gone with all it held.
    pub fn kill(mut self) {
        self.end();
    }

    /// Lets it go on, and waits for its end.
    ///
    /// # Panics
    /// Where its part of the test failed or did not run.
    #[track_caller]
    pub fn finish(mut self) {
        self.stdin = None;
        let mut said = String::new();
        let _ = self.stdout.read_to_string(&mut said);
        let status = self.process.wait();
        let passed = status.is_ok_and(|status| status.success()) && said.contains("1 passed");
        assert!(passed, "the child failed or did not run. It said:\n{said}");
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
        if let Some(program) = &self.program {
            let _ = fs::remove_file(program);
        }
    }
}

/// This program where everybody may read it, which a build folder need not be.
fn readable_copy(program: &PathBuf) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let copy = env::temp_dir().join(format!("netmon-test-{}-{number}", std::process::id()));
    let copied =
        fs::copy(program, &copy).and_then(|_| fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)));
    copied.unwrap_or_else(|error| panic!("cannot copy this program to {}: {error}", copy.display()));
    copy
}
