//! What a long run shows: a process's memory, descriptors, threads and BPF objects over time, what was asked of it and what
//! it answered, and what is to be held against that.
//!
//! Reading is thin; judging is pure, and each check has a test in which it fails.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    time::{Duration, Instant},
};

/// What a process holds at a moment, by /proc.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Resident memory, in KiB.
    pub resident_kib: u64,
    /// Open files.
    pub descriptors: usize,
    /// Its threads.
    pub threads: usize,
    /// The BPF objects behind its descriptors, by their numbers in the kernel.
    pub objects: BpfObjects,
}

/// BPF objects by their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BpfObjects {
    /// Programs, those included that only a link holds.
    pub programs: BTreeSet<u32>,
    /// Maps.
    pub maps: BTreeSet<u32>,
    /// Links.
    pub links: BTreeSet<u32>,
}

impl BpfObjects {
    /// How many there are, whatever they are.
    pub fn count(&self) -> usize {
        self.programs.len() + self.maps.len() + self.links.len()
    }

    /// Those that are also among others.
    #[must_use]
    pub fn among(&self, others: &Self) -> Self {
        let both = |own: &BTreeSet<u32>, other: &BTreeSet<u32>| own.intersection(other).copied().collect();
        Self {
            programs: both(&self.programs, &others.programs),
            maps: both(&self.maps, &others.maps),
            links: both(&self.links, &others.links),
        }
    }

    /// Those of everybody, which needs `CAP_SYS_ADMIN`.
    #[cfg(feature = "census")]
    #[must_use]
    pub fn in_kernel() -> Self {
        let netmon_bpf::census::Census { programs, maps, links, .. } = netmon_bpf::census::take();
        let set = |numbers: Vec<u32>| numbers.into_iter().collect();
        Self { programs: set(programs), maps: set(maps), links: set(links) }
    }

    fn read(&mut self, fdinfo: &str) {
        let number = |line: &str, name: &str| line.strip_prefix(name)?.trim().parse::<u32>().ok();
        for line in fdinfo.lines() {
            self.programs.extend(number(line, "prog_id:"));
            self.maps.extend(number(line, "map_id:"));
            self.links.extend(number(line, "link_id:"));
        }
    }
}

impl Vitals {
    /// Of each the less.
    fn least(self, other: Self) -> Self {
        let fewer = other.objects.count() < self.objects.count();
        Self {
            resident_kib: self.resident_kib.min(other.resident_kib),
            descriptors: self.descriptors.min(other.descriptors),
            threads: self.threads.min(other.threads),
            objects: if fewer { other.objects } else { self.objects },
        }
    }

    /// Those of a process.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn of(pid: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let number = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        let mut vitals = Self {
            resident_kib: number("VmRSS:"),
            threads: usize::try_from(number("Threads:")).unwrap_or(usize::MAX),
            ..Self::default()
        };
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
            vitals.descriptors += 1;
            // One that was closed meanwhile tells nothing.
            vitals.objects.read(&fs::read_to_string(entry?.path()).unwrap_or_default());
        }
        Ok(vitals)
    }
}

/// The least that a process holds over so many seconds.
///
/// # Errors
/// Where it is gone.
pub fn at_rest(pid: u32, seconds: u64) -> io::Result<Vitals> {
    let mut least = Vitals::of(pid)?;
    for _ in 0..seconds {
        std::thread::sleep(Duration::from_secs(1));
        least = least.least(Vitals::of(pid)?);
    }
    Ok(least)
}

/// Vitals over time.
#[derive(Debug, Default)]
pub struct Course(Vec<(Duration, Vitals)>);

impl Course {
    /// Adds what was read so long after the beginning.
    pub fn push(&mut self, at: Duration, vitals: Vitals) {
        self.0.push((at, vitals));
    }

    /// How many readings there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The largest of a value.
    pub fn most(&self, value: impl Fn(&Vitals) -> u64) -> u64 {
        self.0.iter().map(|(_, vitals)| value(vitals)).max().unwrap_or(0)
    }

