//! What a machine boots with: an initial file system of the host's own tools, the programs, and the kernel's modules.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Result, output, packages::Fetched};

/// What the guest takes from this machine beside busybox: what tests run, which busybox has with fewer options.
const TOOLS: [&str; 14] = [
    "dash", "bash", "ip", "tc", "nsenter", "unshare", "setpriv", "prlimit", "bpftool", "kmod", "timeout",
    "sleep", "install", "mkfifo",
];

/// Modules that the tests' interfaces, queues and lists of sockets need; and what those need.
const MODULES: [&str; 18] = [
    "veth",
    "bridge",
    "tun",
    "dummy",
    "8021q",
    "vxlan",
    "sch_ingress",
    "cls_bpf",
    "act_bpf",
    "cls_u32",
    "sch_tbf",
    "sch_netem",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "raw_diag",
    "unix_diag",
    "mptcp_diag",
];

/// The host's folders that are one with those in /usr.
const MERGED: [&str; 5] = ["bin", "sbin", "lib", "lib64", "lib32"];

/// A file system in the making: a folder that becomes an archive.
#[derive(Debug)]
pub struct Image {
    root: tempfile::TempDir,
    libraries: BTreeSet<PathBuf>,
}

impl Image {
    /// With tools, guest scripts and users, but no program of netmon's.
    ///
    /// # Errors
    /// Where this machine lacks one of the tools.
    pub fn create() -> Result<Self> {
        let mut image = Self { root: tempfile::tempdir_in(crate::scratch()?)?, libraries: BTreeSet::new() };
        for folder in [
            "proc",
            "sys",
            "dev",
            "etc",
            "run",
            "tmp",
            "root",
            "guest",
            "usr/bin",
            "usr/sbin",
            "usr/local/bin",
        ] {
            fs::create_dir_all(image.at(Path::new(folder)))?;
        }
        for folder in MERGED {
            fs::create_dir_all(image.at(&Path::new("usr").join(folder)))?;
            symlink(format!("usr/{folder}"), image.at(Path::new(folder)))?;
        }
        fs::write(
            image.at(Path::new("etc/passwd")),
            "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
        )?;
        fs::write(image.at(Path::new("etc/group")), "root:x:0:\nnogroup:x:65534:\n")?;
        fs::write(image.at(Path::new("etc/hosts")), "127.0.0.1 localhost\n::1 localhost\n")?;
        for tool in TOOLS {
            let path =
                find(tool).ok_or_else(|| format!("{tool} is not on this machine, and the guest needs it"))?;
            image.add_program(&path, Path::new("/usr/bin").join(tool).as_path())?;
        }
        symlink("dash", image.at(Path::new("usr/bin/sh")))?;
        symlink("../bin/kmod", image.at(Path::new("usr/sbin/modprobe")))?;
        image.add_busybox()?;
        let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest");
        fs::copy(guest.join("init"), image.at(Path::new("init")))?;
        for job in ["situations", "suite"] {
            fs::copy(guest.join(job), image.at(&Path::new("guest").join(job)))?;
        }
        for script in fs::read_dir(guest.join("bin"))? {
            let script = script?;
            fs::copy(script.path(), image.at(&Path::new("usr/local/bin").join(script.file_name())))?;
        }
        Ok(image)
    }

    fn at(&self, path: &Path) -> PathBuf {
        self.root.path().join(path.strip_prefix("/").unwrap_or(path))
    }

    fn add_busybox(&self) -> Result<()> {
        let busybox = find("busybox").ok_or("busybox is not on this machine, and the guest needs it")?;
        let inside = self.at(Path::new("usr/bin/busybox"));
        fs::copy(&busybox, &inside)?;
        for applet in output(Command::new(&busybox).arg("--list"))?.lines() {
            let path = self.at(&Path::new("usr/bin").join(applet));
            if !path.exists() && !path.is_symlink() {
                symlink("busybox", path)?;
            }
        }
        Ok(())
    }

