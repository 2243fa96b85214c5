//! The command line: `--name VALUE`, `--name`, and words by their order.

use std::{fmt::Display, net::SocketAddr, str::FromStr, time::Duration};

use crate::Result;

/// What is left of the command line; everything taken is gone.
pub(crate) struct Arguments(Vec<String>);

impl Arguments {
    pub(crate) fn new(words: impl IntoIterator<Item = String>) -> Self {
        Self(words.into_iter().collect())
    }

    /// All after a `--`.
    pub(crate) fn after_dashes(&mut self) -> Vec<String> {
        let Some(at) = self.0.iter().position(|word| word == "--") else { return Vec::new() };
        self.0.split_off(at).split_off(1)
    }

    /// Whether there is an option without a value.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|word| word == name);
        at.map(|at| self.0.remove(at)).is_some()
    }

    /// The value of an option.
    pub(crate) fn option<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(at) = self.0.iter().position(|word| word == name) else { return Ok(None) };
        self.0.remove(at);
        if at == self.0.len() {
            return Err(format!("{name} lacks its value").into());
        }
        parsed(&self.0.remove(at)).map(Some)
    }

    pub(crate) fn number(&mut self, name: &str, otherwise: u64) -> Result<u64> {
        Ok(self.option(name)?.unwrap_or(otherwise))
    }

    pub(crate) fn milliseconds(&mut self, name: &str, otherwise: u64) -> Result<Duration> {
        Ok(Duration::from_millis(self.number(name, otherwise)?))
    }

    /// The next word. Options are to be taken first.
    pub(crate) fn word(&mut self, what: &str) -> Result<String> {
        match self.0.first() {
            Some(word) if !word.starts_with("--") => Ok(self.0.remove(0)),
            _ => Err(format!("{what} is missing").into()),
        }
    }

    pub(crate) fn address(&mut self) -> Result<SocketAddr> {
        parsed(&self.word("an address")?)
    }

    /// All words that are left, at least one.
    pub(crate) fn addresses(&mut self) -> Result<Vec<SocketAddr>> {
        let mut addresses = vec![self.address()?];
        while !self.0.is_empty() {
            addresses.push(self.address()?);
        }
        Ok(addresses)
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(format!("not understood: {}", self.0.join(" ")).into()) }
    }
}

fn parsed<T: FromStr<Err: Display>>(word: &str) -> Result<T> {
    word.parse().map_err(|error| format!("{word}: {error}").into())
}
