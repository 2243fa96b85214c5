//! The profile of a command against what the command itself told of its connections, while others make noise.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
};

use netmon_testkit::{
    Netns,
    workload::{self, Event, Truth},
};
use serde_json::Value;
use support::{CLI, Daemon};
use test_tag::tag;

/// Connections wait in its queue, and are accepted by nobody.
fn listener(netns: &Netns) -> (TcpListener, SocketAddr) {
    let listener = netns.enter(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// What the command told of its clients, its profile, and how netmon ended.
struct Profile {
    clients: Vec<Truth>,
    json: Value,
    status: i32,
}

impl Profile {
    #[track_caller]
    fn of(command: &mut Command) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let report = directory.path().join("report.json");
        let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let place = words.iter().position(|word| word == "--report").unwrap() + 1;
        // The report's file is known here alone.
        let mut again = Command::new(command.get_program());
        again.args(&words[..place]).arg(&report).args(&words[place + 1..]);
        let output = again.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        let truths = told.lines().filter_map(|line| serde_json::from_str::<Truth>(line).ok());
        let clients = truths.filter(|truth| truth.event == Event::Done && truth.role == "client").collect();
        let json = fs::read_to_string(&report)
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_else(|| panic!("no report: {told}{}", String::from_utf8_lossy(&output.stderr)));
        Self { clients, json, status: output.status.code().unwrap() }
    }

    /// Process and local port of each connection, as the command told them, and as the profile does.
    #[track_caller]
    fn assert_exact(&self, count: usize) {
        let told: BTreeSet<_> =
            self.clients.iter().map(|truth| (u64::from(truth.pid), truth.address().port().into())).collect();
        let rows = self.json["connections"].as_array().unwrap();
        let seen: BTreeSet<_> = rows
            .iter()
            .map(|row| (row["process"]["pid"].as_u64().unwrap(), row["local"]["port"].as_u64().unwrap()))
            .collect();
        assert_eq!(told.len(), count, "{:?}", self.clients);
        assert_eq!(seen, told);
        assert_eq!(rows.len(), count);
        assert_eq!(self.json["profile"]["total_attempts"], count);
        assert_eq!(self.json["coverage"]["lost_events"], 0);
    }
}

/// `netmon-cli run` in a namespace; the word after `--report` is replaced.
fn netmon(netns: &Netns, options: &[&str], command: &[&str]) -> Command {
    let mut netmon = netns.command(CLI);
    netmon.args(["--source", "live", "-o", "json", "run", "--report", "FILE"]);
    netmon.args(options).arg("--").args(command);
    netmon
}

#[tag(root)]
#[test]
fn all_connections_of_a_command_and_no_others_are_in_its_profile() {
    let netns = Netns::create();
    let (_listener, address) = listener(&netns);
    let program = workload::program();
    // Children of a child, each as short as a process can be, and one whose parents are gone.
    let script = format!(
        "'{0}' many 30 --parallel 3 -- connect --send 100 {address}; \
         (setsid sh -c \"sleep 0.1; '{0}' connect --send 100 {address}; exec >/dev/null; : >done\" &); \
         while [ ! -e done ]; do sleep 0.02; done",
        program.display()
    );
    let directory = tempfile::tempdir().unwrap();
    let script = format!("cd '{}'; {script}", directory.path().display());
    let noise = workload::start(&netns, &format!("many 40 --parallel 2 -- connect --send 7 {address}"));
    let profile = Profile::of(&mut netmon(&netns, &[], &["sh", "-c", &script]));
    let noise = noise.wait();

    profile.assert_exact(31);
    assert_eq!(profile.status, 0);
    assert_eq!(profile.json["membership"]["by"], "control_group");
    assert_eq!(profile.json["membership"]["still_running"], 0);
    assert_eq!(profile.json["profile"]["payload_bytes"]["sent"], 3_100);
    assert_eq!(profile.json["profile"]["connect_latency"]["connections"], 31);
    assert_eq!(workload::all(&noise, Event::Done, "client").len(), 40);
    // Nothing is left behind.
    let groups = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = groups.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
    let mount = mount.split(' ').nth(4).unwrap();
    let left: Vec<_> = fs::read_dir(mount)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| {
            // Others may be running a command now.
            let maker = name.strip_prefix("netmon-run-").and_then(|rest| rest.split('-').next());
            maker.is_some_and(|maker| !Path::new("/proc").join(maker).exists())
        })
        .collect();
    assert_eq!(left, [""; 0]);
}