    /// Adds a program with the libraries it needs, without what only a debugger reads.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn add_program(&mut self, from: &Path, to: &Path) -> Result<()> {
        let inside = self.at(to);
        fs::create_dir_all(inside.parent().ok_or("a program lies in a folder")?)?;
        let stripped = Command::new("strip").arg("--strip-debug").arg("-o").arg(&inside).arg(from).output();
        if !stripped.is_ok_and(|output| output.status.success()) {
            fs::copy(from, &inside)?;
        }
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o755))?;
        // Of a static program it fails.
        let needed = output(Command::new("ldd").arg(from)).unwrap_or_default();
        for library in needed.split_whitespace().filter(|word| word.starts_with('/')) {
            self.add_library(Path::new(library))?;
        }
        Ok(())
    }

    fn add_library(&mut self, path: &Path) -> Result<()> {
        if self.libraries.insert(path.to_owned()) {
            let inside = self.at(path);
            fs::create_dir_all(inside.parent().ok_or("a library lies in a folder")?)?;
            fs::copy(path, inside)?;
        }
        Ok(())
    }

    /// A name for a program in the image, where all look for programs.
    ///
    /// # Errors
    /// Where there is one of that name.
    pub fn link_program(&self, program: &Path) -> Result<()> {
        let name = program.file_name().ok_or("a program has a name")?;
        Ok(symlink(program, self.at(&Path::new("/usr/local/bin").join(name)))?)
    }

    /// Adds a file, or a folder with all in it, where it is on this machine.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn add_tree(&self, path: &Path) -> Result<()> {
        let inside = self.at(path);
        fs::create_dir_all(inside.parent().ok_or("it lies in a folder")?)?;
        output(Command::new("cp").arg("-r").arg(path).arg(inside.parent().unwrap_or(&inside)))?;
        Ok(())
    }

    /// Adds a file with this text.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn add_text(&self, path: &str, text: &str, executable: bool) -> Result<()> {
        let inside = self.at(Path::new(path));
        fs::create_dir_all(inside.parent().ok_or("it lies in a folder")?)?;
        fs::write(&inside, text)?;
        let mode = if executable { 0o755 } else { 0o644 };
        Ok(fs::set_permissions(inside, fs::Permissions::from_mode(mode))?)
    }

    /// Adds an empty folder.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn add_folder(&self, path: &Path) -> Result<()> {
        Ok(fs::create_dir_all(self.at(path))?)
    }

    /// The archive that a kernel takes as its first file system.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn archive(&self) -> Result<tempfile::NamedTempFile> {
        archive(self.root.path())
    }
}

/// The modules of a kernel as a second archive, which is unpacked over the first.
///
/// # Errors
/// Where they cannot be read.
pub fn modules(kernel: &Fetched) -> Result<tempfile::NamedTempFile> {
    let root = tempfile::tempdir_in(crate::scratch()?)?;
    let from = kernel.root.join("lib/modules").join(&kernel.release);
    let inside = root.path().join("lib/modules").join(&kernel.release);
    let dependencies = fs::read_to_string(from.join("modules.dep"))?;
    let needs: BTreeMap<&str, Vec<&str>> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(module, needs)| (module, needs.split_whitespace().collect()))
        .collect();
    let name =
        |path: &str| path.rsplit('/').next().unwrap_or(path).split('.').next().unwrap_or(path).to_owned();
    for (module, needs) in needs.iter().filter(|(module, _)| MODULES.contains(&name(module).as_str())) {
        for path in needs.iter().chain([module]) {
            fs::create_dir_all(inside.join(path).parent().ok_or("a module lies in a folder")?)?;
            fs::copy(from.join(path), inside.join(path))?;
        }
    }
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        if from.join(list).exists() {
            fs::copy(from.join(list), inside.join(list))?;
        }
    }
    depmod(root.path(), &kernel.release)?;
    // Where the image has it, whose `lib` is a link.
    fs::create_dir(root.path().join("usr"))?;
    fs::rename(root.path().join("lib"), root.path().join("usr/lib"))?;
    archive(root.path())
}

/// Writes down which module needs which, in the modules' own folder.
///
/// # Errors
/// Where that cannot be told.
pub fn depmod(root: &Path, release: &str) -> Result<()> {
    let program = find("depmod").ok_or("depmod is not on this machine")?;
    output(Command::new(program).arg("-b").arg(root).arg(release)).map(drop)
}

/// All below a folder as root's, in the one format that kernels take.
fn archive(root: &Path) -> Result<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::new_in(crate::scratch()?)?;
    let mut find = Command::new("find").arg(".").current_dir(root).stdout(Stdio::piped()).spawn()?;
    let names = find.stdout.take().ok_or("find has no output")?;
    let status = Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc", "-R", "0:0"])
        .current_dir(root)
        .stdin(names)
        .stdout(File::create(file.path())?)
        .status()?;
    if !find.wait()?.success() || !status.success() {
        return Err("the archive of files could not be made".into());
    }
    Ok(file)
}

/// A program on the path; as root's, which a user's may lack.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').map(PathBuf::from).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The archives one after the other, as one file.
///
/// # Errors
/// Where it cannot be written.
pub fn joined(archives: &[&Path]) -> Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new_in(crate::scratch()?)?;
    for path in archives {
        io::copy(&mut File::open(path)?, &mut file)?;
    }
    Ok(file)
}
