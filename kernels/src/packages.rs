//! Debian's kernels, from the mirror that this machine's own apt uses, whatever version they have there today.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Result, image, output};

/// A line of stock kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kernel {
    /// Debian 11's.
    Linux5_10,
    /// Debian 12's.
    Linux6_1,
    /// Debian 13's.
    Linux6_12,
    /// The newest there is.
    Newest,
}

impl Kernel {
    /// All of them, the oldest first.
    pub const ALL: [Self; 4] = [Self::Linux5_10, Self::Linux6_1, Self::Linux6_12, Self::Newest];

    /// Its name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linux5_10 => "5.10",
            Self::Linux6_1 => "6.1",
            Self::Linux6_12 => "6.12",
            Self::Newest => "newest",
        }
    }

    /// The one of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kernel| kernel.name() == name)
    }

    /// Where its packages are: `security` for the archive of security updates.
    fn suites(self) -> &'static [&'static str] {
        match self {
            Self::Linux5_10 => &["bullseye", "security bullseye-security"],
            Self::Linux6_1 => &["bookworm", "security bookworm-security"],
            Self::Linux6_12 => &["trixie", "security trixie-security"],
            Self::Newest => &["trixie-backports", "sid"],
        }
    }

    /// Whether a package of this name has such a kernel.
    fn is_in(self, release: &str) -> bool {
        match self {
            Self::Linux5_10 => release.starts_with("5.10."),
            Self::Linux6_1 => release.starts_with("6.1."),
            Self::Linux6_12 => release.starts_with("6.12."),
            Self::Newest => !release.contains("~rc"),
        }
    }
}

/// A kernel that was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// `6.1.0-56-cloud-amd64`.
    pub release: String,
    /// `vmlinuz`.
    pub image: PathBuf,
    /// What has `lib/modules` in it.
    pub root: PathBuf,
}

/// Where packages are kept.
pub fn cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    cache.unwrap_or_else(|| home().join(".cache")).join("netmon/kernels")
}

/// Fetches the newest package of a kernel that can be had, and asks for a newer one once a day. Where the mirror cannot
/// be asked, the one in the cache is taken.
///
/// # Errors
/// Where there is none, and why.
pub fn fetch(kernel: Kernel) -> Result<Fetched> {
    let folder = cache().join(kernel.name());
    fs::create_dir_all(&folder)?;
    let chosen = folder.join("chosen");
    let in_cache = || unpacked(&folder.join(fs::read_to_string(&chosen).ok()?));
    if let Some(fetched) = in_cache().filter(|_| is_of_today(&chosen)) {
        return Ok(fetched);
    }
    match fetch_newest(kernel, &folder) {
        Ok((package, fetched)) => {
            fs::write(&chosen, package)?;
            Ok(fetched)
        }
        Err(error) => in_cache().ok_or(error),
    }
}

fn fetch_newest(kernel: Kernel, folder: &Path) -> Result<(String, Fetched)> {
    let apt = Apt::set_up(kernel, folder)?;
    let mut refused = format!("the mirror has no kernel {}", kernel.name());
    // An index may name what the mirror has deleted, or not copied yet.
    for packages in apt.candidates(kernel)? {
        let package = &packages[0];
        let root = folder.join(package);
        if unpacked(&root).is_none()
            && let Err(error) = apt.unpack(&packages, &root)
        {
            refused = format!("{package}: {error}");
            continue;
        }
        if let Some(fetched) = unpacked(&root) {
            forget_others(folder, &root);
            return Ok((package.clone(), fetched));
        }
    }
    Err(refused.into())
}

/// An apt of our own: its sources are the kernel's suites, and nothing of the machine's is touched.
struct Apt {
    folder: PathBuf,
    configuration: PathBuf,
}

