//! netmon beside other tools: each watches the same traffic, in namespaces made for it, and is compared with the truth that
//! the traffic's own programs tell. `./x versus` installs the tools and runs this; docs/versus.md comes from it.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports what it does")]

mod document;
mod launch;
mod measured;
mod process;
mod rivals;
mod session;
mod sighting;
mod workload;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Parser;
use measured::{Line, Measured, Run, Tool, Writer};
use netmon_testkit::{Side, VethPair};
use rivals::{Place, Programs, Rival};
use session::Setting;
use workload::{Kind, OpenSockets, Size};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// netmon beside other tools
///
/// Every tool watches the same traffic, in turn, in network namespaces made for it. Results go to target/versus/ as JSON
/// lines. A whole run writes docs/versus.md; a part of it (some workloads, some rivals, or --quick) prints its tables.
#[derive(Parser)]
#[command(name = "./x versus", max_term_width = 100)]
struct Options {
    /// The traffic; all of it where none is named
    #[arg(value_enum, value_name = "WORKLOAD")]
    workloads: Vec<Kind>,
    /// Only this tool; repeat for several. netmon's own are `netmond` and `netmon-cli`
    #[arg(long = "rival", value_name = "NAME")]
    rivals: Vec<String>,
    /// How often each tool runs, taking turns
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// One round, shorter: whether all of it works
    #[arg(long)]
    quick: bool,
    /// Only make the document from the results of the last whole run
    #[arg(long)]
    document: bool,
    /// Which tools there are, and whether they are installed
    #[arg(long)]
    list: bool,
}

impl Options {
    fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.rounds.max(1) }
    }

    fn is_whole(&self) -> bool {
        self.workloads.is_empty() && self.rivals.is_empty() && !self.quick
    }

    fn kinds(&self) -> Vec<Kind> {
        let wanted = |kind: &Kind| self.workloads.is_empty() || self.workloads.contains(kind);
        Kind::ALL.into_iter().filter(wanted).collect()
    }

    fn chosen(&self) -> Result<Vec<&'static Rival>> {
        for name in &self.rivals {
            if !rivals::ALL.iter().any(|rival| rival.name == name) {
                let all: Vec<&str> = rivals::ALL.iter().map(|rival| rival.name).collect();
                return Err(format!("no tool named {name}: {}", all.join(", ")).into());
            }
        }
        let wanted =
            |rival: &&Rival| self.rivals.is_empty() || self.rivals.iter().any(|name| *name == rival.name);
        Ok(rivals::ALL.iter().filter(wanted).collect())
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("versus: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    let programs = Programs::find()?;
    if options.list {
        for rival in rivals::ALL {
            let version = rival.version(&programs).unwrap_or_else(|| "not installed".to_owned());
            println!("{:<18} {version:<14} {}", rival.name, rival.from);
        }
        return Ok(());
    }
    let folder = programs.own.join("../versus");
    let results =
        folder.join(if options.is_whole() || options.document { "results.jsonl" } else { "part.jsonl" });
    if !options.document {
        measure(options, &programs, &folder, &results)?;
    }
    let lines = measured::read(&results)?;
    if options.is_whole() || options.document {
        let file = top.join("docs/versus.md");
        fs::write(&file, document::document(&lines))?;
        println!("{} and {}", file.display(), results.display());
    } else {
        println!("{}", document::tables(&lines));
        println!("{}", results.display());
    }
    Ok(())
}

