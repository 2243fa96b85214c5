//! The lines of former shells: in the user's state directory, for the user alone, and bounded.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// How many lines are kept.
pub(super) const MOST: usize = 1000;
/// More than so many lines of ordinary length can be is not a history of ours.
const MOST_BYTES: u64 = 1 << 20;
/// The text that goes to a model may be anything, and is not kept; nor are the questions about it.
const PRIVATE: [&str; 4] = ["summary-text", "query", "insights", "contextual_analysis"];

/// A shell without a place for its history has none, and does not complain.
pub(super) struct History {
    file: Option<File>,
    lines: Vec<String>,
}

impl History {
    pub(super) fn open() -> Self {
        let Some(path) = path() else { return Self { file: None, lines: Vec::new() } };
        Self::at(&path).unwrap_or_else(|error| {
            tracing::info!("no history in {}: {error}", path.display());
            Self { file: None, lines: Vec::new() }
        })
    }

    fn at(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let lines = read(path)?;
        if lines.len() > MOST {
            return Self::shortened(path, lines);
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self { file: Some(file), lines })
    }

    /// The last lines in a file of its own, which then takes the place of the other.
    fn shortened(path: &Path, mut lines: Vec<String>) -> io::Result<Self> {
        lines.drain(..lines.len() - MOST / 2);
        let beside = path.with_extension(std::process::id().to_string());
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&beside)?;
        let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
        file.write_all(text.as_bytes()).and_then(|()| fs::rename(&beside, path)).inspect_err(|_| {
            // It is of no use to anybody.
            let _ = fs::remove_file(&beside);
        })?;
        Ok(Self { file: Some(file), lines })
    }

    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Keeps a line, unless it is private or the same as the one before.
    pub(super) fn add(&mut self, line: &str) {
        let private = PRIVATE.iter().any(|word| line.contains(word));
        if private || line.trim().is_empty() || line.starts_with(' ') || line.contains('\n') {
            return;
        }
        if self.lines.last().is_some_and(|last| last == line) {
            return;
        }
        self.lines.push(line.to_owned());
        // In one write, so that two shells do not mix theirs.
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(format!("{line}\n").as_bytes())
        {
            tracing::info!("the history ends here: {error}");
            self.file = None;
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<String>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MOST_BYTES).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().filter(|line| !line.chars().any(char::is_control)).map(str::to_owned).collect())
}

/// `$XDG_STATE_HOME/netmon/history`, where the variable counts only if it is absolute.
fn path() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("netmon").join("history"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn lines_are_kept_for_the_user_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/netmon/history");
        let mut history = History::at(&path).unwrap();
        for line in ["summary", "summary", "pps --window 1s", "", "  ", " list --pid 1"] {
            history.add(line);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "summary\npps --window 1s\n");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));

        // Another shell at the same time adds to it, and the next one has both.
        let mut other = History::at(&path).unwrap();
        other.add("doctor");
        history.add("quit");
        assert_eq!(History::at(&path).unwrap().lines(), ["summary", "pps --window 1s", "doctor", "quit"]);
    }

    #[test]
    fn text_for_a_model_is_never_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history");
        let mut history = History::at(&path).unwrap();
        for line in [
            "insights \"a secret\"",
            "--tool ai_insights --summary-text 'a secret'",
            "--tool contextual_analysis --query=secret",
        ] {
            history.add(line);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }

    #[test]
    fn it_is_bounded_and_stays_the_users_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history");
        let many: String = (0..=MOST).map(|number| format!("pps --samples {number}\n")).collect();
        fs::write(&path, many).unwrap();
        let mut history = History::at(&path).unwrap();
        history.add("doctor");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), MOST / 2 + 1);
        assert!(text.starts_with("pps --samples 501\n") && text.ends_with("pps --samples 1000\ndoctor\n"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn where_it_cannot_be_written_there_is_none() {
        let error = History::at(Path::new("/proc/netmon/history")).err().unwrap();
        assert!(matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied), "{error}");
    }
}
