//! The API's document, from one table of all operations and the schemas of their types.

use std::{collections::BTreeMap, fmt::Write as _, sync::LazyLock};

use netmon_core::{
    CapabilitiesAnswer, ConnectionsAnswer, ConnectionsRequest, DiagnoseRequest, Diagnosis, DiffAnswer,
    DiffRequest, DropsRequest, InterfacesAnswer, ListenersAnswer, PacketDrops, PatternsAnswer,
    PatternsRequest, RateRequest, RatesAnswer, SocketsAnswer, SocketsRequest, SummaryAnswer, SummaryRequest,
    source::remote::wire::{NDJSON, PROBLEM_JSON, Problem},
};
use serde_json::{Map, Value, json};

use super::answers::{InterfacesRequest, Nothing, ROWS};
use crate::query::schema_of;

/// What can be asked at one path.
struct Operation {
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    description: &'static str,
    request: fn() -> Value,
    /// The schema of the answer's JSON; of a stream, none.
    answer: Option<fn() -> Value>,
    /// Whether POST takes the request as a body.
    post: bool,
}

fn operations() -> Vec<Operation> {
    let page = "GET answers with at most 1000 rows where no limit is given; next_cursor leads to the others. \
                Without since, the last minute.";
    let stream = "Server-sent events (Accept: text/event-stream), resumed by Last-Event-ID, or JSON lines (Accept: \
                  application/x-ndjson). An event `missed` counts what was not told because the client was too slow.";
    let question = |path, id, summary, description, request, answer| Operation {
        path,
        id,
        summary,
        description,
        request,
        answer: Some(answer),
        post: true,
    };
    vec![
        question(
            "/v1/connections",
            "listConnections",
            "Connections with their processes, one row each",
            page,
            schema_of::<ConnectionsRequest>,
            schema_of::<ConnectionsAnswer>,
        ),
        Operation {
            path: "/v1/connections/events",
            id: "watchConnections",
            summary: "Each connection when it opens, is established, fails or ends",
            description: stream,
            request: schema_of::<ConnectionsRequest>,
            answer: None,
            post: false,
        },
        question(
            "/v1/summary",
            "summarize",
            "Connections summed up by process, destination and error",
            "Without since, the last minute.",
            schema_of::<SummaryRequest>,
            schema_of::<SummaryAnswer>,
        ),
        question(
            "/v1/patterns",
            "findPatterns",
            "What stands out: failures, bursts, periodic connections, scans, new destinations",
            "Without since, the last minute.",
            schema_of::<PatternsRequest>,
            schema_of::<PatternsAnswer>,
        ),
        question(
            "/v1/diagnose",
            "diagnose",
            "What is wrong: findings with evidence, likely cause and next step, and what was checked",
            "Without since, the last five minutes.",
            schema_of::<DiagnoseRequest>,
            schema_of::<Diagnosis>,
        ),
        question(
            "/v1/diff",
            "compare",
            "What differs between two times: new and gone destinations, listeners, processes and failures, and rates",
            "With since, the last time with as long a time before it. Without, two windows one after the other, and it \
             takes as long as both.",
            schema_of::<DiffRequest>,
            schema_of::<DiffAnswer>,
        ),
        question(
            "/v1/drops",
            "listDrops",
            "Packets that the kernel dropped, by reason, owner and port",
            "Without since, the last minute. GET answers with at most 1000 rows where no limit is given; the sums are of all.",
            schema_of::<DropsRequest>,
            schema_of::<PacketDrops>,
        ),
        question(
            "/v1/sockets",
            "listSockets",
            "All sockets now, with the processes that hold them",
            "GET answers with at most 1000 rows where no limit is given.",
            schema_of::<SocketsRequest>,
            schema_of::<SocketsAnswer>,
        ),
        question(
            "/v1/listeners",
            "listListeners",
            "Who waits for connections",
            "GET answers with at most 1000 rows where no limit is given.",
            schema_of::<SocketsRequest>,
            schema_of::<ListenersAnswer>,
        ),
        question(
            "/v1/interfaces",
            "listInterfaces",
            "Interfaces with state, addresses, counters and, over a window, rates",
            "Takes as long as the window.",
            schema_of::<InterfacesRequest>,
            schema_of::<InterfacesAnswer>,
        ),
        question(
            "/v1/rates",
            "measureRates",
            "Packet and byte rates of interfaces, by protocol",
            "Takes as long as the window, at most 60 s.",
            schema_of::<RateRequest>,
            schema_of::<RatesAnswer>,
        ),
        Operation {
            path: "/v1/rates/events",
            id: "watchRates",
            summary: "Rates, window after window",
            description: stream,
            request: schema_of::<RateRequest>,
            answer: None,
            post: false,
        },
        question(
            "/v1/capabilities",
            "capabilities",
            "What works on this host, and what would fix the rest",
            "Every hook is tried for real.",
            schema_of::<Nothing>,
            schema_of::<CapabilitiesAnswer>,
        ),
    ]
}