fn measure(options: &Options, programs: &Programs, folder: &Path, results: &Path) -> Result<()> {
    let size = if options.quick { Size::QUICK } else { Size::FULL };
    let (kinds, chosen) = (options.kinds(), options.chosen()?);
    let work = folder.join("work");
    let setting = Setting { programs, size, folder: &work };
    let mut writer = Writer::create(results)?;
    writer.write(&Line::Run(this_run(options, size)))?;
    let mut tools = tools(&chosen, programs);
    for round in 1..=options.rounds() {
        let mut turn = chosen.clone();
        // Nobody is always the first, or always after the same one.
        let places = turn.len().max(1);
        turn.rotate_left(round as usize * 5 % places);
        let mut keep = |measured: Vec<Measured>| -> Result<()> {
            measured.into_iter().try_for_each(|one| writer.write(&Line::Measured(Measured { round, ..one })))
        };
        if kinds.iter().any(|kind| *kind != Kind::Sockets) {
            keep(session::nothing(&setting, &kinds)?)?;
            for rival in &turn {
                let Some(tool) = tools.get_mut(rival.name).filter(|tool| tool.failure.is_none()) else {
                    continue;
                };
                eprintln!("round {round} of {}: {}", options.rounds(), rival.name);
                match session::watched(&setting, rival, &kinds) {
                    Ok(came) => {
                        tool.note = came.note;
                        keep(came.measured)?;
                    }
                    Err(error) => failed(tool, &*error),
                }
            }
        }
        if kinds.contains(&Kind::Sockets) {
            let link = VethPair::create();
            let open = OpenSockets::open(&link, size.sockets);
            for rival in &turn {
                let Some(tool) = tools.get_mut(rival.name).filter(|tool| tool.failure.is_none()) else {
                    continue;
                };
                eprintln!(
                    "round {round} of {}: {}, beside {} sockets",
                    options.rounds(),
                    rival.name,
                    size.sockets
                );
                match session::beside_sockets(&setting, rival, &link, &open) {
                    Ok(measured) => keep(vec![measured])?,
                    Err(error) => failed(tool, &*error),
                }
            }
            open.close();
        }
        // Each round again, so that a run that is interrupted has them too.
        for tool in chosen.iter().filter_map(|rival| tools.get(rival.name)) {
            writer.write(&Line::Tool(tool.clone()))?;
        }
    }
    let _ = fs::remove_dir_all(&work);
    Ok(())
}

fn failed(tool: &mut Tool, error: &dyn std::error::Error) {
    eprintln!("{} does not run here: {error}", tool.name);
    // Which build of the kernel it is says nothing elsewhere.
    let (release, version) = kernel();
    tool.failure = Some(error.to_string().replace(&release, &version));
}

fn tools(chosen: &[&Rival], programs: &Programs) -> BTreeMap<&'static str, Tool> {
    // Only for the command lines that the document shows.
    let link = VethPair::create();
    let nowhere = PathBuf::from("FILES");
    let place = Place { netns: &link.near.netns, interface: Side::INTERFACE, folder: &nowhere, programs };
    let tool = |rival: &&Rival| {
        let version = rival.version(programs);
        let failure = version.is_none().then(|| "not installed".to_owned());
        let mut command = (rival.launch)(&place).shown();
        if let Some(ask) = rival.ask {
            command = format!("{command}` and `{}", ask(&place, Kind::OneShot).shown());
        }
        let tool = Tool {
            name: rival.name.to_owned(),
            from: rival.from.to_owned(),
            version,
            command,
            remark: rival.remark.to_owned(),
            note: None,
            failure,
        };
        (rival.name, tool)
    };
    chosen.iter().map(tool).collect()
}

/// How busy the CPUs are during two seconds, in percent of all of them.
fn busy() -> u32 {
    let times = || -> (u64, u64) {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let first = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let numbers: Vec<u64> = first.filter_map(|number| number.parse().ok()).collect();
        // Idle, and waiting for a disk.
        (numbers.iter().skip(3).take(2).sum(), numbers.iter().take(8).sum())
    };
    let (idle_before, all_before) = times();
    thread::sleep(Duration::from_secs(2));
    let (idle, all) = times();
    let (idle, all) = (idle.saturating_sub(idle_before), all.saturating_sub(all_before).max(1));
    u32::try_from(100 - (100 * idle / all).min(100)).unwrap_or(100)
}

/// The kernel's release, and its version alone.
fn kernel() -> (String, String) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let version = release.split('-').next().unwrap_or_default().to_owned();
    (release, version)
}

fn this_run(options: &Options, size: Size) -> Run {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Run {
        kernel: kernel().1,
        cpus: thread::available_parallelism().map_or(1, usize::from),
        cpu: cpu.map(|(_, name)| name.trim().to_owned()).unwrap_or_default(),
        rounds: options.rounds(),
        quick: options.quick,
        sockets: size.sockets,
        busy_before: busy(),
    }
}
