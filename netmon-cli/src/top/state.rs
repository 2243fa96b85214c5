//! What is on the screen: which view of which sample, what is chosen in it, and what is being typed.

use std::{collections::HashSet, sync::Arc};

use netmon_core::{
    Filter,
    filter::FilterError,
    monitor::top::{TopColumn, TopHistory, TopInterval, TopKey, TopList, TopQuery, TopView},
    source::SourceDescription,
};

use super::sampler::Message;
use crate::arguments::TopArguments;

/// How one view is looked at.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) sort: TopColumn,
    pub(super) reverse: bool,
    /// The line that is chosen, and where it was when it was last seen.
    selected: Option<TopKey>,
    pub(super) line: usize,
    /// The first line on the screen.
    pub(super) offset: usize,
}

impl Look {
    fn new() -> Self {
        Self { sort: TopColumn::Traffic, reverse: false, selected: None, line: 0, offset: 0 }
    }
}

/// A filter that is being typed.
#[derive(Debug, Clone, Default)]
pub(super) struct Prompt {
    pub(super) text: String,
    /// Before which character the next one goes.
    pub(super) cursor: usize,
    /// Why it is not taken.
    pub(super) error: Option<FilterError>,
}

/// How the samples come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flow {
    Running,
    /// The daemon is gone; the text says it.
    Gone(String),
    /// The recording is over.
    Ended,
}

pub(super) struct State {
    pub(super) source: SourceDescription,
    pub(super) color: bool,
    pub(super) view: TopView,
    looks: [Look; TopView::ALL.len()],
    /// What was asked for on the command line, in words.
    pub(super) asked: String,
    filter: Filter,
    pub(super) filter_text: String,
    pub(super) prompt: Option<Prompt>,
    expanded: HashSet<TopKey>,
    pub(super) details: bool,
    pub(super) help: bool,
    pub(super) flow: Flow,
    latest: Option<Arc<TopInterval>>,
    history: TopHistory,
    /// What stands still, while it does.
    paused: Option<(Option<Arc<TopInterval>>, TopHistory)>,
    list: Option<TopList>,
    /// How many lines the screen had when it was last drawn.
    pub(super) page: usize,
    over: bool,
}

impl State {
    pub(super) fn new(source: SourceDescription, arguments: &TopArguments, color: bool) -> Self {
        Self {
            source,
            color,
            view: arguments.view,
            looks: std::array::from_fn(|_| Look::new()),
            asked: arguments.request.filter.describe(),
            filter: Filter::everything(),
            filter_text: String::new(),
            prompt: None,
            expanded: HashSet::new(),
            details: false,
            help: false,
            flow: Flow::Running,
            latest: None,
            history: TopHistory::default(),
            paused: None,
            list: None,
            page: 1,
            over: false,
        }
    }

    /// Takes what the sampler tells.
    pub(super) fn take(&mut self, message: Message) {
        match message {
            Message::Sample(interval) => {
                self.history.add(&interval, &self.filter);
                self.latest = Some(interval);
                if self.paused.is_none() {
                    self.arrange();
                }
            }
            Message::Gone(error) => self.flow = Flow::Gone(error),
            Message::Back => self.flow = Flow::Running,
            Message::RecordingEnded => self.flow = Flow::Ended,
            Message::Enough => self.over = true,
        }
    }

    /// The sample that is shown; `None` before the first.
    pub(super) fn interval(&self) -> Option<&Arc<TopInterval>> {
        self.paused.as_ref().map_or(self.latest.as_ref(), |(interval, _)| interval.as_ref())
    }

    pub(super) fn history(&self) -> &TopHistory {
        self.paused.as_ref().map_or(&self.history, |(_, history)| history)
    }

