//! Whole questions, for sources that answer them where their facts are.

use crate::{
    monitor::{
        CapabilitiesAnswer, ConnectionsAnswer, Diagnosis, ListenersAnswer, PacketDrops, PatternsAnswer,
        SocketsAnswer, SummaryAnswer,
    },
    request::{
        ConnectionsRequest, DiagnoseRequest, DropsRequest, PatternsRequest, SocketsRequest, SummaryRequest,
    },
};

/// A question of which the answer is much smaller than the facts behind it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Question<'a> {
    /// [`Monitor::connections`](crate::Monitor::connections).
    Connections(&'a ConnectionsRequest),
    /// [`Monitor::summary`](crate::Monitor::summary).
    Summary(&'a SummaryRequest),
    /// [`Monitor::patterns`](crate::Monitor::patterns).
    Patterns(&'a PatternsRequest),
    /// [`Monitor::diagnose`](crate::Monitor::diagnose).
    Diagnose(&'a DiagnoseRequest),
    /// [`Monitor::sockets`](crate::Monitor::sockets).
    Sockets(&'a SocketsRequest),
    /// [`Monitor::listeners`](crate::Monitor::listeners).
    Listeners(&'a SocketsRequest),
    /// [`Monitor::drops`](crate::Monitor::drops).
    Drops(&'a DropsRequest),
    /// [`Monitor::capabilities`](crate::Monitor::capabilities).
    Capabilities,
}

/// The answer to a [`Question`], mostly of the same name.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Evaluated {
    /// The answer to [`Question::Connections`].
    Connections(Box<ConnectionsAnswer>),
    /// The answer to [`Question::Summary`].
    Summary(Box<SummaryAnswer>),
    /// The answer to [`Question::Patterns`].
    Patterns(Box<PatternsAnswer>),
    /// The answer to [`Question::Diagnose`].
    Diagnosis(Box<Diagnosis>),
    /// The answer to [`Question::Sockets`].
    Sockets(Box<SocketsAnswer>),
    /// The answer to [`Question::Listeners`].
    Listeners(Box<ListenersAnswer>),
    /// The answer to [`Question::Drops`].
    Drops(Box<PacketDrops>),
    /// The answer to [`Question::Capabilities`].
    Capabilities(Box<CapabilitiesAnswer>),
}