impl Apt {
    fn set_up(kernel: Kernel, folder: &Path) -> Result<Self> {
        let folder = folder.join("apt");
        for part in ["etc/apt.conf.d", "etc/preferences.d", "state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::write(folder.join("status"), "")?;
        let (main, security) = mirrors()?;
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let sources: String = kernel
            .suites()
            .iter()
            .map(|suite| match suite.strip_prefix("security ") {
                Some(suite) => format!("deb [signed-by={keys}] {security} {suite} main\n"),
                None => format!("deb [signed-by={keys}] {main} {suite} main\n"),
            })
            .collect();
        fs::write(folder.join("etc/sources.list"), sources)?;
        let at = folder.display();
        let configuration = folder.join("apt.conf");
        // A release that gets no more updates has an index that is out of date, and signed all the same.
        fs::write(
            &configuration,
            format!(
                "Dir::Etc \"{at}/etc\";\nDir::Etc::sourcelist \"sources.list\";\nDir::Etc::sourceparts \"-\";\n\
                 Dir::State \"{at}/state\";\nDir::State::status \"{at}/status\";\nDir::Cache \"{at}/cache\";\n\
                 Acquire::Languages \"none\";\nAcquire::Check-Valid-Until \"false\";\n\
                 APT::Sandbox::User \"root\";\nAPT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\n"
            ),
        )?;
        let apt = Self { folder, configuration };
        apt.run("apt-get", &["-q", "--error-on=any", "update"])?;
        Ok(apt)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        output(
            Command::new(program)
                .args(arguments)
                .env("APT_CONFIG", &self.configuration)
                .current_dir(&self.folder),
        )
    }

    /// What to try, the newest first; each is one package or two. The small ones for clouds are preferred.
    fn candidates(&self, kernel: Kernel) -> Result<Vec<Vec<String>>> {
        let pattern = "^linux-(image|binary)-[0-9.]+.*-amd64(-unsigned)?$";
        let found = self.run("apt-cache", &["search", "--names-only", pattern])?;
        let mut candidates: Vec<_> = found
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .filter_map(|package| Some((version_of(kernel, package)?, package)))
            .collect();
        candidates.sort();
        let candidates = candidates.into_iter().rev();
        Ok(candidates
            .map(|(_, package)| match package.strip_prefix("linux-binary-") {
                Some(release) => vec![package.to_owned(), format!("linux-modules-{release}")],
                None => vec![package.to_owned()],
            })
            .collect())
    }

    fn unpack(&self, packages: &[String], root: &Path) -> Result<()> {
        let download = tempfile::tempdir_in(&self.folder)?;
        let unfinished = self.folder.join("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        for package in packages {
            let mut command = Command::new("apt-get");
            command.args(["-q", "download", package]).env("APT_CONFIG", &self.configuration);
            output(command.current_dir(&download))?;
        }
        for file in fs::read_dir(&download)? {
            output(Command::new("dpkg-deb").arg("-x").arg(file?.path()).arg(&unfinished))?;
        }
        // Debian has merged its folders into /usr since 12.
        if !unfinished.join("lib").exists() {
            symlink("usr/lib", unfinished.join("lib"))?;
        }
        let fetched = unpacked(&unfinished).ok_or("the package has no kernel in it")?;
        image::depmod(&unfinished, &fetched.release)?;
        Ok(fs::rename(&unfinished, root)?)
    }
}

/// How new a package is, where it has such a kernel: its numbers, then whether it is a small one. Since 6.19 images are
/// made of two packages, and those called image are empty.
fn version_of(kernel: Kernel, package: &str) -> Option<(Vec<u32>, bool)> {
    let (kind, release) = package.strip_prefix("linux-")?.split_once('-')?;
    let numbers: Vec<u32> = release
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    let is_split = numbers.as_slice() >= &[6, 19][..];
    let is_whole = release.ends_with("-unsigned") || kind == "binary";
    // `linux-image-6.1-amd64` is empty, `-rt-` another kind of kernel, `deb11` one that was built for an older Debian.
    let is_right =
        kernel.is_in(release) && is_whole && (kind == "binary") == is_split && !release.contains("-rt-");
    let is_own = kernel == Kernel::Newest || !release.contains(".deb1");
    (is_right && is_own).then(|| (numbers, release.contains("-cloud-")))
}

/// The archive that the machine's apt uses, and that of security updates.
fn mirrors() -> Result<(String, String)> {
    let sites =
        output(Command::new("apt-get").args(["indextargets", "--format", "$(SITE) $(ORIGIN) $(RELEASE)"]))?;
    let of_debian = || {
        sites.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let (site, origin, release) = (words.next()?, words.next()?, words.next()?);
            (origin == "Debian").then_some((site, release))
        })
    };
    let main = of_debian().find(|(_, release)| !release.ends_with("-security"));
    let (main, _) =
        main.ok_or("this machine's apt knows no archive of Debian, which the kernels come from")?;
    let security = of_debian().find(|(_, release)| release.ends_with("-security"));
    let security = security
        .map_or_else(|| format!("{}-security", main.trim_end_matches('/')), |(site, _)| site.to_owned());
    Ok((main.to_owned(), security))
}