    /// The medians of a value in the first and in the last quarter of what is left after the warm-up; `None` where each
    /// would be of fewer than eight readings.
    pub fn quarters(&self, warm_up: Duration, value: impl Fn(&Vitals) -> u64) -> Option<(u64, u64)> {
        const LEAST: usize = 8;
        let values: Vec<u64> =
            self.0.iter().filter(|(at, _)| *at >= warm_up).map(|(_, vitals)| value(vitals)).collect();
        let quarter = values.len() / 4;
        let median = |part: &[u64]| {
            let mut part = part.to_vec();
            part.sort_unstable();
            part[part.len() / 2]
        };
        (quarter >= LEAST).then(|| (median(&values[..quarter]), median(&values[values.len() - quarter..])))
    }
}

/// What was made, and what was told of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// How often it was compared.
    pub entries: u64,
    /// What was made.
    pub made: u64,
    /// What was told.
    pub seen: u64,
    /// What was said to be lost, forgotten or counted without detail, at most.
    pub said_lost: u64,
    /// What was neither told nor said to be lost.
    pub missing: u64,
    /// What was told and never made.
    pub invented: u64,
}

impl Ledger {
    /// Of so many ends of connections one may be missing: some kernels run no tracing program in the context of some threads,
    /// and count that nowhere.
    pub const ONE_END: u64 = 1000;

    /// Compares once.
    pub fn enter(&mut self, made: u64, seen: u64, said_lost: u64) {
        self.entries += 1;
        self.made += made;
        self.seen += seen;
        self.said_lost += said_lost;
        self.missing += made.saturating_sub(seen.saturating_add(said_lost));
        self.invented += seen.saturating_sub(made);
    }

    /// Adds what another has.
    pub fn add(&mut self, other: &Self) {
        self.entries += other.entries;
        self.made += other.made;
        self.seen += other.seen;
        self.said_lost += other.said_lost;
        self.missing += other.missing;
        self.invented += other.invented;
    }
}

/// One line of the verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was to hold.
    pub what: String,
    /// What was found.
    pub found: String,
    /// Whether it holds.
    pub holds: bool,
}

impl Check {
    /// A check of its own kind.
    pub fn new(what: impl Into<String>, found: impl Into<String>, holds: bool) -> Self {
        Self { what: what.into(), found: found.into(), holds }
    }

    /// Memory does not grow: the median of the last quarter is above that of the first by no more than 5 %, or 4 MiB where
    /// that is more.
    pub fn memory(course: &Course, warm_up: Duration) -> Self {
        let what = "resident memory is flat (last quarter within 5 % or 4 MiB of the first)";
        let Some((first, last)) = course.quarters(warm_up, |vitals| vitals.resident_kib) else {
            return Self::new(what, "too few readings", false);
        };
        let bound = (first / 20).max(4 << 10);
        let most = course.most(|vitals| vitals.resident_kib);
        let mib = |kib: u64| kib as f64 / 1024.0;
        let found = format!("{:.1} to {:.1} MiB, at most {:.1} MiB", mib(first), mib(last), mib(most));
        Self::new(what, found, last <= first + bound)
    }

    /// Descriptors and threads under load do not grow: the medians of the quarters differ by 8 at most.
    pub fn steady(name: &str, course: &Course, warm_up: Duration, value: impl Fn(&Vitals) -> u64) -> Self {
        let what = format!("{name} under load are flat (last quarter within 8 of the first)");
        let Some((first, last)) = course.quarters(warm_up, &value) else {
            return Self::new(what, "too few readings", false);
        };
        Self::new(what, format!("{first} to {last}, at most {}", course.most(value)), last <= first + 8)
    }

    /// When nobody asks any more it holds what it held before, each the least of some readings: the program has work of its
    /// own now and then.
    pub fn restored(before: &Vitals, after: &Vitals) -> Vec<Self> {
        let restored = |name: &str, before: usize, after: usize| {
            Self::new(
                format!("{name} after the load are those of before"),
                format!("{before} before, {after} after"),
                after <= before,
            )
        };
        vec![
            restored("descriptors", before.descriptors, after.descriptors),
            restored("threads", before.threads, after.threads),
            restored("BPF programs, maps and links", before.objects.count(), after.objects.count()),
        ]
    }

