//! One tool and its workloads: started once, measured with each, ended, and compared with the truth.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use netmon_testkit::{Side, VethPair};

use crate::{
    Result,
    launch::{Launch, Running, Told},
    measured::Measured,
    process::Meter,
    rivals::{Place, Programs, Report, Rival},
    sighting::{Owners, Sightings},
    workload::{self, Kind, OpenSockets, Outcome, Size},
};

/// What all sessions of a run share.
pub(crate) struct Setting<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) size: Size,
    /// For what tools write.
    pub(crate) folder: &'a Path,
}

/// What came of a session: lines of results, and what the tool says of itself.
#[derive(Default)]
pub(crate) struct Came {
    pub(crate) measured: Vec<Measured>,
    pub(crate) note: Option<String>,
}

/// A workload while the tool watched.
struct Watched {
    kind: Kind,
    outcome: Outcome,
    cpu_percent: f64,
    resident_mb: f64,
    /// The answer of a tool that is asked.
    answer: Option<Told>,
}

/// An empty folder of a tool's own.
fn folder(setting: &Setting<'_>, rival: &Rival) -> Result<PathBuf> {
    let folder = setting.folder.join(rival.name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("cache"))?;
    Ok(folder)
}

/// The loads among these without a tool, to compare with.
pub(crate) fn unwatched(kinds: &[Kind], size: Size) -> Result<Vec<(Kind, Outcome)>> {
    let link = VethPair::create();
    let loads = kinds.iter().copied().filter(|kind| kind.is_load());
    loads.map(|kind| Ok((kind, workload::run(kind, &link, size.unwatched())?))).collect()
}

/// The loads compared with themselves, without any tool: how far a ratio is from 1 by chance.
pub(crate) fn nothing(setting: &Setting<'_>, kinds: &[Kind]) -> Result<Vec<Measured>> {
    let (one, other) = (unwatched(kinds, setting.size)?, unwatched(kinds, setting.size)?);
    let compared = one.into_iter().zip(other).map(|((kind, one), (_, other))| Measured {
        workload: Some(kind),
        speed: one.speed.zip(other.speed).filter(|_| kind != Kind::Packets).map(|(one, other)| one / other),
        traffic_cpu: one.cpu_each.zip(other.cpu_each).map(|(one, other)| one / other),
        per_second: one.speed,
        ..Measured::default()
    });
    Ok(compared.collect())
}

/// Runs the workloads while a tool watches. The error is why it did not start.
pub(crate) fn watched(setting: &Setting<'_>, rival: &Rival, kinds: &[Kind]) -> Result<Came> {
    // Before and after, so that what changes over time falls on both.
    let mut without = unwatched(kinds, setting.size)?;
    let mut came = with_tool(setting, rival, kinds)?;
    without.extend(unwatched(kinds, setting.size)?);
    for measured in &mut came.measured {
        let alone =
            without.iter().filter(|(kind, _)| measured.workload == Some(*kind)).map(|(_, outcome)| outcome);
        let ratio = |with: Option<f64>, values: Vec<f64>| {
            Some(with? * values.len() as f64 / values.iter().sum::<f64>()).filter(|ratio| ratio.is_finite())
        };
        // At a fixed rate there is nothing to slow down.
        if measured.workload != Some(Kind::Packets) {
            let speeds = alone.clone().filter_map(|outcome| outcome.speed).collect();
            measured.speed = ratio(measured.per_second, speeds);
        }
        let times = alone.filter_map(|outcome| outcome.cpu_each).collect();
        measured.traffic_cpu = ratio(measured.traffic_cpu, times);
    }
    Ok(came)
}

