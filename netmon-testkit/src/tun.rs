//! A device whose frames are IP packets, without an Ethernet header.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use crate::netns::Netns;

/// Opens the device as a VPN would. In Python, since the system call has no safe wrapper.
const HOLDER: &str = "
import fcntl, os, struct, sys, threading
IFF_TUN, IFF_NO_PI, TUNSETIFF = 0x0001, 0x1000, 0x400454ca
tun = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(tun, TUNSETIFF, struct.pack('16sH', sys.argv[1].encode(), IFF_TUN | IFF_NO_PI))
def read():  # the kernel counts a packet as sent when it is read here
    while True:
        os.read(tun, 65535)
threading.Thread(target=read, daemon=True).start()
print('open', flush=True)
for line in sys.stdin:
    os.write(tun, bytes.fromhex(line))
    print('written', flush=True)
";

/// A tun device and the process that has it open. Dropping it ends that process, and with it the device.
#[derive(Debug)]
pub struct Tun {
    process: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Tun {
    /// Creates a device of this name, with the address 10.78.0.1/24 and up.
    ///
    /// # Panics
    /// Without /dev/net/tun or `python3`.
    #[track_caller]
    pub fn create(netns: &Netns, name: &str) -> Self {
        let mut process = netns
            .command("python3")
            .args(["-c", HOLDER, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run python3: {error}"));
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take());
        let stdout = BufReader::new(stdout.unwrap_or_else(|| panic!("python3 has no stdout")));
        let mut tun = Self { process, stdin, stdout };
        tun.expect("open");
        netns.ip(&[format!("addr add 10.78.0.1/24 dev {name}"), format!("link set {name} up")]);
        tun
    }

    /// Makes the interface receive a packet.
    ///
    /// # Panics
    /// Where the kernel refuses it.
    #[track_caller]
    pub fn receive(&mut self, packet: &[u8]) {
        let hex: String = packet.iter().map(|byte| format!("{byte:02x}")).collect();
        if let Some(stdin) = &mut self.stdin {
            writeln!(stdin, "{hex}").unwrap_or_else(|error| panic!("cannot write to python3: {error}"));
        }
        self.expect("written");
    }

    #[track_caller]
    fn expect(&mut self, expected: &str) {
        let mut line = String::new();
        let _ = self.stdout.read_line(&mut line);
        assert_eq!(line.trim_end(), expected, "the holder of the tun device ended; its stderr says why");
    }
}

impl Drop for Tun {
    fn drop(&mut self) {
        self.stdin = None; // it ends by itself then
        let _ = self.process.wait();
    }
}
