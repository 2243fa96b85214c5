//! What /proc tells of processes: who they are, their control groups, and the sockets that they hold.
//!
//! Nothing here needs a privilege, but other users' program files and open files are hidden without one: those are then
//! `None`, or counted in [`SocketHolders::unreadable`].

use std::{
    collections::{HashMap, HashSet},
    ffi::CStr,
    fs::{self, File},
    io::{self, Read as _},
    mem::MaybeUninit,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::DirEntryExt as _,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat_raw},
    io::Errno,
};

use super::remembered::Remembered;
use crate::{
    clean::CleanText,
    fact::{BootTime, Process},
    source::recorder::{ALLOCATION, Recorder, process_bytes},
};

/// What is remembered of processes, and of control groups, takes one part in so many of the recorder's memory each.
pub(super) const MEMORY_SHARE: usize = 16;

/// `/proc/PID/stat` counts in `USER_HZ`, which is 100 on every architecture that Rust runs Linux on.
const TICK_NS: u64 = 10_000_000;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is kept under these locks can be left half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The processes of this pid namespace, read at need and remembered.
#[derive(Debug)]
pub(super) struct ProcessTable {
    known: Mutex<Remembered<u32, Known>>,
}

#[derive(Debug)]
struct Known {
    life: Life,
    process: Arc<Process>,
}

impl Default for ProcessTable {
    fn default() -> Self {
        Self::within(Recorder::DEFAULT_MEMORY_LIMIT / MEMORY_SHARE)
    }
}

impl ProcessTable {
    /// One that takes so much memory at most.
    pub(super) fn within(memory_limit: usize) -> Self {
        Self { known: Mutex::new(Remembered::within(memory_limit, |_| false)) }
    }

    /// The living process of this number. Costs one read of `/proc/PID/stat` where it is known already, and five more
    /// files where it is not.
    ///
    /// Its start is known to 10 ms, rounded down.
    pub(super) fn lookup(&self, pid: u32) -> Option<Arc<Process>> {
        // What was read before and after an `exec`, or of two processes of one number, is not mixed.
        const TRIES: usize = 3;
        let (mut life, mut parent) = Life::read(pid)?;
        for _ in 0..TRIES {
            if let Some(known) = lock(&self.known).get(&pid)
                && known.life == life
            {
                return Some(Arc::clone(&known.process));
            }
            let process = read_process(pid, &life, parent);
            let (after, parent_after) = Life::read(pid)?;
            if after == life {
                let process = Arc::new(process);
                // In the middle of `exec` it has no arguments yet.
                if process.cmdline.is_none() {
                    return Some(process);
                }
                self.remember(pid, Known { life, process: Arc::clone(&process) });
                return Some(process);
            }
            (life, parent) = (after, parent_after);
        }
        None
    }

    /// The living process of this number, if it is the one that started then: within 10 ms, as /proc has no finer clock.
    /// It is remembered with that exact start.
    pub(super) fn lookup_started(&self, pid: u32, started: Option<BootTime>) -> Option<Arc<Process>> {
        let found = self.lookup(pid)?;
        let Some(started) = started else { return Some(found) };
        if !started_then(&found, started) {
            return None;
        }
        if found.started == Some(started) {
            return Some(found);
        }
        let exact = Arc::new(Process { started: Some(started), ..(*found).clone() });
        let life = lock(&self.known)
            .get(&pid)
            .filter(|known| Arc::ptr_eq(&known.process, &found))
            .map(|known| known.life.clone());
        if let Some(life) = life {
            self.remember(pid, Known { life, process: Arc::clone(&exact) });
        }
        Some(exact)
    }

    /// Fills in what is `None` of program file, arguments, user, parent and control group, if the process lives or is
    /// remembered. Without a start time it could be another one, and nothing is done. For one that is over it costs one
    /// failed `open`.
    ///
    /// Program file and arguments are left out if its name is another one now: it may have called `exec` since.
    pub(super) fn enrich(&self, process: &mut Process) {
        let complete = process.exe.is_some()
            && process.cmdline.is_some()
            && process.parent_pid.is_some()
            && process.cgroup.is_some();
        let Some(started) = process.started.filter(|_| !complete) else { return };
        let living = self.lookup_started(process.pid, Some(started));
        // One that is over and was not waited for shows less than is remembered of it.
        for found in [living, self.remembered(process.pid, started)].into_iter().flatten() {
            if found.comm == process.comm {
                fill(&mut process.exe, &found.exe);
                fill(&mut process.cmdline, &found.cmdline);
            }
            fill(&mut process.uid, &found.uid);
            fill(&mut process.parent_pid, &found.parent_pid);
            if process.cgroup.is_none() {
                process.cgroup.clone_from(&found.cgroup);
                fill(&mut process.container, &found.container);
                fill(&mut process.unit, &found.unit);
            }
        }
    }

    fn remembered(&self, pid: u32, started: BootTime) -> Option<Arc<Process>> {
        let mut known = lock(&self.known);
        let process = &known.get(&pid)?.process;
        started_then(process, started).then(|| Arc::clone(process))
    }

    fn remember(&self, pid: u32, new: Known) {
        let bytes = process_bytes(&new.process) + new.life.comm.as_str().len();
        lock(&self.known).insert(pid, new, bytes);
    }

