//! docs/versus.md, from the results.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
};

use crate::{
    measured::{Line, Measured, Run, Tool},
    sighting::Owners,
    workload::Kind,
};

/// Repeated measurements of one thing.
#[derive(Debug, Clone, Default)]
struct Sample(Vec<f64>);

impl Sample {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    fn median(&self) -> Option<f64> {
        let last = self.0.len().checked_sub(1)?;
        Some((self.0[last / 2] + self.0[last.div_ceil(2)]) / 2.0)
    }

    /// `2.1 (1.9..2.4)`, and only `2.1` where all say the same; a dash for nothing.
    fn shown(&self, digits: usize) -> String {
        let (Some(median), Some(low), Some(high)) = (self.median(), self.0.first(), self.0.last()) else {
            return "-".to_owned();
        };
        let number = |value: f64| format!("{value:.digits$}");
        let (median, low, high) = (number(median), number(*low), number(*high));
        if low == high { median } else { format!("{median} ({low}..{high})") }
    }

    /// Whether it is clearly less, beyond what the rounds differ by.
    fn is_below(&self, other: &Self) -> bool {
        self.0.last().zip(other.0.first()).is_some_and(|(highest, lowest)| highest < lowest)
    }
}

/// All results, by what the tables ask.
struct Results<'a> {
    run: Run,
    tools: Vec<&'a Tool>,
    measured: Vec<&'a Measured>,
}

impl<'a> Results<'a> {
    fn of(lines: &'a [Line]) -> Self {
        let mut results = Self { run: Run::default(), tools: Vec::new(), measured: Vec::new() };
        for line in lines {
            match line {
                Line::Run(run) => results.run = run.clone(),
                // A later line of the same tool knows more.
                Line::Tool(tool) => match results.tools.iter_mut().find(|known| known.name == tool.name) {
                    Some(known) => *known = tool,
                    None => results.tools.push(tool),
                },
                Line::Measured(measured) => results.measured.push(measured),
            }
        }
        results
    }

    /// To be said of a section whose rounds are fewer, after a run that was interrupted.
    fn fewer_rounds(&self, kind: Kind) -> String {
        let rounds: BTreeSet<u32> =
            self.measured.iter().filter(|one| one.workload == Some(kind)).map(|one| one.round).collect();
        match rounds.len() {
            all if all == self.run.rounds as usize => String::new(),
            1 => "from one round; ".to_owned(),
            some => format!("from {some} rounds; "),
        }
    }

    fn has(&self, kind: Kind) -> bool {
        self.measured.iter().any(|one| one.workload == Some(kind))
    }

    /// Those that ran, in the order of the list.
    fn ran(&self, kind: Kind) -> Vec<&'a str> {
        let ran = |tool: &&&Tool| {
            self.measured.iter().any(|one| one.tool == tool.name && one.workload == Some(kind))
        };
        self.tools.iter().filter(ran).map(|tool| tool.name.as_str()).collect()
    }

    fn of_tool(&self, kind: Kind, tool: &str) -> impl Iterator<Item = &'a Measured> {
        let (kind, tool) = (Some(kind), tool.to_owned());
        let all: Vec<&Measured> = self.measured.clone();
        all.into_iter().filter(move |one| one.workload == kind && one.tool == tool)
    }

    fn sample(&self, kind: Kind, tool: &str, value: impl Fn(&Measured) -> Option<f64>) -> Sample {
        Sample::of(self.of_tool(kind, tool).filter_map(value))
    }

    fn tells_owners(&self, kind: Kind, tool: &str) -> bool {
        self.of_tool(kind, tool).any(|one| one.owners.is_some())
    }

    /// `200 / 0 / 0`: right, unknown, wrong.
    fn owners(&self, kind: Kind, tool: &str) -> String {
        if !self.tells_owners(kind, tool) {
            return "-".to_owned();
        }
        let of =
            |part: fn(Owners) -> u64| self.sample(kind, tool, |one| Some(part(one.owners?) as f64)).shown(0);
        format!("{} / {} / {}", of(|one| one.right), of(|one| one.unknown + one.unseen), of(|one| one.wrong))
    }
}

/// A table of Markdown.
struct Table(String);

impl Table {
    fn new(titles: &[&str]) -> Self {
        let mut text = format!("| {} |\n", titles.join(" | "));
        let _ = writeln!(text, "|{}", "---|".repeat(titles.len()));
        Self(text)
    }

