//! Where facts come from: the one seam between observing and answering.

mod choice;
pub mod live;
pub mod recording;
pub mod replay;

use std::{any::Any, fmt, time::Duration};

pub use choice::SourceChoice;
use serde::{Deserialize, Serialize};

use crate::{
    answer::MissingHook,
    clean::CleanText,
    control::Control,
    error::Result,
    fact::{Direction, Hook, HookStatus, InterfaceSnapshot, Leftover, Moment},
    request::HookChoice,
};

/// A source of facts. Everything that netmon answers is computed from these, so whoever implements it (a recording, a
/// simulator, another machine) has every answer.
///
/// Methods block and may be called from several threads at once. A source keeps no state of its callers: where in time a
/// question is asked is a [`Moment`] that the caller holds.
pub trait Source: Send + Sync {
    /// What this source is and which host it tells of. Cheap.
    fn describe(&self) -> SourceDescription;

    /// The moment from which a measurement can start: now, or a recording's first.
    ///
    /// # Errors
    /// None that a caller could mend.
    fn start(&self) -> Result<Moment>;

    /// Waits until `window` has passed since `from`, and returns the moment at which the next facts can be had. A recording
    /// skips instead of sleeping; where it ends earlier, the moment returned is its last.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled); [`Error::RecordingEnded`](crate::Error::RecordingEnded) where
    /// nothing comes after `from`.
    fn wait(&self, from: &Moment, window: Duration, control: &Control<'_>) -> Result<Moment>;

    /// All interfaces with their counters, at a moment that this source returned. A live source tells how they are now,
    /// whatever moment is asked for.
    ///
    /// # Errors
    /// [`Error::Kernel`](crate::Error::Kernel).
    fn interfaces(&self, at: &Moment) -> Result<InterfaceSnapshot>;

    /// Counts an interface by protocol while the returned guard lives; its counters appear as
    /// [`InterfaceFact::hooks`](crate::fact::InterfaceFact::hooks). Attachments are shared between callers.
    ///
    /// With [`HookChoice::Auto`] nothing is an error: what cannot be counted is in [`Counting::missing`].
    ///
    /// # Errors
    /// [`Error::HookUnavailable`](crate::Error::HookUnavailable) for a hook that was asked for by name.
    fn count(
        &self,
        interface: InterfaceRef<'_>,
        directions: &[Direction],
        choice: HookChoice,
    ) -> Result<Counting>;

    /// Which hooks can be used here, each tried for real; for a recording, those that it was made with. A few ms, more with hundreds of interfaces.
    ///
    /// # Errors
    /// None that a caller could mend.
    fn hooks(&self) -> Result<Vec<HookStatus>>;

    /// What killed processes left attached. Needs no privilege; empty where nothing was found.
    ///
    /// # Errors
    /// [`Error::Kernel`](crate::Error::Kernel).
    fn leftovers(&self) -> Result<Vec<Leftover>> {
        Ok(Vec::new())
    }
}

/// What a source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SourceDescription {
    /// `live`, `replay`, or what a source of your own calls itself.
    pub kind: CleanText,
    /// The name of the host that its facts are about.
    pub host: CleanText,
    /// The release of that host's kernel, such as `6.12.9`.
    pub kernel: CleanText,
    /// What the reader of every answer should know of this source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl SourceDescription {
    /// A source of this kind, about this host.
    pub fn new(kind: impl Into<CleanText>, host: impl Into<CleanText>, kernel: impl Into<CleanText>) -> Self {
        Self { kind: kind.into(), host: host.into(), kernel: kernel.into(), warnings: Vec::new() }
    }
}

/// An interface to count on.
#[derive(Debug, Clone, Copy)]
pub struct InterfaceRef<'a> {
    /// Its index.
    pub index: u32,
    /// Its name, for messages.
    pub name: &'a CleanText,
    /// Whether its frames start with an Ethernet header.
    pub ethernet: bool,
}

/// The guard of a counting: hooks stay attached while it lives.
#[derive(Default)]
#[must_use = "hooks are detached when the guard is dropped"]
pub struct Counting {
    /// The hook that counts, for each direction that is counted.
    pub active: Vec<(Direction, Hook)>,
    /// What could not be attached.
    pub missing: Vec<MissingHook>,
    /// What the caller should know of what was attached.
    pub warnings: Vec<String>,
    /// Whatever the source needs to hold.
    pub guards: Vec<Box<dyn Any + Send + Sync>>,
}

impl Counting {
    /// The hook that counts this direction.
    pub fn hook(&self, direction: Direction) -> Option<Hook> {
        self.active.iter().find(|(way, _)| *way == direction).map(|(_, hook)| *hook)
    }
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counting")
            .field("active", &self.active)
            .field("missing", &self.missing)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}