    /// Who holds which socket, of every process whose files this user may see. Costs about three microseconds for every
    /// open file of the host. Processes that end meanwhile are left out.
    ///
    /// # Errors
    /// Where `/proc` cannot be listed.
    pub(super) fn socket_holders(&self) -> io::Result<SocketHolders> {
        let proc = open_directory(CWD, c"/proc")?;
        let mut scan = HolderScan::new();
        let mut init_seen = false;
        let mut buffer = [MaybeUninit::uninit(); DIRECTORY_BUFFER];
        let mut entries = RawDir::new(&proc, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let Some(pid) = decimal(entry.file_name().to_bytes()) else { continue };
            init_seen |= pid == 1;
            let Ok(directory) = open_directory(&proc, entry.file_name()) else { continue };
            scan.process(pid, &directory);
        }
        // Every pid namespace has a process 1; where it does not show, /proc hides those of other users (hidepid).
        scan.holders.processes_hidden = !init_seen;
        Ok(scan.holders)
    }
}

fn started_then(process: &Process, started: BootTime) -> bool {
    // A start in the first tick after boot is 0, which is not a BootTime.
    process.started.map_or(0, BootTime::ns).abs_diff(started.ns()) <= TICK_NS
}

fn fill<T: Clone>(field: &mut Option<T>, found: &Option<T>) {
    if field.is_none() {
        field.clone_from(found);
    }
}

/// What changes when a process of the same number is another one, or the same after `exec`. From `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Life {
    started_ticks: u64,
    comm: CleanText,
    /// It was forked, and has not called `exec`.
    forked_only: bool,
    /// Where the program and its arguments are in memory, which `exec` draws anew; 0 or 1 for other users' processes.
    memory: [u64; 2],
}

impl Life {
    /// Also returns the number of the parent, which changes when that ends.
    fn read(pid: u32) -> Option<(Self, u32)> {
        // 52 numbers, few of them long, and a name: one read, so that they belong together.
        let mut buffer = [0; 2048];
        let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut buffer).ok()?;
        Self::parse(&buffer[..length])
    }

    fn parse(stat: &[u8]) -> Option<(Self, u32)> {
        // include/linux/sched.h
        const PF_FORKNOEXEC: u64 = 0x40;

        // The name may contain anything, parentheses and line feeds too; no number does.
        let open = stat.iter().position(|byte| *byte == b'(')?;
        let close = stat.iter().rposition(|byte| *byte == b')')?;
        let comm = CleanText::from_bytes(stat.get(open + 1..close)?);
        let fields: Vec<&[u8]> = stat[close + 1..].split(u8::is_ascii_whitespace).skip(1).collect();
        // proc_pid_stat(5) counts from 1; the name is field 2.
        let number = |field: usize| decimal::<u64>(fields.get(field - 3)?);
        let life = Self {
            started_ticks: number(22)?,
            comm,
            forked_only: number(9)? & PF_FORKNOEXEC != 0,
            memory: [number(26)?, number(48)?],
        };
        Some((life, u32::try_from(number(4)?).ok()?))
    }
}

/// A number that is all digits.
fn decimal<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    if !digits.first()?.is_ascii_digit() {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

fn read_process(pid: u32, life: &Life, parent: u32) -> Process {
    let mut process = Process {
        started: BootTime::from_ns(life.started_ticks.saturating_mul(TICK_NS)),
        exe: fs::read_link(format!("/proc/{pid}/exe"))
            .ok()
            .map(|path| CleanText::from_bytes(path.as_os_str().as_bytes())),
        cmdline: read_start(&format!("/proc/{pid}/cmdline")).and_then(|bytes| arguments(&bytes)),
        uid: fs::read(format!("/proc/{pid}/status")).ok().and_then(|status| effective_user(&status)),
        parent_pid: Some(parent).filter(|parent| *parent != 0),
        ..Process::new(pid, life.comm.as_str())
    };
    if let Some(cgroup) =
        fs::read(format!("/proc/{pid}/cgroup")).ok().and_then(|lines| Cgroup::choose(&lines))
    {
        cgroup.describe(&mut process);
    }
    process
}

/// As much of a file as a [`CleanText`] can show, and enough more that it ends in an ellipsis.
fn read_start(path: &str) -> Option<Vec<u8>> {
    const LONGEST_CHARACTER: u64 = 4;
    const LIMIT: u64 = LONGEST_CHARACTER * (CleanText::MAX_CHARS as u64 + 1);
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LIMIT).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Arguments as one line. `None` for kernel threads and the dead, which have none.
fn arguments(cmdline: &[u8]) -> Option<CleanText> {
    // A process that writes its title over its arguments leaves zeros, or blanks, behind it.
    let end = cmdline.iter().rposition(|byte| !matches!(byte, 0 | b' '))?;
    let line: Vec<u8> = cmdline[..=end].iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
    Some(CleanText::from_bytes(&line))
}

fn effective_user(status: &[u8]) -> Option<u32> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    // Real, effective, saved, of the file system.
    decimal(line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(1)?)
}

/// Who holds the sockets of this host.
#[derive(Debug, Default)]
pub(super) struct SocketHolders {
    /// The processes that hold a socket, by its inode number; sockets of every kind and network namespace.
    pub(super) by_inode: HashMap<u64, Vec<u32>>,
    /// How many processes there are whose files this user may not see.
    pub(super) unreadable: usize,
    /// Whether `/proc` does not even tell of the processes of other users.
    pub(super) processes_hidden: bool,
    /// How many network namespaces there are beside that of the calling thread, as far as could be seen.
    pub(super) other_namespaces: usize,
}

const DIRECTORY_BUFFER: usize = 16 * 1024;