    fn row(&mut self, cells: &[String]) {
        let _ = writeln!(self.0, "| {} |", cells.join(" | "));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn bold_ours(tool: &str) -> String {
    if tool.starts_with("netmon") { format!("**{tool}**") } else { tool.to_owned() }
}

const OWNER_KINDS: [Kind; 4] = [Kind::OneShot, Kind::Accepted, Kind::Prefork, Kind::UdpSenders];

/// A figure that tables compare.
struct Figure {
    kind: Kind,
    title: &'static str,
    value: fn(&Measured) -> Option<f64>,
    less_is_better: bool,
    digits: usize,
}

fn right(one: &Measured) -> Option<f64> {
    Some(one.owners?.right as f64)
}

/// Half of what is missing counts as much as twice of it too much.
fn distance(bytes: f64) -> f64 {
    (bytes - 1.0).abs()
}

const fn less(kind: Kind, title: &'static str, digits: usize, value: fn(&Measured) -> Option<f64>) -> Figure {
    Figure { kind, title, value, less_is_better: true, digits }
}

const fn more(kind: Kind, title: &'static str, digits: usize, value: fn(&Measured) -> Option<f64>) -> Figure {
    Figure { kind, title, value, less_is_better: false, digits }
}

const FIGURES: &[Figure] = &[
    more(Kind::OneShot, "right owners", 0, right),
    more(Kind::Accepted, "right owners", 0, right),
    more(Kind::Prefork, "right owners", 0, right),
    more(Kind::UdpSenders, "right owners", 0, right),
    less(Kind::Packets, "CPU, % of a core", 2, |one| one.cpu_percent),
    less(Kind::Packets, "memory, MB", 1, |one| one.resident_mb),
    less(Kind::Packets, "CPU time of the traffic itself", 2, |one| one.traffic_cpu),
    less(Kind::Packets, "error of the bytes", 3, |one| one.bytes.map(distance)),
    more(Kind::Bulk, "speed of the traffic", 2, |one| one.speed),
    less(Kind::Bulk, "CPU, % of a core", 1, |one| one.cpu_percent),
    less(Kind::Bulk, "error of the bytes", 3, |one| one.bytes.map(distance)),
    more(Kind::Storm, "speed of the traffic", 2, |one| one.speed),
    less(Kind::Storm, "CPU, % of a core", 1, |one| one.cpu_percent),
    less(Kind::Storm, "memory, MB", 1, |one| one.resident_mb),
    more(Kind::Storm, "connections told", 2, |one| one.told.map(|told| told.min(1.0))),
    more(Kind::Sockets, "right owners", 0, right),
    less(Kind::Sockets, "time to list all, s", 2, |one| one.seconds),
    less(Kind::Sockets, "CPU, % of a core", 1, |one| one.cpu_percent),
    less(Kind::Sockets, "memory, MB", 1, |one| one.resident_mb),
];

/// Why netmon is not the best, where that is known.
const REASONS: &[(Kind, &str, &str)] = &[
    (Kind::Packets, "memory, MB", RESIDENT),
    (Kind::Sockets, "memory, MB", RESIDENT),
    (
        Kind::Storm,
        "memory, MB",
        "netmond remembers each of these connections, both ends, for later questions, up to its memory limit; netmon-cli holds \
         what it has not printed yet",
    ),
    (
        Kind::Packets,
        "CPU, % of a core",
        "what takes less does not look at datagrams, or looks once a second; netmon's time is that of reading the socket's \
         counters now and then",
    ),
    (
        Kind::Bulk,
        "speed of the traffic",
        "no program runs for a TCP packet, as bytes are the kernel's own counters; one runs for each call that sends or \
         receives, to see who does it",
    ),
    (
        Kind::Bulk,
        "CPU, % of a core",
        "what takes less looks once a second, or sees only connections that end",
    ),
    (
        Kind::Storm,
        "CPU, % of a core",
        "a record for each end of each connection is taken and kept; what takes less tells of few of them",
    ),
    (
        Kind::Storm,
        "speed of the traffic",
        "several programs run for each connection, so that owner, outcome and bytes are known; what slows less does not follow \
         connections, or only their end",
    ),
    (
        Kind::Packets,
        "CPU time of the traffic itself",
        "two programs run for each datagram, one where it is sent and one where it is received, to know whose it is; what takes \
         less does not look at datagrams",
    ),
    (
        Kind::Sockets,
        "CPU, % of a core",
        "the counters of open connections are read now and then; what takes less looks at packets only, of which there are none",
    ),
];

/// Where netmon's resident memory is.
const RESIDENT: &str = "of netmond's resident memory some 10 MB are its program, which also holds TLS, HTTP and the API's \
     document; 4 MB are one ring of 2 MB for the kernel's records, which is mapped twice in a row; 1 to 3 MB are \
     its own";

/// The whole page.
pub(crate) fn document(lines: &[Line]) -> String {
    let results = Results::of(lines);
    let run = &results.run;
    let mut text = String::from(INTRODUCTION);
    let _ = write!(
        text,
        "\nThe figures below are medians of **{} rounds** in which all tools take turns, with the lowest and the highest in \
         brackets where they differ. Linux {}, {} CPUs ({}); busy before the run: {} %.{}\n",
        run.rounds,
        run.kernel,
        run.cpus,
        run.cpu,
        run.busy_before,
        match (run.rounds, run.busy_before) {
            (_, 20..) => {
                " **Others used the machine meanwhile: owners, bytes and memory stand, speed and CPU time are to be measured again.**"
            }
            (..5, _) => " So few rounds tell large differences only.",
            _ => "",
        },
    );
    text += "\n## In short\n\n";
    text += &short(&results);
    text += "\n## Where netmon is not the best\n\n";
    text += &not_the_best(&results);
    text += &tables_of(&results);
    text += "\n## The tools\n\n";
    text += &tools_table(&results);
    text += CLOSING;
    text
}

/// The tables alone, for a part of a run.
pub(crate) fn tables(lines: &[Line]) -> String {
    let results = Results::of(lines);
    let mut text = String::new();
    if results.run.quick {
        text += "\nQuick: shorter, and fewer of each, than the tables' titles say.\n";
    }
    text += &tables_of(&results);
    let failures = failures(&results);
    if !failures.is_empty() {
        let _ = write!(text, "\n{failures}");
    }
    text
}

const INTRODUCTION: &str = "\
# netmon beside other tools

Who tells the right process, counts the right bytes, and at what cost: netmon and the tools that answer similar questions, each
watching the same traffic. `./x versus` installs what is missing, measures, and writes this page; `./x versus --list` names the
tools, and each section has the command for its own figures. It needs root, and makes all its traffic in network namespaces of
its own.
";

const CLOSING: &str = "
## How it is measured

- **The traffic's own programs tell the truth**: `netmon-workload` notes, from its own system calls, which process had which
  socket and how many bytes the kernel took. Bytes of frames are the kernel's counters of the interface. A veth joins two
  namespaces; tools watch the near one. TCP leaves it in buffers of up to 64 KB, which capturing tools see as one packet each.
- **A session**: a tool is started, gets time to be ready (2.5 s where it does not say so), sees the chosen workloads one after
  the other, and is ended as by Ctrl-C. Tools that look once a second get more than a second after each of the short workloads.
  Before the session and after it the loads run without any tool: the mean of both is what *speed* and *the traffic's CPU* are
  compared with. The row *nothing* compares such runs with each other.
- **CPU** is user and system time of the tool and of all processes that it started, by /proc (`schedstat` and `stat`).
  What a tool makes the kernel do on behalf of others (capturing, BPF programs) is not in it: it is in the traffic's own CPU
  time and speed. **Memory** is the highest resident size of the same processes, looked at 20 times a second.
- **Owners**: *right* is the process by its number, or by its name where a tool tells no numbers; every client has a name of its
  own. *Unknown* includes connections that a tool did not tell of. Where it tells twice, its last word counts.
- netmon's programs see the whole host: both ends of each connection here, which costs it twice.
- Tools that say nothing of what they lost have a dash.
";

/// The sentences that the budget is about.
fn short(results: &Results<'_>) -> String {
    let mut text = String::new();
    for kind in OWNER_KINDS.into_iter().filter(|kind| results.has(*kind)) {
        let figure = |tool: &str| results.sample(kind, tool, right).median().unwrap_or(-1.0);
        let ours = figure("netmond");
        let others = results.ran(kind).into_iter().filter(|tool| !tool.starts_with("netmon"));
        let best = others
            .filter(|tool| results.tells_owners(kind, tool))
            .max_by(|one, other| figure(one).total_cmp(&figure(other)));
        let best =
            best.map(|tool| format!("; the best other tool, {tool}, {}", figure(tool))).unwrap_or_default();
        let there = results.of_tool(kind, "netmond").find_map(|one| one.owners).map_or(0, Owners::total);
        let _ =
            writeln!(text, "- {}: netmond tells {ours} of {there} owners rightly{best}.", described(kind));
    }
    if results.has(Kind::Packets) {
        for tool in ["netmond", "netmon-cli"] {
            let cpu = results.sample(Kind::Packets, tool, |one| one.cpu_percent);
            let memory = results.sample(Kind::Packets, tool, |one| one.resident_mb);
            let verdict = |sample: &Sample, most: f64| {
                sample
                    .median()
                    .map_or("not measured", |median| if median <= most { "kept" } else { "exceeded" })
            };
            let _ = writeln!(
                text,
                "- 50,000 packets a second: {tool} takes {} % of a core (budget of 2 %: {}) and {} MB (budget of 20 MB: {}).",
                cpu.shown(2),
                verdict(&cpu, 2.0),
                memory.shown(1),
                verdict(&memory, 20.0),
            );
        }
    }
    let failed: Vec<String> =
        results.tools.iter().filter(|tool| tool.failure.is_some()).map(|tool| tool.name.clone()).collect();
    if !failed.is_empty() {
        let _ = writeln!(
            text,
            "- Not running here, for reasons of their own, see [the tools](#the-tools): {}.",
            failed.join(", ")
        );
    }
    text
}

fn described(kind: Kind) -> &'static str {
    match kind {
        Kind::OneShot => "200 processes that connect once and end",
        Kind::Accepted => "200 connections that one process accepts",
        Kind::Prefork => "200 connections that the workers of a pre-forking server accept",
        Kind::UdpSenders => "61 processes that send five datagrams each",
        Kind::Packets => "50,000 datagrams a second",
        Kind::Bulk => "one connection as fast as it goes",
        Kind::Storm => "connects and closes as fast as they go",
        Kind::Sockets => "many open sockets",
    }
}

/// Each figure in which another tool is better, beyond what the rounds differ by.
fn not_the_best(results: &Results<'_>) -> String {
    let mut table = Table::new(&["workload", "figure", "netmond", "netmon-cli", "better", "why"]);
    let mut any = false;
    for figure in FIGURES.iter().filter(|figure| results.has(figure.kind)) {
        let sample = |tool: &str| results.sample(figure.kind, tool, figure.value);
        let ours: Vec<Sample> =
            ["netmond", "netmon-cli"].map(sample).into_iter().filter(|one| one.median().is_some()).collect();
        if ours.is_empty() {
            continue;
        }
        let better = |tool: &&str| {
            let other = sample(tool);
            ours.iter()
                .all(|ours| if figure.less_is_better { other.is_below(ours) } else { ours.is_below(&other) })
        };
        let others =
            results.ran(figure.kind).into_iter().filter(|tool| !tool.starts_with("netmon")).filter(better);
        let others: Vec<String> =
            others.map(|tool| format!("{tool} {}", sample(tool).shown(figure.digits))).collect();
        if others.is_empty() {
            continue;
        }
        any = true;
        let reason = REASONS.iter().find(|(kind, title, _)| *kind == figure.kind && *title == figure.title);
        table.row(&[
            figure.kind.name().to_owned(),
            figure.title.to_owned(),
            sample("netmond").shown(figure.digits),
            sample("netmon-cli").shown(figure.digits),
            others.join("; "),
            reason.map_or("not looked into yet", |(_, _, reason)| *reason).to_owned(),
        ]);
    }
    if any {
        format!(
            "Better are only tools whose worst round is better than the best one of both of netmon's programs.\n\n{table}"
        )
    } else {
        "In no figure was another tool's worst round better than the best one of netmon's.\n".to_owned()
    }
}

fn tables_of(results: &Results<'_>) -> String {
    let mut text = String::new();
    if OWNER_KINDS.iter().any(|kind| results.has(*kind)) {
        text += "\n## Owners\n\n`./x versus one-shot accepted prefork udp-senders`: right / unknown / wrong. \
                 200 one-shot processes that connect; 200 connections that one process accepts and closes after the \
                 client; 200 that the four workers of a pre-forking server accept and close first; 61 processes that send five datagrams each.\n\n";
        let mut table = Table::new(&["tool", "one-shot", "accepted", "prefork", "UDP senders"]);
        for tool in results.tools.iter().filter(|tool| tool.failure.is_none()) {
            let cells = OWNER_KINDS.map(|kind| results.owners(kind, &tool.name));
            if cells.iter().any(|cell| cell != "-") {
                table.row(&[vec![bold_ours(&tool.name)], cells.to_vec()].concat());
            }
        }
        let _ = write!(text, "{table}");
    }
    if results.has(Kind::Packets) {
        text += "\n## 50,000 packets a second\n\n`./x versus packets`: datagrams of 100 bytes from one process. *Bytes* are those \
                 that the tool tells, in its own unit, as a part of those that there were.\n\n";
        let mut table =
            Table::new(&["tool", "CPU, %", "memory, MB", "traffic's CPU", "owner", "bytes", "unit"]);
        rows(results, Kind::Packets, &mut table, |tool| {
            vec![
                results.sample(Kind::Packets, tool, |one| one.cpu_percent).shown(2),
                results.sample(Kind::Packets, tool, |one| one.resident_mb).shown(1),
                results.sample(Kind::Packets, tool, |one| one.traffic_cpu).shown(2),
                verdict(results, Kind::Packets, tool),
                bytes(results, Kind::Packets, tool),
                unit(results, Kind::Packets, tool),
            ]
        });
        let _ = write!(text, "{table}");
    }
    if results.has(Kind::Bulk) {
        text += "\n## Bulk TCP\n\n`./x versus bulk`: one connection as fast as it goes. *Speed* is a part of that without a \
                 tool.\n\n";
        let mut table = Table::new(&["tool", "speed", "traffic's CPU", "CPU, %", "owner", "bytes", "unit"]);
        rows(results, Kind::Bulk, &mut table, |tool| {
            vec![
                results.sample(Kind::Bulk, tool, |one| one.speed).shown(2),
                results.sample(Kind::Bulk, tool, |one| one.traffic_cpu).shown(2),
                results.sample(Kind::Bulk, tool, |one| one.cpu_percent).shown(1),
                verdict(results, Kind::Bulk, tool),
                bytes(results, Kind::Bulk, tool),
                unit(results, Kind::Bulk, tool),
            ]
        });
        let _ = write!(text, "{table}");
    }
    if results.has(Kind::Storm) {
        text += "\n## Connect storm\n\n`./x versus storm`: one process connects and closes as fast as it can, another accepts. \
                 *Told* is how many of the connections a tool tells of; one that \
                 sums up by addresses and ports tells only one where a port was used again. \
                 *Lost* is what it says itself, of the whole session; netmond, which is asked, of this workload.\n\n";
        let mut table =
            Table::new(&["tool", "speed", "traffic's CPU", "told", "CPU, %", "memory, MB", "lost"]);
        rows(results, Kind::Storm, &mut table, |tool| {
            vec![
                results.sample(Kind::Storm, tool, |one| one.speed).shown(2),
                results.sample(Kind::Storm, tool, |one| one.traffic_cpu).shown(2),
                results.sample(Kind::Storm, tool, |one| one.told).shown(2),
                results.sample(Kind::Storm, tool, |one| one.cpu_percent).shown(1),
                results.sample(Kind::Storm, tool, |one| one.resident_mb).shown(1),
                results.sample(Kind::Storm, tool, |one| Some(one.lost? as f64)).shown(0),
            ]
        });
        let _ = write!(text, "{table}");
    }
    if results.has(Kind::Sockets) {
        let _ = write!(
            text,
            "\n## {} open sockets\n\n`./x versus sockets`: {}a tool is started beside open connections of which both ends are \
             local, and watched while nothing happens. *List* is one command that lists all of them with their owners, for those \
             that have one: right / unknown / wrong.\n\n",
            thousands(results.run.sockets),
            results.fewer_rounds(Kind::Sockets),
        );
        let mut table = Table::new(&["tool", "CPU, %", "memory, MB", "list, s", "owners"]);
        rows(results, Kind::Sockets, &mut table, |tool| {
            vec![
                results.sample(Kind::Sockets, tool, |one| one.cpu_percent).shown(1),
                results.sample(Kind::Sockets, tool, |one| one.resident_mb).shown(1),
                results.sample(Kind::Sockets, tool, |one| one.seconds).shown(2),
                results.owners(Kind::Sockets, tool),
            ]
        });
        let _ = write!(text, "{table}");
    }
    text
}

fn rows(results: &Results<'_>, kind: Kind, table: &mut Table, cells: impl Fn(&str) -> Vec<String>) {
    if kind.is_load() {
        table.row(&[vec!["*nothing*".to_owned()], cells("")].concat());
    }
    for tool in results.ran(kind) {
        table.row(&[vec![bold_ours(tool)], cells(tool)].concat());
    }
}

/// Whether the owner of the only socket was told, in words.
fn verdict(results: &Results<'_>, kind: Kind, tool: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for owners in results.of_tool(kind, tool).filter_map(|one| one.owners) {
        let word = match owners {
            Owners { right: 1.., .. } => "right",
            Owners { wrong: 1.., .. } => "wrong",
            Owners { .. } => "unknown",
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

fn bytes(results: &Results<'_>, kind: Kind, tool: &str) -> String {
    let told = results.sample(kind, tool, |one| one.bytes);
    let counts = results.of_tool(kind, tool).any(|one| one.unit.is_some());
    if counts && told.median().is_none() { "not told".to_owned() } else { told.shown(4) }
}

fn unit(results: &Results<'_>, kind: Kind, tool: &str) -> String {
    let unit = results.of_tool(kind, tool).find_map(|one| one.unit);
    unit.map_or("-", crate::sighting::Unit::name).to_owned()
}

fn thousands(number: u32) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}

fn tools_table(results: &Results<'_>) -> String {
    let mut table = Table::new(&["tool", "from", "version", "run as", "to know"]);
    for tool in &results.tools {
        let failure =
            tool.failure.as_ref().map(|failure| format!("does not run here: *{}*", in_a_cell(failure)));
        let remark = [failure, Some(tool.remark.clone()), tool.note.as_deref().map(in_a_cell)];
        let remark: Vec<String> = remark.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        table.row(&[
            bold_ours(&tool.name),
            tool.from.clone(),
            tool.version.clone().unwrap_or_else(|| "-".to_owned()),
            format!("`{}`", tool.command.trim()),
            remark.join("; "),
        ]);
    }
    table.to_string()
}

fn failures(results: &Results<'_>) -> String {
    let failed = results.tools.iter().filter_map(|tool| Some((tool, tool.failure.as_ref()?)));
    failed.fold(String::new(), |mut text, (tool, failure)| {
        let _ = writeln!(text, "{} does not run here: {failure}", tool.name);
        text
    })
}

fn in_a_cell(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_tells_how_far_its_rounds_differ() {
        let sample = |values: &[f64]| Sample::of(values.iter().copied());
        assert_eq!(sample(&[3.0, 1.0, 2.0]).shown(1), "2.0 (1.0..3.0)");
        assert_eq!(sample(&[200.0, 200.0]).shown(0), "200");
        assert_eq!(sample(&[]).shown(0), "-");
        assert!(sample(&[1.0, 2.0]).is_below(&sample(&[2.5, 9.0])));
        assert!(!sample(&[1.0, 3.0]).is_below(&sample(&[2.5, 9.0])));
    }

    fn measured(tool: &str, workload: Kind, cpu_percent: f64) -> Line {
        Line::Measured(Measured {
            tool: tool.to_owned(),
            workload: Some(workload),
            cpu_percent: Some(cpu_percent),
            resident_mb: Some(12.0),
            owners: Some(Owners { right: 1, ..Owners::default() }),
            ..Measured::default()
        })
    }

    fn tool(name: &str, failure: Option<&str>) -> Line {
        Line::Tool(Tool { name: name.to_owned(), failure: failure.map(str::to_owned), ..Tool::default() })
    }

    #[test]
    fn a_tool_that_is_better_is_named_and_one_that_fails_speaks_for_itself() {
        let lines = [
            Line::Run(Run { rounds: 1, ..Run::default() }),
            measured("netmond", Kind::Packets, 1.5),
            measured("netmon-cli", Kind::Packets, 2.5),
            measured("quick", Kind::Packets, 1.0),
            tool("netmond", None),
            tool("netmon-cli", None),
            tool("quick", None),
            tool("broken", Some("cannot | start")),
        ];
        let text = document(&lines);
        assert!(text.contains("| packets | CPU, % of a core | 1.50 | 2.50 | quick 1.00 |"), "{text}");
        assert!(text.contains("does not run here: *cannot \\| start*"), "{text}");
        assert!(text.contains("netmond takes 1.50 % of a core (budget of 2 %: kept)"), "{text}");
        assert!(text.contains("netmon-cli takes 2.50 % of a core (budget of 2 %: exceeded)"), "{text}");
        assert!(text.contains("| **netmond** | 1.50 | 12.0 | - | right | - | - |"), "{text}");
    }
}