fn with_tool(setting: &Setting<'_>, rival: &Rival, kinds: &[Kind]) -> Result<Came> {
    let (link, folder) = (VethPair::create(), folder(setting, rival)?);
    let place = Place {
        netns: &link.near.netns,
        interface: Side::INTERFACE,
        folder: &folder,
        programs: setting.programs,
    };
    let meter = Meter::start();
    let running = Running::start(&(rival.launch)(&place), &place, &meter, setting.size.warm_up)?;
    let mut all = Vec::new();
    for kind in kinds.iter().copied().filter(|kind| *kind != Kind::Sockets) {
        meter.take_highest_resident_bytes();
        let (start, cpu) = (Instant::now(), meter.cpu());
        let outcome = workload::run(kind, &link, setting.size)?;
        if !kind.is_load() {
            thread::sleep(rival.settle(setting.size.settle));
        }
        let cpu_percent = 100.0 * (meter.cpu() - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
        let resident_mb = meter.take_highest_resident_bytes() as f64 / 1e6;
        let answer = rival.ask.map(|ask| ask_once(&ask(&place, kind), &place)).transpose()?;
        all.push(Watched { kind, outcome, cpu_percent, resident_mb, answer });
    }
    // For the last packets, and those that look once a second.
    thread::sleep(setting.size.settle);
    let told = running.finish()?;
    let report = (rival.read)(&told);
    let measured = all.iter().map(|watched| compare(rival, watched, &report)).collect();
    Ok(Came { measured, note: report.note })
}

fn ask_once(question: &Launch, place: &Place<'_>) -> Result<Told> {
    let (stdout, _) = question.once(place.netns, place.folder)?;
    Ok(Told { stdout, ..Told::default() })
}

fn compare(rival: &Rival, watched: &Watched, report: &Report) -> Measured {
    let answer = watched.answer.as_ref().map(rival.read);
    let report = answer.as_ref().unwrap_or(report);
    let sightings = Sightings::new(&report.sightings);
    let outcome = &watched.outcome;
    let bytes = |unit| {
        let [owned] = &outcome.owned[..] else { return None };
        let there = outcome.sent_in(unit);
        sightings.sent(owned).filter(|_| there > 0).map(|told| told as f64 / there as f64)
    };
    let has_bytes = matches!(watched.kind, Kind::Packets | Kind::Bulk);
    Measured {
        tool: rival.name.to_owned(),
        workload: Some(watched.kind),
        owners: (rival.tells_owners && !outcome.owned.is_empty()).then(|| sightings.owners(&outcome.owned)),
        bytes: rival.unit.filter(|_| has_bytes).and_then(bytes),
        unit: rival.unit.filter(|_| has_bytes),
        told: outcome
            .storm
            .filter(|(_, there)| *there > 0)
            .map(|(to, there)| sightings.count_to(to) as f64 / there as f64),
        cpu_percent: Some(watched.cpu_percent),
        resident_mb: Some(watched.resident_mb),
        traffic_cpu: outcome.cpu_each,
        per_second: outcome.speed,
        lost: report.lost,
        ..Measured::default()
    }
}

/// A tool beside many open sockets: what it takes, and how it lists them. The error is why it did not start.
pub(crate) fn beside_sockets(
    setting: &Setting<'_>,
    rival: &Rival,
    link: &VethPair,
    open: &OpenSockets,
) -> Result<Measured> {
    let folder = folder(setting, rival)?;
    let place = Place {
        netns: &link.near.netns,
        interface: Side::INTERFACE,
        folder: &folder,
        programs: setting.programs,
    };
    let meter = Meter::start();
    let running = Running::start(&(rival.launch)(&place), &place, &meter, setting.size.warm_up)?;
    let (start, cpu) = (Instant::now(), meter.cpu());
    thread::sleep(setting.size.beside_sockets);
    let mut measured = Measured {
        tool: rival.name.to_owned(),
        workload: Some(Kind::Sockets),
        cpu_percent: Some(100.0 * (meter.cpu() - cpu).as_secs_f64() / start.elapsed().as_secs_f64()),
        resident_mb: Some(meter.take_highest_resident_bytes() as f64 / 1e6),
        ..Measured::default()
    };
    // What runs all the time would disturb the list of the same tool, unless it is the one that is asked.
    let mut running = Some(running);
    if rival.ask.is_none()
        && let Some(running) = running.take()
    {
        running.finish()?;
    }
    if let Some(list) = rival.list {
        let (stdout, took) = list(&place, Kind::Sockets).once(place.netns, &folder)?;
        let report = (rival.read)(&Told { stdout, ..Told::default() });
        measured.seconds = Some(took.as_secs_f64());
        measured.owners = Some(owners_of_open(&report, open));
    }
    drop(running);
    Ok(measured)
}

fn owners_of_open(report: &Report, open: &OpenSockets) -> Owners {
    let mut owners = Owners::default();
    for sighting in &report.sightings {
        let Some((port, remote)) = sighting.local_port.zip(sighting.remote) else { continue };
        let Some(pid) = open.owner(port, remote) else { continue };
        match sighting.pid {
            Some(told) if told == pid => owners.right += 1,
            Some(_) => owners.wrong += 1,
            None => owners.unknown += 1,
        }
    }
    owners.unseen = open.count().saturating_sub(owners.right + owners.wrong + owners.unknown);
    owners
}
