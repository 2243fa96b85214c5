//! `top`: a live view. What is shown and how numbers look is netmon-core's; here are keys, layout and the terminal.

mod draw;
mod input;
mod printed;
#[cfg(test)]
#[path = "../../tests/support/terminal.rs"]
mod pseudo_terminal;
mod sampler;
mod state;
mod terminal;
#[cfg(test)]
mod tests;

use std::{
    process::ExitCode,
    sync::mpsc::{Receiver, TryRecvError},
    time::Duration,
};

use netmon_core::Cancel;
use ratatui::crossterm::event;

use self::{
    sampler::{Message, Sampler},
    state::State,
    terminal::Screen,
};
use crate::{
    arguments::{Format, Global, TopArguments},
    command::cancelled_by_signals,
    failure::Failure,
    output,
};

/// How soon a sample or a signal is seen while no key is pressed.
const TICK: Duration = Duration::from_millis(50);

pub(crate) fn run(global: &Global, arguments: &TopArguments) -> Result<ExitCode, Failure> {
    let monitor = global.monitor()?;
    // What cannot be asked is told before the screen changes.
    let cancel = cancelled_by_signals();
    let watch = {
        let (monitor, request) = (monitor.clone(), arguments.request.clone());
        // It may have a name to look up.
        cancel.wait_for(move || monitor.watch_top(&request))?
    };
    if global.output != Format::Text || !output::stdout_is_terminal() {
        return printed::run(global, arguments, &monitor, watch, &cancel);
    }

    let state = State::new(watch.source(), arguments, global.color.wanted());
    let (sampler, messages) = Sampler::start(monitor, watch, arguments, cancel.clone());
    let shown = show(state, &messages, &cancel);
    cancel.cancel();
    let ended = sampler.join();
    shown?;
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// Shows samples as they come, until somebody ends it.
fn show(mut state: State, messages: &Receiver<Message>, cancel: &Cancel) -> Result<(), Failure> {
    let mut screen = Screen::enter()?;
    let mut changed = true;
    while !cancel.is_cancelled() && !state.is_over() {
        loop {
            match messages.try_recv() {
                Ok(message) => state.take(message),
                Err(TryRecvError::Empty) => break,
                // The sampler has failed, and says why when it is joined.
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
            changed = true;
        }
        if changed {
            screen.draw(&mut state)?;
        }
        changed = event::poll(TICK)?;
        if changed {
            input::take(&mut state, &event::read()?);
        }
    }
    Ok(())
}
