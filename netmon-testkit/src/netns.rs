//! Network namespaces.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    os::unix::fs::MetadataExt as _,
    panic,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use nix::sched::{CloneFlags, setns};

use crate::turn::Turn;

/// A network namespace of its own name, with its loopback up. Dropping it removes it with all interfaces in it. While a
/// test has one, other tests of the process wait for theirs.
///
/// IPv6 keeps quiet in it: no interface gets a link-local address or asks for routers, no address is probed for
/// duplicates, and multicast memberships are reported at once instead of over seconds. What is counted is then what the
/// test sent.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: File,
    _turn: Turn,
}

/// The number of the namespace that the calling thread is in.
pub fn own_number() -> u32 {
    number_of(fs::metadata("/proc/thread-self/ns/net"))
}

fn number_of(metadata: io::Result<fs::Metadata>) -> u32 {
    let metadata = metadata.unwrap_or_else(|error| panic!("cannot read a namespace's number: {error}"));
    u32::try_from(metadata.ino()).unwrap_or_else(|_| panic!("{} is no namespace's number", metadata.ino()))
}

impl Netns {
    /// Creates a namespace.
    ///
    /// # Panics
    /// Without root, or where `ip` (iproute2) is missing.
    #[track_caller]
    pub fn create() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(
            nix::unistd::geteuid().is_root(),
            "this is a kernel test, which needs root: run it so, or leave it out with `--skip :root:`"
        );
        let turn = Turn::take();
        let name = format!("netmon-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        checked(Command::new("ip").args(["netns", "add", &name]), None);
        let path = format!("/run/netns/{name}");
        let file = File::open(&path).unwrap_or_else(|error| panic!("cannot open {path}: {error}"));
        let netns = Self { name, file, _turn: turn };
        netns.enter(|| {
            for (setting, value) in [
                ("addr_gen_mode", "1"), // none
                ("accept_dad", "0"),
                ("accept_ra", "0"),
                ("router_solicitations", "0"),
                ("mldv1_unsolicited_report_interval", "1"),
                ("mldv2_unsolicited_report_interval", "1"),
            ] {
                write_sysctl(&format!("net/ipv6/conf/default/{setting}"), value);
            }
            // What the kernel answers is counted too, so it has to answer always.
            write_sysctl("net/ipv4/icmp_ratelimit", "0");
            write_sysctl("net/ipv6/icmp/ratelimit", "0");
            write_sysctl("net/ipv4/ping_group_range", "0 0");
        });
        netns.ip(&["link set lo up"]);
        netns
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The inode number by which the kernel and facts tell it from others.
    pub fn number(&self) -> u32 {
        number_of(self.file.metadata())
    }

    /// Runs a closure on a thread of its own in this namespace. A panic in it goes on in the caller.
    pub fn enter<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET)
                    .unwrap_or_else(|error| panic!("cannot enter {}: {error}", self.name));
                run()
            });
            inside.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
        })
    }

    /// A program that will run in this namespace. By `nsenter`: `ip netns exec` would also mount /sys anew, which hides
    /// the cgroups.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program);
        command
    }

    /// Runs a command in this namespace, its words separated by spaces, and returns what it printed.
    ///
    /// # Panics
    /// Where it fails, with what it said.
    #[track_caller]
    pub fn run(&self, command_line: &str) -> String {
        let mut words = command_line.split_whitespace();
        let program = words.next().unwrap_or_default();
        checked(self.command(program).args(words), None)
    }

    /// Runs `ip` commands in this namespace, in one go.
    ///
    /// # Panics
    /// Where one fails, with what it said.
    #[track_caller]
    pub fn ip(&self, lines: &[impl AsRef<str>]) -> String {
        let batch: String = lines.iter().flat_map(|line| [line.as_ref(), "\n"]).collect();
        checked(self.command("ip").args(["-batch", "-"]), Some(&batch))
    }
}

/// Where packets go out and nothing ever comes back: addresses behind a link on which nobody has their link-layer address.
#[derive(Debug, Clone, Copy)]
pub struct Blackhole(());