    pub(super) fn list(&self) -> Option<&TopList> {
        self.list.as_ref()
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    pub(super) fn is_expanded(&self, key: &TopKey) -> bool {
        self.expanded.contains(key)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn end(&mut self) {
        self.over = true;
    }

    pub(super) fn look(&self) -> &Look {
        &self.looks[self.place()]
    }

    pub(super) fn look_mut(&mut self) -> &mut Look {
        let place = self.place();
        &mut self.looks[place]
    }

    fn place(&self) -> usize {
        TopView::ALL.iter().position(|view| *view == self.view).unwrap_or_default()
    }

    /// Sums up, filters and sorts anew.
    fn arrange(&mut self) {
        let Some(interval) = self.interval().cloned() else { return };
        let look = self.look();
        let query = TopQuery {
            view: self.view,
            filter: &self.filter,
            sort: look.sort,
            reverse: look.reverse,
            expanded: &self.expanded,
        };
        let list = interval.list(&query);
        let look = self.look_mut();
        // What was chosen stays chosen wherever it goes; where it is gone, what took its place is.
        match look.selected.as_ref().and_then(|key| list.position(key)) {
            Some(line) => look.line = line,
            None => look.selected = None,
        }
        look.line = look.line.min(list.len().saturating_sub(1));
        self.list = Some(list);
    }

    pub(super) fn show(&mut self, view: TopView) {
        self.view = view;
        self.arrange();
    }

    /// The view so many after this one, round and round.
    pub(super) fn show_next(&mut self, steps: usize) {
        self.show(TopView::ALL[(self.place() + steps) % TopView::ALL.len()]);
    }

    /// The line that is chosen.
    pub(super) fn selected(&self) -> Option<TopKey> {
        self.list.as_ref()?.key(self.look().line)
    }

    pub(super) fn select(&mut self, line: usize) {
        let Some(list) = &self.list else { return };
        let line = line.min(list.len().saturating_sub(1));
        let key = list.key(line);
        let look = self.look_mut();
        look.line = line;
        // At the top one looks at whatever is the first.
        look.selected = key.filter(|_| line > 0);
    }

    /// Expands or folds the process that is chosen; true where that is one.
    pub(super) fn toggle_expanded(&mut self) -> bool {
        let Some(key @ (TopKey::Process { .. } | TopKey::UnknownProcess)) = self.selected() else {
            return false;
        };
        if !self.expanded.remove(&key) {
            self.expanded.insert(key);
        }
        self.arrange();
        true
    }

    pub(super) fn toggle_pause(&mut self) {
        self.paused = match self.paused.take() {
            None => Some((self.latest.clone(), self.history.clone())),
            Some(_) => None,
        };
        self.arrange();
    }

    /// Sorts by the column so many after this one.
    pub(super) fn sort_next(&mut self, steps: usize) {
        let columns: Vec<TopColumn> =
            self.view.columns().iter().copied().filter(|column| column.sorts()).collect();
        let look = self.look_mut();
        let at = columns.iter().position(|column| *column == look.sort).unwrap_or_default();
        look.sort = columns[(at + steps) % columns.len()];
        self.arrange();
    }

    /// Sorts by the column before this one.
    pub(super) fn sort_previous(&mut self) {
        let columns = self.view.columns().iter().filter(|column| column.sorts()).count();
        self.sort_next(columns - 1);
    }

    pub(super) fn reverse(&mut self) {
        let look = self.look_mut();
        look.reverse = !look.reverse;
        self.arrange();
    }

    pub(super) fn begin_filter(&mut self) {
        let text = self.filter_text.clone();
        self.prompt = Some(Prompt { cursor: text.chars().count(), text, error: None });
    }

    /// Takes what was typed as the filter, or says what is wrong with it.
    pub(super) fn end_filter(&mut self) {
        let Some(prompt) = &mut self.prompt else { return };
        let text = prompt.text.trim_end();
        let parsed = if text.trim().is_empty() { Ok(Filter::everything()) } else { Filter::parse(text) };
        match parsed {
            Ok(filter) => {
                self.filter_text = text.trim().to_owned();
                self.filter = filter;
                self.prompt = None;
                // The sums so far are of something else.
                self.history.begin_again();
                if let Some((_, history)) = &mut self.paused {
                    history.begin_again();
                }
                self.arrange();
            }
            Err(error) => prompt.error = Some(error),
        }
    }
}
