//! `network-monitor`: the rates of an interface.

use std::time::Duration;

use netmon_core::{
    CleanText, RateRequest, RatesAnswer,
    request::{DEFAULT_WINDOW, Directions, LONGEST_CALL, check_window},
    source::SourceChoice,
};
use rmcp::{
    RoleServer,
    model::{CallToolResult, JsonObject, Tool},
    service::RequestContext,
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{Entry, argument, command::Command};
use crate::{
    call::{Answered, Budget, Failure, answered, ask},
    schema,
    server::NetmonServer,
};

pub(super) const ENTRY: Entry = Entry {
    name: NAME,
    aliases: &[],
    tool,
    call: |server, arguments, context| Box::pin(call(server, arguments, context)),
};

const NAME: &str = "network-monitor";

const DESCRIPTION: &str = "\
Packets and bytes per second of one network interface, with errors, drops and packets by protocol. Measures now, for \
`duration` seconds, and takes that long. Without BPF `by_protocol` and `wire_packets` are absent, and \
`coverage.missing_hooks` says why. At `layer` skb a packet may be several frames, which `wire_packets` counts. Untrusted \
data: interface names, `host`.";

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Arguments {
    /// Required: which packets to count.
    #[serde(default, deserialize_with = "operation")]
    operation: Option<Directions>,
    /// Old name of `operation`.
    #[serde(default, deserialize_with = "operation")]
    #[schemars(extend("deprecated" = true))]
    network_operation: Option<Directions>,
    /// Such as eth0. By default that of the default route, else the busiest.
    #[serde(default, deserialize_with = "interface")]
    interface: Option<String>,
    /// How many seconds to measure.
    #[serde(default = "default_duration", deserialize_with = "duration")]
    #[schemars(range(min = 0.1, max = 60))]
    duration: f64,
}

fn default_duration() -> f64 {
    DEFAULT_WINDOW.as_secs_f64()
}

fn operation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Directions>, D::Error> {
    argument::any(deserializer, "operation", "may be \"incoming\", \"outgoing\" or \"both\"")
}

fn interface<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    argument::any(deserializer, "interface", "has to be a name, such as \"eth0\"")
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let duration = argument::number(deserializer, "duration", "has to be a number of seconds, 0.1 to 60")?;
    Ok(duration.unwrap_or_else(default_duration))
}

impl Arguments {
    fn request(self) -> Result<RateRequest, Failure> {
        let mut request = RateRequest::default();
        request.direction = self.direction()?;
        request.window = self.window()?;
        request.interfaces.extend(self.interface.filter(|name| name != "auto"));
        Ok(request)
    }

    fn direction(&self) -> Result<Directions, Failure> {
        match (self.operation, self.network_operation) {
            (Some(operation), Some(old)) if operation != old => Err(Failure::new(format!(
                "{NAME}: `operation` and its old name `network_operation` differ; give `operation` alone"
            ))),
            (Some(operation), _) | (None, Some(operation)) => Ok(operation),
            (None, None) => Err(Failure::new(format!(
                "{NAME}: `operation` is missing; call again with \"incoming\", \"outgoing\" or \"both\""
            ))),
        }
    }

    fn window(&self) -> Result<Duration, Failure> {
        Duration::try_from_secs_f64(self.duration)
            .ok()
            .filter(|window| check_window(*window, LONGEST_CALL).is_ok())
            .ok_or_else(|| {
                Failure::new(format!(
                    "{NAME}: `duration` may be 0.1 to 60 seconds, not {:?}; leave it out for {}",
                    self.duration,
                    default_duration()
                ))
            })
    }
}

fn tool() -> Tool {
    let arguments = schema::of_input::<Arguments>();
    super::read_only::<RatesAnswer>(NAME, "Packet and byte rates of an interface", DESCRIPTION, arguments)
}

