//! Both generations of the protocol on the real program, on the demo recording: what clients see.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use serde_json::{Value, json};
use support::{Client, DEMO, demo};

/// A snapshot of JSON, without what differs between checkouts and versions.
macro_rules! snapshot {
    ($name:literal, $value:expr) => {{
        let text = serde_json::to_string_pretty(&$value).unwrap();
        let text = text.replace(DEMO, "replay:demo.jsonl").replace(env!("CARGO_PKG_VERSION"), "[version]");
        insta::assert_snapshot!($name, text);
    }};
}

#[test]
fn a_client_with_a_handshake_is_welcome() {
    let mut client = Client::silent(&mut demo());
    snapshot!("initialize", client.initialize());
    let tools = client.result("tools/list", json!({}));
    assert_eq!(tools["tools"].as_array().unwrap().len(), 2);
    assert!(tools.get("ttlMs").is_none(), "a field of the next generation");
}

#[test]
fn every_version_with_a_handshake_is_agreed_to() {
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut client = Client::silent(&mut demo());
        let params = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}});
        assert_eq!(client.result("initialize", params)["protocolVersion"], version);
    }
}

#[test]
fn a_client_without_a_handshake_is_welcome() {
    let mut client = Client::stateless(&mut demo());
    snapshot!("discover", client.result("server/discover", json!({})));
    let tools = client.result("tools/list", json!({}));
    assert_eq!(tools["ttlMs"], 300_000);
    assert_eq!(tools["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "netmon-mcp");
    let result = client.call("network-monitor", json!({"operation": "incoming"}));
    assert_eq!(result["resultType"], "complete");
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "netmon-mcp");
    assert_eq!(result["structuredContent"]["rates"][0]["packets"], 5_000);
}

#[test]
fn a_first_request_without_discovery_is_answered() {
    let mut client = Client::stateless(&mut demo());
    assert_eq!(client.answer("network-monitor", json!({"operation": "in"}))["rates"][0]["packets"], 5_000);
}

#[test]
fn a_client_may_look_around_and_then_shake_hands() {
    let mut client = Client::stateless(&mut demo());
    client.result("server/discover", json!({}));
    client.forget_generation();
    client.initialize();
    assert_eq!(client.answer("network-monitor", json!({"operation": "in"}))["rates"][0]["packets"], 5_000);
}

#[test]
fn tools_are_listed_alike_in_every_run() {
    let list = || Client::with_handshake(&mut demo()).result("tools/list", json!({}));
    let tools = list();
    snapshot!("tools_list", tools);
    assert_eq!(tools.to_string(), list().to_string());
}

#[test]
fn the_list_of_tools_is_small() {
    let mut tools = Client::with_handshake(&mut demo()).result("tools/list", json!({}))["tools"].take();
    let whole = tools.to_string().len();
    assert!(whole < 24 * 1024, "{whole} bytes");
    for tool in tools.as_array_mut().unwrap() {
        tool.as_object_mut().unwrap().remove("outputSchema");
    }
    let without_output = tools.to_string().len();
    assert!(without_output < 8 * 1024, "{without_output} bytes");
}

#[test]
fn schemas_hold_nothing_that_clients_refuse() {
    let tools = Client::with_handshake(&mut demo()).result("tools/list", json!({}));
    check_schema(&tools);
    for tool in tools["tools"].as_array().unwrap() {
        let input = tool["inputSchema"].to_string();
        for refused in ["$ref", "anyOf", "oneOf", "allOf"] {
            assert!(!input.contains(refused), "{refused} in {input}");
        }
    }
}

fn check_schema(value: &Value) {
    match value {
        Value::Object(object) => {
            assert!(object.get("type").is_none_or(|kind| !kind.is_array()), "{value}");
            assert!(object.get("format").is_none_or(|format| !format.is_string() || format == "date-time"));
            object.values().for_each(check_schema);
        }
        Value::Array(values) => values.iter().for_each(check_schema),
        other => assert!(!other.is_null()),
    }
}

#[test]
fn a_call_is_answered_with_a_digest_and_everything() {
    let mut client = Client::with_handshake(&mut demo());
    snapshot!("network_monitor", client.call("network-monitor", json!({"operation": "both"})));
    snapshot!(
        "network_monitor_without_hook",
        client.call("network-monitor", json!({"operation": "incoming", "interface": "lo", "duration": 10}))
    );
    snapshot!("capabilities", client.call("capabilities", json!({})));
    client.finish();
}

#[test]
fn answers_are_what_their_schemas_say() {
    let mut client = Client::with_handshake(&mut demo());
    let tools = client.result("tools/list", json!({}))["tools"].take();
    for (index, tool, arguments) in
        [(0, "capabilities", json!({})), (1, "network-monitor", json!({"operation": "both"}))]
    {
        assert_eq!(tools[index]["name"], tool);
        let schema = &tools[index]["outputSchema"];
        conforms(&client.answer(tool, arguments), schema, schema);
    }
}

/// As much of JSON Schema as our schemas use.
fn conforms(value: &Value, schema: &Value, root: &Value) {
    if let Some(reference) = schema["$ref"].as_str() {
        return conforms(value, root.pointer(&reference[1..]).unwrap(), root);
    }
    if let Some(choices) = schema["enum"].as_array() {
        assert!(choices.contains(value), "{value} is none of {choices:?}");
    }
    match schema["type"].as_str() {
        Some("object") => {
            let object = value.as_object().unwrap();
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(object.contains_key(name.as_str().unwrap()), "{name} is missing in {value}");
            }
            for (name, value) in object {
                let property = schema["properties"].get(name);
                conforms(value, property.unwrap_or_else(|| panic!("{name} has no schema")), root);
            }
        }
        Some("array") => {
            value.as_array().unwrap().iter().for_each(|item| conforms(item, &schema["items"], root));
        }
        Some("string") => assert!(value.is_string(), "{value}"),
        Some("integer") => assert!(value.is_i64() || value.is_u64(), "{value}"),
        Some("number") => assert!(value.is_number(), "{value}"),
        Some("boolean") => assert!(value.is_boolean(), "{value}"),
        kind => assert!(kind.is_none() && schema["oneOf"].is_array(), "{schema}"),
    }
}