impl Blackhole {
    /// An address from which nothing comes back.
    pub const IPV4: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 2);
    /// The same of IPv6.
    pub const IPV6: Ipv6Addr = Ipv6Addr::new(0xfd79, 0, 0, 0, 0, 0, 0, 2);
}

impl Netns {
    /// Sets a value under /proc/sys as this namespace has it (`net/ipv4/tcp_syn_retries`).
    ///
    /// # Panics
    /// Where the kernel refuses it.
    #[track_caller]
    pub fn sysctl(&self, path: &str, value: &str) {
        self.enter(|| write_sysctl(path, value));
    }

    /// Gives the loopback more addresses.
    ///
    /// # Panics
    /// Where it has one of them.
    #[track_caller]
    pub fn add_addresses(&self, addresses: &[IpAddr]) {
        let lines: Vec<_> = addresses
            .iter()
            .map(|address| match address {
                IpAddr::V4(address) => format!("addr add {address}/32 dev lo"),
                IpAddr::V6(address) => format!("addr add {address}/128 dev lo nodad"),
            })
            .collect();
        self.ip(&lines);
    }

    /// Makes [`Blackhole::IPV4`] and [`Blackhole::IPV6`] reachable but silent, and lets a connect to them give up after
    /// three seconds: the SYN is sent, once more after one second, and two seconds later comes ETIMEDOUT.
    ///
    /// # Panics
    /// Where the link cannot be made.
    #[track_caller]
    pub fn add_blackhole(&self) {
        // Not a dummy interface, which not every kernel has. The other end takes nothing that is not for its own
        // link-layer address.
        let mut lines = vec![
            "link add name hole0 type veth peer name hole1".to_owned(),
            "link set hole0 arp off".to_owned(),
            "link set hole1 arp off".to_owned(),
            "addr add 10.79.0.1/24 dev hole0".to_owned(),
            "addr add fd79::1/64 dev hole0 nodad".to_owned(),
            "link set hole1 up".to_owned(),
            "link set hole0 up".to_owned(),
        ];
        for address in [IpAddr::from(Blackhole::IPV4), IpAddr::from(Blackhole::IPV6)] {
            lines.push(format!("neigh replace {address} lladdr 02:00:00:79:ff:ff dev hole0 nud permanent"));
        }
        self.ip(&lines);
        self.sysctl("net/ipv4/tcp_syn_retries", "1"); // of both families
        // Since Linux 6.5 (ccce324dabfe), four SYNs more follow a second apart before the retries are counted.
        let linear = "net/ipv4/tcp_syn_linear_timeouts";
        if std::path::Path::new("/proc/sys").join(linear).exists() {
            self.sysctl(linear, "0");
        }
    }

    /// Lets the kernel choose local ports from this range only.
    ///
    /// # Panics
    /// Where the kernel refuses it.
    #[track_caller]
    pub fn limit_local_ports(&self, ports: RangeInclusive<u16>) {
        self.sysctl("net/ipv4/ip_local_port_range", &format!("{} {}", ports.start(), ports.end()));
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // A test that already fails must not panic again here.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn write_sysctl(path: &str, value: &str) {
    std::fs::write(format!("/proc/sys/{path}"), value)
        .unwrap_or_else(|error| panic!("cannot write {value} to {path}: {error}"));
}

/// Runs a command and returns its output.
#[track_caller]
pub(crate) fn checked(command: &mut Command, input: Option<&str>) -> String {
    let shown = format!("{command:?}");
    let failed = |error: std::io::Error| -> ! { panic!("cannot run {shown}: {error}") };
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|error| failed(error));
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).unwrap_or_else(|error| failed(error));
    }
    let output = child.wait_with_output().unwrap_or_else(|error| failed(error));
    assert!(
        output.status.success(),
        "{shown} failed ({}): {}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        input.map(|input| format!("\nits input was:\n{input}")).unwrap_or_default(),
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
