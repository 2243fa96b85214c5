//! The numbers that decide what stands out. They are the same for everybody, so that two answers can be compared.

use std::time::Duration;

/// How many destinations and processes are listed.
pub const LISTED: usize = 20;
/// How many findings of a kind are told; more are counted in a warning.
pub const MOST_FINDINGS: usize = 50;
/// How many connections are looked at one by one (about 100 bytes each while the answer is made). Those beyond are in the
/// protocol mix only, and a warning says so.
pub const MOST_CONNECTIONS: usize = 2_000_000;
/// A process with fewer attempts is looked at together with others of its name, user and container, so that a program
/// that is started for each of its connections is one.
pub const LEAST_ATTEMPTS_OF_A_PROCESS: usize = 6;

/// How often Wilson's lower bound of a ratio may be above the true one: 2.5 % (z = 1.96). Where many processes or
/// destinations are compared, for all of them together.
pub const BOUND_PROBABILITY: f64 = 0.025;
/// Failures are frequent where at least so many attempts were decided ...
pub const LEAST_DECIDED: u64 = 5;
/// ... and the lower bound of the ratio of those that failed is at least this. For a subject alone, 3 of 5 (0.23), 5 of 10
/// (0.24) and 25 of 100 (0.18, not) are near it; among a hundred, 5 of 5 (0.29) and 7 of 10 (0.23).
pub const FREQUENT_FAILURES: f64 = 0.2;

/// Attempts are counted in steps of a second, or less in a short window, so that there are at least so many.
pub const LEAST_STEPS: u32 = 20;
/// A burst has at least so many attempts in a step, ...
pub const LEAST_BURST: u64 = 20;
/// ... is at least so many times what is usual, ...
pub const BURST_RATIO: f64 = 3.0;
/// ... at least so many median absolute deviations (scaled to a standard deviation) above the median, ...
pub const BURST_DEVIATIONS: f64 = 6.0;
/// ... and comes in a window of Poisson traffic of the usual rate less often than this.
pub const BURST_PROBABILITY: f64 = 1e-6;

/// Periodic connections have at least so many beats, ...
pub const LEAST_BEATS: usize = 6;
/// ... at least this far apart, ...
pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(500);
/// ... of which not more than this share is missed, ...
pub const MOST_MISSED: f64 = 0.4;
/// ... and would be found in as many series of Poisson traffic as were looked at less often than this.
pub const PERIODIC_PROBABILITY: f64 = 0.01;
/// Attempts that follow another so soon are one beat: parallel connections.
pub const SAME_BEAT: Duration = Duration::from_millis(50);

/// A scan has at least so many targets within [`SCAN_TIME`], ...
pub const LEAST_TARGETS: usize = 20;
/// The time in which the targets of a scan are counted.
pub const SCAN_TIME: Duration = Duration::from_secs(60);
/// ... got nothing from at least this share of them (Wilson's lower bound): all attempts failed, are not answered, or are
/// over with at most [`FEW_BYTES`] ...
pub const FRUITLESS_SHARE: f64 = 0.5;
/// ... in both directions together, ...
pub const FEW_BYTES: u64 = 64;
/// ... and has tried each of them not more often than this on average, as a health check would.
pub const MOST_TRIES: f64 = 3.0;

/// New destinations are told where the time before the window was observed for at least this share of its length.
pub const LEAST_BASELINE: f64 = 0.9;
