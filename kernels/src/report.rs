//! What was found on a kernel, and how it compares with what is expected there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use netmon_core::{
    CapabilitiesAnswer, Connection, ConnectionsAnswer, PacketDrops, RatesAnswer,
    fact::{ConnectionState, Direction, Status},
};
use netmon_testkit::workload::{self, Event, Truth};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{machine::Step, ownership::Owners};

/// What is expected of all kernels, or was found on some: `kernels/expected.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// By the kernel's name.
    pub kernels: BTreeMap<String, Report>,
}

/// What was found on one kernel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The kernel's release.
    pub release: String,
    /// What works in each situation.
    pub situations: BTreeMap<String, Findings>,
    /// The project's own kernel tests.
    pub suite: Suite,
}

/// What works in one situation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// Features, as doctor tells.
    pub features: BTreeMap<String, Found>,
    /// Hooks, as doctor tells.
    pub hooks: BTreeMap<String, Found>,
    /// What was tried with the programs.
    pub tried: BTreeMap<String, Found>,
    /// Whose connections and datagrams they were.
    pub owners: BTreeMap<String, Owners>,
    /// What the answer itself says that it lacks: then owners may be unknown that are known another time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said_lost: Option<String>,
}

/// Whether something works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Whether it does.
    pub status: Status,
    /// By which hook, where it could be several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why not, or not wholly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Found {
    fn works() -> Self {
        Self { status: Status::Works, by: None, reason: None }
    }

    fn missing(reason: impl Into<String>) -> Self {
        Self { status: Status::Missing, by: None, reason: Some(reason.into()) }
    }

    fn degraded(reason: impl Into<String>) -> Self {
        Self { status: Status::Degraded, by: None, reason: Some(reason.into()) }
    }
}

/// The project's own kernel tests on a kernel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Suite {
    /// How many passed.
    pub passed: u64,
    /// Those that did not, and why they cannot there.
    pub not_here: BTreeMap<String, String>,
}

impl Suite {
    /// From what the machine told.
    pub fn of(steps: &[Step]) -> Self {
        let mut suite = Self::default();
        for step in steps.iter().filter(|step| step.name.contains(":root:")) {
            if step.passed() && step.stdout.contains("1 passed") {
                suite.passed += 1;
            } else {
                suite.not_here.insert(step.name.replace("::root::test", ""), why(step));
            }
        }
        suite
    }
}

/// The line in which a test says why it failed.
fn why(step: &Step) -> String {
    let mut lines = step.stdout.lines().chain(step.stderr.lines());
    let panic =
        lines.find(|line| line.contains(" panicked at ")).map(|_| lines.next().unwrap_or_default().trim());
    let ended = match step.status {
        Some(124 | 137) => "it took too long".to_owned(),
        Some(status) => format!("status {status}"),
        None => "the machine ended".to_owned(),
    };
    let why = panic.filter(|line| !line.is_empty()).map_or(ended, ToOwned::to_owned);
    why.chars().take(300).collect()
}

impl Findings {
    /// From what the machine told of a situation.
    pub fn of(situation: &str, steps: &[Step]) -> Self {
        let steps = Steps { situation, steps };
        let mut findings = Self::default();
        match steps.answer::<CapabilitiesAnswer>("doctor") {
            Ok(doctor) => findings.take_doctor(&doctor),
            Err(why) => {
                findings.tried.insert("doctor".to_owned(), Found::missing(why));
            }
        }
        let connections = steps.answer::<ConnectionsAnswer>("connections");
        let rows = connections.as_ref().map(|answer| answer.connections.as_slice()).unwrap_or_default();
        let servers = steps.truths("servers");
        let senders = steps.truths("senders");
        findings.owners = BTreeMap::from([
            ("clients".to_owned(), Owners::of("client", &servers, rows)),
            ("servers".to_owned(), Owners::of("worker", &servers, rows)),
            ("senders".to_owned(), Owners::of("sender", &senders, rows)),
        ]);
        findings.said_lost = connections.as_ref().ok().and_then(|answer| {
            let coverage = &answer.header.coverage;
            let lost =
                (coverage.lost_events > 0).then(|| format!("{} events were lost", coverage.lost_events));
            lost.or_else(|| coverage.warnings.iter().find(|warning| warning.contains(LEFT_OUT)).cloned())
        });
        let tried = [
            ("daemon", steps.passed("ready").and_then(|()| steps.passed("end"))),
            ("nothing_left", steps.passed("left")),
            ("workload", steps.passed("servers").and_then(|()| steps.passed("senders"))),
            ("connections", connections.as_ref().map(|_| ()).map_err(Clone::clone)),
            ("failures", steps.refused(rows)),
            ("sockets", steps.passed("sockets")),
            ("summary", steps.passed("summary")),
            ("drops", steps.drops()),
            ("mcp", steps.mcp()),
        ];
        for (name, outcome) in tried {
            findings.tried.insert(name.to_owned(), outcome.map_or_else(Found::missing, |()| Found::works()));
        }
        findings.tried.insert("rates".to_owned(), steps.rates());
        findings
    }