fn is_of_today(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|metadata| metadata.modified()).map(|modified| modified.elapsed());
    matches!(age, Ok(Ok(age)) if age.as_secs() < 24 * 3600)
}

/// What is in the folder of an unpacked package.
fn unpacked(root: &Path) -> Option<Fetched> {
    let modules = root.join("lib/modules");
    let release = fs::read_dir(&modules).ok()?.flatten().next()?.file_name().into_string().ok()?;
    let places = [root.join(format!("boot/vmlinuz-{release}")), modules.join(&release).join("vmlinuz")];
    let image = places.into_iter().find(|path| path.exists())?;
    Some(Fetched { release, image, root: root.to_owned() })
}

/// Kernels of other versions, some hundred megabytes each.
fn forget_others(folder: &Path, kept: &Path) {
    let others = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for other in others.filter(|path| path != kept && unpacked(path).is_some()) {
        let _: io::Result<()> = fs::remove_dir_all(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_chosen_by_their_names() {
        let newest = |kernel, packages: &[&'static str]| {
            let mut found: Vec<_> = packages
                .iter()
                .filter_map(|package| Some((version_of(kernel, package)?, *package)))
                .collect();
            found.sort();
            found.into_iter().rev().map(|(_, package)| package).collect::<Vec<_>>()
        };
        let old = [
            "linux-image-5.10.0-9-amd64-unsigned",
            "linux-image-5.10.0-46-rt-amd64-unsigned",
            "linux-image-5.10.0-46-amd64-unsigned",
            "linux-image-5.10.0-46-cloud-amd64-unsigned",
            "linux-image-5.10.0-46-amd64",
            "linux-image-6.1.0-0.deb11.52-amd64-unsigned",
        ];
        assert_eq!(
            newest(Kernel::Linux5_10, &old),
            [
                "linux-image-5.10.0-46-cloud-amd64-unsigned",
                "linux-image-5.10.0-46-amd64-unsigned",
                "linux-image-5.10.0-9-amd64-unsigned"
            ]
        );
        assert_eq!(newest(Kernel::Linux6_1, &old), [""; 0]);

        let new = [
            "linux-image-7.3.4+deb13-cloud-amd64",
            "linux-binary-7.3.4+deb13-cloud-amd64",
            "linux-binary-7.2.13+deb14-cloud-amd64",
            "linux-image-6.12.117+deb13-cloud-amd64-unsigned",
            "linux-image-6.18.15+deb13-cloud-amd64",
        ];
        assert_eq!(
            newest(Kernel::Newest, &new),
            [
                "linux-binary-7.3.4+deb13-cloud-amd64",
                "linux-binary-7.2.13+deb14-cloud-amd64",
                "linux-image-6.12.117+deb13-cloud-amd64-unsigned"
            ]
        );
        assert_eq!(newest(Kernel::Linux6_12, &new), ["linux-image-6.12.117+deb13-cloud-amd64-unsigned"]);
    }
}