    /// Everything that was made was told, or said to be lost, and nothing else was told. Of so many one may be missing, 0 for
    /// none: see [`Ledger::ONE_END`].
    pub fn accounted(name: &str, ledger: &Ledger, of: u64) -> Self {
        let Ledger { entries, made, seen, said_lost, missing, invented } = ledger;
        Self::new(
            format!("{name}: nothing is lost uncounted, nothing told twice"),
            format!(
                "{made} made in {entries} bursts, {seen} told, {said_lost} said to be lost; {missing} missing, {invented} too many"
            ),
            // Where most is said to be lost, nothing was tried.
            *made > 0 && *seen >= made / 2 && *missing <= made.checked_div(of).unwrap_or(0) && *invented == 0,
        )
    }

    /// Two counters of the same packets agree in sum: those of a window may differ, since one is read after the other.
    pub fn agree(name: &str, windows: u64, packets: u64, difference: i64) -> Self {
        Self::new(
            format!("{name} (1 % at most)"),
            format!("{packets} packets in {windows} windows, of which {difference} are in one alone"),
            packets > 0 && difference.unsigned_abs() <= packets / 100,
        )
    }

    /// Hardly anything else happened on the host: its connections take memory and records too, in whatever namespace.
    pub fn alone(own: u64, all: u64) -> Self {
        let others = all.saturating_sub(own);
        Self::new(
            "nothing else on this host makes many connections (one in ten at most), or this run says nothing of memory",
            format!("{all} ends were told, {others} of them others'"),
            own > 0 && others <= all / 10,
        )
    }

    /// Questions were asked, and none failed. A failure begins with its question and a colon; of each question the first is
    /// shown.
    pub fn answered(asked: u64, failures: &[String]) -> Self {
        let mut kinds: Vec<(&str, &String, usize)> = Vec::new();
        for failure in failures {
            let question = failure.split(':').next().unwrap_or_default();
            match kinds.iter_mut().find(|(known, ..)| *known == question) {
                Some((.., count)) => *count += 1,
                None => kinds.push((question, failure, 1)),
            }
        }
        let mut found = format!("{asked} asked, {} failed", failures.len());
        for (_, first, count) in kinds {
            found += &format!("; {count} times such as {first}");
        }
        Self::new("every question is answered", found, asked > 0 && failures.is_empty())
    }

    /// Nothing of what it held is still in the kernel.
    pub fn gone(held: &BpfObjects, in_kernel: &BpfObjects) -> Self {
        let left = held.among(in_kernel);
        let found = format!(
            "of {} programs, {} maps and {} links are left: {}, {}, {}",
            held.programs.len(),
            held.maps.len(),
            held.links.len(),
            left.programs.len(),
            left.maps.len(),
            left.links.len(),
        );
        let held_any = !held.programs.is_empty() && !held.maps.is_empty() && !held.links.is_empty();
        Self::new("nothing stays attached after the end", found, held_any && left.count() == 0)
    }

    /// Its log tells of no panic and no error.
    pub fn quiet(log: &str) -> Self {
        let bad = |line: &&str| line.contains("panicked") || line.contains("ERROR");
        let count = log.lines().filter(bad).count();
        let found = match log.lines().find(bad) {
            None => format!("{} lines, none of them", log.lines().count()),
            Some(line) => format!("{count}, the first: {line}"),
        };
        Self::new("the log tells of no panic and no error", found, count == 0)
    }
}

/// A verdict: checks as the rows of a Markdown table.
#[derive(Debug, Clone, Default)]
pub struct Verdict(pub Vec<Check>);

impl Verdict {
    /// Whether all of them hold; false where there are none.
    pub fn holds(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|check| check.holds)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what has to hold | found | |")?;
        writeln!(f, "|---|---|---|")?;
        for Check { what, found, holds } in &self.0 {
            writeln!(
                f,
                "| {what} | {} | {} |",
                found.replace('|', "\\|"),
                if *holds { "holds" } else { "FAILS" }
            )?;
        }
        Ok(())
    }
}

