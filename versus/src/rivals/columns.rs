//! Tools of bcc and bpftrace that print a line for each connection, with a title above the columns.

use std::net::{IpAddr, SocketAddr};

use netmon_testkit::workload::Protocol;

use super::{Place, Report, Rival, Version, on_path};
use crate::{
    launch::{Launch, Style, Told},
    sighting::{Sighting, Unit},
};

const fn bcc(name: &'static str, launch: fn(&Place<'_>) -> Launch, unit: Option<Unit>) -> Rival {
    Rival {
        name,
        from: "Debian: bpfcc-tools",
        version: Version::Debian("bpfcc-tools"),
        launch,
        read,
        ask: None,
        list: None,
        unit,
        tells_owners: true,
        remark: "TCP only; all network namespaces",
    }
}

pub(super) const TCPLIFE_BPFCC: Rival =
    bcc("tcplife-bpfcc", |_| Launch::of(on_path("tcplife-bpfcc"), "", Style::Stream), Some(Unit::Payload));
pub(super) const TCPCONNECT_BPFCC: Rival =
    bcc("tcpconnect-bpfcc", |_| Launch::of(on_path("tcpconnect-bpfcc"), "-L", Style::Stream), None);
pub(super) const TCPTRACER_BPFCC: Rival =
    bcc("tcptracer-bpfcc", |_| Launch::of(on_path("tcptracer-bpfcc"), "", Style::Stream), None);

pub(super) const TCPLIFE_BT: Rival = Rival {
    name: "tcplife.bt",
    from: "Debian: bpftrace",
    version: Version::Debian("bpftrace"),
    launch: |_| Launch::of(on_path("tcplife.bt"), "", Style::Stream),
    ..bcc("tcplife.bt", |_| Launch::of("", "", Style::Stream), Some(Unit::Payload))
};

/// bcc's tcplife does without kprobes, but wants the headers of the running kernel; bpftrace's wants kprobes.
pub(super) const TCPLIFE_TRACEPOINT: Rival = Rival {
    name: "bpftrace",
    from: "Debian: bpftrace",
    version: Version::Debian("bpftrace"),
    launch: |place| {
        let script = place.folder.join("tcplife-tracepoint.bt");
        // What cannot be written is said by bpftrace.
        let _ = std::fs::write(&script, include_str!("../../tcplife-tracepoint.bt"));
        Launch {
            ready: Some("PID"),
            ..Launch::of(on_path("bpftrace"), &script.display().to_string(), Style::Stream)
        }
    },
    remark: "`tcplife-tracepoint.bt`: what bcc's tcplife does, as a script for bpftrace, which needs neither kernel headers nor \
             kprobes; TCP only, all network namespaces; of what was accepted it knows who closed it, if the other side did \
             so first, and else names whoever was running",
    ..TCPLIFE_BT
};

/// Columns by their titles. A name of a process may have blanks: it is what the columns around it leave.
fn read(told: &Told) -> Report {
    let mut report = Report::default();
    let mut titles: Option<Vec<&str>> = None;
    for line in told.stdout.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.contains(&"PID") && words.contains(&"COMM") {
            titles = Some(words);
        } else if let Some(titles) = &titles {
            report.sightings.extend(row(titles, &words));
        }
    }
    let lost = told.stdout.lines().chain(told.stderr.lines()).filter_map(lost_events);
    report.lost = Some(lost.sum());
    report
}

fn row(titles: &[&str], words: &[&str]) -> Option<Sighting> {
    let more = words.len().checked_sub(titles.len())?;
    let comm = titles.iter().position(|title| *title == "COMM")?;
    let value = |names: &[&str]| {
        let column = titles.iter().position(|title| names.contains(title))?;
        words.get(if column > comm { column + more } else { column }).copied()
    };
    let remote: IpAddr = value(&["RADDR", "DADDR"])?.parse().ok()?;
    let remote_port = value(&["RPORT", "DPORT"])?.parse().ok()?;
    let bytes = |bytes: &str, kilobytes: &str| {
        let exact = value(&[bytes]).and_then(|text| text.parse::<u64>().ok());
        exact.or_else(|| Some(value(&[kilobytes])?.parse::<u64>().ok()? * 1024))
    };
    Some(Sighting {
        protocol: Some(Protocol::Tcp),
        local_port: Some(value(&["LPORT", "SPORT"])?.parse().ok()?),
        remote: Some(SocketAddr::new(remote, remote_port)),
        pid: value(&["PID"])?.parse().ok(),
        name: words.get(comm..=comm + more).map(|parts| parts.join(" ")),
        sent: bytes("TX", "TX_KB"),
        received: bytes("RX", "RX_KB"),
    })
}

/// `Possibly lost 12 samples` of bcc, `Lost 12 events` of bpftrace.
fn lost_events(line: &str) -> Option<u64> {
    let rest = line.trim().strip_prefix("Possibly lost ").or_else(|| line.trim().strip_prefix("Lost "))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(stdout: &str) -> Report {
        read(&Told { stdout: stdout.to_owned(), ..Told::default() })
    }

    fn seen(local_port: u16, pid: u32, name: &str, bytes: Option<(u64, u64)>) -> Sighting {
        Sighting {
            protocol: Some(Protocol::Tcp),
            local_port: Some(local_port),
            remote: Some(SocketAddr::from(([10, 77, 0, 2], 20001))),
            pid: Some(pid),
            name: Some(name.to_owned()),
            sent: bytes.map(|bytes| bytes.0),
            received: bytes.map(|bytes| bytes.1),
        }
    }

    #[test]
    fn lines_of_tcplife_have_kilobytes() {
        let told = "PID   COMM       LADDR           LPORT RADDR           RPORT TX_KB RX_KB MS\n\
                    22597 recordProg 10.77.0.1       46644 10.77.0.2       20001     3     1 0.23\n";
        assert_eq!(report(told).sightings, [seen(46644, 22597, "recordProg", Some((3072, 1024)))]);
    }

    #[test]
    fn lines_of_tcptracer_and_tcpconnect_have_none() {
        let told = "Tracing TCP established connections. Ctrl-C to end.\n\
                    T  PID    COMM             IP SADDR            DADDR            SPORT  DPORT\n\
                    C  28943  telnet           4  10.77.0.1        10.77.0.2        52588  20001\n";
        assert_eq!(report(told).sightings, [seen(52588, 28943, "telnet", None)]);
        let told = "Tracing connect ... Hit Ctrl-C to end\n\
                    PID     COMM         IP SADDR            LPORT  DADDR            DPORT\n\
                    3128    curl         4  10.77.0.1        47710  10.77.0.2        20001\n";
        assert_eq!(report(told).sightings, [seen(47710, 3128, "curl", None)]);
    }

    #[test]
    fn lines_of_bpftrace_have_bytes_names_with_blanks_and_losses() {
        let told = "Attaching 3 probes...\nPID COMM LADDR LPORT RADDR RPORT TX RX\n\
                    7 my own name 10.77.0.1 40000 10.77.0.2 20001 500 1500\nLost 12 events\n";
        let report = report(told);
        assert_eq!(report.sightings, [seen(40000, 7, "my own name", Some((500, 1500)))]);
        assert_eq!(report.lost, Some(12));
    }
}
