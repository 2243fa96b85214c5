//! Requests from the query of a URL, read by the schema that the request's type has anyway.

use netmon_core::{CleanText, ErrorKind, request::parse_duration};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

use crate::reply::Refusal;

/// The JSON schema of a type, as OpenAPI 3.1 has them.
pub(crate) fn schema_of<T: JsonSchema>() -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12();
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Reads a query. Lists are given by repeating a key, or with commas; durations in seconds or as `5m`.
pub(crate) fn read<T: DeserializeOwned + JsonSchema>(query: &str) -> Result<T, Refusal> {
    let schema = schema_of::<T>();
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let mut object = Map::new();
    for (key, text) in pairs(query).map_err(bad)? {
        let key = match key.as_str() {
            "state" => "states".to_owned(),
            "reason" => "reasons".to_owned(),
            _ => key,
        };
        let Some(property) = properties.get(&key) else { return Err(unknown(&key, properties)) };
        let text = match text {
            Some(text) => text,
            None if is(property, "boolean") => "true".to_owned(),
            None => return Err(bad(format!("{key:?} lacks its value"))),
        };
        if is(property, "array") {
            let list = object.entry(key).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.extend(text.split(',').map(Value::from));
            }
            continue;
        }
        let value = value_of(&key, &text, property).map_err(bad)?;
        if object.insert(key.clone(), value).is_some() {
            return Err(bad(format!("{key:?} is there twice")));
        }
    }
    serde_json::from_value(Value::Object(object)).map_err(|error| bad(error.to_string()))
}

fn bad(message: String) -> Refusal {
    Refusal::new(ErrorKind::InvalidRequest, CleanText::from(message.as_str()).to_string())
}

fn unknown(key: &str, properties: &Map<String, Value>) -> Refusal {
    let nearest = properties
        .keys()
        .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
    let all: Vec<&str> = properties.keys().map(String::as_str).collect();
    let nearest = nearest
        .filter(|name| strsim::jaro_winkler(name, key) > 0.7)
        .map(|name| format!("; did you mean {name:?}?"))
        .unwrap_or_default();
    bad(format!("no parameter is called {key:?}{nearest}"))
        .hint(format!("parameters are: {}", all.join(", ")))
}

fn is(property: &Value, kind: &str) -> bool {
    match &property["type"] {
        Value::String(only) => only == kind,
        Value::Array(kinds) => kinds.iter().any(|one| one == kind),
        _ => false,
    }
}

fn value_of(key: &str, text: &str, property: &Value) -> Result<Value, String> {
    if is(property, "boolean") {
        return match text {
            "1" | "true" => Ok(true.into()),
            "0" | "false" => Ok(false.into()),
            _ => Err(format!("{key:?} is true or false, not {text:?}")),
        };
    }
    if is(property, "integer") {
        return text
            .parse::<u64>()
            .map(Value::from)
            .map_err(|_| format!("{key:?} is a whole number, not {text:?}"));
    }
    if is(property, "number") {
        let seconds = parse_duration(text).map_err(|message| format!("{key:?}: {message}"))?.as_secs_f64();
        return Ok(Number::from_f64(seconds).map_or(Value::Null, Value::Number));
    }
    Ok(text.into())
}

/// The pairs of a query, decoded; without `=` there is no value.
fn pairs(query: &str) -> Result<Vec<(String, Option<String>)>, String> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = match pair.split_once('=') {
                Some((key, value)) => (key, Some(decode(value)?)),
                None => (pair, None),
            };
            Ok((decode(key)?, value))
        })
        .collect()
}

fn decode(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is not percent-encoded UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().ok_or_else(wrong)?, rest.next().ok_or_else(wrong)?];
                let digits = std::str::from_utf8(&digits).map_err(|_| wrong())?;
                u8::from_str_radix(digits, 16).map_err(|_| wrong())?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use netmon_core::{
        ConnectionsRequest, RateRequest,
        fact::{ConnectionState, Protocol},
    };

    use super::*;

    #[test]
    fn a_query_is_read_as_its_request_has_it() {
        let request: ConnectionsRequest = read(
            "pid=7&process=nginx%2a&since=5m&window=0.5&state=open,failed&state=closed&limit=10&reverse&protocol=udp\
             &filter=port+%3D%3D+443",
        )
        .unwrap();
        assert_eq!(request.filter.pid, Some(7));
        assert_eq!(request.filter.process.as_deref(), Some("nginx*"));
        assert_eq!(request.filter.filter.as_deref(), Some("port == 443"));
        assert_eq!(request.filter.protocol, Some(Protocol::Udp));
        assert_eq!(request.since, Some(Duration::from_secs(300)));
        assert_eq!(request.window, Duration::from_millis(500));
        use ConnectionState::{Closed, Failed, Open};
        assert_eq!(request.states, [Open, Failed, Closed]);
        assert!(request.reverse);
        assert_eq!(read::<ConnectionsRequest>("").unwrap(), ConnectionsRequest::default());
        let rates: RateRequest = read("interfaces=eth0&interfaces=lo&direction=in").unwrap();
        assert_eq!(rates.interfaces, ["eth0", "lo"]);
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("limt=5", "no parameter is called \"limt\"; did you mean \"limit\"?"),
            ("limit=1e9", "\"limit\" is a whole number, not \"1e9\""),
            ("limit=-1", "\"limit\" is a whole number, not \"-1\""),
            ("pid=99999999999999999999", "\"pid\" is a whole number, not \"99999999999999999999\""),
            ("reverse=maybe", "\"reverse\" is true or false, not \"maybe\""),
            ("reverse=", "\"reverse\" is true or false, not \"\""),
            ("process", "\"process\" lacks its value"),
            ("since=-5", "\"since\": \"-5\" is negative; write it like 5s, 500ms, 1m30s or 2.5"),
            ("pid=1&pid=2", "\"pid\" is there twice"),
            ("process=%zz", "\"%zz\" is not percent-encoded UTF-8"),
            ("process=%ff", "\"%ff\" is not percent-encoded UTF-8"),
        ];
        for (query, expected) in cases {
            assert_eq!(read::<ConnectionsRequest>(query).unwrap_err().0.detail, expected);
        }
        let wrong = read::<ConnectionsRequest>("protocol=sctp").unwrap_err();
        assert!(
            wrong.0.detail.contains("unknown variant `sctp`, expected one of `tcp`"),
            "{}",
            wrong.0.detail
        );
        let wrong = read::<ConnectionsRequest>("port=65536").unwrap_err();
        assert!(wrong.0.detail.contains("65536"), "{}", wrong.0.detail);
    }
}