    fn take_doctor(&mut self, doctor: &CapabilitiesAnswer) {
        for feature in &doctor.features {
            let found = Found {
                status: feature.status,
                by: feature.hook.map(|hook| hook.name().to_owned()),
                reason: feature.reason.clone(),
            };
            self.features.insert(name(&feature.feature), found);
        }
        for hook in &doctor.hooks {
            let found = Found { status: hook.status, by: None, reason: hook.reason.clone() };
            self.hooks.insert(hook.hook.name().to_owned(), found);
        }
    }
}

/// What JSON calls a feature.
fn name(feature: &impl Serialize) -> String {
    serde_json::to_value(feature)
        .ok()
        .and_then(|name| name.as_str().map(ToOwned::to_owned))
        .unwrap_or_default()
}

/// What a machine told of one situation.
struct Steps<'a> {
    situation: &'a str,
    steps: &'a [Step],
}

impl Steps<'_> {
    fn get(&self, name: &str) -> Result<&Step, String> {
        let full = format!("{}/{name}", self.situation);
        self.steps
            .iter()
            .find(|step| step.name == full)
            .ok_or_else(|| "the machine did not come to it".to_owned())
    }

    fn passed(&self, name: &str) -> Result<(), String> {
        let step = self.get(name)?;
        if step.passed() { Ok(()) } else { Err(said(step)) }
    }

    /// An answer in JSON; doctor exits with 1 where something is missing.
    fn answer<T: DeserializeOwned>(&self, name: &str) -> Result<T, String> {
        let step = self.get(name)?;
        serde_json::from_str(&step.stdout).map_err(|error| match step.stdout.trim() {
            "" => said(step),
            _ => format!("its answer was not understood: {error}"),
        })
    }

    fn truths(&self, name: &str) -> Vec<Truth> {
        let told = self.get(name).map(|step| step.stdout.as_str()).unwrap_or_default();
        told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The connection that was refused is there, with its error and its process.
    fn refused(&self, rows: &[Connection]) -> Result<(), String> {
        let truths = self.truths("refused");
        let clients = workload::all(&truths, Event::Done, "client");
        let client = clients.first().ok_or("nothing was refused")?;
        let row = rows.iter().find(|row| {
            row.state == ConnectionState::Failed
                && row.process.as_ref().is_some_and(|process| process.pid == client.pid)
        });
        let row = row.ok_or("the refused connection is not among the rows")?;
        match row.error.as_ref().map(|error| error.name.as_str()) {
            Some("ECONNREFUSED") => Ok(()),
            other => Err(format!("its error is {other:?}")),
        }
    }

    /// The datagrams that nobody heard are counted as dropped.
    fn drops(&self) -> Result<(), String> {
        let drops: PacketDrops = self.answer("drops")?;
        let to_nobody = drops.drops.iter().filter(|row| row.local_port == Some(UNHEARD_PORT));
        let packets: u64 = to_nobody.map(|row| row.packets).sum();
        if packets == UNHEARD { Ok(()) } else { Err(format!("{packets} of {UNHEARD} were counted")) }
    }

    fn mcp(&self) -> Result<(), String> {
        let step = self.get("mcp")?;
        let mut answers =
            step.stdout.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let answer = answers.rfind(|answer| answer["id"] == 2).ok_or_else(|| said(step))?;
        if answer["result"]["isError"] == true || answer["error"].is_object() {
            return Err(answer.to_string().chars().take(300).collect());
        }
        Ok(())
    }

    /// The kernel's own counters tell of what was sent over the loopback, and BPF's of the same by protocol, in windows
    /// that follow each other.
    fn rates(&self) -> Found {
        let told = match self.get("rates") {
            Ok(step) if step.stdout.trim().is_empty() => return Found::missing(said(step)),
            Ok(step) => &step.stdout,
            Err(why) => return Found::missing(why),
        };
        let windows: Vec<_> =
            told.lines().filter_map(|line| serde_json::from_str::<RatesAnswer>(line).ok()).collect();
        let rows = windows.iter().flat_map(|window| &window.rates);
        let rows: Vec<_> = rows.filter(|rate| rate.direction == Direction::Incoming).collect();
        let packets: u64 = rows.iter().map(|row| row.packets).sum();
        let datagrams: Option<u64> =
            rows.iter().map(|row| Some(row.by_protocol.as_ref()?.ipv4_udp.counted.packets)).sum();
        if packets < MEASURED {
            return Found::missing(format!("{packets} of {MEASURED} packets were counted"));
        }
        match datagrams {
            None => Found::degraded("not by protocol"),
            Some(MEASURED) => Found::works(),
            Some(datagrams) => Found::missing(format!("{datagrams} of {MEASURED} datagrams were counted")),
        }
    }
}