fn open_directory(at: impl std::os::fd::AsFd, name: &CStr) -> rustix::io::Result<std::os::fd::OwnedFd> {
    openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

struct HolderScan {
    holders: SocketHolders,
    own_namespace: Option<u64>,
    other_namespaces: HashSet<u64>,
}

impl HolderScan {
    fn new() -> Self {
        Self {
            holders: SocketHolders::default(),
            own_namespace: numbered_link(CWD, c"/proc/thread-self/ns/net", b"net:["),
            other_namespaces: HashSet::new(),
        }
    }

    fn process(&mut self, pid: u32, directory: &impl std::os::fd::AsFd) {
        if let Some(namespace) = numbered_link(directory, c"ns/net", b"net:[")
            && Some(namespace) != self.own_namespace
            && self.other_namespaces.insert(namespace)
        {
            self.holders.other_namespaces += 1;
        }
        match self.files(pid, directory, c"fd") {
            Ok(0) => self.threads(pid, directory),
            Ok(_) => {}
            Err(Errno::ACCESS | Errno::PERM) => self.holders.unreadable += 1,
            // It is over.
            Err(_) => {}
        }
    }

    /// The files of a process whose leader has ended before its other threads, and shows none.
    fn threads(&mut self, pid: u32, directory: &impl std::os::fd::AsFd) {
        let Ok(tasks) = open_directory(directory, c"task") else { return };
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut entries = RawDir::new(&tasks, &mut buffer);
        while let Some(Ok(entry)) = entries.next() {
            let thread: Option<u32> = decimal(entry.file_name().to_bytes());
            if thread.is_none_or(|thread| thread == pid) {
                continue;
            }
            let files =
                open_directory(&tasks, entry.file_name()).and_then(|task| self.files(pid, &task, c"fd"));
            // Threads share their files.
            if files.is_ok_and(|files| files > 0) {
                return;
            }
        }
    }

    /// Notes the sockets among these files, and returns how many files there are.
    fn files(&mut self, pid: u32, at: &impl std::os::fd::AsFd, name: &CStr) -> rustix::io::Result<usize> {
        let files = open_directory(at, name)?;
        let mut count = 0;
        let mut buffer = [MaybeUninit::uninit(); DIRECTORY_BUFFER];
        let mut entries = RawDir::new(&files, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if entry.file_name().to_bytes().starts_with(b".") {
                continue;
            }
            count += 1;
            let inode = match link_number(&files, entry.file_name(), b"socket:[") {
                // The directory can be listed by whoever has the same user, its links only with the same privileges.
                Err(errno @ (Errno::ACCESS | Errno::PERM)) => return Err(errno),
                Err(_) => continue,
                Ok(inode) => inode,
            };
            if let Some(inode) = inode {
                let holders = self.holders.by_inode.entry(inode).or_default();
                // A process may hold a socket by several descriptors.
                if holders.last() != Some(&pid) {
                    holders.push(pid);
                }
            }
        }
        Ok(count)
    }
}

/// The number in a link such as `socket:[4711]`; `None` for any other.
fn link_number(at: impl std::os::fd::AsFd, name: &CStr, prefix: &[u8]) -> rustix::io::Result<Option<u64>> {
    // Longer than any that is looked for; links to files may be cut off.
    let mut buffer = [MaybeUninit::uninit(); 40];
    let (target, _) = readlinkat_raw(at, name, &mut buffer)?;
    let number = |target: &[u8]| decimal(target.strip_prefix(prefix)?.strip_suffix(b"]")?);
    Ok(number(target))
}

/// The same, where it does not matter why there is none.
fn numbered_link(at: impl std::os::fd::AsFd, name: &CStr, prefix: &[u8]) -> Option<u64> {
    link_number(at, name, prefix).ok().flatten()
}

/// A control group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cgroup {
    pub(crate) path: CleanText,
    pub(crate) container: Option<CleanText>,
    pub(crate) unit: Option<CleanText>,
}

impl Cgroup {
    /// The group with this path.
    pub(crate) fn new(path: &[u8]) -> Self {
        let (container, unit) = container_and_unit(&String::from_utf8_lossy(path));
        Self { path: CleanText::from_bytes(path), container, unit }
    }

    /// That of a process, from `/proc/PID/cgroup`, which has a line for every hierarchy.
    ///
    /// The unified hierarchy (`0::`) tells it, unless a host of before uses it for nothing; then systemd's own, then
    /// controllers that container runtimes always set. A line that names a container is preferred: Docker on a mixed
    /// host leaves the unified one alone.
    fn choose(lines: &[u8]) -> Option<Self> {
        let rank = |controllers: &[u8]| match controllers {
            b"" => 0,
            b"name=systemd" => 1,
            b"memory" => 2,
            b"pids" => 3,
            _ => 4,
        };
        let mut groups: Vec<(usize, Self)> = lines
            .split(|byte| *byte == b'\n')
            .filter_map(|line| {
                let mut fields = line.splitn(3, |byte| *byte == b':');
                let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
                Some((rank(controllers), Self::new(path)))
            })
            .collect();
        groups.sort_by_key(|(rank, group)| (group.container.is_none(), group.path == "/", *rank));
        groups.into_iter().next().map(|(_, group)| group)
    }

    fn bytes(&self) -> usize {
        let texts = [Some(&self.path), self.container.as_ref(), self.unit.as_ref()];
        let text_bytes = |text: &CleanText| ALLOCATION + text.as_str().len();
        2 * ALLOCATION + size_of::<Self>() + texts.into_iter().flatten().map(text_bytes).sum::<usize>()
    }

