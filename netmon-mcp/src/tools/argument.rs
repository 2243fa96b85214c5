//! Arguments as models write them: a number may be text, and `null` or "auto" leaves one out.
//!
//! serde's own messages do not say which argument is wrong; these do.

use std::time::Duration;

use netmon_core::request::{duration_of_seconds, parse_duration};
use serde::{Deserialize as _, Deserializer, de::DeserializeOwned};
use serde_json::Value;

/// An argument of any type. `null` is how some clients leave one out.
pub(super) fn any<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
    name: &str,
    expected: &str,
) -> Result<Option<T>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Option::<T>::deserialize(&value).map_err(|_| wrong(name, expected, &value))
}

/// A number, or text that is one.
pub(super) fn number<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
    name: &str,
    expected: &str,
) -> Result<Option<T>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    if is_left_out(&value) {
        return Ok(None);
    }
    let read = T::deserialize(&value).ok().or_else(|| T::deserialize(number_in(&value)?).ok());
    read.map(Some).ok_or_else(|| wrong(name, expected, &value))
}

/// A number of seconds, or a text such as `5m`.
pub(super) fn seconds<'de, D: Deserializer<'de>>(
    deserializer: D,
    name: &str,
    expected: &str,
) -> Result<Option<Duration>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    if is_left_out(&value) {
        return Ok(None);
    }
    let read = match &value {
        Value::String(text) => parse_duration(text.trim()).ok(),
        other => other.as_f64().and_then(duration_of_seconds),
    };
    read.map(Some).ok_or_else(|| wrong(name, expected, &value))
}

fn is_left_out(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() || text == "auto",
        _ => false,
    }
}

/// The number that a text stands for, and the whole number that a float is.
fn number_in(value: &Value) -> Option<Value> {
    let number = match value {
        Value::String(text) => serde_json::from_str::<serde_json::Number>(text.trim()).ok()?,
        Value::Number(number) => number.clone(),
        _ => return None,
    };
    match number.as_f64() {
        // Beyond, a float has no last digit, and is no number of anything here.
        Some(float) if float.fract() == 0.0 && (0.0..9e15).contains(&float) => {
            Some(Value::from(float as u64))
        }
        _ => Some(Value::Number(number)),
    }
}

fn wrong<E: serde::de::Error>(name: &str, expected: &str, value: &Value) -> E {
    let given: String = value.to_string().chars().take(60).collect();
    E::custom(format_args!("`{name}` {expected}, not {given}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_may_be_text_or_a_float() {
        for value in [json!(7), json!("7"), json!(" 7 "), json!(7.0), json!("7.0")] {
            assert_eq!(number::<_, u32>(&value, "pid", "is a number").unwrap(), Some(7), "{value}");
        }
        for value in [json!(null), json!("auto"), json!("")] {
            assert_eq!(number::<_, u32>(&value, "pid", "is a number").unwrap(), None, "{value}");
        }
        for value in [json!(-1), json!(1.5), json!("x"), json!([7]), json!(5_000_000_000_u64)] {
            let error = number::<_, u32>(&value, "pid", "is a number").unwrap_err();
            assert_eq!(error.to_string(), format!("`pid` is a number, not {value}"));
        }
    }

    #[test]
    fn a_time_may_be_seconds_or_words() {
        for (value, expected) in
            [(json!(60), 60.0), (json!("60"), 60.0), (json!("1m30s"), 90.0), (json!(0.5), 0.5)]
        {
            let read = seconds(&value, "since", "is a time").unwrap();
            assert_eq!(read, Some(Duration::from_secs_f64(expected)), "{value}");
        }
        assert!(seconds(&json!("yesterday"), "since", "is a time").is_err());
        assert!(seconds(&json!(-1), "since", "is a time").is_err());
    }
}