/// Asks until the answer is complete or a while is over, and returns the last answer: what ends just now is told a moment
/// later.
pub fn until_complete<T>(mut ask: impl FnMut() -> T, is_complete: impl Fn(&T) -> bool) -> T {
    const LONG: Duration = Duration::from_secs(10);
    let start = Instant::now();
    loop {
        let answer = ask();
        if is_complete(&answer) || start.elapsed() > LONG {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARM_UP: Duration = Duration::from_secs(20);

    /// A reading a second, of which each is as `at` says.
    fn course(seconds: u64, at: impl Fn(u64) -> Vitals) -> Course {
        let mut course = Course::default();
        for second in 0..seconds {
            course.push(Duration::from_secs(second), at(second));
        }
        course
    }

    fn resident(kib: u64) -> Vitals {
        Vitals { resident_kib: kib, ..Vitals::default() }
    }

    fn objects(programs: &[u32], maps: &[u32], links: &[u32]) -> BpfObjects {
        let set = |numbers: &[u32]| numbers.iter().copied().collect();
        BpfObjects { programs: set(programs), maps: set(maps), links: set(links) }
    }

    #[test]
    fn memory_that_grows_slowly_is_no_flat_memory() {
        // It fills up first, and goes up and down after that.
        let flat = course(120, |second| {
            resident(if second < 20 { second * 1000 } else { 20_000 + second % 7 * 500 })
        });
        assert!(Check::memory(&flat, WARM_UP).holds);
        let leaking = course(120, |second| resident(20_000 + second * 100));
        let check = Check::memory(&leaking, WARM_UP);
        assert!(!check.holds, "{check:?}");
        assert_eq!(check.found, "22.7 to 30.0 MiB, at most 31.2 MiB");
        assert!(!Check::memory(&course(40, |_| resident(1)), WARM_UP).holds, "too few readings");
    }

    #[test]
    fn descriptors_that_pile_up_are_not_steady() {
        let with = |count| Vitals { descriptors: count, ..Vitals::default() };
        let value = |vitals: &Vitals| vitals.descriptors as u64;
        let busy = course(100, |second| with(30 + second as usize % 10));
        assert!(Check::steady("descriptors", &busy, WARM_UP, value).holds);
        let leaking = course(100, |second| with(30 + second as usize / 4));
        assert!(!Check::steady("descriptors", &leaking, WARM_UP, value).holds);
    }

    #[test]
    fn one_thing_more_than_before_is_not_restored() {
        let before =
            Vitals { descriptors: 9, threads: 4, objects: objects(&[1], &[2], &[3]), resident_kib: 1 };
        let held = |after: &Vitals| {
            Check::restored(&before, after).iter().map(|check| check.holds).collect::<Vec<_>>()
        };
        assert_eq!(held(&before), [true; 3]);
        assert_eq!(held(&Vitals { descriptors: 10, ..before.clone() }), [false, true, true]);
        assert_eq!(held(&Vitals { threads: 5, ..before.clone() }), [true, false, true]);
        assert_eq!(
            held(&Vitals { objects: objects(&[1, 7], &[2], &[3]), ..before.clone() }),
            [true, true, false]
        );
    }

    #[test]
    fn what_it_does_now_and_then_is_not_what_it_holds_at_rest() {
        let reading = |descriptors, threads, programs: &[u32]| Vitals {
            resident_kib: 10,
            descriptors,
            threads,
            objects: objects(programs, &[], &[]),
        };
        let least = reading(9, 5, &[1]).least(reading(8, 6, &[1, 2]));
        assert_eq!(least, reading(8, 5, &[1]));
        assert_eq!(reading(8, 5, &[1, 2]).least(reading(9, 5, &[1])), reading(8, 5, &[1]));
    }

    #[test]
    fn what_is_missing_and_what_was_never_made_are_told_apart() {
        let ledger = |entries: &[(u64, u64, u64)]| {
            let mut ledger = Ledger::default();
            for (made, seen, lost) in entries {
                ledger.enter(*made, *seen, *lost);
            }
            ledger
        };
        assert!(Check::accounted("x", &ledger(&[(10, 10, 0), (10, 7, 3)]), 0).holds);
        assert!(!Check::accounted("x", &ledger(&[]), 0).holds, "nothing was compared");
        assert!(!Check::accounted("x", &ledger(&[(0, 0, 0)]), 0).holds, "nothing was made");
        assert!(!Check::accounted("x", &ledger(&[(10, 4, 6)]), 0).holds, "most is said to be lost");
        // One too few here and one too many there are not nothing.
        let wrong = ledger(&[(10, 9, 0), (10, 11, 0)]);
        assert_eq!((wrong.missing, wrong.invented), (1, 1));
        assert!(!Check::accounted("x", &wrong, 0).holds);
        // Some may be missing of very many; nothing may be told that was not made.
        assert!(Check::accounted("x", &ledger(&[(2000, 1998, 0)]), 1000).holds);
        assert!(!Check::accounted("x", &ledger(&[(2000, 1997, 0)]), 1000).holds);
        assert!(!Check::accounted("x", &ledger(&[(2000, 2001, 0)]), 1000).holds);
        assert!(Check::agree("x", 2, 1000, -10).holds);
        assert!(!Check::agree("x", 2, 1000, 11).holds);
        assert!(!Check::agree("x", 0, 0, 0).holds);
        let mut sum = ledger(&[(10, 9, 0)]);
        sum.add(&ledger(&[(10, 10, 0)]));
        assert_eq!((sum.entries, sum.made, sum.missing), (2, 20, 1));
    }

    #[test]
    fn what_is_left_in_the_kernel_is_found() {
        let held = objects(&[1, 2], &[3], &[4]);
        assert!(Check::gone(&held, &objects(&[8], &[9], &[10])).holds, "others' objects are theirs");
        let check = Check::gone(&held, &objects(&[2, 8], &[9], &[4]));
        assert!(!check.holds);
        assert_eq!(check.found, "of 2 programs, 1 maps and 1 links are left: 1, 0, 1");
        assert!(!Check::gone(&BpfObjects::default(), &held).holds, "it never held anything");
    }

    #[test]
    fn failed_questions_and_panics_in_the_log_are_seen() {
        assert!(Check::alone(900, 1000).holds);
        assert!(!Check::alone(899, 1000).holds);
        assert!(!Check::alone(0, 0).holds);
        assert!(Check::answered(3, &[]).holds);
        assert!(!Check::answered(0, &[]).holds);
        let failed = Check::answered(3, &["x: a: 1".to_owned(), "y: 2".to_owned(), "x: b".to_owned()]);
        assert!(!failed.holds);
        assert_eq!(failed.found, "3 asked, 3 failed; 2 times such as x: a: 1; 1 times such as y: 2");
        assert!(Check::quiet("INFO ready\n").holds);
        assert!(!Check::quiet("INFO ready\nthread 'x' panicked at\n").holds);
        assert!(!Check::quiet("2026 ERROR the thread\n").holds);
        assert!(!Verdict::default().holds());
        assert!(!Verdict(vec![Check::new("a", "b", true), Check::new("c", "d|e", false)]).holds());
        let told = Verdict(vec![Check::new("a", "b|c", false)]).to_string();
        assert!(told.ends_with("| a | b\\|c | FAILS |\n"), "{told}");
    }

    #[test]
    fn vitals_are_those_of_the_process() {
        let before = Vitals::of(std::process::id()).unwrap_or_default();
        assert!(before.resident_kib > 0 && before.threads > 0, "{before:?}");
        let files: Vec<_> = (0..20).map(|_| fs::File::open("/dev/null")).collect();
        let with = Vitals::of(std::process::id()).unwrap_or_default();
        // Other tests of this process open and close files too, but not twenty.
        assert!(with.descriptors >= before.descriptors + 10, "{before:?} {with:?}");
        drop(files);
        let mut objects = BpfObjects::default();
        objects.read("pos:\t0\nlink_type:\ttracing\nlink_id:\t12\nprog_tag:\t00\nprog_id:\t34\n");
        objects.read("map_type:\t1\nmap_id:\t56\n");
        assert_eq!(objects, super::tests::objects(&[34], &[56], &[12]));
    }
}
