//! A language model that an operator configured, asked by the protocol that most servers speak: `POST
//! BASE/chat/completions` (`OpenAI`, Ollama, vLLM, llama.cpp). Nothing is sent unless a model is named.

mod endpoint;
mod pseudonyms;

use std::{env, fmt, fs};

pub(crate) use endpoint::Message;
pub use endpoint::ModelLimits;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use endpoint::read_any_answer;
pub(crate) use pseudonyms::Pseudonyms;

use crate::{
    clean::CleanText,
    error::{Error, Result},
};

/// Where questions go unless somebody says otherwise.
const OPENAI: &str = "https://api.openai.com/v1";

/// How to enable it, for those who did not.
pub(crate) const HOW_TO_CONFIGURE: &str = "for an explanation in words, name a model: NETMON_AI_MODEL, and where it is: \
     NETMON_AI_BASE_URL (http://localhost:11434/v1 for Ollama), its key in OPENAI_API_KEY or the file NETMON_AI_KEY_FILE";

/// A language model and where it is.
#[derive(Clone)]
#[non_exhaustive]
pub struct Model {
    /// What the server calls it.
    pub name: CleanText,
    /// Where the server is: `https`, or `http` on this host.
    pub base_url: String,
    /// Whether addresses and names are replaced before they are sent (they are, by default), and put back in the answer.
    pub redact: bool,
    /// How long it may take, and how much it may say.
    pub limits: ModelLimits,
    key: Option<String>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("name", &self.name)
            .field("base_url", &self.base_url)
            .field("redact", &self.redact)
            .finish_non_exhaustive()
    }
}

impl Model {
    /// A model of a server that wants no key.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for an address to which nothing may be sent: not a URL, or not encrypted and not this
    /// host.
    pub fn new(name: impl Into<CleanText>, base_url: &str) -> Result<Self> {
        let base_url = base_url.trim_end_matches('/').to_owned();
        endpoint::check(&base_url).map_err(Error::InvalidRequest)?;
        Ok(Self { name: name.into(), base_url, redact: true, limits: ModelLimits::default(), key: None })
    }

    /// With a key, which is sent as bearer token and shown nowhere.
    #[must_use]
    pub fn with_key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// The model that the environment names: `NETMON_AI_MODEL`, at `NETMON_AI_BASE_URL` or `OPENAI_BASE_URL`, with the key
    /// in `OPENAI_API_KEY` or the file `NETMON_AI_KEY_FILE`; `NETMON_AI_REDACTION=off` sends addresses and names as they
    /// are. `None` where no model is named, whatever else is set.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for an address as in [`Model::new`], a file that cannot be read, what is no key, or a
    /// redaction that is neither `on` nor `off`.
    pub fn from_environment() -> Result<Option<Self>> {
        let Some(name) = variable("NETMON_AI_MODEL") else { return Ok(None) };
        let base_url = variable("NETMON_AI_BASE_URL")
            .or_else(|| variable("OPENAI_BASE_URL"))
            .unwrap_or_else(|| OPENAI.to_owned());
        let mut model = Self::new(name, &base_url)?;
        model.key = match (variable("NETMON_AI_KEY_FILE"), variable("OPENAI_API_KEY")) {
            (Some(path), _) => {
                let key = fs::read_to_string(&path).map_err(|error| {
                    let path = CleanText::from(path.as_str());
                    Error::InvalidRequest(format!(
                        "the key file {path} (NETMON_AI_KEY_FILE) cannot be read: {error}"
                    ))
                })?;
                Some(key_in(&key, "the file that NETMON_AI_KEY_FILE names")?)
            }
            (None, Some(key)) => Some(key_in(&key, "OPENAI_API_KEY")?),
            (None, None) => None,
        };
        model.redact = redaction()?;
        Ok(Some(model))
    }

    /// A model that nobody has named, to show what one would be sent. It is never asked.
    pub(crate) fn any() -> Result<Self> {
        Ok(Self { redact: redaction()?, ..Self::new("the model of your choice", OPENAI)? })
    }

    /// Whether [`Model::from_environment`] would find a key, but no model to use it with.
    pub fn only_a_key_is_configured() -> bool {
        env::var_os("OPENAI_API_KEY").is_some() && env::var_os("NETMON_AI_MODEL").is_none()
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Whether addresses and names are replaced.
fn redaction() -> Result<bool> {
    match variable("NETMON_AI_REDACTION").as_deref() {
        None | Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(other) => {
            let other = CleanText::from(other);
            Err(Error::InvalidRequest(format!("NETMON_AI_REDACTION is \"{other}\"; it may be on or off")))
        }
    }
}

/// The key in a text; what is wrong with it is told without it.
fn key_in(text: &str, place: &str) -> Result<String> {
    let key = text.trim();
    if key.is_empty() {
        return Err(Error::InvalidRequest(format!("{place} has no key in it")));
    }
    if !key.chars().all(|character| character.is_ascii_graphic()) {
        return Err(Error::InvalidRequest(format!(
            "{place} has more in it than a key: a key is one word of ASCII characters"
        )));
    }
    Ok(key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_word_with_or_without_the_end_of_a_line() {
        assert_eq!(key_in("sk-very-secret\n", "the file").unwrap(), "sk-very-secret");
        assert_eq!(key_in("  sk-very-secret\r\n\n", "the file").unwrap(), "sk-very-secret");
        let empty = key_in("\n", "the file").unwrap_err().to_string();
        assert_eq!(empty, "the file has no key in it");
        for wrong in
            ["sk-very-secret\nsk-another", "OPENAI_API_KEY = sk-very-secret", "sk-\u{200b}secret", "sk-\0x"]
        {
            let told = key_in(wrong, "the file").unwrap_err().to_string();
            assert!(
                told.starts_with("the file has more in it than a key") && !told.contains("secret"),
                "{told}"
            );
        }
    }
}