/// Of a warning about programs that the kernel did not run.
const LEFT_OUT: &str = "the kernel passed over";

/// What the guest sends while rates are measured, and in all to a port where nobody listens.
const MEASURED: u64 = 500;
const UNHEARD: u64 = 505;
const UNHEARD_PORT: u16 = 9;

/// What a program said of its failure, else the last thing that it said.
fn said(step: &Step) -> String {
    let mut lines = step.stderr.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let last = lines.clone().next();
    let said = lines.find_map(|line| line.strip_prefix("error: ")).or(last);
    let said = said.map_or_else(|| format!("status {:?}", step.status), ToOwned::to_owned);
    said.chars().take(300).collect()
}

/// How a report differs from what is expected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// What is worse.
    pub worse: Vec<String>,
    /// What is better, new, or otherwise than expected and said to be so.
    pub better: Vec<String>,
}

impl Differences {
    /// Compares what was found with what is expected, of the situations that were tried.
    pub fn between(expected: &Report, found: &Report) -> Self {
        let mut differences = Self::default();
        for (situation, findings) in &found.situations {
            match expected.situations.get(situation) {
                Some(expected) => differences.add_situation(situation, expected, findings),
                None => differences.better.push(format!("{situation} is not expected at all")),
            }
        }
        differences
    }

    fn add_situation(&mut self, situation: &str, expected: &Findings, found: &Findings) {
        self.add_findings(situation, expected, found);
        for (side, expected) in &expected.owners {
            let owners = found.owners.get(side).copied().unwrap_or_default();
            let line = format!("{situation}: owners of {side}: {owners}, expected {expected}");
            // Some are unknown, and the answer says so.
            let is_said =
                found.said_lost.is_some() && owners.wrong == 0 && owners.total() == expected.total();
            if owners.worse_than(expected) && !is_said {
                self.worse.push(line);
            } else if owners != *expected {
                let said = found.said_lost.as_deref().map(|said| format!(" ({said})")).unwrap_or_default();
                self.better.push(line + &said);
            }
        }
    }

    /// Compares what works in a situation, however many connections it was tried with.
    pub fn add_findings(&mut self, situation: &str, expected: &Findings, found: &Findings) {
        let groups = [
            ("feature", &expected.features, &found.features),
            ("hook", &expected.hooks, &found.hooks),
            ("tried", &expected.tried, &found.tried),
        ];
        for (what, expected, found) in groups {
            let names: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
            for name in names {
                let at = format!("{situation}: {what} {name}");
                match (expected.get(name), found.get(name)) {
                    (Some(expected), Some(found)) => self.add_found(&at, expected, found),
                    (Some(_), None) => self.worse.push(format!("{at}: nothing is told of it")),
                    (None, _) => self.better.push(format!("{at}: it is not expected at all")),
                }
            }
        }
    }

    fn add_found(&mut self, at: &str, expected: &Found, found: &Found) {
        let reason = found.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let line = format!("{at}: {}{reason}, expected {}", found.status, expected.status);
        if rank(found.status) < rank(expected.status) {
            self.worse.push(line);
        } else if found.status != expected.status {
            self.better.push(line);
        }
    }

