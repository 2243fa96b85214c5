//! What a model is told: numbers, kernel's and netmon's own words, and stand-ins for all names.

use std::{collections::BTreeMap, fs, net::IpAddr};

use serde::Serialize;

use crate::{
    clean::CleanText,
    model::Pseudonyms,
    monitor::{
        SummaryAnswer,
        diagnose::{CheckOutcome, Diagnosis, Example, Finding, Number, Severity},
        patterns::{Destination, Owner},
    },
    request::ConnectionFilter,
};

/// How many rows of each list a model is told.
const ROWS: usize = 10;

/// Names of this host and of others, as a model gets them.
pub(super) enum Names {
    /// As stand-ins.
    Hidden(Box<Pseudonyms>),
    /// As they are.
    Open,
}

impl Names {
    pub(super) fn new(hidden: bool) -> Self {
        if !hidden {
            return Self::Open;
        }
        let mut pseudonyms = Pseudonyms::default();
        // People, who may be named in a question; the kernel's numbers and system accounts tell of nobody.
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        for line in users.lines() {
            let mut fields = line.split(':');
            if let (Some(name), Some(uid)) = (fields.next(), fields.nth(1))
                && uid.parse::<u32>().is_ok_and(|uid| (1000..65_534).contains(&uid))
            {
                pseudonyms.name("user", name);
            }
        }
        Self::Hidden(Box::new(pseudonyms))
    }

    /// The names that may be in a question: of this host, of what was asked for, and of the processes seen.
    pub(super) fn learn(&mut self, host: &CleanText, filter: &ConnectionFilter, seen: &[CleanText]) {
        let Self::Hidden(pseudonyms) = self else { return };
        pseudonyms.name("host", host.as_str());
        if let Some((first, _)) = host.as_str().split_once('.') {
            pseudonyms.name("host", first);
        }
        let is_name = |name: &&String| name.chars().any(char::is_alphabetic) && !name.contains(['/', ':']);
        for (kind, name) in [("process", &filter.process), ("user", &filter.user), ("host", &filter.remote)] {
            if let Some(name) = name.as_ref().filter(is_name) {
                pseudonyms.name(kind, name);
            }
        }
        for process in seen {
            pseudonyms.name("process", process.as_str());
        }
    }

    fn name(&mut self, kind: &'static str, name: &CleanText) -> String {
        match self {
            Self::Hidden(pseudonyms) => pseudonyms.name(kind, name.as_str()),
            Self::Open => name.to_string(),
        }
    }

    fn address(&mut self, address: IpAddr) -> String {
        match self {
            Self::Hidden(pseudonyms) => pseudonyms.address(address),
            Self::Open => address.to_string(),
        }
    }

    pub(super) fn text(&mut self, text: &str) -> String {
        match self {
            Self::Hidden(pseudonyms) => pseudonyms.text(text),
            Self::Open => text.to_owned(),
        }
    }

    pub(super) fn restore(&self, text: &str) -> String {
        match self {
            Self::Hidden(pseudonyms) => pseudonyms.restore(text),
            Self::Open => text.to_owned(),
        }
    }

    pub(super) fn hidden(&self) -> bool {
        matches!(self, Self::Hidden(_))
    }

    /// Which stand-ins a text has, and what for.
    pub(super) fn used_in(&self, text: &str) -> BTreeMap<String, CleanText> {
        match self {
            Self::Hidden(pseudonyms) => pseudonyms.used_in(text),
            Self::Open => BTreeMap::new(),
        }
    }

    fn process(&mut self, owner: &Owner) -> String {
        self.name("process", &owner.comm)
    }

    fn destination(&mut self, destination: &Destination) -> String {
        let address = self.address(destination.address);
        format!("{address} port {} {}", destination.port, destination.protocol)
    }
}

/// The measurements, each string of them netmon's own or a stand-in.
#[derive(Serialize)]
pub(super) struct Briefing {
    window_seconds: f64,
    findings: Vec<Told>,
    /// What was looked for and is not there.
    not_found: Vec<&'static str>,
    /// What could not be judged.
    not_judged: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<Sums>,
}

