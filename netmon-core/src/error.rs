//! Why a question could not be answered.

use std::{error::Error as _, io, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    clean::{self, CleanText},
    fact::Hook,
    source::live::capabilities_fix,
    view::units,
};

/// A `Result` of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a question could not be answered at all. What is only partly unknown is an answer, whose
/// [`Coverage`](crate::Coverage) says what is missing.
///
/// A message names the thing and, where there is a choice, the valid ones. Text from outside in it is clean.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such interface in this network namespace or recording.
    #[error("no interface named \"{name}\"; there are: {}", clean::list(.available))]
    UnknownInterface {
        /// What was asked for.
        name: CleanText,
        /// The names there are.
        available: Vec<CleanText>,
    },
    /// The interface was there when the measurement began, and not when it ended.
    #[error("interface \"{name}\" disappeared during the measurement")]
    InterfaceGone {
        /// Its name.
        name: CleanText,
    },
    /// None was named, and none is up.
    #[error("no interface is up, so there is none to choose; name one of: {}", clean::list(.available))]
    NoInterfaceUp {
        /// The names there are.
        available: Vec<CleanText>,
    },
    /// A window that cannot be measured.
    #[error("a window of {} is out of range: it may be {} to {}", units::seconds(*.window), units::seconds(*.shortest), units::seconds(*.longest))]
    WindowOutOfRange {
        /// What was asked for.
        window: Duration,
        /// The shortest allowed.
        shortest: Duration,
        /// The longest allowed.
        longest: Duration,
    },
    /// A request that contradicts itself or asks for what cannot be.
    #[error("{0}")]
    InvalidRequest(String),
    /// A hook that was asked for by name could not be attached.
    #[error("cannot count on interface \"{interface}\" with {hook}: {reason}")]
    HookUnavailable {
        /// The hook.
        hook: Hook,
        /// The interface.
        interface: CleanText,
        /// Whether a capability is what is missing.
        not_permitted: bool,
        /// Why, and what would help.
        reason: String,
    },
    /// The only hook that tells of something could not be attached.
    #[error("{what} are told by {hook} alone: {reason}")]
    HookMissing {
        /// What was asked for.
        what: &'static str,
        /// The hook.
        hook: Hook,
        /// Whether a capability is what is missing.
        not_permitted: bool,
        /// Why it cannot be used.
        reason: String,
    },
    /// A recording that cannot be read or written.
    #[error("recording {}: {reason}", .path.display())]
    Recording {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where there is one.
        reason: String,
        /// The file system's answer, where it gave one.
        #[source]
        source: Option<io::Error>,
    },
    /// The source has no facts of this kind.
    #[error("there are no {what} in the source \"{kind}\"")]
    NotInSource {
        /// What kind of source it is.
        kind: CleanText,
        /// What was asked for.
        what: &'static str,
    },
    /// A filter that cannot be understood.
    #[error(transparent)]
    Filter(#[from] crate::filter::FilterError),
    /// The recording has nothing after this moment.
    #[error("the recording ends at {at}, before anything could be measured")]
    RecordingEnded {
        /// Its last moment.
        at: jiff::Timestamp,
    },
    /// The caller ended it.
    #[error("cancelled")]
    Cancelled,
    /// The answer would tell of what belongs to somebody else.
    #[error(
        "{what} cannot be shown to user {uid}: root and members of the group \"{group}\" see all connections, other users their own"
    )]
    Forbidden {
        /// What was asked for.
        what: String,
        /// Who asked.
        uid: u32,
        /// The group whose members may ask.
        group: CleanText,
    },
    /// The daemon that was asked does not answer.
    #[error("cannot reach netmond at {address}: {reason}")]
    Unreachable {
        /// Where it was looked for.
        address: CleanText,
        /// What is wrong.
        reason: CleanText,
    },
    /// What the daemon that was asked said instead of an answer.
    #[error("{message}")]
    Told {
        /// What it is about.
        kind: ErrorKind,
        /// The message, clean, of one line or more.
        message: String,
        /// What the reader can do about it.
        hint: Option<CleanText>,
    },
    /// The kernel refused something that works everywhere else.
    #[error("cannot {action}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// What an error is about, for programs; the same whether it arose here or in a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// [`Error::UnknownInterface`].
    UnknownInterface,
    /// [`Error::InterfaceGone`].
    InterfaceGone,
    /// [`Error::NoInterfaceUp`].
    NoInterfaceUp,
    /// [`Error::WindowOutOfRange`].
    WindowOutOfRange,
    /// [`Error::InvalidRequest`].
    InvalidRequest,
    /// [`Error::HookUnavailable`], [`Error::HookMissing`].
    HookUnavailable,
    /// [`Error::Recording`].
    Recording,
    /// [`Error::NotInSource`].
    NotInSource,
    /// [`Error::Filter`].
    Filter,
    /// [`Error::RecordingEnded`].
    RecordingEnded,
    /// [`Error::Cancelled`].
    Cancelled,
    /// [`Error::Forbidden`].
    Forbidden,
    /// Nobody knows who asks, or the token is wrong.
    Unauthorized,
    /// Too much was asked at once.
    Busy,
    /// [`Error::Unreachable`].
    Unreachable,
    /// [`Error::Kernel`].
    Kernel,
    /// There is no such place to ask at.
    NotFound,
    /// Whatever a daemon says that this version does not know.
    #[serde(other)]
    Other,
}

impl Error {
    /// What it is about.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownInterface { .. } => ErrorKind::UnknownInterface,
            Self::InterfaceGone { .. } => ErrorKind::InterfaceGone,
            Self::NoInterfaceUp { .. } => ErrorKind::NoInterfaceUp,
            Self::WindowOutOfRange { .. } => ErrorKind::WindowOutOfRange,
            Self::InvalidRequest(_) => ErrorKind::InvalidRequest,
            Self::HookUnavailable { .. } | Self::HookMissing { .. } => ErrorKind::HookUnavailable,
            Self::Recording { .. } => ErrorKind::Recording,
            Self::NotInSource { .. } => ErrorKind::NotInSource,
            Self::Filter(_) => ErrorKind::Filter,
            Self::RecordingEnded { .. } => ErrorKind::RecordingEnded,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Forbidden { .. } => ErrorKind::Forbidden,
            Self::Unreachable { .. } => ErrorKind::Unreachable,
            Self::Told { kind, .. } => *kind,
            Self::Kernel { .. } => ErrorKind::Kernel,
        }
    }

    /// The message in one line, with its cause where it does not tell that itself.
    pub fn with_cause(&self) -> String {
        match (self, self.source()) {
            (Self::Recording { .. }, _) | (_, None) => self.to_string(),
            (_, Some(cause)) => format!("{self}: {cause}"),
        }
    }

    /// What the reader can do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::HookUnavailable { not_permitted: true, .. }
            | Self::HookMissing { not_permitted: true, .. } => Some(capabilities_fix()),
            Self::HookUnavailable { .. } => {
                Some("without naming a hook the best that works is taken".to_owned())
            }
            Self::Forbidden { group, .. } => {
                Some(format!("ask for your own, or become a member: sudo usermod -aG {group} USER"))
            }
            Self::Unreachable { .. } => Some(
                "start it (sudo systemctl start netmond), or ask this host without it: --source live"
                    .to_owned(),
            ),
            Self::Told { hint, .. } => hint.as_ref().map(ToString::to_string),
            _ => None,
        }
    }
}