#[test]
fn results_are_small() {
    let mut client = Client::with_handshake(&mut demo());
    for (tool, arguments) in [("network-monitor", json!({"operation": "both"})), ("capabilities", json!({}))]
    {
        let result = client.call(tool, arguments).to_string().len();
        assert!(result < 8 * 1024, "{tool}: {result} bytes");
    }
}

#[test]
fn results_stay_small_whatever_others_call_their_interfaces() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hostile.jsonl");
    std::fs::write(&path, hostile_recording()).unwrap();
    let mut client =
        Client::with_handshake(support::program().arg("--source").arg(format!("replay:{}", path.display())));

    let result = client.call("network-monitor", json!({"operation": "both"}));
    assert_eq!(result["isError"], false, "{result}");
    assert!(result["structuredContent"]["rates"][0].get("by_protocol").is_some());
    let size = result.to_string().len();
    assert!(size < 20_000, "{size} bytes");

    let failure = client.failure("network-monitor", json!({"operation": "both", "interface": "eth9"}));
    assert!(failure.starts_with("no interface named \"eth9\"; there are: ") && failure.ends_with('…'));
    assert!(failure.len() < 5_000, "{} bytes", failure.len());
}

/// The demo recording with the longest names there can be, and a thousand interfaces more.
fn hostile_recording() -> String {
    let demo = std::fs::read_to_string(&DEMO["replay:".len()..]).unwrap();
    let mut lines = demo.lines();
    let mut hostile = format!("{}\n", lines.next().unwrap());
    for line in lines {
        let mut sample: Value = serde_json::from_str(line).unwrap();
        let Some(interfaces) = sample["interfaces"].as_array_mut() else { continue };
        for interface in interfaces.iter_mut() {
            interface["name"] = json!(interface["name"].as_str().unwrap().to_owned() + &"網".repeat(300));
        }
        let model = interfaces[0].clone();
        interfaces.extend((0..1_000).map(|index| {
            let mut more = model.clone();
            more["index"] = json!(100 + index);
            more["name"] = json!(format!("veth{index}"));
            more
        }));
        hostile.push_str(&format!("{sample}\n"));
    }
    hostile
}

