//! `docs/kernels.md`, made of what is expected (`kernels/expected.json`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use netmon_core::fact::Status;

use crate::{
    Result,
    job::SITUATIONS,
    packages::Kernel,
    report::{Expectation, Findings, Found, Report},
};

/// Where the expectation is.
pub fn expectation_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("expected.json")
}

/// Where the document is.
pub fn document_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kernels.md")
}

/// What is expected.
///
/// # Errors
/// Where the file cannot be read or understood.
pub fn read() -> Result<Expectation> {
    match fs::read_to_string(expectation_file()) {
        Ok(text) => Ok(serde_json::from_str(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Expectation::default()),
        Err(error) => Err(error.into()),
    }
}

/// Writes both files.
///
/// # Errors
/// Where one cannot be written.
pub fn write(expectation: &Expectation) -> Result<()> {
    fs::write(expectation_file(), serde_json::to_string_pretty(expectation)? + "\n")?;
    Ok(fs::write(document_file(), markdown(expectation))?)
}

const HEAD: &str = "\
# netmon on Linux kernels

What works where, as `./x kernels` found it: each stock kernel of Debian is booted in a virtual machine with the release
programs, asked by `netmon-cli doctor -o json`, and tried with connections, datagrams and drops whose truth is known. The run
fails where something works less than here. This file is made from `kernels/expected.json`; `NETMON_UPDATE=1 ./x kernels`
writes both anew.

The machines are emulated, each with one processor, and slow: programs are interrupted there far more often than elsewhere.
Where tracepoints let processes be interrupted (the newest kernel), the kernel then leaves other runs of the same program out;
it counts them, and answers say so.

`./x kernels aarch64` builds everything for that processor, by Debian's cross compiler, and runs doctor and the kernel tests on
Debian's kernel for it, in an emulated machine too: on Linux 6.12 all features work, and 149 of the 152 tests of the library
pass; the other three want a faster machine.

*fallback*: by other means, with less; *missing*: not there, and every answer says so with the reason.
";

/// The document.
pub fn markdown(expectation: &Expectation) -> String {
    let kernels: Vec<(&str, &Report)> = Kernel::ALL
        .into_iter()
        .filter_map(|kernel| Some((kernel.name(), expectation.kernels.get(kernel.name())?)))
        .collect();
    let mut text = HEAD.to_owned();
    let releases: Vec<_> =
        kernels.iter().map(|(name, report)| format!("{name}: {}", report.release)).collect();
    text.push_str(&format!("\nKernels: {}.\n", releases.join("; ")));

    text.push_str("\n## As root\n\n");
    text.push_str(&found_table("feature", &kernels, "root", |findings| &findings.features, Rows::All));
    text.push('\n');
    text.push_str(&found_table("hook", &kernels, "root", |findings| &findings.hooks, Rows::All));
    text.push('\n');
    text.push_str(&found_table("tried", &kernels, "root", |findings| &findings.tried, Rows::All));
    text.push_str(&reasons(&kernels, "root", None));

    text.push_str(
        "\n## Owners\n\nOf how many netmon named the process that the process itself tells: 200 clients, one process a \
         connection; the\nfour children of the server that accept from their parent's listener (*inherited*: the listener's \
         owner is named, and\nsaid to be no more than that); 61 processes that send one datagram each.\n\n",
    );
    text.push_str(&owners_table(&kernels));

    for situation in SITUATIONS.into_iter().filter(|situation| !["root", "system_calls"].contains(situation))
    {
        if kernels.iter().all(|(_, report)| !report.situations.contains_key(situation)) {
            continue;
        }
        text.push_str(&format!("\n## {}\n\n{}", title(situation), how(situation)));
        let tables = [
            found_table("feature", &kernels, situation, |findings| &findings.features, Rows::Different),
            found_table("hook", &kernels, situation, |findings| &findings.hooks, Rows::Different),
            found_table("tried", &kernels, situation, |findings| &findings.tried, Rows::Different),
        ];
        let tables: Vec<_> = tables.into_iter().filter(|table| !table.is_empty()).collect();
        match tables.is_empty() {
            true => text.push_str("All is as for root.\n"),
            false => text.push_str(&format!("What differs from root:\n\n{}", tables.join("\n"))),
        }
        text.push_str(&reasons(&kernels, situation, Some("root")));
    }

    text.push_str("\n## Kernel tests\n\nThe project's own tests of kernels, as `./x test` runs them, in the machine.\n\n");
    text.push_str(&suite_table(&kernels));
    text
}

/// What a situation is called.
fn title(situation: &str) -> &str {
    match situation {
        "root" => "root",
        "system_calls" => "root, `--source live:system-calls`",
        "capabilities" => "With CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON only",
        "no_capabilities" => "Without capabilities",
        "cgroup_v1" => "Control groups of version 1 only",
        "no_btf" => "Without BTF",
        "lockdown" => "`lockdown=confidentiality`",
        other => other,
    }
}

/// How a situation is made, where that is not plain.
fn how(situation: &str) -> &str {
    match situation {
        "cgroup_v1" => "No hierarchy of version 2 is mounted where netmon runs, but one of version 1.\n\n",
        "no_btf" => "All of Debian's kernels have BTF; netmon runs where `/sys/kernel/btf` is empty.\n\n",
        "lockdown" => "Set in `/sys/kernel/security/lockdown` before netmon is started.\n\n",
        _ => "",
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    All,
    /// Those in which some kernel differs from what it does for root.
    Different,
}

fn header(first: &str, kernels: &[(&str, &Report)]) -> String {
    let names: Vec<_> = kernels.iter().map(|(name, _)| *name).collect();
    format!("| {first} | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(kernels.len()))
}

/// One row for each name that some kernel tells of; empty where there is none.
fn found_table(
    what: &str,
    kernels: &[(&str, &Report)],
    situation: &str,
    pick: fn(&Findings) -> &BTreeMap<String, Found>,
    rows: Rows,
) -> String {
    let of = |report: &Report, situation: &str, name: &str| {
        report.situations.get(situation).and_then(|findings| pick(findings).get(name)).cloned()
    };
    let names: BTreeSet<_> = kernels
        .iter()
        .filter_map(|(_, report)| report.situations.get(situation))
        .flat_map(|findings| pick(findings).keys())
        .collect();
    let lines: String = names
        .into_iter()
        .filter(|name| {
            let status = |report: &Report, situation| of(report, situation, name).map(|found| found.status);
            let differs = |report: &Report| {
                report.situations.contains_key(situation)
                    && status(report, situation) != status(report, "root")
            };
            rows == Rows::All || kernels.iter().any(|(_, report)| differs(report))
        })
        .map(|name| {
            let cells: Vec<_> =
                kernels.iter().map(|(_, report)| cell(of(report, situation, name).as_ref())).collect();
            format!("| {} | {} |\n", name.replace('_', " "), cells.join(" | "))
        })
        .collect();
    if lines.is_empty() { lines } else { header(what, kernels) + &lines }
}

fn cell(found: Option<&Found>) -> String {
    match found {
        None => "-".to_owned(),
        Some(found) => match (found.status, &found.by) {
            (Status::Works, _) => "works".to_owned(),
            (Status::Degraded, Some(by)) => format!("fallback: {}", by.replace('_', " ")),
            (Status::Degraded, None) => "fallback".to_owned(),
            (Status::Missing, _) => "**missing**".to_owned(),
        },
    }
}

/// Why what does not work does not, each reason once; those that hold for another situation too are left out.
fn reasons(kernels: &[(&str, &Report)], situation: &str, known: Option<&str>) -> String {
    let of = |situation: &str| {
        let mut reasons: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for (_, report) in kernels {
            let Some(findings) = report.situations.get(situation) else { continue };
            for (name, found) in findings.hooks.iter().chain(&findings.tried) {
                if let Some(reason) = found.reason.as_ref().filter(|_| found.status != Status::Works) {
                    reasons.entry(reason.clone()).or_default().insert(name);
                }
            }
        }
        reasons
    };
    let known = known.map(of).unwrap_or_default();
    let mut text = String::new();
    for (reason, names) in of(situation).into_iter().filter(|(reason, _)| !known.contains_key(reason)) {
        let names: Vec<_> = names.into_iter().map(|name| name.replace('_', " ")).collect();
        text.push_str(&format!("- {}: {}\n", names.join(", "), reason.replace('|', "\\|")));
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

fn owners_table(kernels: &[(&str, &Report)]) -> String {
    let mut text = header("situation", kernels).replacen("| situation |", "| situation | of |", 1).replacen(
        "|---|",
        "|---|---|",
        1,
    );
    for situation in SITUATIONS {
        for side in ["clients", "servers", "senders"] {
            let of = |report: &Report| Some(report.situations.get(situation)?.owners.get(side)?.to_string());
            if kernels.iter().all(|(_, report)| of(report).is_none()) {
                continue;
            }
            let cells: Vec<_> =
                kernels.iter().map(|(_, report)| of(report).unwrap_or_else(|| "-".to_owned())).collect();
            let named = if side == "clients" { title(situation) } else { "" };
            text.push_str(&format!("| {named} | {side} | {} |\n", cells.join(" | ")));
        }
    }
    let said: String = kernels
        .iter()
        .flat_map(|(kernel, report)| {
            report.situations.iter().map(move |(situation, findings)| (kernel, situation, findings))
        })
        .filter_map(|(kernel, situation, findings)| {
            Some(format!(
                "- {kernel}, {}: the answer itself says that {}\n",
                title(situation),
                findings.said_lost.as_ref()?
            ))
        })
        .collect();
    if said.is_empty() { text } else { format!("{text}\n{said}") }
}

fn suite_table(kernels: &[(&str, &Report)]) -> String {
    let counted = |report: &Report| match (report.suite.passed, report.suite.not_here.len()) {
        (0, 0) => "not run yet".to_owned(),
        (passed, not_here) => format!("{passed} of {}", passed + not_here as u64),
    };
    let cells: Vec<_> = kernels.iter().map(|(_, report)| counted(report)).collect();
    let mut text = format!("{}| pass | {} |\n", header("", kernels), cells.join(" | "));
    let mut others: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (kernel, report) in kernels {
        for (test, why) in &report.suite.not_here {
            others.entry((test, why)).or_default().push(kernel);
        }
    }
    if !others.is_empty() {
        text.push_str("\n| not on | test | why |\n|---|---|---|\n");
    }
    for ((test, why), kernels) in others {
        let (file, name) = test.split_once(' ').unwrap_or(("", test));
        text.push_str(&format!(
            "| {} | `{file}`: {name} | {} |\n",
            kernels.join(", "),
            why.replace('|', "\\|")
        ));
    }
    text
}