/// The document as it is served, and checked in as `openapi.json`.
pub(crate) fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
        let mut text = serde_json::to_string_pretty(&build()).unwrap_or_default();
        text.push('\n');
        text
    });
    &DOCUMENT
}

fn build() -> Value {
    let mut schemas = BTreeMap::new();
    let problem = component(&mut schemas, schema_of::<Problem>(), "Problem");
    let mut paths = Map::new();
    for operation in operations() {
        let mut item = Map::new();
        let request = (operation.request)();
        let ok = match operation.answer {
            Some(schema) => {
                let schema = schema();
                let name = title(&schema);
                json!({ "description": "The answer.", "content": {
                    "application/json": { "schema": component(&mut schemas, schema, &name) } } })
            }
            None => json!({ "description": "A stream.", "content": {
                "text/event-stream": { "schema": { "type": "string" } },
                NDJSON: { "schema": { "type": "string" } } } }),
        };
        let mut responses = Map::new();
        responses.insert("200".into(), ok);
        for (status, description) in [
            ("400", "The question cannot be understood."),
            ("401", "Nobody knows who asks, or the token is wrong."),
            ("403", "The answer would tell of other users, or this host is not called so."),
            ("404", "There is no such interface."),
            ("409", "The source cannot answer this now."),
            ("429", "This client asks too much at once."),
            ("500", "The daemon could not do it."),
        ] {
            let body =
                json!({ "description": description, "content": { PROBLEM_JSON: { "schema": problem } } });
            responses.insert(status.into(), body);
        }
        let common = |id: String| {
            json!({
                "operationId": id,
                "summary": operation.summary,
                "description": operation.description,
                "responses": responses,
            })
        };
        let mut get = common(operation.id.to_owned());
        get["parameters"] = parameters(&request);
        item.insert("get".into(), get);
        if operation.post {
            let mut post = common(format!("{}ByBody", operation.id));
            let name = title(&request);
            let schema = component(&mut schemas, request, &name);
            post["requestBody"] =
                json!({ "required": false, "content": { "application/json": { "schema": schema } } });
            post["responses"]["413"] = json!({ "description": "The body is too large.",
                "content": { PROBLEM_JSON: { "schema": problem } } });
            item.insert("post".into(), post);
        }
        paths.insert(operation.path.into(), Value::Object(item));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "netmond",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            "description": "What is happening on this Linux host's network, and which process does it. Every answer has \
                its window, and in coverage what was observed, what is missing and what was lost. Times are RFC 3339, \
                durations seconds. Unknown parameters are refused. /v1/facts is for netmon's own clients, and may change.",
        },
        "servers": [{ "url": "/" }],
        "security": [{}, { "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer",
                "description": "The token of access.token_file. Not needed on the Unix socket, and over loopback, where \
                    the caller's user decides what is told." } },
        },
    })
}

fn title(schema: &Value) -> String {
    schema["title"].as_str().unwrap_or("Body").to_owned()
}