#[tag(root)]
#[test]
fn what_still_runs_after_the_command_is_told_and_left_alone() {
    let netns = Netns::create();
    let (_listener, address) = listener(&netns);
    let script = format!(
        "'{}' connect --hold {address} >held 2>&1 <&3 & while ! grep -q ready held; do sleep 0.02; done",
        workload::program().display()
    );
    let directory = tempfile::tempdir().unwrap();
    let script = format!("cd '{}'; exec 3<>fifo; {script}", directory.path().display());
    let fifo = directory.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let profile = Profile::of(&mut netmon(&netns, &[], &["sh", "-c", &script]));

    assert_eq!(profile.json["membership"]["still_running"], 1, "{:#}", profile.json);
    assert_eq!(profile.json["profile"]["open"], 1);
    let pid = profile.json["connections"][0]["process"]["pid"].as_u64().unwrap();
    let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(!group.contains("netmon-run-"), "{group}");
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tag(root)]
#[test]
fn a_connection_that_must_not_be_is_status_1_and_listed() {
    let netns = Netns::create();
    let (_listener, address) = listener(&netns);
    let script =
        format!("'{0}' connect {address}; '{0}' outcome refused v4; exit 5", workload::program().display());
    let ask =
        |fail_on: &str| Profile::of(&mut netmon(&netns, &["--fail-on", fail_on], &["sh", "-c", &script]));

    let profile = ask("failed");
    assert_eq!(profile.status, 1);
    assert_eq!(profile.json["fail_on"]["matched"], 1);
    assert_eq!(profile.json["fail_on"]["connections"][0]["error"]["name"], "ECONNREFUSED");
    assert_eq!(profile.json["exit"]["status"], 5);
    assert_eq!(profile.json["profile"]["by_error"][0]["name"], "ECONNREFUSED");

    let profile = ask("not remote in 127.0.0.0/8");
    assert_eq!((profile.status, &profile.json["fail_on"]["matched"]), (5, &0.into()));

    let text = netns
        .command(CLI)
        .args(["--source", "live", "run", "--fail-on", "failed", "--", "sh", "-c", &script])
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&text.stderr);
    assert_eq!(text.status.code(), Some(1));
    for line in [
        "\n2 connections of 2 processes, told by a control group of their own: 2 outbound, 0 inbound; ",
        "\n2 attempts, 1 failed; failed or broken off: 1 ECONNREFUSED\n",
        "\n1 of them match \"failed\"\n",
        "\nfailed  tcp    out  netmon-workload",
    ] {
        assert!(report.contains(line), "{line}: {report}");
    }
}

/// A copy that another user may run.
fn copy(program: &Path, directory: &Path) -> String {
    let copy = directory.join(program.file_name().unwrap());
    fs::copy(program, &copy).unwrap();
    copy.to_str().unwrap().to_owned()
}

#[tag(root)]
#[test]
fn through_the_daemon_another_users_command_has_its_profile_by_descent() {
    const NOBODY: u32 = 65_534;

    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let socket = directory.path().join("sock");
    let _daemon = Daemon::on(&socket, "live");
    let (cli, program) =
        (copy(Path::new(CLI), directory.path()), copy(&workload::program(), directory.path()));
    let netns = Netns::create();
    let (_listener, address) = listener(&netns);
    let as_nobody = |words: &[&str]| {
        let mut command = netns.command("setpriv");
        command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "--"]);
        command.args(words);
        command
    };
    let mut noise = as_nobody(&[&program, "many", "40", "--", "connect", &address.to_string()])
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    // Who starts others is seen if it lives for a while; they themselves need not.
    let orphan = format!(
        "cd '{}'; '{program}' many 20 -- connect --close-delay 20 {address}; \
         (setsid sh -c \"sleep 0.1; '{program}' connect {address}; exec >/dev/null; : >done\" &); \
         while [ ! -e done ]; do sleep 0.02; done",
        directory.path().display()
    );
    let source = format!("unix:{}", socket.display());
    let profile = Profile::of(&mut as_nobody(&[
        &cli, "--source", &source, "-o", "json", "run", "--report", "FILE", "--", "sh", "-c", &orphan,
    ]));
    assert!(noise.wait().unwrap().success());

    profile.assert_exact(21);
    assert_eq!(profile.json["membership"]["by"], "descent");
    let warnings = profile.json["coverage"]["warnings"].to_string();
    assert!(warnings.contains("told by their descent"), "{warnings}");
    assert!(warnings.contains("only connections of your own processes are shown"), "{warnings}");
}