    /// Says of a process that it is in this group.
    pub(crate) fn describe(&self, process: &mut Process) {
        process.cgroup = Some(self.path.clone());
        process.container.clone_from(&self.container);
        process.unit.clone_from(&self.unit);
    }
}

/// The control groups of the unified hierarchy by their number, which BPF programs know: the inode number of their
/// directory.
#[derive(Debug)]
pub(crate) struct CgroupNames {
    names: Mutex<Names>,
    memory_limit: usize,
}

#[derive(Debug, Default)]
struct Names {
    by_id: HashMap<u64, Arc<Cgroup>>,
    scanned: Option<Instant>,
}

impl Names {
    fn memory(&self) -> usize {
        self.by_id.values().map(|group| group.bytes()).sum()
    }
}

impl Default for CgroupNames {
    fn default() -> Self {
        Self::within(Recorder::DEFAULT_MEMORY_LIMIT / MEMORY_SHARE)
    }
}

impl CgroupNames {
    /// Many short-lived groups, each with an unknown number once, must not make a scan each.
    const SCAN_INTERVAL: Duration = Duration::from_millis(200);

    /// Names that take so much memory at most, beyond those of the groups that there are. Groups that are removed are
    /// remembered, as their last records come later.
    pub(crate) fn within(memory_limit: usize) -> Self {
        Self { names: Mutex::default(), memory_limit }
    }

    /// The group of this number. `None` where it came and went between two scans, and without a unified hierarchy.
    ///
    /// Also `None` for the root of the hierarchy: every process is in it where the host uses the hierarchies of before,
    /// and only [`ProcessTable::enrich`] knows better.
    ///
    /// One that is not known costs a walk over all groups, but at most five times a second.
    pub(crate) fn find(&self, id: u64) -> Option<Arc<Cgroup>> {
        let mut names = lock(&self.names);
        if let Some(found) = names.by_id.get(&id) {
            return named(found);
        }
        if names.scanned.is_some_and(|scanned| scanned.elapsed() < Self::SCAN_INTERVAL) {
            return None;
        }
        if names.memory() > self.memory_limit {
            names.by_id.clear();
        }
        if let Some(mount) = fs::read("/proc/self/mountinfo").ok().and_then(|lines| CgroupMount::find(&lines))
        {
            mount.scan(&mut names.by_id);
        }
        names.scanned = Some(Instant::now());
        names.by_id.get(&id).and_then(named)
    }
}

fn named(group: &Arc<Cgroup>) -> Option<Arc<Cgroup>> {
    (group.path != "/").then(|| Arc::clone(group))
}

/// Where the unified hierarchy is mounted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CgroupMount {
    /// The group at the root of the mount; in a container perhaps not that of the hierarchy.
    root: Vec<u8>,
    directory: PathBuf,
}

impl CgroupMount {
    pub(super) fn find(mountinfo: &[u8]) -> Option<Self> {
        mountinfo
            .split(|byte| *byte == b'\n')
            .filter_map(|line| {
                // proc_pid_mountinfo(5): id, parent, device, root, mount point, options, any number of tags, -, type.
                let mut fields = line.split(|byte| *byte == b' ').skip(3);
                let (root, directory) = (fields.next()?, fields.next()?);
                let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
                (kind == b"cgroup2").then(|| Self {
                    root: unescape(root, b"\\", 8),
                    directory: std::ffi::OsString::from_vec(unescape(directory, b"\\", 8)).into(),
                })
            })
            // Of several, one that shows all.
            .min_by_key(|mount| mount.root != b"/")
    }

    /// The directory of the group with this path; `None` where the mount does not show it.
    pub(super) fn place_of(&self, path: &str) -> Option<PathBuf> {
        let below = path.as_bytes().strip_prefix(self.root.strip_suffix(b"/").unwrap_or(&self.root))?;
        let below = std::ffi::OsStr::from_bytes(below.strip_prefix(b"/").unwrap_or(below));
        // Nothing but names: what goes up leaves the mount, and behind a second slash so does the rest.
        let shown = Path::new(below).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        shown.then(|| self.directory.join(below))
    }

    fn scan(&self, by_id: &mut HashMap<u64, Arc<Cgroup>>) {
        use std::os::unix::fs::MetadataExt as _;

        let Ok(root) = fs::metadata(&self.directory) else { return };
        by_id.entry(root.ino()).or_insert_with(|| Arc::new(Cgroup::new(&self.root)));
        let prefix = self.root.strip_suffix(b"/").unwrap_or(&self.root).to_vec();
        let mut pending = vec![(self.directory.clone(), prefix)];
        while let Some((directory, path)) = pending.pop() {
            // One that was removed meanwhile has nothing below it.
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let path = [&path, b"/".as_slice(), entry.file_name().as_bytes()].concat();
                by_id.entry(entry.ino()).or_insert_with(|| Arc::new(Cgroup::new(&path)));
                pending.push((Path::join(&directory, entry.file_name()), path));
            }
        }
    }
}

/// Undoes escapes of this prefix with as many digits as a byte needs in this base; others stay.
fn unescape(text: &[u8], prefix: &[u8], base: u32) -> Vec<u8> {
    let digits = if base == 8 { 3 } else { 2 };
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let byte = rest
            .strip_prefix(prefix)
            .and_then(|code| code.get(..digits))
            .filter(|code| code.iter().all(u8::is_ascii_alphanumeric))
            .and_then(|code| u8::from_str_radix(str::from_utf8(code).ok()?, base).ok());
        match byte {
            Some(byte) => {
                plain.push(byte);
                rest = &rest[prefix.len() + digits..];
            }
            None => {
                plain.push(*first);
                rest = behind;
            }
        }
    }
    plain
}