    /// Compares some kernel tests: none fails that is not expected to.
    pub fn add_part_of_suite(&mut self, expected: &Suite, found: &Suite) {
        for (test, why) in found.not_here.iter().filter(|(test, _)| !expected.not_here.contains_key(*test)) {
            self.worse.push(format!("test {test}: {why}"));
        }
    }

    /// Compares the kernel tests.
    pub fn add_suite(&mut self, expected: &Suite, found: &Suite) {
        self.add_part_of_suite(expected, found);
        if found.passed < expected.passed {
            self.worse.push(format!("{} tests passed, expected {}", found.passed, expected.passed));
        }
        for test in expected.not_here.keys().filter(|test| !found.not_here.contains_key(*test)) {
            self.better.push(format!("test {test} passes"));
        }
    }
}

fn rank(status: Status) -> u8 {
    match status {
        Status::Works => 2,
        Status::Degraded => 1,
        Status::Missing => 0,
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.worse {
            writeln!(f, "  WORSE  {line}")?;
        }
        for line in &self.better {
            writeln!(f, "  other  {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(status: Status, right: u64) -> Report {
        let found = Found { status, by: None, reason: Some("why".to_owned()) };
        let findings = Findings {
            features: BTreeMap::from([("connections".to_owned(), found)]),
            owners: BTreeMap::from([(
                "clients".to_owned(),
                Owners { right, unknown: 200 - right, ..Owners::default() },
            )]),
            ..Findings::default()
        };
        Report { situations: BTreeMap::from([("root".to_owned(), findings)]), ..Report::default() }
    }

    #[test]
    fn what_works_less_than_expected_is_worse() {
        let differences = Differences::between(&report(Status::Works, 200), &report(Status::Degraded, 199));
        assert_eq!(
            differences.worse,
            [
                "root: feature connections: degraded (why), expected works",
                "root: owners of clients: 199/200, 1 unknown, expected 200/200"
            ]
        );
        assert_eq!(differences.better, [""; 0]);
        let back = Differences::between(&report(Status::Degraded, 199), &report(Status::Works, 200));
        assert_eq!((back.worse.len(), back.better.len()), (0, 2));
    }

    #[test]
    fn owners_that_are_said_to_be_lost_are_not_silently_worse() {
        let mut found = report(Status::Works, 199);
        found
            .situations
            .values_mut()
            .for_each(|findings| findings.said_lost = Some("2 events were lost".to_owned()));
        let differences = Differences::between(&report(Status::Works, 200), &found);
        assert_eq!(differences.worse, [""; 0]);
        assert_eq!(
            differences.better,
            ["root: owners of clients: 199/200, 1 unknown, expected 200/200 (2 events were lost)"]
        );
    }

    #[test]
    fn what_nothing_is_told_of_is_worse() {
        let mut found = report(Status::Works, 200);
        found.situations.values_mut().for_each(|findings| findings.features.clear());
        let differences = Differences::between(&report(Status::Works, 200), &found);
        assert_eq!(differences.worse, ["root: feature connections: nothing is told of it"]);
    }

    #[test]
    fn a_test_that_fails_and_is_not_listed_is_worse() {
        let step = |name: &str, status, stdout: &str| Step {
            name: name.to_owned(),
            stdout: stdout.to_owned(),
            status: Some(status),
            ..Step::default()
        };
        let panic = "thread 'a' panicked at src/a.rs:1:1:\nno such hook\nnote: run with";
        let suite = Suite::of(&[
            step("kernel_a one::root::test", 0, "test result: ok. 1 passed; 0 failed"),
            step("kernel_a two::root::test", 101, panic),
            step("kernel_a three::root::test", 124, ""),
            step("kernel", 0, ""),
        ]);
        assert_eq!(suite.passed, 1);
        assert_eq!(suite.not_here["kernel_a two"], "no such hook");
        assert_eq!(suite.not_here["kernel_a three"], "it took too long");

        let mut expected = Suite { passed: 1, ..Suite::default() };
        expected.not_here.insert("kernel_a two".to_owned(), "its hook came with 6.6".to_owned());
        expected.not_here.insert("kernel_a four".to_owned(), "because".to_owned());
        let mut differences = Differences::default();
        differences.add_suite(&expected, &suite);
        assert_eq!(differences.worse, ["test kernel_a three: it took too long"]);
        assert_eq!(differences.better, ["test kernel_a four passes"]);
    }
}