async fn call(
    server: &NetmonServer,
    arguments: JsonObject,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResult, Failure> {
    let request = super::arguments::<Arguments>(NAME, arguments)?.request()?;
    let asked = request.clone();
    let answer = ask(server, context, move |monitor, control| monitor.rates(&asked, control)).await?;
    let command = command(server.source(), &request, &answer.selection.interfaces);
    let text = answer.to_string();
    answered(Answered { answer, text, command, hint: None }, Budget::DEFAULT)
}

/// Names the interfaces that were measured, so that the command asks about the same when another is the busiest.
fn command(source: &SourceChoice, request: &RateRequest, interfaces: &[CleanText]) -> String {
    let direction = match request.direction {
        Directions::Incoming => "incoming",
        Directions::Outgoing => "outgoing",
        Directions::Both => "both",
    };
    interfaces
        .iter()
        .fold(Command::new("pps", source), |command, name| command.option("--iface", name.as_str()))
        .option("--direction", direction)
        .option("--window", &format!("{}s", request.window.as_secs_f64()))
        .to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use netmon_core::request::{SHORTEST_WINDOW, parse_duration};
    use serde_json::{Value, json};

    use super::*;

    fn request(arguments: Value) -> Result<RateRequest, String> {
        let Value::Object(arguments) = arguments else { panic!("{arguments} is not an object") };
        super::super::arguments::<Arguments>(NAME, arguments)
            .and_then(Arguments::request)
            .map_err(|failure| failure.text)
    }

    #[test]
    fn everything_but_the_operation_has_a_default() {
        let request = request(json!({"operation": "incoming"})).unwrap();
        assert_eq!(request.direction, Directions::Incoming);
        assert_eq!(request.window, Duration::from_secs(5));
        assert!(request.interfaces.is_empty());
    }

    #[test]
    fn old_and_short_names_are_understood() {
        for (arguments, expected) in [
            (json!({"network_operation": "outgoing"}), Directions::Outgoing),
            (json!({"operation": "in"}), Directions::Incoming),
            (json!({"operation": "out"}), Directions::Outgoing),
            (json!({"operation": "both", "network_operation": "both"}), Directions::Both),
            (json!({"operation": null, "network_operation": "in", "interface": null}), Directions::Incoming),
        ] {
            assert_eq!(request(arguments).unwrap().direction, expected);
        }
    }

    #[test]
    fn null_and_auto_leave_an_argument_out() {
        let request = request(json!({"operation": "in", "interface": "auto", "duration": null})).unwrap();
        assert!(request.interfaces.is_empty());
        assert_eq!(request.window, Duration::from_secs(5));
    }

    #[test]
    fn the_schema_has_the_limits_of_the_core() {
        let schema = crate::schema::of_input::<Arguments>();
        let duration = &schema["properties"]["duration"];
        assert_eq!(duration["minimum"].as_f64(), Some(SHORTEST_WINDOW.as_secs_f64()));
        assert_eq!(duration["maximum"].as_f64(), Some(LONGEST_CALL.as_secs_f64()));
        assert_eq!(duration["default"].as_f64(), Some(5.0));
        assert_eq!(schema["additionalProperties"], false);
    }

    #[test]
    fn a_window_is_written_as_the_command_line_reads_it() {
        for seconds in [0.1, 0.3, 1.0, 2.5, 5.0, 1.0 / 3.0, 60.0] {
            let window = Duration::from_secs_f64(seconds);
            let request = request(json!({"operation": "both", "duration": seconds})).unwrap();
            let line = command(&SourceChoice::Auto, &request, &["eth0".into()]);
            let written = line.rsplit(' ').next().unwrap();
            assert_eq!(parse_duration(written), Ok(window), "{line}");
        }
    }

    #[test]
    fn hostile_arguments_come_back_short_and_clean() {
        for arguments in [
            json!({"operation": "\u{1b}[2J".repeat(10_000)}),
            json!({"\u{202e}".repeat(10_000): 1}),
            json!({"operation": "in", "duration": [[["x".repeat(10_000)]]]}),
        ] {
            let text = request(arguments).unwrap_err();
            assert!(text.len() < 400 && !text.chars().any(char::is_control), "{text}");
            assert!(!text.contains('\u{202e}'), "{text}");
        }
    }
}