/// Undoes systemd's escaping of names (`\x2d` for a dash).
fn systemd_name(escaped: &str) -> CleanText {
    CleanText::from_bytes(&unescape(escaped.as_bytes(), b"\\x", 16))
}

/// The container that a control group belongs to, and the systemd unit; of several within each other, the innermost.
///
/// A container is named as its runtime names the group: by its id, or for LXC and systemd-nspawn by its name. What
/// supervises a container is not in it. Units are named as `systemctl` takes them, escapes included; slices, which only
/// group others, are none.
pub(super) fn container_and_unit(path: &str) -> (Option<CleanText>, Option<CleanText>) {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let container = (0..parts.len()).rev().find_map(|index| {
        let above = index.checked_sub(1).map_or("", |above| parts[above]);
        container(above, parts[index], parts.get(index + 1).copied().unwrap_or_default())
    });
    let unit = parts.iter().rev().find_map(|part| unit(part)).map(CleanText::from);
    (container, unit)
}

/// The container of a group, from its name and those of the groups above and below it.
fn container(above: &str, name: &str, below: &str) -> Option<CleanText> {
    if below == "supervisor" {
        return None;
    }
    // LXC by itself, LXD, Incus, Proxmox.
    if let Some(name) = name.strip_prefix("lxc.payload.") {
        return Some(name.into());
    }
    if matches!(above, "lxc" | "lxc.payload") {
        return Some(name.into());
    }
    // Fargate: the task, and a number for the container.
    if let Some((task, number)) = name.split_once('-')
        && is_hexadecimal(task, 32)
        && decimal::<u64>(number.as_bytes()).is_some()
    {
        return Some(name.into());
    }
    if let Some(name) = name.strip_prefix("systemd-nspawn@").and_then(|name| name.strip_suffix(".service")) {
        return Some(systemd_name(name));
    }
    let (name, is_scope) = name.strip_suffix(".scope").map_or((name, false), |name| (name, true));
    if let Some(name) = name.strip_prefix("machine-").filter(|_| is_scope) {
        let name = systemd_name(name);
        // libvirt registers its virtual machines in the same way; they are no containers.
        return (!name.as_str().starts_with("qemu-")).then_some(name);
    }
    // Docker, containerd, CRI-O, Podman and Kubernetes: the id alone, or behind the name of the runtime.
    let (runtime, id) = name.rsplit_once(['-', ':']).unwrap_or(("", name));
    // conmon watches a container of CRI-O or Podman from outside.
    (is_hexadecimal(id, 64) && !runtime.ends_with("conmon")).then(|| id.into())
}