#[derive(Serialize)]
struct Told {
    rule: &'static str,
    severity: Severity,
    title: String,
    likely_cause: String,
    numbers: Vec<Number>,
    examples: Vec<Place>,
    more_examples: u64,
}

#[derive(Serialize)]
struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    numbers: Vec<Number>,
}

#[derive(Serialize)]
struct Sums {
    attempts: u64,
    failed: u64,
    connections: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_sent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_received: Option<u64>,
    errors: Vec<Errors>,
    processes: Vec<Party>,
    destinations: Vec<Party>,
}

#[derive(Serialize)]
struct Errors {
    error: String,
    count: u64,
}

#[derive(Serialize)]
struct Party {
    name: String,
    attempts: u64,
    failed: u64,
    connections: u64,
}

impl Briefing {
    pub(super) fn new(diagnosis: &Diagnosis, summary: Option<&SummaryAnswer>, names: &mut Names) -> Self {
        let rules = |outcome: CheckOutcome| {
            let checked = diagnosis.checked.iter().filter(|checked| checked.outcome == outcome);
            checked.map(|checked| checked.rule.name()).collect()
        };
        Self {
            window_seconds: diagnosis.header.window.seconds,
            findings: diagnosis.findings.iter().map(|finding| told(finding, names)).collect(),
            not_found: rules(CheckOutcome::Nothing),
            not_judged: rules(CheckOutcome::NotJudged),
            traffic: summary.map(|summary| sums(summary, names)),
        }
    }

    pub(super) fn to_json(&self) -> String {
        // Nothing in it can fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn told(finding: &Finding, names: &mut Names) -> Told {
    Told {
        rule: finding.rule.name(),
        severity: finding.severity,
        // These are netmon's own words; that nothing else is in them is looked at again.
        title: names.text(&finding.title),
        likely_cause: names.text(&finding.likely_cause),
        numbers: finding.evidence.numbers.clone(),
        examples: finding.evidence.examples.iter().map(|example| place(example, names)).collect(),
        more_examples: finding.evidence.more,
    }
}

fn place(example: &Example, names: &mut Names) -> Place {
    let mut places = Vec::new();
    if let Some(destination) = &example.destination {
        places.push(format!("to {}", names.destination(destination)));
    }
    if let Some(address) = example.address {
        places.push(format!("to {}", names.address(address)));
    }
    if let Some(port) = example.port {
        places.push(format!("to port {port}"));
    }
    if let Some(local) = &example.local {
        places.push(format!("at {} port {}", names.address(local.address), local.port));
    }
    if let Some(port) = example.local_port {
        places.push(format!("at port {port}"));
    }
    if let Some(interface) = &example.interface {
        places.push(names.name("interface", interface));
    }
    if let Some(direction) = example.direction {
        places.push(direction.to_string());
    }
    if let Some(hook) = example.hook {
        places.push(format!("hook {hook}"));
    }
    Place {
        process: example.process.as_ref().map(|owner| names.process(owner)),
        place: (!places.is_empty()).then(|| places.join(", ")),
        numbers: example.numbers.clone(),
    }
}

fn sums(summary: &SummaryAnswer, names: &mut Names) -> Sums {
    let unknown = CleanText::from("unknown");
    Sums {
        attempts: summary.total_attempts,
        failed: summary.failed,
        connections: summary.connections,
        bytes_sent: summary.payload_bytes.map(|bytes| bytes.sent),
        bytes_received: summary.payload_bytes.map(|bytes| bytes.received),
        errors: summary
            .by_error
            .iter()
            .take(ROWS)
            .map(|error| Errors { error: error.name.to_string(), count: error.count })
            .collect(),
        processes: summary
            .by_process
            .iter()
            .take(ROWS)
            .map(|row| Party {
                name: names.name("process", row.comm.as_ref().unwrap_or(&unknown)),
                attempts: row.attempts,
                failed: row.failed,
                connections: row.connections,
            })
            .collect(),
        destinations: summary
            .by_destination
            .iter()
            .take(ROWS)
            .map(|row| Party {
                name: format!(
                    "{} port {} {}",
                    names.address(row.remote.address),
                    row.remote.port,
                    row.protocol
                ),
                attempts: row.attempts,
                failed: row.failed,
                connections: row.connections,
            })
            .collect(),
    }
}