/// Moves a schema and what it refers to among the document's, and returns a reference to it.
fn component(schemas: &mut BTreeMap<String, Value>, mut schema: Value, name: &str) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
        if let Some(Value::Object(definitions)) = object.remove("$defs") {
            for (name, definition) in definitions {
                schemas.entry(name).or_insert_with(|| moved(definition));
            }
        }
    }
    schemas.entry(name.to_owned()).or_insert_with(|| moved(schema));
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// With references to where definitions are in this document.
fn moved(schema: Value) -> Value {
    match schema {
        Value::Object(object) => object
            .into_iter()
            .map(|(key, value)| match value {
                Value::String(target) if key == "$ref" => {
                    (key, target.replace("#/$defs/", "#/components/schemas/").into())
                }
                other => (key, moved(other)),
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(moved).collect(),
        other => other,
    }
}

/// The properties of a request as parameters of a query.
fn parameters(request: &Value) -> Value {
    let definitions = request["$defs"].clone();
    let Some(properties) = request["properties"].as_object() else { return json!([]) };
    let parameter = |(name, property): (&String, &Value)| {
        let mut schema = inlined(property, &definitions);
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        json!({
            "name": name,
            "in": "query",
            "required": false,
            "description": description.unwrap_or_default(),
            "schema": schema,
        })
    };
    properties.iter().map(parameter).collect()
}

/// Without references, which a query's simple values do not need, and without null, which a query cannot hold.
fn inlined(schema: &Value, definitions: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(options) = schema["anyOf"].as_array()
        && let Some(one) = options.iter().find(|option| option["type"] != "null")
    {
        let mut inner = inlined(one, definitions);
        if !schema["description"].is_null() {
            inner["description"] = schema["description"].clone();
        }
        return inner;
    }
    if let Some(name) = schema["$ref"].as_str().and_then(|target| target.strip_prefix("#/$defs/")) {
        let mut inner = inlined(&definitions[name], definitions);
        for key in ["description", "default"] {
            if !schema[key].is_null() {
                inner[key] = schema[key].clone();
            }
        }
        return inner;
    }
    if let Some(kinds) = schema["type"].as_array() {
        let kind = kinds.iter().find(|kind| *kind != "null").cloned();
        schema["type"] = kind.unwrap_or_default();
        if let Some(object) = schema.as_object_mut() {
            object.remove("default");
        }
    }
    if !schema["items"].is_null() {
        schema["items"] = inlined(&schema["items"], definitions);
    }
    schema
}

/// The document for people.
pub(crate) fn page() -> String {
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>netmond</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 \
         1rem}code,pre{background:#8882;padding:.1em .3em;border-radius:3px}pre{padding:.7em;overflow-x:auto}\
         table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.2em .6em .2em 0;\
         border-bottom:1px solid #8884}h2{margin-top:2em}:root{color-scheme:light dark}</style><h1>netmond</h1>\
         <p>What is happening on this host's network, and which process does it. The whole document: \
         <a href=\"/openapi.json\">openapi.json</a>.</p><p>On the Unix socket, and over loopback, your user decides what \
         you see: root and members of the group see all connections, others their own. From elsewhere a token is \
         needed.</p><pre>curl --unix-socket /run/netmon/netmond.sock 'http://localhost/v1/summary?since=5m'\n\
         curl -N --unix-socket /run/netmon/netmond.sock http://localhost/v1/connections/events</pre>",
    );
    let _ = write!(page, "<p>Answers to GET have at most {ROWS} rows where no limit is given.</p>");
    for operation in operations() {
        let methods = if operation.post { "GET, POST" } else { "GET" };
        let _ = write!(
            page,
            "<h2><code>{}</code></h2><p>{methods}. {}. {}</p>",
            escaped(operation.path),
            escaped(operation.summary),
            escaped(operation.description)
        );
        let parameters = parameters(&(operation.request)());
        let rows = parameters.as_array().map(Vec::as_slice).unwrap_or_default();
        if rows.is_empty() {
            continue;
        }
        page.push_str("<table><tr><th>parameter<th>what</tr>");
        for row in rows {
            let text = |value: &Value| escaped(value.as_str().unwrap_or_default());
            let _ = write!(
                page,
                "<tr><td><code>{}</code><td>{}</tr>",
                text(&row["name"]),
                text(&row["description"])
            );
        }
        page.push_str("</table>");
    }
    page.push_str(
        "<h2>Others</h2><table><tr><td><code>/health</code><td>whether it observes</tr><tr><td><code>/metrics</code>\
         <td>for Prometheus</tr><tr><td><code>/mcp</code><td>the Model Context Protocol, streamable HTTP</tr><tr><td>\
         <code>/api/*</code><td>the ebpf-server's endpoints, for its clients</tr></table></html>",
    );
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_that_is_checked_in_is_the_one_that_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        if std::env::var_os("NETMON_UPDATE").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        let checked_in = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            checked_in == document(),
            "run NETMON_UPDATE=1 cargo test -p netmon-daemon, and read the change"
        );
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(value: &Value, document: &Value) {
            match value {
                Value::Object(object) => {
                    if let Some(target) = object.get("$ref").and_then(Value::as_str) {
                        assert!(document.pointer(&target[1..]).is_some(), "{target}");
                    }
                    object.values().for_each(|value| check(value, document));
                }
                Value::Array(items) => items.iter().for_each(|value| check(value, document)),
                _ => {}
            }
        }
        let document = build();
        check(&document, &document);
    }
}