fn is_hexadecimal(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn unit(name: &str) -> Option<&str> {
    const KINDS: [&str; 5] = ["service", "scope", "socket", "mount", "swap"];
    // systemd puts this before names that the kernel uses for files, such as `cpu.service`.
    let name = name.strip_prefix('_').unwrap_or(name);
    let (unit, kind) = name.rsplit_once('.')?;
    (!unit.is_empty() && KINDS.contains(&kind)).then_some(name)
}

/// Bytes as any of the files of a process.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn read_any_file(bytes: &[u8]) {
    Life::parse(bytes);
    arguments(bytes);
    effective_user(bytes);
    let mut process = Process::new(1, "");
    if let Some(group) = Cgroup::choose(bytes) {
        group.describe(&mut process);
        if let Some(mount) = CgroupMount::find(bytes)
            && let Some(place) = mount.place_of(group.path.as_str())
        {
            assert!(place.starts_with(&mount.directory), "{} is beyond the mount", place.display());
        }
    }
    container_and_unit(&String::from_utf8_lossy(bytes));
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::CString,
        net::TcpListener,
        os::fd::AsRawFd as _,
        os::unix::fs::MetadataExt as _,
        process::{Child, Command, Stdio},
    };

    use super::*;

    const ID: &str = "4f3c1a9be0d27786554433221100ffeeddccbbaa99887766554433221100abcd";

    fn names(path: &str) -> (Option<String>, Option<String>) {
        let (container, unit) = container_and_unit(&path.replace("ID", ID));
        let text = |name: CleanText| name.as_str().replace(ID, "ID");
        (container.map(text), unit.map(text))
    }

    #[test]
    fn a_path_tells_container_and_unit() {
        let pod = "pod0a1b2c3d_1111_2222_3333_444455556666";
        let cases: &[(&str, Option<&str>, Option<&str>)] = &[
            ("/", None, None),
            ("", None, None),
            ("/init.scope", None, Some("init.scope")),
            ("/system.slice/sshd.service", None, Some("sshd.service")),
            ("/system.slice/sshd.service (deleted)", None, Some("sshd.service")),
            ("/system.slice/system-getty.slice/getty@tty1.service", None, Some("getty@tty1.service")),
            ("/system.slice/_cpu.service", None, Some("cpu.service")),
            ("/system.slice/docker.socket", None, Some("docker.socket")),
            ("/user.slice/user-1000.slice/session-3.scope", None, Some("session-3.scope")),
            ("/user.slice", None, None),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-foo.service",
                None,
                Some("app-foo.service"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-org.gnome.Terminal\\x2d42.scope",
                None,
                Some("app-gnome-org.gnome.Terminal\\x2d42.scope"),
            ),
            // Docker with either driver, and Docker in Docker
            ("/docker/ID", Some("ID"), None),
            ("/system.slice/docker-ID.scope", Some("ID"), Some("docker-ID.scope")),
            ("/system.slice/docker-ID.scope/init.scope", Some("ID"), Some("init.scope")),
            ("/docker/ffff/docker/ID", Some("ID"), None),
            ("/../../docker/ID", Some("ID"), None),
            ("/actions_job/ID", Some("ID"), None),
            ("/system.slice/docker.service", None, Some("docker.service")),
            ("/docker/buildx/abcdefghijklmnopqrstuvwxy", None, None),
            // Kubernetes
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-POD.slice/cri-containerd-ID.scope",
                Some("ID"),
                Some("cri-containerd-ID.scope"),
            ),
            ("/kubepods/besteffort/POD/ID", Some("ID"), None),
            ("/kubepods/besteffort/POD", None, None),
            (
                "/system.slice/containerd.service/kubepods-burstable-POD.slice:cri-containerd:ID",
                Some("ID"),
                Some("containerd.service"),
            ),
            ("/kubepods.slice/kubepods-POD.slice/crio-ID.scope/container", Some("ID"), Some("crio-ID.scope")),
            ("/kubepods.slice/kubepods-POD.slice/crio-conmon-ID.scope", None, Some("crio-conmon-ID.scope")),
            ("/kubepods/burstable/POD/crio-ID", Some("ID"), None),
            // Podman
            ("/machine.slice/libpod-ID.scope/container", Some("ID"), Some("libpod-ID.scope")),
            ("/machine.slice/libpod-conmon-ID.scope", None, Some("libpod-conmon-ID.scope")),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
                Some("ID"),
                Some("libpod-ID.scope"),
            ),
            ("/machine.slice/machine-libpod_pod_ID.slice", None, None),
            // AWS
            ("/ecs/0123456789abcdef0123456789abcdef/ID", Some("ID"), None),
            (
                "/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-1234567890",
                Some("0123456789abcdef0123456789abcdef-1234567890"),
                None,
            ),
            // LXC
            ("/lxc/web", Some("web"), None),
            ("/lxc/101/ns/system.slice/cron.service", Some("101"), Some("cron.service")),
            ("/lxc.payload.web/system.slice/nginx.service", Some("web"), Some("nginx.service")),
            ("/lxc.payload/web/init.scope", Some("web"), Some("init.scope")),
            ("/lxc.monitor.web", None, None),
            ("/lxc.payload.web/system.slice/docker-ID.scope", Some("ID"), Some("docker-ID.scope")),
            // systemd-nspawn, and libvirt's virtual machines
            (
                "/machine.slice/machine-my\\x2dhost.scope/payload/system.slice/cron.service",
                Some("my-host"),
                Some("cron.service"),
            ),
            ("/machine.slice/systemd-nspawn@web.service/payload/init.scope", Some("web"), Some("init.scope")),
            (
                "/machine.slice/systemd-nspawn@web.service/supervisor",
                None,
                Some("systemd-nspawn@web.service"),
            ),
            (
                "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt/emulator",
                None,
                Some("machine-qemu\\x2d1\\x2dvm.scope"),
            ),
        ];
        for (path, container, unit) in cases {
            let (found_container, found_unit) = names(&path.replace("POD", pod));
            assert_eq!(found_container.as_deref(), *container, "{path}");
            assert_eq!(found_unit.as_deref(), *unit, "{path}");
        }
    }

    #[test]
    fn escapes_that_hide_something_are_shown_again() {
        let (container, _) = container_and_unit("/machine.slice/machine-a\\x1b\\xe2\\x80\\xaeb\\x2.scope");
        assert_eq!(container.unwrap().as_str(), r"a\x1b\u{202e}b\x2");
    }

    #[test]
    fn the_hierarchy_that_says_most_is_chosen() {
        let chosen = |lines: &str| Cgroup::choose(lines.as_bytes()).map(|group| group.path.to_string());
        assert_eq!(chosen("0::/user.slice\n").as_deref(), Some("/user.slice"));
        assert_eq!(chosen("0::/\n").as_deref(), Some("/"));
        assert_eq!(chosen("").as_deref(), None);
        assert_eq!(
            chosen("9:pids:/b\n4:memory:/a:c\n3:cpuset:/d\n1:name=systemd:/\n0::/\n").as_deref(),
            Some("/a:c")
        );
        assert_eq!(chosen("9:pids:/b\n1:name=systemd:/s\n0::/\n").as_deref(), Some("/s"));
        assert_eq!(
            chosen(&format!("1:name=systemd:/docker/{ID}\n0::/system.slice/containerd.service\n")),
            Some(format!("/docker/{ID}"))
        );
    }

    #[test]
    fn the_unified_hierarchy_is_found_wherever_it_is_mounted() {
        let mounts = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            44 31 0:38 /sub /tmp/part rw master:3 shared:4 - cgroup2 cgroup2 rw\n\
            41 31 0:38 / /sys/fs/cgroup/a\\040b rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        let mount = CgroupMount::find(mounts).unwrap();
        assert_eq!(mount, CgroupMount { root: b"/".to_vec(), directory: "/sys/fs/cgroup/a b".into() });
        assert_eq!(CgroupMount::find(b"31 23 0:28 / /sys rw - sysfs sysfs rw\n"), None);
    }

    #[test]
    fn groups_are_known_by_their_directories_numbers() {
        let tree = tempfile::tempdir().unwrap();
        let inner = tree.path().join("system.slice/sshd.service");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("cgroup.procs"), "").unwrap();

        let mut by_id = HashMap::new();
        CgroupMount { root: b"/".to_vec(), directory: tree.path().to_owned() }.scan(&mut by_id);
        assert_eq!(by_id.len(), 3);
        let group = &by_id[&fs::metadata(&inner).unwrap().ino()];
        assert_eq!(group.path, "/system.slice/sshd.service");
        assert_eq!(group.unit.as_ref().unwrap(), "sshd.service");
        assert_eq!(by_id[&fs::metadata(tree.path()).unwrap().ino()].path, "/");

        let mut by_id = HashMap::new();
        CgroupMount { root: b"/docker/x".to_vec(), directory: tree.path().to_owned() }.scan(&mut by_id);
        assert_eq!(by_id[&fs::metadata(&inner).unwrap().ino()].path, "/docker/x/system.slice/sshd.service");
    }

    #[test]
    fn an_unknown_group_is_looked_for_once_in_a_while() {
        let names = CgroupNames::default();
        assert_eq!(names.find(u64::MAX), None);
        let first = lock(&names.names).scanned.unwrap();
        assert_eq!(names.find(u64::MAX), None);
        let second = lock(&names.names).scanned.unwrap();
        assert!(first == second || second - first >= CgroupNames::SCAN_INTERVAL);
    }

    #[test]
    fn a_name_with_parentheses_and_line_feeds_hides_no_field() {
        let stat = b"42 (a) S 1 (\nb) R 7 42 42 0 -1 4194368 102 0 0 0 0 0 0 0 20 0 1 0 1282484 3133440 388 \
            18446744073709551615 94537891352576 94537891372457 140734360021488 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 \
            94537891388464 94537891390080 94538131771392 140734360029726 140734360029746 140734360029746 \
            140734360031211 0\n";
        let (life, parent) = Life::parse(stat).unwrap();
        assert_eq!(parent, 7);
        assert_eq!(life.comm, r"a) S 1 (\x0ab");
        assert_eq!(life.started_ticks, 1_282_484);
        assert!(life.forked_only);
        assert_eq!(life.memory, [94_537_891_352_576, 140_734_360_029_726]);
        for length in 0..stat.len() {
            Life::parse(&stat[..length]);
        }
    }

    #[test]
    fn arguments_are_one_line() {
        let line = |bytes: &[u8]| arguments(bytes).map(|line| line.to_string());
        assert_eq!(line(b"ls\0-l\0").as_deref(), Some("ls -l"));
        assert_eq!(line(b"nginx: worker process\0\0\0  ").as_deref(), Some("nginx: worker process"));
        assert_eq!(line(b"a\0\0b\0\x1b[2J\0").as_deref(), Some(r"a  b \x1b[2J"));
        assert_eq!(line(b""), None);
        assert_eq!(line(b"\0"), None);
    }

    #[test]
    fn the_effective_user_is_the_second() {
        assert_eq!(effective_user(b"Name:\tx\nUid:\t1000\t33\t0\t0\nGid:\t1\t2\t3\t4\n"), Some(33));
        assert_eq!(effective_user(b"Name:\tx\n"), None);
    }

    /// A child with this name, that is killed at the end.
    struct Sleeper(Child, #[allow(dead_code, reason = "removes the program")] tempfile::TempDir);

    impl Sleeper {
        fn start(name: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let program = folder.path().join(name);
            fs::copy("/bin/sleep", &program).unwrap();
            let child = loop {
                // Another test's child may hold the copy open for writing until it has called exec.
                match Command::new(&program).arg("100").stdin(Stdio::null()).spawn() {
                    Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
                    child => break child.unwrap(),
                }
            };
            Self(child, folder)
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn this_process_is_read() {
        let table = ProcessTable::default();
        let process = table.lookup(std::process::id()).unwrap();
        let exe = std::env::current_exe().unwrap();
        assert_eq!(process.exe, Some(CleanText::from_bytes(exe.as_os_str().as_bytes())));
        assert!(process.cmdline.is_some());
        assert_eq!(process.uid, Some(rustix::process::geteuid().as_raw()));
        assert_eq!(process.parent_pid, Some(std::os::unix::process::parent_id()));
        assert!(process.cgroup.as_ref().unwrap().as_str().starts_with('/'));

        let started = process.started.unwrap().ns();
        assert!(started < super::super::now().boot_ns);
        assert!(Arc::ptr_eq(&process, &table.lookup(std::process::id()).unwrap()));
    }

    #[test]
    fn a_start_is_the_same_within_a_tick_and_becomes_exact() {
        let table = ProcessTable::default();
        let pid = std::process::id();
        let started = table.lookup(pid).unwrap().started.unwrap();
        let at = |ns| BootTime::from_ns(started.ns() + ns);
        assert!(table.lookup_started(pid, None).is_some());
        assert!(table.lookup_started(pid, at(20_000_001)).is_none());
        assert_eq!(table.lookup_started(pid, at(9_999_999)).unwrap().started, at(9_999_999));
        assert_eq!(table.lookup(pid).unwrap().started, at(9_999_999));
    }

    #[test]
    fn a_child_is_known_with_its_strange_name_until_it_dies() {
        let table = ProcessTable::default();
        let mut sleeper = Sleeper::start("a) R\n\u{1b}x");
        let pid = sleeper.0.id();
        // The child may be in the middle of `exec`.
        let process = loop {
            match table.lookup(pid).unwrap() {
                process if process.cmdline.is_some() => break process,
                _ => std::thread::yield_now(),
            }
        };
        assert_eq!(process.comm, r"a) R\x0a\x1bx");
        assert!(process.exe.as_ref().unwrap().as_str().ends_with(r"a) R\x0a\x1bx"));
        assert!(process.cmdline.as_ref().unwrap().as_str().ends_with(" 100"));
        assert_eq!(process.parent_pid, Some(std::process::id()));

        sleeper.0.kill().unwrap();
        // Until it is waited for, it is a zombie.
        let mut late = Process { started: process.started, ..Process::new(pid, process.comm.as_str()) };
        table.enrich(&mut late);
        assert_eq!(late.exe, process.exe);
        sleeper.0.wait().unwrap();
        assert_eq!(table.lookup(pid), None);
        assert_eq!(table.lookup_started(pid, process.started), None);

        let mut late = Process { started: process.started, ..Process::new(pid, process.comm.as_str()) };
        table.enrich(&mut late);
        assert_eq!(late.exe, process.exe, "it is remembered");

        let mut unknown = late.clone();
        ProcessTable::default().enrich(&mut unknown);
        assert_eq!(unknown, late);
    }

    #[test]
    fn what_called_exec_is_read_anew() {
        let table = ProcessTable::default();
        let mut child = Command::new("sh")
            .args(["-c", "read line; exec sleep 100"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let shell = loop {
            match table.lookup(child.id()).unwrap() {
                process if process.comm == "sh" && process.cmdline.is_some() => break process,
                _ => std::thread::yield_now(),
            }
        };
        drop(child.stdin.take());
        let sleep = loop {
            let process = table.lookup(child.id()).unwrap();
            if process.comm != "sh" && process.cmdline.is_some() {
                break process;
            }
            std::thread::yield_now();
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(sleep.started, shell.started);
        assert_ne!(sleep.exe, shell.exe);
        assert_eq!(sleep.cmdline.as_ref().unwrap(), "sleep 100");

        let mut before = Process { started: shell.started, ..Process::new(shell.pid, "sh") };
        table.enrich(&mut before);
        assert_eq!(before.exe, None, "the program of another name is not that of the shell");
        assert_eq!(before.cgroup, shell.cgroup);
    }

    #[test]
    fn only_what_is_missing_is_filled_in() {
        let table = ProcessTable::default();
        let pid = std::process::id();
        let whole = table.lookup(pid).unwrap();
        let mut process = Process {
            started: whole.started,
            cgroup: Some("/known".into()),
            ..Process::new(pid, whole.comm.as_str())
        };
        table.enrich(&mut process);
        assert_eq!(process.exe, whole.exe);
        assert_eq!(process.parent_pid, whole.parent_pid);
        assert_eq!(process.cgroup.as_ref().unwrap(), "/known");
        assert_eq!((process.container, process.unit), (None, None));

        let mut another = Process { started: BootTime::from_ns(1), ..Process::new(pid, whole.comm.as_str()) };
        table.enrich(&mut another);
        assert_eq!(another.exe, None);
        let mut unsure = Process::new(pid, whole.comm.as_str());
        table.enrich(&mut unsure);
        assert_eq!(unsure.exe, None);
    }

    #[test]
    fn a_full_table_forgets_what_nobody_asked_for() {
        const LIMIT: usize = 1 << 20;
        let table = ProcessTable::within(LIMIT);
        let (life, _) = Life::read(std::process::id()).unwrap();
        let mut process = Process::new(1, "x");
        process.cmdline = Some("y".repeat(200).into());
        for pid in 0..100_000 {
            let process = Arc::new(Process { pid, ..process.clone() });
            table.remember(pid, Known { life: life.clone(), process });
            assert!(lock(&table.known).get(&4).is_some() || pid < 4);
        }
        assert!(lock(&table.known).get(&5).is_none());
        let memory = lock(&table.known).memory();
        assert!((LIMIT / 4..=LIMIT).contains(&memory), "{memory}");
    }

    #[test]
    fn names_of_groups_that_are_gone_are_forgotten_when_they_are_too_many() {
        let names = CgroupNames::within(100_000);
        let group = |id| (id, Arc::new(Cgroup::new(format!("/kubepods.slice/pod-{id}.slice").as_bytes())));
        // Numbers of inodes that no group has.
        let gone = u64::MAX / 2;
        for round in 0..20 {
            lock(&names.names).by_id.extend((0..100).map(|index| group(gone + round * 100 + index)));
            lock(&names.names).scanned = None;
            names.find(u64::MAX);
            let living = lock(&names.names).by_id.keys().filter(|id| **id < gone).count();
            let memory = lock(&names.names).memory();
            let most = 120_000 + living * 2000;
            assert!(memory < most, "{memory} after {round}, with {living} that are there");
        }
        assert!(lock(&names.names).by_id.contains_key(&(gone + 1999)), "the last ones stay");
    }

    #[test]
    fn the_holder_of_a_socket_is_found_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let again = listener.try_clone().unwrap();
        let link = CString::new(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let inode = numbered_link(CWD, &link, b"socket:[").unwrap();

        let table = ProcessTable::default();
        let holders = table.socket_holders().unwrap();
        let pids = &holders.by_inode[&inode];
        assert_eq!(pids.iter().filter(|pid| **pid == std::process::id()).count(), 1);
        assert!(!holders.processes_hidden);
        drop((listener, again));
    }
}