#[test]
fn arguments_of_the_go_program_work() {
    let mut client = Client::with_handshake(&mut demo());
    let result = client.call("network-monitor", json!({"network_operation": "incoming"}));
    assert!(
        result["content"][0]["text"]
            .as_str()
            .unwrap()
            .starts_with("Incoming packets per second on eth0: 1000.00 ("),
        "{result}"
    );
    let rates =
        &client.answer("network-monitor", json!({"network_operation": "outgoing", "duration": 2}))["rates"];
    assert_eq!((&rates[0]["direction"], rates.as_array().unwrap().len()), (&json!("outgoing"), 1));
}

#[test]
fn mistakes_are_results_that_say_what_to_do() {
    let mut client = Client::with_handshake(&mut demo());
    let mut told = String::new();
    for (tool, arguments) in [
        ("network-monitor", json!({})),
        ("network-monitor", json!({"operation": "sideways"})),
        ("network-monitor", json!({"operation": 5})),
        ("network-monitor", json!({"operation": "incoming", "network_operation": "outgoing"})),
        ("network-monitor", json!({"operation": "incoming", "interface": "eth9"})),
        ("network-monitor", json!({"operation": "incoming", "interface": ""})),
        ("network-monitor", json!({"operation": "incoming", "interface": "\u{1b}[2J\u{202e}"})),
        ("network-monitor", json!({"operation": "incoming", "interface": ["eth0"]})),
        ("network-monitor", json!({"operation": "incoming", "duration": 0})),
        ("network-monitor", json!({"operation": "incoming", "duration": -1})),
        ("network-monitor", json!({"operation": "incoming", "duration": 61})),
        ("network-monitor", json!({"operation": "incoming", "duration": 1e300})),
        ("network-monitor", json!({"operation": "incoming", "duration": "abc"})),
        ("network-monitor", json!({"operation": "incoming", "seconds": 5})),
        ("capabilities", json!({"verbose": true})),
    ] {
        let failure = client.failure(tool, arguments.clone());
        told.push_str(&format!("{tool} {arguments}\n  {failure}\n"));
    }
    insta::assert_snapshot!("mistakes", told);
    client.finish();
}

#[test]
fn a_tool_that_does_not_exist_is_an_error_that_names_those_that_do() {
    let mut client = Client::with_handshake(&mut demo());
    let id = client.begin_call("network_monitor", json!({}));
    let error = client.response(id)["error"].take();
    assert_eq!(error["code"], -32602);
    assert_eq!(
        error["message"],
        "no tool is named \"network_monitor\"; there are: capabilities, network-monitor"
    );
}

#[test]
fn nothing_is_offered_that_the_protocol_has_given_up() {
    let mut client = Client::with_handshake(&mut demo());
    let id = client.request("logging/setLevel", json!({"level": "debug"}));
    assert_eq!(client.response(id)["error"]["code"], -32601);
    assert!(client.notifications.is_empty());
}

#[test]
fn what_is_no_message_does_not_end_the_server() {
    let mut client = Client::with_handshake(&mut demo());
    client.send(&json!("a string"));
    assert_eq!(client.next()["error"]["code"], -32600);
    client.send(&json!({"jsonrpc": "2.0", "id": 7, "method": "tools/destroy"}));
    assert_eq!(client.response(7)["error"]["code"], -32601);
    assert_eq!(client.answer("network-monitor", json!({"operation": "in"}))["rates"][0]["packets"], 5_000);
}

#[test]
fn progress_is_told_before_the_answer_also_when_that_takes_no_time() {
    let mut client = Client::with_handshake(&mut demo());
    client.result(
        "tools/call",
        json!({"name": "network-monitor", "arguments": {"operation": "in"}, "_meta": {"progressToken": 7}}),
    );
    let progress: Vec<_> = client.notifications.iter().map(|message| &message["params"]).collect();
    assert_eq!(progress.len(), 2, "{progress:?}");
    assert!(progress.iter().all(|progress| progress["progressToken"] == 7 && progress["total"] == 5.0));
    assert!(progress[0]["progress"].as_f64() < progress[1]["progress"].as_f64());
}

#[test]
fn without_a_token_nothing_is_told() {
    let mut client = Client::with_handshake(&mut demo());
    client.answer("network-monitor", json!({"operation": "in"}));
    assert!(client.notifications.is_empty());
}
