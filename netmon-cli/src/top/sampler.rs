//! The thread that takes samples. It outlives the daemon that it asks.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use netmon_core::{
    Cancel, Control, Error, Monitor,
    monitor::{TopWatch, top::TopInterval},
    request::TopRequest,
};

use crate::{arguments::TopArguments, command::reconnect, failure::Failure};

/// What the sampler has to tell.
#[derive(Debug)]
pub(super) enum Message {
    /// What went on since the sample before.
    Sample(Arc<TopInterval>),
    /// The daemon is gone; the text says it.
    Gone(String),
    /// It is back.
    Back,
    /// The recording is over; the last sample stands.
    RecordingEnded,
    /// As many as were asked for have been taken.
    Enough,
}

pub(super) struct Sampler {
    thread: JoinHandle<Result<(), Error>>,
}

impl Sampler {
    pub(super) fn start(
        monitor: Monitor,
        watch: TopWatch,
        arguments: &TopArguments,
        cancel: Cancel,
    ) -> (Self, Receiver<Message>) {
        let (sender, receiver) = channel();
        let request = arguments.request.clone();
        let samples = arguments.samples.map_or(u64::MAX, Into::into);
        let thread = thread::spawn(move || sample(&monitor, watch, &request, samples, &cancel, &sender));
        (Self { thread }, receiver)
    }

    /// Waits for its end, and tells why it ended.
    pub(super) fn join(self) -> Result<(), Failure> {
        match self.thread.join() {
            Ok(ended) => Ok(ended?),
            // The panic has told itself.
            Err(_) => Err(Failure::Output(std::io::Error::other("the thread that takes samples panicked"))),
        }
    }
}

fn sample(
    monitor: &Monitor,
    mut watch: TopWatch,
    request: &TopRequest,
    samples: u64,
    cancel: &Cancel,
    sender: &Sender<Message>,
) -> Result<(), Error> {
    let control = Control { cancel: cancel.clone(), progress: None };
    // A recording does not wait, but a person wants to see it pass.
    let paced = watch.source().kind == *"replay";
    let mut taken = 0;
    while taken < samples {
        let next = Instant::now() + request.interval;
        let message = match watch.next_interval(&control) {
            Ok(interval) => {
                taken += 1;
                Message::Sample(Arc::new(interval))
            }
            Err(Error::Cancelled) => return Ok(()),
            Err(Error::RecordingEnded { .. }) => {
                return stay(sender, Message::RecordingEnded, cancel);
            }
            Err(error) if reconnect::is_gone(&error) => {
                if sender.send(Message::Gone(error.to_string())).is_err() {
                    return Ok(());
                }
                match begin_again(monitor, request, cancel) {
                    Ok(again) => watch = again,
                    Err(Error::Cancelled) => return Ok(()),
                    Err(error) => return Err(error),
                }
                Message::Back
            }
            Err(error) => return Err(error),
        };
        if sender.send(message).is_err() || paced && !cancel.sleep_until(next) {
            return Ok(());
        }
    }
    stay(sender, Message::Enough, cancel)
}

/// Says the last thing, and keeps the other side waiting for no more.
fn stay(sender: &Sender<Message>, last: Message, cancel: &Cancel) -> Result<(), Error> {
    if sender.send(last).is_ok() {
        while cancel.sleep_until(Instant::now() + std::time::Duration::from_secs(60)) {}
    }
    Ok(())
}

fn begin_again(monitor: &Monitor, request: &TopRequest, cancel: &Cancel) -> Result<TopWatch, Error> {
    loop {
        if !cancel.sleep_until(Instant::now() + reconnect::EVERY) {
            return Err(Error::Cancelled);
        }
        match monitor.watch_top(request) {
            Err(error) if reconnect::is_gone(&error) => {}
            other => return other,
        }
    }
}
