//! What the benchmarks share: the check for root, order statistics and aligned tables.
#![allow(dead_code, reason = "each benchmark uses a part of it")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark is a program that prints its result"
)]

pub(crate) mod netmond;
pub(crate) mod recorded;

use std::{error::Error, fmt, fs, process::ExitCode, time::Instant};

pub(crate) type BenchResult<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// What `cargo bench` passes to every benchmark.
#[derive(clap::Args)]
pub(crate) struct CargoOptions {
    #[arg(long, hide = true)]
    bench: bool,
}

/// Runs a benchmark as root, or says in one line why not.
pub(crate) fn run(benchmark: impl FnOnce() -> BenchResult) -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        eprintln!("this benchmark loads BPF programs and makes network namespaces: run it as root");
        return ExitCode::from(3);
    }
    match benchmark() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

/// How long something takes.
pub(crate) fn seconds(work: impl FnOnce() -> BenchResult) -> BenchResult<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

/// The memory of this process, in bytes.
pub(crate) fn resident() -> BenchResult<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kilobytes: u64 = line.trim_matches(|c: char| !c.is_ascii_digit()).parse()?;
    Ok(kilobytes * 1024)
}

/// Repeated measurements of one thing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn push(&mut self, value: f64) {
        let place = self.0.partition_point(|other| *other < value);
        self.0.insert(place, value);
    }

    pub(crate) fn least(&self) -> f64 {
        self.quantile(0.0)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The median and the quartiles, a number times `unit`.
    pub(crate) fn quartiles(&self, unit: f64) -> String {
        let at = |part| self.quantile(part) * unit;
        let decimals = match at(0.5) {
            large if large >= 100.0 => 0,
            middling if middling >= 10.0 => 1,
            _ => 2,
        };
        format!("{:.decimals$} ({:.decimals$}..{:.decimals$})", at(0.5), at(0.25), at(0.75))
    }

    /// Interpolated between the two nearest; not a number where nothing was measured.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let Some(last) = self.0.len().checked_sub(1) else { return f64::NAN };
        let place = part * last as f64;
        let (below, above) = (self.0[place.floor() as usize], self.0[place.ceil() as usize]);
        below + (above - below) * place.fract()
    }

    /// Two of the values, between which the median of all possible measurements lies with a probability of at least 95 %,
    /// whatever their distribution; the extremes where there are fewer than six. By the binomial distribution.
    pub(crate) fn median_interval(&self) -> (f64, f64) {
        let count = self.0.len();
        let Some(last) = count.checked_sub(1) else { return (f64::NAN, f64::NAN) };
        // How many values may be left out at each end: the chance that so few lie on one side of the median must stay
        // below 2.5 %.
        let mut chance = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
        let mut at_most = chance;
        let mut skip = 0;
        while skip < last / 2 {
            chance *= (count - skip) as f64 / (skip + 1) as f64;
            at_most += chance;
            if at_most > 0.025 {
                break;
            }
            skip += 1;
        }
        (self.0[skip], self.0[last - skip])
    }
}

/// Lines of cells, the first column aligned to the left and the others to the right.
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new<T: Into<String>>(titles: impl IntoIterator<Item = T>) -> Self {
        Self(vec![titles.into_iter().map(Into::into).collect()])
    }

    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.0.push(cells.into_iter().map(Into::into).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column| self.0.iter().filter_map(|row| row.get(column)).map(String::len).max();
        for row in &self.0 {
            for (column, cell) in row.iter().enumerate() {
                let width = width(column).unwrap_or_default();
                if column == 0 {
                    write!(f, "{cell:<width$}")?;
                } else {
                    write!(f, "  {cell:>width$}")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
